//! One database: how it stands and why, what it does, what there is of it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use maud::{Markup, html};
use stonekeep_config::schedule::Crontab;
use stonekeep_engine::events::Phase;
use stonekeep_process::output::bytes;

use super::{badge, cause, kept, tone};
use crate::{
    board::view::{CopyView, DatabaseView, Last, RunningView, Snap, Standing, View},
    status::words,
};

/// Draws the card of the database of this number, which is its anchor.
pub(super) fn draw(number: usize, database: &DatabaseView, view: &View) -> Markup {
    let now = view.at;
    let shown = worst(database);
    html! {
        article id=(anchor(number)) class=(format!("card database {}", tone(database))) {
            div class="title" {
                h3 { (database.name) }
                (badge(database))
            }
            p class="lead" { (lead(database, view)) }
            (cause::first(database, shown, now))
            @if let Some(running) = &database.running { (progress(running, now)) }
            div class="columns" {
                (facts(database, shown, now))
                @match shown.filter(|copy| !copy.snapshots.is_empty()) {
                    Some(copy) => (kept::draw(copy, database, now)),
                    None => p class="none wait" { "No snapshot is known yet." },
                }
            }
            @if let Some(copy) = shown { (kept::table(copy, now)) }
        }
    }
}

/// What a link to a card names.
pub(super) fn anchor(number: usize) -> String {
    format!("database-{number}")
}

/// The repository that is drawn: the one whose good snapshot is the oldest.
fn worst(database: &DatabaseView) -> Option<&CopyView> {
    database.copies.iter().min_by_key(|copy| copy.good.as_ref().map(Snap::begun_at))
}

/// Returns the age of the newest good snapshot, in the repository that is the furthest behind.
pub(super) fn age(database: &DatabaseView, now: DateTime<Utc>) -> Option<String> {
    let good = worst(database)?.good.as_ref()?;
    Some(words::time(words::between(good.begun_at(), now)))
}

/// How it is, in one sentence.
pub(super) fn lead(database: &DatabaseView, view: &View) -> String {
    let Some(age) = age(database, view.at) else { return bare(database, view) };
    let may_be = database.age_max.map(|age_max| format!(" and may be {}", words::time(age_max)));
    let why = match database.standing {
        Standing::Good | Standing::Waiting if database.age_max.is_none() => {
            "; there is no schedule to judge it by"
        }
        Standing::Good | Standing::Waiting => "",
        Standing::Failed => ", but the last run failed",
        Standing::Suspicious => ", and a newer one is suspicious: the database shrank",
        Standing::Late if database.has_failed => ": too old, and the last run failed",
        Standing::Late => ": too old",
    };
    format!("The last good snapshot is {age} old{}{why}.", may_be.unwrap_or_default())
}

/// The same where there is no good snapshot, in one repository at least.
fn bare(database: &DatabaseView, view: &View) -> String {
    let lacking = worst(database).filter(|_| !database.is_bare());
    let place = lacking.map(|copy| format!(" in {}", copy.repository)).unwrap_or_default();
    let why = match database.standing {
        Standing::Late => {
            let up = words::time(words::between(view.started_at, view.at));
            let failed = if database.has_failed { ", and the last run failed" } else { "" };
            format!(", although the service has run for {up}{failed}")
        }
        Standing::Failed => "; the last run failed".to_owned(),
        Standing::Suspicious => "; the newest one is suspicious: the database shrank".to_owned(),
        _ if database.running.is_some() => " yet; a run is at work".to_owned(),
        _ if database.next_at.is_some() => " yet; the next run will tell".to_owned(),
        _ => " yet, and no run is scheduled".to_owned(),
    };
    format!("There is no good snapshot{place}{why}.")
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
                (age_bar(words::between(good.begun_at(), now), age_max))
            }
            dl {
                @if let Some(good) = good { (held(good, zone(database), now)) }
                (next(database, now))
                @if let Some((schedule, zone)) = &database.schedule {
                    dt { "Schedule" }
                    dd { code { (schedule) } " " span class="small" { (zone.name()) } }
                }
                @if let Some(at) = database.ended_at {
                    dt { "Last run" }
                    dd { (ended(database, at, now)) }
                }
                @if database.copies.len() > 1 { (in_each(database, now)) }
                (cause::past(database, now))
                dt { "Since the start" }
                dd { (counted(database)) }
            }
        }
    }
}

