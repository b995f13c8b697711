//! Taking a snapshot: from a live database to a manifest in the bucket.
//!
//! `prepare` decides, before anything is written, whether there may be a snapshot and how long it is kept; `copy` moves rows
//! into locked segments; `commit` checks that nothing is missing and puts the manifest, whose PUT is the commit. Whatever
//! fails on the way leaves segments that no manifest names, and an error.

mod budget;
mod commit;
mod copy;
mod large_objects;
mod members;
mod prepare;
mod upload;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use stonekeep_format::{
    ErrorKind,
    codec::CodecError,
    ids::{ChainId, Label, Seq, SnapshotId},
    inventory::InventoryError,
    lock::LockError,
    manifest::Totals,
    signature::{SignatureError, Signer, Trust},
    tier::Tier,
};
use stonekeep_postgres::source::{self, DumpError, SourceOptions};
use stonekeep_store::{AppendStore, StoreError};

pub(crate) use self::prepare::{Prepared, prepare};
use crate::{
    Context,
    events::{Event, Phase},
    repository::RepositoryError,
};

/// What to back up, and under which rules.
#[derive(Debug, Clone)]
pub struct BackupPlan {
    /// The database's label.
    pub label: Label,
    /// The retention tiers, in any order; at least one.
    pub tiers: Vec<Tier>,
    /// The time zone in which the tiers' periods are counted.
    pub zone: Tz,
    /// zstd's level, 1 to 19.
    pub compression_level: i32,
    /// Bytes of plaintext and ciphertext in memory at the same time.
    pub memory_budget_bytes: u64,
    /// The host's signing key.
    pub signer: Signer,
    /// The age recipients; the same as in the genesis.
    pub recipients: Vec<String>,
    /// The owner's key, which signs the genesis.
    pub owner: Trust,
}

/// A snapshot that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupReport {
    /// The database's label.
    pub label: Label,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its position.
    pub seq: Seq,
    /// Its chain.
    pub chain: ChainId,
    /// Its tier.
    pub tier: String,
    /// When it was committed, by the storage server's clock.
    pub committed_at: DateTime<Utc>,
    /// Until when it is promised.
    pub promised_until: DateTime<Utc>,
    /// What it holds.
    pub totals: Totals,
    /// Wall time of the run, in milliseconds.
    pub duration_ms: u64,
    /// What pg_dump warned of.
    pub warnings: Vec<String>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The repository cannot be used.
    #[error("cannot use the repository")]
    Repository(#[from] RepositoryError),
    /// The signer is not (or no longer) in the genesis.
    #[error(
        "the signer {fingerprint} may not sign in this repository now: its genesis does not list it; the owner must sign a genesis that does"
    )]
    NotASigner {
        /// SHA-256 fingerprint of the configured key.
        fingerprint: String,
    },
    /// The configured recipients are not those the owner signed.
    #[error(
        "the recipients in the configuration are not those of the repository's genesis: whoever changed them must have the owner sign a new genesis"
    )]
    RecipientsDiffer,
    /// The recipients cannot be used.
    #[error("the recipients cannot be used")]
    Recipients(#[source] CodecError),
    /// The bucket names the locks.
    #[error(
        "this repository's locks are set by the bucket (lock = \"bucket-default\"), which this version cannot write"
    )]
    BucketDefault,
    /// The bucket has no Object Lock.
    #[error(
        "bucket {bucket} has no Object Lock: it can only be had when a bucket is made, or by the provider's console; use another bucket"
    )]
    NoObjectLock {
        /// The bucket.
        bucket: String,
    },
    /// No tier is configured.
    #[error("no retention tier is configured: add a [[tier]]")]
    NoTier,
    /// A tier keeps for less than the repository's floor.
    #[error(
        "tier {tier:?} keeps for {keep_secs} s, less than the {floor_secs} s that the repository's genesis allows"
    )]
    BelowFloor {
        /// The tier.
        tier: String,
        /// Its keep.
        keep_secs: u64,
        /// The floor.
        floor_secs: u64,
    },
    /// The lock cannot be what it must be.
    #[error("cannot lock this snapshot as its tier asks")]
    Lock(#[from] LockError),
    /// The database cannot be read.
    #[error("cannot read database {label}")]
    Source {
        /// The label.
        label: Label,
        /// Why.
        #[source]
        source: DumpError,
    },
    /// The bucket refused or lost something.
    #[error("cannot {action}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// What the store said.
        #[source]
        source: StoreError,
    },
    /// A segment cannot be sealed.
    #[error("cannot seal a segment")]
    Seal(#[source] CodecError),
    /// The inventory cannot be written.
    #[error("cannot write the inventory")]
    Inventory(#[source] InventoryError),
    /// A signed object cannot be written.
    #[error("cannot sign the snapshot")]
    Sign(#[source] SignatureError),
    /// What was read does not add up. There is no snapshot.
    #[error("the dump is not complete: {what}; no snapshot was made")]
    Incomplete {
        /// What is missing or wrong; names tables, never rows.
        what: String,
    },
    /// A lock ends before the promise it must outlive.
    #[error(
        "the lock of {key} ends at {retain_until}, before the promise ({promised_until}): the run took too long; no snapshot was made"
    )]
    PromiseOutlivesLock {
        /// The object.
        key: String,
        /// When its lock ends.
        retain_until: DateTime<Utc>,
        /// The promise.
        promised_until: DateTime<Utc>,
    },
    /// The manifest was put and it is unknown whether it is there.
    #[error(
        "the manifest {key} was sent and no answer came: the snapshot may exist or not; `stonekeep list` tells"
    )]
    Uncertain {
        /// Its key.
        key: String,
        /// What the store said.
        #[source]
        source: StoreError,
    },
    /// Stopped on request.
    #[error("stopped on request; no snapshot was made")]
    Cancelled,
    /// A task of ours panicked.
    #[error("an internal task failed; no snapshot was made")]
    Task(#[source] tokio::task::JoinError),
    /// Something that cannot be was.
    #[error("internal error: {0}")]
    Internal(String),
}

