//! Why there is no snapshot.

use std::{io, path::PathBuf};

use chrono::{DateTime, Utc};
use stonekeep_format::{
    ErrorKind,
    codec::CodecError,
    genesis::LockBy,
    ids::Label,
    inventory::InventoryError,
    key::ObjectKey,
    lock::{LockError, LockMode},
    signature::SignatureError,
};
use stonekeep_postgres::source::DumpError;
use stonekeep_store::StoreError;

use crate::repository::RepositoryError;

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
    /// The configuration says otherwise than the genesis who names the locks.
    #[error(
        "the repository's genesis says lock = {:?}, the configuration lock = {:?}: correct the configuration", signed.as_str(), configured.as_str()
    )]
    LockByDiffers {
        /// What the owner has signed.
        signed: LockBy,
        /// What is configured.
        configured: LockBy,
    },
    /// A tier's bucket that the owner has not signed for: readers would not look there.
    #[error(
        "tier {tier:?} lies in bucket {bucket}, which the repository's genesis does not name: use one of its buckets, or have the owner sign a genesis that names it"
    )]
    UnsignedBucket {
        /// The tier.
        tier: String,
        /// Its bucket.
        bucket: String,
    },
    /// The bucket names the locks, and not as the tier needs them.
    #[error(
        "bucket {bucket} locks by default: {found}; tier {tier:?} needs {days_min} to {days_max} days of {mode}: set its default retention so"
    )]
    BucketDefault {
        /// The bucket.
        bucket: String,
        /// The tier.
        tier: String,
        /// What it does.
        found: String,
        /// The mode that the genesis asks for.
        mode: LockMode,
        /// The shortest that is enough.
        days_min: u64,
        /// The longest that the genesis allows.
        days_max: u64,
    },
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
        key: ObjectKey,
        /// What the store said.
        #[source]
        source: StoreError,
    },
    /// It would hold the others up.
    #[error(
        "this repository fell behind the others by more than {secs} s and was left out of the run"
    )]
    Behind {
        /// The limit.
        secs: u64,
    },
    /// Another run has the state.
    #[error("another run of this database is at work with {path:?}: wait until it has ended")]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// Another run of this label reads the database.
    #[error(transparent)]
    Taken(DumpError),
    /// The state directory cannot be used.
    #[error("cannot use {path:?} in the state directory")]
    State {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Every repository has left the run, each with an error of its own.
    #[error("no repository is left to write to")]
    NoRepositoryLeft,
    /// Stopped on request.
    #[error("stopped on request; no snapshot was made")]
    Cancelled,
    /// It took longer than locks allow for.
    #[error(
        "the run took longer than {hours} h and was ended: give it more jobs or a faster way to the bucket; what it stored is kept for the next"
    )]
    TooSlow {
        /// The limit.
        hours: u64,
    },
    /// A task of ours panicked.
    #[error("an internal task failed; no snapshot was made")]
    Task(#[source] tokio::task::JoinError),
    /// Something that cannot be was.
    #[error("internal error: {0}")]
    Internal(String),
}

impl BackupError {
    /// Whether what was in the way (DDL, a standby's replay) may be gone at the next try.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(self, Self::Source { source, .. } if source.is_passing())
    }

    /// Returns it in words that hold no name, for a record that whoever may list the bucket can read.
    pub(crate) const fn phrase(&self) -> &'static str {
        match self {
            Self::Source { .. } => "the database could not be read",
            Self::Incomplete { .. } => "the dump was not complete",
            Self::Cancelled => "stopped on request",
            Self::TooSlow { .. } => "the run took too long",
            Self::Uncertain { .. } => "the manifest got no answer",
            Self::Store { .. } | Self::Repository(_) => "the bucket refused or did not answer",
            Self::Behind { .. } | Self::NoRepositoryLeft => "the repository fell behind or failed",
            Self::Lock(_) | Self::PromiseOutlivesLock { .. } => "a lock would have been too short",
            _ => "an error on the writer's host",
        }
    }

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
            Self::Cancelled
            | Self::Busy { .. }
            | Self::Taken(_)
            | Self::TooSlow { .. }
            | Self::Uncertain { .. }
            | Self::Behind { .. }
            | Self::NoRepositoryLeft => ErrorKind::Unavailable,
            // Somebody makes room, or something else gives it back.
            Self::State { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorKind::Unavailable
            }
            Self::State { .. } => ErrorKind::Config,
            Self::NotASigner { .. } | Self::RecipientsDiffer => ErrorKind::Corrupt,
            Self::Incomplete { .. } => ErrorKind::Corrupt,
            Self::Inventory(InventoryError::TooLong { .. })
            | Self::Recipients(_)
            | Self::BucketDefault { .. }
            | Self::LockByDiffers { .. }
            | Self::UnsignedBucket { .. }
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
