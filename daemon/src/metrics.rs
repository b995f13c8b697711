//! Figures of the last run for Prometheus, in a file that its node exporter's textfile collector reads.

use std::path::Path;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use stonekeep_engine::prove::ProveReport;
use stonekeep_format::prove::Verdict;
use stonekeep_process::metrics;

use crate::{
    failure::Failure,
    outcome::{Outcome, Taken},
};

/// Of which series a figure is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    database: String,
    repository: String,
}

type Figure = Family<Of, Gauge>;

/// What one run has to say.
pub(crate) struct Metrics {
    registry: Registry,
    success: Figure,
    skipped: Figure,
    committed: Figure,
    promised: Figure,
    suspicious: Figure,
    rows: Figure,
    plain: Figure,
    put: Figure,
    duration: Family<Of, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("stonekeep");
        let mut figure = |name: &str, help: &str, unit: Option<Unit>| {
            let figure = Figure::default();
            match unit {
                Some(unit) => registry.register_with_unit(name, help, unit, figure.clone()),
                None => registry.register(name, help, figure.clone()),
            }
            figure
        };
        let success = figure("backup_success", "Whether the last run made a snapshot", None);
        let skipped = figure(
            "backup_skipped",
            "Whether the last run was skipped because another one had the database",
            None,
        );
        let committed = figure(
            "snapshot_committed_timestamp",
            "When the snapshot was committed, by the storage server's clock",
            Some(Unit::Seconds),
        );
        let promised = figure(
            "snapshot_promised_until_timestamp",
            "Until when the snapshot is kept at least",
            Some(Unit::Seconds),
        );
        let suspicious =
            figure("snapshot_suspicious", "Whether the database shrank beyond its limit", None);
        let rows = figure("snapshot_rows", "Rows of all tables", None);
        let plain = figure("snapshot_plain", "The dump, before compression", Some(Unit::Bytes));
        let put = figure("snapshot_put", "What the run added to the bucket", Some(Unit::Bytes));
        let duration = Family::default();
        registry.register_with_unit(
            "backup_duration",
            "Wall time of the run",
            Unit::Seconds,
            duration.clone(),
        );
        Self {
            registry,
            success,
            skipped,
            committed,
            promised,
            suspicious,
            rows,
            plain,
            put,
            duration,
        }
    }

    /// Takes note of what became of a database in one repository, if it is about that.
    pub(crate) fn record(&self, repository: &str, outcome: &Outcome) {
        if !outcome.is_of(repository) {
            return;
        }
        let of = Of { database: outcome.label.to_string(), repository: repository.to_owned() };
        let is_skipped = matches!(outcome.result, Taken::Skipped(_));
        self.skipped.get_or_create(&of).set(i64::from(is_skipped));
        // What another run comes to is its own to say.
        if is_skipped {
            return;
        }
        let Taken::Snapshot(report) = &outcome.result else {
            self.success.get_or_create(&of).set(0);
            return;
        };
        self.success.get_or_create(&of).set(1);
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for (figure, value) in [
            (&self.committed, report.committed_at.timestamp()),
            (&self.promised, report.promised_until.timestamp()),
            (&self.suspicious, i64::from(report.suspicious.is_some())),
            (&self.rows, count(report.totals.rows)),
            (&self.plain, count(report.totals.plain_bytes)),
            (&self.put, count(report.totals.put_bytes)),
        ] {
            figure.get_or_create(&of).set(value);
        }
        let took = std::time::Duration::from_millis(report.duration_ms);
        self.duration.get_or_create(&of).set(took.as_secs_f64());
    }

    /// Writes the file; see [`write()`].
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        write(&self.registry, path)
    }
}

/// What the last attack on the own repositories came to, in a file of its own beside the other.
pub(crate) struct ProveMetrics {
    registry: Registry,
    last: Family<OfRepository, Gauge>,
    probes: Family<OfVerdict, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRepository {
    repository: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVerdict {
    repository: String,
    verdict: String,
}

impl ProveMetrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("stonekeep");
        let (last, probes) = (Family::default(), Family::default());
        let help = "When the repository was last attacked, by the storage server's clock";
        registry.register_with_unit("prove_timestamp", help, Unit::Seconds, Family::clone(&last));
        let help = "How many probes came to this; any that fail are an alarm";
        registry.register("prove_probes", help, Family::clone(&probes));
        Self { registry, last, probes }
    }

    pub(crate) fn record(&self, repository: &str, report: &ProveReport) {
        let repository = repository.to_owned();
        let of = OfRepository { repository: repository.clone() };
        self.last.get_or_create(&of).set(report.started_at.timestamp());
        use Verdict::{Fail, Inconclusive, Lacking, Pass, Skipped};
        for verdict in [Pass, Skipped, Lacking, Inconclusive, Fail] {
            let count = report.probes.iter().filter(|line| line.verdict == verdict).count();
            let of =
                OfVerdict { repository: repository.clone(), verdict: verdict.as_str().to_owned() };
            self.probes.get_or_create(&of).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Writes the file beside `path`, under its name with `-prove` before the extension.
    pub(crate) fn write_beside(&self, path: &Path) -> Result<(), Failure> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        write(&self.registry, &path.with_file_name(format!("{stem}-prove.{extension}")))
    }
}

/// Writes a file whole or not at all, readable by others than the daemon's user.
fn write(registry: &Registry, path: &Path) -> Result<(), Failure> {
    metrics::write(path, registry)
        .map_err(|source| Failure::Metrics { path: path.to_owned(), source })
}
