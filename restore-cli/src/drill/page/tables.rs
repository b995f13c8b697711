//! The database table by table: what is not as it was, then the largest; the others fold away, and beyond a thousand are counted.

use maud::{Markup, html};
use stonekeep_format::drill::{DrillReport, DrillTable, TableOutcome};
use stonekeep_process::{
    output::bytes,
    words::{count, some},
};

use super::name;
use crate::drill::sentences::{self, Sums};

/// Tables that have a line (1000), those that are not as they were first: some 300 bytes each. All are in the document.
const LINES_MAX: usize = 1_000;
/// Of those that are as they were, the largest that are seen at once (12).
const LARGEST: usize = 12;

pub(super) fn draw(report: &DrillReport) -> Markup {
    let all = sentences::in_order(&report.tables);
    let sums = Sums::of(&report.tables);
    let lines = &all[..all.len().min(LINES_MAX)];
    let others = lines.iter().filter(|table| !is_plain(table)).count();
    let (first, rest) = lines.split_at(lines.len().min(others + LARGEST));
    html! {
        section class="card" aria-labelledby="tables" {
            h2 id="tables" { "Table by table" }
            p { (said(sums, report)) }
            @if !first.is_empty() { (listed(first, caption(others, rest.is_empty()))) }
            @if !rest.is_empty() {
                details {
                    summary { "The next " (count(length(rest))) ", each as it was" }
                    (listed(rest, "By their size."))
                }
            }
            @if all.len() > lines.len() {
                p class="small" {
                    (some(length(&all[lines.len()..]), "more table has", "more tables have"))
                    " no line here; the document in this page has them all."
                }
            }
        }
    }
}

fn length(tables: &[&DrillTable]) -> u64 {
    u64::try_from(tables.len()).unwrap_or(u64::MAX)
}

/// Whether there is nothing to say of it.
fn is_plain(table: &DrillTable) -> bool {
    table.outcome == TableOutcome::Same
}

fn said(sums: Sums, report: &DrillReport) -> String {
    if report.tables.is_empty() {
        return "No table was compared.".to_owned();
    }
    let compared = some(sums.compared, "table was", "tables were");
    let differ = match sums.differ {
        0 => "each holds just the rows that production held".to_owned(),
        differ => format!("{} what production held", some(differ, "is not", "are not")),
    };
    format!("{compared} compared row by row, {}: {differ}.", some(sums.rows, "row", "rows"))
}

const fn caption(others: usize, is_whole: bool) -> &'static str {
    match (others, is_whole) {
        (0, true) => "By their size.",
        (0, false) => "The largest.",
        (_, true) => "What is to be told first, then by size.",
        (_, false) => "What is to be told first, then the largest.",
    }
}

fn listed(tables: &[&DrillTable], caption: &str) -> Markup {
    html! {
        table class="stack" {
            caption { (caption) }
            thead {
                tr {
                    th scope="col" { "Table" } th scope="col" { "Outcome" } th scope="col" class="number" { "Rows backed up" }
                    th scope="col" class="number" { "Rows found" } th scope="col" class="number" { "Size of the rows" }
                }
            }
            tbody { @for table in tables { (line(table)) } }
        }
    }
}

fn line(table: &DrillTable) -> Markup {
    let outcome = sentences::outcome(table.outcome);
    html! {
        tr {
            th scope="row" { (name(&table.name)) }
            td class=(tone(table.outcome)) { (outcome) }
            td class="number" data-label="backed up" { (count(table.rows)) }
            td class="number" data-label="found" { (table.rows_found.map_or_else(|| "–".to_owned(), count)) }
            td class="number" data-label="size" { (bytes(table.bytes)) }
        }
    }
}

const fn tone(outcome: TableOutcome) -> &'static str {
    match outcome {
        TableOutcome::Same | TableOutcome::Moved => "ok",
        TableOutcome::Differs | TableOutcome::Missing => "bad",
    }
}
