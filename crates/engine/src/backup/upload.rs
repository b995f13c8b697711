//! What one worker has handed to the run, and where it belongs.

use stonekeep_format::archive::RowFormat;
use tokio::task::JoinSet;

use crate::run::{BackupError, Copies, Piece, Run};

/// Where a stored segment belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// A slice of a table: its position in the dump's list, the first page of the range it was read from, and the cut within.
    Table { table: usize, format: RowFormat, page: u32, cut: u32 },
    /// Whole tables, by their positions.
    Tables(Vec<usize>),
    /// A slice of a large object: its OID and the cut.
    LargeObject { oid: u32, cut: u32 },
    /// Whole large objects, by the first one's OID.
    LargeObjects { first_oid: u32 },
    /// The archive's lists of large objects: those before this one that are in no earlier pack.
    Lists { before: usize },
}

/// The uploads of one worker, in flight. How many there are is bounded by the budget their pieces hold.
#[derive(Debug)]
pub(super) struct Uploads {
    run: Run,
    running: JoinSet<Result<(Slot, Copies), BackupError>>,
    stored: Vec<(Slot, Copies)>,
}

impl Uploads {
    pub(super) fn new(run: Run) -> Self {
        Self { run, running: JoinSet::new(), stored: Vec::new() }
    }

    /// Begins to store a piece; fails if an earlier one of this worker did.
    pub(super) fn begin(&mut self, slot: Slot, piece: Piece) -> Result<(), BackupError> {
        while let Some(done) = self.running.try_join_next() {
            self.stored.push(done.map_err(BackupError::Task)??);
        }
        let run = self.run.clone();
        self.running.spawn(async move { run.keep(piece).await.map(|copies| (slot, copies)) });
        Ok(())
    }

    /// Waits for all of them.
    pub(super) async fn finish(mut self) -> Result<Vec<(Slot, Copies)>, BackupError> {
        while let Some(done) = self.running.join_next().await {
            self.stored.push(done.map_err(BackupError::Task)??);
        }
        Ok(self.stored)
    }
}
