//! The sizes of a database's snapshots, as a picture: above, each dump and what of it was stored; below, what was stored alone.

use std::fmt::Write as _;

use maud::{Markup, html};
use stonekeep_process::output::bytes;

use super::words;
use crate::board::view::{CopyView, Snap};

/// Snapshots that are drawn (60), the newest: more would be thinner than a line of a phone's screen.
const COLUMNS_MAX: usize = 60;
/// The size of the picture, as that of the timeline.
const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 2.0;
const RIGHT: f64 = WIDTH - 2.0;
/// The widest column, of few snapshots.
const COLUMN_MAX: f64 = 26.0;
/// What is there is seen.
const COLUMN_HEIGHT_MIN: f64 = 1.2;

/// Where columns stand on, and how high they may be.
#[derive(Clone, Copy)]
struct Panel {
    base: f64,
    height: f64,
}

const DUMPS: Panel = Panel { base: 86.0, height: 66.0 };
const STORED: Panel = Panel { base: 150.0, height: 42.0 };

/// Draws what a repository holds of a database.
pub(super) fn draw(copy: &CopyView) -> Markup {
    let shown = &copy.snapshots[copy.snapshots.len().saturating_sub(COLUMNS_MAX)..];
    let columns = Columns::of(shown);
    let (plain_max, put_max) = (largest(shown, plain), largest(shown, put));
    let title = "Size of each snapshot, and what it added to the bucket";
    html! {
        svg class="picture" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" {
            title { (title) }
            desc { (described(shown)) }
            text class="side" x=(LEFT) y="11" { "dump, up to " (bytes(plain_max)) }
            (columns.path("plain", shown, plain, plain_max, DUMPS))
            (columns.path("put", shown, put, plain_max, DUMPS))
            (base(DUMPS))
            text class="side" x=(LEFT) y="102" { "of it stored, enlarged, up to " (bytes(put_max)) }
            (columns.path("put", shown, put, put_max, STORED))
            (columns.suspicious(shown))
            (base(STORED))
            @if let Some((first, last)) = shown.first().zip(shown.last()) {
                text class="mark" x=(LEFT) y=(HEIGHT - 6.0) { (day(first)) }
                @if shown.len() > 1 {
                    text class="mark" x=(RIGHT) y=(HEIGHT - 6.0) text-anchor="end" { (day(last)) }
                }
            }
        }
    }
}

/// Says what reuse and compression have saved.
pub(super) fn saved(copy: &CopyView) -> Option<String> {
    let sum = |of: fn(&Snap) -> u64| copy.snapshots.iter().map(of).fold(0, u64::saturating_add);
    let (dumped, stored) = (sum(plain), sum(put));
    let left = u128::from(dumped.saturating_sub(stored)) * 1000;
    let permille = left.checked_div(u128::from(dumped))?;
    let number = u64::try_from(copy.snapshots.len()).unwrap_or(u64::MAX);
    Some(format!(
        "{}.{} % saved: {} dumped, {} stored, in {}",
        permille / 10,
        permille % 10,
        bytes(dumped),
        bytes(stored),
        words::some(number, "snapshot", "snapshots"),
    ))
}

fn described(shown: &[Snap]) -> String {
    let Some(last) = shown.last() else { return "There is no snapshot.".to_owned() };
    let number = u64::try_from(shown.len()).unwrap_or(u64::MAX);
    format!(
        "One column for each of the last {}. The newest is of {}, of which {} were stored.",
        words::some(number, "snapshot", "snapshots"),
        bytes(last.plain_bytes),
        bytes(last.put_bytes),
    )
}

const fn plain(snap: &Snap) -> u64 {
    snap.plain_bytes
}

const fn put(snap: &Snap) -> u64 {
    snap.put_bytes
}

fn largest(shown: &[Snap], of: fn(&Snap) -> u64) -> u64 {
    shown.iter().map(of).max().unwrap_or(0)
}

fn day(snap: &Snap) -> String {
    snap.committed_at.format("%e %b %H:%M").to_string().trim_start().to_owned()
}

fn base(panel: Panel) -> Markup {
    html! { path class="base" d=(format!("M{LEFT} {}H{RIGHT}", panel.base)) {} }
}

/// Where the columns are.
struct Columns {
    pitch: f64,
}

impl Columns {
    fn of(shown: &[Snap]) -> Self {
        let number = f64::from(u32::try_from(shown.len()).unwrap_or(u32::MAX)).max(1.0);
        Self { pitch: ((RIGHT - LEFT) / number).min(COLUMN_MAX) }
    }

    fn path(
        &self,
        class: &str,
        shown: &[Snap],
        of: fn(&Snap) -> u64,
        largest: u64,
        panel: Panel,
    ) -> Markup {
        let mut path = String::new();
        for (x, snap) in self.centers().zip(shown) {
            let height = share(of(snap), largest) * panel.height;
            if of(snap) > 0 {
                let height = height.max(COLUMN_HEIGHT_MIN);
                let _infallible = write!(path, "M{x:.1} {}v-{height:.1}", panel.base);
            }
        }
        html! { path class=(class) stroke-width=(format!("{:.2}", self.pitch * 0.74)) d=(path) {} }
    }

    /// A diamond over each that is.
    fn suspicious(&self, shown: &[Snap]) -> Markup {
        let mut path = String::new();
        for (x, _) in self.centers().zip(shown).filter(|(_, snap)| snap.suspicious.is_some()) {
            let _infallible = write!(path, "M{:.1} {}l4 -4l4 4l-4 4z", x - 4.0, DUMPS.base - 6.0);
        }
        html! { path class="suspect-mark" d=(path) {} }
    }

    fn centers(&self) -> impl Iterator<Item = f64> {
        let (first, pitch) = (LEFT + self.pitch / 2.0, self.pitch);
        (0_u32..).map(move |at| f64::from(at).mul_add(pitch, first))
    }
}

/// A part of 1. The last digits of numbers beyond 2^53 are below a picture's.
fn share(part: u64, whole: u64) -> f64 {
    let permyriad = (u128::from(part) * 10_000).checked_div(u128::from(whole)).unwrap_or(0);
    f64::from(u32::try_from(permyriad).unwrap_or(10_000)) / 10_000.0
}
