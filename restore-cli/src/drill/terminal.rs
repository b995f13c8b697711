//! The report at a terminal of 80 columns: the verdict first, then what it rests on. Where the files are, the caller says.

use stonekeep_format::drill::{DrillReport, DrillVerdict, TableOutcome};
use stonekeep_process::{
    output::bytes,
    table::{Align, Table},
    words::visible,
};

use super::sentences::{self, Standing, against_target, number_of, rate, took};
use crate::report::{count, time};

/// Columns that a line has.
const WIDTH: usize = 80;
/// Where facts stand.
const INDENT: usize = 12;
/// Tables that have a line, besides those that are not as they were (10).
const LARGEST: usize = 10;
/// Characters of a table's name (28): so that its line fits.
const NAME_MAX: usize = 28;
/// Earlier drills whose recovery time is named (5).
const EARLIER: usize = 5;

/// Returns the report as lines.
pub(crate) fn lines(report: &DrillReport) -> Vec<String> {
    let mut lines = verdict(report);
    lines.extend(facts(report));
    for part in [phases(report), tables(report), others(report), remarks(report)] {
        lines.push(String::new());
        lines.extend(part);
    }
    lines
}

/// Returns the verdict in one line.
pub(super) fn standing(report: &DrillReport) -> String {
    format!("{}: {}", Standing::of(report).as_str(), sentences::headline(report))
}

fn verdict(report: &DrillReport) -> Vec<String> {
    let mut lines = vec![standing(report)];
    lines.extend(wrapped("", 0, &sentences::verdict(report, count)));
    let problems = report.problems.iter();
    lines.extend(problems.flat_map(|problem| wrapped("PROBLEM:", 9, problem)));
    if report.more_problems > 0 {
        let more = number_of(report.more_problems, "other", "others", count);
        lines.push(format!("PROBLEM: and {more}"));
    }
    lines.push(String::new());
    lines
}

fn facts(report: &DrillReport) -> Vec<String> {
    let snapshot = &report.snapshot;
    let size = format!(
        "{}, {} as stored; {}, {}, {}",
        bytes(snapshot.plain_bytes),
        bytes(snapshot.sealed_bytes),
        number_of(snapshot.tables, "table", "tables", count),
        number_of(snapshot.rows, "row", "rows", count),
        number_of(snapshot.large_objects, "large object", "large objects", count),
    );
    let taken = format!("{} ({}, {})", snapshot.id, snapshot.chosen, snapshot.tier);
    let jobs = number_of(report.server.jobs as u64, "connection", "connections", count);
    let facts = [
        ("drill", format!("{}, begun {}", report.id, time(report.begun_at))),
        ("snapshot", taken),
        (
            "taken",
            format!("{}, kept until {}", time(snapshot.snapshot_at), time(snapshot.promised_until)),
        ),
        ("size", size),
        ("restored to", format!("{}, with {jobs}", sentences::server(report))),
        ("RTO", recovery_time(report)),
        ("RPO", recovery_point(report)),
    ];
    facts.iter().flat_map(|(name, fact)| wrapped(name, INDENT, fact)).collect()
}

fn recovery_time(report: &DrillReport) -> String {
    let now = report.rto_ms.map_or_else(|| "not measured".to_owned(), took);
    let earlier = &report.earlier[report.earlier.len().saturating_sub(EARLIER)..];
    let before: Vec<String> = earlier
        .iter()
        .rev()
        .map(|drill| match (drill.verdict, drill.rto_ms) {
            (DrillVerdict::Pass, Some(ms)) => took(ms),
            _ => "failed".to_owned(),
        })
        .collect();
    let before = match &before[..] {
        [] => "no earlier drill is known".to_owned(),
        before => format!("before: {}", before.join(", ")),
    };
    let how = sentences::measured(report).map(|how| format!("; {how}")).unwrap_or_default();
    format!("{now}, {}; {before}{how}", against_target(report))
}

fn recovery_point(report: &DrillReport) -> String {
    let gap = report.rpo.longest_gap_ms.map(|gap| format!("; longest gap {}", took(gap)));
    format!(
        "the newest sound snapshot was {} old{}",
        took(report.rpo.newest_age_ms),
        gap.unwrap_or_default()
    )
}

fn phases(report: &DrillReport) -> Vec<String> {
    let mut table = Table::new(&[
        ("PHASE", Align::Left),
        ("TIME", Align::Right),
        ("MOVED", Align::Right),
        ("PER SECOND", Align::Right),
        ("", Align::Left),
    ]);
    for phase in &report.phases {
        let moved = (phase.bytes > 0).then(|| bytes(phase.bytes));
        table.row(vec![
            visible(sentences::phase(&phase.name)).into_owned(),
            took(phase.duration_ms),
            moved.unwrap_or_default(),
            rate(phase.bytes, phase.duration_ms).unwrap_or_default(),
            if phase.is_restore { "RTO".to_owned() } else { String::new() },
        ]);
    }
    table.lines()
}

