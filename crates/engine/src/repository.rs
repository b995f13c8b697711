//! A repository as a reader meets it: its genesis first, for nothing else in the bucket can be believed without it.

use std::{collections::BTreeMap, sync::Arc};

use stonekeep_format::{
    ErrorKind,
    genesis::Genesis,
    ids::Digest,
    key::{ObjectKey, Place},
    signature::{Found, SignatureError, SignedDocument, Trust, split, verify_document},
};
use stonekeep_store::{
    Listing, ObjectVersion, ReadStore, StoreError, Verified, list_all, oldest_verified,
};

use crate::Context;

/// How many versions of genesis objects are looked at (10 000): more than that is junk planted to keep readers busy.
const GENESIS_VERSIONS_MAX: usize = 10_000;

/// A repository whose genesis is signed by the owner.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The genesis in force: the one with the highest number.
    pub genesis: Genesis,
    /// The keys that may sign manifests and attempts, from it.
    pub trust: Trust,
    /// Where it lies.
    pub store: Arc<dyn ReadStore>,
}

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// There is nothing under `genesis/`.
    #[error(
        "there is no repository in bucket {bucket}: no genesis under this prefix; check bucket and prefix, or run `stonekeep init` once"
    )]
    NoGenesis {
        /// The bucket.
        bucket: String,
    },
    /// There are objects under `genesis/`, and none is signed by the owner.
    #[error(
        "the genesis in bucket {bucket} is not signed by the owner key in allowed_signers_file ({fingerprints}): a foreign repository, or a planted genesis"
    )]
    ForeignGenesis {
        /// The bucket.
        bucket: String,
        /// The keys that would have been believed.
        fingerprints: String,
        /// Why the first object was refused.
        #[source]
        source: SignatureError,
    },
    /// A genesis does not follow the one before it.
    #[error(
        "genesis {n} does not continue genesis {before}: it names another predecessor or another repository"
    )]
    BrokenGenesis {
        /// Its number.
        n: u32,
        /// The one before.
        before: u32,
    },
    /// A signer in the genesis cannot be read.
    #[error("the genesis names a signer that is no public key")]
    Signer(#[source] SignatureError),
    /// The bucket did not answer as it should.
    #[error("cannot read the repository in bucket {bucket}")]
    Store {
        /// The bucket.
        bucket: String,
        /// What it said.
        #[source]
        source: StoreError,
    },
}

impl RepositoryError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoGenesis { .. } => ErrorKind::Config,
            Self::ForeignGenesis { .. } | Self::BrokenGenesis { .. } | Self::Signer(_) => {
                ErrorKind::Corrupt
            }
            Self::Store { source, .. } => source.kind(),
        }
    }
}

/// An object that is where we would write one and is not ours: ignored, but said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Planted {
    /// Its key.
    pub key: ObjectKey,
    /// Its version.
    pub version_id: stonekeep_format::ids::VersionId,
    /// Why it is not believed.
    pub why: String,
}

impl Repository {
    /// Takes a copy of the genesis that the owner signed, for whoever may not read it in the bucket.
    ///
    /// # Errors
    /// [`RepositoryError::ForeignGenesis`] and [`RepositoryError::Signer`].
    pub fn pinned(
        object: &[u8],
        store: Arc<dyn ReadStore>,
        owner: &Trust,
    ) -> Result<Self, RepositoryError> {
        let said = split(object).and_then(|(body, _)| serde_json::from_slice::<Genesis>(body).ok());
        let key = said.map_or_else(|| ObjectKey::genesis(1), |genesis| genesis.key);
        let found = Found { key: &key, repository: None };
        let genesis = verify_document::<Genesis>(object, found, owner).map_err(|source| {
            RepositoryError::ForeignGenesis {
                bucket: store.bucket().to_string(),
                fingerprints: owner.fingerprints().join(", "),
                source,
            }
        })?;
        let trust = genesis.trust().map_err(RepositoryError::Signer)?;
        Ok(Self { genesis, trust, store })
    }

    /// Finds the genesis in force and checks it against the owner's key.
    ///
    /// # Errors
    /// [`RepositoryError`]: there is none, or none that the owner signed.
    pub async fn open(
        store: Arc<dyn ReadStore>,
        owner: &Trust,
        context: &Context,
    ) -> Result<Self, RepositoryError> {
        let bucket = store.bucket().to_string();
        let failed = |source| RepositoryError::Store { bucket: bucket.clone(), source };
        let listing = list_all(&*store, "genesis/", GENESIS_VERSIONS_MAX).await.map_err(failed)?;
        let mut found: BTreeMap<u32, (Genesis, Digest)> = BTreeMap::new();
        let mut refused = None;
        for (key, versions) in by_key(&listing) {
            let Some(Place::Genesis(n)) = Place::of(&key) else { continue };
            let verified = oldest_genesis(&*store, &key, &versions, owner).await.map_err(failed)?;
            for (version, why) in verified.planted {
                context.warn(format!("ignored version {} of {key}: {why}", version.version_id));
                refused.get_or_insert(why);
            }
            if let Some((genesis, _)) = verified.value {
                found.insert(n, genesis);
            }
        }
        let genesis = newest(found)?.ok_or_else(|| match refused {
            None => RepositoryError::NoGenesis { bucket: bucket.clone() },
            Some(source) => RepositoryError::ForeignGenesis {
                bucket: bucket.clone(),
                fingerprints: owner.fingerprints().join(", "),
                source,
            },
        })?;
        let trust = genesis.trust().map_err(RepositoryError::Signer)?;
        Ok(Self { genesis, trust, store })
    }
}

/// The successors must form one line from the first, each naming the digest of the one before it.
fn newest(found: BTreeMap<u32, (Genesis, Digest)>) -> Result<Option<Genesis>, RepositoryError> {
    let mut before: Option<(u32, Genesis, Digest)> = None;
    for (n, (genesis, digest)) in found {
        let follows = match &before {
            None => n == 1 && genesis.previous.is_none(),
            Some((last, previous, previous_digest)) => {
                n == last + 1
                    && genesis.repository == previous.repository
                    && genesis.previous == Some(*previous_digest)
            }
        };
        if !follows || genesis.n != n {
            return Err(RepositoryError::BrokenGenesis {
                n,
                before: before.map_or(0, |(last, ..)| last),
            });
        }
        before = Some((n, genesis, digest));
    }
    Ok(before.map(|(_, genesis, _)| genesis))
}

async fn oldest_genesis(
    store: &dyn ReadStore,
    key: &ObjectKey,
    versions: &[ObjectVersion],
    owner: &Trust,
) -> Result<Verified<(Genesis, Digest), SignatureError>, StoreError> {
    let verify = |bytes: &[u8]| {
        let genesis = verify_document::<Genesis>(bytes, Found { key, repository: None }, owner)?;
        Ok((genesis, Digest::of(bytes)))
    };
    oldest_verified(store, versions, Genesis::BYTES_MAX, verify).await
}

/// Groups a listing by key, keeping the order of versions: oldest first.
pub(crate) fn by_key(listing: &Listing) -> BTreeMap<ObjectKey, Vec<ObjectVersion>> {
    let mut keys: BTreeMap<ObjectKey, Vec<ObjectVersion>> = BTreeMap::new();
    for version in &listing.versions {
        keys.entry(version.key.clone()).or_default().push(version.clone());
    }
    keys
}
