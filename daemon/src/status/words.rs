//! Times and numbers as people read them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `5 s`, `42 min`, `2 h`, `3 h 05 min`, `2 d 4 h`, `412 d`.
pub(super) fn time(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        ..MINUTE => format!("{secs} s"),
        MINUTE..HOUR => format!("{} min", secs / MINUTE),
        HOUR..DAY if secs % HOUR < MINUTE => format!("{} h", secs / HOUR),
        HOUR..DAY => format!("{} h {:02} min", secs / HOUR, secs % HOUR / MINUTE),
        _ if secs < 10 * DAY => format!("{} d {} h", secs / DAY, secs % DAY / HOUR),
        _ => format!("{} d", secs / DAY),
    }
}

/// `0.1 s`, `7.4 s`; from 10 s on as [`time`].
pub(super) fn span(span: Duration) -> String {
    if span.as_secs() >= 10 {
        return time(span);
    }
    format!("{}.{} s", span.as_secs(), span.subsec_millis() / 100)
}

/// What lies between; nothing of what lies the other way round.
pub(super) fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    (to - from).to_std().unwrap_or(Duration::ZERO)
}

/// `42 min ago`, or `now`.
pub(super) fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let past = between(at, now);
    if past.is_zero() { "now".to_owned() } else { format!("{} ago", time(past)) }
}

/// `2026-11-21 17:00 UTC`.
pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// `18:00 CET`, or `Sun 22 Nov 00:30 CET` if the day is another one there; nothing where clocks show the same as UTC.
pub(super) fn local(at: DateTime<Utc>, zone: Tz) -> Option<String> {
    let local = at.with_timezone(&zone);
    let (there, utc) = (local.naive_local(), at.naive_utc());
    let format = if there.date() == utc.date() { "%H:%M %Z" } else { "%a %-d %b %H:%M %Z" };
    (there != utc).then(|| local.format(format).to_string())
}

/// `2026-11-21T17:00:00Z`, for programs.
pub(super) fn exact(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `1 234 567`, with spaces that do not break.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let head = digits.len() % 3;
    let mut text = digits[..head].to_owned();
    for (at, digit) in digits[head..].char_indices() {
        if at % 3 == 0 && !text.is_empty() {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1 snapshot`, `2 snapshots`.
pub(super) fn some(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min"),
            (2 * HOUR + 59, "2 h"),
            (3 * HOUR + 5 * MINUTE + 59, "3 h 05 min"),
            (2 * DAY + 4 * HOUR, "2 d 4 h"),
            (412 * DAY + 5, "412 d"),
        ];
        for (secs, text) in cases {
            assert_eq!(time(Duration::from_secs(secs)), text);
        }
    }

    #[test]
    fn short_spans_have_tenths() {
        let said = |millis| span(Duration::from_millis(millis));
        assert_eq!([99, 7_449, 9_999, 10_000].map(said), ["0.0 s", "7.4 s", "9.9 s", "10 s"]);
    }

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

    #[test]
    fn numbers_are_in_groups_of_three() {
        let said = |number| count(number).replace('\u{202f}', " ");
        assert_eq!([0, 12, 123, 1_234].map(said), ["0", "12", "123", "1 234"]);
        assert_eq!(said(u64::MAX), "18 446 744 073 709 551 615");
        assert_eq!(some(1, "run", "runs"), "1 run");
        assert_eq!(some(0, "run", "runs"), "0 runs");
    }
}