fn tables(report: &DrillReport) -> Vec<String> {
    let all = sentences::in_order(&report.tables);
    let others = all.iter().filter(|table| table.outcome != TableOutcome::Same).count();
    let (shown, rest) = all.split_at(all.len().min(others + LARGEST));
    let mut table = Table::new(&[
        ("TABLE", Align::Left),
        ("ROWS", Align::Right),
        ("FOUND", Align::Right),
        ("SIZE", Align::Right),
        ("", Align::Left),
    ]);
    for each in shown {
        table.row(vec![
            shortened(&visible(&each.name)),
            count(each.rows),
            each.rows_found.map_or_else(|| "-".to_owned(), count),
            bytes(each.bytes),
            outcome(each.outcome).to_owned(),
        ]);
    }
    let mut lines =
        if shown.is_empty() { vec!["No table was compared.".to_owned()] } else { table.lines() };
    if !rest.is_empty() {
        let rest = number_of(rest.len() as u64, "other table", "other tables", count);
        lines.push(format!("and {rest}, smaller and the same"));
    }
    lines
}

/// In one short word, loud where something is wrong.
const fn outcome(outcome: TableOutcome) -> &'static str {
    match outcome {
        TableOutcome::Same => "same",
        TableOutcome::Moved => "moved",
        TableOutcome::Differs => "DIFFERS",
        TableOutcome::Missing => "MISSING",
    }
}

fn others(report: &DrillReport) -> Vec<String> {
    let mut lines = Vec::new();
    for kind in &report.compared {
        let only = if kind.same == kind.wanted { "" } else { "ONLY " };
        let (same, wanted) = (count(kind.same), count(kind.wanted));
        let said = format!("{only}{same} of {wanted} {} are as they were", kind.what);
        lines.extend(wrapped("compared", INDENT, &said));
    }
    for each in &report.recipients {
        let proven = match &each.proven_by {
            Some(file) => format!("opened by {file}"),
            None => "NOT PROVEN: no listed identity has opened it".to_owned(),
        };
        lines.extend(wrapped("recipient", INDENT, &format!("{} {proven}", each.recipient)));
    }
    for check in &report.checks {
        let answer = match (&check.why, check.passed) {
            (_, true) => "as expected".to_owned(),
            (Some(why), false) => format!("FAILED: {why}"),
            (None, false) => "FAILED".to_owned(),
        };
        let said = format!("{}: {answer}, in {}", check.name, took(check.duration_ms));
        lines.extend(wrapped("check", INDENT, &said));
    }
    for each in &report.estimates {
        let how = if each.is_measured { "measured" } else { "estimated" };
        let said = format!(
            "{} ({}): {}, {how}",
            each.label,
            bytes(each.plain_bytes),
            took(each.restore_ms)
        );
        lines.extend(wrapped("restore of", INDENT, &said));
    }
    lines
}

fn remarks(report: &DrillReport) -> Vec<String> {
    let left_out = report.not_checked.iter().flat_map(|what| wrapped("not checked", INDENT, what));
    let notes = report.notes.iter().flat_map(|note| wrapped("note", INDENT, note));
    let mut lines: Vec<String> = left_out.chain(notes).collect();
    lines.extend(sentences::unended(report).map(str::to_owned));
    lines
}

/// A name, without its middle where it is too long.
fn shortened(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME_MAX {
        return name.to_owned();
    }
    let half = (NAME_MAX - 1) / 2;
    let (head, tail) = (name.chars().take(half), name.chars().skip(length - (NAME_MAX - 1 - half)));
    head.chain(['…']).chain(tail).collect()
}

/// A text under its name, in lines that a terminal does not break. A word longer than a line stays whole.
fn wrapped(name: &str, indent: usize, text: &str) -> Vec<String> {
    let text = visible(text);
    let mut lines = vec![format!("{name:<indent$}")];
    let mut is_first = true;
    for word in text.split(' ') {
        let line = lines.last_mut().map_or(0, |line| line.chars().count());
        if !is_first && line + 1 + word.chars().count() > WIDTH {
            lines.push(" ".repeat(indent));
            is_first = true;
        }
        if let Some(line) = lines.last_mut() {
            line.extend((!is_first).then_some(' '));
            line.push_str(word);
        }
        is_first = false;
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::fixture;

    #[test]
    fn a_passed_drill_fits_on_a_screen() {
        let lines = lines(&fixture::passed());
        assert!(lines.len() <= 60, "{} lines", lines.len());
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_failed_drill_says_first_what_is_wrong() {
        let lines = lines(&fixture::failed());
        assert!(lines[0].starts_with("FAIL: "), "{lines:?}");
        assert!(lines[2].starts_with("PROBLEM: "), "{lines:?}");
        assert!(!lines.join("").contains(['\u{202e}', '\n', '\u{1b}']));
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_drill_that_came_to_no_end_has_no_recovery_time() {
        let lines = lines(&fixture::broken()).join("\n");
        assert!(lines.contains("RTO         not measured, no target is set"), "{lines}");
        assert!(lines.contains("No table was compared."), "{lines}");
    }

    #[test]
    fn lines_are_no_longer_than_a_terminals_but_for_long_words() {
        for report in [fixture::passed(), fixture::failed(), fixture::broken()] {
            for line in lines(&report) {
                let is_word = line.split(' ').any(|word| word.chars().count() > WIDTH - INDENT);
                assert!(line.chars().count() <= WIDTH || is_word, "{line}");
            }
        }
    }
}