impl BackupError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Repository(source) => source.kind(),
            Self::Source { source, .. } => source.kind(),
            Self::Store { source, .. } => source.kind(),
            Self::Lock(LockError::Skewed { .. }) | Self::PromiseOutlivesLock { .. } => {
                ErrorKind::Unavailable
            }
            Self::Cancelled | Self::Uncertain { .. } => ErrorKind::Unavailable,
            Self::NotASigner { .. } | Self::RecipientsDiffer => ErrorKind::Corrupt,
            Self::Incomplete { .. } => ErrorKind::Corrupt,
            Self::Recipients(_)
            | Self::BucketDefault
            | Self::NoObjectLock { .. }
            | Self::NoTier
            | Self::BelowFloor { .. }
            | Self::Lock(_) => ErrorKind::Config,
            Self::Seal(_)
            | Self::Inventory(_)
            | Self::Sign(_)
            | Self::Task(_)
            | Self::Internal(_) => ErrorKind::Internal,
        }
    }
}

/// Takes one snapshot of one database into one repository.
///
/// # Errors
/// [`BackupError`]: there is no snapshot, or (only [`BackupError::Uncertain`]) it is not known whether there is one.
pub async fn backup(
    plan: &BackupPlan,
    source: &SourceOptions,
    store: Arc<dyn AppendStore>,
    context: &Context,
) -> Result<BackupReport, BackupError> {
    let begun_at = context.clock.now();
    let run = take(plan, source, store, context);
    let outcome = tokio::select! {
        outcome = run => outcome,
        () = context.cancel.cancelled() => Err(BackupError::Cancelled),
    };
    outcome.map(|mut report| {
        let took = (context.clock.now() - begun_at).to_std().unwrap_or(Duration::ZERO);
        report.duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        report
    })
}

async fn take(
    plan: &BackupPlan,
    source: &SourceOptions,
    store: Arc<dyn AppendStore>,
    context: &Context,
) -> Result<BackupReport, BackupError> {
    phase(context, Phase::Preparing, None);
    let prepared = prepare(plan, store, context).await?;
    phase(context, Phase::Snapshot, None);
    let failed = |source| BackupError::Source { label: plan.label.clone(), source };
    let dump = source::begin(source, context.cancel.clone()).await.map_err(failed)?;
    for warning in &dump.warnings {
        context.warn(format!("pg_dump: {warning}"));
    }
    phase(context, Phase::Copying, Some(dump.info.database_bytes));
    let copied = copy::copy(plan, &prepared, dump, context).await?;
    phase(context, Phase::Committing, None);
    commit::commit(plan, source, prepared, copied, context).await
}

fn phase(context: &Context, phase: Phase, bytes_expected: Option<u64>) {
    context.tell(Event::Phase { phase, bytes_expected, rows_expected: None });
}
