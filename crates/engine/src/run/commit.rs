//! From stored segments to a snapshot, in each repository: catalog, inventory and manifest are put, in this order. The
//! manifest's PUT is the commit.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use stonekeep_format::{
    catalog::Catalog,
    ids::Digest,
    inventory::{Inventory, Segment, SegmentKind, TableTotals},
    key::ObjectKey,
    lock::{self, Lock},
    manifest::{InventoryRef, Manifest, Totals, Versions},
    signature::{SignedDocument, sign_document},
    tier::Tier,
};
use stonekeep_store::{
    AppendStore, PutReceipt, StoreError, list_key, put_fresh, put_locked, see_locked,
};

use super::{
    BackupError, BackupReport, Copies, Outcome, Piece, Run,
    destination::Destination,
    prepare::server_time,
    suspicion::{Sizes, shrunk},
};
use crate::events::Event;

/// How often a manifest is sent (3) before its outcome is called unknown.
const MANIFEST_TRIES: u32 = 3;

/// A dump that was read to its end and stored.
#[derive(Debug)]
pub struct Contents {
    /// The catalog, but for repository and snapshot, which each repository gets its own of.
    pub catalog: Catalog,
    /// The segments in the order of the inventory, without the catalog's.
    pub segments: Vec<Copies>,
    /// What each table held.
    pub tables: Vec<TableTotals>,
    /// Tables, rows and large objects; the rest is summed here.
    pub totals: Totals,
    /// What made it.
    pub versions: Versions,
}

impl Run {
    /// Commits the snapshot in every repository that is still in the run, one after another. `failed` are the outcomes of
    /// those that were never in it.
    pub async fn commit(self, contents: &Contents, failed: Vec<Outcome>) -> Vec<Outcome> {
        let mut outcomes = failed;
        for (at, destination) in self.0.destinations.iter().enumerate() {
            if destination.is_alive()
                && let Err(error) = self.commit_in((at, destination), contents, &mut outcomes).await
            {
                let maybe = match &error {
                    BackupError::Uncertain { key, .. } => Some(key.clone()),
                    _ => None,
                };
                self.record_in(destination, error.phrase(), maybe).await;
                destination.fail(error, &self.0.context);
            }
        }
        outcomes.extend(self.failures());
        outcomes
    }

    /// Returns what became of the repositories that have left the run.
    pub fn failures(&self) -> Vec<Outcome> {
        let failure = |destination: &Destination| {
            let error = destination.take_failure()?;
            Some(Outcome { repository: destination.name.clone(), result: Err(error) })
        };
        self.0.destinations.iter().filter_map(failure).collect()
    }

    async fn commit_in(
        &self,
        (at, destination): (usize, &Destination),
        contents: &Contents,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), BackupError> {
        let report = Committing { run: self, at, destination }.commit(contents).await?;
        outcomes.push(Outcome { repository: destination.name.clone(), result: Ok(report) });
        Ok(())
    }
}

/// The commit in one repository.
struct Committing<'a> {
    run: &'a Run,
    at: usize,
    destination: &'a Destination,
}

