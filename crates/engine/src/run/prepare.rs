//! Whether there may be a snapshot in a repository, where it stands in its chain, what it may reuse, and how long it is kept:
//! decided before anything is written.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join_all;
use stonekeep_format::{
    chain::Position,
    codec::Recipients,
    genesis::{GenesisLock, LockBy},
    ids::{ChainId, Seq, SnapshotId},
    inventory::{Segment, TableTotals},
    key::{ObjectKey, Place},
    lock::{self, LockMode},
    manifest::{Link, Totals},
    signature::Namespace,
    tier::{self, Tier},
};
use stonekeep_store::{AppendStore, DefaultRetention, ReadStore, StoreError};

use super::{
    BackupError, BackupPlan, Target,
    known::Known,
    locks::{self, Locks},
    past::{self, Past, Reader},
    state::State,
};
use crate::{Context, repository::Repository, stores::Stores};

/// By how much a bucket's default retention must be longer than what its tier keeps (2 d): a run may take one, and what is
/// stored is named again by the next.
pub(crate) const MARGIN: Duration = Duration::from_secs(2 * 86_400);
/// Segments that are looked at before documents are relied on (16): of a bucket that has lost a fifth, 97 runs in 100 see it.
const LOOKS: usize = 16;

/// What a run has decided for one repository.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) repository: Repository,
    /// Where this snapshot goes.
    pub(crate) store: Arc<dyn AppendStore>,
    /// Where the writer keeps what it may not read back; absent if it may read the bucket.
    pub(super) state: Option<State>,
    pub(crate) position: Position,
    pub(super) maybe: Vec<ObjectKey>,
    pub(crate) tier: Tier,
    pub(crate) locks: Locks,
    pub(super) clock: ServerClock,
    pub(super) known: Known,
    pub(super) baseline: Option<(Totals, Vec<TableTotals>)>,
}

/// The storage server's clock, as far from the host's as it was when it was last asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServerClock(TimeDelta);

impl ServerClock {
    pub(super) fn now(self, context: &Context) -> DateTime<Utc> {
        context.clock.now() + self.0
    }
}

/// Reads genesis and history, and checks signer, recipients, clock, bucket and tier.
pub(crate) async fn prepare(
    plan: &BackupPlan,
    target: &Target,
    context: &Context,
) -> Result<Prepared, BackupError> {
    let recipients = Recipients::parse(&plan.recipients).map_err(BackupError::Recipients)?;
    for store in [&target.store].into_iter().chain(target.tiers.values()) {
        check_bucket(&**store).await?;
    }
    let started_at = server_time(&*target.store).await?;
    let now = context.clock.now();
    lock::check_skew(now, started_at)?;
    let repository = open(plan, target, context).await?;
    check_genesis(plan, target, &repository, &recipients, started_at, context)?;
    let (past, state) = read_past(plan, &repository, target, context).await?;
    let genesis_lock = &repository.genesis.lock;
    let maybe = maybe(&past, genesis_lock.cap, started_at);
    let position = place(&past, &maybe, started_at, context, plan);
    let tier = choose_tier(plan, &past.links, started_at)?;
    let store = Arc::clone(target.tiers.get(&tier.name).unwrap_or(&target.store));
    let locks = Locks {
        started_at,
        keep: tier.keep,
        cap: genesis_lock.cap,
        mode: genesis_lock.mode,
        by_bucket: default_of(&*store, &tier, genesis_lock).await?,
        interval: locks::interval(&past.links, started_at),
        first: !past.has_inventory,
    };
    // What cannot be locked is said before anything is read.
    locks.of_content(Some(DateTime::<Utc>::MIN_UTC))?;
    let known = Known::new(past.named, &plan.distrusted, plan.fresh);
    look_at_some(&repository.stores, &known, &locks, context).await?;
    Ok(Prepared {
        repository,
        state,
        store,
        position,
        maybe,
        tier,
        locks,
        clock: ServerClock(started_at - now),
        known,
        baseline: past.baseline,
    })
}

