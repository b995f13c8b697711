//! A repository as a reader meets it: its genesis first, for nothing else in the bucket can be believed without it.

use std::collections::{BTreeMap, BTreeSet};

use stonekeep_format::{
    ErrorKind,
    genesis::{Genesis, LockBy},
    ids::{BucketName, Digest, RepositoryId},
    key::ObjectKey,
    signature::{Found, SignatureError, SignedDocument, Trust, split, verify_document},
};
use stonekeep_store::{ObjectVersion, ReadStore, StoreError, Verified, list_key, oldest_verified};

use crate::{Context, finding::FindingKind, stores::Stores};

/// Numbers without a genesis after which none is looked for (3): one that is missing between others shows. Whoever may write
/// can put junk under any number of them, so they are not listed.
pub(crate) const ABSENT_MAX: u32 = 3;

/// A repository whose genesis is signed by the owner.
#[derive(Debug, Clone)]
pub struct Repository {
    /// The genesis in force: the one with the highest number.
    pub genesis: Genesis,
    /// The keys that may sign manifests and attempts, from it.
    pub trust: Trust,
    /// The objects of the genesis and of those before it, oldest first; empty if the genesis is a copy that was handed over.
    pub line: Vec<GenesisObject>,
    /// Where it lies.
    pub stores: Stores,
}

/// The object of a genesis.
#[derive(Debug, Clone)]
pub struct GenesisObject {
    /// The version that verified.
    pub version: ObjectVersion,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
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
        "the genesis in bucket {bucket} is not signed by the owner key that is believed here ({fingerprints}): a foreign repository, or a planted genesis"
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
    /// A bucket that the genesis names is not in the configuration.
    #[error(
        "the snapshots of tier {tier:?} lie in bucket {bucket}, which the configuration does not name: set lock = \"bucket-default\" and add a [[repository.tier]] with it"
    )]
    TierBucket {
        /// The tier.
        tier: String,
        /// Its bucket.
        bucket: String,
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
            Self::NoGenesis { .. } | Self::TierBucket { .. } => ErrorKind::Config,
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
    /// What is wrong with it.
    pub kind: FindingKind,
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
    pub fn pinned(object: &[u8], stores: Stores, owner: &Trust) -> Result<Self, RepositoryError> {
        let said = split(object).and_then(|(body, _)| serde_json::from_slice::<Genesis>(body).ok());
        let key = said.map_or_else(|| ObjectKey::genesis(1), |genesis| genesis.key);
        let found = Found { key: &key, repository: None };
        let genesis = verify_document::<Genesis>(object, found, owner).map_err(|source| {
            RepositoryError::ForeignGenesis {
                bucket: stores.main().bucket().to_string(),
                fingerprints: owner.fingerprints().join(", "),
                source,
            }
        })?;
        let trust = genesis.trust().map_err(RepositoryError::Signer)?;
        Ok(Self { genesis, trust, line: Vec::new(), stores })
    }

    /// Finds the genesis in force and checks it against the owner's key.
    ///
    /// # Errors
    /// [`RepositoryError`]: there is none, or none that the owner signed.
    pub async fn open(
        stores: Stores,
        owner: &Trust,
        context: &Context,
    ) -> Result<Self, RepositoryError> {
        let (genesis, line) = find_genesis(&**stores.main(), owner, context).await?;
        if genesis.lock.by == LockBy::BucketDefault
            && let Some(tier) = genesis.tiers.iter().find(|tier| !stores.has(&tier.bucket))
        {
            let (tier, bucket) = (tier.name.clone(), tier.bucket.to_string());
            return Err(RepositoryError::TierBucket { tier, bucket });
        }
        let trust = genesis.trust().map_err(RepositoryError::Signer)?;
        Ok(Self { genesis, trust, line, stores })
    }
}

