//! Where a restore may load: decided before anything is changed, and for what cannot be undone only by a person.
//!
//! Nothing is ever dropped or overwritten. Without a person, a restore goes into a database that does not exist or is empty,
//! on another server than the snapshot's.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use stonekeep_format::{catalog::Catalog, ids::SnapshotId};
use stonekeep_postgres::{
    connect::ConnectOptions,
    target::{DatabaseState, Mark, Phase, TargetInfo, database_state, restoring_name},
};

use super::{RestoreError, RestorePlan};

/// Asks a person. Whoever is not at a terminal answers no; there is no flag, variable or setting that answers yes.
#[async_trait]
pub trait Confirm: Send + Sync {
    /// Returns whether a person who read the question typed the name of the database.
    async fn confirm(&self, question: &Question) -> bool;
}

/// Refuses everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

#[async_trait]
impl Confirm for Nobody {
    async fn confirm(&self, _question: &Question) -> bool {
        false
    }
}

/// Remembers what would be asked.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Option<String>>);

impl Asked {
    pub(super) fn question(self) -> Option<String> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Confirm for Asked {
    async fn confirm(&self, question: &Question) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(question.to_string());
        true
    }
}

/// What a person must know before answering. The answer is the name of the database, typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The server: host and port.
    pub host: String,
    /// The database that would be loaded into.
    pub database: String,
    /// Why it is asked.
    pub reason: Reason,
}

/// Why a person is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The server is the one that the snapshot came from.
    SameServer,
    /// The server does not tell who it is, so it may be the one.
    UnknownServer,
    /// The database has objects of users.
    Occupied {
        /// Tables, views, sequences and the like.
        relations: u64,
        /// Rows, as the planner's statistics estimate them.
        rows_estimate: u64,
        /// Functions, types, schemas and large objects.
        others: u64,
    },
    /// Rows are to be loaded into tables that are there.
    Fill {
        /// Tables, views, sequences and the like.
        relations: u64,
        /// Rows, as the planner's statistics estimate them.
        rows_estimate: u64,
        /// The tables that would be filled.
        tables: u64,
    },
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, database, reason } = self;
        match reason {
            Reason::SameServer => {
                write!(
                    f,
                    "{host} is the server that the snapshot came from. A new database {database:?} will be made there."
                )
            }
            Reason::UnknownServer => write!(
                f,
                "It cannot be told whether {host} is the server that the snapshot came from. The snapshot will be loaded \
                 into database {database:?} there."
            ),
            Reason::Occupied { relations, rows_estimate, others } => write!(
                f,
                "Database {database:?} on {host} is not empty: {relations} tables, views and sequences with about \
                 {rows_estimate} rows, {others} other objects. The snapshot will be loaded beside them; nothing is dropped, \
                 and what has the same name makes the restore fail."
            ),
            Reason::Fill { relations, rows_estimate, tables } => write!(
                f,
                "Database {database:?} on {host} is not empty: {relations} tables, views and sequences with about \
                 {rows_estimate} rows. {tables} of its tables, which are empty, will be filled with the snapshot's rows, and \
                 sequences set; nothing is dropped."
            ),
        }
    }
}

/// Where a restore loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// The name of the database while it is loaded.
    pub(super) loading: String,
    /// Whether it must be made.
    pub(super) create: bool,
    /// Whether it gets the target's name at the end.
    pub(super) rename: bool,
    /// Whether the schema is in already and an earlier run's rows may be.
    pub(super) resume: bool,
    /// Whether the database is this restore's alone: it bears our mark, and gets the snapshot's settings and comment.
    pub(super) alone: bool,
}

impl Destination {
    /// Returns in words what becomes of the database.
    pub(super) const fn words(&self) -> &'static str {
        match (self.create, self.resume, self.alone) {
            (true, ..) => "it would be made",
            (_, true, _) => "what an earlier run left would be gone on with",
            (_, _, true) => "it is there and empty, and would be used",
            (_, _, false) => {
                "it is there and not empty, and would be loaded into beside what is there"
            }
        }
    }

    const fn new(loading: String) -> Self {
        Self { loading, create: false, rename: false, resume: false, alone: true }
    }
}

