//! What took how long: a line for each phase, and a bar at its place in time.

use maud::{Markup, html};
use stonekeep_format::drill::{DrillPhase, DrillReport};
use stonekeep_process::{output::bytes, words::visible};

use crate::drill::sentences::{self, rate, took};

/// The width of a bar's field, in its own units.
const WIDTH: u64 = 1_000;
/// What is there is seen.
const WIDTH_MIN: u64 = 5;

pub(super) fn draw(report: &DrillReport) -> Markup {
    let end_ms = report.phases.iter().map(end).max().unwrap_or(0);
    html! {
        section class="card" aria-labelledby="phases" {
            h2 id="phases" { "What was done, and how long it took" }
            table class="stack timeline" {
                caption {
                    span class="key restore" { "■" } " what a restore does, too: its recovery time. "
                    span class="key own" { "▨" } " what only a drill does. All in all " (took(end_ms)) "."
                }
                thead {
                    tr {
                        th scope="col" { "Phase" } th scope="col" class="when" { "When" } th scope="col" class="number" { "Time" }
                        th scope="col" class="number" { "Moved" } th scope="col" class="number" { "Per second" }
                    }
                }
                tbody { @for phase in &report.phases { (line(phase, end_ms)) } }
            }
        }
    }
}

const fn end(phase: &DrillPhase) -> u64 {
    phase.begun_ms.saturating_add(phase.duration_ms)
}

fn line(phase: &DrillPhase, end_ms: u64) -> Markup {
    let moved = (phase.bytes > 0).then(|| bytes(phase.bytes));
    html! {
        tr class=(if phase.is_restore { "restore" } else { "own" }) {
            th scope="row" {
                (visible(sentences::phase(&phase.name)))
                @if !phase.is_restore { " " span class="small" { "(drill only)" } }
            }
            td class="when" { (bar(phase, end_ms)) }
            td class="number" data-label="time" { (took(phase.duration_ms)) }
            td class="number" data-label="moved" { (moved.unwrap_or_default()) }
            td class="number" data-label="per second" { (rate(phase.bytes, phase.duration_ms).unwrap_or_default()) }
        }
    }
}

fn bar(phase: &DrillPhase, end_ms: u64) -> Markup {
    let width = part(phase.duration_ms, end_ms).max(WIDTH_MIN);
    let left = part(phase.begun_ms, end_ms).min(WIDTH - width);
    html! {
        svg class="span" viewBox=(format!("0 0 {WIDTH} 10")) preserveAspectRatio="none" role="img" {
            title { "from " (took(phase.begun_ms)) " to " (took(end(phase))) }
            rect class="track" width=(WIDTH) height="10" {}
            rect class="fill" x=(left) width=(width) height="10" {}
        }
    }
}

/// Where in the field, or how much of it.
fn part(ms: u64, end_ms: u64) -> u64 {
    let part = (u128::from(ms) * u128::from(WIDTH)).checked_div(u128::from(end_ms)).unwrap_or(0);
    u64::try_from(part).unwrap_or(WIDTH).min(WIDTH)
}
