//! The report as one page for whoever has to be shown that recovery works: the verdict first, then what it rests on.
//!
//! It names what a database names, so everything in it is escaped. It runs no script and loads nothing; the whole document
//! stands in it as well, for programs.

mod facts;
mod plot;
mod proof;
mod tables;
mod timeline;

use std::sync::LazyLock;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use stonekeep_format::drill::DrillReport;
use stonekeep_process::{
    page,
    words::{self, count, visible},
};

use super::sentences::{self, Standing, against_target, took};

static STYLE: LazyLock<String> = LazyLock::new(|| page::style(include_str!("page/style.css")));

/// What stands around the document in a page; in nothing else of it, as all of that is escaped.
pub(super) const DOCUMENT_BEGIN: &str = "<script type=\"application/json\" id=\"report\">";
/// What ends it.
pub(super) const DOCUMENT_END: &str = "</script>";

/// Returns the page, ended by a newline. `document` is the report as it is written to its own file, `signed_by` the fingerprint of
/// the key that will sign the page.
pub(super) fn render(report: &DrillReport, document: &str, signed_by: Option<&str>) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(page::policy(&STYLE));
                title { (title(report)) }
                style { (PreEscaped(&*STYLE)) }
            }
            body {
                (head(report))
                main {
                    (problems(report))
                    (facts::draw(report))
                    (timeline::draw(report))
                    (recovery(report))
                    (tables::draw(report))
                    (facts::compared(report))
                    (facts::recipients(report))
                    (facts::checks(report))
                    (remarks(report))
                    (facts::estimates(report))
                    (proof::draw(report, signed_by))
                }
                (foot(report))
                (PreEscaped(DOCUMENT_BEGIN)) (PreEscaped(embedded(document))) (PreEscaped(DOCUMENT_END))
            }
        }
    };
    let mut page = markup.into_string();
    page.push('\n');
    page
}

/// Returns the document so that nothing in it can end the element that it stands in. It stays the same document: within a JSON text,
/// `<` stands in strings only.
fn embedded(document: &str) -> String {
    document.trim_end().replace('<', "\\u003c")
}

fn title(report: &DrillReport) -> String {
    let day = report.begun_at.format("%Y-%m-%d");
    format!("{}: restore drill of {}, {day}", Standing::of(report).as_str(), report.label)
}

/// A sign for those who do not see the colour: a tick, an exclamation mark in a triangle, a cross in an octagon.
fn icon(standing: Standing) -> Markup {
    let path = match standing {
        Standing::Good => "M8 1a7 7 0 1 0 .01 0zM4.5 8.2l2.4 2.4 4.6-5",
        Standing::Slow => "M8 1.6L15 14.2H1zM8 6v4M8 11.6v.9",
        Standing::Failed => {
            "M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1zM5.6 5.6l4.8 4.8M10.4 5.6l-4.8 4.8"
        }
    };
    html! { svg class="icon" viewBox="0 0 16 16" aria-hidden="true" { path d=(path) {} } }
}

const fn tone(standing: Standing) -> &'static str {
    match standing {
        Standing::Good => "good",
        Standing::Slow => "slow",
        Standing::Failed => "failed",
    }
}

fn head(report: &DrillReport) -> Markup {
    let standing = Standing::of(report);
    html! {
        header class=(format!("verdict {}", tone(standing))) {
            p class="kind" { "Restore drill" }
            h1 {
                span class="badge" { (icon(standing)) (standing.as_str()) }
                " " (sentences::headline(report))
            }
            p class="lead" { (sentences::verdict(report, count)) }
            (figures(report))
        }
    }
}

/// What whoever has no time wants to know.
fn figures(report: &DrillReport) -> Markup {
    let proven = report.recipients.iter().filter(|each| each.proven_by.is_some()).count();
    let passed = report.checks.iter().filter(|check| check.passed).count();
    let keys = part_of(proven, report.recipients.len());
    let checks = part_of(passed, report.checks.len());
    html! {
        dl class="figures" {
            div {
                dt { "Recovery time" }
                dd { b { (report.rto_ms.map_or_else(|| "–".to_owned(), took)) } (against_target(report)) }
            }
            div {
                dt { "Recovery point" }
                dd { b { (took(report.rpo.newest_age_ms)) } "the age of the newest snapshot" }
            }
            div {
                dt { "Keys" }
                dd { b { (keys) } "shown to open the snapshot" }
            }
            div {
                dt { "Own checks" }
                dd { b { (checks) } @if report.checks.is_empty() { "none is configured" } @else { "answered as expected" } }
            }
        }
    }
}

