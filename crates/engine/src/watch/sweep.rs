//! One listing of everything under the prefix, a page at a time: markers, versions, keys that are none of ours, and how much is
//! stored each day.
//!
//! What lies under `manifests/` is the audit's to judge, which reads it; here it is counted.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{TryStreamExt as _, pin_mut};
use stonekeep_format::{
    key::{ObjectKey, Place},
    lock::Class,
};
use stonekeep_store::{DeleteMarker, KeyVersions, ObjectVersion, ReadStore, StoreError, list_keys};

use super::{Alarm, AlarmKind, WatchError, alarm::Alarms};
use crate::{
    drill::lock_length,
    finding::FindingKind,
    lifecycle::ATTEMPT_DAYS,
    repository::{ABSENT_MAX, Repository},
};

/// The days that are counted (8): the last one, and the seven that it is compared with.
const DAYS: usize = 8;
/// By how much a day may exceed the mean of the seven before (3 times): a day on which all that was settled is written anew is
/// rarely more than that.
const USUAL_FACTOR: u64 = 3;
/// What is stored in a day without a word, however little is usual (1 GiB).
const BYTES_QUIET: u64 = 1 << 30;
/// Pairs that are read to see whether they are a document that was sent twice (1024), and how long such a one may be (2 MiB, as
/// a manifest). Of longer ones the length alone is compared. A document is sent twice when an answer was lost: who needs more
/// pairs has planted them, and of those past that number none is believed to be one. That is 4 GiB to read at most, two documents at a time.
const READS_MAX: u32 = 1024;
const READ_BYTES_MAX: u64 = 2 << 20;
const MANIFESTS: &str = "manifests/";

const OVERWRITE: AlarmKind = AlarmKind::Found(FindingKind::Overwrite);
const MARKER: AlarmKind = AlarmKind::Found(FindingKind::Marker);

/// What a listing shows.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) objects: u64,
    pub(super) bytes: u64,
    /// Bytes of what was stored in the last 24 hours, in the 24 before, and so on.
    pub(super) by_day: [u64; DAYS],
    first_at: DateTime<Utc>,
    reads_left: u32,
}

impl Sweep {
    pub(super) async fn of(
        repository: &Repository,
        at: DateTime<Utc>,
        alarms: &mut Alarms,
    ) -> Result<Self, WatchError> {
        let mut sweep =
            Self { objects: 0, bytes: 0, by_day: [0; DAYS], first_at: at, reads_left: READS_MAX };
        for store in repository.stores.all() {
            let store = &**store;
            let failed = |source| {
                let (bucket, source) = (store.bucket().clone(), Box::new(source));
                WatchError::List { bucket, source }
            };
            let keys = list_keys(store, "");
            pin_mut!(keys);
            while let Some((key, found)) = keys.try_next().await.map_err(failed)? {
                sweep.count(&found, at);
                sweep.key(repository, store, (&key, &found), alarms).await.map_err(failed)?;
            }
        }
        Ok(sweep)
    }

    /// One that has counted this.
    #[cfg(test)]
    pub(super) const fn counted(by_day: [u64; DAYS], first_at: DateTime<Utc>) -> Self {
        Self { objects: 0, bytes: 0, by_day, first_at, reads_left: 0 }
    }

    fn count(&mut self, found: &KeyVersions, at: DateTime<Utc>) {
        for version in &found.versions {
            self.objects += 1;
            self.bytes = self.bytes.saturating_add(version.bytes);
            self.first_at = self.first_at.min(version.modified_at);
            let days = usize::try_from((at - version.modified_at).num_days().max(0));
            if let Some(day) = days.ok().and_then(|days| self.by_day.get_mut(days)) {
                *day = day.saturating_add(version.bytes);
            }
        }
        self.objects += found.left_out;
    }

    async fn key(
        &mut self,
        repository: &Repository,
        store: &dyn ReadStore,
        (key, found): (&ObjectKey, &KeyVersions),
        alarms: &mut Alarms,
    ) -> Result<(), StoreError> {
        match Place::of(key) {
            _ if key.as_str().starts_with(MANIFESTS) => {}
            // What `prove` puts there it attacks and judges itself.
            Some(Place::Canary(..)) => {}
            // What they say is judged elsewhere, by when they were stored.
            Some(Place::Report(..)) => {
                let locked_for = lock_length(repository);
                markers(found, |_| locked_for, alarms);
            }
            Some(Place::Genesis(n)) => {
                // What lies there, or where a reader would look for the next, the audit names.
                let is_main = store.bucket() == repository.stores.main().bucket();
                if is_main && n <= repository.genesis.n.saturating_add(ABSENT_MAX) {
                    markers(found, |_| TimeDelta::MAX, alarms);
                } else {
                    foreign(key, found, alarms);
                }
            }
            Some(Place::Segment(class, ..)) => {
                // Its key was made for one PUT.
                let later = found.versions.iter().skip(1);
                later.for_each(|each| overwrite(each, alarms));
                surplus(key, found, alarms);
                markers(found, |_| days(class), alarms);
            }
            Some(Place::Inventory(class, _)) => {
                self.resent_first(store, found, alarms).await?;
                markers(found, |_| days(class), alarms);
            }
            Some(Place::Attempt(..)) => {
                self.resent_first(store, found, alarms).await?;
                markers(found, |_| TimeDelta::days(i64::from(ATTEMPT_DAYS)), alarms);
            }
            Some(Place::Manifest(..)) | None => foreign(key, found, alarms),
        }
        Ok(())
    }

