//! The successor of a genesis: other signers, recipients, tiers, or the same and a bucket that is configured anew. Signed by
//! the owner key, like the first; whoever holds the writer's host alone can put a successor, and nobody believes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde::Serialize;
use stonekeep_format::{
    ErrorKind,
    codec::{CodecError, Recipients},
    genesis::{Genesis, GenesisLock, GenesisSigner},
    ids::{BucketName, RepositoryId},
    key::ObjectKey,
    lock::{self, Lock},
    signature::{Trust, fingerprint},
    tier::Tier,
};
use stonekeep_store::{ReadStore, see_locked};

use crate::{
    Context,
    init::{Buckets, InitError, Sign, calibration, expected, genesis_tiers, put_genesis},
    prove::{UNREAD, differences},
    repository::{Repository, RepositoryError},
    stores::Stores,
};

/// What is to hold from now on.
#[derive(Debug, Clone)]
pub struct RotatePlan {
    /// The keys that may sign snapshots, one line of OpenSSH text each.
    pub signer_public_lines: Vec<String>,
    /// The age recipients, two or more.
    pub recipients: Vec<String>,
    /// The tiers, one or more.
    pub tiers: Vec<Tier>,
    /// From when on the signatures of a signer that is withdrawn do not count; `None`: from now on. If none is withdrawn now, it
    /// is said of the one that was last.
    pub withdrawn_from: Option<DateTime<Utc>>,
    /// Whether to sign how the buckets are configured although that is not what was signed before.
    pub accept_configuration: bool,
    /// The owner keys that readers believe.
    pub owner: Trust,
}

/// What was signed.
#[derive(Debug, Clone, Serialize)]
pub struct RotateReport {
    /// The repository.
    pub repository: RepositoryId,
    /// The new genesis.
    pub genesis_key: ObjectKey,
    /// What is other than before, in words.
    pub changes: Vec<String>,
    /// The genesis as it was signed, for a writer that may not read it in the bucket.
    #[serde(skip)]
    pub genesis: Vec<u8>,
}

/// Why there is no successor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// It would say the same.
    #[error(
        "genesis {n} says the same already: change signers, recipients or tiers in the daemon's configuration first; nothing was changed"
    )]
    Unchanged {
        /// The one in force.
        n: u32,
    },
    /// The buckets are configured otherwise than was signed.
    #[error(
        "the buckets are configured otherwise than the owner has signed ({}): set it back, or sign it with --accept-configuration; nothing was changed", .0.join("; ")
    )]
    Configured(Vec<String>),
    /// The repository cannot be read with the provisioner's credential.
    #[error(transparent)]
    Repository(Box<RepositoryError>),
    /// Nobody is withdrawn from a time that is to come.
    #[error("{} is still to come: until then the signer would be believed", .0.to_rfc3339())]
    Early(DateTime<Utc>),
    /// Who names the locks cannot change.
    #[error(
        "the repository's locks are named by another than in the daemon's configuration: that cannot change; make a new repository with `stonekeep init`"
    )]
    LockBy,
    /// The recipients cannot be used.
    #[error("the recipients cannot be used")]
    Recipients(#[source] CodecError),
    /// As for a first genesis.
    #[error(transparent)]
    Genesis(#[from] InitError),
}

impl RotateError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unchanged { .. } | Self::Configured(_) => ErrorKind::Conflict,
            Self::Early(_) => ErrorKind::Usage,
            Self::Repository(source) => source.kind(),
            Self::LockBy | Self::Recipients(_) => ErrorKind::Config,
            Self::Genesis(source) => source.kind(),
        }
    }
}

/// Opens the repository in the buckets that its successor is to be put into.
///
/// # Errors
/// [`RotateError::Repository`].
pub async fn known(
    buckets: &Buckets,
    owner: &Trust,
    context: &Context,
) -> Result<Repository, RotateError> {
    let main = Arc::clone(&buckets.main) as Arc<dyn ReadStore>;
    let of_tiers = buckets.of_tiers.values().map(|store| Arc::clone(store) as Arc<dyn ReadStore>);
    let opened = Repository::open(Stores::new(main, of_tiers.collect()), owner, context).await;
    opened.map_err(|source| RotateError::Repository(Box::new(source)))
}

/// Signs and puts the genesis that follows the one in force, and locks those before it as long again. `repository` is what
/// [`known`] has opened in `buckets`.
///
/// # Errors
/// [`RotateError`]: nothing was changed.
pub async fn rotate(
    plan: &RotatePlan,
    repository: &Repository,
    buckets: &Buckets,
    sign: &Sign<'_>,
    context: &Context,
) -> Result<RotateReport, RotateError> {
    let failed = |action| move |source| InitError::Store { action, source };
    Recipients::parse(&plan.recipients).map_err(RotateError::Recipients)?;
    let before = &repository.genesis;
    if before.lock.by != buckets.lock_by() {
        return Err(RotateError::LockBy);
    }
    let store = &*buckets.main;
    let now = store.server_time().await.map_err(failed("read the storage server's clock"))?;
    lock::check_skew(context.clock.now(), now).map_err(InitError::Lock)?;
    if let Some(early) = plan.withdrawn_from.filter(|from| *from > now) {
        return Err(RotateError::Early(early));
    }
    let mut next = successor(plan, repository, buckets, now)?;
    next.expected = configuration(plan, before, buckets).await?;
    // What was asked once is known, though this credential be told less.
    let told = calibration(buckets, next.lock.mode).await?;
    next.calibration.extend(told);
    let changes = changes(before, &next);
    if changes.is_empty() {
        return Err(RotateError::Unchanged { n: before.n });
    }
    let object = put_genesis(&plan.owner, &next, store, sign).await?;
    let lock = Lock { mode: next.lock.mode, retain_until: now + next.lock.cap };
    for before in &repository.line {
        let (key, version) = (&before.version.key, before.version.version_id.clone());
        let locked = see_locked(store, key, version, lock).await;
        if let Err(error) = locked {
            context.warn(format!("{key} could not be locked as long as its successor: {error}"));
        }
    }
    let (repository, genesis_key, genesis) = (next.repository, next.key, object.to_vec());
    Ok(RotateReport { repository, genesis_key, changes, genesis })
}

