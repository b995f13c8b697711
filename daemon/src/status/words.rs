//! Times and numbers as people read them, and what o'clock it is where a schedule is.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
pub(super) use stonekeep_process::words::{ago, between, count, exact, instant, some, span, time};

/// `18:00 CET`, or `Sun 22 Nov 00:30 CET` if the day is another one there; nothing where clocks show the same as UTC.
pub(super) fn local(at: DateTime<Utc>, zone: Tz) -> Option<String> {
    let local = at.with_timezone(&zone);
    let (there, utc) = (local.naive_local(), at.naive_utc());
    let format = if there.date() == utc.date() { "%H:%M %Z" } else { "%a %-d %b %H:%M %Z" };
    (there != utc).then(|| local.format(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_times_name_their_zone_and_another_day() {
        let said = |text: &str, zone| local(text.parse().expect("an instant"), zone);
        let berlin = chrono_tz::Europe::Berlin;
        assert_eq!(said("2026-11-21T12:00:00Z", berlin).as_deref(), Some("13:00 CET"));
        let night = said("2026-11-21T23:30:00Z", berlin);
        assert_eq!(night.as_deref(), Some("Sun 22 Nov 00:30 CET"));
        assert_eq!(said("2026-07-21T12:00:00Z", berlin).as_deref(), Some("14:00 CEST"));
        assert_eq!(said("2026-11-21T12:00:00Z", chrono_tz::UTC), None);
        assert_eq!(said("2026-11-21T12:00:00Z", chrono_tz::Europe::London), None);
    }
}
