//! What happens, as JSON lines on standard error: each with when, how bad, what, and what it is about.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::Serialize;
use stonekeep_engine::events::Event;
pub use stonekeep_engine::events::Level;
use stonekeep_format::ids::Label;

/// What a line is about, as far as the event does not say it.
#[derive(Debug, Clone, Copy, Default)]
pub struct About<'a> {
    /// The database.
    pub label: Option<&'a Label>,
    /// The repository's name in the configuration.
    pub repository: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a, S> {
    at: DateTime<Utc>,
    level: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<&'a str>,
    #[serde(flatten)]
    said: &'a S,
}

/// Writes one line. What is said is an object with the name of the event in `event`.
pub fn write(at: DateTime<Utc>, level: Level, about: About<'_>, said: &impl Serialize) {
    if let Ok(text) = line(at, level, about, said) {
        // Nobody can be told that stderr is gone.
        let _gone = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Returns the line that [`write()`] writes.
///
/// # Errors
/// What is said is no object.
pub fn line(
    at: DateTime<Utc>,
    level: Level,
    about: About<'_>,
    said: &impl Serialize,
) -> serde_json::Result<String> {
    let own = serde_json::to_value(said)?;
    // A name must not stand in a JSON object twice.
    let is_free = |name| own.get(name).is_none();
    serde_json::to_string(&Line {
        at,
        level,
        label: about.label.filter(|_| is_free("label")),
        repository: about.repository.filter(|_| is_free("repository")),
        said,
    })
}

/// Adds up progress, which comes many times a second, and says how far things are at most once in an interval.
#[derive(Debug)]
pub struct Tally {
    interval: Duration,
    begun_at: Instant,
    said_at: Instant,
    bytes: u64,
    rows: u64,
    bytes_expected: Option<u64>,
    unsaid: (u64, u64),
}

impl Tally {
    /// Begins to count, for someone who wants to hear of it once in `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        let now = Instant::now();
        Self {
            interval,
            begun_at: now,
            said_at: now,
            bytes: 0,
            rows: 0,
            bytes_expected: None,
            unsaid: (0, 0),
        }
    }

    /// Begins to count from nothing, towards `bytes_expected`. Returns what was not said yet.
    pub fn begin(&mut self, bytes_expected: Option<u64>) -> Option<Event> {
        let rest = self.take();
        *self = Self { bytes_expected, ..Self::new(self.interval) };
        rest
    }

    /// Counts. Returns all that was not said yet if it is time to say it.
    pub fn add(&mut self, bytes: u64, rows: u64) -> Option<Event> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.rows = self.rows.saturating_add(rows);
        self.unsaid = (self.unsaid.0.saturating_add(bytes), self.unsaid.1.saturating_add(rows));
        if self.said_at.elapsed() >= self.interval { self.take() } else { None }
    }

    /// Returns what was not said yet, so that the sum of all that is said is right.
    pub fn take(&mut self) -> Option<Event> {
        self.said_at = Instant::now();
        let (bytes, rows) = std::mem::take(&mut self.unsaid);
        (bytes > 0 || rows > 0).then_some(Event::Progress { bytes, rows })
    }

    /// Returns the bytes counted since the beginning.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the rows counted since the beginning.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns how many bytes there will be in all, if that is known.
    #[must_use]
    pub fn bytes_expected(&self) -> Option<u64> {
        self.bytes_expected.filter(|expected| *expected > 0)
    }

    /// Returns how long it will take still, if what is left takes as long as what is done took.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let to_do = u128::from(self.bytes_expected()?.saturating_sub(self.bytes));
        let done = u128::from(self.bytes).max(1);
        let millis = self.begun_at.elapsed().as_millis().saturating_mul(to_do) / done;
        u64::try_from(millis).ok().map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_line_names_the_event_and_once_what_it_is_about() {
        let label: Label = "bookings".parse().expect("a label");
        let event = Event::Progress { bytes: 1, rows: 2 };
        let at = "2026-11-21T00:00:00Z".parse().expect("a date");
        let said = |event: &Event, about| line(at, event.level(), about, event).expect("JSON");
        let about = About { label: Some(&label), repository: Some("vault") };
        assert_eq!(
            said(&event, About { repository: None, ..about }),
            r#"{"at":"2026-11-21T00:00:00Z","level":"info","label":"bookings","event":"progress","bytes":1,"rows":2}"#
        );
        assert!(!said(&event, About::default()).contains("label"));
        let snapshot = stonekeep_format::ids::SnapshotId::new(at, 1);
        let tier = "hourly".to_owned();
        let committed = Event::Committed {
            repository: "vault".to_owned(),
            label: label.clone(),
            snapshot,
            tier,
            promised_until: at,
        };
        for name in ["label", "repository"] {
            assert_eq!(said(&committed, about).matches(name).count(), 1);
        }
    }

    #[test]
    fn nothing_that_is_counted_is_left_unsaid() {
        let mut tally = Tally::new(NEVER);
        assert_eq!((tally.add(1, 10), tally.add(2, 20)), (None, None));
        assert_eq!(tally.begin(Some(100)), Some(Event::Progress { bytes: 3, rows: 30 }));
        assert_eq!((tally.bytes(), tally.take()), (0, None));
        let mut eager = Tally::new(Duration::ZERO);
        assert_eq!(eager.add(1, 0), Some(Event::Progress { bytes: 1, rows: 0 }));
        assert_eq!(eager.add(u64::MAX, 0), Some(Event::Progress { bytes: u64::MAX, rows: 0 }));
    }

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done() {
        let mut tally = Tally::new(NEVER);
        assert_eq!(tally.left(), None);
        tally.begin(Some(400));
        tally.begun_at = Instant::now()
            .checked_sub(Duration::from_secs(100))
            .expect("the machine runs for longer");
        tally.add(100, 0);
        assert_eq!(tally.left().map(|left| left.as_secs()), Some(300));
    }
}
