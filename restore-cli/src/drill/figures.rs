//! The figures of a run of drills, for Prometheus.

use std::{collections::BTreeMap, io, path::Path, sync::atomic::AtomicU64};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use stonekeep_format::drill::{DrillReport, DrillVerdict};
use stonekeep_process::metrics::{self, register};

use super::Outcome;

/// What the name of every figure begins with.
const PREFIX: &str = "stonekeep_drill";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDatabase {
    database: String,
    repository: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    database: String,
    phase: String,
    repository: String,
}

/// A figure with a fraction.
type Measure = Gauge<f64, AtomicU64>;

/// Writes them, of the repository of this name.
pub(super) fn write(path: &Path, repository: &str, outcomes: &[Outcome]) -> io::Result<()> {
    metrics::write(path, &registry(repository, outcomes))
}

/// Writes that no drill was made at all, of whichever database.
pub(super) fn write_none(path: &Path, repository: &str) -> io::Result<()> {
    let mut registry = Registry::with_prefix(PREFIX);
    // A label without a value is one that is not there.
    let made = [(String::new(), false)];
    of_made(&mut registry, repository, made.into_iter());
    metrics::write(path, &registry)
}

fn of_made(registry: &mut Registry, repository: &str, all: impl Iterator<Item = (String, bool)>) {
    let made = Family::<OfDatabase, Gauge>::default();
    for (database, is_made) in all {
        let of = OfDatabase { database, repository: repository.to_owned() };
        made.get_or_create(&of).set(i64::from(is_made));
    }
    registry.register("made", "Whether the last run made a drill, whatever it came to", made);
}

fn registry(repository: &str, outcomes: &[Outcome]) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    let made = outcomes.iter().map(|outcome| match outcome {
        Outcome::Drilled(drilled) => (drilled.report.label.to_string(), true),
        Outcome::Failed { label, .. } => (label.to_string(), false),
    });
    of_made(&mut registry, repository, made);
    let reports: Vec<&DrillReport> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Drilled(drilled) => Some(&drilled.report),
            Outcome::Failed { .. } => None,
        })
        .collect();
    of_databases(&mut registry, repository, &reports);
    of_phases(&mut registry, repository, &reports);
    registry
}

/// A figure of a drill, which it may lack.
type Figure = fn(&DrillReport) -> Option<f64>;

fn of_databases(registry: &mut Registry, repository: &str, reports: &[&DrillReport]) {
    let figures: [(&str, &str, Option<Unit>, Figure); 7] = [
        (
            "run_timestamp",
            "When the last drill was over, by the storage server's clock",
            Some(Unit::Seconds),
            |report| Some(report.written_at.timestamp() as f64),
        ),
        ("success", "Whether it passed", None, |report| {
            Some(if report.verdict == DrillVerdict::Pass { 1.0 } else { 0.0 })
        }),
        ("problems", "What it found wrong", None, |report| Some(report.problem_count() as f64)),
        ("restore_duration", "How long it took to restore", Some(Unit::Seconds), |report| {
            report.rto_ms.map(secs)
        }),
        ("restore_duration_max", "How long that may take", Some(Unit::Seconds), |report| {
            report.rto_max_ms.map(secs)
        }),
        (
            "recovery_point_age",
            "How old the content of the newest snapshot was when it began",
            Some(Unit::Seconds),
            |report| Some(secs(report.rpo.newest_age_ms)),
        ),
        ("plain", "What was restored, before compression", Some(Unit::Bytes), |report| {
            Some(report.snapshot.plain_bytes as f64)
        }),
    ];
    for (figure, help, unit, value) in figures {
        let family = Family::<OfDatabase, Measure>::default();
        for report in reports {
            let (database, repository) = (report.label.to_string(), repository.to_owned());
            if let Some(value) = value(report) {
                family.get_or_create(&OfDatabase { database, repository }).set(value);
            }
        }
        register(registry, (figure, help, unit), family);
    }
}

/// A phase that came more than once counts whole.
fn of_phases(registry: &mut Registry, repository: &str, reports: &[&DrillReport]) {
    let family = Family::<OfPhase, Measure>::default();
    for report in reports {
        let mut phases: BTreeMap<&str, u64> = BTreeMap::new();
        for phase in &report.phases {
            let sum = phases.entry(&phase.name).or_default();
            *sum = sum.saturating_add(phase.duration_ms);
        }
        for (phase, duration_ms) in phases {
            let of = OfPhase {
                database: report.label.to_string(),
                phase: phase.to_owned(),
                repository: repository.to_owned(),
            };
            family.get_or_create(&of).set(secs(duration_ms));
        }
    }
    let help = "How long each phase of the last drill took";
    register(registry, ("phase_duration", help, Some(Unit::Seconds)), family);
}

fn secs(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};

    #[test]
    fn figures_tell_of_what_was_drilled_and_of_what_could_not_be() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("drill.prom");
        let drilled = drilled(|report| {
            report.rto_max_ms = Some(1_000);
            report.problems = vec!["rows of public.secret_plans differ".to_owned()];
            report.verdict = DrillVerdict::Fail;
        });
        write(&path, "vault", &[drilled]).expect("written");
        let text = std::fs::read_to_string(&path).expect("figures");
        let of = "{database=\"bookings\",repository=\"vault\"}";
        for line in [
            format!("stonekeep_drill_made{of} 1"),
            format!("stonekeep_drill_success{of} 0.0"),
            format!("stonekeep_drill_problems{of} 1.0"),
            format!("stonekeep_drill_restore_duration_seconds{of} 1.5"),
            format!("stonekeep_drill_restore_duration_max_seconds{of} 1.0"),
            format!("stonekeep_drill_recovery_point_age_seconds{of} 60.0"),
            "phase=\"loading\",repository=\"vault\"} 1.25".to_owned(),
        ] {
            assert!(text.contains(&line), "{line:?} is not in {text}");
        }
        assert!(!text.contains("secret_plans"));
        write(&path, "vault", &[unmade("no")]).expect("written");
        let text = std::fs::read_to_string(&path).expect("figures");
        assert!(text.contains(&format!("stonekeep_drill_made{of} 0")), "{text}");
        assert!(!text.contains("restore_duration_seconds{"), "what was not made has no figures");
    }

    #[test]
    fn that_no_drill_could_be_made_is_a_figure_of_the_repository() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("drill.prom");
        write_none(&path, "vault").expect("written");
        let text = std::fs::read_to_string(&path).expect("figures");
        let line = "stonekeep_drill_made{database=\"\",repository=\"vault\"} 0";
        assert!(text.contains(line), "{text}");
    }
}
