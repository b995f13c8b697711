//! What there is of a database: pictures of its snapshots, or a line for each while they are few.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use stonekeep_process::output::bytes;

use crate::{
    board::view::{CopyView, DatabaseView, Snap},
    status::{plot, timeline, words},
};

/// From how many snapshots on they are drawn (3): a picture of fewer shows nothing but its frame.
const DRAWN_MIN: usize = 3;
/// Snapshots that are listed in words (8), the newest.
const ROWS_MAX: usize = 8;
/// What is said of a bucket that was not read.
const UNSEEN: &str = "Only what this service has taken is known: the bucket was not read.";

pub(super) fn draw(copy: &CopyView, database: &DatabaseView, now: DateTime<Utc>) -> Markup {
    let place = (database.copies.len() > 1).then(|| format!(" in {}", copy.repository));
    let place = place.unwrap_or_default();
    if copy.snapshots.len() < DRAWN_MIN { few(copy, &place) } else { pictures(copy, &place, now) }
}

fn few(copy: &CopyView, place: &str) -> Markup {
    html! {
        div class="few" {
            p { b { (words::some(copy.length(), "snapshot", "snapshots")) (place) } }
            @for snap in copy.snapshots.iter().rev() {
                p {
                    (words::instant(snap.committed_at)) ": "
                    (bytes(snap.plain_bytes)) " dumped, " (bytes(snap.put_bytes)) " stored, locked until "
                    (words::instant(snap.promised_until))
                    @if snap.suspicious.is_some() { span class="key suspect" { " ◆ suspicious" } }
                }
            }
            @if !copy.is_seen { p class="small" { (UNSEEN) } }
        }
    }
}

fn pictures(copy: &CopyView, place: &str, now: DateTime<Utc>) -> Markup {
    html! {
        figure {
            (timeline::draw(copy, now))
            figcaption {
                b { (words::some(copy.length(), "snapshot", "snapshots")) (place) }
                ": a bar for each, from its commit to the end of its lock"
                @if copy.more > 0 { "; the oldest " (words::count(copy.more)) " are left out" }
                "."
                @if !copy.is_seen { " " (UNSEEN) }
                (legend(copy, now))
            }
        }
        figure {
            (plot::draw(copy))
            figcaption { @if let Some(saved) = plot::saved(copy) { (saved) "." } }
        }
    }
}

fn legend(copy: &CopyView, now: DateTime<Utc>) -> Markup {
    let is_suspicious = copy.snapshots.iter().any(|snap| snap.suspicious.is_some());
    let is_expired = copy.snapshots.iter().any(|snap| snap.promised_until <= now);
    html! {
        @if is_suspicious { " " span class="key suspect" { "◆" } " suspicious." }
        @if is_expired { " " span class="key" { "┄" } " promise over." }
    }
}

pub(super) fn table(copy: &CopyView, now: DateTime<Utc>) -> Markup {
    if copy.snapshots.len() < DRAWN_MIN {
        return Markup::default();
    }
    let newest: Vec<&Snap> = copy.snapshots.iter().rev().take(ROWS_MAX).collect();
    html! {
        details {
            summary { "The newest in words" }
            div class="scroll" tabindex="0" role="region" aria-label="The newest snapshots" {
                table {
                    caption { "The newest " (newest.len()) " of " (words::some(copy.length(), "snapshot", "snapshots")) }
                    thead { tr { th scope="col" { "Committed" } th scope="col" { "Locked until" } th scope="col" class="number" { "Rows" } th scope="col" class="number" { "Dump" } th scope="col" class="number" { "Stored" } th scope="col" { "Judged" } } }
                    tbody {
                        @for snap in newest {
                            tr {
                                td { (words::instant(snap.committed_at)) }
                                td { (words::instant(snap.promised_until)) @if snap.promised_until <= now { " (passed)" } }
                                td class="number" { (words::count(snap.rows)) }
                                td class="number" { (bytes(snap.plain_bytes)) }
                                td class="number" { (bytes(snap.put_bytes)) }
                                td { @match &snap.suspicious { Some(why) => { "suspicious: " (why) }, None => "good" } }
                            }
                        }
                    }
                }
            }
        }
    }
}
