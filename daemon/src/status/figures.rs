//! `/metrics`: the figures of the board, for Prometheus. What `metrics_file` has, too, has the same name here.

use std::{collections::BTreeMap, fmt, sync::atomic::AtomicU64, time::Duration};

use chrono::{DateTime, Utc};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};
use stonekeep_format::prove::Verdict;
use stonekeep_process::metrics::register;

use super::words;
use crate::{
    board::view::{CopyView, DatabaseView, Last, RepositoryView, SeenView, Snap, Standing, View},
    metrics::{OfRepository, OfVerdict},
};

/// Of which series a figure is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfCopy {
    database: String,
    repository: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDatabase {
    database: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfStanding {
    database: String,
    standing: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFinding {
    repository: String,
    kind: &'static str,
}

type Fractional = Gauge<f64, AtomicU64>;

/// Returns the figures as text.
///
/// # Errors
/// None that is known: the text is in memory.
pub(super) fn text(view: &View) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("stonekeep");
    of_process(&mut registry, view);
    of_databases(&mut registry, view);
    of_runs(&mut registry, view);
    of_snapshots(&mut registry, view);
    of_repositories(&mut registry, view);
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

fn of_process(registry: &mut Registry, view: &View) {
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "What is running", build);
    let started = Gauge::<i64>::default();
    started.set(view.started_at.timestamp());
    registry.register_with_unit(
        "started_timestamp",
        "When the service was started",
        Unit::Seconds,
        started,
    );
}

/// A figure that a database may lack.
type DatabaseFigure = fn(&DatabaseView) -> Option<i64>;

fn of_databases(registry: &mut Registry, view: &View) {
    let figures: [(&str, &str, Option<Unit>, DatabaseFigure); 3] = [
        ("running", "Whether a run is at work", None, |it| Some(i64::from(it.running.is_some()))),
        (
            "next_run_timestamp",
            "When the next run is due; absent: nothing is scheduled",
            Some(Unit::Seconds),
            |it| it.next_at.map(timestamp),
        ),
        (
            "snapshot_age_max",
            "How old the newest good snapshot may be: twice the longest gap in the schedule; absent: there is no schedule",
            Some(Unit::Seconds),
            |it| it.age_max.map(secs),
        ),
    ];
    for (name, help, unit, value) in figures {
        let family = Family::<OfDatabase, Gauge>::default();
        for database in &view.databases {
            if let Some(value) = value(database) {
                family.get_or_create(&of_database(database)).set(value);
            }
        }
        register(registry, (name, help, unit), family);
    }
    let family = Family::<OfStanding, Gauge>::default();
    for database in &view.databases {
        for standing in Standing::ALL {
            let of = OfStanding { database: database.name.clone(), standing: standing.as_str() };
            family.get_or_create(&of).set(i64::from(database.standing == standing));
        }
    }
    registry.register("database_standing", "1 for how the database stands, 0 for the rest", family);
}

/// How often something happened to a database.
type Count = fn(&DatabaseView) -> u64;

fn of_runs(registry: &mut Registry, view: &View) {
    let counters: [(&str, &str, Count); 4] = [
        ("snapshots", "Snapshots taken since the service was started", |it| it.counts.snapshots),
        ("failures", "Runs, or repositories of a run, without a snapshot", |it| it.counts.failures),
        ("skipped", "Runs left to another one that was at work", |it| it.counts.skipped),
        ("retries", "Calls that failed and were made again", |it| it.counts.retries),
    ];
    for (name, help, value) in counters {
        let family = Family::<OfDatabase, Counter>::default();
        for database in &view.databases {
            family.get_or_create(&of_database(database)).inc_by(value(database));
        }
        registry.register(name, help, family);
    }
    let (success, skipped) =
        (Family::<OfCopy, Gauge>::default(), Family::<OfCopy, Gauge>::default());
    let duration = Family::<OfCopy, Fractional>::default();
    for (of, copy) in copies(view) {
        let Some(last) = copy.last else { continue };
        skipped.get_or_create(&of).set(i64::from(last == Last::Skipped));
        if last != Last::Skipped {
            success.get_or_create(&of).set(i64::from(last != Last::Failed));
        }
        if let Last::Snapshot { took } = last {
            duration.get_or_create(&of).set(took.as_secs_f64());
        }
    }
    registry.register("backup_success", "Whether the last run made a snapshot", success);
    let help = "Whether the last run was skipped because another one had the database";
    registry.register("backup_skipped", help, skipped);
    let help = "Wall time of the run";
    registry.register_with_unit("backup_duration", help, Unit::Seconds, duration);
}

/// A figure of a snapshot.
type SnapshotFigure = fn(&Snap) -> i64;

fn of_snapshots(registry: &mut Registry, view: &View) {
    let figures: [(&str, &str, Option<Unit>, SnapshotFigure); 6] = [
        (
            "snapshot_committed_timestamp",
            "When the snapshot was committed, by the storage server's clock",
            Some(Unit::Seconds),
            |snap| timestamp(snap.committed_at),
        ),
        (
            "snapshot_promised_until_timestamp",
            "Until when the snapshot is kept at least",
            Some(Unit::Seconds),
            |snap| timestamp(snap.promised_until),
        ),
        ("snapshot_suspicious", "Whether the database shrank beyond its limit", None, |snap| {
            i64::from(snap.suspicious.is_some())
        }),
        ("snapshot_rows", "Rows of all tables", None, |snap| number(snap.rows)),
        ("snapshot_plain", "The dump, before compression", Some(Unit::Bytes), |snap| {
            number(snap.plain_bytes)
        }),
        ("snapshot_put", "What the run added to the bucket", Some(Unit::Bytes), |snap| {
            number(snap.put_bytes)
        }),
    ];
    for (name, help, unit, value) in figures {
        let family = Family::<OfCopy, Gauge>::default();
        for (of, copy) in copies(view) {
            if let Some(newest) = copy.newest() {
                family.get_or_create(&of).set(value(newest));
            }
        }
        register(registry, (name, help, unit), family);
    }
    let (age, kept) = (Family::<OfCopy, Gauge>::default(), Family::<OfCopy, Gauge>::default());
    for (of, copy) in copies(view) {
        kept.get_or_create(&of).set(number(copy.more).saturating_add(length(copy.snapshots.len())));
        if let Some(good) = &copy.good {
            age.get_or_create(&of).set(secs(words::between(good.begun_at(), view.at)));
        }
    }
    let help = "How long ago the run of the newest snapshot that is not suspicious began";
    registry.register_with_unit("snapshot_age", help, Unit::Seconds, age);
    registry.register("snapshots_known", "Snapshots that the bucket holds", kept);
}

/// A figure of a repository that it may lack.
type RepositoryFigure = fn(&RepositoryView) -> Option<i64>;

fn of_repositories(registry: &mut Registry, view: &View) {
    let figures: [(&str, &str, Option<Unit>, RepositoryFigure); 5] = [
        (
            "repository_readable",
            "Whether the last look at the bucket came to something; absent: this credential may not read it",
            None,
            |it| {
                it.tried_at?;
                // That a writer may not read is a choice, and no fault.
                (!it.is_denied).then(|| i64::from(it.refusal.is_none()))
            },
        ),
        (
            "repository_looked_timestamp",
            "When the bucket was last read",
            Some(Unit::Seconds),
            |it| it.seen.as_ref().map(|seen| timestamp(seen.at)),
        ),
        (
            "prove_timestamp",
            "When the repository was last attacked, by the storage server's clock",
            Some(Unit::Seconds),
            |it| it.seen.as_ref()?.proof.as_ref().map(|proof| timestamp(proof.at)),
        ),
        (
            "drill_timestamp",
            "When a snapshot was last restored to see that it can be, and was what it should",
            Some(Unit::Seconds),
            |it| it.seen.as_ref()?.drilled_at.map(timestamp),
        ),
        (
            "drills_failed",
            "Databases of which the last drill failed; any is an alarm",
            None,
            |it| it.seen.as_ref().map(|seen| number(seen.drills_failed)),
        ),
    ];
    for (name, help, unit, value) in figures {
        let family = Family::<OfRepository, Gauge>::default();
        for repository in &view.repositories {
            let of = OfRepository { repository: repository.name.clone() };
            if let Some(value) = value(repository) {
                family.get_or_create(&of).set(value);
            }
        }
        register(registry, (name, help, unit), family);
    }
    let (probes, findings) =
        (Family::<OfVerdict, Gauge>::default(), Family::<OfFinding, Gauge>::default());
    for repository in &view.repositories {
        if let Some(seen) = &repository.seen {
            of_seen(&repository.name, seen, &probes, &findings);
        }
    }
    let help = "How many probes came to this; any that fail are an alarm";
    registry.register("prove_probes", help, probes);
    let help = "What is wrong with the repository, by kind";
    registry.register("repository_findings", help, findings);
}

fn of_seen(
    name: &str,
    seen: &SeenView,
    probes: &Family<OfVerdict, Gauge>,
    findings: &Family<OfFinding, Gauge>,
) {
    let repository = || name.to_owned();
    if let Some(proof) = &seen.proof {
        use Verdict::{Fail, Inconclusive, Lacking, Pass, Skipped};
        for verdict in [Pass, Skipped, Lacking, Inconclusive, Fail] {
            let of = OfVerdict { repository: repository(), verdict: verdict.as_str() };
            let count = proof.probes.get(&verdict).copied().unwrap_or(0);
            probes.get_or_create(&of).set(number(count));
        }
    }
    let mut counts: BTreeMap<&'static str, u64> =
        stonekeep_engine::finding::FindingKind::ALL.map(|kind| (kind.as_str(), 0)).into();
    counts.extend(seen.findings.iter().copied());
    for (kind, count) in counts {
        let of = OfFinding { repository: repository(), kind };
        findings.get_or_create(&of).set(number(count));
    }
}

fn copies(view: &View) -> impl Iterator<Item = (OfCopy, &CopyView)> {
    view.databases.iter().flat_map(|database| {
        let of = |copy: &CopyView| OfCopy {
            database: database.name.clone(),
            repository: copy.repository.clone(),
        };
        database.copies.iter().map(move |copy| (of(copy), copy))
    })
}

fn of_database(database: &DatabaseView) -> OfDatabase {
    OfDatabase { database: database.name.clone() }
}

const fn timestamp(at: DateTime<Utc>) -> i64 {
    at.timestamp()
}

fn secs(time: Duration) -> i64 {
    number(time.as_secs())
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::fixture::{HOSTILE, NAMES, busy};

    fn figures(show_names: bool) -> String {
        text(&busy().view(show_names)).expect("text")
    }

    #[test]
    fn figures_are_those_of_the_board() {
        let figures = figures(false);
        for line in [
            "stonekeep_database_standing{database=\"database 3\",standing=\"late\"} 1\n",
            "stonekeep_database_standing{database=\"database 3\",standing=\"good\"} 0\n",
            "stonekeep_snapshot_age_seconds{database=\"database 1\",repository=\"repository 1\"} 2700\n",
            "stonekeep_snapshot_age_max_seconds{database=\"database 1\"} 7200\n",
            "stonekeep_snapshot_suspicious{database=\"database 2\",repository=\"repository 1\"} 1\n",
            "stonekeep_running{database=\"database 1\"} 1\n",
            "stonekeep_retries_total{database=\"database 1\"} 1\n",
            "stonekeep_backup_skipped{database=\"database 3\",repository=\"repository 1\"} 1\n",
            "stonekeep_skipped_total{database=\"database 3\"} 1\n",
            "stonekeep_failures_total{database=\"database 4.2\"} 1\n",
            "stonekeep_backup_success{database=\"database 4.2\",repository=\"repository 2\"} 0\n",
            "stonekeep_prove_probes{repository=\"repository 2\",verdict=\"fail\"} 1\n",
            "stonekeep_repository_findings{repository=\"repository 2\",kind=\"gap\"} 2\n",
            "stonekeep_repository_findings{repository=\"repository 1\",kind=\"gap\"} 0\n",
            "stonekeep_repository_readable{repository=\"repository 2\"} 0\n",
            "stonekeep_build_info{version=",
        ] {
            assert!(figures.contains(line), "{line:?} is not in {figures}");
        }
        assert!(!figures.contains("next_run_timestamp_seconds{database=\"database 5\""));
        assert!(figures.ends_with("# EOF\n"));
    }

    #[test]
    fn figures_name_nothing_without_leave_and_escape_what_they_name() {
        let hidden = figures(false);
        assert!(NAMES.iter().all(|name| !hidden.contains(name)), "{hidden}");
        assert!(figures(true).contains(&format!("repository=\"{HOSTILE}\"")));
    }
}