fn part_of(part: usize, whole: usize) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{part} of {whole}") }
}

fn problems(report: &DrillReport) -> Markup {
    html! {
        @if report.problem_count() > 0 {
            section class="card problems" aria-labelledby="problems" {
                h2 id="problems" { "What is wrong" }
                ul {
                    @for problem in &report.problems { li { (name(problem)) } }
                    @if report.more_problems > 0 {
                        li { "and " (words::some(report.more_problems, "other", "others")) " not named here" }
                    }
                }
            }
        }
    }
}

/// A text that may hold names of the database: nothing in it is hidden, and none turns what stands beside it.
fn name(text: &str) -> Markup {
    html! { bdi { (visible(text)) } }
}

/// The recovery time against what it may be and was, and the recovery point.
fn recovery(report: &DrillReport) -> Markup {
    html! {
        section class="card" aria-labelledby="recovery" {
            h2 id="recovery" { "How long recovery takes, and how much would be lost" }
            div class="columns" {
                div {
                    p class="large" { b { (report.rto_ms.map_or_else(|| "not measured".to_owned(), took)) } }
                    p { "Recovery time (RTO): " (against_target(report)) "." }
                    (target_bar(report))
                    p class="small" {
                        @if report.rto_ms.is_some() { "The time of the phases that a restore has, comparison included." }
                        @else { "The restore did not come to its end." }
                        @if let Some(how) = sentences::measured(report) { " It was " (how) "." }
                    }
                    p class="large" { b { (took(report.rpo.newest_age_ms)) } }
                    p { "Recovery point (RPO): how old the content of the newest snapshot was that is not suspicious." }
                    p class="small" { (longest_gap(report)) }
                }
                (plot::draw(report))
            }
        }
    }
}

fn longest_gap(report: &DrillReport) -> String {
    match report.rpo.longest_gap_ms {
        Some(gap) => format!(
            "The longest time between two snapshots that are kept, of the last 30 days: {}.",
            took(gap)
        ),
        None => {
            "There are not two snapshots of the last 30 days to measure a time between.".to_owned()
        }
    }
}

/// The recovery time as a part of what it may be.
fn target_bar(report: &DrillReport) -> Markup {
    let Some((rto, max)) = report.rto_ms.zip(report.rto_max_ms) else {
        return Markup::default();
    };
    let percent = sentences::percent(rto, max);
    let class = if rto > max { "bar over" } else { "bar" };
    html! {
        svg class=(class) viewBox="0 0 100 4" preserveAspectRatio="none" role="img" {
            title { (percent) " % of the time that recovery may take" }
            rect class="track" width="100" height="4" {}
            rect class="fill" width=(percent.clamp(1, 100)) height="4" {}
        }
    }
}

fn remarks(report: &DrillReport) -> Markup {
    html! {
        section class="card" aria-labelledby="left" {
            h2 id="left" { "What was not checked, and why" }
            @if let Some(unended) = sentences::unended(report) { p { (unended) } }
            ul { @for what in &report.not_checked { li { (name(what)) } } }
            @if !report.notes.is_empty() {
                h3 { "Not as it was, and no reason to fail" }
                ul { @for note in &report.notes { li { (name(note)) } } }
            }
        }
    }
}

fn foot(report: &DrillReport) -> Markup {
    html! {
        footer {
            p {
                "Drill " code { (report.id) } " of repository " code { (report.repository) }
                ", begun " (words::instant(report.begun_at)) ", signed " (words::instant(report.written_at)) "."
            }
            p { "stonekeep " (visible(&report.stonekeep)) " · " (report.format) " · " code { (report.key) } }
        }
    }
}

#[cfg(test)]
mod tests;
