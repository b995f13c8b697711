//! What readers of the board get: a copy, in which what may not be named has a number.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use stonekeep_engine::events::Phase;
use stonekeep_format::{ErrorKind, ids::Label, lock::SKEW_MAX};

use super::{
    Entry, State,
    database::{Database, History, Refusal, Running},
    repository::Repository,
};
pub(crate) use super::{
    database::{Counts, Last, Snap},
    repository::Proof,
};

/// Everything, at one instant.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) at: DateTime<Utc>,
    pub(crate) started_at: DateTime<Utc>,
    /// Whether names are shown.
    pub(crate) has_names: bool,
    /// In the order of the configuration.
    pub(crate) databases: Vec<DatabaseView>,
    pub(crate) repositories: Vec<RepositoryView>,
    /// Databases that are not remembered, for want of room.
    pub(crate) left_out: u64,
}

/// How a database stands, from good to bad. The worst that is so counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Standing {
    /// There is a good snapshot, young enough, in every repository.
    Good,
    /// Nothing is known yet, or there is nothing yet that could be late.
    Waiting,
    /// The last run made no snapshot; the one before it is young enough still.
    Failed,
    /// The newest snapshot is suspicious: the database shrank.
    Suspicious,
    /// Some repository has no good snapshot that is young enough.
    Late,
}

impl Standing {
    /// All of them, from good to bad.
    pub(crate) const ALL: [Self; 5] =
        [Self::Good, Self::Waiting, Self::Failed, Self::Suspicious, Self::Late];

    /// Returns its name, as the page and metrics spell it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Suspicious => "suspicious",
            Self::Late => "late",
        }
    }
}

/// One database.
#[derive(Debug)]
pub(crate) struct DatabaseView {
    pub(crate) name: String,
    pub(crate) schedule: Option<(String, Tz)>,
    pub(crate) age_max: Option<Duration>,
    pub(crate) next_at: Option<DateTime<Utc>>,
    pub(crate) running: Option<RunningView>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
    /// How long the last run took.
    pub(crate) took: Option<Duration>,
    /// Whether the last run failed, in any repository.
    pub(crate) has_failed: bool,
    /// Whether the last run was left to another one that was at work.
    pub(crate) is_skipped: bool,
    pub(crate) standing: Standing,
    /// What each repository holds of it.
    pub(crate) copies: Vec<CopyView>,
    pub(crate) refusal: Option<RefusalView>,
    pub(crate) counts: Counts,
}

impl DatabaseView {
    /// Whether no repository has a good snapshot of it.
    pub(crate) fn is_bare(&self) -> bool {
        self.copies.iter().all(|copy| copy.good.is_none())
    }

    /// Whether production is exposed: what there is is too old, or there is nothing and the last run failed.
    pub(crate) fn is_grave(&self) -> bool {
        self.standing == Standing::Late || self.standing == Standing::Failed && self.is_bare()
    }
}

/// The run at work.
#[derive(Debug)]
pub(crate) struct RunningView {
    pub(crate) begun_at: DateTime<Utc>,
    pub(crate) phase: Option<Phase>,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    pub(crate) bytes_expected: Option<u64>,
    pub(crate) left: Option<Duration>,
}

/// A failure.
#[derive(Debug)]
pub(crate) struct RefusalView {
    pub(crate) at: DateTime<Utc>,
    pub(crate) kind: ErrorKind,
    /// In full, if names are shown.
    pub(crate) message: Option<String>,
}

/// What one repository holds of a database.
#[derive(Debug)]
pub(crate) struct CopyView {
    pub(crate) repository: String,
    /// Oldest first.
    pub(crate) snapshots: Vec<Snap>,
    /// How many older ones are left out.
    pub(crate) more: u64,
    /// Whether the bucket was asked: otherwise there are those alone that this process has taken.
    pub(crate) is_seen: bool,
    /// What became of the last run.
    pub(crate) last: Option<Last>,
    /// The newest snapshot that is not suspicious and does not claim the future.
    pub(crate) good: Option<Snap>,
}

