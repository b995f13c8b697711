//! How long S3 must keep an object: the arithmetic between a promise and a retain-until date.
//!
//! A *promise* is what a snapshot is kept for. A *lock* is what the server enforces on one version of one object. Every lock
//! that a snapshot rests on ends after its promise does. All instants here are the server's (its `Date` header), never the
//! host's: a host clock that runs slow would make every lock short.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, SubsecRound, TimeDelta, TimeZone, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::IdError;

const DAY_SECS: u64 = 86_400;

/// The longest a run may take from its first lock to its manifest (24 h). A lock counts from the start of the run, a promise
/// from its end, so this is added to every lock.
pub const RUN_DURATION_MAX: Duration = Duration::from_secs(DAY_SECS);
/// The longest extra lock that reuse may ask for (90 d): past that, rewriting once a quarter costs less than 2 % of a copy.
pub const WINDOW_MAX: Duration = Duration::from_secs(90 * DAY_SECS);
/// What the cap leaves above the longest keep and window (7 d): the day a run may take, and days for clocks and repairs.
pub const CAP_MARGIN: Duration = Duration::from_secs(7 * DAY_SECS);
/// How far the host's clock may be from the server's (5 min) before a run is refused: someone's clock is wrong then, and the
/// one who is wrong may be the one that decides when locks end.
pub const SKEW_MAX: Duration = Duration::from_secs(300);

/// Which rules of S3 Object Lock hold for a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LockMode {
    /// No credential can shorten it or delete the version.
    Compliance,
    /// A credential with the right to bypass can. Taken with a warning at each run.
    Governance,
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compliance => "COMPLIANCE",
            Self::Governance => "GOVERNANCE",
        })
    }
}

/// The retention of one version of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lock {
    /// Who may still delete it: nobody, or one who may bypass.
    pub mode: LockMode,
    /// The instant until which the version cannot be deleted; whole seconds, as S3 keeps them.
    pub retain_until: DateTime<Utc>,
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} until {}", self.mode, self.retain_until.format("%Y-%m-%dT%H:%M:%SZ"))
    }
}

impl Lock {
    /// Whether this lock, as read back from the server, is at least as strong and as long as `wanted`.
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        let strong_enough =
            self.mode == LockMode::Compliance || wanted.mode == LockMode::Governance;
        strong_enough && self.retain_until >= wanted.retain_until
    }
}

/// Why no lock could be computed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError {
    /// The lock would be longer than the repository's cap.
    #[error("a lock of {asked_days} days is longer than the repository's cap of {cap_days} days")]
    AboveCap {
        /// Days asked for, rounded up.
        asked_days: u64,
        /// Days allowed.
        cap_days: u64,
    },
    /// The lock would end in 2100 or later, where servers that count seconds in 32 bits wrap into the past.
    #[error("a lock until {0} is refused: some servers cannot represent dates from 2100 on")]
    TooFar(DateTime<Utc>),
    /// The clocks of host and server disagree.
    #[error(
        "the host's clock and the storage server's differ by {secs} s (limit 300 s): set the host's clock"
    )]
    Skewed {
        /// How far apart they are.
        secs: u64,
    },
}

/// Checks that the host's clock agrees with the server's.
///
/// # Errors
/// [`LockError::Skewed`] if they are more than [`SKEW_MAX`] apart.
pub fn check_skew(host: DateTime<Utc>, server: DateTime<Utc>) -> Result<(), LockError> {
    let secs = (host - server).num_seconds().unsigned_abs();
    if secs > SKEW_MAX.as_secs() { Err(LockError::Skewed { secs }) } else { Ok(()) }
}

/// Returns until when a snapshot committed at `committed_at` is promised to be there.
#[must_use]
pub fn promised_until(committed_at: DateTime<Utc>, keep: Duration) -> DateTime<Utc> {
    later(committed_at, keep).trunc_subsecs(0)
}

/// Returns the extra lock, beyond the promise, of content that has stood unchanged for `stood`: the longer it stood, the
/// longer it will probably be reused, so the seldomer it is written again. At least two schedule intervals (or nothing could
/// ever be reused), at most `keep` and [`WINDOW_MAX`].
#[must_use]
pub fn window(stood: Duration, interval: Duration, keep: Duration) -> Duration {
    let most = keep.min(WINDOW_MAX);
    stood.max(interval.saturating_mul(2)).min(most)
}

/// Returns the longest lock a repository allows, from its longest keep: keep + window + margin.
#[must_use]
pub fn cap(keep_max: Duration) -> Duration {
    keep_max.saturating_add(keep_max.min(WINDOW_MAX)).saturating_add(CAP_MARGIN)
}