/// Decides where to load, and asks where a person must.
///
/// # Errors
/// [`RestoreError`] of kind `Conflict` if it may not be there, or nobody confirmed it.
pub(super) async fn decide(
    plan: &RestorePlan,
    info: &TargetInfo,
    catalog: &Catalog,
    confirm: &dyn Confirm,
) -> Result<Destination, RestoreError> {
    let target = &plan.target;
    let destination = match plan.drill {
        // A name that nobody else has: if it is there, making it fails.
        Some(_) => Destination { create: true, ..Destination::new(target.database.clone()) },
        None => place(target, info, &catalog.id).await?,
    };
    if destination.create && !info.creates_databases {
        return Err(RestoreError::MayNotCreate { role: info.role.clone() });
    }
    let host = target.address();
    let database = target.database.clone();
    let source = catalog.server.system_identifier.as_deref();
    if let Some(reason) = same_server(source, info.system_identifier.as_deref()) {
        if !destination.alone {
            return Err(RestoreError::SourceOccupied { host, database });
        }
        let question = Question { host: host.clone(), database: database.clone(), reason };
        if !confirm.confirm(&question).await {
            return Err(RestoreError::SameServer { host, database });
        }
    }
    if let (false, DatabaseState::Occupied { relations, rows_estimate, others, .. }) =
        (destination.alone, &info.database)
    {
        let (relations, rows_estimate, others) = (*relations, *rows_estimate, *others);
        let reason = if plan.selection.data_only {
            Reason::Fill { relations, rows_estimate, tables: catalog.tables.len() as u64 }
        } else {
            Reason::Occupied { relations, rows_estimate, others }
        };
        let question = Question { host: host.clone(), database: database.clone(), reason };
        if !confirm.confirm(&question).await {
            return Err(RestoreError::Occupied { host, database, relations, rows_estimate });
        }
    }
    Ok(destination)
}

fn same_server(source: Option<&str>, target: Option<&str>) -> Option<Reason> {
    match (source, target) {
        (Some(source), Some(target)) => (source == target).then_some(Reason::SameServer),
        _ => Some(Reason::UnknownServer),
    }
}

async fn place(
    target: &ConnectOptions,
    info: &TargetInfo,
    snapshot: &SnapshotId,
) -> Result<Destination, RestoreError> {
    match &info.database {
        DatabaseState::Absent => beside(target, snapshot).await,
        state => within(state, target, snapshot),
    }
}

/// The database exists: it is used if it is empty, and continued if it is what an earlier run of this restore left.
fn within(
    state: &DatabaseState,
    target: &ConnectOptions,
    snapshot: &SnapshotId,
) -> Result<Destination, RestoreError> {
    let destination = Destination::new(target.database.clone());
    match (continues(state, snapshot), state) {
        (Some(resume), _) => Ok(Destination { resume, ..destination }),
        (None, DatabaseState::Occupied { mark: None, .. }) => {
            Ok(Destination { alone: false, ..destination })
        }
        (None, _) => Err(RestoreError::Leftover {
            host: target.address(),
            database: target.database.clone(),
        }),
    }
}

/// The database does not exist: it is loaded under another name until it is complete.
async fn beside(
    target: &ConnectOptions,
    snapshot: &SnapshotId,
) -> Result<Destination, RestoreError> {
    let loading = restoring_name(&target.database, snapshot);
    let state = database_state(&target.with_database(&loading)).await?;
    let destination = Destination { rename: true, ..Destination::new(loading.clone()) };
    match (&state, continues(&state, snapshot)) {
        (DatabaseState::Absent, _) => Ok(Destination { create: true, ..destination }),
        (_, Some(resume)) => Ok(Destination { resume, ..destination }),
        (_, None) => Err(RestoreError::Leftover { host: target.address(), database: loading }),
    }
}

