//! Judging a repository from outside: whether backups go on, are whole and locked, and what was put there that should not be.
//!
//! Needs to list, to read manifests and to ask for locks; inventories where it may. It opens no data, holds no identity and
//! changes nothing. What it could not look at for want of a right is in its notes; a server that does not answer is an error,
//! since it says nothing of the repository. It runs on a host that has nothing to do with production's.

mod alarm;
mod drift;
mod drill;
mod fresh;
mod locks;
mod proof;
mod sweep;

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::Serialize;
use stonekeep_format::{
    ErrorKind,
    ids::{BucketName, Label, RepositoryId, SnapshotId},
    key::ObjectKey,
    signature::Trust,
};
use stonekeep_store::StoreError;

use self::{alarm::Alarms, sweep::Sweep};
pub use self::{
    alarm::{Alarm, AlarmKind, Severity, Status},
    drill::{DRILL_AGE_MAX, DrillLine},
    proof::{Proofs, proofs},
};
use crate::{
    Context,
    audit::{AuditError, audit},
    drill::DrillRecordError,
    events::{Event, Phase},
    repository::Repository,
    segments::SegmentError,
    witness::Witness,
};

/// What is expected.
#[derive(Debug, Clone, Default)]
pub struct WatchPlan {
    /// The labels of which there must be snapshots, each with how old the newest may be; `None`: as for all others.
    pub labels: BTreeMap<Label, Option<Duration>>,
    /// How old the newest of any other label may be; `None`: twice the period of the shortest tier.
    pub age_max: Option<Duration>,
    /// How much may be stored within a day, in bytes; `None`: three times what is usual.
    pub bytes_per_day_max: Option<u64>,
    /// How old the newest record of `prove` may be; `None`: three days, if there is any.
    pub prove_age_max: Option<Duration>,
    /// How old the newest drill of a database may be; `None`: 35 days, if there is any.
    pub drill_age_max: Option<Duration>,
    /// Whose records of drills are believed.
    pub reporters: Trust,
    /// Whether to ask for the lock of every segment of the newest snapshots, not of a sample.
    pub all_locks: bool,
}

/// What was found, and what is to be remembered for the next time.
#[derive(Debug)]
pub struct Watched {
    /// What was found.
    pub report: WatchReport,
    /// What is to be remembered.
    pub witness: Witness,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatchReport {
    /// The storage server's time.
    pub at: DateTime<Utc>,
    /// The repository.
    pub repository: RepositoryId,
    /// The bucket of its genesis.
    pub bucket: BucketName,
    /// The worst of the alarms, told or not.
    pub status: Status,
    /// What is wrong, the worst first.
    pub alarms: Vec<Alarm>,
    /// How many more there are, which are not told one by one.
    pub more_alarms: u64,
    /// Each database.
    pub labels: Vec<LabelLine>,
    /// Versions under the prefix, in all buckets.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of those that were stored in the last 24 hours, in the 24 before, and so on.
    pub bytes_by_day: Vec<u64>,
    /// Locks that were asked for.
    pub locks: u64,
    /// What could not be looked at.
    pub notes: Vec<String>,
}

impl WatchReport {
    /// Adds what went wrong around the look.
    pub fn raise(&mut self, alarm: Alarm) {
        self.status = self.status.max(alarm.severity.into());
        self.alarms.push(alarm);
        self.alarms.sort();
    }
}

/// The newest snapshot of a database, of those that are verified and neither suspicious nor of the future.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelLine {
    /// Its label.
    pub label: Label,
    /// The snapshot; absent: there is none.
    pub newest: Option<NewestLine>,
    /// How old it may be, in seconds.
    pub age_max_secs: u64,
    /// What snapshots of it added within the last 24 hours, in bytes, as their manifests say.
    pub put_bytes_last_day: u64,
    /// The last drill; absent: none is known.
    pub drill: Option<DrillLine>,
}

/// A newest snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewestLine {
    /// Its id.
    pub id: SnapshotId,
    /// When its run began, by the storage server's clock: its content is no older.
    pub begun_at: DateTime<Utc>,
    /// How long ago that was, in seconds.
    pub age_secs: u64,
    /// Until when it is promised.
    pub promised_until: DateTime<Utc>,
    /// How much of that time is left, in percent.
    pub promise_left_percent: u64,
}

