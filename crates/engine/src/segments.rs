//! Fetching segments and opening them: the way from a signed manifest to plaintext that may be used.
//!
//! Every byte goes the same way: the manifest's signature names the inventory's digest, the inventory names each segment's
//! version and digest, and a segment is decrypted only after its bytes have that digest. What did not pass never leaves this
//! module. Memory is bounded by a budget over ciphertext and plaintext together.

#[cfg(test)]
pub(crate) mod fixture;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use stonekeep_format::{
    ErrorKind,
    catalog::Catalog,
    codec::{self, CodecError, Identities},
    ids::{Digest, RepositoryId, SnapshotId, VersionId},
    inventory::{INVENTORY_BYTES_MAX, Inventory, InventoryError, Segment, SegmentKind},
    key::ObjectKey,
    manifest::{InventoryRef, Manifest},
};
use stonekeep_store::{ReadStore, StoreError};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    budget::{Budget, Held},
    repository::Repository,
    stores::Stores,
};

/// Bytes of ciphertext and plaintext in memory at the same time (96 MiB): three segments of the largest ordinary size that
/// cannot be compressed, or twice as many that can. With 160 MiB a restore of rows of 1 MiB took more than 256 in all.
pub const READ_BUDGET_BYTES: u64 = 96 << 20;
/// Segments on their way at the same time, beyond those that the budget holds back (8).
pub const READ_AHEAD: usize = 8;

/// Why a part of a snapshot cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// A version that a signed object names is not there.
    #[error(
        "version {version_id} of {key} is not in the bucket: the snapshot is not complete; take another one (`stonekeep list`)"
    )]
    Missing {
        /// Its key.
        key: ObjectKey,
        /// Its version.
        version_id: VersionId,
    },
    /// The bucket did not answer as it should.
    #[error("cannot read {key}")]
    Store {
        /// What was read.
        key: ObjectKey,
        /// What the store said.
        #[source]
        source: Box<StoreError>,
    },
    /// The object is not what the signed objects say, or no identity opens it.
    #[error("cannot open {key}")]
    Open {
        /// Its key.
        key: ObjectKey,
        /// Why.
        #[source]
        source: Box<CodecError>,
    },
    /// The inventory is not the one that the manifest names.
    #[error("cannot use the inventory {key}")]
    Inventory {
        /// Its key.
        key: ObjectKey,
        /// Why.
        #[source]
        source: InventoryError,
    },
    /// The inventory does not list exactly one segment of a kind that a snapshot has once.
    #[error(
        "the inventory lists {found} segments of kind {kind}, not one: made by a broken writer; take another snapshot"
    )]
    NotOne {
        /// The kind.
        kind: &'static str,
        /// How many there are.
        found: usize,
    },
    /// The catalog is no catalog.
    #[error("the catalog cannot be read: a newer stonekeep may be needed")]
    Catalog(#[source] serde_json::Error),
    /// The catalog is another snapshot's.
    #[error(
        "the catalog says {found}, not {wanted}: made by a broken writer; take another snapshot"
    )]
    ForeignCatalog {
        /// What it says.
        found: String,
        /// What was expected.
        wanted: String,
    },
    /// A task of ours panicked.
    #[error("an internal task failed")]
    Task(#[source] JoinError),
}

impl SegmentError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store { source, .. } => source.kind(),
            Self::Open { source, .. } if matches!(**source, CodecError::WrongIdentity(_)) => {
                ErrorKind::Denied
            }
            Self::Task(_) => ErrorKind::Internal,
            _ => ErrorKind::Corrupt,
        }
    }
}

/// Fetches the version of an object that a signed object names with this length and digest, and checks both.
///
/// # Errors
/// [`SegmentError::Missing`], [`SegmentError::Store`], and [`SegmentError::Open`] with [`CodecError::Damaged`].
pub async fn get_named(store: &dyn ReadStore, named: &Named<'_>) -> Result<Bytes, SegmentError> {
    let bytes = get(store, named).await?;
    let wanted = named.digest;
    let (found, bytes) = blocking(move || (Digest::of(&bytes), bytes)).await?;
    if found == wanted {
        return Ok(bytes);
    }
    let source = Box::new(CodecError::Damaged { found, wanted });
    Err(SegmentError::Open { key: named.key.clone(), source })
}

/// One version of one object as a signed object names it.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Its key.
    pub key: &'a ObjectKey,
    /// Its version.
    pub version_id: &'a VersionId,
    /// Its length, in bytes.
    pub bytes: u64,
    /// The BLAKE3 digest of its bytes.
    pub digest: Digest,
}

