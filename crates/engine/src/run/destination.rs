//! One repository in a run: what it has, what it lacks, and whether it keeps up.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{
    codec::Sealed,
    ids::{MemberName, Nonce, SegmentId},
    inventory::{Segment, SegmentKind},
    key::ObjectKey,
};
use stonekeep_store::{StoreError, put_fresh};
use tokio_util::sync::CancellationToken;

use super::{BackupError, attempt::Unrecorded, known::Verdict, prepare::Prepared};
use crate::{Context, events::Event};

/// How long a repository may lag behind the others (2 min) before it is left out of the run: production's snapshot is held
/// open for as long as the slowest.
pub(super) const LAG_MAX: Duration = Duration::from_secs(120);

/// A repository that takes part in a run, until it fails.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) name: String,
    pub(super) prepared: Prepared,
    pub(super) unrecorded: Unrecorded,
    put_bytes: AtomicU64,
    waiting_bytes: AtomicU64,
    behind_since: Mutex<Option<DateTime<Utc>>>,
    failure: Mutex<Option<BackupError>>,
    ended: CancellationToken,
}

/// What a piece is known by.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) kind: SegmentKind,
    pub(super) member: Option<MemberName>,
    pub(super) id: SegmentId,
    pub(super) plain_bytes: u64,
}

/// A piece that was sealed.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) body: Bytes,
    pub(super) digest: stonekeep_format::ids::Digest,
}

impl From<Sealed> for Ready {
    fn from(sealed: Sealed) -> Self {
        Self { body: Bytes::from(sealed.bytes), digest: sealed.digest }
    }
}