impl CopyView {
    /// Returns how many snapshots there are, with those that are left out.
    pub(crate) fn length(&self) -> u64 {
        self.more.saturating_add(u64::try_from(self.snapshots.len()).unwrap_or(u64::MAX))
    }

    /// Returns the newest snapshot, good or not.
    pub(crate) fn newest(&self) -> Option<&Snap> {
        self.snapshots.last()
    }
}

/// One repository.
#[derive(Debug)]
pub(crate) struct RepositoryView {
    pub(crate) name: String,
    pub(crate) tried_at: Option<DateTime<Utc>>,
    pub(crate) is_denied: bool,
    pub(crate) refusal: Option<RefusalView>,
    pub(crate) seen: Option<SeenView>,
}

/// What the last look at a repository saw.
#[derive(Debug)]
pub(crate) struct SeenView {
    pub(crate) at: DateTime<Utc>,
    pub(crate) snapshots: usize,
    /// What is wrong, by kind, and how often.
    pub(crate) findings: Vec<(&'static str, u64)>,
    /// How many more, which are not told one by one.
    pub(crate) more_findings: u64,
    pub(crate) proof: Option<Proof>,
    pub(crate) is_unsure: bool,
    pub(crate) drilled_at: Option<DateTime<Utc>>,
    pub(crate) drills_failed: u64,
    /// Labels in the bucket that no configuration names.
    pub(crate) others: usize,
}

/// What a view is made with.
#[derive(Clone, Copy)]
struct Look<'s> {
    now: DateTime<Utc>,
    started_at: DateTime<Utc>,
    has_names: bool,
    repositories: &'s [Repository],
}

impl State {
    pub(super) fn view(&self, now: DateTime<Utc>, has_names: bool) -> View {
        let look =
            Look { now, started_at: self.started_at, has_names, repositories: &self.repositories };
        let mut databases = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            self.view_entry(index, entry, look, &mut databases);
        }
        let orphans = self.databases.iter().filter(|(_, database)| database.entry.is_none());
        for (index, (label, database)) in (self.entries.len() + 1..).zip(orphans) {
            let name = look.name(label.as_str(), || format!("database {index}"));
            databases.push(look.database(name, database, None));
        }
        let repositories = (1..).zip(&self.repositories);
        View {
            at: now,
            started_at: self.started_at,
            has_names,
            databases,
            repositories: repositories.map(|(n, each)| look.repository(n, each)).collect(),
            left_out: self.left_out,
        }
    }

    /// The database of an entry; or those of its server, as `2.1`, `2.2` and so on, and the server itself while none of them is
    /// known, or if it could not be asked for them.
    fn view_entry(
        &self,
        index: usize,
        entry: &Entry,
        look: Look<'_>,
        into: &mut Vec<DatabaseView>,
    ) {
        let is_of = |(label, database): &(&Label, &Database)| {
            database.entry == Some(index) && **label != entry.label
        };
        let of_server: Vec<_> = self.databases.iter().filter(is_of).collect();
        let number = index + 1;
        if let Some(database) = self.databases.get(&entry.label)
            && (of_server.is_empty() || database.last.contains_key(&None))
        {
            let name = look.name(entry.label.as_str(), || format!("database {number}"));
            into.push(look.database(name, database, Some(entry)));
        }
        let next_at = self.databases.get(&entry.label).and_then(|database| database.next_at);
        for (of_entry, (label, database)) in (1..).zip(of_server) {
            let name = look.name(label.as_str(), || format!("database {number}.{of_entry}"));
            let mut view = look.database(name, database, Some(entry));
            view.next_at = view.next_at.or(next_at);
            into.push(view);
        }
    }
}

