//! What is known of one database: its run, what became of the last one, its snapshots.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use stonekeep_engine::{
    backup::BackupReport,
    events::{Event, Phase},
    list::SnapshotLine,
};
use stonekeep_format::{ErrorKind, ids::SnapshotId};
use stonekeep_process::lines::Tally;
use ulid::Ulid;

use crate::{
    failure::Failure,
    outcome::{Outcome, Taken},
};

/// Snapshots of one database in one repository that are remembered (250), the newest: what hourly ones for a week, daily ones for
/// five and monthly ones for two years come to (227).
pub(crate) const SNAPSHOTS_MAX: usize = 250;
/// The longest message of a failure that is remembered, in characters (600): a screenful.
const MESSAGE_CHARS_MAX: usize = 600;

/// A snapshot, as far as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snap {
    /// Its id, in 16 bytes: there are many of them.
    pub(crate) id: Ulid,
    pub(crate) committed_at: DateTime<Utc>,
    pub(crate) promised_until: DateTime<Utc>,
    pub(crate) rows: u64,
    pub(crate) plain_bytes: u64,
    pub(crate) put_bytes: u64,
    /// Why it is, if it is. Names nothing.
    pub(crate) suspicious: Option<Arc<str>>,
}

impl Snap {
    /// Returns when its run began, by the storage server's clock: what its age is counted from.
    pub(crate) fn begun_at(&self) -> DateTime<Utc> {
        let millis = i64::try_from(self.id.timestamp_ms()).unwrap_or(i64::MAX);
        DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// A snapshot's id is one: nothing else is parsed as such.
fn ulid(id: &SnapshotId) -> Ulid {
    Ulid::from_string(id.as_str()).unwrap_or_default()
}

impl From<&BackupReport> for Snap {
    fn from(report: &BackupReport) -> Self {
        Self {
            id: ulid(&report.snapshot),
            committed_at: report.committed_at,
            promised_until: report.promised_until,
            rows: report.totals.rows,
            plain_bytes: report.totals.plain_bytes,
            put_bytes: report.totals.put_bytes,
            suspicious: report.suspicious.as_deref().map(Arc::from),
        }
    }
}

impl From<&SnapshotLine> for Snap {
    fn from(line: &SnapshotLine) -> Self {
        Self {
            id: ulid(&line.id),
            committed_at: line.committed_at,
            promised_until: line.promised_until,
            rows: line.rows,
            plain_bytes: line.plain_bytes,
            put_bytes: line.put_bytes,
            suspicious: line.suspicious.as_deref().map(Arc::from),
        }
    }
}

/// The snapshots of a database in one repository.
#[derive(Debug, Default)]
pub(super) struct History {
    /// What the bucket says, oldest first.
    seen: Vec<Snap>,
    /// What this process has taken since, and when, oldest first.
    own: Vec<(DateTime<Utc>, Snap)>,
    /// Whether the bucket has said anything.
    pub(super) is_seen: bool,
    /// How many more the bucket holds.
    pub(super) more: u64,
}

impl History {
    /// Lets go of what was known before a look that began at this time.
    pub(super) fn forget(&mut self, look_begun_at: DateTime<Utc>) {
        self.own.retain(|(at, _)| *at >= look_begun_at);
        (self.seen, self.is_seen, self.more) = (Vec::new(), true, 0);
    }

    /// Takes what the bucket says.
    pub(super) fn fill(&mut self, mut snapshots: Vec<Snap>) {
        snapshots.sort_by_key(|snap| snap.committed_at);
        let more = snapshots.len().saturating_sub(SNAPSHOTS_MAX);
        self.seen = snapshots.split_off(more);
        self.seen.shrink_to_fit();
        self.more = u64::try_from(more).unwrap_or(u64::MAX);
    }

    fn add(&mut self, now: DateTime<Utc>, snap: Snap) {
        if self.own.len() == SNAPSHOTS_MAX {
            self.own.remove(0);
            self.more += 1;
        }
        self.own.push((now, snap));
    }

    fn newest(&self) -> Option<&Snap> {
        let own = self.own.last().map(|(_, snap)| snap);
        self.seen.last().into_iter().chain(own).max_by_key(|snap| snap.committed_at)
    }

    /// All of them, each once, oldest first.
    pub(super) fn all(&self) -> Vec<Snap> {
        let own = self.own.iter().map(|(_, snap)| snap);
        let own = own.filter(|snap| self.seen.iter().all(|seen| seen.id != snap.id));
        let mut all: Vec<Snap> = self.seen.iter().chain(own).cloned().collect();
        all.sort_by_key(|snap| snap.committed_at);
        all
    }
}

/// A run at work.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) begun_at: DateTime<Utc>,
    pub(super) phase: Option<Phase>,
    pub(super) tally: Tally,
}

/// Why a run made no snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) at: DateTime<Utc>,
    pub(crate) kind: ErrorKind,
    /// In full: names databases, tables and hosts.
    pub(crate) message: String,
}