impl Destination {
    pub(super) fn new(name: String, prepared: Prepared) -> Self {
        Self {
            name,
            prepared,
            unrecorded: Unrecorded::new(),
            put_bytes: AtomicU64::new(0),
            waiting_bytes: AtomicU64::new(0),
            behind_since: Mutex::default(),
            failure: Mutex::default(),
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.ended.is_cancelled()
    }

    /// Leaves the run. The first reason is kept.
    pub(super) fn fail(&self, error: BackupError, context: &Context) {
        if self.is_alive() {
            context.tell(Event::RepositoryFailed {
                repository: self.name.clone(),
                message: error.to_string(),
            });
            locked(&self.failure).get_or_insert(error);
            self.ended.cancel();
        }
    }

    /// Takes out why it left the run.
    pub(super) fn take_failure(&self) -> Option<BackupError> {
        locked(&self.failure).take()
    }

    /// Bytes that this run has stored here.
    pub(super) fn put_bytes(&self) -> u64 {
        self.put_bytes.load(Ordering::Relaxed)
    }

    /// Returns the segment that holds this content already, if its lock reaches; otherwise since when the content has stood.
    pub(super) async fn find(
        &self,
        name: &Name,
        context: &Context,
    ) -> Result<Result<Segment, Option<DateTime<Utc>>>, BackupError> {
        let Prepared { known, locks, clock, .. } = &self.prepared;
        let now = clock.now(context);
        let segment = match known.judge((name.id, name.kind), &locks.needed(), now) {
            Verdict::Store(since) => return Ok(Err(since)),
            Verdict::Reuse(segment) if self.is_here(&segment) => segment,
            Verdict::Ask(segment) if self.is_here(&segment) => {
                match self.ask(&segment, now).await? {
                    Some(segment) => segment,
                    None => {
                        context.warn(format!(
                            "{} is not there, or not locked as it was: its content is stored again",
                            segment.key
                        ));
                        known.forget(&segment);
                        return Ok(Err(Some(segment.since)));
                    }
                }
            }
            Verdict::Reuse(segment) | Verdict::Ask(segment) => return Ok(Err(Some(segment.since))),
        };
        context.tell(Event::SegmentReused { kind: name.kind, plain_bytes: name.plain_bytes });
        Ok(Ok(Segment { member: name.member.clone(), ..segment }))
    }

    /// A segment that was put into another bucket is not asked for here.
    fn is_here(&self, segment: &Segment) -> bool {
        self.prepared.repository.stores.has(&segment.bucket)
    }

    /// Asks the server whether a segment is locked as documents say; `None`: it is not.
    async fn ask(
        &self,
        segment: &Segment,
        now: DateTime<Utc>,
    ) -> Result<Option<Segment>, BackupError> {
        let Prepared { repository, known, locks, .. } = &self.prepared;
        let store = repository.stores.of(&segment.bucket);
        let lock = match store.retention(&segment.key, &segment.version_id).await {
            Ok(lock) => lock,
            Err(StoreError::NotFound { .. }) => None,
            Err(source) => {
                return Err(BackupError::Store { action: "ask for the lock of a segment", source });
            }
        };
        let Some(lock) = lock.filter(|lock| lock.satisfies(&locks.needed())) else {
            return Ok(None);
        };
        let segment = Segment { lock, checked_at: now, ..segment.clone() };
        known.add(segment.clone());
        Ok(Some(segment))
    }

    /// Stores a sealed piece under a fresh key, and reads its lock back. `None`: this repository has left the run.
    pub(super) async fn put(
        &self,
        name: &Name,
        ready: Ready,
        since: Option<DateTime<Utc>>,
        context: &Context,
    ) -> Option<Segment> {
        let bytes = ready.body.len() as u64;
        let _waiting = Waiting::begin(&self.waiting_bytes, bytes);
        let outcome = tokio::select! {
            put = self.put_now(name, ready, since, context) => put,
            () = self.ended.cancelled() => return None,
        };
        match outcome {
            Ok(segment) => Some(segment),
            Err(error) => {
                self.fail(error, context);
                None
            }
        }
    }

    /// The same, without leaving the run if it fails.
    pub(super) async fn put_now(
        &self,
        name: &Name,
        ready: Ready,
        since: Option<DateTime<Utc>>,
        context: &Context,
    ) -> Result<Segment, BackupError> {
        let Prepared { store, known, locks, clock, .. } = &self.prepared;
        let lock = locks.of_content(since)?;
        let class = locks.class(lock);
        let fresh_key = || ObjectKey::segment(class, name.id, Nonce::from_bytes(rand::random()));
        let bytes = ready.body.len() as u64;
        let receipt =
            put_fresh(&**store, &*context.clock, fresh_key, ready.body, lock).await.map_err(
                |source| BackupError::Store { action: "store a segment under lock", source },
            )?;
        context.tell(Event::SegmentPut {
            kind: name.kind,
            plain_bytes: name.plain_bytes,
            sealed_bytes: bytes,
            lock: receipt.lock,
        });
        let segment = Segment {
            kind: name.kind,
            member: name.member.clone(),
            id: name.id,
            key: receipt.key,
            bucket: store.bucket().clone(),
            version_id: receipt.version_id,
            bytes,
            digest: ready.digest,
            plain_bytes: name.plain_bytes,
            lock: receipt.lock,
            checked_at: clock.now(context),
            since: since.unwrap_or(locks.started_at),
        };
        self.put_bytes.fetch_add(bytes, Ordering::Relaxed);
        known.add(segment.clone());
        self.unrecorded.add(segment.clone());
        Ok(segment)
    }

    /// Leaves the run if more than half of `budget_bytes` has waited for this repository for longer than [`LAG_MAX`], while
    /// nearly nothing waited for another one.
    pub(super) fn check_lag(&self, others: &[&Self], budget_bytes: u64, context: &Context) {
        let waiting = |each: &Self| each.waiting_bytes.load(Ordering::Relaxed);
        let behind = waiting(self) > budget_bytes / 2
            && others.iter().any(|other| other.is_alive() && waiting(other) < budget_bytes / 16);
        let now = context.clock.now();
        let mut since = locked(&self.behind_since);
        let lag = if behind { now - *since.get_or_insert(now) } else { TimeDelta::zero() };
        if !behind {
            *since = None;
        }
        drop(since);
        if lag.to_std().is_ok_and(|lag| lag > LAG_MAX) {
            self.fail(BackupError::Behind { secs: LAG_MAX.as_secs() }, context);
        }
    }
}

/// Bytes that wait for a repository, until this is dropped.
#[derive(Debug)]
struct Waiting<'a> {
    count: &'a AtomicU64,
    bytes: u64,
}

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicU64, bytes: u64) -> Self {
        count.fetch_add(bytes, Ordering::Relaxed);
        Self { count, bytes }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A thread that panicked here left a value that is whole: each change is one call.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
