//! One run of one database, and what became of it.

use stonekeep_engine::backup::BackupReport;
use stonekeep_format::ids::Label;

use crate::failure::Failure;

/// What became of one database in one repository.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The database.
    pub(crate) label: Label,
    /// The repository's name; `None`: the database itself failed or was skipped, in all of them.
    pub(crate) repository: Option<String>,
    pub(crate) result: Taken,
}

/// A snapshot, or why there is none.
#[derive(Debug)]
pub(crate) enum Taken {
    /// There is one.
    Snapshot(Box<BackupReport>),
    /// Another run of the database is at work.
    Skipped(Failure),
    /// There is none.
    Failed(Failure),
}
