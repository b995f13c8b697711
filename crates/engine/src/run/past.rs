//! What earlier runs have left: the chain to continue, the segments to reuse, the sizes to compare with.
//!
//! Only what our own signer signed is believed here. A writer that may not read the bucket has kept the same objects in its
//! state directory, and they are read the same way.

use std::{collections::BTreeMap, error::Error as _};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, pin_mut, stream};
use stonekeep_format::{
    attempt::Attempt,
    chain::Chains,
    ids::{Label, SnapshotId},
    inventory::{Inventory, Segment, TableTotals},
    key::{ObjectKey, Place},
    lock::SKEW_MAX,
    manifest::{InventoryRef, Link, Manifest, Totals},
    signature::{Found, Namespace, SignatureError, SignedDocument, Signer, Trust, verify_document},
};
use stonekeep_store::{ObjectVersion, ReadStore, StoreError, list_keys, oldest_verified};

use crate::{
    Context,
    history::{History, Snapshot, follow},
    repository::{Repository, RepositoryError},
    segments::{SegmentError, load_inventory},
};

/// Snapshots whose inventories are read (4): the newest, and with it the heads of a fork or of other chains.
const INVENTORIES_MAX: usize = 4;
/// Attempt records that are read (4096), the newest ones: at one for every 32 segments, a broken run of a terabyte.
const ATTEMPTS_MAX: usize = 4096;
/// Versions of one record that are looked at (8), the oldest: its key is random, so ours is the first.
const ATTEMPT_VERSIONS_MAX: usize = 8;
/// Attempt records that are fetched at the same time (8), each with its list of some 32 segments.
const FETCHES_MAX: usize = 8;

/// What a run continues.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// What the manifests that no newer one vouches for say of each other, and of the rest.
    pub(super) chains: Chains,
    /// Every snapshot that is known, from them.
    pub(super) links: Vec<Link>,
    /// Whether the inventory of a snapshot of ours was read.
    pub(super) has_inventory: bool,
    /// Segments that may be reused, from older documents first.
    pub(super) named: Vec<Segment>,
    /// Manifests that broken runs have sent without an answer.
    pub(super) maybe: Vec<ObjectKey>,
    /// What the newest snapshot that is not suspicious held.
    pub(super) baseline: Option<(Totals, Vec<TableTotals>)>,
}

/// What may be a record of ours.
#[derive(Debug)]
struct Candidate<'r> {
    store: &'r dyn ReadStore,
    key: ObjectKey,
    versions: Vec<ObjectVersion>,
}

