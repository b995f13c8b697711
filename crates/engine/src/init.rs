//! Making a repository: bucket, policy, genesis. Done once, by a person, with the owner's key.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use stonekeep_format::{
    ErrorKind,
    codec::{CodecError, Recipients},
    genesis::{Genesis, GenesisLock, GenesisSigner, GenesisTier, LockBy},
    ids::{BucketName, RepositoryId},
    key::ObjectKey,
    lock::{self, LockError, LockMode, RUN_DURATION_MAX},
    signature::{
        Found, Namespace, SignatureError, SignedDocument, Trust, document_body, join,
        verify_document,
    },
    tier::Tier,
};
use stonekeep_store::{Created, ProvisionStore, StoreError, list_keys, put_locked};

use crate::{Context, lifecycle};

/// What to make.
#[derive(Debug, Clone)]
pub struct InitPlan {
    /// The keys that may sign snapshots, one line of OpenSSH text each.
    pub signer_public_lines: Vec<String>,
    /// The age recipients, two or more.
    pub recipients: Vec<String>,
    /// The tiers, one or more.
    pub tiers: Vec<Tier>,
    /// The bucket.
    pub bucket: BucketName,
    /// A bucket policy to apply, as JSON.
    pub policy_json: Option<String>,
    /// How objects are locked.
    pub lock_mode: LockMode,
    /// The owner's public key: what is signed must verify against it.
    pub owner: Trust,
}

/// What was made.
#[derive(Debug, Clone, Serialize)]
pub struct InitReport {
    /// The repository.
    pub repository: RepositoryId,
    /// Its genesis.
    pub genesis_key: ObjectKey,
    /// Whether the bucket was made now.
    pub bucket_created: bool,
    /// Whether a policy was applied.
    pub policy_applied: bool,
    /// How many lifecycle rules were set. None in a bucket that was there already, whose own rules they would replace.
    pub lifecycle_rules: usize,
    /// What the person must still do by hand.
    pub commands: Vec<String>,
    /// The genesis as it was signed, for a writer that may not read it in the bucket.
    #[serde(skip)]
    pub genesis: Vec<u8>,
}

/// Why no repository was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is one already.
    #[error(
        "bucket {bucket} already holds a repository (or objects under genesis/): use another bucket or prefix; nothing was changed"
    )]
    Exists {
        /// The bucket.
        bucket: BucketName,
    },
    /// No tier is configured.
    #[error("no retention tier is configured: add a [[tier]]")]
    NoTier,
    /// The recipients cannot be used.
    #[error("the recipients cannot be used")]
    Recipients(#[source] CodecError),
    /// The tiers ask for a lock that cannot be.
    #[error("the tiers cannot be locked")]
    Lock(#[from] LockError),
    /// The owner's key did not sign.
    #[error("the owner key did not sign the genesis: {0}")]
    Owner(String),
    /// What was signed cannot be used.
    #[error("the signed genesis cannot be used")]
    Signature(#[source] SignatureError),
    /// The bucket refused.
    #[error("cannot {action}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: StoreError,
    },
}

impl InitError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists { .. } => ErrorKind::Conflict,
            Self::Owner(_) => ErrorKind::Denied,
            Self::Store { source, .. } => source.kind(),
            Self::Lock(LockError::Skewed { .. }) => ErrorKind::Unavailable,
            Self::NoTier | Self::Recipients(_) | Self::Lock(_) | Self::Signature(_) => {
                ErrorKind::Config
            }
        }
    }
}

/// Signs bytes with the owner's key in a namespace; returns the armour, or why not.
pub type Sign<'a> = dyn Fn(Namespace, &[u8]) -> Result<String, String> + Send + Sync + 'a;

