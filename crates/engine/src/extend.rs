//! Keeping snapshots longer than they were promised: for a person whose daemon is dead, so that its last backups do not run out.
//!
//! Prolongs the lock of everything that a snapshot needs, by version id, and reads each lock back. Whoever asks for the same
//! again goes on where it stopped: what is locked that long already is left alone. Nothing is ever shortened or weakened, and
//! nothing is written: the manifest goes on to say what it promised. A lifecycle rule may still hide what it was made for behind
//! a marker; a lock is stronger, and every reader looks under markers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use stonekeep_format::{
    ErrorKind,
    ids::{BucketName, Label, SnapshotId, VersionId},
    key::ObjectKey,
    lock::{self, Lock, LockError, LockMode},
};
use stonekeep_store::{AppendStore, ReadStore, StoreError};

use crate::{
    Context,
    events::{Event, Phase},
    history::{FindError, History, Selector, Snapshot, find},
    named::NamedObject,
    repository::{Repository, RepositoryError},
    segments::{SegmentError, load_inventory},
    stores::Stores,
};

/// Objects that are prolonged at the same time (16): as many as [`crate::verify`] looks at.
const REQUESTS_MAX: usize = 16;
/// Refusals of the credential or the server after which no more is tried (16): the next object would meet the same.
const REFUSALS_MAX: u64 = 16;
/// Objects that are told of one by one (1000); of more, only how many.
const FAILURES_MAX: usize = 1000;

/// The buckets of a repository, through a credential that may set locks.
#[derive(Debug, Clone)]
pub struct Prolongable {
    /// The one that holds the genesis.
    pub main: Arc<dyn AppendStore>,
    /// Those of tiers, if buckets name the locks.
    pub of_tiers: Vec<Arc<dyn AppendStore>>,
}

impl Prolongable {
    /// Returns them as a reader sees them.
    #[must_use]
    pub fn stores(&self) -> Stores {
        let of_tiers = self.of_tiers.iter().map(|store| Arc::clone(store) as Arc<dyn ReadStore>);
        Stores::new(Arc::clone(&self.main) as _, of_tiers.collect())
    }

    /// As [`Stores::of`].
    fn of(&self, bucket: &BucketName) -> &dyn AppendStore {
        &**self.of_tiers.iter().find(|store| store.bucket() == bucket).unwrap_or(&self.main)
    }
}

/// What to prolong, and by how much.
#[derive(Debug, Clone)]
pub struct ExtendPlan {
    /// Which snapshots; none: of each label the newest that is not suspicious.
    pub snapshots: Vec<Selector>,
    /// From now on.
    pub length: Duration,
}

/// Why nothing, or not everything, was prolonged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtendError {
    /// The manifests cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// No snapshot is meant.
    #[error(transparent)]
    Find(#[from] FindError),
    /// There are snapshots, and each of them is suspicious.
    #[error("every snapshot is suspicious: say which ones (see `stonekeep list`)")]
    OnlySuspicious,
    /// The length cannot be.
    #[error("cannot lock for that long")]
    Lock(#[source] LockError),
    /// The clocks of host and storage server disagree.
    #[error("cannot tell until when")]
    Clock(#[source] LockError),
    /// The storage server does not tell the time.
    #[error("cannot read the storage server's clock")]
    Time(#[source] Box<StoreError>),
    /// Stopped on request.
    #[error(
        "stopped on request; {prolonged} objects were prolonged: the same command, on the same day, goes on from there"
    )]
    Cancelled {
        /// How many by then.
        prolonged: u64,
    },
}

impl ExtendError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Repository(source) => source.kind(),
            Self::Find(source) => source.kind(),
            Self::OnlySuspicious | Self::Lock(_) => ErrorKind::Usage,
            Self::Clock(_) | Self::Cancelled { .. } => ErrorKind::Unavailable,
            Self::Time(source) => source.kind(),
        }
    }
}

/// What was prolonged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtendReport {
    /// What everything is locked by now, at least.
    pub lock: Lock,
    /// The snapshots.
    pub snapshots: Vec<ExtendedSnapshot>,
    /// Labels of which no snapshot was prolonged, since each is suspicious.
    pub left_out: Vec<Label>,
    /// The objects of all snapshots and of the genesis.
    pub objects: ObjectCounts,
    /// What could not be prolonged. Without any, all is done.
    pub failures: Vec<ExtendFailure>,
    /// How many more there are.
    pub more_failures: u64,
    /// Whether it was given up, since the credential or the server refused again and again.
    pub given_up: bool,
    /// What kind the worst of them is: what the process ends with.
    #[serde(skip)]
    pub worst: Option<ErrorKind>,
}

