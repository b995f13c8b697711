//! Who is told of drills, and what: figures for Prometheus, a call when all passed, a message when something is wrong.
//!
//! A message goes to others, so it names databases and counts problems: which tables they are of is in the report alone, and an
//! error's text, which may name some, on the terminal.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Serialize;
use stonekeep_config::ReaderConfig;
use stonekeep_engine::{Context, watch::Status};
use stonekeep_format::{
    drill::{DrillReport, DrillVerdict},
    ids::{Label, RepositoryId, SnapshotId},
};

use super::{Drills, Outcome, figures};
use crate::{failure::Failure, notifiers::Notifiers, open::Session};

/// Databases that a message names (20), those that failed first: it is for a person to read.
const LINES_MAX: usize = 20;

/// Everybody who is told.
pub(super) struct Tellers {
    notifiers: Notifiers,
    /// Where figures go, with the name of the repository still to be put in.
    metrics_file: Option<PathBuf>,
}

impl Tellers {
    pub(super) fn load(
        session: &Session<'_>,
        config: &ReaderConfig,
        name: &str,
    ) -> Result<Self, Failure> {
        let drill = &config.drill;
        let (ping, webhook) =
            (drill.ping_url(session.environment)?, drill.webhook_url(session.environment)?);
        let notifiers = Notifiers::new(ping, webhook)?;
        Ok(Self { notifiers, metrics_file: drill.metrics_file(name) })
    }

    /// Tells of a run. Of one that was stopped on request nobody hears, unless a drill had failed: else it says nothing of the
    /// backups. What does not arrive is a warning, for the drills were made.
    pub(super) async fn tell(
        &self,
        name: &str,
        drills: &Result<Drills, Failure>,
        context: &Context,
    ) {
        let outcomes = drills.as_ref().map(|drills| &drills.outcomes[..]);
        let has_failed =
            outcomes.is_ok_and(|outcomes| outcomes.iter().any(Outcome::is_failed_drill));
        if context.cancel.is_cancelled() && !has_failed {
            return;
        }
        self.write_figures(name, outcomes, context);
        let message = Message::of(name, outcomes, context.clock.now());
        if let (Some(webhook), Some(message)) = (&self.notifiers.webhook, message)
            && let Err(error) = webhook.post(&message).await
        {
            Notifiers::untold(&error, context);
        }
        if outcomes.is_ok_and(have_passed) {
            self.notifiers.ping(context).await;
        }
    }

    fn write_figures(&self, name: &str, outcomes: Outcomes<'_>, context: &Context) {
        let Some(path) = &self.metrics_file else { return };
        let written = match outcomes {
            Ok(outcomes) => figures::write(path, name, outcomes),
            Err(_) => figures::write_none(path, name),
        };
        if let Err(error) = written {
            let path = path.display();
            context.warn(format!("the metrics file {path} cannot be written: {error}"));
        }
    }
}

/// What there is to tell: what became of each database, or why of none.
type Outcomes<'o> = Result<&'o [Outcome], &'o Failure>;

/// Whether there is nothing to say but that all is well.
fn have_passed(outcomes: &[Outcome]) -> bool {
    let has_passed = |outcome: &Outcome| match outcome {
        Outcome::Drilled(drilled) => !outcome.is_failed_drill() && drilled.unkept.is_none(),
        Outcome::Failed { .. } => false,
    };
    !outcomes.is_empty() && outcomes.iter().all(has_passed)
}

/// What is posted. Services that show a `text` show a line.
#[derive(Debug, Serialize)]
struct Message<'o> {
    text: String,
    status: Status,
    at: DateTime<Utc>,
    /// The repository's name in the configuration.
    name: &'o str,
    repository: Option<RepositoryId>,
    /// What is wrong, the worst first.
    drills: Vec<Line<'o>>,
    more_drills: u64,
}

impl<'o> Message<'o> {
    /// Returns what there is to say; nothing if nothing is wrong.
    fn of(name: &'o str, outcomes: Outcomes<'o>, at: DateTime<Utc>) -> Option<Self> {
        let mut lines: Vec<Line<'o>> = match outcomes {
            Ok(outcomes) => outcomes.iter().flat_map(Line::of).collect(),
            Err(failure) => vec![Line::unmade(None, failure.to_report().kind)],
        };
        lines.sort_by_key(|line| std::cmp::Reverse(line.status));
        let worst = lines.first()?;
        let status = worst.status;
        let mut text = format!("STONEKEEP {} - {}", status.as_str(), worst.what);
        if lines.len() > 1 {
            text = format!("{text} (and {} more)", lines.len() - 1);
        }
        let more_drills = lines.len().saturating_sub(LINES_MAX) as u64;
        lines.truncate(LINES_MAX);
        let repository = outcomes.ok().and_then(repository);
        Some(Self { text, status, at, name, repository, drills: lines, more_drills })
    }
}

fn repository(outcomes: &[Outcome]) -> Option<RepositoryId> {
    outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Drilled(drilled) => Some(drilled.report.repository),
        Outcome::Failed { .. } => None,
    })
}

/// What is wrong with the drill of one database.
#[derive(Debug, Serialize)]
struct Line<'o> {
    status: Status,
    what: String,
    label: Option<&'o Label>,
    #[serde(flatten)]
    drill: Option<Drill<'o>>,
}

