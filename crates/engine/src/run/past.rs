//! What earlier runs have left: the chain to continue, the segments to reuse, the sizes to compare with.
//!
//! Only what our own signer signed is believed here. A writer that may not read the bucket has kept the same objects in its
//! state directory, and they are read the same way.

use stonekeep_format::{
    attempt::Attempt,
    chain,
    ids::{Label, SnapshotId},
    inventory::{Inventory, Segment},
    key::{ObjectKey, Place},
    manifest::{InventoryRef, Link, Manifest},
    signature::{Found, Namespace, SignatureError, SignedDocument, Signer, Trust, verify_document},
};
use stonekeep_store::{ObjectVersion, StoreError, list_all, oldest_verified};

use crate::{
    Context,
    history::History,
    repository::{Repository, RepositoryError, by_key},
    segments::{SegmentError, load_inventory},
};

/// Snapshots whose inventories are read (4): the newest, and with it the heads of a fork or of other chains.
const INVENTORIES_MAX: usize = 4;
/// Attempt records that are read (4096), the newest ones: at one for every 32 segments, a broken run of a terabyte.
const ATTEMPTS_MAX: usize = 4096;
/// How many versions under `attempts/` are looked at (1 000 000): they expire after days, so more is junk.
const ATTEMPT_VERSIONS_MAX: usize = 1_000_000;

/// What a run continues.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// The manifests that were read, oldest first: those that no newer one vouches for.
    pub(super) snapshots: Vec<chain::Verified>,
    /// Every snapshot that is known, from them.
    pub(super) links: Vec<Link>,
    /// Segments that may be reused, from older documents first.
    pub(super) named: Vec<Segment>,
    /// Manifests that broken runs have sent without an answer.
    pub(super) maybe: Vec<ObjectKey>,
    /// The newest snapshot that is not suspicious, with its inventory.
    pub(super) baseline: Option<(Manifest, Inventory)>,
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
        let history = History::load_newest(self.repository, self.label).await?;
        let snapshots = history.of(self.label).to_vec();
        let links = chain::known(&snapshots);
        let mut past = Past { links, ..Past::default() };
        let newest = snapshots.iter().rev().take(INVENTORIES_MAX);
        for snapshot in newest.collect::<Vec<_>>().into_iter().rev() {
            let version = history.versions.get(&snapshot.manifest.id);
            self.take(&mut past, &snapshot.manifest, version).await;
        }
        if past.baseline.is_none()
            && let Some(link) = past.links.iter().rev().find(|link| !link.suspicious).cloned()
            && let Some((snapshot, version)) =
                History::follow(self.repository, self.label, &link).await?
        {
            self.take(&mut past, &snapshot.manifest, Some(&version)).await;
        }
        let newest = snapshots.iter().map(|each| &each.manifest.id).max();
        self.attempts(&mut past, newest).await;
        past.snapshots = snapshots;
        Ok(past)
    }

    /// Takes the segments of a snapshot of ours.
    async fn take(&self, past: &mut Past, manifest: &Manifest, version: Option<&ObjectVersion>) {
        match self.inventory_of(manifest, version).await {
            Ok(Some(inventory)) => {
                past.named.extend(inventory.segments.iter().cloned());
                if manifest.suspicious.is_none() {
                    past.baseline = Some((manifest.clone(), inventory));
                }
            }
            Ok(None) => {}
            Err(error) => self.lost(&manifest.inventory, &error),
        }
    }

    fn lost(&self, inventory: &InventoryRef, error: &SegmentError) {
        let why =
            std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        self.context
            .warn(format!("cannot read {} ({why}): what it names is stored again", inventory.key));
    }

    /// The inventory of a snapshot, if our own signer signed its manifest.
    async fn inventory_of(
        &self,
        manifest: &Manifest,
        version: Option<&ObjectVersion>,
    ) -> Result<Option<Inventory>, SegmentError> {
        let Some(version) = version else { return Ok(None) };
        let store = &*self.repository.store;
        let bytes = match store.get(&version.key, &version.version_id, Manifest::BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(source) => {
                return Err(SegmentError::Store {
                    key: version.key.clone(),
                    source: Box::new(source),
                });
            }
        };
        let found = Found { key: &version.key, repository: Some(manifest.repository) };
        if verify_document::<Manifest>(&bytes, found, &self.own).is_err() {
            return Ok(None);
        }
        load_inventory(self.repository, &manifest.inventory, &manifest.id).await.map(Some)
    }

    /// Takes what broken runs have stored since the newest snapshot.
    async fn attempts(&self, past: &mut Past, newest: Option<&SnapshotId>) {
        let prefix = format!("attempts/{}/", self.label);
        let listing = match list_all(&*self.repository.store, &prefix, ATTEMPT_VERSIONS_MAX).await {
            Ok(listing) => listing,
            Err(error) => {
                self.context.warn(format!("cannot list attempt records ({error}): what broken runs have stored is stored again"));
                return;
            }
        };
        let since = by_key(&listing).into_iter().rev().take_while(|(key, _)| {
            let Some(Place::Attempt(_, id)) = Place::of(key) else { return true };
            newest.is_none_or(|newest| id > *newest)
        });
        for (key, versions) in since.take(ATTEMPTS_MAX).collect::<Vec<_>>().into_iter().rev() {
            let Some(attempt) = self.attempt(&key, &versions).await else { continue };
            match load_inventory(self.repository, &attempt.inventory, &attempt.id).await {
                Ok(inventory) => past.named.extend(inventory.segments),
                Err(error) => self.lost(&attempt.inventory, &error),
            }
            past.maybe.extend(attempt.maybe);
        }
    }

    async fn attempt(&self, key: &ObjectKey, versions: &[ObjectVersion]) -> Option<Attempt> {
        let found = Found { key, repository: Some(self.repository.genesis.repository) };
        let verify = |bytes: &[u8]| verify_document::<Attempt>(bytes, found, &self.own);
        let store = &*self.repository.store;
        match oldest_verified(store, versions, Attempt::BYTES_MAX, verify).await {
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