/// Whether a database that exists can be loaded into without a person, and if so, whether its schema is there already. Never
/// that of a drill, which drops it.
fn continues(state: &DatabaseState, snapshot: &SnapshotId) -> Option<bool> {
    let is_ours = |mark: &Mark| mark.snapshot == *snapshot && mark.drill.is_none();
    match state {
        DatabaseState::Absent => None,
        DatabaseState::Empty { mark } => {
            mark.as_ref().is_none_or(is_ours).then(|| is_at_rows(mark.as_ref()))
        }
        DatabaseState::Occupied { mark, .. } => {
            let ours = mark.as_ref().is_some_and(is_ours);
            (ours && is_at_rows(mark.as_ref())).then_some(true)
        }
    }
}

fn is_at_rows(mark: Option<&Mark>) -> bool {
    mark.is_some_and(|mark| mark.phase == Phase::Rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> SnapshotId {
        "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("a ULID")
    }

    fn occupied(phase: Option<Phase>) -> DatabaseState {
        let mark = phase.map(|phase| Mark { snapshot: snapshot(), phase, drill: None });
        DatabaseState::Occupied { relations: 3, rows_estimate: 10, others: 0, mark }
    }

    #[test]
    fn an_unknown_server_may_be_the_source() {
        assert_eq!(same_server(Some("1"), Some("1")), Some(Reason::SameServer));
        assert_eq!(same_server(Some("1"), Some("2")), None);
        assert_eq!(same_server(None, Some("2")), Some(Reason::UnknownServer));
        assert_eq!(same_server(Some("1"), None), Some(Reason::UnknownServer));
    }

    #[test]
    fn only_our_own_unfinished_rows_are_continued() {
        assert_eq!(continues(&occupied(None), &snapshot()), None);
        assert_eq!(continues(&occupied(Some(Phase::Schema)), &snapshot()), None);
        assert_eq!(continues(&occupied(Some(Phase::Rest)), &snapshot()), None);
        assert_eq!(continues(&occupied(Some(Phase::Rows)), &snapshot()), Some(true));
        let other = "01BRZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("a ULID");
        assert_eq!(continues(&occupied(Some(Phase::Rows)), &other), None);
    }

    #[test]
    fn an_empty_database_is_used_unless_another_restore_marked_it() {
        assert_eq!(continues(&DatabaseState::Empty { mark: None }, &snapshot()), Some(false));
        let other = "01BRZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("a ULID");
        let mark = Some(Mark { snapshot: other, phase: Phase::Schema, drill: None });
        assert_eq!(continues(&DatabaseState::Empty { mark }, &snapshot()), None);
    }

    #[test]
    fn a_drills_database_is_never_continued_nor_used() {
        let drill = Some("01BRZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("a ULID"));
        let mark = Some(Mark { snapshot: snapshot(), phase: Phase::Rows, drill });
        let target = ConnectOptions::parse("postgres://me@localhost/shop").expect("a target");
        for state in [
            DatabaseState::Empty { mark: mark.clone() },
            DatabaseState::Occupied { relations: 3, rows_estimate: 10, others: 0, mark },
        ] {
            assert_eq!(continues(&state, &snapshot()), None, "{state:?}");
            let decided = within(&state, &target, &snapshot());
            assert!(matches!(decided, Err(RestoreError::Leftover { .. })), "{state:?}");
        }
    }

    #[test]
    fn a_database_with_tables_is_never_ours_alone() {
        let target = ConnectOptions::parse("postgres://me@localhost/shop").expect("a target");
        assert!(
            within(&occupied(None), &target, &snapshot())
                .is_ok_and(|destination| !destination.alone)
        );
        let empty =
            within(&DatabaseState::Empty { mark: None }, &target, &snapshot()).expect("usable");
        assert!(empty.alone && !empty.create && !empty.rename && !empty.resume);
        let torn = within(&occupied(Some(Phase::Rest)), &target, &snapshot());
        assert!(matches!(torn, Err(RestoreError::Leftover { .. })));
    }
}
