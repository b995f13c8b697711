//! How long what a run stores is locked.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{
    lock::{self, Class, Lock, LockError, LockMode, RUN_DURATION_MAX},
    manifest::Link,
};

/// How long an attempt record is kept (2 d): a run that broke is followed by another within that time, or its segments are
/// stored again.
const ATTEMPT_KEEP: Duration = Duration::from_secs(2 * 86_400);
/// The gaps between snapshots that the interval is taken from: the last eight.
const GAPS: usize = 8;
/// The interval if there is no gap to tell it (1 d).
const INTERVAL: Duration = Duration::from_secs(86_400);

/// The rules of one run in one repository.
#[derive(Debug, Clone)]
pub(crate) struct Locks {
    /// When the run began, by the storage server's clock.
    pub(crate) started_at: DateTime<Utc>,
    /// What the snapshot is kept for.
    pub(crate) keep: Duration,
    pub(super) cap: Duration,
    pub(super) mode: LockMode,
    /// For how long the bucket locks what is put there, if it names the locks.
    pub(super) by_bucket: Option<Duration>,
    /// How far apart snapshots are.
    pub(super) interval: Duration,
    /// Whether nothing was stored before, so that nothing is known of how long content stands.
    pub(super) first: bool,
}

impl Locks {
    /// Returns how long a segment is locked whose content has stood since `since`; `None`: it is new at its place.
    pub(super) fn of_content(&self, since: Option<DateTime<Utc>>) -> Result<Lock, LockError> {
        let stood = match since {
            _ if self.first => Duration::MAX,
            Some(since) => (self.started_at - since).to_std().unwrap_or(Duration::ZERO),
            None => Duration::ZERO,
        };
        self.lock(self.keep, lock::window(stood, self.interval, self.keep))
    }

    /// Returns how long what belongs to this snapshot alone is locked.
    pub(crate) fn of_document(&self) -> Result<Lock, LockError> {
        self.lock(self.keep, Duration::ZERO)
    }

    /// Returns how long an attempt record is locked.
    pub(super) fn of_attempt(&self) -> Result<Lock, LockError> {
        self.lock(ATTEMPT_KEEP.min(self.keep), Duration::ZERO)
    }

    /// Returns how a reused segment must be locked: as long as a new one without a window, so that it outlives the promise
    /// even if the run takes as long as one may.
    pub(super) fn needed(&self) -> Lock {
        let length = RUN_DURATION_MAX.saturating_add(self.keep);
        let length = TimeDelta::from_std(length).unwrap_or(TimeDelta::MAX);
        let retain_until = self.started_at.checked_add_signed(length);
        Lock { mode: self.mode, retain_until: retain_until.unwrap_or(DateTime::<Utc>::MAX_UTC) }
    }

    pub(crate) fn class(&self, lock: Lock) -> Class {
        Class::of(self.started_at, lock.retain_until)
    }

    fn lock(&self, keep: Duration, window: Duration) -> Result<Lock, LockError> {
        if let Some(length) = self.by_bucket {
            // It counts from the PUT, which comes later.
            let retain_until = self.started_at + length;
            return Ok(Lock { mode: self.mode, retain_until });
        }
        lock::lock_for(self.started_at, keep, window, self.cap, self.mode)
    }
}

/// Returns how far apart the snapshots of a label are: the median of the last gaps, the one up to `now` included. So one long
/// outage, or a snapshot taken by hand, does not change it.
pub(super) fn interval(links: &[Link], now: DateTime<Utc>) -> Duration {
    let mut times: Vec<DateTime<Utc>> = links.iter().map(|link| link.committed_at).collect();
    times.push(now);
    times.sort_unstable();
    let mut gaps: Vec<Duration> =
        times.windows(2).filter_map(|pair| (pair[1] - pair[0]).to_std().ok()).collect();
    let last = gaps.len().saturating_sub(GAPS);
    let last = &mut gaps[last..];
    last.sort_unstable();
    last.get(last.len() / 2).copied().unwrap_or(INTERVAL)
}

#[cfg(test)]
mod tests {
    use stonekeep_format::ids::{ChainId, Digest, Seq, SnapshotId};

    use super::*;

    fn at(hours: i64) -> DateTime<Utc> {
        "2026-11-21T00:00:00Z".parse::<DateTime<Utc>>().expect("a date") + TimeDelta::hours(hours)
    }
    const fn hours(n: u64) -> Duration {
        Duration::from_secs(n * 3600)
    }
    fn locks(first: bool) -> Locks {
        let keep = hours(720);
        Locks {
            started_at: at(0),
            keep,
            cap: lock::cap(keep),
            mode: LockMode::Compliance,
            by_bucket: None,
            interval: hours(1),
            first,
        }
    }
    fn link(hour: i64) -> Link {
        Link {
            seq: Seq(1),
            chain: ChainId::from_bytes([1; 8]),
            id: SnapshotId::new(at(hour), 1),
            digest: Digest::of(b"x"),
            committed_at: at(hour),
            keep: hours(720),
            suspicious: false,
        }
    }
    fn window(locks: &Locks, since: Option<DateTime<Utc>>) -> TimeDelta {
        let lock = locks.of_content(since).expect("within the cap");
        lock.retain_until - locks.needed().retain_until - TimeDelta::seconds(1)
    }

    #[test]
    fn the_window_is_how_long_content_has_stood() {
        assert_eq!(window(&locks(false), None), TimeDelta::hours(2));
        assert_eq!(window(&locks(false), Some(at(-1))), TimeDelta::hours(2));
        assert_eq!(window(&locks(false), Some(at(-100))), TimeDelta::hours(100));
        assert_eq!(window(&locks(false), Some(at(-9999))), TimeDelta::hours(720));
        assert_eq!(window(&locks(true), None), TimeDelta::hours(720));
    }

    #[test]
    fn a_bucket_that_names_the_locks_names_all_of_them() {
        let locks = Locks { by_bucket: Some(hours(800)), ..locks(false) };
        for lock in [locks.of_content(None), locks.of_document(), locks.of_attempt()] {
            assert_eq!(lock.expect("as the bucket says").retain_until, at(800));
        }
    }

    #[test]
    fn a_document_reaches_what_a_reused_segment_must() {
        let lock = locks(false).of_document().expect("within the cap");
        assert!(lock.retain_until >= locks(false).needed().retain_until);
    }

    #[test]
    fn one_outage_does_not_change_the_interval() {
        assert_eq!(interval(&[], at(0)), INTERVAL);
        assert_eq!(interval(&[link(-1)], at(0)), hours(1));
        let links: Vec<Link> = (0..20).map(|n| link(-100 - n)).collect();
        assert_eq!(interval(&links, at(0)), hours(1));
    }
}