fn zone(database: &DatabaseView) -> Option<Tz> {
    database.schedule.as_ref().map(|(_, zone)| *zone)
}

/// What can be restored.
fn held(good: &Snap, zone: Option<Tz>, now: DateTime<Utc>) -> Markup {
    html! {
        dt { "Last good snapshot" }
        dd { (dated(good.begun_at(), zone, &words::ago(good.begun_at(), now))) }
        dt { "Its id" }
        dd { code class="id" { (good.id) } }
        dt { "To restore" }
        dd { code { "docs/recovery.md" } }
        dt { "It holds" }
        dd { (words::some(good.rows, "row", "rows")) ", " (bytes(good.plain_bytes)) }
        dt { "Locked" }
        dd { (until(good.promised_until, now)) }
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

/// An instant, on the clock of the schedule's zone as well, and what there is to say of it.
fn dated(at: DateTime<Utc>, zone: Option<Tz>, note: &str) -> Markup {
    let local = zone.and_then(|zone| words::local(at, zone));
    html! {
        time datetime=(words::exact(at)) { (words::instant(at)) }
        " " span class="small" { @if let Some(local) = local { (local) ", " } (note) }
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
    let Some(at) = database.next_at else {
        return html! { dt { "Next run" } dd { "none is scheduled" } };
    };
    let left = words::between(now, at);
    let left = if left.is_zero() { "due".to_owned() } else { format!("in {}", words::time(left)) };
    let slot = slot_after_retry(database, at);
    html! {
        dt { @if slot.is_some() { "Next try" } @else { "Next run" } }
        dd {
            (dated(at, zone(database), &left))
            @if let Some(slot) = slot {
                p class="small" { "a retry. The schedule's next is " (words::instant(slot)) }
            }
        }
    }
}

/// The schedule's next time, if what is due `at` is before it: another try of a run that failed.
fn slot_after_retry(database: &DatabaseView, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let (schedule, zone) = database.schedule.as_ref().filter(|_| database.has_failed)?;
    let schedule: Crontab = schedule.parse().ok()?;
    schedule.next_after(database.ended_at?, *zone).filter(|slot| at < *slot)
}

/// What became of the last run, and how long it took.
fn ended(database: &DatabaseView, at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let ago = words::ago(at, now);
    let took = |before: &str| {
        database.took.map(|took| format!("{before}{}", words::span(took))).unwrap_or_default()
    };
    let of = |wanted: fn(&CopyView) -> bool| database.copies.iter().filter(|it| wanted(it)).count();
    let failed = of(|copy| copy.last == Some(Last::Failed));
    let is_suspicious = of(|copy| took_one(copy) && suspicion(copy).is_some()) > 0;
    if failed > 0 && failed < database.copies.len() {
        let all = database.copies.len();
        format!("failed in {failed} of {all} repositories{}, {ago}", took(" after "))
    } else if database.has_failed {
        format!("failed{}, {ago}", took(" after "))
    } else if database.is_skipped {
        format!("skipped {ago}: another run was at work")
    } else if is_suspicious {
        format!("suspicious{}, {ago}", took(", "))
    } else if of(took_one) > 0 {
        format!("good{}, {ago}", took(", "))
    } else {
        format!("ended {ago}")
    }
}

const fn took_one(copy: &CopyView) -> bool {
    matches!(copy.last, Some(Last::Snapshot { .. }))
}

/// Why the newest snapshot is suspicious, if it is.
pub(super) fn suspicion(copy: &CopyView) -> Option<&str> {
    copy.newest()?.suspicious.as_deref()
}

/// Where there are several repositories: how each of them stands.
fn in_each(database: &DatabaseView, now: DateTime<Utc>) -> Markup {
    let said = |copy: &CopyView| match (&copy.good, copy.last) {
        (_, Some(Last::Failed)) => "the last run made none there".to_owned(),
        (Some(good), _) => format!("the last good one {}", words::ago(good.begun_at(), now)),
        (None, _) => "no good snapshot".to_owned(),
    };
    html! {
        @for copy in &database.copies {
            dt { "In " (copy.repository) }
            dd { (words::some(copy.length(), "snapshot", "snapshots")) ", " (said(copy)) }
        }
    }
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
