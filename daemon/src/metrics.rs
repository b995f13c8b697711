//! Figures of the last run for Prometheus, in a file that its node exporter's textfile collector reads.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use stonekeep_config::RepositoryConfig;
use stonekeep_engine::prove::ProveReport;
use stonekeep_format::{ids::Label, prove::Verdict};
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

impl Of {
    fn new(label: &Label, repository: &str) -> Self {
        Self { database: label.to_string(), repository: repository.to_owned() }
    }
}

type Figure = Family<Of, Gauge>;

/// What stands for the label in the name of `metrics_file`.
const LABEL: &str = "%l";

/// What one run has to say: in one file, or in one of each label, so that runs of others leave it alone.
pub(crate) struct Metrics {
    path: Option<PathBuf>,
    /// By the label; all in one, without, if the name of the file has no place for it.
    files: BTreeMap<Option<Label>, Figures>,
}

impl Metrics {
    /// Returns empty ones, which are to be written there.
    pub(crate) fn to(path: Option<&Path>) -> Self {
        Self { path: path.map(Path::to_owned), files: BTreeMap::new() }
    }

    /// Takes note of what became of a database in one repository, if it is about that.
    pub(crate) fn record(&mut self, repository: &str, outcome: &Outcome) {
        if outcome.is_of(repository) {
            self.figures(&outcome.label).record(repository, outcome);
        }
    }

    /// Takes note that nothing could be begun of this database.
    pub(crate) fn failed(&mut self, label: &Label, repositories: &[RepositoryConfig]) {
        for repository in repositories {
            self.figures(label).success.get_or_create(&Of::new(label, &repository.name)).set(0);
        }
    }

    fn figures(&mut self, label: &Label) -> &mut Figures {
        let is_own = self.path.as_deref().is_some_and(|path| name(path).contains(LABEL));
        self.files.entry(is_own.then(|| label.clone())).or_insert_with(Figures::new)
    }

    /// Writes all that is asked for; see [`write()`]. Of what nothing is known, a file of its own says nothing any more.
    pub(crate) fn write(&mut self, asked: &[Label]) -> Result<(), Failure> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        for label in asked {
            self.figures(label);
        }
        for (label, figures) in &self.files {
            let label = label.as_ref().map_or("", Label::as_str);
            write(&figures.registry, &path.with_file_name(name(&path).replace(LABEL, label)))?;
        }
        Ok(())
    }
}

fn name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

struct Figures {
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

impl Figures {
    fn new() -> Self {
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

    fn record(&self, repository: &str, outcome: &Outcome) {
        let of = Of::new(&outcome.label, repository);
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
}

/// What the last attack on the own repositories came to, in a file of its own beside the other.
pub(crate) struct ProveMetrics {
    registry: Registry,
    last: Family<OfRepository, Gauge>,
    probes: Family<OfVerdict, Gauge>,
}

/// Of which repository a figure is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfRepository {
    pub(crate) repository: String,
}

/// Of which verdict on which repository a figure is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfVerdict {
    pub(crate) repository: String,
    pub(crate) verdict: &'static str,
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
            let of = OfVerdict { repository: repository.clone(), verdict: verdict.as_str() };
            self.probes.get_or_create(&of).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Writes the file beside `path`, under its name with `-prove` before the extension. It is of no label.
    pub(crate) fn write_beside(&self, path: &Path) -> Result<(), Failure> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().replace(LABEL, "");
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        write(&self.registry, &path.with_file_name(format!("{stem}-prove.{extension}")))
    }
}

/// Writes a file whole or not at all, readable by others than the daemon's user.
fn write(registry: &Registry, path: &Path) -> Result<(), Failure> {
    metrics::write(path, registry)
        .map_err(|source| Failure::Metrics { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Vec<Label> {
        names.iter().map(|name| name.parse().expect("a label")).collect()
    }

    fn failed(label: &Label) -> Outcome {
        let label = label.clone();
        Outcome::failed(label.clone(), Failure::Stopped { label })
    }

    fn written(path: &Path) -> Vec<(String, String)> {
        let files = std::fs::read_dir(path).expect("there").map(|file| file.expect("read"));
        let read = |path: PathBuf| std::fs::read_to_string(path).expect("text");
        let mut files: Vec<_> = files
            .map(|file| (file.file_name().to_string_lossy().into_owned(), read(file.path())))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn one_labels_run_leaves_the_files_of_others_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("stonekeep-%l.prom");
        for label in labels(&["bookings", "shop"]) {
            let mut metrics = Metrics::to(Some(&path));
            metrics.record("vault", &failed(&label));
            metrics.write(&[label]).expect("written");
        }
        ProveMetrics::new().write_beside(&path).expect("written");
        let files = written(dir.path());
        let names: Vec<_> = files.iter().map(|(name, _)| &**name).collect();
        let expected = ["stonekeep--prove.prom", "stonekeep-bookings.prom", "stonekeep-shop.prom"];
        assert_eq!(names, expected);
        assert!(files[1].1.contains("database=\"bookings\""), "{}", files[1].1);
        assert!(!files[1].1.contains("shop") && files[2].1.contains("database=\"shop\""));
        // A server whose databases could not be listed, and then were.
        let mut metrics = Metrics::to(Some(&path));
        metrics.record("vault", &failed(&labels(&["shop-a"])[0]));
        metrics.write(&labels(&["shop"])).expect("written");
        assert!(!written(dir.path())[3].1.contains("database="));
        assert!(written(dir.path())[2].1.contains("database=\"shop-a\""));
    }

    #[test]
    fn a_name_without_a_place_for_the_label_is_of_one_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut metrics = Metrics::to(Some(&dir.path().join("stonekeep.prom")));
        let asked = labels(&["bookings", "shop"]);
        metrics.record("vault", &failed(&asked[0]));
        metrics.write(&asked).expect("written");
        let files = written(dir.path());
        assert_eq!(files.len(), 1);
        assert!(files[0].1.contains("database=\"bookings\""), "{files:?}");
    }
}