/// Why a repository could not be judged: nothing is said of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The chains cannot be judged.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The bucket cannot be listed.
    #[error("cannot list bucket {bucket}")]
    List {
        /// The bucket.
        bucket: BucketName,
        /// What it said.
        #[source]
        source: Box<StoreError>,
    },
    /// A lock cannot be asked for.
    #[error("cannot read the lock of {key}")]
    Lock {
        /// The object.
        key: ObjectKey,
        /// What the store said.
        #[source]
        source: Box<StoreError>,
    },
    /// A bucket does not tell how it is configured.
    #[error("cannot read the configuration of bucket {bucket}")]
    Configuration {
        /// The bucket.
        bucket: BucketName,
        /// What it said.
        #[source]
        source: Box<StoreError>,
    },
    /// An inventory cannot be read, for no fault of its own.
    #[error("cannot read an inventory")]
    Inventory(#[source] SegmentError),
    /// The records of drills cannot be read.
    #[error(transparent)]
    Drills(#[from] DrillRecordError),
    /// Stopped on request.
    #[error("stopped on request; the repository was not looked at to the end")]
    Cancelled,
}

impl WatchError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Audit(source) => source.kind(),
            Self::List { source, .. }
            | Self::Lock { source, .. }
            | Self::Configuration { source, .. } => source.kind(),
            Self::Inventory(source) => source.kind(),
            Self::Drills(source) => source.kind(),
            Self::Cancelled => ErrorKind::Unavailable,
        }
    }
}

/// Looks at a whole repository, once.
///
/// # Errors
/// [`WatchError`]: the look is not complete. What is wrong with the repository is in the report.
pub async fn watch(
    repository: &Repository,
    plan: &WatchPlan,
    witness: Option<&Witness>,
    context: &Context,
) -> Result<Watched, WatchError> {
    tokio::select! {
        biased;
        () = context.cancel.cancelled() => Err(WatchError::Cancelled),
        watched = look(repository, plan, witness, context) => watched,
    }
}

async fn look(
    repository: &Repository,
    plan: &WatchPlan,
    witness: Option<&Witness>,
    context: &Context,
) -> Result<Watched, WatchError> {
    let phase = Phase::Verifying;
    context.tell(Event::Phase { phase, bytes_expected: None, rows_expected: None });
    let audit = audit(repository, witness, context).await?;
    let (mut alarms, mut notes) = (Alarms::default(), Vec::new());
    alarms.take_findings(&audit);
    let sweep = Sweep::of(repository, audit.at, &mut alarms).await?;
    sweep.judge(audit.at, plan.bytes_per_day_max, &mut alarms);
    let mut labels = fresh::judge(repository, plan, &audit, &mut alarms);
    let mut locks = 0;
    for label in &labels {
        // What is promised no more needs no lock, and may go.
        let newest = audit.history.newest_sound(&label.label);
        let newest = newest.filter(|newest| newest.manifest.promised_until > audit.at);
        if let Some(newest) = newest {
            locks +=
                locks::judge(repository, newest, plan.all_locks, &mut alarms, &mut notes).await?;
        }
    }
    drift::judge(repository, &mut alarms, &mut notes).await?;
    proof::judge(repository, plan, audit.at, (&mut alarms, &mut notes)).await?;
    drill::judge(repository, plan, audit.at, &mut labels, (&mut alarms, &mut notes)).await?;
    let status = alarms.status();
    let (alarms, more_alarms) = alarms.finish();
    let report = WatchReport {
        at: audit.at,
        repository: audit.repository,
        bucket: repository.stores.main().bucket().clone(),
        status,
        alarms,
        more_alarms,
        labels,
        objects: sweep.objects,
        bytes: sweep.bytes,
        bytes_by_day: sweep.by_day.to_vec(),
        locks,
        notes,
    };
    let witness = witness.map_or_else(|| Witness::first(&audit), |seen| seen.updated(&audit));
    Ok(Watched { report, witness })
}

#[cfg(test)]
mod tests;