    async fn resent_first(
        &mut self,
        store: &dyn ReadStore,
        found: &KeyVersions,
        alarms: &mut Alarms,
    ) -> Result<(), StoreError> {
        match found.versions.first() {
            Some(first) => self.resent(store, first, found, alarms).await,
            None => Ok(()),
        }
    }

    /// A document whose answer was lost is sent again under its key; any other version is none of ours.
    async fn resent(
        &mut self,
        store: &dyn ReadStore,
        ours: &ObjectVersion,
        found: &KeyVersions,
        alarms: &mut Alarms,
    ) -> Result<(), StoreError> {
        for other in found.versions.iter().filter(|each| each.version_id != ours.version_id) {
            if other.bytes != ours.bytes || !self.is_same(store, ours, other).await? {
                overwrite(other, alarms);
            }
        }
        surplus(&ours.key, found, alarms);
        Ok(())
    }

    /// Whether two versions of one length hold the same, as far as can be seen with the rights there are.
    async fn is_same(
        &mut self,
        store: &dyn ReadStore,
        a: &ObjectVersion,
        b: &ObjectVersion,
    ) -> Result<bool, StoreError> {
        if a.bytes > READ_BYTES_MAX {
            return Ok(true);
        }
        if self.reads_left == 0 {
            return Ok(false);
        }
        self.reads_left -= 1;
        let (a, b) = (read(store, a).await?, read(store, b).await?);
        Ok(match (a, b) {
            (Content::Gone, _) | (_, Content::Gone) | (Content::Denied, Content::Denied) => true,
            (a, b) => a == b,
        })
    }

    /// Compares the last day with what may be, or with what is usual.
    pub(super) fn judge(
        &self,
        at: DateTime<Utc>,
        bytes_per_day_max: Option<u64>,
        alarms: &mut Alarms,
    ) {
        let (last, before) = (self.by_day[0], &self.by_day[1..]);
        if let Some(max) = bytes_per_day_max {
            if last > max {
                let what = format!(
                    "{last} bytes were stored in the last 24 hours, and bytes_per_day_max is {max}"
                );
                alarms.raise(Alarm::critical(AlarmKind::Bytes, None, what));
            }
            return;
        }
        // Without seven days before, nothing is usual yet.
        let is_known = at - self.first_at >= TimeDelta::days(8);
        let mean = before.iter().fold(0, |sum: u64, day| sum.saturating_add(*day)) / 7;
        if is_known && last > BYTES_QUIET.max(mean.saturating_mul(USUAL_FACTOR)) {
            let what = format!(
                "{last} bytes were stored in the last 24 hours, more than {USUAL_FACTOR} times the mean of the 7 days before ({mean}); bytes_per_day_max sets another limit"
            );
            alarms.raise(Alarm::warning(AlarmKind::Bytes, None, what));
        }
    }
}

/// What a version holds, as far as can be seen.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    Bytes(bytes::Bytes),
    /// This credential may not read it.
    Denied,
    /// The server gives it to nobody who asks so: somebody put it under a key of his own.
    Sealed,
    /// It is gone since.
    Gone,
}

async fn read(store: &dyn ReadStore, version: &ObjectVersion) -> Result<Content, StoreError> {
    match store.get(&version.key, &version.version_id, version.bytes).await {
        Ok(bytes) => Ok(Content::Bytes(bytes)),
        Err(StoreError::Denied { .. }) => Ok(Content::Denied),
        Err(StoreError::Rejected { .. }) => Ok(Content::Sealed),
        Err(StoreError::NotFound { .. }) => Ok(Content::Gone),
        Err(error) => Err(error),
    }
}

fn days(class: Class) -> TimeDelta {
    TimeDelta::days(i64::from(class.days()))
}

fn overwrite(version: &ObjectVersion, alarms: &mut Alarms) {
    let what = "another version of this key: somebody put it; readers take the one that is named";
    alarms.raise_at(OVERWRITE, (&version.key, &version.version_id), what);
}

fn surplus(key: &ObjectKey, found: &KeyVersions, alarms: &mut Alarms) {
    if found.left_out > 0 {
        let what = format!("{key} has {} more versions and markers", found.left_out);
        alarms.raise(Alarm::critical(OVERWRITE, None, what));
    }
}

/// A marker over a version whose lock cannot have ended by then was set by somebody: a lifecycle rule waits for longer.
fn markers(
    found: &KeyVersions,
    locked_for: impl Fn(&ObjectVersion) -> TimeDelta,
    alarms: &mut Alarms,
) {
    let is_early = |marker: &DeleteMarker| {
        found.versions.iter().any(|version| {
            let hidden_for = marker.modified_at - version.modified_at;
            hidden_for >= TimeDelta::zero() && hidden_for < locked_for(version)
        })
    };
    for marker in found.markers.iter().filter(|marker| is_early(marker)) {
        let set = marker.modified_at.to_rfc3339();
        let what = format!(
            "a delete marker, set {set}, while the object is locked; it changes nothing for readers"
        );
        alarms.raise_at(MARKER, (&marker.key, &marker.version_id), &what);
    }
}

fn foreign(key: &ObjectKey, found: &KeyVersions, alarms: &mut Alarms) {
    let versions = found.versions.len() as u64 + found.left_out;
    if versions == 0 {
        return;
    }
    let bytes = found.versions.iter().map(|version| version.bytes).fold(0, u64::saturating_add);
    let what =
        format!("{key} is none of ours: {versions} versions, {bytes} bytes; nobody reads it");
    alarms.raise(Alarm::critical(AlarmKind::Foreign, None, what));
}