/// A snapshot that was prolonged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtendedSnapshot {
    /// Its label.
    pub label: Label,
    /// Its id.
    pub id: SnapshotId,
    /// Until when it was promised, which its manifest goes on to say.
    pub promised_until: DateTime<Utc>,
}

/// What became of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ObjectCounts {
    /// How many got a longer lock, which was read back.
    pub prolonged: u64,
    /// How many were locked that long already.
    pub left_alone: u64,
    /// How many could not be prolonged.
    pub failed: u64,
    /// Bytes of those that are locked that long now.
    pub bytes: u64,
}

/// An object that could not be prolonged; or an inventory that cannot be read, so that nothing of its snapshot was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtendFailure {
    /// Its key.
    pub key: ObjectKey,
    /// The version that is named.
    pub version_id: VersionId,
    /// Why.
    pub why: String,
}

/// Prolongs the locks of snapshots, and of the genesis objects without which nothing in the bucket can be believed.
///
/// # Errors
/// [`ExtendError`]: it could not begin, or was stopped. What single objects answered is in the report.
pub async fn extend(
    repository: &Repository,
    buckets: &Prolongable,
    plan: &ExtendPlan,
    context: &Context,
) -> Result<ExtendReport, ExtendError> {
    let genesis = &repository.genesis.lock;
    let now = buckets.main.server_time().await;
    let now = now.map_err(|source| ExtendError::Time(Box::new(source)))?;
    lock::check_skew(context.clock.now(), now).map_err(ExtendError::Clock)?;
    let wanted = lock::prolonged(now, plan.length, genesis.cap, genesis.mode);
    let wanted = wanted.map_err(ExtendError::Lock)?;
    let Chosen { snapshots, left_out } = choose(repository, plan, context).await?;
    let mut work = Work { buckets, wanted, context, report: empty(wanted, left_out), refusals: 0 };
    work.all(&genesis_objects(repository)).await?;
    for snapshot in &snapshots {
        match objects(repository, snapshot).await {
            Ok(objects) => work.snapshot(snapshot, &objects).await?,
            // It says nothing of the next database, whose last snapshot may run out.
            Err(error) => work.fail_inventory(snapshot, &error),
        }
        if work.report.given_up {
            break;
        }
    }
    Ok(work.report)
}

const fn empty(lock: Lock, left_out: Vec<Label>) -> ExtendReport {
    ExtendReport {
        lock,
        snapshots: Vec::new(),
        left_out,
        objects: ObjectCounts { prolonged: 0, left_alone: 0, failed: 0, bytes: 0 },
        failures: Vec::new(),
        more_failures: 0,
        given_up: false,
        worst: None,
    }
}

struct Chosen {
    snapshots: Vec<Snapshot>,
    left_out: Vec<Label>,
}

async fn choose(
    repository: &Repository,
    plan: &ExtendPlan,
    context: &Context,
) -> Result<Chosen, ExtendError> {
    let mut named: BTreeMap<SnapshotId, Snapshot> = BTreeMap::new();
    for selector in &plan.snapshots {
        let snapshot = find(repository, selector, context).await?;
        named.insert(snapshot.manifest.id.clone(), snapshot);
    }
    if !named.is_empty() {
        return Ok(Chosen { snapshots: named.into_values().collect(), left_out: Vec::new() });
    }
    let history = History::load(repository, context).await?;
    if history.labels.is_empty() {
        return Err(FindError::Empty.into());
    }
    let mut chosen = Chosen { snapshots: Vec::new(), left_out: Vec::new() };
    for label in history.labels.keys() {
        match history.newest_sound(label) {
            Some(newest) => chosen.snapshots.push(newest.clone()),
            None => chosen.left_out.push(label.clone()),
        }
    }
    if chosen.snapshots.is_empty() { Err(ExtendError::OnlySuspicious) } else { Ok(chosen) }
}

fn genesis_objects(repository: &Repository) -> BTreeSet<NamedObject> {
    let bucket = repository.stores.main().bucket();
    let object = |of: &crate::repository::GenesisObject| NamedObject {
        bucket: bucket.clone(),
        key: of.version.key.clone(),
        version_id: of.version.version_id.clone(),
        bytes: of.version.bytes,
    };
    repository.line.iter().map(object).collect()
}

async fn objects(
    repository: &Repository,
    snapshot: &Snapshot,
) -> Result<BTreeSet<NamedObject>, SegmentError> {
    let manifest = &snapshot.manifest;
    let named = &manifest.inventory;
    let inventory = load_inventory(repository, named, &manifest.id).await?;
    let segments = inventory.segments.iter().map(NamedObject::from);
    Ok(segments.chain(NamedObject::documents(snapshot)).collect())
}

/// What became of one object.
enum Became {
    Prolonged,
    LeftAlone,
}