/// Which drill, and its figures.
#[derive(Debug, Serialize)]
struct Drill<'o> {
    drill: &'o SnapshotId,
    snapshot: &'o SnapshotId,
    problems: u64,
    rto_ms: Option<u64>,
    rto_max_ms: Option<u64>,
}

impl<'o> Line<'o> {
    fn of(outcome: &'o Outcome) -> Vec<Self> {
        match outcome {
            Outcome::Failed { label, error } => vec![Self::unmade(Some(label), error.kind)],
            Outcome::Drilled(drilled) => {
                let (report, unkept) = (&drilled.report, drilled.unkept.as_ref());
                let unkept = unkept.map(|error| Self::unkept(&report.label, error.kind));
                Self::drilled(report).into_iter().chain(unkept).collect()
            }
        }
    }

    /// The drill is known where it was made, and may be missed where its report or its record was to be.
    fn unkept(label: &'o Label, kind: &str) -> Self {
        let what =
            format!("the report or the record of the drill of {label} was not kept ({kind})");
        Self { status: Status::Warning, what, label: Some(label), drill: None }
    }

    /// That there was none says nothing of the snapshot, and is no reason for alarm yet.
    fn unmade(label: Option<&'o Label>, kind: &str) -> Self {
        let of = label.map_or_else(String::new, |label| format!(" of {label}"));
        let what = format!("a drill{of} could not be made ({kind})");
        Self { status: Status::Warning, what, label, drill: None }
    }

    fn drilled(report: &'o DrillReport) -> Option<Self> {
        let (label, problems) = (&report.label, report.problem_count());
        let (status, what) = match (report.verdict, report.rto_ms, report.rto_max_ms) {
            (DrillVerdict::Fail, ..) => {
                let s = if problems == 1 { "" } else { "s" };
                let what = format!(
                    "the drill of {label} failed: {problems} problem{s}; see the report of {}",
                    report.id
                );
                (Status::Critical, what)
            }
            (DrillVerdict::Pass, Some(took), Some(max)) if report.is_slow() => {
                let (took, max) = (took.div_ceil(1000), max / 1000);
                let what = format!("{label} took {took} s to restore, and rto_max is {max} s");
                (Status::Warning, what)
            }
            _ => return None,
        };
        let drill = Drill {
            drill: &report.id,
            snapshot: &report.snapshot.id,
            problems,
            rto_ms: report.rto_ms,
            rto_max_ms: report.rto_max_ms,
        };
        Some(Self { status, what, label: Some(label), drill: Some(drill) })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fixture::*, *};

    fn now() -> DateTime<Utc> {
        "2026-11-21T12:00:00Z".parse().expect("a date")
    }

    #[test]
    fn of_drills_that_passed_in_time_nothing_is_said() {
        let outcomes = [drilled(|_| {})];
        assert!(Message::of("vault", Ok(&outcomes), now()).is_none());
        assert!(have_passed(&outcomes));
        assert!(!have_passed(&[]), "that nothing was drilled is nothing to call for");
    }

    #[test]
    fn the_worst_is_told_first_and_no_table_is_named() {
        let slow = drilled(|report| report.rto_max_ms = Some(1_000));
        let failing = drilled(|report| {
            report.verdict = DrillVerdict::Fail;
            report.problems = vec!["rows of public.secret_plans differ".to_owned()];
        });
        let outcomes = [unmade("cannot read public.secret_plans"), slow, failing];
        let message = Message::of("vault", Ok(&outcomes), now()).expect("something is wrong");
        assert_eq!(message.status, Status::Critical);
        assert!(message.text.contains("CRITICAL - the drill of bookings failed: 1 problem;"));
        assert!(message.text.ends_with("(and 2 more)"), "{}", message.text);
        let json = serde_json::to_string(&message).expect("JSON");
        assert!(!json.contains("secret_plans"), "{json}");
        assert!(json.contains("took 2 s to restore, and rto_max is 1 s"), "{json}");
        assert!(json.contains("could not be made (unavailable)"), "{json}");
        assert!(!have_passed(&outcomes));
    }

    #[test]
    fn that_a_report_was_not_kept_is_a_warning_and_no_reason_to_call() {
        let Outcome::Drilled(mut drilled) = drilled(|_| {}) else { return };
        drilled.unkept = Some(unavailable("cannot write /reports/public.secret_plans"));
        let outcomes = [Outcome::Drilled(drilled)];
        let message = Message::of("vault", Ok(&outcomes), now()).expect("something is wrong");
        assert_eq!(message.status, Status::Warning);
        assert!(message.text.contains("was not kept (unavailable)"), "{}", message.text);
        assert!(!message.text.contains("secret_plans"));
        assert!(!have_passed(&outcomes));
    }

    #[test]
    fn a_run_without_any_drill_is_a_warning() {
        let message =
            Message::of("vault", Err(&Failure::NoBucket), now()).expect("nothing was drilled");
        assert_eq!((message.status, message.drills.len()), (Status::Warning, 1));
    }

    #[test]
    fn of_very_many_some_are_named_and_the_rest_counted() {
        let outcomes: Vec<Outcome> = (0..50).map(|_| unmade("no")).collect();
        let message = Message::of("vault", Ok(&outcomes), now()).expect("much is wrong");
        assert_eq!((message.drills.len(), message.more_drills), (LINES_MAX, 30));
    }
}
