//! Records of what a run has stored, for the next one if this one breaks.

use bytes::Bytes;
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
pub(super) const RECORD_SEGMENTS: usize = 32;

impl Run {
    /// Records in every repository what was stored there since the last record. `reason` is why the run ended, or `running`.
    /// A record that cannot be written is said, and costs storing the same again.
    pub async fn record(&self, reason: &str) {
        for destination in &self.0.destinations {
            let stored = std::mem::take(&mut *locked(&destination.unrecorded));
            if !stored.is_empty() {
                self.record_in(destination, stored, reason, None).await;
            }
        }
    }

    /// Records where enough was stored since the last record.
    pub(super) async fn record_if_many(&self) {
        for destination in &self.0.destinations {
            let stored = {
                let mut unrecorded = locked(&destination.unrecorded);
                if unrecorded.len() < RECORD_SEGMENTS {
                    continue;
                }
                std::mem::take(&mut *unrecorded)
            };
            self.record_in(destination, stored, "running", None).await;
        }
    }

    pub(super) async fn record_in(
        &self,
        destination: &Destination,
        stored: Vec<Segment>,
        reason: &str,
        maybe: Option<ObjectKey>,
    ) {
        if let Err(error) = self.put_record(destination, stored, reason, maybe).await {
            self.0.context.warn(format!(
                "cannot record in {} what was stored ({}): the next run stores it again",
                destination.name,
                chain_of(&error)
            ));
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
            reason: reason.chars().take(1000).collect(),
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
