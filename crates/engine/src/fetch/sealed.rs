//! The objects of a snapshot as they are, for a drawer: every reading command takes the directory as a repository.

use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt as _, pin_mut, stream};
use stonekeep_format::{
    ids::{BucketName, Digest, VersionId},
    key::{ObjectKey, Place},
};
use stonekeep_store::{CopiedObject, CopiedObjects, ObjectVersion, VERSIONS_FILE};

use super::{FetchError, FetchReport, finish, staging::Staging};
use crate::{
    Context,
    events::{Event, Phase},
    history::Snapshot,
    repository::Repository,
    segments::{Named, SegmentError, get_named, load_inventory},
};

/// Objects fetched at the same time (8), each of some 17 MiB at most, as segments ordinarily are: 136 MiB.
const FETCHES_MAX: usize = 8;

/// Copies every object that `snapshot` needs into `out`, under its key, with a list of their version ids and locks.
///
/// Needs no identity. The copy is a repository with one snapshot; others that its manifest calls live are missing from it,
/// and `list` of the copy says so.
///
/// # Errors
/// [`FetchError`]: nothing is under `out`.
pub async fn fetch_sealed(
    repository: &Repository,
    snapshot: &Snapshot,
    out: &Path,
    context: &Context,
) -> Result<FetchReport, FetchError> {
    let mut staging = Staging::begin(out)?;
    let written = tokio::select! {
        written = copy(repository, snapshot, &mut staging, context) => written,
        () = context.cancel.cancelled() => Err(FetchError::Cancelled),
    };
    finish(written, staging, snapshot).await
}

async fn copy(
    repository: &Repository,
    snapshot: &Snapshot,
    staging: &mut Staging,
    context: &Context,
) -> Result<(), FetchError> {
    let manifest = &snapshot.manifest;
    let inventory = load_inventory(repository, &manifest.inventory, &manifest.id).await?;
    let main = repository.stores.main().bucket();
    let genesis = repository.line.iter().map(|each| Wanted::of(&each.version, each.digest, main));
    let mut wanted: Vec<Wanted> = genesis.collect();
    wanted.push(Wanted::of(&snapshot.version, snapshot.digest, &manifest.inventory.bucket));
    wanted.push(Wanted {
        key: manifest.inventory.key.clone(),
        bucket: manifest.inventory.bucket.clone(),
        version_id: manifest.inventory.version_id.clone(),
        bytes: manifest.inventory.bytes,
        digest: manifest.inventory.digest,
    });
    wanted.extend(inventory.segments.iter().map(|segment| Wanted {
        key: segment.key.clone(),
        bucket: segment.bucket.clone(),
        version_id: segment.version_id.clone(),
        bytes: segment.bytes,
        digest: segment.digest,
    }));
    wanted.sort();
    wanted.dedup();
    let bytes_expected = Some(wanted.iter().map(|each| each.bytes).fold(0, u64::saturating_add));
    context.tell(Event::Phase { phase: Phase::Fetching, bytes_expected, rows_expected: None });
    let fetched = stream::iter(wanted).map(|each| get(repository, each)).buffered(FETCHES_MAX);
    pin_mut!(fetched);
    let mut copied = CopiedObjects::new(repository.stores.main().bucket().clone());
    while let Some((object, content)) = fetched.next().await.transpose()? {
        context.tell(Event::Progress { bytes: object.bytes, rows: 0 });
        staging.create(path_of(&object.key)?, content).await?;
        copied.objects.push(object);
    }
    let list = serde_json::to_vec_pretty(&copied).map_err(FetchError::Versions)?;
    staging.create(VERSIONS_FILE, Bytes::from(list)).await
}

/// One version to copy. Ordered by key, so that one that is named twice is copied once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    key: ObjectKey,
    bucket: BucketName,
    version_id: VersionId,
    bytes: u64,
    digest: Digest,
}

impl Wanted {
    fn of(version: &ObjectVersion, digest: Digest, bucket: &BucketName) -> Self {
        let (key, version_id) = (version.key.clone(), version.version_id.clone());
        Self { key, bucket: bucket.clone(), version_id, bytes: version.bytes, digest }
    }
}

async fn get(repository: &Repository, wanted: Wanted) -> Result<(CopiedObject, Bytes), FetchError> {
    let Wanted { key, bucket, version_id, bytes, digest } = wanted;
    let store = repository.stores.of(&bucket);
    let named = Named { key: &key, version_id: &version_id, bytes, digest };
    let content = get_named(&**store, &named).await?;
    let lock = store.retention(&key, &version_id).await;
    let lock =
        lock.map_err(|source| SegmentError::Store { key: key.clone(), source: Box::new(source) })?;
    Ok((CopiedObject { key, version_id, bytes, lock }, content))
}

/// Keys that a signed object names are made by us, and even so only ours become paths.
fn path_of(key: &ObjectKey) -> Result<&str, FetchError> {
    let foreign = || FetchError::Incomplete { what: format!("{key:?} is no key of ours") };
    Place::of(key).map(|_| key.as_str()).ok_or_else(foreign)
}