/// Documents say what is there, and are relied on for a day. So some of it is looked at: if a server has lost its objects, or
/// somebody with the power to has removed them, it shows now.
async fn look_at_some(
    stores: &Stores,
    known: &Known,
    locks: &Locks,
    context: &Context,
) -> Result<(), BackupError> {
    let look = |segment: Segment| async move {
        match stores.of(&segment.bucket).retention(&segment.key, &segment.version_id).await {
            Ok(Some(lock)) if lock.satisfies(&segment.lock) => Ok(None),
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(Some(segment.key)),
            Err(source) => {
                Err(BackupError::Store { action: "ask for the lock of a segment", source })
            }
        }
    };
    let here =
        known.sample(LOOKS, &locks.needed()).into_iter().filter(|each| stores.has(&each.bucket));
    let looks = try_join_all(here.map(look)).await?;
    if let Some(key) = looks.into_iter().flatten().next() {
        context.warn(format!(
            "{key} is not there, or not locked as it was: every segment is asked for before it is named again"
        ));
        known.doubt(locks.started_at);
    }
    Ok(())
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

fn stores_of(target: &Target) -> Stores {
    let of_tiers = target.tiers.values().map(|store| Arc::clone(store) as Arc<dyn ReadStore>);
    Stores::new(Arc::clone(&target.store) as _, of_tiers.collect())
}

/// If buckets name the locks: for how long the tier's bucket locks what is put there.
async fn default_of(
    store: &dyn AppendStore,
    tier: &Tier,
    wanted: &GenesisLock,
) -> Result<Option<Duration>, BackupError> {
    if wanted.by == LockBy::PerObject {
        return Ok(None);
    }
    let lock = store.bucket_lock().await.map_err(|source| BackupError::Store {
        action: "read the bucket's default retention",
        source,
    })?;
    let day = Duration::from_secs(86_400);
    let length = |default: &DefaultRetention| day * default.days;
    let is_enough = |default: &DefaultRetention| {
        let is_as_strict =
            default.mode == LockMode::Compliance || wanted.mode == LockMode::Governance;
        is_as_strict && length(default) >= tier.keep + MARGIN && length(default) <= wanted.cap
    };
    match lock.default.filter(is_enough) {
        Some(default) => Ok(Some(length(&default))),
        None => Err(BackupError::BucketDefault {
            bucket: store.bucket().to_string(),
            tier: tier.name.clone(),
            found: lock.default.map_or_else(
                || "none".to_owned(),
                |default| format!("{} days of {}", default.days, default.mode),
            ),
            mode: wanted.mode,
            days_min: (tier.keep + MARGIN).as_secs().div_ceil(day.as_secs()),
            days_max: wanted.cap.as_secs() / day.as_secs(),
        }),
    }
}

/// Finds the genesis in the bucket or, for a writer that may not read there, takes the copy it was given.
async fn open(
    plan: &BackupPlan,
    target: &Target,
    context: &Context,
) -> Result<Repository, BackupError> {
    let stores = stores_of(target);
    match (Repository::open(stores.clone(), &plan.owner, context).await, &target.genesis) {
        (Err(error), Some(genesis)) if past::is_denied(&error) => {
            Ok(Repository::pinned(genesis, stores, &plan.owner)?)
        }
        (opened, _) => Ok(opened?),
    }
}

/// Reads what earlier runs have left: in the bucket, in the state directory, or nowhere, which begins a new chain.
async fn read_past(
    plan: &BackupPlan,
    repository: &Repository,
    target: &Target,
    context: &Context,
) -> Result<(Past, Option<State>), BackupError> {
    let read = async |repository: &Repository| {
        let reader = Reader::new(repository, &plan.label, &plan.signer, context);
        Ok::<_, BackupError>(reader.map_err(BackupError::Sign)?.read().await)
    };
    match read(repository).await? {
        Ok(past) => return Ok((past, None)),
        Err(error) if past::is_denied(&error) => {}
        Err(error) => return Err(error.into()),
    }
    let Some(dir) = &target.state_dir else {
        context.warn("this credential may not list or read manifests, and there is no state directory: a full snapshot, which begins a new chain");
        return Ok((Past::default(), None));
    };
    let state = State::open(dir, target.store.bucket(), context)?;
    let stores = Stores::copy(state.store()?);
    let mut past = read(&Repository { stores, ..repository.clone() }).await??;
    past.maybe.extend(state.pending()?);
    Ok((past, Some(state)))
}

fn check_genesis(
    plan: &BackupPlan,
    target: &Target,
    repository: &Repository,
    recipients: &Recipients,
    now: DateTime<Utc>,
    context: &Context,
) -> Result<(), BackupError> {
    let genesis = &repository.genesis;
    let lock_by = if target.tiers.is_empty() { LockBy::PerObject } else { LockBy::BucketDefault };
    if genesis.lock.by != lock_by {
        return Err(BackupError::LockByDiffers { signed: genesis.lock.by, configured: lock_by });
    }
    if !repository.trust.allows_signer(&plan.signer, Namespace::Manifest, now) {
        return Err(BackupError::NotASigner { fingerprint: plan.signer.fingerprint() });
    }
    let signed = Recipients::parse(&genesis.recipients).map_err(BackupError::Recipients)?;
    if signed.fingerprint() != recipients.fingerprint() {
        return Err(BackupError::RecipientsDiffer);
    }
    for tier in &plan.tiers {
        if let Some(store) = target.tiers.get(&tier.name)
            && !genesis.tiers.iter().any(|signed| signed.bucket == *store.bucket())
        {
            let (tier, bucket) = (tier.name.clone(), store.bucket().to_string());
            return Err(BackupError::UnsignedBucket { tier, bucket });
        }
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

/// The chain position, from what is known. A writer without history begins a new chain and says so.
fn place(
    past: &Past,
    maybe: &[ObjectKey],
    now: DateTime<Utc>,
    context: &Context,
    plan: &BackupPlan,
) -> Position {
    let sent = maybe.iter().filter_map(|key| match Place::of(key) {
        Some(Place::Manifest(_, seq, ..)) => Some(seq),
        _ => None,
    });
    let mut position = past.chains.next(now, ChainId::from_bytes(rand::random()));
    if let Some(sent) = sent.max().filter(|sent| *sent >= position.seq) {
        position.seq = Seq(sent.0 + 1);
    }
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
    position
}

/// Manifests that were sent without an answer and that nobody has seen: named for as long as one could be promised, lest it be
/// taken for a fork when it shows.
fn maybe(past: &Past, cap: Duration, now: DateTime<Utc>) -> Vec<ObjectKey> {
    let seen: BTreeSet<&SnapshotId> = past.links.iter().map(|link| &link.id).collect();
    let sent = past.maybe.iter().chain(past.chains.maybe().map(|(_, key)| key));
    let unseen = sent.filter(|key| match Place::of(key) {
        Some(Place::Manifest(.., id)) => {
            !seen.contains(&id) && lock::promised_until(id.begun_at(), cap) > now
        }
        _ => false,
    });
    unseen.cloned().collect::<BTreeSet<ObjectKey>>().into_iter().collect()
}

/// A snapshot is of the period in which its run began, however long it took.
fn choose_tier(plan: &BackupPlan, links: &[Link], now: DateTime<Utc>) -> Result<Tier, BackupError> {
    let begun: Vec<(DateTime<Utc>, Duration)> = links
        .iter()
        .filter(|link| !link.suspicious && link.promised_until() > now)
        .map(|link| (link.id.begun_at(), link.keep))
        .collect();
    let tier = tier::choose(&plan.tiers, &begun, now, plan.zone);
    tier.cloned().ok_or(BackupError::NoTier)
}
