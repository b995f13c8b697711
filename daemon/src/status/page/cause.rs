//! Why a database does not stand well: first, and in the colour of its standing. What is over is folded away.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use stonekeep_process::failure;

use super::{card::suspicion, tone};
use crate::{
    board::view::{CopyView, DatabaseView, RefusalView, Standing},
    status::words,
};

/// Draws what is wrong now.
pub(super) fn first(
    database: &DatabaseView,
    shown: Option<&CopyView>,
    now: DateTime<Utc>,
) -> Markup {
    let refusal = database.refusal.as_ref().filter(|_| is_on(database));
    let newest = shown.into_iter().chain(&database.copies);
    let suspicion = newest.filter_map(suspicion).next();
    html! {
        @if let Some(refusal) = refusal { div class=(class(database)) { (refused(refusal, now)) } }
        @if let Some(why) = suspicion {
            div class=(class(database)) {
                p { b { "The newest snapshot is suspicious: " (why) } }
                p {
                    "Look at the database. If that is as it should be, "
                    code { "stonekeepd backup --accept-shrink" } "; if not, restore an earlier snapshot."
                }
            }
        }
    }
}

fn class(database: &DatabaseView) -> String {
    format!("cause {}", tone(database))
}

/// Whether the last failure is why the database stands as it does.
fn is_on(database: &DatabaseView) -> bool {
    database.has_failed || database.standing == Standing::Late
}

fn refused(refusal: &RefusalView, now: DateTime<Utc>) -> Markup {
    let RefusalView { at, kind, message } = refusal;
    html! {
        p {
            b { (failure::name(*kind)) @if let Some(message) = message { ": " (message) } }
            " (exit code " (kind.exit_code()) "), " (words::ago(*at, now))
        }
        p { "What to do: " (failure::hint(*kind)) "." }
        @if message.is_none() {
            p { "The log has the message: " code { "journalctl -u stonekeepd" } }
        }
    }
}

/// Draws the last failure if it is over.
pub(super) fn past(database: &DatabaseView, now: DateTime<Utc>) -> Markup {
    let Some(refusal) = database.refusal.as_ref().filter(|_| !is_on(database)) else {
        return Markup::default();
    };
    let over = match good_since(database, refusal.at) {
        Some(at) => format!("over: good since {}", words::instant(at)),
        None => "over".to_owned(),
    };
    html! {
        dt { "Last failure" }
        dd class="past" {
            details {
                summary { (words::ago(refusal.at, now)) ", " (over) }
                (failure::name(refusal.kind)) " (exit code " (refusal.kind.exit_code()) ")"
                @if let Some(message) = &refusal.message { ": " (message) }
            }
        }
    }
}

/// Since when every repository has a good snapshot that was committed after the failure.
fn good_since(database: &DatabaseView, failed_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let firsts = database.copies.iter().map(|copy| {
        let good = copy.snapshots.iter().filter(|snap| snap.suspicious.is_none());
        good.map(|snap| snap.committed_at).find(|at| *at >= failed_at)
    });
    firsts.collect::<Option<Vec<_>>>()?.into_iter().max()
}
