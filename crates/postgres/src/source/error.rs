//! Why a database cannot be dumped.

use stonekeep_format::{ErrorKind, archive::ArchiveError};

use super::Holder;
use crate::{connect::ConnectError, refusal::Refusal, rows::RowsError, tools::ToolError};

/// Why there is no dump, or why one that was under way is lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No pg_dump.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The server refused a statement, or the connection died.
    #[error("the server refused or broke off")]
    Query(#[source] Refusal),
    /// Rows did not come.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A row is longer than PostgreSQL can send.
    #[error(
        "table {table} holds a row that PostgreSQL cannot send{}: as text it is longer than 1 GB, and in binary it cannot be had ({why}); no dump of this database is possible while it is there: divide that value, or keep it outside", .row.as_ref().map_or_else(String::new, |row| format!(" (the largest there is at ctid {row})"))
    )]
    TooLarge {
        /// The table.
        table: String,
        /// The `ctid` of its largest row.
        row: Option<String>,
        /// Why binary is no way out.
        why: String,
        /// What the server said last.
        #[source]
        source: Refusal,
    },
    /// The server is too old or too new.
    #[error("PostgreSQL {version} is not supported: 13 to 18 are")]
    Version {
        /// Its version.
        version: String,
    },
    /// A pooler stands between.
    #[error(
        "{sign}: a connection pooler stands between; use the direct port of the server (5432, not 6543)"
    )]
    Pooler {
        /// How it was seen.
        sign: &'static str,
    },
    /// Two sessions reached two servers.
    #[error("two sessions reached two different servers: name one server, not a load balancer")]
    TwoServers,
    /// The server's table of locks is too small for all tables.
    #[error(
        "{tables} tables need more locks than the server has room for ({slots}): set max_locks_per_transaction to {wanted} or more and restart it"
    )]
    LockTable {
        /// Tables to lock.
        tables: u64,
        /// What there is room for.
        slots: u64,
        /// The setting that would do.
        wanted: u64,
    },
    /// Rights are missing.
    #[error("role {role:?} may not read {}: GRANT pg_read_all_data TO {role:?}", .objects.join(", "))]
    Rights {
        /// The role.
        role: String,
        /// Up to ten of the objects.
        objects: Vec<String>,
    },
    /// Row level security would hide rows.
    #[error("row level security hides rows of {} from role {role:?}: ALTER ROLE {role:?} BYPASSRLS", .objects.join(", "))]
    RowSecurity {
        /// The role.
        role: String,
        /// Up to ten of the tables.
        objects: Vec<String>,
    },
    /// Locks could not be had, or others waited for ours.
    #[error(
        "DDL is in the way ({reason}) for {waited_secs} s: run the backup when no schema change is waiting, or raise ddl_wait_max"
    )]
    DdlInTheWay {
        /// How long.
        waited_secs: u64,
        /// What was seen last.
        reason: String,
    },
    /// A standby ended the reading.
    #[error(
        "the standby ended the reading, as it does when what it replays collides with it (or the connection was lost): set max_standby_streaming_delay to longer than a backup takes (or -1) and hot_standby_feedback to on, or read from the primary"
    )]
    StandbyConflict {
        /// What came.
        #[source]
        source: Box<Self>,
    },
    /// The schema changed while locks were taken. Tried again.
    #[error("{what}")]
    Changed {
        /// What.
        what: String,
    },
    /// pg_dump or pg_dumpall failed.
    #[error("{tool} failed ({status}): {stderr}")]
    Child {
        /// Which.
        tool: &'static str,
        /// How it ended.
        status: String,
        /// The end of what it said.
        stderr: String,
    },
    /// A program cannot be started.
    #[error("cannot run {tool}")]
    Spawn {
        /// Which.
        tool: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// pg_dump wrote something we do not understand.
    #[error("pg_dump's table of contents cannot be used")]
    Archive(#[source] ArchiveError),
    /// What pg_dumpall says of roles and tablespaces is longer than any real cluster's.
    #[error(
        "pg_dumpall --globals-only wrote more than {} MiB: report this, with the number of roles", .bytes_max >> 20
    )]
    GlobalsTooLong {
        /// The limit.
        bytes_max: u64,
    },
    /// pg_dump names a table that we do not hold.
    #[error(
        "pg_dump wants data of table {tag} (OID {oid}), which was not locked before the snapshot"
    )]
    NotLocked {
        /// Its name.
        tag: String,
        /// Its OID.
        oid: u32,
    },
    /// A name cannot be written in a statement.
    #[error(
        "the name of the relation with OID {oid} is no valid text in the database's encoding: rename it"
    )]
    Name {
        /// Its OID.
        oid: u32,
    },
    /// The coordinator does not answer.
    #[error("the session that holds the snapshot does not answer")]
    Silent,
    /// Another run of this label has its turn.
    #[error("another run of this database is at work{}", .holder.as_ref().map_or_else(String::new, said))]
    Taken {
        /// Its session, if it can be seen.
        holder: Option<Holder>,
    },
    /// Stopped on request.
    #[error("stopped on request")]
    Cancelled,
    /// A task of ours panicked.
    #[error("an internal task failed")]
    Task(#[source] tokio::task::JoinError),
}

