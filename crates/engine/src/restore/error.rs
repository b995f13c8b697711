//! Why a snapshot was not restored.

use stonekeep_format::{ErrorKind, archive::ArchiveError, pack::PackError};
use stonekeep_postgres::{
    compare::CompareError,
    load::{LoadError, NotThere},
    target::TargetError,
};
use tokio::task::JoinError;

use crate::segments::SegmentError;

/// How many objects an error names that are in the way (20).
const PROBLEMS_MAX: usize = 20;

/// Why a snapshot was not restored. No variant holds a byte of a row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A part of the snapshot cannot be had.
    #[error("cannot read the snapshot")]
    Segment(#[from] SegmentError),
    /// The table of contents is none.
    #[error(
        "the snapshot's table of contents cannot be read: made by a broken writer; take another snapshot"
    )]
    Contents(#[source] ArchiveError),
    /// A pack is none.
    #[error(
        "a pack of the snapshot cannot be read: made by a broken writer; take another snapshot"
    )]
    Pack(#[source] PackError),
    /// What was asked for is not in the snapshot.
    #[error(transparent)]
    NotThere(#[from] NotThere),
    /// Table of contents, catalog and inventory disagree.
    #[error("the snapshot does not add up: {what}; made by a broken writer; take another snapshot")]
    Inconsistent {
        /// In what; names members, never rows.
        what: String,
    },
    /// The target server cannot be looked at or changed.
    #[error("cannot use the target server")]
    Server(#[from] TargetError),
    /// The role may not make the database.
    #[error(
        "role {role} may not create databases on the target: create an empty database and name that one, or give the role CREATEDB"
    )]
    MayNotCreate {
        /// The role.
        role: String,
    },
    /// The target lacks what the snapshot needs.
    #[error("the target server lacks what the snapshot needs; nothing was changed there. {}", .lacks.join(". "))]
    Lacking {
        /// Sentences: what, and what to do about it.
        lacks: Vec<String>,
    },
    /// The tables that are there cannot take rows.
    #[error("database {database:?} on {host} cannot take the rows alone; nothing was changed there: {}{}", .problems.iter().take(PROBLEMS_MAX).map(String::as_str).collect::<Vec<_>>().join("; "), if .problems.len() > PROBLEMS_MAX { format!("; and {} more", .problems.len() - PROBLEMS_MAX) } else { String::new() })]
    NotReady {
        /// The server.
        host: String,
        /// The database.
        database: String,
        /// What is in the way; names of objects.
        problems: Vec<String>,
    },
    /// The database holds somebody's data.
    #[error(
        "database {database:?} on {host} is not empty ({relations} relations, about {rows_estimate} rows): name one that does not exist; loading into this one takes a person who confirms it at a terminal"
    )]
    Occupied {
        /// The server.
        host: String,
        /// The database.
        database: String,
        /// Its tables, views and sequences.
        relations: u64,
        /// Their rows, estimated.
        rows_estimate: u64,
    },
    /// The database is on the snapshot's own server.
    #[error(
        "{host} is the server that the snapshot came from, or may be: restoring to database {database:?} there takes a person who types its name at a terminal; or restore to another server"
    )]
    SameServer {
        /// The server.
        host: String,
        /// The database.
        database: String,
    },
    /// On the snapshot's own server, only a new database is made.
    #[error(
        "database {database:?} on {host}, the server that the snapshot came from, is not empty: nothing is ever loaded over it; name one that does not exist"
    )]
    SourceOccupied {
        /// The server.
        host: String,
        /// The database.
        database: String,
    },
    /// An earlier restore left a database that cannot be continued.
    #[error(
        "database {database:?} on {host} is what an interrupted restore left, at a point from which it cannot go on; drop it (DROP DATABASE) if no restore is running, and start again"
    )]
    Leftover {
        /// The server.
        host: String,
        /// The database.
        database: String,
    },
    /// pg_restore or the loading of rows failed.
    #[error("cannot load the snapshot")]
    Target(#[from] LoadError),
    /// Fewer or more rows went in than the snapshot has.
    #[error(
        "table {table} took {found} rows, and the snapshot has {wanted}: a trigger or rule of the target may have changed them"
    )]
    RowCount {
        /// The table.
        table: String,
        /// By the server's count.
        found: u64,
        /// By the catalog.
        wanted: u64,
    },
    /// The restored database cannot be read back.
    #[error("cannot compare the restored database with the snapshot")]
    Compare(#[from] CompareError),
    /// The restored database is not what was backed up.
    #[error("the restored database differs from the snapshot in {count} places: {}", .differences.join("; "))]
    Differs {
        /// How many differences there are.
        count: usize,
        /// The first of them; names of objects, numbers, never rows.
        differences: Vec<String>,
    },
    /// Stopped on request.
    #[error("stopped on request")]
    Cancelled,
    /// A task of ours panicked.
    #[error("an internal task failed")]
    Task(#[source] JoinError),
    /// The restore failed after something was loaded.
    #[error("the restore failed; database {database:?} holds what was loaded until then: {advice}")]
    Unfinished {
        /// The database, under the name it has now.
        database: String,
        /// What to do with it.
        advice: &'static str,
        /// Why.
        #[source]
        source: Box<Self>,
    },
}

impl RestoreError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Segment(source) => source.kind(),
            Self::NotThere(_) => ErrorKind::Usage,
            Self::Server(source) => source.kind(),
            Self::Target(source) => source.kind(),
            Self::Compare(source) => source.kind(),
            Self::Unfinished { source, .. } => source.kind(),
            Self::Contents(_)
            | Self::Pack(_)
            | Self::Inconsistent { .. }
            | Self::RowCount { .. }
            | Self::Differs { .. } => ErrorKind::Corrupt,
            Self::MayNotCreate { .. } => ErrorKind::Denied,
            Self::Lacking { .. } => ErrorKind::Config,
            Self::Occupied { .. }
            | Self::NotReady { .. }
            | Self::SameServer { .. }
            | Self::SourceOccupied { .. }
            | Self::Leftover { .. } => ErrorKind::Conflict,
            Self::Cancelled => ErrorKind::Unavailable,
            Self::Task(_) => ErrorKind::Internal,
        }
    }
}
