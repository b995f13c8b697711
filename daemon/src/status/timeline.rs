//! The snapshots of a database and their locks, as a picture: a bar for each, from its commit to the end of its promise.
//!
//! Hours and years stand side by side, so time is drawn on a logarithmic scale, from now to both sides.

use std::{fmt::Write as _, time::Duration};

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::words;
use crate::board::view::{CopyView, Snap};

/// The width of the picture, in its own units: those of a phone's screen.
const WIDTH: f64 = 340.0;
/// What is below the bars, for the scale.
const FOOT: f64 = 20.0;
/// Where the bars are.
const LEFT: f64 = 6.0;
const RIGHT: f64 = WIDTH - 6.0;
const TOP: f64 = 18.0;
/// Where they end: of few snapshots, and of many.
const BOTTOM_MIN: f64 = 66.0;
const BOTTOM_MAX: f64 = 150.0;
/// Where now is: the future of locks is longer than the past of what they lock.
const NOW: f64 = 160.0;
/// The thickest row, of few snapshots.
const ROW_MAX: f64 = 9.0;
/// Marks of the scale closer than this would be written into each other: `5 w ago`, and `5 w`.
const PAST_DISTANCE_MIN: f64 = 48.0;
const FUTURE_DISTANCE_MIN: f64 = 27.0;
/// Less than this looks the same (10 min).
const GRAIN_SECS: f64 = 600.0;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// What the scale names.
const MARKS: [(u64, &str); 7] = [
    (HOUR, "1 h"),
    (6 * HOUR, "6 h"),
    (DAY, "1 d"),
    (7 * DAY, "1 w"),
    (35 * DAY, "5 w"),
    (365 * DAY, "1 y"),
    (10 * 365 * DAY, "10 y"),
];

/// Where instants are in the picture.
struct Scale {
    now: DateTime<Utc>,
    past: f64,
    future: f64,
}

impl Scale {
    fn of(snapshots: &[Snap], now: DateTime<Utc>) -> Self {
        let day = Duration::from_secs(DAY);
        let past = snapshots.iter().map(|snap| words::between(snap.committed_at, now));
        let future = snapshots.iter().map(|snap| words::between(now, snap.promised_until));
        let reach = |time: Option<Duration>| grown(time.unwrap_or(day).max(day)) * 1.04;
        Self { now, past: reach(past.max()), future: reach(future.max()) }
    }

    fn x(&self, at: DateTime<Utc>) -> f64 {
        self.ago(words::between(at, self.now)) + self.ahead(words::between(self.now, at)) - NOW
    }

    fn ago(&self, time: Duration) -> f64 {
        NOW - (NOW - LEFT) * (grown(time) / self.past).min(1.0)
    }

    fn ahead(&self, time: Duration) -> f64 {
        NOW + (RIGHT - NOW) * (grown(time) / self.future).min(1.0)
    }

    /// What is written before now, and where.
    fn past_marks(&self) -> Vec<(f64, String)> {
        let marks = marks(|time| self.ago(time), LEFT, PAST_DISTANCE_MIN);
        marks.into_iter().map(|(x, text)| (x, format!("{text} ago"))).collect()
    }

    /// What is written after now, and where.
    fn future_marks(&self) -> Vec<(f64, String)> {
        let marks = marks(|time| self.ahead(time), RIGHT, FUTURE_DISTANCE_MIN);
        marks.into_iter().map(|(x, text)| (x, text.to_owned())).collect()
    }
}