struct Work<'a> {
    buckets: &'a Prolongable,
    wanted: Lock,
    context: &'a Context,
    report: ExtendReport,
    refusals: u64,
}

impl Work<'_> {
    async fn snapshot(
        &mut self,
        snapshot: &Snapshot,
        objects: &BTreeSet<NamedObject>,
    ) -> Result<(), ExtendError> {
        self.all(objects).await?;
        let manifest = &snapshot.manifest;
        self.report.snapshots.push(ExtendedSnapshot {
            label: manifest.label.clone(),
            id: manifest.id.clone(),
            promised_until: manifest.promised_until,
        });
        Ok(())
    }

    fn fail_inventory(&mut self, snapshot: &Snapshot, error: &SegmentError) {
        let manifest = &snapshot.manifest;
        let why = format!(
            "cannot tell what snapshot {} of {} needs, and nothing of it was prolonged: {}",
            manifest.id,
            manifest.label,
            crate::run::chain_of(error)
        );
        let named = &manifest.inventory;
        self.report.objects.failed += 1;
        self.fail((&named.key, &named.version_id), error.kind(), why);
    }

    async fn all(&mut self, objects: &BTreeSet<NamedObject>) -> Result<(), ExtendError> {
        let bytes = objects.iter().map(|object| object.bytes).fold(0, u64::saturating_add);
        let phase = Phase::Extending;
        self.context.tell(Event::Phase { phase, bytes_expected: Some(bytes), rows_expected: None });
        let (buckets, wanted) = (self.buckets, self.wanted);
        let cancel = self.context.cancel.clone();
        let mut under_way = stream::iter(objects)
            .map(|object| async move { (object, prolong(buckets, object, wanted).await) })
            .buffer_unordered(REQUESTS_MAX);
        loop {
            let next = tokio::select! {
                next = under_way.next() => next,
                () = cancel.cancelled() => {
                    let prolonged = self.report.objects.prolonged;
                    return Err(ExtendError::Cancelled { prolonged });
                }
            };
            let Some((object, outcome)) = next else { return Ok(()) };
            self.take(object, outcome);
            if self.report.given_up {
                return Ok(());
            }
        }
    }

    fn take(&mut self, object: &NamedObject, outcome: Result<Became, StoreError>) {
        self.context.tell(Event::Progress { bytes: object.bytes, rows: 0 });
        let counts = &mut self.report.objects;
        match outcome {
            Ok(became) => {
                counts.bytes = counts.bytes.saturating_add(object.bytes);
                match became {
                    Became::Prolonged => counts.prolonged += 1,
                    Became::LeftAlone => counts.left_alone += 1,
                }
            }
            Err(error) => {
                counts.failed += 1;
                let why = crate::run::chain_of(&error);
                self.fail((&object.key, &object.version_id), error.kind(), why);
            }
        }
    }

    fn fail(&mut self, (key, version_id): (&ObjectKey, &VersionId), kind: ErrorKind, why: String) {
        // An object that is missing or short says nothing of the others; a credential or a server that refuses does.
        self.refusals += u64::from(kind != ErrorKind::Corrupt);
        self.report.given_up = self.refusals >= REFUSALS_MAX;
        let worst = self.report.worst.into_iter().chain([kind]);
        self.report.worst = worst.max_by_key(|kind| kind.exit_code());
        if self.report.failures.len() == FAILURES_MAX {
            self.report.more_failures += 1;
            return;
        }
        self.report.failures.push(ExtendFailure {
            key: key.clone(),
            version_id: version_id.clone(),
            why,
        });
    }
}

/// Prolongs one lock, unless it is as long and as strong already, and reads it back.
async fn prolong(
    buckets: &Prolongable,
    object: &NamedObject,
    wanted: Lock,
) -> Result<Became, StoreError> {
    let store = buckets.of(&object.bucket);
    let found = store.retention(&object.key, &object.version_id).await?;
    if found.is_some_and(|found| found.satisfies(&wanted)) {
        return Ok(Became::LeftAlone);
    }
    let lock = found.map_or(wanted, |found| stronger(found, wanted));
    store.extend(&object.key, &object.version_id, lock).await?;
    let found = store.retention(&object.key, &object.version_id).await?;
    match found {
        Some(kept) if kept.satisfies(&lock) => Ok(Became::Prolonged),
        _ => Err(StoreError::LockNotKept { key: object.key.clone(), wanted: lock, found }),
    }
}

/// Neither shorter nor weaker than either of the two.
fn stronger(a: Lock, b: Lock) -> Lock {
    let is_compliance = [a, b].iter().any(|lock| lock.mode == LockMode::Compliance);
    let mode = if is_compliance { LockMode::Compliance } else { LockMode::Governance };
    Lock { mode, retain_until: a.retain_until.max(b.retain_until) }
}

#[cfg(test)]
mod tests;
