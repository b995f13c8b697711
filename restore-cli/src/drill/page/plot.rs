//! How long recovery took, drill by drill, as a picture: time to the right, recovery time upwards, and how long it may take.

use std::{fmt::Write as _, time::Duration};

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use stonekeep_format::drill::{DrillReport, DrillVerdict};
use stonekeep_process::words;

use crate::drill::sentences::took;

/// The size of the picture, in its own units: those of a phone's screen.
const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 196.0;
/// Where the drills are; left of it times are written, and below it days.
const LEFT: f64 = 52.0;
const RIGHT: f64 = WIDTH - 10.0;
const TOP: f64 = 22.0;
const BASE: f64 = 158.0;
/// Lines of the grid above the base, at most.
const LINES_MAX: u64 = 4;
/// What a line of the grid may stand for, in milliseconds: 1, 2 or 5 of what people count in.
const STEPS: [u64; 31] = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    30_000,
    60_000,
    120_000,
    300_000,
    600_000,
    1_200_000,
    1_800_000,
    3_600_000,
    7_200_000,
    10_800_000,
    21_600_000,
    43_200_000,
    86_400_000,
    172_800_000,
    432_000_000,
    864_000_000,
    8_640_000_000,
];

/// From how many on (40) dots would touch, and are smaller.
const MANY: usize = 40;

/// One drill.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: DateTime<Utc>,
    verdict: DrillVerdict,
    rto_ms: Option<u64>,
}

pub(super) fn draw(report: &DrillReport) -> Markup {
    let this = Point { at: report.begun_at, verdict: report.verdict, rto_ms: report.rto_ms };
    if report.earlier.is_empty() {
        return html! { p class="none" { "No earlier drill of this database is known. From the second one on, a picture here compares them." } };
    }
    let earlier = report.earlier.iter();
    let earlier: Vec<Point> = earlier
        .map(|each| Point { at: each.begun_at, verdict: each.verdict, rto_ms: each.rto_ms })
        .collect();
    let scale = Scale::of(&earlier, this, report.rto_max_ms);
    html! {
        figure {
            svg class="picture plot" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" {
                title { "Recovery time of this drill and of those before" }
                desc { (described(&earlier, this)) }
                (grid(&scale))
                (target(&scale, report.rto_max_ms))
                (marks(&scale, &earlier, this))
                (days(&scale))
            }
            (legend(&earlier, this, report.rto_max_ms))
        }
    }
}

/// Where instants and times are in the picture.
struct Scale {
    first: DateTime<Utc>,
    last: DateTime<Utc>,
    step_ms: u64,
    lines: u64,
}

impl Scale {
    fn of(earlier: &[Point], this: Point, target_ms: Option<u64>) -> Self {
        let all = || earlier.iter().copied().chain([this]);
        let first = all().map(|point| point.at).min().unwrap_or(this.at);
        let last = all().map(|point| point.at).max().unwrap_or(this.at);
        let highest_ms = all().filter_map(|point| point.rto_ms).chain(target_ms).max().unwrap_or(0);
        let fits = |step: &u64| highest_ms.div_ceil(*step) <= LINES_MAX;
        let longest = highest_ms.div_ceil(LINES_MAX).max(1);
        let step_ms = STEPS.into_iter().find(fits).unwrap_or(longest);
        Self { first, last, step_ms, lines: highest_ms.div_ceil(step_ms).max(1) }
    }

    fn x(&self, at: DateTime<Utc>) -> f64 {
        let (past, whole) = (words::between(self.first, at), words::between(self.first, self.last));
        if whole.is_zero() {
            return LEFT.midpoint(RIGHT);
        }
        (RIGHT - LEFT - 8.0).mul_add(past.as_secs_f64() / whole.as_secs_f64(), LEFT + 4.0)
    }

    fn y(&self, ms: u64) -> f64 {
        let whole = Duration::from_millis(self.step_ms.saturating_mul(self.lines));
        let part = Duration::from_millis(ms).as_secs_f64() / whole.as_secs_f64();
        (TOP - BASE).mul_add(part, BASE)
    }
}

fn described(earlier: &[Point], this: Point) -> String {
    let failed = earlier.iter().filter(|point| point.verdict == DrillVerdict::Fail).count();
    let times = || earlier.iter().filter_map(|point| point.rto_ms);
    let number = u64::try_from(earlier.len()).unwrap_or(u64::MAX);
    let mut said =
        format!("{} before, {failed} of which failed.", words::some(number, "drill", "drills"));
    if let Some((least, most)) = times().min().zip(times().max()) {
        said.push_str(&format!(" Recovery took {} to {}.", took(least), took(most)));
    }
    said.push_str(&match this.rto_ms {
        Some(ms) => format!(" Now {}.", took(ms)),
        None => " This one did not come to its end.".to_owned(),
    });
    said
}

fn grid(scale: &Scale) -> Markup {
    html! {
        @for line in 0..=scale.lines {
            @let ms = scale.step_ms.saturating_mul(line);
            @let y = scale.y(ms);
            path class=(if line == 0 { "base" } else { "grid" }) d=(format!("M{LEFT} {y:.1}H{RIGHT}")) {}
            text class="mark" x=(LEFT - 6.0) y=(format!("{:.1}", y + 3.5)) text-anchor="end" { (mark(ms)) }
        }
    }
}

