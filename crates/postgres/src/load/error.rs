//! Why a database could not be loaded.

use std::{io, path::PathBuf};

use stonekeep_format::{ErrorKind, archive::ArchiveError};

use super::messages::PassMessage;
use crate::{connect::ConnectError, refusal::Refusal, tools::ToolError};

/// Why a step of loading failed. No variant holds a byte of a row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No session with the target.
    #[error("cannot connect to the target")]
    Connect(#[from] ConnectError),
    /// No pg_restore to run.
    #[error("cannot find a pg_restore for the target")]
    Tool(#[from] ToolError),
    /// The server refused, or the connection was lost. `what` is a table, a large object or a step.
    #[error(
        "the target did not take {what}: {refusal}; nothing of this part was kept, see the target server's log for its own words"
    )]
    Refused {
        /// What was being loaded.
        what: String,
        /// The server's refusal.
        refusal: Refusal,
    },
    /// An entry's COPY statement is not one that pg_dump writes.
    #[error(
        "the COPY statement of table {table} in the archive cannot be understood; restore with `fetch` and pg_restore"
    )]
    Statement {
        /// The table.
        table: String,
    },
    /// A name that is in no encoding, in a database in SQL_ASCII.
    #[error(
        "the name of table {table} or of one of its columns is not UTF-8; restore with `fetch` and pg_restore"
    )]
    Name {
        /// The table, with what is not UTF-8 replaced.
        table: String,
    },
    /// The first slice of a table does not begin as a member must, or the last one does not end so.
    #[error(
        "the rows of table {table} do not begin or end as they must; the snapshot is damaged or was put together wrongly, run verify --read-data"
    )]
    Torn {
        /// The table.
        table: String,
    },
    /// An offset that no large object has.
    #[error("large object {oid} is longer than any can be; the snapshot is damaged")]
    TooLong {
        /// The large object.
        oid: u32,
    },
    /// A database without our mark was to be changed as one that we restore.
    #[error(
        "database {database:?} bears no mark of a restore, so nothing in it is emptied; give another target name"
    )]
    NotOurs {
        /// The database.
        database: String,
    },
    /// pg_restore met errors.
    #[error("pg_restore failed in the {pass} pass with {count} errors: {}", told(.errors))]
    Restore {
        /// The pass.
        pass: &'static str,
        /// How many there were.
        count: usize,
        /// The first of them.
        errors: Vec<PassMessage>,
    },
    /// pg_restore could not be run.
    #[error("cannot run {program:?}")]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the working directory.
    #[error("cannot write {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The table of contents cannot be written.
    #[error("cannot write the table of contents for pg_restore")]
    Contents(#[from] ArchiveError),
}

impl LoadError {
    pub(crate) fn refused(what: impl Into<String>, refusal: Refusal) -> Self {
        Self::Refused { what: what.into(), refusal }
    }

    /// Whether a row did not meet a constraint: a CHECK, or the bounds of its partition.
    #[must_use]
    pub fn is_check_violation(&self) -> bool {
        matches!(self, Self::Refused { refusal, .. } if refusal.sqlstate() == Some("23514"))
    }

    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(error) => error.kind(),
            Self::Tool(error) => error.kind(),
            Self::Refused { refusal, .. } => refusal.kind(),
            Self::Statement { .. } | Self::Torn { .. } | Self::TooLong { .. } => ErrorKind::Corrupt,
            Self::Name { .. } => ErrorKind::Config,
            // What comes after the first error may come of it.
            Self::Restore { errors, .. } => {
                errors.first().map_or(ErrorKind::Config, PassMessage::kind)
            }
            Self::NotOurs { .. } => ErrorKind::Conflict,
            Self::Run { .. } | Self::Write { .. } => ErrorKind::Unavailable,
            Self::Contents(error) => error.kind(),
        }
    }
}

/// The first three, so that an error stays an error and not a log.
fn told(errors: &[PassMessage]) -> String {
    let first: Vec<String> = errors.iter().take(3).map(ToString::to_string).collect();
    if first.is_empty() { "it said nothing".to_owned() } else { first.join("; ") }
}
