//! The only voice of the engine: metrics, progress bars, logs and JSON lines are readers of this one enum.

use serde::Serialize;
use stonekeep_format::{
    ids::{Label, SnapshotId},
    inventory::SegmentKind,
    lock::Lock,
};

/// What a use case is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// Reading genesis and history, checking rights.
    Preparing,
    /// Taking locks, exporting the snapshot, reading pg_dump's table of contents.
    Snapshot,
    /// Reading rows and storing segments.
    Copying,
    /// Checks, catalog, inventory, manifest.
    Committing,
    /// Looking at objects, locks and signatures.
    Verifying,
    /// Fetching and opening segments.
    Fetching,
    /// Prolonging locks.
    Extending,
    /// pg_restore: everything before the data.
    Schema,
    /// Rows and large objects into the target.
    Loading,
    /// pg_restore: indexes, constraints, rights, materialized views.
    Finishing,
    /// Reading the target back and comparing it with the catalog.
    Comparing,
}

/// Something that happened. Sizes are bytes; names of tables appear here and nowhere in the bucket, rows and secrets never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A phase began.
    Phase {
        /// Which.
        phase: Phase,
        /// About how many bytes of plaintext it has to move, if that is known: for a progress bar.
        bytes_expected: Option<u64>,
        /// How many rows, if that is known.
        rows_expected: Option<u64>,
    },
    /// A table (or large object) is begun.
    TableStarted {
        /// Schema and name, or `large object N`.
        table: String,
    },
    /// Part of the work is done. Counts what came since the last such event.
    Progress {
        /// Bytes of plaintext.
        bytes: u64,
        /// Rows.
        rows: u64,
    },
    /// A table is complete.
    TableDone {
        /// Schema and name.
        table: String,
        /// Its rows.
        rows: u64,
        /// Its bytes of COPY text.
        bytes: u64,
    },
    /// A segment is stored and its lock was read back.
    SegmentPut {
        /// What it is.
        kind: SegmentKind,
        /// Bytes of plaintext.
        plain_bytes: u64,
        /// Bytes stored.
        sealed_bytes: u64,
        /// The lock as read back.
        lock: Lock,
    },
    /// A segment was there already.
    SegmentReused {
        /// What it is.
        kind: SegmentKind,
        /// Bytes of plaintext.
        plain_bytes: u64,
    },
    /// A call failed and is made again.
    Retried {
        /// What was tried.
        action: String,
        /// Why it failed.
        reason: String,
    },
    /// Something that is not an error but must be seen.
    Warning {
        /// What.
        message: String,
    },
    /// Another run of the database is at work: this one does nothing.
    Skipped {
        /// Who has the turn.
        message: String,
    },
    /// A snapshot exists.
    Committed {
        /// The repository's name in the configuration.
        repository: String,
        /// The database's label.
        label: Label,
        /// The snapshot.
        snapshot: SnapshotId,
        /// Its tier.
        tier: String,
        /// Until when it is promised.
        promised_until: chrono::DateTime<chrono::Utc>,
    },
    /// A repository has left the run; the others go on.
    RepositoryFailed {
        /// Its name in the configuration.
        repository: String,
        /// Why.
        message: String,
    },
    /// The use case is complete.
    Done {
        /// What, in one line.
        message: String,
    },
    /// The use case failed; the same error is returned.
    Failed {
        /// The error with its sources.
        message: String,
    },
}

/// Who hears events. Called from any thread, must not block.
pub trait Listener: std::fmt::Debug + Send + Sync {
    /// Takes note of an event.
    fn hear(&self, event: &Event);
}

/// A listener that hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silence;

impl Listener for Silence {
    fn hear(&self, _event: &Event) {}
}
