//! The objects of a snapshot as they are, for a drawer: every reading command takes the directory as a repository.

use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt as _, pin_mut, stream};
use stonekeep_format::{
    chain::Verified,
    genesis::Genesis,
    ids::{Digest, VersionId},
    key::{ObjectKey, Place},
    manifest::Manifest,
    signature::{SignedDocument as _, split},
};
use stonekeep_store::{CopiedObject, CopiedObjects, ObjectVersion, VERSIONS_FILE, list_all};

use super::{FetchError, FetchReport, finish, staging::Staging};
use crate::{
    Context,
    events::{Event, Phase},
    repository::{Repository, by_key},
    segments::{Named, SegmentError, get_named, load_inventory},
};

/// Objects fetched at the same time (8), each of some 17 MiB at most, as segments ordinarily are: 136 MiB.
const FETCHES_MAX: usize = 8;
/// Versions under `genesis/`, or of one manifest's key, that are looked through (10 000).
const VERSIONS_MAX: usize = 10_000;

/// Copies every object that `snapshot` needs into `out`, under its key, with a list of their version ids and locks.
///
/// Needs no identity. The copy is a repository with one snapshot; others that its manifest calls live are missing from it,
/// and `list` of the copy says so.
///
/// # Errors
/// [`FetchError`]: nothing is under `out`.
pub async fn fetch_sealed(
    repository: &Repository,
    snapshot: &Verified,
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
    snapshot: &Verified,
    staging: &mut Staging,
    context: &Context,
) -> Result<(), FetchError> {
    let manifest = &snapshot.manifest;
    let inventory = load_inventory(repository, &manifest.inventory, &manifest.id).await?;
    let mut wanted = genesis_line(repository).await?;
    wanted.push(manifest_object(repository, snapshot).await?);
    wanted.push(Wanted {
        key: manifest.inventory.key.clone(),
        version_id: manifest.inventory.version_id.clone(),
        bytes: manifest.inventory.bytes,
        digest: manifest.inventory.digest,
    });
    wanted.extend(inventory.segments.iter().map(|segment| Wanted {
        key: segment.key.clone(),
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
    let mut copied = CopiedObjects::new(repository.store.bucket().clone());
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
    version_id: VersionId,
    bytes: u64,
    digest: Digest,
}

impl Wanted {
    fn of(version: &ObjectVersion, digest: Digest) -> Self {
        let (key, version_id) = (version.key.clone(), version.version_id.clone());
        Self { key, version_id, bytes: version.bytes, digest }
    }
}

async fn get(repository: &Repository, wanted: Wanted) -> Result<(CopiedObject, Bytes), FetchError> {
    let Wanted { key, version_id, bytes, digest } = wanted;
    let named = Named { key: &key, version_id: &version_id, bytes, digest };
    let content = get_named(&*repository.store, &named).await?;
    let lock = repository.store.retention(&key, &version_id).await;
    let lock =
        lock.map_err(|source| SegmentError::Store { key: key.clone(), source: Box::new(source) })?;
    Ok((CopiedObject { key, version_id, bytes, lock }, content))
}

/// Keys that a signed object names are made by us, and even so only ours become paths.
fn path_of(key: &ObjectKey) -> Result<&str, FetchError> {
    let foreign = || FetchError::Incomplete { what: format!("{key:?} is no key of ours") };
    Place::of(key).map(|_| key.as_str()).ok_or_else(foreign)
}

async fn manifest_object(
    repository: &Repository,
    snapshot: &Verified,
) -> Result<Wanted, FetchError> {
    let key = &snapshot.manifest.key;
    let failed = |source| SegmentError::Store { key: key.clone(), source: Box::new(source) };
    let listing = list_all(&*repository.store, key.as_str(), VERSIONS_MAX).await.map_err(failed)?;
    let fitting = listing
        .versions
        .iter()
        .filter(|each| each.key == *key && each.bytes <= Manifest::BYTES_MAX);
    for version in fitting {
        let bytes = repository
            .store
            .get(key, &version.version_id, Manifest::BYTES_MAX)
            .await
            .map_err(failed)?;
        if Digest::of(&bytes) == snapshot.digest {
            return Ok(Wanted::of(version, snapshot.digest));
        }
    }
    Err(FetchError::Incomplete { what: format!("the manifest {key} is gone") })
}

/// Finds the genesis in force and those before it: each names the digest of its predecessor, and the one in force is known
/// by what it says.
async fn genesis_line(repository: &Repository) -> Result<Vec<Wanted>, FetchError> {
    let at = ObjectKey::genesis(repository.genesis.n);
    let failed = |source| SegmentError::Store { key: at.clone(), source: Box::new(source) };
    let listing = list_all(&*repository.store, "genesis/", VERSIONS_MAX).await.map_err(failed)?;
    let mut versions = by_key(&listing);
    let mut line = Vec::new();
    let mut wanted: (ObjectKey, Option<Digest>) = (at.clone(), None);
    loop {
        let candidates = versions.remove(&wanted.0).unwrap_or_default();
        let (object, genesis) = find_genesis(repository, &candidates, wanted.1).await?;
        line.push(object);
        match genesis.previous {
            Some(previous) if genesis.n > 1 => {
                wanted = (ObjectKey::genesis(genesis.n - 1), Some(previous));
            }
            _ => return Ok(line),
        }
    }
}

/// The oldest version that is the one wanted: by its digest, or as the genesis in force by what it says.
async fn find_genesis(
    repository: &Repository,
    candidates: &[ObjectVersion],
    digest: Option<Digest>,
) -> Result<(Wanted, Genesis), FetchError> {
    for version in candidates.iter().filter(|version| version.bytes <= Genesis::BYTES_MAX) {
        let got = repository.store.get(&version.key, &version.version_id, Genesis::BYTES_MAX).await;
        let bytes = got.map_err(|source| SegmentError::Store {
            key: version.key.clone(),
            source: Box::new(source),
        })?;
        let found = Digest::of(&bytes);
        let document = split(&bytes)
            .and_then(|(document, _)| serde_json::from_slice::<Genesis>(document).ok());
        let Some(genesis) = document else { continue };
        if digest.map_or(genesis == repository.genesis, |wanted| wanted == found) {
            return Ok((Wanted::of(version, found), genesis));
        }
    }
    Err(FetchError::GenesisGone)
}
