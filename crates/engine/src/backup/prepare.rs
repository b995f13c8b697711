//! Whether there may be a snapshot, where it stands in its chain, and how long it is kept: decided before anything is written.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use stonekeep_format::{
    chain::{self, Position},
    codec::{Recipients, SegmentKeyer},
    genesis::LockBy,
    ids::{ChainId, SnapshotId},
    lock::{self, Class, Lock, LockMode},
    signature::{Namespace, Signer},
    tier::{self, Tier},
};
use stonekeep_store::{AppendStore, StoreError};

use super::{BackupError, BackupPlan};
use crate::{
    Context,
    history::History,
    repository::{Repository, RepositoryError},
};

/// What a run has decided.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) repository: Repository,
    pub(crate) store: Arc<dyn AppendStore>,
    pub(crate) recipients: Arc<Recipients>,
    pub(crate) keyer: SegmentKeyer,
    pub(crate) id: SnapshotId,
    pub(crate) position: Position,
    pub(crate) tier: Tier,
    /// The lock of everything this run puts.
    pub(crate) lock: Lock,
    pub(crate) class: Class,
    /// When the run began, by the storage server's clock.
    pub(crate) started_at: DateTime<Utc>,
}

/// Reads genesis and history, and checks signer, recipients, clock, bucket and tier.
pub(crate) async fn prepare(
    plan: &BackupPlan,
    store: Arc<dyn AppendStore>,
    context: &Context,
) -> Result<Prepared, BackupError> {
    let recipients = Recipients::parse(&plan.recipients).map_err(BackupError::Recipients)?;
    check_bucket(&*store).await?;
    let started_at = server_time(&*store).await?;
    lock::check_skew(context.clock.now(), started_at)?;
    let repository = Repository::open(Arc::clone(&store) as _, &plan.owner, context).await?;
    check_genesis(plan, &repository, &recipients, started_at, context)?;
    let (position, tier) = place(plan, &repository, started_at, context).await?;
    let genesis_lock = &repository.genesis.lock;
    // Nothing is reused yet, so no lock needs a window beyond its promise.
    let lock =
        lock::lock_for(started_at, tier.keep, Duration::ZERO, genesis_lock.cap, genesis_lock.mode)?;
    Ok(Prepared {
        keyer: SegmentKeyer::new(&plan.signer, plan.label.clone(), &recipients),
        recipients: Arc::new(recipients),
        id: SnapshotId::new(started_at, rand::random()),
        class: Class::of(started_at, lock.retain_until),
        repository,
        store,
        position,
        tier,
        lock,
        started_at,
    })
}

/// Reads the storage server's clock.
pub(super) async fn server_time(store: &dyn AppendStore) -> Result<DateTime<Utc>, BackupError> {
    let failed = |source| BackupError::Store { action: "read the storage server's clock", source };
    store.server_time().await.map_err(failed)
}

/// A writer that may not read the bucket's configuration is no fault: each lock is read back anyway.
async fn check_bucket(store: &dyn AppendStore) -> Result<(), BackupError> {
    let bucket = store.bucket().to_string();
    match store.bucket_lock().await {
        Ok(lock) if lock.enabled => Ok(()),
        Ok(_) | Err(StoreError::NoObjectLock { .. }) => Err(BackupError::NoObjectLock { bucket }),
        Err(StoreError::Denied { .. }) => Ok(()),
        Err(source) => Err(BackupError::Store {
            action: "read the bucket's Object Lock configuration",
            source,
        }),
    }
}

fn check_genesis(
    plan: &BackupPlan,
    repository: &Repository,
    recipients: &Recipients,
    now: DateTime<Utc>,
    context: &Context,
) -> Result<(), BackupError> {
    let genesis = &repository.genesis;
    if genesis.lock.by == LockBy::BucketDefault {
        return Err(BackupError::BucketDefault);
    }
    if !signer_is_trusted(&plan.signer, repository, now) {
        return Err(BackupError::NotASigner { fingerprint: plan.signer.fingerprint() });
    }
    let signed = Recipients::parse(&genesis.recipients).map_err(BackupError::Recipients)?;
    if signed.fingerprint() != recipients.fingerprint() {
        return Err(BackupError::RecipientsDiffer);
    }
    for tier in &plan.tiers {
        if tier.keep < genesis.lock.floor {
            return Err(BackupError::BelowFloor {
                tier: tier.name.clone(),
                keep_secs: tier.keep.as_secs(),
                floor_secs: genesis.lock.floor.as_secs(),
            });
        }
    }
    if genesis.lock.mode == LockMode::Governance {
        context.warn("locks are of mode GOVERNANCE: a credential with the right to bypass can delete these backups");
    }
    Ok(())
}

fn signer_is_trusted(signer: &Signer, repository: &Repository, now: DateTime<Utc>) -> bool {
    repository.trust.allows_signer(signer, Namespace::Manifest, now)
}

/// The chain position and the tier, from what the bucket shows. A writer that may not list begins a new chain and says so.
async fn place(
    plan: &BackupPlan,
    repository: &Repository,
    now: DateTime<Utc>,
    context: &Context,
) -> Result<(Position, Tier), BackupError> {
    let history = match History::load(repository, Some(&plan.label), context).await {
        Ok(history) => history,
        Err(RepositoryError::Store { source: StoreError::Denied { .. }, .. }) => {
            context.warn("this credential may not list or read manifests: beginning a new chain, which knows nothing of earlier snapshots");
            History::default()
        }
        Err(error) => return Err(error.into()),
    };
    let snapshots = history.of(&plan.label);
    let position = chain::next(snapshots, now, ChainId::from_bytes(rand::random()));
    if position.previous.is_empty() {
        context.warn(format!(
            "no earlier snapshot of {}: beginning chain {}",
            plan.label, position.chain
        ));
    }
    if position.previous.len() > 1 {
        context.warn(format!(
            "closing a fork of chain {}: two snapshots followed the same one",
            position.chain
        ));
    }
    let committed: Vec<_> = snapshots
        .iter()
        .map(|each| &each.manifest)
        .filter(|manifest| manifest.suspicious.is_none() && manifest.promised_until > now)
        .map(|manifest| (manifest.committed_at, manifest.keep))
        .collect();
    let tier = tier::choose(&plan.tiers, &committed, now, plan.zone).ok_or(BackupError::NoTier)?;
    Ok((position, tier.clone()))
}