impl Refusal {
    pub(super) fn of(at: DateTime<Utc>, failure: &Failure) -> Self {
        let message = failure.to_report().message.chars().take(MESSAGE_CHARS_MAX).collect();
        Self { at, kind: failure.kind(), message }
    }
}

/// What became of the last run in one repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    Snapshot { took: Duration },
    Skipped,
    Failed,
}

/// How often something happened since the service was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) snapshots: u64,
    pub(crate) failures: u64,
    pub(crate) skipped: u64,
    pub(crate) retries: u64,
}

/// A database.
#[derive(Debug, Default)]
pub(super) struct Database {
    /// Which entry of the configuration it is of.
    pub(super) entry: Option<usize>,
    pub(super) next_at: Option<DateTime<Utc>>,
    pub(super) running: Option<Running>,
    pub(super) ended_at: Option<DateTime<Utc>>,
    /// How long the last run took.
    pub(super) took: Option<Duration>,
    /// What became of the last run in each repository; under `None`: in all of them.
    pub(super) last: BTreeMap<Option<String>, Last>,
    /// The last failure, whatever came after it.
    pub(super) refusal: Option<Refusal>,
    pub(super) counts: Counts,
    pub(super) histories: BTreeMap<String, History>,
}

impl Database {
    pub(super) fn begin(&mut self, now: DateTime<Utc>) {
        let tally = Tally::new(Duration::MAX);
        self.running = Some(Running { begun_at: now, phase: None, tally });
    }

    pub(super) fn hear(&mut self, event: &Event) {
        match event {
            Event::Retried { .. } => self.counts.retries += 1,
            Event::Phase { phase, bytes_expected, .. } => {
                let expected = self.expected(*phase, *bytes_expected);
                if let Some(running) = &mut self.running {
                    running.phase = Some(*phase);
                    running.tally.begin(expected);
                }
            }
            Event::Progress { bytes, rows } => {
                if let Some(running) = &mut self.running {
                    running.tally.add(*bytes, *rows);
                }
            }
            _ => {}
        }
    }

    /// How much will be copied: as much as last time. What a run says itself is the size on disk, of which indexes and free
    /// space are not copied.
    fn expected(&self, phase: Phase, said: Option<u64>) -> Option<u64> {
        let newest = self.histories.values().filter_map(History::newest);
        let newest = newest.max_by_key(|snap| snap.committed_at);
        newest.filter(|_| phase == Phase::Copying).map(|snap| snap.plain_bytes).or(said)
    }

    pub(super) fn end(&mut self, now: DateTime<Utc>, outcomes: &[Outcome]) {
        let begun_at = self.running.take().map(|running| running.begun_at);
        self.took = begun_at.and_then(|begun_at| (now - begun_at).to_std().ok());
        self.ended_at = Some(now);
        for outcome in outcomes {
            let last = self.take(now, &outcome.result);
            // What is about one repository ends what was about all of them, and the other way round.
            let is_of_all = outcome.repository.is_none();
            self.last.retain(|of, _| of.is_some() && !is_of_all);
            self.last.insert(outcome.repository.clone(), last);
        }
    }

    fn take(&mut self, now: DateTime<Utc>, taken: &Taken) -> Last {
        match taken {
            Taken::Snapshot(report) => {
                self.counts.snapshots += 1;
                let history = self.histories.entry(report.repository.clone()).or_default();
                history.add(now, Snap::from(&**report));
                Last::Snapshot { took: Duration::from_millis(report.duration_ms) }
            }
            Taken::Skipped(_) => {
                self.counts.skipped += 1;
                Last::Skipped
            }
            Taken::Failed(failure) => {
                self.counts.failures += 1;
                self.refusal = Some(Refusal::of(now, failure));
                Last::Failed
            }
        }
    }

    /// Forgets a failure of the whole, which is over.
    pub(super) fn forgive(&mut self) {
        if self.last.remove(&None).is_some() {
            self.refusal = None;
        }
    }

    /// What became of the last run in this repository.
    pub(super) fn last_in(&self, repository: &str) -> Option<Last> {
        let of_it = self.last.get(&Some(repository.to_owned()));
        of_it.or_else(|| self.last.get(&None)).copied()
    }
}
