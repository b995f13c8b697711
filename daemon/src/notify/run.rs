//! What became of one database in one run, over all repositories.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use stonekeep_engine::backup::BackupReport;
use stonekeep_format::ids::{Label, SnapshotId};
use stonekeep_process::failure::FailureReport;

use crate::{
    failure::Failure,
    outcome::{Outcome, Taken},
};

/// One database's run.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) label: Label,
    pub(super) at: DateTime<Utc>,
    pub(super) next_run_at: Option<DateTime<Utc>>,
    pub(super) verdict: Verdict,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) failures: Vec<Failed>,
}

/// What a run comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A good snapshot in every repository.
    Good,
    /// A snapshot in every repository, and the database shrank.
    Suspicious,
    /// A repository has none.
    Failed,
    /// Nothing was tried, or it was stopped: neither well nor wrong.
    Idle,
}

/// A snapshot that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Snapshot {
    pub(super) repository: String,
    pub(super) snapshot: SnapshotId,
    pub(super) tier: String,
    pub(super) promised_until: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) suspicious: Option<String>,
}

/// One that was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Failed {
    /// `None`: in none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repository: Option<String>,
    pub(super) kind: &'static str,
    pub(super) message: String,
}

impl From<&BackupReport> for Snapshot {
    fn from(report: &BackupReport) -> Self {
        Self {
            repository: report.repository.clone(),
            snapshot: report.snapshot.clone(),
            tier: report.tier.clone(),
            promised_until: report.promised_until,
            suspicious: report.suspicious.clone(),
        }
    }
}

impl Failed {
    fn new(repository: Option<&String>, report: FailureReport) -> Self {
        Self { repository: repository.cloned(), kind: report.kind, message: report.message }
    }
}

impl Run {
    /// Returns the run of each database, in the order of their labels.
    pub(super) fn each(
        outcomes: &[Outcome],
        at: DateTime<Utc>,
        next_run_at: Option<DateTime<Utc>>,
    ) -> impl Iterator<Item = Self> {
        let mut of_labels: BTreeMap<&Label, Vec<&Outcome>> = BTreeMap::new();
        for outcome in outcomes {
            of_labels.entry(&outcome.label).or_default().push(outcome);
        }
        of_labels
            .into_iter()
            .map(move |(label, outcomes)| Self::new(label.clone(), &outcomes, at, next_run_at))
    }

    /// Returns the run of a database that could not even be begun.
    pub(super) fn failed(label: Label, failure: &Failure, at: DateTime<Utc>) -> Self {
        let failures = vec![Failed::new(None, failure.to_report())];
        let verdict = if failure.is_stop() { Verdict::Idle } else { Verdict::Failed };
        Self { label, at, next_run_at: None, verdict, snapshots: Vec::new(), failures }
    }

    /// Returns the run of an entry of which nothing is wrong.
    pub(super) fn good(label: Label, at: DateTime<Utc>) -> Self {
        let (snapshots, failures) = (Vec::new(), Vec::new());
        Self { label, at, next_run_at: None, verdict: Verdict::Good, snapshots, failures }
    }

    fn new(
        label: Label,
        outcomes: &[&Outcome],
        at: DateTime<Utc>,
        next_run_at: Option<DateTime<Utc>>,
    ) -> Self {
        let (mut snapshots, mut failures, mut idle) = (Vec::new(), Vec::new(), Vec::new());
        for Outcome { repository, result, .. } in outcomes {
            match result {
                Taken::Snapshot(report) => snapshots.push(Snapshot::from(&**report)),
                Taken::Failed(failure) if !failure.is_stop() => {
                    failures.push(Failed::new(repository.as_ref(), failure.to_report()));
                }
                Taken::Skipped(failure) | Taken::Failed(failure) => {
                    idle.push(Failed::new(repository.as_ref(), failure.to_report()));
                }
            }
        }
        let verdict = if !failures.is_empty() {
            Verdict::Failed
        } else if !idle.is_empty() || snapshots.is_empty() {
            Verdict::Idle
        } else if snapshots.iter().any(|snapshot| snapshot.suspicious.is_some()) {
            Verdict::Suspicious
        } else {
            Verdict::Good
        };
        failures.append(&mut idle);
        Self { label, at, next_run_at, verdict, snapshots, failures }
    }
}
