//! From plaintext to a locked segment: seal on a blocking thread, put under a fresh key, read the lock back.

use std::sync::Arc;

use bytes::Bytes;
use stonekeep_format::{
    Clock,
    codec::{Recipients, SegmentKeyer, seal},
    ids::{MemberName, Nonce},
    inventory::{Segment, SegmentKind},
    key::ObjectKey,
    lock::{Class, Lock},
};
use stonekeep_store::{AppendStore, put_fresh};
use tokio::task::JoinSet;

use super::{BackupError, BackupPlan, Prepared, budget::Held};
use crate::{Context, events::Event};

/// Everything that sealing and putting needs, shared by all workers of a run.
#[derive(Debug, Clone)]
pub(super) struct Uploader {
    store: Arc<dyn AppendStore>,
    clock: Arc<dyn Clock>,
    recipients: Arc<Recipients>,
    keyer: SegmentKeyer,
    level: i32,
    lock: Lock,
    class: Class,
    since: chrono::DateTime<chrono::Utc>,
    context: Context,
}

/// A piece of plaintext on its way into the bucket.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) kind: SegmentKind,
    pub(super) member: Option<MemberName>,
    pub(super) plaintext: Vec<u8>,
    /// The budget it holds: room for the plaintext and for what sealing makes of it. `None` for the few small pieces that
    /// are put after the copying, one at a time.
    pub(super) held: Option<Held>,
}

impl Uploader {
    pub(super) fn new(plan: &BackupPlan, prepared: &Prepared, context: &Context) -> Self {
        Self {
            store: Arc::clone(&prepared.store),
            clock: Arc::clone(&context.clock),
            recipients: Arc::clone(&prepared.recipients),
            keyer: prepared.keyer.clone(),
            level: plan.compression_level,
            lock: prepared.lock,
            class: prepared.class,
            since: prepared.started_at,
            context: context.clone(),
        }
    }

    /// Seals a piece and stores it. The segment that is returned is there, and its lock was read back.
    pub(super) async fn store(&self, piece: Piece) -> Result<Segment, BackupError> {
        let Piece { kind, member, plaintext, mut held } = piece;
        let plain_bytes = plaintext.len() as u64;
        let (keyer, recipients, level) =
            (self.keyer.clone(), Arc::clone(&self.recipients), self.level);
        let sealing = tokio::task::spawn_blocking(move || {
            let id = keyer.id(kind, &plaintext);
            seal(&plaintext, level, &recipients).map(|sealed| (id, sealed))
        });
        let (id, sealed) = sealing.await.map_err(BackupError::Task)?.map_err(BackupError::Seal)?;
        let bytes = sealed.bytes.len() as u64;
        if let Some(held) = &mut held {
            held.shrink(bytes);
        }
        let fresh_key = || ObjectKey::segment(self.class, id, Nonce::from_bytes(rand::random()));
        let failed = |source| BackupError::Store { action: "store a segment under lock", source };
        let body = Bytes::from(sealed.bytes);
        let receipt = put_fresh(&*self.store, &*self.clock, fresh_key, body, self.lock)
            .await
            .map_err(failed)?;
        self.context.tell(Event::SegmentPut {
            kind,
            plain_bytes,
            sealed_bytes: bytes,
            lock: receipt.lock,
        });
        Ok(Segment {
            kind,
            member,
            id,
            key: receipt.key,
            bucket: self.store.bucket().clone(),
            version_id: receipt.version_id,
            bytes,
            digest: sealed.digest,
            plain_bytes,
            lock: receipt.lock,
            checked_at: self.since,
            since: self.since,
        })
    }
}

/// Where a stored segment belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// A slice of a table: its position in the dump's list, the first page of the range it was read from, and the cut within.
    Table { table: usize, page: u32, cut: u32 },
    /// Whole tables, by their positions.
    Tables(Vec<usize>),
    /// A slice of a large object: its OID and the cut.
    LargeObject { oid: u32, cut: u32 },
    /// Whole large objects, by the first one's OID.
    LargeObjects { first_oid: u32 },
}

/// The uploads of one worker, in flight. How many there are is bounded by the budget their pieces hold.
#[derive(Debug)]
pub(super) struct Uploads {
    uploader: Uploader,
    running: JoinSet<Result<(Slot, Segment), BackupError>>,
    stored: Vec<(Slot, Segment)>,
}

impl Uploads {
    pub(super) fn new(uploader: Uploader) -> Self {
        Self { uploader, running: JoinSet::new(), stored: Vec::new() }
    }

    /// Begins to store a piece; fails if an earlier one of this worker did.
    pub(super) fn begin(&mut self, slot: Slot, piece: Piece) -> Result<(), BackupError> {
        while let Some(done) = self.running.try_join_next() {
            self.stored.push(done.map_err(BackupError::Task)??);
        }
        let uploader = self.uploader.clone();
        self.running
            .spawn(async move { uploader.store(piece).await.map(|segment| (slot, segment)) });
        Ok(())
    }

    /// Waits for all of them.
    pub(super) async fn finish(mut self) -> Result<Vec<(Slot, Segment)>, BackupError> {
        while let Some(done) = self.running.join_next().await {
            self.stored.push(done.map_err(BackupError::Task)??);
        }
        Ok(self.stored)
    }
}