fn said(holder: &Holder) -> String {
    let since = holder.since.as_ref().map_or_else(String::new, |since| format!(", since {since}"));
    format!(" (backend {} of the server{since})", holder.pid)
}

impl From<Refusal> for DumpError {
    fn from(refusal: Refusal) -> Self {
        if refusal.is_of_another_session() {
            return Self::Pooler {
                sign: "a prepared statement of this connection is another session's",
            };
        }
        Self::Query(refusal)
    }
}

impl DumpError {
    /// The refusal of a statement that touches rows: see [`Refusal::quiet`].
    pub(super) fn quiet(error: &tokio_postgres::Error) -> Self {
        Refusal::quiet(error).into()
    }

    /// The refusal of a statement that touches none: see [`Refusal::told`].
    pub(super) fn told(error: &tokio_postgres::Error) -> Self {
        Refusal::told(error).into()
    }

    /// Returns what this error is on a standby: its replay ends statements (40001) and whole sessions, whose connections are
    /// merely lost.
    #[must_use]
    pub fn on_standby(self) -> Self {
        let (Self::Query(refusal) | Self::Rows(RowsError::Refused { source: refusal, .. })) = &self
        else {
            return self;
        };
        match refusal.sqlstate() {
            None | Some("40001" | "57P01") => Self::StandbyConflict { source: Box::new(self) },
            Some(_) => self,
        }
    }

    /// Whether what was in the way may be gone at once, so that it is worth beginning again.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::DdlInTheWay { .. } | Self::StandbyConflict { .. })
    }

    /// Whether a COPY was refused for the length of a row.
    #[must_use]
    pub fn is_too_long(&self) -> bool {
        matches!(self, Self::Rows(RowsError::Refused { source, .. }) if source.is_too_long())
    }

    /// Returns what is in the way if it is somebody's DDL, which may be gone at the next try. pg_dump does not tell the
    /// SQLSTATE, and the server's words are in its own language; that it names the statement is pg_dump's own.
    pub(super) fn ddl(&self) -> Option<String> {
        match self {
            Self::Query(refusal) if refusal.is_lock_refused() => Some(refusal.to_string()),
            Self::Changed { what } => Some(what.clone()),
            Self::Child { tool: "pg_dump", stderr, .. }
                if stderr.contains("LOCK TABLE")
                    && !stderr.contains("max_locks_per_transaction") =>
            {
                Some("pg_dump could not lock the tables in time".to_owned())
            }
            _ => None,
        }
    }

    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(source) => source.kind(),
            Self::Tool(source) => source.kind(),
            Self::Query(source) => source.kind(),
            Self::Rows(source) => source.kind(),
            Self::TooLarge { .. } => ErrorKind::Config,
            Self::LockTable { .. } => ErrorKind::Config,
            Self::Version { .. } | Self::Pooler { .. } | Self::TwoServers | Self::Name { .. } => {
                ErrorKind::Config
            }
            Self::Rights { .. } | Self::RowSecurity { .. } => ErrorKind::Denied,
            Self::StandbyConflict { .. }
            | Self::DdlInTheWay { .. }
            | Self::Changed { .. }
            | Self::Silent
            | Self::Taken { .. }
            | Self::Cancelled
            | Self::Child { .. } => ErrorKind::Unavailable,
            Self::Spawn { .. } => ErrorKind::Config,
            Self::Archive(_) | Self::GlobalsTooLong { .. } | Self::NotLocked { .. } => {
                ErrorKind::Corrupt
            }
            Self::Task(_) => ErrorKind::Internal,
        }
    }
}
