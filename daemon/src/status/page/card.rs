//! One database: how it stands, what it does, what there is of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use stonekeep_engine::events::Phase;
use stonekeep_process::{failure, output::bytes};

use super::badge;
use crate::{
    board::view::{CopyView, DatabaseView, Last, RefusalView, RunningView, Snap, Standing, View},
    status::{plot, timeline, words},
};

/// Snapshots that are listed in words (8), the newest.
const ROWS_MAX: usize = 8;

pub(super) fn draw(database: &DatabaseView, view: &View) -> Markup {
    let now = view.at;
    let shown = worst(database);
    html! {
        article class=(format!("card database {}", database.standing.as_str())) {
            div class="title" {
                h3 { (database.name) }
                (badge(database.standing))
            }
            p class="lead" { (lead(database, now)) }
            @if let Some(running) = &database.running { (progress(running, now)) }
            div class="columns" {
                (facts(database, shown, now))
                @if let Some(copy) = shown.filter(|copy| !copy.snapshots.is_empty()) {
                    (pictures(copy, database, now))
                } @else {
                    p class="none wait" { "No snapshot is known yet." }
                }
            }
            @if let Some(copy) = shown.filter(|copy| !copy.snapshots.is_empty()) { (table(copy, now)) }
        }
    }
}

/// The repository that is drawn: the one whose good snapshot is the oldest.
fn worst(database: &DatabaseView) -> Option<&CopyView> {
    database.copies.iter().min_by_key(|copy| copy.good.as_ref().map(|good| good.begun_at))
}

/// Returns the age of the newest good snapshot, in the repository that is the furthest behind.
pub(super) fn age(database: &DatabaseView, now: DateTime<Utc>) -> Option<String> {
    let good = worst(database)?.good.as_ref()?;
    Some(words::time(words::between(good.begun_at, now)))
}

/// How it is, in one sentence.
fn lead(database: &DatabaseView, now: DateTime<Utc>) -> String {
    let age = age(database, now);
    let of_age = age.map_or_else(
        || "There is no good snapshot".to_owned(),
        |age| format!("The last good snapshot is {age} old"),
    );
    let may_be = database
        .age_max
        .map_or(String::new(), |age_max| format!(" and may be {}", words::time(age_max)));
    let why = match database.standing {
        Standing::Good if database.age_max.is_none() => "; there is no schedule to judge it by",
        Standing::Good => "",
        Standing::Waiting => "; the next run will tell",
        Standing::Failed => ", but the last run made none",
        Standing::Suspicious => ", and a newer one is suspicious: the database shrank",
        Standing::Late => ": too old",
    };
    let may_be = if database.standing == Standing::Waiting { String::new() } else { may_be };
    format!("{of_age}{may_be}{why}.")
}

fn progress(running: &RunningView, now: DateTime<Utc>) -> Markup {
    let percent = running.bytes_expected.map(|expected| {
        let percent = u128::from(running.bytes) * 100 / u128::from(expected.max(1));
        u64::try_from(percent).unwrap_or(100).min(100)
    });
    html! {
        div class="run" {
            p {
                b { "Running: " (doing(running.phase)) }
                " for " (words::time(words::between(running.begun_at, now)))
            }
            @match percent {
                Some(percent) => progress max="100" value=(percent) aria-label="Progress" { (percent) " %" },
                None => progress aria-label="Progress" {},
            }
            p class="small" {
                (bytes(running.bytes))
                @if let Some(expected) = running.bytes_expected { " of about " (bytes(expected)) }
                ", " (words::some(running.rows, "row", "rows"))
                @if let Some(left) = running.left { ", about " (words::time(left)) " left" }
            }
        }
    }
}

const fn doing(phase: Option<Phase>) -> &'static str {
    match phase {
        None => "beginning",
        Some(Phase::Preparing) => "reading the repository",
        Some(Phase::Snapshot) => "locking tables",
        Some(Phase::Copying) => "copying",
        Some(Phase::Committing) => "checking and committing",
        Some(_) => "working",
    }
}

fn facts(database: &DatabaseView, shown: Option<&CopyView>, now: DateTime<Utc>) -> Markup {
    let good = shown.and_then(|copy| copy.good.as_ref());
    html! {
        div class="facts" {
            @if let (Some(good), Some(age_max)) = (good, database.age_max) {
                (age_bar(words::between(good.begun_at, now), age_max))
            }
            dl {
                @if let Some(good) = good {
                    dt { "Last good snapshot" }
                    dd { (moment(good.begun_at, now)) }
                    dt { "It holds" }
                    dd { (words::some(good.rows, "row", "rows")) ", " (bytes(good.plain_bytes)) }
                    dt { "Locked" }
                    dd { (until(good.promised_until, now)) }
                }
                dt { "Next run" }
                dd { (next(database, now)) }
                @if let Some((schedule, zone)) = &database.schedule {
                    dt { "Schedule" }
                    dd { code { (schedule) } " " span class="small" { (zone.name()) } }
                }
                @if let Some(why) = suspicion(shown) {
                    dt { "Suspicious" }
                    dd class="bad" { (why) }
                }
                @if let Some(refusal) = &database.refusal {
                    dt { "Last failure" }
                    dd { (refused(refusal, now)) }
                }
                @if let Some(at) = database.ended_at {
                    dt { "Last run" }
                    dd { (ended(database, at, now)) }
                }
                @if database.copies.len() > 1 { (in_each(database, now)) }
                dt { "Since the start" }
                dd { (counted(database)) }
            }
        }
    }
}