impl<'a> From<&'a Segment> for Named<'a> {
    fn from(segment: &'a Segment) -> Self {
        Self {
            key: &segment.key,
            version_id: &segment.version_id,
            bytes: segment.bytes,
            digest: segment.digest,
        }
    }
}

async fn get(store: &dyn ReadStore, named: &Named<'_>) -> Result<Bytes, SegmentError> {
    store.get(named.key, named.version_id, named.bytes).await.map_err(|source| match source {
        StoreError::NotFound { .. } => {
            SegmentError::Missing { key: named.key.clone(), version_id: named.version_id.clone() }
        }
        source => SegmentError::Store { key: named.key.clone(), source: Box::new(source) },
    })
}

/// Runs what would keep a thread busy for long on one that may be.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SegmentError> {
    tokio::task::spawn_blocking(work).await.map_err(SegmentError::Task)
}

/// Fetches the inventory of `id` that a verified manifest or attempt record names, checks its digest, and reads it.
///
/// # Errors
/// [`SegmentError`]: it is not there, or not that inventory.
pub async fn load_inventory(
    repository: &Repository,
    named: &InventoryRef,
    id: &SnapshotId,
) -> Result<Inventory, SegmentError> {
    let wanted = Named {
        key: &named.key,
        version_id: &named.version_id,
        bytes: named.bytes.min(INVENTORY_BYTES_MAX),
        digest: named.digest,
    };
    let stored = get(&**repository.stores.of(&named.bucket), &wanted).await?;
    let (digest, id, key) = (named.digest, id.clone(), named.key.clone());
    let repository: RepositoryId = repository.genesis.repository;
    blocking(move || Inventory::load(&stored, digest, repository, &id))
        .await?
        .map_err(|source| SegmentError::Inventory { key, source })
}

/// Returns the only segment of a kind that a snapshot has exactly once.
///
/// # Errors
/// [`SegmentError::NotOne`].
pub fn only(inventory: &Inventory, kind: SegmentKind) -> Result<&Segment, SegmentError> {
    let mut of_kind = inventory.segments.iter().filter(|segment| segment.kind == kind);
    match (of_kind.next(), of_kind.count()) {
        (Some(segment), 0) => Ok(segment),
        (first, more) => Err(SegmentError::NotOne {
            kind: kind.as_str(),
            found: usize::from(first.is_some()) + more,
        }),
    }
}

/// Opens segments with the identities of a reader, within a budget of memory.
#[derive(Clone)]
pub struct SegmentReader {
    stores: Stores,
    identities: Arc<Identities>,
    budget: Budget,
}

impl std::fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SegmentReader({:?}, {} identities)", self.stores, self.identities.len())
    }
}

/// The plaintext of a segment, verified. Its bytes count against the budget until it is dropped.
#[derive(Debug)]
pub struct Opened {
    bytes: Bytes,
    _held: Held,
}

impl Opened {
    /// Returns the plaintext.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl SegmentReader {
    /// Reads from `repository` with `identities`, holding at most `budget_bytes` (one larger segment is taken alone).
    #[must_use]
    pub fn new(repository: &Repository, identities: Arc<Identities>, budget_bytes: u64) -> Self {
        let budget = Budget::new(budget_bytes);
        Self { stores: repository.stores.clone(), identities, budget }
    }

