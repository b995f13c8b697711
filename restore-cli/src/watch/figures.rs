//! The figures of a look, for Prometheus.

use std::{collections::BTreeMap, io, path::Path};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use stonekeep_engine::watch::{AlarmKind, LabelLine, WatchReport};
use stonekeep_format::drill::DrillVerdict;
use stonekeep_process::metrics::{self, register};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRepository {
    repository: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDatabase {
    database: String,
    repository: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
    repository: String,
}

/// Writes them, of the repository of this name.
pub(super) fn write(path: &Path, name: &str, report: &WatchReport) -> io::Result<()> {
    metrics::write(path, &registry(name, report))
}

fn registry(name: &str, report: &WatchReport) -> Registry {
    let mut registry = Registry::with_prefix("stonekeep_watch");
    of_repository(&mut registry, name, report);
    of_databases(&mut registry, name, report);
    let alarms = Family::<OfKind, Gauge>::default();
    registry.register(
        "alarms",
        "What is wrong, by kind; a hundred of each at most",
        alarms.clone(),
    );
    let mut counts: BTreeMap<&str, u64> = AlarmKind::all().map(|kind| (kind.as_str(), 0)).collect();
    for alarm in &report.alarms {
        *counts.entry(alarm.kind.as_str()).or_default() += 1;
    }
    for (kind, count) in counts {
        alarms.get_or_create(&OfKind { kind, repository: name.to_owned() }).set(number(count));
    }
    registry
}

fn of_repository(registry: &mut Registry, name: &str, report: &WatchReport) {
    let of = OfRepository { repository: name.to_owned() };
    let last_day = report.bytes_by_day.first().copied().unwrap_or(0);
    let figures = [
        (
            "last_run_timestamp",
            "When the last complete look was, by the storage server's clock",
            Some(Unit::Seconds),
            report.at.timestamp(),
        ),
        ("status", "The judgement: 0 is well, 1 a warning, 2 critical", None, report.status as i64),
        ("objects", "Versions in the repository", None, number(report.objects)),
        ("stored", "What they take", Some(Unit::Bytes), number(report.bytes)),
        (
            "stored_last_day",
            "What was stored in the last 24 hours",
            Some(Unit::Bytes),
            number(last_day),
        ),
        ("locks_read", "Locks that were asked for", None, number(report.locks)),
    ];
    for (figure, help, unit, value) in figures {
        let family = Family::<OfRepository, Gauge>::default();
        family.get_or_create(&of).set(value);
        register(registry, (figure, help, unit), family);
    }
}

/// A figure of a database, which a database without a snapshot may lack.
type Figure = fn(&LabelLine) -> Option<i64>;

fn of_databases(registry: &mut Registry, name: &str, report: &WatchReport) {
    let figures: [(&str, &str, Option<Unit>, Figure); 9] = [
        (
            "newest_snapshot_timestamp",
            "When the run of the newest snapshot that counts began",
            Some(Unit::Seconds),
            |line| line.newest.as_ref().map(|newest| newest.begun_at.timestamp()),
        ),
        ("newest_snapshot_age", "How long ago that was", Some(Unit::Seconds), |line| {
            line.newest.as_ref().map(|newest| number(newest.age_secs))
        }),
        ("newest_snapshot_age_max", "How old it may be", Some(Unit::Seconds), |line| {
            Some(number(line.age_max_secs))
        }),
        ("promised_until_timestamp", "Until when it is promised", Some(Unit::Seconds), |line| {
            line.newest.as_ref().map(|newest| newest.promised_until.timestamp())
        }),
        ("put_last_day", "What snapshots of the last 24 hours added", Some(Unit::Bytes), |line| {
            Some(number(line.put_bytes_last_day))
        }),
        (
            "drill_timestamp",
            "When the last drill was over, as its record says",
            Some(Unit::Seconds),
            |line| line.drill.as_ref().map(|drill| drill.at.timestamp()),
        ),
        ("drill_age", "How long ago that was", Some(Unit::Seconds), |line| {
            line.drill.as_ref().map(|drill| number(drill.age_secs))
        }),
        ("drill_success", "Whether it passed", None, |line| {
            line.drill.as_ref().map(|drill| i64::from(drill.verdict == DrillVerdict::Pass))
        }),
        ("drill_restore_duration", "How long it took to restore", Some(Unit::Seconds), |line| {
            let took = line.drill.as_ref()?.rto_ms?;
            Some(number(took.div_ceil(1000)))
        }),
    ];
    for (figure, help, unit, value) in figures {
        let family = Family::<OfDatabase, Gauge>::default();
        for line in &report.labels {
            let of = OfDatabase { database: line.label.to_string(), repository: name.to_owned() };
            if let Some(value) = value(line) {
                family.get_or_create(&of).set(value);
            }
        }
        register(registry, (figure, help, unit), family);
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