/// How old the snapshot is, as a part of how old it may be.
fn age_bar(age: Duration, age_max: Duration) -> Markup {
    let percent = age.as_secs() * 100 / age_max.as_secs().max(1);
    let class = if age > age_max { "bar over" } else { "bar" };
    let label = format!("{percent} % of the age that is allowed");
    html! {
        svg class=(class) viewBox="0 0 100 4" preserveAspectRatio="none" role="img" {
            title { (label) }
            rect class="track" width="100" height="4" {}
            rect class="fill" width=(percent.clamp(1, 100)) height="4" {}
        }
        p class="small" { (label) }
    }
}

fn moment(at: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    html! {
        time datetime=(words::exact(at)) { (words::instant(at)) }
        " " span class="small" { (words::ago(at, now)) }
    }
}

fn until(at: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    let left = words::between(now, at);
    html! {
        "until " time datetime=(words::exact(at)) { (words::instant(at)) }
        " " span class="small" {
            @if left.is_zero() { "that has passed" } @else { "for " (words::time(left)) }
        }
    }
}

fn next(database: &DatabaseView, now: DateTime<Utc>) -> Markup {
    let Some(at) = database.next_at else { return html! { "none is scheduled" } };
    let left = words::between(now, at);
    html! {
        time datetime=(words::exact(at)) { (words::instant(at)) }
        " " span class="small" {
            @if left.is_zero() { "due" } @else { "in " (words::time(left)) }
        }
    }
}

fn ended(database: &DatabaseView, at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let ago = words::ago(at, now);
    if database.is_skipped {
        format!("skipped {ago}: another run was at work")
    } else {
        format!("ended {ago}")
    }
}

fn suspicion(shown: Option<&CopyView>) -> Option<&str> {
    shown?.newest()?.suspicious.as_deref()
}

fn refused(refusal: &RefusalView, now: DateTime<Utc>) -> Markup {
    let RefusalView { at, kind, message } = refusal;
    html! {
        b { (failure::name(*kind)) } " (" (kind.exit_code()) "), " (words::ago(*at, now))
        p class="small" {
            @match message {
                Some(message) => (message),
                None => (failure::hint(*kind)),
            }
        }
    }
}

/// Where there are several repositories: how each of them stands.
fn in_each(database: &DatabaseView, now: DateTime<Utc>) -> Markup {
    let said = |copy: &CopyView| match (&copy.good, copy.last) {
        (_, Some(Last::Failed)) => "the last run made none there".to_owned(),
        (Some(good), _) => format!("the last good one {}", words::ago(good.begun_at, now)),
        (None, _) => "no good snapshot".to_owned(),
    };
    html! {
        @for copy in &database.copies {
            dt { "In " (copy.repository) }
            dd { (words::some(length(copy), "snapshot", "snapshots")) ", " (said(copy)) }
        }
    }
}

fn length(copy: &CopyView) -> u64 {
    copy.more.saturating_add(u64::try_from(copy.snapshots.len()).unwrap_or(u64::MAX))
}

fn counted(database: &DatabaseView) -> String {
    let counts = database.counts;
    let parts = [
        (counts.snapshots, "snapshot", "snapshots"),
        (counts.failures, "failure", "failures"),
        (counts.skipped, "skipped", "skipped"),
        (counts.retries, "call repeated", "calls repeated"),
    ];
    let said = parts.into_iter().filter(|(number, _, _)| *number > 0);
    let said: Vec<String> =
        said.map(|(number, one, many)| words::some(number, one, many)).collect();
    if said.is_empty() { "no run has ended".to_owned() } else { said.join(", ") }
}

fn pictures(copy: &CopyView, database: &DatabaseView, now: DateTime<Utc>) -> Markup {
    let of = (database.copies.len() > 1).then(|| format!(" in {}", copy.repository));
    let of = of.unwrap_or_default();
    html! {
        figure {
            (timeline::draw(copy, now))
            figcaption {
                b { (words::some(length(copy), "snapshot", "snapshots")) (of) }
                ": a bar for each, from its commit to the end of its lock"
                @if copy.more > 0 { "; the oldest " (words::count(copy.more)) " are left out" }
                @if !copy.is_seen { ". Only what this service has taken is known: the bucket was not read" }
                "."
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

fn table(copy: &CopyView, now: DateTime<Utc>) -> Markup {
    let newest: Vec<&Snap> = copy.snapshots.iter().rev().take(ROWS_MAX).collect();
    html! {
        details {
            summary { "The newest in words" }
            div class="scroll" tabindex="0" role="region" aria-label="The newest snapshots" {
                table {
                    caption { "The newest " (newest.len()) " of " (words::some(length(copy), "snapshot", "snapshots")) }
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
