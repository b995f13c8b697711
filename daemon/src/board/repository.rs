//! What is known of one repository: what its bucket says, and when it was last attacked.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use stonekeep_engine::{
    drill::{DrillRecords, LabelDrills},
    list::ListReport,
};
use stonekeep_format::{
    ErrorKind,
    drill::DrillVerdict,
    ids::Label,
    prove::{ProveRecord, Verdict},
};

use super::database::{Refusal, Snap};

/// What a look at a bucket came to.
#[derive(Debug)]
pub(crate) enum Look {
    /// This is what it says.
    Seen(Seen),
    /// The writer may not read it.
    Denied,
    /// It could not be read.
    Failed { kind: ErrorKind, message: String },
}

/// What a bucket says.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// When the look began, by this host's clock.
    pub(crate) begun_at: DateTime<Utc>,
    /// The snapshots of each label.
    pub(crate) snapshots: BTreeMap<Label, Vec<Snap>>,
    /// How many snapshots there are.
    pub(crate) count: usize,
    /// What is wrong, by the kind's name, and how often.
    pub(crate) findings: BTreeMap<&'static str, u64>,
    /// Findings that are not told one by one.
    pub(crate) more_findings: u64,
    /// The newest record of `prove` that came to a verdict.
    pub(crate) proof: Option<Proof>,
    /// Whether a later one could not tell.
    pub(crate) is_unsure: bool,
    /// When a drill last passed.
    pub(crate) drilled_at: Option<DateTime<Utc>>,
    /// Databases of which the last drill failed.
    pub(crate) drills_failed: u64,
    /// Labels that no configuration names.
    pub(crate) others: usize,
}

impl Seen {
    /// Returns what a list says, of a look that began at this time.
    pub(crate) fn of(report: &ListReport, begun_at: DateTime<Utc>) -> Self {
        let mut seen = Self { begun_at, ..Self::default() };
        for line in &report.snapshots {
            seen.snapshots.entry(line.label.clone()).or_default().push(Snap::from(line));
            seen.count += 1;
        }
        for finding in &report.findings {
            *seen.findings.entry(finding.kind.as_str()).or_default() += 1;
        }
        Self { more_findings: report.more_findings, ..seen }
    }

    /// Takes in what the records of drills say.
    pub(crate) fn take_drills(&mut self, drills: &DrillRecords) {
        let passed = drills.labels.values().filter_map(LabelDrills::last_passed);
        self.drilled_at = passed.map(|record| record.written_at).max();
        let last = drills.labels.values().filter_map(LabelDrills::last);
        let failed = last.filter(|record| record.verdict == DrillVerdict::Fail);
        self.drills_failed = failed.count() as u64;
    }
}

/// What an attack on a repository by its own writer came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) at: DateTime<Utc>,
    pub(crate) verdict: Verdict,
    /// How many probes came to each verdict.
    pub(crate) probes: BTreeMap<Verdict, u64>,
}

impl From<&ProveRecord> for Proof {
    fn from(record: &ProveRecord) -> Self {
        let mut probes = BTreeMap::new();
        for probe in &record.probes {
            *probes.entry(probe.verdict).or_default() += 1;
        }
        Self { at: record.written_at, verdict: record.verdict, probes }
    }
}

/// A repository.
#[derive(Debug)]
pub(super) struct Repository {
    pub(super) name: String,
    /// When it was last looked at, or tried.
    pub(super) tried_at: Option<DateTime<Utc>>,
    /// What the last look that came to something saw, and when.
    pub(super) seen: Option<(DateTime<Utc>, Seen)>,
    /// Whether the writer may not read it.
    pub(super) is_denied: bool,
    /// Why the last look came to nothing.
    pub(super) refusal: Option<Refusal>,
}

impl Repository {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), tried_at: None, seen: None, is_denied: false, refusal: None }
    }

    pub(super) const fn is_tried(&self) -> bool {
        self.tried_at.is_some()
    }

    pub(super) fn look(&mut self, now: DateTime<Utc>, look: Look) {
        self.tried_at = Some(now);
        self.is_denied = matches!(look, Look::Denied);
        self.refusal = None;
        match look {
            Look::Seen(seen) => self.seen = Some((now, seen)),
            Look::Denied => {}
            Look::Failed { kind, message } => {
                self.refusal = Some(Refusal { at: now, kind, message });
            }
        }
    }
}
