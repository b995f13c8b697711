//! Making a repository: bucket, policy, genesis. Done once, by a person, with the owner's key.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

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
use stonekeep_store::{
    Created, DefaultRetention, ProbeStore, ProvisionStore, StoreError, list_keys, put_locked,
};

use crate::{
    Context, lifecycle,
    prove::{ProveError, UNREAD, calibrate},
    run::MARGIN,
};

/// What to make.
#[derive(Debug, Clone)]
pub struct InitPlan {
    /// The keys that may sign snapshots, one line of OpenSSH text each.
    pub signer_public_lines: Vec<String>,
    /// The age recipients, two or more.
    pub recipients: Vec<String>,
    /// The tiers, one or more.
    pub tiers: Vec<Tier>,
    /// The policies to apply, as JSON, by the names of the buckets. A bucket that is not among them gets none.
    pub policies: BTreeMap<BucketName, String>,
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
    /// The buckets that were made now.
    pub buckets_created: Vec<BucketName>,
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

/// The buckets to make a repository in.
#[derive(Debug, Clone)]
pub struct Buckets {
    /// The one for the genesis and, unless buckets name the locks, for everything.
    pub main: Arc<dyn ProvisionStore>,
    /// If buckets name the locks: the one of each tier, by the tier's name. Else empty.
    pub of_tiers: BTreeMap<String, Arc<dyn ProvisionStore>>,
    /// The same buckets, each once, to ask what an authorised caller is told where nothing can take effect.
    pub probes: Vec<Arc<dyn ProbeStore>>,
}

impl Buckets {
    /// Returns all of them, each once.
    pub(crate) fn all(&self) -> Vec<&Arc<dyn ProvisionStore>> {
        let mut all = vec![&self.main];
        for store in self.of_tiers.values() {
            if !all.iter().any(|other| other.bucket() == store.bucket()) {
                all.push(store);
            }
        }
        all
    }

