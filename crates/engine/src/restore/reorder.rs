//! The digest of a partition's rows with their columns in another order than the catalog's digest has them in.
//!
//! The catalog knows each table in its own order of columns. Where rows may come back in another partition, and the two do
//! not have one order, the digest to compare with is taken from the rows themselves while they are loaded.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use stonekeep_format::digest::{RowDigest, RowDigestKey, RowDigester};
use stonekeep_postgres::load::{ColumnOrder, CopyStatement};
use tokio::task::JoinError;

/// A table that is loaded in its own order of columns and compared in another.
#[derive(Debug)]
pub(super) struct Reordered {
    /// The table with its columns in the other order.
    pub(super) statement: CopyStatement,
    order: ColumnOrder,
    key: RowDigestKey,
    seen: Mutex<Seen>,
}

/// Digests of the rows that went by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    /// As they are.
    as_is: RowDigest,
    /// In the other order.
    reordered: RowDigest,
}

impl Reordered {
    /// Returns none if `table` has its columns in the order of `other`.
    pub(super) fn new(
        table: &CopyStatement,
        other: &CopyStatement,
        key: &RowDigestKey,
    ) -> Option<Self> {
        let order = table.order_to(other)?;
        let (statement, key) = (table.in_order_of(other), key.clone());
        Some(Self { statement, order, key, seen: Mutex::default() })
    }

    /// Takes whole rows in COPY's text format, as they are loaded. A thread of its own does the work: a slice is megabytes.
    ///
    /// # Errors
    /// The thread panicked.
    pub(super) async fn take(&self, rows: Bytes) -> Result<(), JoinError> {
        let (order, key) = (self.order.clone(), self.key.clone());
        let more = tokio::task::spawn_blocking(move || digest(&rows, &order, &key)).await?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_is = seen.as_is.merge(more.as_is);
        seen.reordered = seen.reordered.merge(more.reordered);
        Ok(())
    }

    /// Returns the digest in the other order if the rows that went by are, as they are, those of `as_is`.
    pub(super) fn digest_if(&self, as_is: RowDigest) -> Option<RowDigest> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.as_is == as_is).then_some(seen.reordered)
    }
}

fn digest(rows: &[u8], order: &ColumnOrder, key: &RowDigestKey) -> Seen {
    let (mut as_is, mut reordered) = (RowDigester::new(key), RowDigester::new(key));
    let mut other = Vec::new();
    for line in rows.split_inclusive(|byte| *byte == b'\n') {
        as_is.add(line);
        order.apply(line, &mut other);
        reordered.add(&other);
    }
    Seen { as_is: as_is.finish(), reordered: reordered.finish() }
}