/// What is written on one side of now so that each has its room, and where.
fn marks(x: impl Fn(Duration) -> f64, end: f64, distance_min: f64) -> Vec<(f64, &'static str)> {
    let mut marks: Vec<(f64, &'static str)> = Vec::new();
    for (secs, text) in MARKS.into_iter().rev() {
        let at = x(Duration::from_secs(secs));
        let last = marks.last().map_or(end, |(last, _)| *last);
        // The outermost may stand where the picture ends, half of its width inside.
        let is_inside = (at - end).abs() > distance_min / 2.0;
        let is_free = marks.is_empty() || (at - last).abs() > distance_min;
        if is_inside && is_free && (at - NOW).abs() > (distance_min + FUTURE_DISTANCE_MIN) / 2.0 {
            marks.push((at, text));
        }
    }
    marks
}

fn grown(time: Duration) -> f64 {
    (time.as_secs_f64() / GRAIN_SECS).ln_1p()
}

/// Draws what a repository holds of a database.
pub(super) fn draw(copy: &CopyView, now: DateTime<Utc>) -> Markup {
    let scale = Scale::of(&copy.snapshots, now);
    let marks = [scale.past_marks(), scale.future_marks()];
    let bars = Bars::of(&copy.snapshots, &scale);
    let bottom = bars.bottom;
    let (height, foot) = (bottom + FOOT, bottom + FOOT - 6.0);
    html! {
        svg class="picture" viewBox=(format!("0 0 {WIDTH} {height:.1}")) role="img" {
            title { "Snapshots and their locks" }
            desc { (described(copy, now)) }
            @for (x, text) in marks.iter().flatten() {
                path class="grid" d=(format!("M{x:.1} {TOP}V{bottom:.1}")) {}
                text class="mark" x=(format!("{x:.1}")) y=(format!("{foot:.1}")) text-anchor="middle" { (text) }
            }
            text class="side" x=(NOW - 5.0) y="11" text-anchor="end" { "taken" }
            text class="side" x=(NOW + 5.0) y="11" { "locked until" }
            text class="side" x=(RIGHT) y="11" text-anchor="end" { "not to scale" }
            @for (class, path) in bars.paths() {
                path class=(class) stroke-width=(format!("{:.2}", bars.thickness)) d=(path) {}
            }
            path class="suspect-mark" d=(bars.marks) {}
            path class="now" d=(format!("M{NOW} 2V{bottom:.1}")) {}
            text class="mark" x=(NOW) y=(format!("{foot:.1}")) text-anchor="middle" { "now" }
        }
    }
}

fn described(copy: &CopyView, now: DateTime<Utc>) -> String {
    let number = u64::try_from(copy.snapshots.len()).unwrap_or(u64::MAX);
    let suspicious = copy.snapshots.iter().filter(|snap| snap.suspicious.is_some()).count();
    let Some((first, last)) = copy.snapshots.first().zip(copy.snapshots.last()) else {
        return "There is no snapshot.".to_owned();
    };
    let longest = copy.snapshots.iter().map(|snap| snap.promised_until).max().unwrap_or(now);
    format!(
        "{}, from {} to {}; {suspicious} of them suspicious. The longest lock ends {}. One bar each, from its commit to the end of its promise.",
        words::some(number, "snapshot", "snapshots"),
        words::instant(first.committed_at),
        words::instant(last.committed_at),
        words::instant(longest),
    )
}

/// The bars of one kind are one path: a page of many databases stays small.
#[derive(Default)]
struct Bars {
    thickness: f64,
    bottom: f64,
    /// The time that was.
    held: String,
    /// The time that is locked still.
    locked: String,
    expired: String,
    suspicious: String,
    marks: String,
}

impl Bars {
    fn of(snapshots: &[Snap], scale: &Scale) -> Self {
        let rows = f64::from(u32::try_from(snapshots.len()).unwrap_or(u32::MAX)).max(1.0);
        let pitch = ((BOTTOM_MAX - TOP - 4.0) / rows).min(ROW_MAX);
        let bottom = pitch.mul_add(rows, TOP + 4.0).max(BOTTOM_MIN);
        let thickness = (pitch * 0.62).max(0.5);
        let mut bars = Self { thickness, bottom, ..Self::default() };
        let mut y = TOP + 2.0 + pitch / 2.0;
        for snap in snapshots {
            bars.add(snap, scale, y);
            y += pitch;
        }
        bars
    }

    fn add(&mut self, snap: &Snap, scale: &Scale, y: f64) {
        let (from, to) = (scale.x(snap.committed_at), scale.x(snap.promised_until));
        if snap.suspicious.is_some() {
            line(&mut self.suspicious, from, to, y);
            // A diamond, so that it is not told by its colour alone.
            let _infallible = write!(self.marks, "M{:.1} {y:.1}l4 -4l4 4l-4 4z", from - 4.0);
        } else if snap.promised_until <= scale.now {
            line(&mut self.expired, from, to.max(from + 1.0), y);
        } else {
            line(&mut self.held, from, NOW, y);
            line(&mut self.locked, NOW, to, y);
        }
    }

    fn paths(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("held", &*self.held),
            ("locked", &*self.locked),
            ("expired", &*self.expired),
            ("suspect", &*self.suspicious),
        ];
        all.into_iter().filter(|(_, path)| !path.is_empty())
    }
}

fn line(path: &mut String, from: f64, to: f64, y: f64) {
    let _infallible = write!(path, "M{from:.1} {y:.1}H{to:.1}");
}