/// Returns the lock of a segment put by a run that began at `run_started_at`: long enough that it outlives the promise even
/// if the run takes [`RUN_DURATION_MAX`].
///
/// # Errors
/// [`LockError::AboveCap`] and [`LockError::TooFar`].
pub fn lock_for(
    run_started_at: DateTime<Utc>,
    keep: Duration,
    window: Duration,
    cap: Duration,
    mode: LockMode,
) -> Result<Lock, LockError> {
    let length = RUN_DURATION_MAX.saturating_add(keep).saturating_add(window);
    if length > cap {
        return Err(LockError::AboveCap { asked_days: days_up(length), cap_days: days_up(cap) });
    }
    // S3 keeps whole seconds; rounded up, so that what is read back is never shorter than what was asked.
    let retain_until = later(run_started_at.trunc_subsecs(0), length + Duration::from_secs(1));
    before_2100(Lock { mode, retain_until })
}

/// Returns the lock to which objects that are there already are prolonged by someone who asks for `length` more at `now`: until
/// the end of that day, so that who is interrupted and asks again later that day asks for the same.
///
/// # Errors
/// [`LockError::AboveCap`] and [`LockError::TooFar`].
pub fn prolonged(
    now: DateTime<Utc>,
    length: Duration,
    cap: Duration,
    mode: LockMode,
) -> Result<Lock, LockError> {
    if length > cap {
        return Err(LockError::AboveCap {
            asked_days: days_up(length),
            cap_days: cap.as_secs() / DAY_SECS,
        });
    }
    let asked = later(now.trunc_subsecs(0), length);
    let past_midnight = asked.timestamp().rem_euclid(86_400);
    let end_of_day = asked + TimeDelta::seconds(86_400 - past_midnight);
    let is_within_cap = end_of_day <= later(now, cap);
    before_2100(Lock { mode, retain_until: if is_within_cap { end_of_day } else { asked } })
}

fn before_2100(lock: Lock) -> Result<Lock, LockError> {
    let first_refused = Utc.with_ymd_and_hms(2100, 1, 1, 0, 0, 0).single();
    match first_refused {
        Some(limit) if lock.retain_until < limit => Ok(lock),
        _ => Err(LockError::TooFar(lock.retain_until)),
    }
}

