//! What was restored to where, and what was found of it besides tables.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use stonekeep_format::drill::{Compared, DrillCheck, DrillReport};
use stonekeep_process::{
    output::bytes,
    words::{self, count, some, visible},
};

use super::name;
use crate::drill::sentences::{self, took};

fn instant(at: DateTime<Utc>) -> Markup {
    html! { time datetime=(words::exact(at)) { (words::instant(at)) } }
}

pub(super) fn draw(report: &DrillReport) -> Markup {
    let snapshot = &report.snapshot;
    html! {
        section class="card" aria-labelledby="facts" {
            h2 id="facts" { "What was restored, and where" }
            div class="columns" {
                dl {
                    dt { "Snapshot" } dd { code class="id" { (snapshot.id) } " " span class="small" { (visible(&snapshot.chosen)) } }
                    dt { "Database" } dd { (report.label) }
                    dt { "Its content of" } dd { (instant(snapshot.snapshot_at)) }
                    dt { "Committed" } dd { (instant(snapshot.committed_at)) span class="small" { " as number " (snapshot.seq) ", tier " (visible(&snapshot.tier)) } }
                    dt { "Kept until" } dd { (instant(snapshot.promised_until)) }
                }
                dl {
                    dt { "It holds" }
                    dd {
                        (some(snapshot.tables, "table", "tables")) ", " (some(snapshot.rows, "row", "rows")) ", "
                        (some(snapshot.large_objects, "large object", "large objects"))
                    }
                    dt { "Size" }
                    dd { (bytes(snapshot.plain_bytes)) ", " (bytes(snapshot.sealed_bytes)) " as stored in " (some(snapshot.segments, "segment", "segments")) }
                    dt { "Taken from" } dd { "PostgreSQL " (visible(&snapshot.server_version)) }
                    dt { "Restored to" } dd { (sentences::server(report)) }
                    dt { "With" } dd { (some(u64::try_from(report.server.jobs).unwrap_or(u64::MAX), "connection", "connections")) }
                }
            }
        }
    }
}

/// Objects other than tables, kind by kind.
pub(super) fn compared(report: &DrillReport) -> Markup {
    let tone = |kind: &Compared| if kind.same == kind.wanted { "number ok" } else { "number bad" };
    html! {
        @if !report.compared.is_empty() {
            section class="card" aria-labelledby="kinds" {
                h2 id="kinds" { "Other objects" }
                table class="stack" {
                    thead { tr { th scope="col" { "Kind" } th scope="col" class="number" { "Held by production" } th scope="col" class="number" { "As they were" } } }
                    tbody {
                        @for kind in &report.compared {
                            tr {
                                th scope="row" { (visible(&kind.what)) }
                                td class="number" data-label="held by production" { (count(kind.wanted)) }
                                td class=(tone(kind)) data-label="as they were" { (count(kind.same)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Who can open the snapshot.
pub(super) fn recipients(report: &DrillReport) -> Markup {
    html! {
        section class="card" aria-labelledby="keys" {
            h2 id="keys" { "Who can open it" }
            @if report.recipients.is_empty() { p { "No identity was tried." } }
            @else {
                table class="stack" {
                    thead { tr { th scope="col" { "Recipient" } th scope="col" { "Proven by" } } }
                    tbody {
                        @for each in &report.recipients {
                            tr {
                                th scope="row" { code { (visible(&each.recipient)) } }
                                @match &each.proven_by {
                                    Some(file) => { td class="ok" { "opened by " (name(file)) } }
                                    None => { td class="open" { "not proven: no listed identity has opened it" } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What the operator asked of the restored database.
pub(super) fn checks(report: &DrillReport) -> Markup {
    html! {
        section class="card" aria-labelledby="checks" {
            h2 id="checks" { "The operator's own checks" }
            @if report.checks.is_empty() { p { "None is configured." } }
            @else {
                table class="stack" {
                    thead { tr { th scope="col" { "Check" } th scope="col" { "Answer" } th scope="col" class="number" { "Time" } } }
                    tbody { @for check in &report.checks { (asked(check)) } }
                }
            }
        }
    }
}

fn asked(check: &DrillCheck) -> Markup {
    html! {
        tr {
            th scope="row" { (name(&check.name)) }
            td class=(if check.passed { "ok" } else { "bad" }) {
                @if check.passed { "as expected" } @else { "not as expected" }
                @if let Some(why) = &check.why { ": " (name(why)) }
            }
            td class="number" data-label="time" { (took(check.duration_ms)) }
        }
    }
}

/// How long a restore of each database of the repository would take.
pub(super) fn estimates(report: &DrillReport) -> Markup {
    html! {
        @if !report.estimates.is_empty() {
            section class="card" aria-labelledby="estimates" {
                h2 id="estimates" { "How long a restore of each database takes" }
                table class="stack" {
                    caption { "Measured by this drill, or estimated from what each byte took in it and the size of the newest snapshot. Databases more than ten times as large or small are not listed: only their own drill tells." }
                    thead { tr { th scope="col" { "Database" } th scope="col" { "Newest snapshot" } th scope="col" class="number" { "Size" } th scope="col" class="number" { "Restore" } th scope="col" { "" } } }
                    tbody {
                        @for each in &report.estimates {
                            tr {
                                th scope="row" { (each.label) }
                                td { code class="id" { (each.snapshot) } }
                                td class="number" data-label="size" { (bytes(each.plain_bytes)) }
                                td class="number" data-label="restore" { (took(each.restore_ms)) }
                                td { @if each.is_measured { "measured" } @else { "estimated" } }
                            }
                        }
                    }
                }
            }
        }
    }
}