impl Committing<'_> {
    async fn commit(&self, contents: &Contents) -> Result<BackupReport, BackupError> {
        let mut segments = Vec::new();
        for copies in &contents.segments {
            segments.push(self.mine(copies)?);
        }
        segments.push(self.put_catalog(&contents.catalog).await?);
        let totals = self.totals(contents, &segments);
        let suspicious = self.suspicious(&totals, &contents.tables);
        let tier = self.tier(suspicious.is_some());
        let inventory = self.put_inventory(&tier, segments, contents.tables.clone()).await?;
        let store = &*self.destination.prepared.store;
        let committed_at = server_time(store).await?;
        lock::check_skew(self.run.0.context.clock.now(), committed_at)?;
        let manifest = self.manifest(contents, (tier, suspicious), inventory, totals, committed_at);
        self.put_manifest(&manifest).await?;
        self.destination.unrecorded.clear();
        Ok(self.report(manifest, contents))
    }

    fn mine(&self, copies: &Copies) -> Result<Segment, BackupError> {
        copies.0.get(self.at).cloned().flatten().ok_or_else(|| {
            BackupError::Internal(
                "a repository that lacks a segment was to be committed".to_owned(),
            )
        })
    }

    async fn put_catalog(&self, catalog: &Catalog) -> Result<Segment, BackupError> {
        let catalog = Catalog {
            repository: self.destination.prepared.repository.genesis.repository,
            id: self.run.0.id.clone(),
            ..catalog.clone()
        };
        let plaintext = serde_json::to_vec(&catalog)
            .map_err(|error| BackupError::Internal(format!("cannot write the catalog: {error}")))?;
        let piece = Piece { kind: SegmentKind::Catalog, member: None, plaintext, held: None };
        self.run.keep_in(self.destination, piece).await
    }

    fn totals(&self, contents: &Contents, segments: &[Segment]) -> Totals {
        let sum = |bytes: fn(&Segment) -> u64| segments.iter().map(bytes).sum();
        Totals {
            segments: segments.len() as u64,
            plain_bytes: sum(|segment| segment.plain_bytes),
            sealed_bytes: sum(|segment| segment.bytes),
            put_bytes: self.destination.put_bytes(),
            ..contents.totals
        }
    }

    fn suspicious(&self, totals: &Totals, tables: &[TableTotals]) -> Option<String> {
        let (old_totals, old_tables) = self.destination.prepared.baseline.as_ref()?;
        let before = Sizes { totals: old_totals, tables: old_tables };
        shrunk(before, Sizes { totals, tables }, self.run.0.plan.shrink_percent_max)
    }

    /// A suspicious snapshot takes the shortest tier, so that it pushes no good one out.
    fn tier(&self, is_suspicious: bool) -> Tier {
        let shortest = self.run.0.plan.tiers.iter().min_by_key(|tier| tier.keep);
        match shortest.filter(|_| is_suspicious) {
            Some(tier) => tier.clone(),
            None => self.destination.prepared.tier.clone(),
        }
    }

    async fn put_inventory(
        &self,
        tier: &Tier,
        segments: Vec<Segment>,
        tables: Vec<TableTotals>,
    ) -> Result<InventoryRef, BackupError> {
        let prepared = &self.destination.prepared;
        let promised_until = lock::promised_until(server_time(&*prepared.store).await?, tier.keep);
        for segment in &segments {
            outlives(&segment.key, segment.lock.retain_until, promised_until)?;
        }
        let inventory = Inventory {
            format: Inventory::FORMAT.to_owned(),
            repository: prepared.repository.genesis.repository,
            label: self.run.0.plan.label.clone(),
            id: self.run.0.id.clone(),
            segments,
            tables,
        };
        let stored = Bytes::from(inventory.dump().map_err(BackupError::Inventory)?);
        let lock = prepared.locks.of_document()?;
        let receipt = self.put_inventory_bytes(stored.clone(), lock).await?;
        outlives(&receipt.key, receipt.lock.retain_until, promised_until)?;
        if let Some(state) = &prepared.state {
            state.keep(&receipt, &stored)?;
        }
        Ok(InventoryRef {
            key: receipt.key,
            bucket: prepared.store.bucket().clone(),
            version_id: receipt.version_id,
            bytes: stored.len() as u64,
            digest: Digest::of(&stored),
            lock: receipt.lock,
        })
    }

    /// An inventory's key has no random part, so a second try makes a new version of the same key; the manifest names which.
    async fn put_inventory_bytes(
        &self,
        body: Bytes,
        lock: Lock,
    ) -> Result<PutReceipt, BackupError> {
        let prepared = &self.destination.prepared;
        let key = ObjectKey::inventory(prepared.locks.class(lock), &self.run.0.id);
        let clock = &*self.run.0.context.clock;
        let put = put_fresh(&*prepared.store, clock, || key.clone(), body, lock).await;
        put.map_err(|source| BackupError::Store {
            action: "store the inventory under lock",
            source,
        })
    }

    fn manifest(
        &self,
        contents: &Contents,
        (tier, suspicious): (Tier, Option<String>),
        inventory: InventoryRef,
        totals: Totals,
        committed_at: DateTime<Utc>,
    ) -> Manifest {
        let (prepared, run) = (&self.destination.prepared, &self.run.0);
        let position = &prepared.position;
        Manifest {
            format: Manifest::FORMAT.to_owned(),
            repository: prepared.repository.genesis.repository,
            label: run.plan.label.clone(),
            key: ObjectKey::manifest(&run.plan.label, position.seq, position.chain, &run.id),
            id: run.id.clone(),
            seq: position.seq,
            chain: position.chain,
            previous: position.previous.clone(),
            live: position.live.clone(),
            maybe: prepared.maybe.clone(),
            tier: tier.name,
            keep: tier.keep,
            started_at: prepared.locks.started_at,
            snapshot_at: contents.catalog.snapshot_at,
            committed_at,
            promised_until: lock::promised_until(committed_at, tier.keep),
            suspicious,
            inventory,
            totals,
            recipients: run.recipients.fingerprint(),
            versions: contents.versions.clone(),
        }
    }

    /// Puts the manifest. Its bytes are the same each time, so a second version of it does no harm: readers take the oldest.
    async fn put_manifest(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let prepared = &self.destination.prepared;
        let lock = prepared.locks.of_document()?;
        outlives(&manifest.key, lock.retain_until, manifest.promised_until)?;
        let signed = sign_document(manifest, &self.run.0.plan.signer).map_err(BackupError::Sign)?;
        if signed.len() as u64 > Manifest::BYTES_MAX {
            let bytes = signed.len();
            return Err(BackupError::Incomplete {
                what: format!(
                    "the manifest has {bytes} bytes, more than readers take: too many live snapshots"
                ),
            });
        }
        let body = Bytes::from(signed);
        if let Some(state) = &prepared.state {
            state.begin(&manifest.key)?;
        }
        let receipt = self.send_manifest(&manifest.key, &body, lock).await?;
        if let Some(state) = &prepared.state {
            state.keep(&receipt, &body)?;
            state.prune()?;
        }
        Ok(())
    }

    /// Sends it until it is there, be it that no answer came.
    async fn send_manifest(
        &self,
        key: &ObjectKey,
        body: &Bytes,
        lock: Lock,
    ) -> Result<PutReceipt, BackupError> {
        let store = &*self.destination.prepared.store;
        let mut tries = 1;
        loop {
            let error = match put_locked(store, key, body.clone(), lock).await {
                Ok(receipt) => return Ok(receipt),
                Err(error) => error,
            };
            if !error.is_transient() {
                let action = "store the manifest under lock";
                return Err(BackupError::Store { action, source: error });
            }
            if let Some(receipt) = landed(store, key, body, lock).await {
                return Ok(receipt);
            }
            if tries == MANIFEST_TRIES {
                return Err(BackupError::Uncertain { key: key.clone(), source: error });
            }
            self.run.0.context.tell(Event::Retried {
                action: "put the manifest".to_owned(),
                reason: error.to_string(),
            });
            tries += 1;
        }
    }

    fn report(&self, manifest: Manifest, contents: &Contents) -> BackupReport {
        let context = &self.run.0.context;
        let repository = self.destination.name.clone();
        if let Some(why) = &manifest.suspicious {
            context.warn(format!("the snapshot in {repository} is suspicious: {why}"));
        }
        context.tell(Event::Committed {
            repository: repository.clone(),
            label: manifest.label.clone(),
            snapshot: manifest.id.clone(),
            tier: manifest.tier.clone(),
            promised_until: manifest.promised_until,
        });
        BackupReport {
            repository,
            label: manifest.label,
            snapshot: manifest.id,
            seq: manifest.seq,
            chain: manifest.chain,
            tier: manifest.tier,
            suspicious: manifest.suspicious,
            committed_at: manifest.committed_at,
            promised_until: manifest.promised_until,
            totals: manifest.totals,
            duration_ms: 0,
            warnings: contents.catalog.warnings.clone(),
        }
    }
}

fn outlives(
    key: &ObjectKey,
    retain_until: DateTime<Utc>,
    promised_until: DateTime<Utc>,
) -> Result<(), BackupError> {
    if retain_until > promised_until {
        return Ok(());
    }
    Err(BackupError::PromiseOutlivesLock { key: key.to_string(), retain_until, promised_until })
}

/// Returns the version of a manifest whose PUT got no answer, if one is there and is locked as it must be.
async fn landed(
    store: &dyn AppendStore,
    key: &ObjectKey,
    body: &Bytes,
    lock: Lock,
) -> Option<PutReceipt> {
    let versions = list_key(store, key).await.ok()?.versions;
    for version in versions.into_iter().filter(|each| each.bytes == body.len() as u64) {
        let is_same = match store.get(key, &version.version_id, version.bytes).await {
            Ok(bytes) => bytes == *body,
            // A writer without that right; nobody else knows this key.
            Err(StoreError::Denied { .. }) => true,
            Err(_) => false,
        };
        if is_same && let Ok(receipt) = see_locked(store, key, version.version_id, lock).await {
            return Some(receipt);
        }
    }
    None
}