/// A time on the grid: whole units only.
fn mark(ms: u64) -> String {
    match ms {
        0 => "0".to_owned(),
        1..1_000 => format!("{ms} ms"),
        _ => words::time(Duration::from_millis(ms)),
    }
}

fn target(scale: &Scale, target_ms: Option<u64>) -> Markup {
    let Some(ms) = target_ms else { return Markup::default() };
    let y = scale.y(ms);
    html! {
        path class="target" d=(format!("M{LEFT} {y:.1}H{RIGHT}")) {}
        text class="target-mark" x=(RIGHT) y=(format!("{:.1}", y - 4.0)) text-anchor="end" { "may take " (took(ms)) }
    }
}

/// A dot for each drill that passed and a cross for each that failed, on the base if it came to no end; a ring around this one.
fn marks(scale: &Scale, earlier: &[Point], this: Point) -> Markup {
    let (mut line, mut dots, mut crosses) = (String::new(), String::new(), String::new());
    for point in earlier.iter().copied().chain([this]) {
        let (x, y) = (scale.x(point.at), scale.y(point.rto_ms.unwrap_or(0)));
        if point.verdict == DrillVerdict::Pass {
            let command = if line.is_empty() { 'M' } else { 'L' };
            let _infallible = write!(line, "{command}{x:.1} {y:.1}");
            let _infallible = write!(dots, "M{x:.1} {y:.1}h0");
        } else {
            let _infallible = write!(crosses, "M{:.1} {:.1}l6 6m0-6l-6 6", x - 3.0, y - 3.0);
        }
    }
    let (x, y) = (scale.x(this.at), scale.y(this.rto_ms.unwrap_or(0)));
    html! {
        path class="way" d=(line) {}
        path class=(if earlier.len() > MANY { "passed many" } else { "passed" }) d=(dots) {}
        path class="failed" d=(crosses) {}
        circle class="this" cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="6" {}
    }
}

fn days(scale: &Scale) -> Markup {
    let day = |at: DateTime<Utc>| at.format("%Y-%m-%d").to_string();
    let (first, last) = (day(scale.first), day(scale.last));
    html! {
        @if first != last {
            text class="mark" x=(LEFT) y=(BASE + 17.0) { (first) }
        }
        text class="mark" x=(RIGHT) y=(BASE + 17.0) text-anchor="end" { (last) }
    }
}

fn legend(earlier: &[Point], this: Point, target_ms: Option<u64>) -> Markup {
    let mut all = earlier.iter().copied().chain([this]);
    let has_failed = all.any(|point| point.verdict == DrillVerdict::Fail);
    let number = u64::try_from(earlier.len()).unwrap_or(u64::MAX);
    html! {
        figcaption {
            "Recovery time of this drill and of " (words::some(number, "one", "ones")) " before. "
            span class="key passed" { "●" } " passed. "
            @if has_failed { span class="key failed" { "✕" } " failed, at the bottom if it came to no end. " }
            span class="key" { "◯" } " this one. "
            @if target_ms.is_some() { span class="key target" { "┄" } " how long it may take." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::fixture::{earlier, noon, passed};

    fn drawn(number: u32) -> String {
        let mut report = passed();
        report.earlier = earlier(number);
        draw(&report).into_string()
    }

    #[test]
    fn every_drill_is_in_the_picture_once_there_are_two() {
        assert!(drawn(0).contains("No earlier drill") && !drawn(0).contains("<svg"));
        for (number, failed) in [(1, 0), (2, 0), (100, 11)] {
            let drawn = drawn(number);
            let dots = drawn.matches("h0").count();
            assert_eq!(drawn.matches("l6 6").count(), failed, "{drawn}");
            assert_eq!(dots, number as usize + 1 - failed, "{drawn}");
            assert_eq!(drawn.matches("class=\"this\"").count(), 1);
        }
    }

    #[test]
    fn nothing_is_drawn_outside_of_the_picture() {
        let far =
            Point { at: DateTime::UNIX_EPOCH, verdict: DrillVerdict::Fail, rto_ms: Some(u64::MAX) };
        let now = Point { at: noon(), verdict: DrillVerdict::Pass, rto_ms: Some(0) };
        for (earlier, this, target) in [
            (vec![far, now], now, Some(1)),
            (vec![now], now, None),
            (vec![Point { rto_ms: None, ..far }], Point { rto_ms: None, ..far }, None),
            (vec![far], now, Some(u64::MAX)),
        ] {
            let scale = Scale::of(&earlier, this, target);
            for point in earlier.iter().chain([&this]) {
                let (x, y) = (scale.x(point.at), scale.y(point.rto_ms.unwrap_or(0)));
                assert!(
                    (LEFT..=RIGHT).contains(&x) && (TOP - 0.1..=BASE + 0.1).contains(&y),
                    "{x} {y}"
                );
            }
            assert!(scale.lines <= LINES_MAX, "{}", scale.lines);
        }
    }

    #[test]
    fn lines_stand_for_whole_times() {
        let lines = |ms| {
            let point =
                Point { at: DateTime::UNIX_EPOCH, verdict: DrillVerdict::Pass, rto_ms: Some(ms) };
            let scale = Scale::of(&[point], point, None);
            format!("{} × {}", scale.lines, mark(scale.step_ms))
        };
        assert_eq!(lines(754_200), "3 × 5 min");
        assert_eq!(lines(1_800_000), "3 × 10 min");
        assert_eq!(lines(740), "4 × 200 ms");
        assert_eq!(lines(0), "1 × 1 ms");
    }
}