impl Look<'_> {
    fn name(&self, name: &str, number: impl FnOnce() -> String) -> String {
        if self.has_names { name.to_owned() } else { number() }
    }

    fn repository_name(&self, number: usize, name: &str) -> String {
        self.name(name, || format!("repository {number}"))
    }

    fn database(&self, name: String, database: &Database, entry: Option<&Entry>) -> DatabaseView {
        let age_max = entry.and_then(|entry| entry.age_max);
        let repositories = (1..).zip(self.repositories);
        let copies: Vec<CopyView> =
            repositories.map(|(number, of)| self.copy(number, of, database)).collect();
        let is = |last: Last| database.last.values().any(|it| *it == last);
        DatabaseView {
            name,
            schedule: entry.and_then(|entry| Some((entry.schedule.clone()?, entry.zone))),
            age_max,
            next_at: database.next_at,
            running: database.running.as_ref().map(RunningView::of),
            ended_at: database.ended_at,
            took: database.took,
            has_failed: is(Last::Failed),
            is_skipped: is(Last::Skipped),
            standing: self.standing(&copies, is(Last::Failed), age_max),
            copies,
            refusal: database.refusal.as_ref().map(|refusal| self.refusal(refusal)),
            counts: database.counts,
        }
    }

    fn standing(
        &self,
        copies: &[CopyView],
        has_failed: bool,
        age_max: Option<Duration>,
    ) -> Standing {
        let is_old = |at: DateTime<Utc>| {
            let age = (self.now - at).to_std().unwrap_or(Duration::ZERO);
            age_max.is_some_and(|age_max| age > age_max)
        };
        // Of what was never there the age is that of this process.
        let is_late =
            |copy: &CopyView| is_old(copy.good.as_ref().map_or(self.started_at, Snap::begun_at));
        let is_suspicious =
            |copy: &CopyView| copy.newest().is_some_and(|newest| newest.suspicious.is_some());
        if copies.iter().any(is_late) {
            Standing::Late
        } else if copies.iter().any(is_suspicious) {
            Standing::Suspicious
        } else if has_failed {
            Standing::Failed
        } else if copies.is_empty() || copies.iter().any(|copy| copy.good.is_none()) {
            Standing::Waiting
        } else {
            Standing::Good
        }
    }

    fn copy(&self, number: usize, repository: &Repository, database: &Database) -> CopyView {
        let history = database.histories.get(&repository.name);
        let snapshots = history.map(History::all).unwrap_or_default();
        let latest = TimeDelta::from_std(SKEW_MAX).map_or(self.now, |skew| self.now + skew);
        let is_good = |snap: &&Snap| snap.suspicious.is_none() && snap.begun_at() <= latest;
        CopyView {
            repository: self.repository_name(number, &repository.name),
            good: snapshots.iter().rev().find(is_good).cloned(),
            snapshots,
            more: history.map_or(0, |history| history.more),
            is_seen: history.is_some_and(|history| history.is_seen),
            last: database.last_in(&repository.name),
        }
    }

    fn refusal(&self, refusal: &Refusal) -> RefusalView {
        let Refusal { at, kind, message } = refusal;
        RefusalView { at: *at, kind: *kind, message: self.has_names.then(|| message.clone()) }
    }

    fn repository(&self, number: usize, repository: &Repository) -> RepositoryView {
        RepositoryView {
            name: self.repository_name(number, &repository.name),
            tried_at: repository.tried_at,
            is_denied: repository.is_denied,
            refusal: repository.refusal.as_ref().map(|refusal| self.refusal(refusal)),
            seen: repository.seen.as_ref().map(|(at, seen)| SeenView {
                at: *at,
                snapshots: seen.count,
                findings: seen.findings.iter().map(|(kind, count)| (*kind, *count)).collect(),
                more_findings: seen.more_findings,
                proof: seen.proof.clone(),
                is_unsure: seen.is_unsure,
                drilled_at: seen.drilled_at,
                drills_failed: seen.drills_failed,
                others: seen.others,
            }),
        }
    }
}

impl RunningView {
    fn of(running: &Running) -> Self {
        let Running { begun_at, phase, tally } = running;
        // A database that grew: nobody knows how far.
        let is_more = |expected: &u64| *expected >= tally.bytes();
        Self {
            begun_at: *begun_at,
            phase: *phase,
            bytes: tally.bytes(),
            rows: tally.rows(),
            bytes_expected: tally.bytes_expected().filter(is_more),
            left: tally.left().filter(|_| tally.bytes_expected().is_some_and(|it| is_more(&it))),
        }
    }
}
