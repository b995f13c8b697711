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
    /// Gathering the planner's statistics.
    Analyzing,
    /// Starting a scratch server.
    Starting,
    /// The operator's own checks.
    Checking,
    /// Stopping the scratch server and removing what was restored to it.
    Removing,
}

impl Phase {
    /// Returns it as events spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Snapshot => "snapshot",
            Self::Copying => "copying",
            Self::Committing => "committing",
            Self::Verifying => "verifying",
            Self::Fetching => "fetching",
            Self::Extending => "extending",
            Self::Schema => "schema",
            Self::Loading => "loading",
            Self::Finishing => "finishing",
            Self::Comparing => "comparing",
            Self::Analyzing => "analyzing",
            Self::Starting => "starting",
            Self::Checking => "checking",
            Self::Removing => "removing",
        }
    }
}

/// How bad it is, or how much in detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something was not done.
    Error,
    /// Somebody must see it.
    Warn,
    /// What happens.
    Info,
    /// More than anyone reads every day.
    Debug,
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

impl Event {
    /// Returns how bad it is.
    #[must_use]
    pub const fn level(&self) -> Level {
        match self {
            Self::RepositoryFailed { .. } | Self::Failed { .. } => Level::Error,
            Self::Warning { .. } | Self::Retried { .. } | Self::Skipped { .. } => Level::Warn,
            Self::Phase { .. }
            | Self::Progress { .. }
            | Self::Committed { .. }
            | Self::Done { .. } => Level::Info,
            Self::TableStarted { .. }
            | Self::TableDone { .. }
            | Self::SegmentPut { .. }
            | Self::SegmentReused { .. } => Level::Debug,
        }
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::{DateTime, Utc};
    use stonekeep_format::lock::LockMode;

    use super::*;

    const DOCS: &str = include_str!("../../../docs/operations.md");

    /// One of each variant; a new one does not compile without a place among them.
    fn each() -> Vec<Event> {
        let at: DateTime<Utc> = "2026-11-21T00:00:00Z".parse().expect("a date");
        let text = || "x".to_owned();
        let kind = SegmentKind::Rows;
        let all = vec![
            Event::Phase { phase: Phase::Copying, bytes_expected: Some(1), rows_expected: Some(1) },
            Event::TableStarted { table: text() },
            Event::Progress { bytes: 1, rows: 1 },
            Event::TableDone { table: text(), rows: 1, bytes: 1 },
            Event::SegmentPut {
                kind,
                plain_bytes: 1,
                sealed_bytes: 1,
                lock: Lock { mode: LockMode::Compliance, retain_until: at },
            },
            Event::SegmentReused { kind, plain_bytes: 1 },
            Event::Retried { action: text(), reason: text() },
            Event::Warning { message: text() },
            Event::Committed {
                repository: text(),
                label: "bookings".parse().expect("a label"),
                snapshot: SnapshotId::new(at, 1),
                tier: text(),
                promised_until: at,
            },
            Event::RepositoryFailed { repository: text(), message: text() },
            Event::Done { message: text() },
            Event::Failed { message: text() },
            Event::Skipped { message: text() },
        ];
        let place = |event: &Event| match event {
            Event::Phase { .. } => 0,
            Event::TableStarted { .. } => 1,
            Event::Progress { .. } => 2,
            Event::TableDone { .. } => 3,
            Event::SegmentPut { .. } => 4,
            Event::SegmentReused { .. } => 5,
            Event::Retried { .. } => 6,
            Event::Warning { .. } => 7,
            Event::Committed { .. } => 8,
            Event::RepositoryFailed { .. } => 9,
            Event::Done { .. } => 10,
            Event::Failed { .. } => 11,
            Event::Skipped { .. } => 12,
        };
        assert!(all.iter().map(place).eq(0..all.len()));
        all
    }

    fn row(name: &str) -> Vec<&'static str> {
        let (_, logs) = DOCS.split_once("\n## Logs\n").expect("a section");
        let row = logs.lines().find(|line| line.starts_with(&format!("| `{name}` | ")));
        row.unwrap_or_else(|| panic!("the docs do not name {name}")).split(" | ").collect()
    }

    #[test]
    fn the_docs_name_every_event_its_level_and_its_fields() {
        for event in each() {
            let said = serde_json::to_value(&event).expect("JSON");
            let said = said.as_object().expect("an object");
            let name = said["event"].as_str().expect("a name");
            let cells = row(name);
            let level = serde_json::to_value(event.level()).expect("JSON");
            assert_eq!(cells[1], level, "{name}");
            let fields: BTreeSet<&str> = cells[2].split('`').skip(1).step_by(2).collect();
            let own = said.keys().map(String::as_str).filter(|field| *field != "event");
            assert_eq!(fields, own.collect(), "{name}");
        }
    }
}