/// Returns the buckets in which the repository's snapshots lie besides `store`, as its genesis says.
///
/// # Errors
/// As [`Repository::open`].
pub async fn tier_buckets(
    store: &dyn ReadStore,
    owner: &Trust,
    context: &Context,
) -> Result<BTreeSet<BucketName>, RepositoryError> {
    let (genesis, _) = find_genesis(store, owner, context).await?;
    let named = genesis.tiers.into_iter().filter(|_| genesis.lock.by == LockBy::BucketDefault);
    Ok(named.map(|tier| tier.bucket).collect())
}

async fn find_genesis(
    store: &dyn ReadStore,
    owner: &Trust,
    context: &Context,
) -> Result<(Genesis, Vec<GenesisObject>), RepositoryError> {
    let bucket = store.bucket().to_string();
    let failed = |source| RepositoryError::Store { bucket: bucket.clone(), source };
    let mut found: BTreeMap<u32, (Genesis, GenesisObject)> = BTreeMap::new();
    let (mut unsigned, mut unreadable) = (None, None);
    let mut absent = 0;
    for n in 1.. {
        let key = ObjectKey::genesis(n);
        let versions = list_key(store, &key).await.map_err(failed)?.versions;
        let first = found.values().next().map(|(genesis, _)| genesis.repository);
        let verified = oldest_genesis(store, &key, &versions, (owner, first)).await;
        let verified = verified.map_err(failed)?;
        let ignored = verified.planted.len() + verified.unreadable.len() + verified.too_long.len();
        if ignored > 0 {
            context.warn(format!(
                "ignored versions of {key} that the owner has not signed: {ignored}"
            ));
        }
        unsigned = unsigned.or(verified.planted.into_iter().next().map(|(_, why)| why));
        unreadable = unreadable.or(verified.unreadable.into_iter().next().map(|(_, why)| why));
        match verified.value {
            Some(((genesis, digest), version)) => {
                absent = 0;
                found.insert(n, (genesis, GenesisObject { version, digest }));
            }
            None => absent += 1,
        }
        if absent == ABSENT_MAX {
            break;
        }
    }
    let (genesis, line) = line(found)?;
    let genesis = genesis.ok_or_else(|| match (unsigned, unreadable) {
        (Some(source), _) => RepositoryError::ForeignGenesis {
            bucket: bucket.clone(),
            fingerprints: owner.fingerprints().join(", "),
            source,
        },
        (None, Some(source)) => failed(source),
        (None, None) => RepositoryError::NoGenesis { bucket: bucket.clone() },
    })?;
    Ok((genesis, line))
}

/// The successors must form one line from the first, each naming the digest of the one before it. Returns the last.
fn line(
    found: BTreeMap<u32, (Genesis, GenesisObject)>,
) -> Result<(Option<Genesis>, Vec<GenesisObject>), RepositoryError> {
    let mut line: Vec<GenesisObject> = Vec::new();
    let mut last: Option<Genesis> = None;
    for (n, (genesis, object)) in found {
        let follows = match (&last, line.last()) {
            (Some(previous), Some(before)) => {
                n == previous.n + 1
                    && genesis.repository == previous.repository
                    && genesis.previous == Some(before.digest)
            }
            _ => n == 1 && genesis.previous.is_none(),
        };
        if !follows || genesis.n != n {
            return Err(RepositoryError::BrokenGenesis {
                n,
                before: last.map_or(0, |last| last.n),
            });
        }
        line.push(object);
        last = Some(genesis);
    }
    Ok((last, line))
}

/// A successor is of the first one's repository: the owner may have several, and whoever may write here can copy what he signed
/// for another one.
async fn oldest_genesis(
    store: &dyn ReadStore,
    key: &ObjectKey,
    versions: &[ObjectVersion],
    (owner, repository): (&Trust, Option<RepositoryId>),
) -> Result<Verified<(Genesis, Digest), SignatureError>, StoreError> {
    let verify = |bytes: &[u8]| {
        let genesis = verify_document::<Genesis>(bytes, Found { key, repository }, owner)?;
        Ok((genesis, Digest::of(bytes)))
    };
    oldest_verified(store, versions, Genesis::BYTES_MAX, verify).await
}
