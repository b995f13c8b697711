//! Records of what a run has stored, for the next one if this one breaks.

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::join_all;
use stonekeep_format::{
    attempt::Attempt,
    ids::{Digest, SnapshotId},
    inventory::{Inventory, Segment},
    key::ObjectKey,
    lock,
    manifest::InventoryRef,
    signature::{SignedDocument, sign_document},
};
use stonekeep_store::put_fresh;

use super::{
    BackupError, Run,
    destination::{Destination, locked},
    prepare::server_time,
};

/// Segments after which a record is written (32): 256 MiB of heap, which is the most that a run that is killed stores in vain.
const RECORD_SEGMENTS: usize = 32;
/// The reason in a record of a run that has not ended.
pub(crate) const RUNNING: &str = "running";

/// What a run has stored in one repository and no attempt record names yet.
#[derive(Debug)]
pub(super) struct Unrecorded {
    segments: Mutex<Vec<Segment>>,
    /// Held by whoever writes a record: how many segments there must be for the next.
    due: tokio::sync::Mutex<usize>,
}

impl Unrecorded {
    pub(super) fn new() -> Self {
        Self { segments: Mutex::default(), due: tokio::sync::Mutex::new(RECORD_SEGMENTS) }
    }

    pub(super) fn add(&self, segment: Segment) {
        locked(&self.segments).push(segment);
    }

    /// A manifest names them now.
    pub(super) fn clear(&self) {
        locked(&self.segments).clear();
    }

    fn len(&self) -> usize {
        locked(&self.segments).len()
    }
}

impl Run {
    /// Records in every repository what was stored there since the last record. `reason` is why the run ended, or `running`.
    /// A record that cannot be written is said, and costs storing the same again.
    pub async fn record(&self, reason: &str) {
        let record = |destination| self.record_in(destination, reason, None);
        join_all(self.0.destinations.iter().map(record)).await;
    }

    /// Records where enough was stored since the last record, and nobody is about to.
    pub(super) async fn record_if_many(&self) {
        for destination in &self.0.destinations {
            if let Ok(due) = destination.unrecorded.due.try_lock()
                && destination.unrecorded.len() >= *due
            {
                self.record_as(destination, RUNNING, None, due).await;
            }
        }
    }

    /// Records what was stored in one repository; `maybe` is a manifest that was sent and not answered.
    pub(super) async fn record_in(
        &self,
        destination: &Destination,
        reason: &str,
        maybe: Option<ObjectKey>,
    ) {
        let due = destination.unrecorded.due.lock().await;
        if maybe.is_some() || destination.unrecorded.len() > 0 {
            self.record_as(destination, reason, maybe, due).await;
        }
    }

    /// What is recorded stays in the list until the record is there, whatever becomes of this call.
    async fn record_as(
        &self,
        destination: &Destination,
        reason: &str,
        maybe: Option<ObjectKey>,
        mut due: tokio::sync::MutexGuard<'_, usize>,
    ) {
        let segments = locked(&destination.unrecorded.segments).clone();
        let count = segments.len();
        match self.put_record(destination, segments, reason, maybe).await {
            Ok(()) => {
                let mut left = locked(&destination.unrecorded.segments);
                let count = count.min(left.len());
                left.drain(..count);
                *due = RECORD_SEGMENTS;
            }
            Err(error) => {
                *due = count + RECORD_SEGMENTS;
                self.0.context.warn(format!(
                    "cannot record in {} what was stored ({}): the next run stores it again",
                    destination.name,
                    chain_of(&error)
                ));
            }
        }
    }

    async fn put_record(
        &self,
        destination: &Destination,
        segments: Vec<Segment>,
        reason: &str,
        maybe: Option<ObjectKey>,
    ) -> Result<(), BackupError> {
        let prepared = &destination.prepared;
        let (store, locks) = (&prepared.store, &prepared.locks);
        let written_at = server_time(&**store).await?;
        lock::check_skew(self.0.context.clock.now(), written_at)?;
        let id = SnapshotId::new(written_at, rand::random());
        let lock = locks.of_attempt()?;
        let (repository, label) = (prepared.repository.genesis.repository, &self.0.plan.label);
        let inventory = Inventory {
            format: Inventory::FORMAT.to_owned(),
            repository,
            label: label.clone(),
            id: id.clone(),
            segments,
            tables: Vec::new(),
        };
        let stored = Bytes::from(inventory.dump().map_err(BackupError::Inventory)?);
        let put = |key: ObjectKey, body: Bytes| async move {
            let put =
                put_fresh(&**store, &*self.0.context.clock, || key.clone(), body.clone(), lock);
            let receipt = put.await.map_err(|source| BackupError::Store {
                action: "store an attempt record",
                source,
            })?;
            if let Some(state) = &prepared.state {
                state.keep(&receipt, &body)?;
            }
            Ok::<_, BackupError>(receipt)
        };
        let receipt = put(ObjectKey::inventory(locks.class(lock), &id), stored.clone()).await?;
        let attempt = Attempt {
            format: Attempt::FORMAT.to_owned(),
            repository,
            label: label.clone(),
            key: ObjectKey::attempt(label, &id),
            snapshot: self.0.id.clone(),
            started_at: locks.started_at,
            written_at,
            reason: reason.to_owned(),
            maybe,
            inventory: InventoryRef {
                key: receipt.key,
                bucket: store.bucket().clone(),
                version_id: receipt.version_id,
                bytes: stored.len() as u64,
                digest: Digest::of(&stored),
                lock: receipt.lock,
            },
            id,
        };
        let signed = sign_document(&attempt, &self.0.plan.signer).map_err(BackupError::Sign)?;
        put(attempt.key, Bytes::from(signed)).await.map(drop)
    }
}

/// An error with its sources, in one line.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