/// Who reads, and for whom.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) repository: &'a Repository,
    pub(super) label: &'a Label,
    /// Trusts our own signer and nobody else.
    own: Trust,
    context: &'a Context,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        label: &'a Label,
        signer: &Signer,
        context: &'a Context,
    ) -> Result<Self, SignatureError> {
        let mut own = Trust::none();
        own.allow(&signer.public_line()?, &[Namespace::Manifest, Namespace::Attempt], None, None)?;
        Ok(Self { repository, label, own, context })
    }

    /// Reads what there is. What cannot be read for reuse costs storing it again, and is said.
    ///
    /// # Errors
    /// [`RepositoryError`] if manifests cannot be listed or read: a chain must not be continued from a part of it.
    pub(super) async fn read(&self) -> Result<Past, RepositoryError> {
        let mut history = History::load_newest(self.repository, self.label).await?;
        let of_label = history.labels.remove(self.label).unwrap_or_default();
        let mut snapshots = of_label.snapshots;
        snapshots.sort_by(|a, b| a.manifest.id.cmp(&b.manifest.id));
        let links = of_label.chains.known();
        let mut past = Past { chains: of_label.chains, links, ..Past::default() };
        for snapshot in &snapshots[snapshots.len().saturating_sub(INVENTORIES_MAX)..] {
            self.take(&mut past, snapshot).await;
        }
        if past.baseline.is_none()
            && let Some(link) = past.links.iter().rev().find(|link| !link.suspicious).cloned()
            && let Some(snapshot) = follow(self.repository, self.label, &link).await?
        {
            self.take(&mut past, &snapshot).await;
        }
        let newest = past.links.iter().map(|link| link.committed_at).max();
        self.attempts(&mut past, newest).await;
        Ok(past)
    }

    /// Takes the segments of a snapshot of ours.
    async fn take(&self, past: &mut Past, snapshot: &Snapshot) {
        match self.inventory_of(snapshot).await {
            Ok(Some(Inventory { segments, tables, .. })) => {
                past.has_inventory = true;
                past.named.extend(segments);
                if snapshot.manifest.suspicious.is_none() {
                    past.baseline = Some((snapshot.manifest.totals, tables));
                }
            }
            Ok(None) => {}
            Err(error) => self.lost(&snapshot.manifest.inventory, &error),
        }
    }

    fn lost(&self, inventory: &InventoryRef, error: &SegmentError) {
        let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        self.context
            .warn(format!("cannot read {} ({why}): what it names is stored again", inventory.key));
    }

    /// The inventory of a snapshot, if our own signer signed its manifest.
    async fn inventory_of(&self, snapshot: &Snapshot) -> Result<Option<Inventory>, SegmentError> {
        let Snapshot { manifest, version, .. } = snapshot;
        let store = self.repository.stores.of(&manifest.inventory.bucket);
        let bytes = store.get(&version.key, &version.version_id, Manifest::BYTES_MAX).await;
        let bytes = bytes.map_err(|source| SegmentError::Store {
            key: version.key.clone(),
            source: Box::new(source),
        })?;
        let found = Found { key: &version.key, repository: Some(manifest.repository) };
        if verify_document::<Manifest>(&bytes, found, &self.own).is_err() {
            return Ok(None);
        }
        load_inventory(self.repository, &manifest.inventory, &manifest.id).await.map(Some)
    }

    /// Takes what broken runs have stored since the newest snapshot was committed.
    async fn attempts(&self, past: &mut Past, newest: Option<DateTime<Utc>>) {
        let keys = match self.newest_attempts(newest).await {
            Ok(keys) => keys,
            Err(error) => {
                self.context.warn(format!("cannot list attempt records ({error}): what broken runs have stored is stored again"));
                return;
            }
        };
        let records = stream::iter(keys.into_values())
            .map(|candidate| async move { self.record(&candidate).await })
            .buffered(FETCHES_MAX);
        pin_mut!(records);
        while let Some(record) = records.next().await {
            let Some((attempt, segments)) = record else { continue };
            past.named.extend(segments);
            past.maybe.extend(attempt.maybe);
        }
    }

    async fn newest_attempts(
        &self,
        newest: Option<DateTime<Utc>>,
    ) -> Result<BTreeMap<(SnapshotId, usize), Candidate<'_>>, StoreError> {
        let prefix = format!("attempts/{}/", self.label);
        let skew = TimeDelta::from_std(SKEW_MAX).unwrap_or(TimeDelta::MAX);
        let latest = self.context.clock.now() + skew * 2;
        let mut found = BTreeMap::new();
        for (at, store) in self.repository.stores.all().enumerate() {
            let keys = list_keys(&**store, &prefix);
            pin_mut!(keys);
            while let Some((key, versions)) = keys.try_next().await? {
                let Some(Place::Attempt(_, id)) = Place::of(&key) else { continue };
                // What is dated later than now is nobody's.
                if newest.is_none_or(|newest| id.begun_at() >= newest) && id.begun_at() <= latest {
                    let mut versions = versions.versions;
                    versions.truncate(ATTEMPT_VERSIONS_MAX);
                    found.insert((id, at), Candidate { store: &**store, key, versions });
                    if found.len() > ATTEMPTS_MAX {
                        found.pop_first();
                    }
                }
            }
        }
        Ok(found)
    }

    /// A record of ours, and the segments that it names.
    async fn record(&self, candidate: &Candidate<'_>) -> Option<(Attempt, Vec<Segment>)> {
        let attempt = self.attempt(candidate).await?;
        let inventory = load_inventory(self.repository, &attempt.inventory, &attempt.id).await;
        let segments = match inventory {
            Ok(inventory) => inventory.segments,
            Err(error) => {
                self.lost(&attempt.inventory, &error);
                Vec::new()
            }
        };
        Some((attempt, segments))
    }

    async fn attempt(&self, candidate: &Candidate<'_>) -> Option<Attempt> {
        let Candidate { store, key, versions } = candidate;
        let found = Found { key, repository: Some(self.repository.genesis.repository) };
        let verify = |bytes: &[u8]| verify_document::<Attempt>(bytes, found, &self.own);
        match oldest_verified(*store, versions, Attempt::BYTES_MAX, verify).await {
            Ok(verified) => verified.value.map(|(attempt, _)| attempt),
            Err(error) => {
                self.context
                    .warn(format!("cannot read {key} ({error}): what it names is stored again"));
                None
            }
        }
    }
}

/// Whether this says that the writer's credential may not read.
pub(super) fn is_denied(error: &RepositoryError) -> bool {
    matches!(error, RepositoryError::Store { source: StoreError::Denied { .. }, .. })
}