/// Makes the bucket if it is absent, applies the policy, and puts the first genesis, locked for as long as anything may be.
///
/// # Errors
/// [`InitError`]. What was made before the failure stays; a second run goes on from there.
pub async fn init(
    plan: &InitPlan,
    store: Arc<dyn ProvisionStore>,
    sign: &Sign<'_>,
    context: &Context,
) -> Result<InitReport, InitError> {
    Recipients::parse(&plan.recipients).map_err(InitError::Recipients)?;
    let keeps = plan.tiers.iter().map(|tier| tier.keep);
    let (Some(floor), Some(longest)) = (keeps.clone().min(), keeps.max()) else {
        return Err(InitError::NoTier);
    };
    let failed = |action| move |source| InitError::Store { action, source };
    let created =
        store.create_bucket().await.map_err(failed("make the bucket with Object Lock"))?;
    if holds_a_genesis(&*store).await.map_err(failed("list the bucket"))? {
        return Err(InitError::Exists { bucket: plan.bucket.clone() });
    }
    let now = store.server_time().await.map_err(failed("read the storage server's clock"))?;
    lock::check_skew(context.clock.now(), now)?;
    let genesis = genesis(plan, floor, lock::cap(longest), now);
    if let Some(policy) = &plan.policy_json {
        store.put_policy(policy).await.map_err(failed("apply the bucket policy"))?;
    }
    let object = put_genesis(plan, &genesis, &*store, sign).await?;
    let created = matches!(created, Created::New);
    let lifecycle_rules = if created { set_lifecycle(&genesis, &*store, context).await } else { 0 };
    Ok(InitReport {
        repository: genesis.repository,
        genesis_key: genesis.key,
        bucket_created: created,
        lifecycle_rules,
        policy_applied: plan.policy_json.is_some(),
        commands: Vec::new(),
        genesis: object.to_vec(),
    })
}

async fn holds_a_genesis(store: &dyn ProvisionStore) -> Result<bool, StoreError> {
    let keys = list_keys(store, "genesis/");
    let mut of_versions =
        pin!(keys.try_filter(|(_, found)| std::future::ready(!found.versions.is_empty())));
    Ok(of_versions.try_next().await?.is_some())
}

/// Without the rules a repository works as well; it only never gets smaller.
async fn set_lifecycle(genesis: &Genesis, store: &dyn ProvisionStore, context: &Context) -> usize {
    let rules = lifecycle::rules(genesis.lock.cap, lifecycle::GRACE_DAYS);
    match store.put_lifecycle(&rules).await {
        Ok(()) => rules.len(),
        Err(error) => {
            context.warn(format!(
                "cannot set lifecycle rules ({error}): nothing expires until you set them (see docs/operations.md)"
            ));
            0
        }
    }
}

fn genesis(plan: &InitPlan, floor: Duration, cap: Duration, now: DateTime<Utc>) -> Genesis {
    let signer = |line: &String| GenesisSigner {
        public_key: line.clone(),
        valid_from: now,
        valid_until: None,
    };
    let tier = |tier: &Tier| GenesisTier {
        name: tier.name.clone(),
        every: tier.every,
        keep: tier.keep,
        bucket: plan.bucket.clone(),
    };
    Genesis {
        format: Genesis::FORMAT.to_owned(),
        repository: RepositoryId::from_bytes(rand::random()),
        key: ObjectKey::genesis(1),
        n: 1,
        created_at: now,
        previous: None,
        signers: plan.signer_public_lines.iter().map(signer).collect(),
        recipients: plan.recipients.clone(),
        lock: GenesisLock { mode: plan.lock_mode, by: LockBy::PerObject, floor, cap },
        tiers: plan.tiers.iter().map(tier).collect(),
    }
}

async fn put_genesis(
    plan: &InitPlan,
    genesis: &Genesis,
    store: &dyn ProvisionStore,
    sign: &Sign<'_>,
) -> Result<Bytes, InitError> {
    let body = document_body(genesis).map_err(InitError::Signature)?;
    let armour = sign(Namespace::Genesis, &body).map_err(InitError::Owner)?;
    let object = join(body, &armour);
    let found = Found { key: &genesis.key, repository: Some(genesis.repository) };
    let verified: Genesis =
        verify_document(&object, found, &plan.owner).map_err(InitError::Signature)?;
    verified.trust().map_err(InitError::Signature)?;
    let keep = genesis.lock.cap.saturating_sub(RUN_DURATION_MAX);
    let lock =
        lock::lock_for(genesis.created_at, keep, Duration::ZERO, genesis.lock.cap, plan.lock_mode)?;
    let object = Bytes::from(object);
    let put = put_locked(store, &genesis.key, object.clone(), lock).await;
    put.map(|_| object)
        .map_err(|source| InitError::Store { action: "store the genesis under lock", source })
}