fn later(at: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(by)
        .ok()
        .and_then(|by| at.checked_add_signed(by))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

const fn days_up(length: Duration) -> u64 {
    let secs = length.as_secs() + if length.subsec_nanos() > 0 { 1 } else { 0 };
    secs.div_ceil(DAY_SECS)
}

/// The length of a lock in days, rounded up to a fixed ladder: 1 2 3 4 5 6 8 10 12 16 20 24 32 …, that is 2ᵏ, 1.25 · 2ᵏ and
/// 1.5 · 2ᵏ from 4 on. It is part of a key, so that one set of lifecycle rules, made once, fits every object there will ever be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(u32);

impl Class {
    /// The longest class (40 960 d, 112 years): beyond anything [`lock_for`] grants.
    pub const MAX: Self = Self(40_960);

    /// Returns the class of a lock put at `put_at` that ends at `retain_until`.
    #[must_use]
    pub fn of(put_at: DateTime<Utc>, retain_until: DateTime<Utc>) -> Self {
        let length = (retain_until - put_at).to_std().unwrap_or(Duration::ZERO);
        let days = days_up(length);
        Self::ladder().find(|class| u64::from(class.0) >= days).unwrap_or(Self::MAX)
    }

    /// Yields every class from the shortest to the longest.
    pub fn ladder() -> impl Iterator<Item = Self> {
        let small = [1, 2, 3].into_iter();
        let large = (2..=15).flat_map(|k| {
            let power = 1_u32 << k;
            [power, power + power / 4, power + power / 2]
        });
        small.chain(large).map(Self).filter(|class| *class <= Self::MAX)
    }

    /// Returns the days of the class.
    #[must_use]
    pub const fn days(self) -> u32 {
        self.0
    }
}

impl FromStr for Class {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::ladder().find(|class| class.to_string() == text).ok_or_else(|| {
            IdError::new("lock class", "1 2 3 4 5 6 8 10 12 16 20 24 32 and so on", text)
        })
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("the test's own date")
    }
    const fn days(n: u64) -> Duration {
        Duration::from_secs(n * DAY_SECS)
    }

    #[test]
    fn the_ladder_is_the_documented_one() {
        let first: Vec<u32> = Class::ladder().take(15).map(Class::days).collect();
        assert_eq!(first, [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48]);
        assert_eq!(Class::ladder().last(), Some(Class::MAX));
        assert!("7".parse::<Class>().is_err());
        assert_eq!("8".parse::<Class>().map(Class::days), Ok(8));
    }

    #[test]
    fn a_lock_ends_after_the_promise_of_a_run_that_took_a_day() {
        let start = at("2028-02-28T12:00:00.9Z");
        let lock = lock_for(start, days(7), Duration::ZERO, cap(days(7)), LockMode::Compliance)
            .expect("within the cap");
        let committed = start + TimeDelta::hours(24);
        assert!(lock.retain_until >= promised_until(committed, days(7)));
        assert_eq!(lock.retain_until.timestamp_subsec_nanos(), 0);
    }

    #[test]
    fn locks_into_2100_and_above_the_cap_are_refused() {
        let start = at("2090-01-01T00:00:00Z");
        let long = days(3660);
        assert!(matches!(
            lock_for(start, long, Duration::ZERO, cap(long), LockMode::Compliance),
            Err(LockError::TooFar(_))
        ));
        let above = lock_for(start, days(30), days(30), days(40), LockMode::Compliance);
        assert_eq!(above, Err(LockError::AboveCap { asked_days: 61, cap_days: 40 }));
    }

    #[test]
    fn who_asks_again_on_the_same_day_asks_for_the_same_lock() {
        let ask = |now: &str| prolonged(at(now), days(30), days(90), LockMode::Compliance);
        let end = at("2026-12-22T00:00:00Z");
        for now in ["2026-11-21T00:00:00Z", "2026-11-21T10:00:00.5Z", "2026-11-21T23:59:59Z"] {
            assert_eq!(ask(now).map(|lock| lock.retain_until), Ok(end), "{now}");
        }
        assert!(ask("2026-11-22T00:00:00Z").is_ok_and(|lock| lock.retain_until > end));
    }

    #[test]
    fn a_prolonged_lock_stays_within_the_cap_and_before_2100() {
        let now = at("2026-11-21T10:00:00Z");
        let most = prolonged(now, days(90), days(90), LockMode::Compliance).expect("the cap");
        assert_eq!(most.retain_until, now + days(90));
        let above = prolonged(now, days(91), days(90), LockMode::Compliance);
        assert_eq!(above, Err(LockError::AboveCap { asked_days: 91, cap_days: 90 }));
        let far = prolonged(at("2099-12-30T10:00:00Z"), days(1), days(90), LockMode::Compliance);
        assert!(matches!(far, Err(LockError::TooFar(_))));
    }

    #[test]
    fn skew_is_refused_both_ways() {
        let server = at("2026-11-21T00:00:00Z");
        assert!(check_skew(server + TimeDelta::seconds(300), server).is_ok());
        assert_eq!(
            check_skew(server + TimeDelta::seconds(301), server),
            Err(LockError::Skewed { secs: 301 })
        );
        assert_eq!(
            check_skew(server - TimeDelta::seconds(301), server),
            Err(LockError::Skewed { secs: 301 })
        );
    }

    #[test]
    fn governance_never_satisfies_compliance() {
        let lock = |mode| Lock { mode, retain_until: at("2027-01-01T00:00:00Z") };
        assert!(!lock(LockMode::Governance).satisfies(&lock(LockMode::Compliance)));
        assert!(lock(LockMode::Compliance).satisfies(&lock(LockMode::Governance)));
    }

    proptest! {
        #[test]
        fn a_class_is_never_shorter_than_its_lock(secs in 0_u64..20_000 * DAY_SECS) {
            let put = at("2026-01-01T00:00:00Z");
            let class = Class::of(put, later(put, Duration::from_secs(secs)));
            prop_assert!(u64::from(class.days()) * DAY_SECS >= secs);
            prop_assert_eq!(class.to_string().parse::<Class>(), Ok(class));
        }

        #[test]
        fn a_window_stays_between_its_bounds(stood in 0_u64..400, interval in 1_u64..48, keep in 1_u64..4000) {
            let (stood, interval, keep) = (days(stood), Duration::from_secs(interval * 3600), days(keep));
            let window = window(stood, interval, keep);
            prop_assert!(window <= keep && window <= WINDOW_MAX);
            prop_assert!(window >= (interval * 2).min(keep).min(WINDOW_MAX));
        }

        #[test]
        fn every_lock_within_the_cap_outlives_its_promise(
            start in 1_700_000_000_i64..3_900_000_000, keep in 1_u64..3650, window in 0_u64..90, run in 0_i64..=86_400,
        ) {
            let start = DateTime::from_timestamp(start, 0).expect("seconds in range");
            let keep = days(keep);
            let window = days(window).min(keep);
            if let Ok(lock) = lock_for(start, keep, window, cap(keep), LockMode::Compliance) {
                prop_assert!(lock.retain_until > promised_until(start + TimeDelta::seconds(run), keep));
            }
        }
    }
}
