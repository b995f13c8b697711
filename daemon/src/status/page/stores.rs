//! One repository: what its bucket says, and whether it was lately proved that nobody can delete.

use std::time::Duration;

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use stonekeep_engine::watch::DRILL_AGE_MAX;
use stonekeep_format::prove::Verdict;
use stonekeep_process::failure;

use crate::{
    board::view::{Proof, RefusalView, RepositoryView, SeenView},
    status::words,
};

/// How old a proof may be (3 d), as a watcher has it: it is made daily, and may fail to be once.
const PROOF_AGE_MAX: Duration = Duration::from_secs(3 * 86_400);

pub(super) fn draw(repository: &RepositoryView, now: DateTime<Utc>) -> Markup {
    html! {
        article class="card repository" {
            h3 { (repository.name) }
            dl {
                dt { "Bucket" }
                dd { (bucket(repository, now)) }
                dt { "Findings" }
                dd { (findings(repository.seen.as_ref())) }
                dt { "Last prove" }
                dd { (proved(repository.seen.as_ref(), now)) }
                dt { "Last drill" }
                dd { (drilled(repository.seen.as_ref(), now)) }
            }
        }
    }
}

fn bucket(repository: &RepositoryView, now: DateTime<Utc>) -> Markup {
    html! {
        @if repository.is_denied {
            "This credential may not read it, so what is shown is what this service has taken since it was started. "
            code { "stonekeep watch" } " reads it from elsewhere."
        } @else if let Some(RefusalView { at, kind, message }) = &repository.refusal {
            span class="bad" { "could not be read " (words::ago(*at, now)) ": " (failure::name(*kind)) }
            p class="small" { (message.as_deref().unwrap_or(failure::hint(*kind))) }
        }
        @if let Some(seen) = &repository.seen {
            "read " (words::ago(seen.at, now)) ": "
            (words::some(u64::try_from(seen.snapshots).unwrap_or(u64::MAX), "snapshot", "snapshots"))
            @if seen.others > 0 {
                ", also of " (words::some(u64::try_from(seen.others).unwrap_or(u64::MAX), "database", "databases")) " that this configuration does not name"
            }
        } @else if repository.tried_at.is_none() {
            "not read yet"
        }
    }
}

fn findings(seen: Option<&SeenView>) -> Markup {
    html! {
        @match seen {
            None => "not known",
            Some(seen) if seen.findings.is_empty() => span class="ok" { "✓ nothing is wrong" },
            Some(seen) => {
                span class="bad" {
                    "✕ "
                    @for (at, (kind, count)) in seen.findings.iter().enumerate() {
                        @if at > 0 { ", " }
                        (kind.replace('_', " ")) " × " (words::count(*count))
                    }
                    @if seen.more_findings > 0 { ", and " (words::count(seen.more_findings)) " more" }
                }
                p class="small" { code { "stonekeep list" } " names them." }
            }
        }
    }
}

fn proved(seen: Option<&SeenView>, now: DateTime<Utc>) -> Markup {
    let Some(seen) = seen else { return html! { "not known" } };
    html! {
        @match &seen.proof {
            None => { "none known. Run " code { "stonekeepd prove" } " daily." },
            Some(proof) => (verdict(proof, now)),
        }
        @if seen.is_unsure { p class="small bad" { "A later one could not tell." } }
    }
}

fn verdict(proof: &Proof, now: DateTime<Utc>) -> Markup {
    let age = words::between(proof.at, now);
    let counted: Vec<String> =
        proof.probes.iter().filter_map(|(verdict, count)| said(*verdict, *count)).collect();
    let lacking = proof.probes.get(&Verdict::Lacking).copied().unwrap_or(0);
    html! {
        @if proof.verdict == Verdict::Fail {
            span class="bad" { "✕ an attack succeeded" }
        } @else if age > PROOF_AGE_MAX {
            span class="bad" { "! nobody could delete, but that is long ago" }
        } @else {
            span class="ok" { "✓ nobody could delete" }
        }
        ", " (words::ago(proof.at, now))
        p class="small" { (counted.join(", ")) }
        @if lacking > 0 {
            p class="small" {
                "The server lacks " (words::some(lacking, "protection", "protections"))
                " on which no promise rests: " code { "docs/servers.md" }
            }
        }
    }
}

/// How many probes came to this, but for what the server lacks: that is no verdict on the writer.
fn said(verdict: Verdict, count: u64) -> Option<String> {
    let said = match verdict {
        Verdict::Pass => "passed",
        Verdict::Skipped => "skipped",
        Verdict::Inconclusive => "told neither",
        Verdict::Fail => "failed",
        Verdict::Lacking => return None,
    };
    Some(format!("{} {said}", words::some(count, "probe", "probes")))
}

fn drilled(seen: Option<&SeenView>, now: DateTime<Utc>) -> Markup {
    let Some(seen) = seen else { return html! { "not known" } };
    html! {
        @match seen.drilled_at {
            None if seen.drills_failed == 0 => "none known",
            None => span class="bad" { "none that passed is known" },
            Some(at) => {
                @if now - at > DRILL_AGE_MAX {
                    span class="bad" { "! one passed, but that is long ago" }
                } @else {
                    span class="ok" { "✓ one passed" }
                }
                ", " (words::ago(at, now))
            }
        }
        @if seen.drills_failed > 0 {
            p class="bad" {
                "✕ The last drill of " (words::some(seen.drills_failed, "database", "databases")) " failed."
            }
            p class="small" { code { "stonekeep watch" } " says of which, and the report why." }
        }
    }
}
