//! Signed records that were stored last, found among whatever else lies there.
//!
//! Whoever may write can put junk where records lie, under ids of his choice. So they are taken in the order in which the server
//! stored them, so many and no more, and what was left out is counted: somebody may hide one in it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{key::ObjectKey, lock, signature::SignatureError};
use stonekeep_store::{KeyVersions, ObjectVersion, ReadStore, StoreError, oldest_verified};

/// Versions of each that are looked at (8), the oldest: its writer puts it once, or a few times if answers are lost.
const VERSIONS_MAX: usize = 8;

/// Where the newest records could be, by when the server stored them.
#[derive(Debug)]
pub(crate) struct Newest<'r> {
    kept: BTreeMap<(DateTime<Utc>, ObjectKey, usize), Candidate<'r>>,
    kept_max: usize,
    /// How many there are besides.
    pub(crate) left_out: u64,
}

impl<'r> Newest<'r> {
    /// Keeps so many.
    pub(crate) const fn of(kept_max: usize) -> Self {
        Self { kept: BTreeMap::new(), kept_max, left_out: 0 }
    }

    /// Takes in what lies under a key in the `at`-th bucket, which says when its run began.
    pub(crate) fn take(
        &mut self,
        (at, store): (usize, &'r dyn ReadStore),
        (key, mut found): (ObjectKey, KeyVersions),
        begun_at: DateTime<Utc>,
    ) {
        let Some(stored_at) = found.versions.first().map(|first| first.modified_at) else { return };
        if is_ahead(begun_at, stored_at) {
            self.left_out += 1;
            return;
        }
        found.versions.truncate(VERSIONS_MAX);
        let candidate = Candidate { store, key: key.clone(), versions: found.versions };
        self.kept.insert((stored_at, key, at), candidate);
        if self.kept.len() > self.kept_max {
            self.kept.pop_first();
            self.left_out += 1;
        }
    }

    /// Yields them, the one that was stored last first.
    pub(crate) fn into_last_first(self) -> impl Iterator<Item = Candidate<'r>> {
        self.kept.into_values().rev()
    }
}

/// Whether something claims to be from later than the server stored it, by more than clocks may differ.
fn is_ahead(claimed: DateTime<Utc>, stored_at: DateTime<Utc>) -> bool {
    TimeDelta::from_std(lock::SKEW_MAX).is_ok_and(|skew| claimed - stored_at > skew)
}

/// Where a record could be.
#[derive(Debug)]
pub(crate) struct Candidate<'r> {
    pub(crate) store: &'r dyn ReadStore,
    pub(crate) key: ObjectKey,
    /// The oldest of them.
    versions: Vec<ObjectVersion>,
}

/// What lies where a record could be.
#[derive(Debug)]
pub(crate) enum Seen<T> {
    /// What was looked for.
    Record(T),
    /// Not ours, or nobody knows.
    Other,
    /// This credential may not read it.
    Denied,
    /// It is gone since.
    Gone,
}

impl Candidate<'_> {
    /// Reads it, with whatever `verify` makes of its bytes. A record that `dated` says is of later than it was stored is not ours.
    pub(crate) async fn read<T>(
        &self,
        bytes_max: u64,
        verify: impl Fn(&[u8]) -> Result<T, SignatureError>,
        dated: impl Fn(&T) -> Option<DateTime<Utc>>,
    ) -> Result<Seen<T>, StoreError> {
        let seen = oldest_verified(self.store, &self.versions, bytes_max, verify).await?;
        let is_denied =
            |(_, error): &(ObjectVersion, StoreError)| matches!(error, StoreError::Denied { .. });
        let is_gone =
            seen.planted.is_empty() && seen.too_long.is_empty() && seen.unreadable.is_empty();
        Ok(match seen.value {
            Some((record, version))
                if dated(&record).is_some_and(|at| is_ahead(at, version.modified_at)) =>
            {
                Seen::Other
            }
            Some((record, _)) => Seen::Record(record),
            None if is_gone => Seen::Gone,
            None if seen.unreadable.len() == self.versions.len()
                && seen.unreadable.iter().all(is_denied) =>
            {
                Seen::Denied
            }
            None => Seen::Other,
        })
    }
}
