//! Which retention tier a snapshot falls into: the longest-kept one whose calendar period has no snapshot yet.

use std::time::Duration;

use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// The calendar period of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Every {
    /// From one full hour to the next.
    Hour,
    /// A calendar day.
    Day,
    /// An ISO week, beginning on Monday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

/// A retention tier: in each period, one snapshot is kept this long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// The name of the tier in the configuration.
    pub name: String,
    /// Its period.
    pub every: Every,
    /// How long its snapshots are promised, in seconds.
    #[serde(rename = "keep_secs", with = "secs")]
    pub keep: Duration,
}

/// A calendar period in one time zone, comparable with others of the same [`Every`] only.
///
/// Periods are told apart by local date and hour, and the repeated hour of an autumn night by its offset, so that a day has
/// 23, 24 or 25 hours as people there count them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Period {
    begins_on: NaiveDate,
    hour: u32,
    offset_secs: i32,
}

impl Every {
    fn period(self, at: DateTime<Utc>, zone: Tz) -> Option<Period> {
        use chrono::Offset;
        let local = at.with_timezone(&zone);
        let date = local.date_naive();
        let day = |begins_on| Period { begins_on, hour: 0, offset_secs: 0 };
        Some(match self {
            Self::Hour => Period {
                begins_on: date,
                hour: local.hour(),
                offset_secs: local.offset().fix().local_minus_utc(),
            },
            Self::Day => day(date),
            Self::Week => {
                day(date - chrono::Days::new(u64::from(date.weekday().num_days_from_monday())))
            }
            Self::Month => day(date.with_day(1)?),
            Self::Year => day(date.with_ordinal(1)?),
        })
    }
}

/// Returns the tier for a snapshot taken at `now`, given every committed snapshot that is still promised as (instant, keep).
///
/// A period counts as filled by a snapshot that is kept at least as long as its tier, so a yearly snapshot also fills its
/// month, week, day and hour. If every period is filled, the snapshot takes the shortest-kept tier. `None` only if there is
/// no tier at all.
#[must_use]
pub fn choose<'t>(
    tiers: &'t [Tier],
    committed: &[(DateTime<Utc>, Duration)],
    now: DateTime<Utc>,
    zone: Tz,
) -> Option<&'t Tier> {
    let filled = |tier: &Tier| {
        let this = tier.every.period(now, zone);
        committed
            .iter()
            .any(|(at, keep)| *keep >= tier.keep && tier.every.period(*at, zone) == this)
    };
    let open = tiers.iter().filter(|tier| !filled(tier)).max_by_key(|tier| tier.keep);
    open.or_else(|| tiers.iter().min_by_key(|tier| tier.keep))
}

/// Durations as whole seconds in JSON.
pub(crate) mod secs {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(duration.as_secs())
    }
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("the test's own date")
    }
    fn tier(name: &str, every: Every, days: u64) -> Tier {
        Tier { name: name.into(), every, keep: Duration::from_secs(days * 86_400) }
    }
    fn all() -> Vec<Tier> {
        vec![
            tier("hourly", Every::Hour, 7),
            tier("daily", Every::Day, 30),
            tier("weekly", Every::Week, 90),
            tier("yearly", Every::Year, 3650),
        ]
    }
    fn chosen(committed: &[(&str, u64)], now: &str) -> String {
        let committed: Vec<_> = committed
            .iter()
            .map(|(when, days)| (at(when), Duration::from_secs(days * 86_400)))
            .collect();
        let tiers = all();
        choose(&tiers, &committed, at(now), chrono_tz::Europe::Berlin)
            .expect("there are tiers")
            .name
            .clone()
    }

    #[test]
    fn the_first_snapshot_takes_the_longest_tier() {
        assert_eq!(chosen(&[], "2026-11-21T10:15:00Z"), "yearly");
    }

    #[test]
    fn a_long_kept_snapshot_fills_the_shorter_periods() {
        assert_eq!(chosen(&[("2026-11-21T10:15:00Z", 3650)], "2026-11-21T10:45:00Z"), "hourly");
        assert_eq!(chosen(&[("2026-11-21T10:15:00Z", 3650)], "2026-11-22T10:15:00Z"), "daily");
        assert_eq!(chosen(&[("2026-11-21T10:15:00Z", 3650)], "2026-11-23T10:15:00Z"), "weekly");
    }

    #[test]
    fn the_day_changes_at_local_midnight() {
        // 23:30 UTC is already the next day in Berlin.
        let committed = [("2026-07-01T20:00:00Z", 3650), ("2026-06-29T20:00:00Z", 90)];
        assert_eq!(chosen(&committed, "2026-07-01T21:30:00Z"), "hourly");
        assert_eq!(chosen(&committed, "2026-07-01T22:30:00Z"), "daily");
    }

    #[test]
    fn the_repeated_hour_of_autumn_is_two_hours() {
        let zone = chrono_tz::Europe::Berlin;
        // 02:15 CEST and 02:15 CET on 25 October 2026.
        let (first, second) = (at("2026-10-25T00:15:00Z"), at("2026-10-25T01:15:00Z"));
        assert_ne!(Every::Hour.period(first, zone), Every::Hour.period(second, zone));
        assert_eq!(Every::Day.period(first, zone), Every::Day.period(second, zone));
    }
}