    /// Fetches one segment and opens it.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub async fn open(&self, segment: &Segment) -> Result<Opened, SegmentError> {
        let held = self.hold(segment).await;
        self.open_held(segment, held).await
    }

    /// Fetches segments, several at a time, and yields them in the order given, each with what the caller put beside it.
    /// Dropping the stream stops the fetching.
    ///
    /// The budget is taken in the order of the list, before a fetch begins, so the one that is wanted next never waits for
    /// one behind it.
    pub fn in_order<T: Send + 'static>(
        &self,
        segments: Vec<(T, Segment)>,
    ) -> impl Stream<Item = Result<(T, Opened), SegmentError>> + Send + use<T> {
        let reader = self.clone();
        let begin = move |(tag, segment): (T, Segment)| {
            let reader = reader.clone();
            async move {
                let held = reader.hold(&segment).await;
                let task = async move { reader.open_held(&segment, held).await };
                (tag, AbortOnDropHandle::new(tokio::spawn(task)))
            }
        };
        let join = |(tag, task): (T, AbortOnDropHandle<Result<Opened, SegmentError>>)| async move {
            let opened = task.await.map_err(SegmentError::Task)??;
            Ok((tag, opened))
        };
        stream::iter(segments).then(begin).map(join).buffered(READ_AHEAD)
    }

    /// Opens the catalog of a snapshot and checks that it is this one's.
    ///
    /// # Errors
    /// [`SegmentError`]; of kind `Denied` if no identity opens it.
    pub async fn load_catalog(
        &self,
        inventory: &Inventory,
        manifest: &Manifest,
    ) -> Result<Catalog, SegmentError> {
        let opened = self.open(only(inventory, SegmentKind::Catalog)?).await?;
        let plaintext = opened.bytes().clone();
        let catalog: Catalog = blocking(move || serde_json::from_slice(&plaintext))
            .await?
            .map_err(SegmentError::Catalog)?;
        check_catalog(&catalog, manifest)?;
        Ok(catalog)
    }

    async fn hold(&self, segment: &Segment) -> Held {
        self.budget.hold(segment.bytes.saturating_add(segment.plain_bytes)).await
    }

    async fn open_held(&self, segment: &Segment, mut held: Held) -> Result<Opened, SegmentError> {
        let store = self.stores.of(&segment.bucket);
        let sealed = get(&**store, &Named::from(segment)).await?;
        let (digest, plain_bytes, identities) =
            (segment.digest, segment.plain_bytes, Arc::clone(&self.identities));
        let opened =
            blocking(move || codec::open(&sealed, digest, plain_bytes, &identities)).await?;
        let bytes = opened.map_err(|error| SegmentError::Open {
            key: segment.key.clone(),
            source: Box::new(error),
        })?;
        held.shrink(plain_bytes);
        Ok(Opened { bytes: Bytes::from(bytes), _held: held })
    }
}

fn check_catalog(catalog: &Catalog, manifest: &Manifest) -> Result<(), SegmentError> {
    let pairs = [
        (catalog.format.clone(), Catalog::FORMAT.to_owned()),
        (catalog.repository.to_string(), manifest.repository.to_string()),
        (catalog.label.to_string(), manifest.label.to_string()),
        (catalog.id.to_string(), manifest.id.to_string()),
    ];
    match pairs.into_iter().find(|(found, wanted)| found != wanted) {
        Some((found, wanted)) => Err(SegmentError::ForeignCatalog { found, wanted }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::{
        fixture::{Broken, Fixture},
        *,
    };

    fn tagged(inventory: &Inventory) -> Vec<(usize, Segment)> {
        inventory.segments.iter().cloned().enumerate().collect()
    }

    #[tokio::test]
    async fn segments_come_in_order_and_within_a_budget_smaller_than_one() {
        let fixture = Fixture::new();
        let (repository, _) = fixture.open(Arc::new(fixture.store())).await;
        let reader = SegmentReader::new(&repository, fixture.identities(), 1);
        let opened: Vec<_> = reader
            .in_order(tagged(&fixture.inventory))
            .map_ok(|(at, opened)| (at, opened.bytes().len() as u64))
            .try_collect()
            .await
            .expect("all open");
        let wanted: Vec<_> =
            fixture.inventory.segments.iter().map(|each| each.plain_bytes).enumerate().collect();
        assert_eq!(opened, wanted);
    }

    #[tokio::test]
    async fn damaged_segment_never_leaves() {
        let fixture = Fixture::new();
        let mut store = Broken::new(fixture.store());
        store.damaged = Some(fixture.inventory.segments[3].key.clone());
        let (repository, _) = fixture.open(Arc::new(store)).await;
        let reader = SegmentReader::new(&repository, fixture.identities(), READ_BUDGET_BYTES);
        let opened: Result<Vec<_>, _> =
            reader.in_order(tagged(&fixture.inventory)).try_collect().await;
        let error = opened.expect_err("damage is an error");
        assert!(
            matches!(&error, SegmentError::Open { source, .. } if matches!(**source, CodecError::Damaged { .. }))
        );
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[tokio::test]
    async fn wrong_identity_is_denied_and_a_missing_version_corrupt() {
        let fixture = Fixture::new();
        let mut store = Broken::new(fixture.store());
        store.missing = Some(fixture.inventory.segments[0].key.clone());
        let (repository, snapshot) = fixture.open(Arc::new(store)).await;
        let reader = SegmentReader::new(&repository, fixture.strangers(), READ_BUDGET_BYTES);
        let denied = reader.load_catalog(&fixture.inventory, &snapshot.manifest).await;
        assert_eq!(denied.expect_err("a stranger").kind(), ErrorKind::Denied);
        let missing = reader.open(&fixture.inventory.segments[0]).await.expect_err("missing");
        assert_eq!(missing.kind(), ErrorKind::Corrupt);
    }
}
