//! Times and numbers as people read them, on pages.

use std::{borrow::Cow, time::Duration};

use chrono::{DateTime, Utc};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// `5 s`, `42 min`, `2 h`, `3 h 05 min`, `2 d 4 h`, `412 d`.
#[must_use]
pub fn time(time: Duration) -> String {
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
#[must_use]
pub fn span(span: Duration) -> String {
    if span.as_secs() >= 10 {
        return time(span);
    }
    format!("{}.{} s", span.as_secs(), span.subsec_millis() / 100)
}

/// What lies between; nothing of what lies the other way round.
#[must_use]
pub fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    (to - from).to_std().unwrap_or(Duration::ZERO)
}

/// `42 min ago`, or `now`.
#[must_use]
pub fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let past = between(at, now);
    if past.is_zero() { "now".to_owned() } else { format!("{} ago", time(past)) }
}

/// `2026-11-21 17:00 UTC`.
#[must_use]
pub fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// `2026-11-21T17:00:00Z`, for programs.
#[must_use]
pub fn exact(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `1 234 567`, with spaces that do not break.
#[must_use]
pub fn count(count: u64) -> String {
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
#[must_use]
pub fn some(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Returns `text` with what could deceive its reader spelled out: control characters, those that turn the direction of what follows,
/// and those that are not seen. `a\u{202e}b` is a name of three characters.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// The direction marks of Unicode's UAX 9, spaces without width, line separators, the byte order mark, and tags.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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
    fn numbers_are_in_groups_of_three() {
        let said = |number| count(number).replace('\u{202f}', " ");
        assert_eq!([0, 12, 123, 1_234].map(said), ["0", "12", "123", "1 234"]);
        assert_eq!(said(u64::MAX), "18 446 744 073 709 551 615");
        assert_eq!(some(1, "run", "runs"), "1 run");
        assert_eq!(some(0, "run", "runs"), "0 runs");
    }

    #[test]
    fn nothing_in_a_name_is_hidden() {
        assert_eq!(visible("a\u{202e}b\nc\u{200b}"), "a\\u{202e}b\\u{a}c\\u{200b}");
        for name in ["public.bookings", "שלום", "größe – 1 €", "a b"] {
            assert!(matches!(visible(name), Cow::Borrowed(same) if same == name));
        }
    }
}