/// How the buckets are configured now. A part that was signed and that this credential may not read stays as it was signed: else
/// nobody would compare it any more. One that differs is somebody's doing, and is signed only if a person says so.
async fn configuration(
    plan: &RotatePlan,
    before: &Genesis,
    buckets: &Buckets,
) -> Result<BTreeMap<BucketName, BTreeMap<String, String>>, RotateError> {
    let mut now = expected(buckets).await?;
    let mut differ = Vec::new();
    for (bucket, signed) in &before.expected {
        let Some(found) = now.get_mut(bucket) else { continue };
        for (part, text) in signed.iter().filter(|(_, text)| *text != UNREAD) {
            if found.get(part).is_none_or(|found| found == UNREAD) {
                found.insert(part.clone(), text.clone());
            }
        }
        differ
            .extend(differences(signed, found).into_iter().map(|what| format!("{bucket}: {what}")));
    }
    if differ.is_empty() || plan.accept_configuration {
        return Ok(now);
    }
    Err(RotateError::Configured(differ))
}

fn successor(
    plan: &RotatePlan,
    repository: &Repository,
    buckets: &Buckets,
    now: DateTime<Utc>,
) -> Result<Genesis, InitError> {
    let before = &repository.genesis;
    let keeps = plan.tiers.iter().map(|tier| tier.keep);
    let (Some(floor), Some(longest)) = (keeps.clone().min(), keeps.max()) else {
        return Err(InitError::NoTier);
    };
    let n = before.n + 1;
    Ok(Genesis {
        key: ObjectKey::genesis(n),
        n,
        created_at: now,
        previous: repository.line.last().map(|object| object.digest),
        signers: signers(plan, before, now),
        recipients: plan.recipients.clone(),
        lock: GenesisLock { floor, cap: lock::cap(longest), ..before.lock.clone() },
        tiers: genesis_tiers(&plan.tiers, buckets),
        ..before.clone()
    })
}

/// Nobody is forgotten: what a signer has signed while he might stays believed.
fn signers(plan: &RotatePlan, before: &Genesis, now: DateTime<Utc>) -> Vec<GenesisSigner> {
    let is_active = |signer: &GenesisSigner| signer.valid_until.is_none();
    let stays = |signer: &GenesisSigner| {
        is_active(signer) && plan.signer_public_lines.contains(&signer.public_key)
    };
    let is_one_withdrawn = before.signers.iter().any(|each| is_active(each) && !stays(each));
    let last = before.signers.iter().filter_map(|each| each.valid_until).max();
    let until = |signer: &GenesisSigner| match (signer.valid_until, plan.withdrawn_from) {
        (None, from) if !stays(signer) => Some(from.unwrap_or(now)),
        // A theft that was earlier than was thought.
        (already, Some(from)) if !is_one_withdrawn && already.is_some() && already == last => {
            already.min(Some(from))
        }
        (already, _) => already,
    };
    let ended = before
        .signers
        .iter()
        .map(|signer| GenesisSigner { valid_until: until(signer), ..signer.clone() });
    let known: BTreeSet<&String> =
        before.signers.iter().filter(|each| stays(each)).map(|each| &each.public_key).collect();
    let new = plan.signer_public_lines.iter().filter(|line| !known.contains(line));
    let new = new.map(|line| GenesisSigner {
        public_key: line.clone(),
        valid_from: now,
        valid_until: None,
    });
    ended.chain(new).collect()
}

fn changes(before: &Genesis, next: &Genesis) -> Vec<String> {
    let mut changes = Vec::new();
    for signer in next.signers.iter().filter(|each| !before.signers.contains(each)) {
        let key = fingerprint(&signer.public_key).unwrap_or_else(|_| signer.public_key.clone());
        changes.push(match signer.valid_until {
            None => format!("may sign from now on: {key}"),
            Some(until) => format!("may sign no longer, from {}: {key}", until.to_rfc3339()),
        });
    }
    let (old, new) = (set(&before.recipients), set(&next.recipients));
    changes.extend(new.difference(&old).map(|key| format!("can open from now on: {key}")));
    changes.extend(
        old.difference(&new)
            .map(|key| format!("can open no new snapshots, and all old ones: {key}")),
    );
    for (what, changed) in [
        ("the tiers", before.tiers != next.tiers),
        ("the floor or the cap of locks", before.lock != next.lock),
        ("how the buckets are configured", before.expected != next.expected),
        ("what an authorised caller is told", before.calibration != next.calibration),
    ] {
        if changed {
            changes.push(format!("signed anew: {what}"));
        }
    }
    changes
}

fn set(texts: &[String]) -> BTreeSet<&String> {
    texts.iter().collect()
}

#[cfg(test)]
mod tests;