    pub(crate) fn lock_by(&self) -> LockBy {
        if self.of_tiers.is_empty() { LockBy::PerObject } else { LockBy::BucketDefault }
    }
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
    /// The server cannot be asked what it tells an authorised caller.
    #[error("cannot ask the storage server what it tells an authorised caller")]
    Calibrate(#[source] ProveError),
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
            Self::Calibrate(source) => source.kind(),
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
    buckets: &Buckets,
    sign: &Sign<'_>,
    context: &Context,
) -> Result<InitReport, InitError> {
    let store = &*buckets.main;
    Recipients::parse(&plan.recipients).map_err(InitError::Recipients)?;
    let keeps = plan.tiers.iter().map(|tier| tier.keep);
    let (Some(floor), Some(longest)) = (keeps.clone().min(), keeps.max()) else {
        return Err(InitError::NoTier);
    };
    let failed = |action| move |source| InitError::Store { action, source };
    let mut created = Vec::new();
    for store in buckets.all() {
        let made = store.create_bucket().await;
        created.push((store, made.map_err(failed("make the bucket with Object Lock"))?));
    }
    if holds_a_genesis(store).await.map_err(failed("list the bucket"))? {
        return Err(InitError::Exists { bucket: store.bucket().clone() });
    }
    for store in buckets.of_tiers.values() {
        let is_here = |tier: &&Tier| {
            buckets.of_tiers.get(&tier.name).is_some_and(|of| of.bucket() == store.bucket())
        };
        let keep = plan.tiers.iter().filter(is_here).map(|tier| tier.keep).max();
        set_default(plan, keep.unwrap_or(longest), &**store).await?;
    }
    let now = store.server_time().await.map_err(failed("read the storage server's clock"))?;
    lock::check_skew(context.clock.now(), now)?;
    // Before anything is configured: what takes effect although it means nothing does no harm then.
    let calibration = calibration(buckets, plan.lock_mode).await?;
    for store in buckets.all() {
        if let Some(policy) = plan.policies.get(store.bucket()) {
            store.put_policy(policy).await.map_err(failed("apply the bucket policy"))?;
        }
    }
    let mut lifecycle_rules = 0;
    let mut buckets_created = Vec::new();
    for (store, _) in created.into_iter().filter(|(_, made)| *made == Created::New) {
        buckets_created.push(store.bucket().clone());
        lifecycle_rules += set_lifecycle(lock::cap(longest), &**store, context).await;
    }
    let mut genesis = genesis(plan, buckets, floor, lock::cap(longest), now);
    genesis.expected = expected(buckets).await?;
    genesis.calibration = calibration;
    let object = put_genesis(&plan.owner, &genesis, store, sign).await?;
    Ok(InitReport {
        repository: genesis.repository,
        genesis_key: genesis.key,
        buckets_created,
        lifecycle_rules,
        policy_applied: !plan.policies.is_empty(),
        commands: Vec::new(),
        genesis: object.to_vec(),
    })
}

/// Returns the days of the default retention of a bucket whose snapshots are kept that long: keep and, as a writer's window
/// would be, once more as long (90 days at most).
#[must_use]
pub fn default_days(keep: Duration) -> u32 {
    let length = keep + keep.min(lock::WINDOW_MAX).max(MARGIN);
    u32::try_from(length.as_secs().div_ceil(86_400)).unwrap_or(u32::MAX)
}

/// Lets a tier's bucket lock what is put there. A default that the bucket has already is left as it is; the writer judges it.
async fn set_default(
    plan: &InitPlan,
    keep: Duration,
    store: &dyn ProvisionStore,
) -> Result<(), InitError> {
    let failed = |action| move |source| InitError::Store { action, source };
    let lock = store.bucket_lock().await.map_err(failed("read the bucket's default retention"))?;
    if lock.default.is_some() {
        return Ok(());
    }
    let default = DefaultRetention { mode: plan.lock_mode, days: default_days(keep) };
    let set = store.put_default_retention(default).await;
    set.map_err(failed("set the bucket's default retention"))
}

async fn holds_a_genesis(store: &dyn ProvisionStore) -> Result<bool, StoreError> {
    let keys = list_keys(store, "genesis/");
    let mut of_versions =
        pin!(keys.try_filter(|(_, found)| std::future::ready(!found.versions.is_empty())));
    Ok(of_versions.try_next().await?.is_some())
}

/// Without the rules a repository works as well; it only never gets smaller.
async fn set_lifecycle(cap: Duration, store: &dyn ProvisionStore, context: &Context) -> usize {
    let rules = lifecycle::rules(cap, lifecycle::GRACE_DAYS);
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

fn genesis(
    plan: &InitPlan,
    buckets: &Buckets,
    floor: Duration,
    cap: Duration,
    now: DateTime<Utc>,
) -> Genesis {
    let signer = |line: &String| GenesisSigner {
        public_key: line.clone(),
        valid_from: now,
        valid_until: None,
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
        lock: GenesisLock { mode: plan.lock_mode, by: buckets.lock_by(), floor, cap },
        tiers: genesis_tiers(&plan.tiers, buckets),
        expected: BTreeMap::new(),
        calibration: BTreeMap::new(),
    }
}

/// Says in which bucket each tier's snapshots lie.
pub(crate) fn genesis_tiers(tiers: &[Tier], buckets: &Buckets) -> Vec<GenesisTier> {
    let tier = |tier: &Tier| GenesisTier {
        name: tier.name.clone(),
        every: tier.every,
        keep: tier.keep,
        bucket: buckets.of_tiers.get(&tier.name).unwrap_or(&buckets.main).bucket().clone(),
    };
    tiers.iter().map(tier).collect()
}

/// Asks each server what it tells an authorised caller; see [`calibrate`].
pub(crate) async fn calibration(
    buckets: &Buckets,
    lock_mode: LockMode,
) -> Result<BTreeMap<String, u16>, InitError> {
    let mut calibration = BTreeMap::new();
    for probe in &buckets.probes {
        calibration.extend(calibrate(&**probe, lock_mode).await.map_err(InitError::Calibrate)?);
    }
    Ok(calibration)
}

/// Reads how each bucket is configured, for watchers to compare with.
pub(crate) async fn expected(
    buckets: &Buckets,
) -> Result<BTreeMap<BucketName, BTreeMap<String, String>>, InitError> {
    let action = "read the bucket's configuration";
    let mut expected = BTreeMap::new();
    for store in buckets.all() {
        let facts = store.bucket_facts().await;
        let mut facts = facts.map_err(|source| InitError::Store { action, source })?;
        let unread = facts.unread.into_iter().map(|part| (part, UNREAD.to_owned()));
        facts.facts.extend(unread);
        expected.insert(store.bucket().clone(), facts.facts);
    }
    Ok(expected)
}

/// Signs a genesis with the owner's key, checks that readers will believe it, and puts it under lock.
pub(crate) async fn put_genesis(
    owner: &Trust,
    genesis: &Genesis,
    store: &dyn ProvisionStore,
    sign: &Sign<'_>,
) -> Result<Bytes, InitError> {
    let body = document_body(genesis).map_err(InitError::Signature)?;
    let armour = sign(Namespace::Genesis, &body).map_err(InitError::Owner)?;
    let object = join(body, &armour);
    let found = Found { key: &genesis.key, repository: Some(genesis.repository) };
    let verified: Genesis = verify_document(&object, found, owner).map_err(InitError::Signature)?;
    verified.trust().map_err(InitError::Signature)?;
    let keep = genesis.lock.cap.saturating_sub(RUN_DURATION_MAX);
    let GenesisLock { cap, mode, .. } = genesis.lock;
    let lock = lock::lock_for(genesis.created_at, keep, Duration::ZERO, cap, mode)?;
    let object = Bytes::from(object);
    let put = put_locked(store, &genesis.key, object.clone(), lock).await;
    put.map(|_| object)
        .map_err(|source| InitError::Store { action: "store the genesis under lock", source })
}
