//! What a report says in words, on a page as at a terminal.

use std::time::Duration;

use stonekeep_format::drill::{DrillReport, DrillTable, DrillVerdict, TableOutcome};
use stonekeep_process::{output::bytes, words};

/// How a drill stands. Slow is passed, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// As it should be.
    Good,
    /// Passed, but the restore took longer than it may.
    Slow,
    /// Failed.
    Failed,
}

impl Standing {
    pub(super) fn of(report: &DrillReport) -> Self {
        match report.verdict {
            DrillVerdict::Fail => Self::Failed,
            DrillVerdict::Pass if report.is_slow() => Self::Slow,
            DrillVerdict::Pass => Self::Good,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "PASS",
            Self::Slow => "PASS, BUT SLOW",
            Self::Failed => "FAIL",
        }
    }
}

/// The verdict in a few words.
pub(super) fn headline(report: &DrillReport) -> String {
    let label = &report.label;
    match (report.verdict, report.rto_ms) {
        (DrillVerdict::Pass, _) => format!("{label} can be recovered"),
        (DrillVerdict::Fail, Some(_)) => match Fault::of(report) {
            Fault::Content => format!("{label} did not come back as it was"),
            Fault::Identity => {
                format!("{label} came back as it was, and an identity does not open it")
            }
            Fault::Check => format!("{label} came back as it was, and a check of it failed"),
            Fault::Other => format!("the drill of {label} failed"),
        },
        (DrillVerdict::Fail, None) => format!("{label} could not be restored"),
    }
}

/// What it was that failed a drill whose restore came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// What was compared is not as it was.
    Content,
    /// All is as it was, and an identity that was listed opens nothing.
    Identity,
    /// All is as it was, and a check of the operator's failed, nothing else.
    Check,
    /// Something else, as what was not there when every object was looked at.
    Other,
}

impl Fault {
    fn of(report: &DrillReport) -> Self {
        let is_whole = report.compared.iter().all(|compared| compared.same == compared.wanted);
        if !is_whole || report.tables.iter().any(|table| is_bad(table.outcome)) {
            return Self::Content;
        }
        // Each has one problem of its own, and its words.
        let checks = report.checks.iter().filter(|check| !check.passed).count() as u64;
        let identities = report.problems.iter().filter(|problem| is_of_identity(problem));
        let identities = identities.count() as u64;
        match report.problem_count().checked_sub(checks + identities) {
            Some(0) if identities > 0 => Self::Identity,
            Some(0) if checks > 0 => Self::Check,
            _ => Self::Other,
        }
    }
}

fn is_of_identity(problem: &str) -> bool {
    problem.starts_with("identity ") && problem.ends_with(" does not open the snapshot")
}

/// The verdict in figures. Numbers are written as `count` does.
pub(super) fn verdict(report: &DrillReport, count: fn(u64) -> String) -> String {
    let sums = Sums::of(&report.tables);
    let mut said = match report.verdict {
        DrillVerdict::Fail => {
            let problems = report.problem_count();
            format!("{} found.", number_of(problems, "problem was", "problems were", count))
        }
        DrillVerdict::Pass if sums.compared == 0 => "There was no table to compare.".to_owned(),
        DrillVerdict::Pass => format!(
            "All {} in {} are what production held at the snapshot.",
            number_of(sums.rows, "row", "rows", count),
            number_of(sums.compared, "table", "tables", count),
        ),
    };
    if report.verdict == DrillVerdict::Pass && report.is_slow() {
        said.push_str(" But recovery took longer than it may.");
    }
    said
}

/// What is said of a restore that broke off: of it, less was checked than is named.
pub(super) fn unended(report: &DrillReport) -> Option<&'static str> {
    let said = "The restore did not come to its end: what is not named above was not checked.";
    report.rto_ms.is_none().then_some(said)
}

/// How the recovery time was measured, if not as it would be.
pub(super) fn measured(report: &DrillReport) -> Option<&'static str> {
    let said = "measured on a scratch server that does not wait for its disk (fsync off): one that does may take longer";
    (report.rto_ms.is_some() && report.server.fsync == Some(false)).then_some(said)
}

/// What was compared, table by table.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sums {
    /// Tables.
    pub(super) compared: u64,
    /// Their rows, as production held them.
    pub(super) rows: u64,
    /// Tables that are not as they were.
    pub(super) differ: u64,
}

impl Sums {
    pub(super) fn of(tables: &[DrillTable]) -> Self {
        let mut sums = Self::default();
        for table in tables {
            sums.compared += 1;
            sums.rows = sums.rows.saturating_add(table.rows);
            sums.differ += u64::from(is_bad(table.outcome));
        }
        sums
    }
}

/// Whether a table is not what production held.
pub(super) const fn is_bad(outcome: TableOutcome) -> bool {
    matches!(outcome, TableOutcome::Differs | TableOutcome::Missing)
}

/// What comparing a table came to.
pub(super) const fn outcome(outcome: TableOutcome) -> &'static str {
    match outcome {
        TableOutcome::Same => "same",
        TableOutcome::Moved => "same, rows in another partition",
        TableOutcome::Differs => "differs",
        TableOutcome::Missing => "missing",
    }
}

/// The tables: those that are not as they were first, then the largest.
pub(super) fn in_order(tables: &[DrillTable]) -> Vec<&DrillTable> {
    let mut all: Vec<&DrillTable> = tables.iter().collect();
    all.sort_by_key(|table| {
        let grade = match table.outcome {
            TableOutcome::Missing => 0,
            TableOutcome::Differs => 1,
            TableOutcome::Moved => 2,
            TableOutcome::Same => 3,
        };
        (grade, std::cmp::Reverse(table.bytes))
    });
    all
}

/// What is done in a phase; a phase of a later version goes by its own name.
pub(super) fn phase(name: &str) -> &str {
    match name {
        "verifying" => "looking at every object",
        "fetching" => "trying each identity",
        "starting" => "starting a scratch server",
        "preparing" => "preparing the database",
        "schema" => "schema",
        "loading" => "loading rows",
        "finishing" => "indexes and constraints",
        "comparing" => "comparing every row",
        "analyzing" => "statistics",
        "checking" => "the operator's checks",
        "removing" => "removing it all again",
        other => other,
    }
}

/// Where it was restored to.
pub(super) fn server(report: &DrillReport) -> String {
    let server = &report.server;
    let place = match (&server.address, server.scratch) {
        (Some(address), _) => format!("a new database on {}", words::visible(address)),
        (None, true) => "a scratch server, made for it and removed again".to_owned(),
        (None, false) => "a new database".to_owned(),
    };
    let version = server.version.as_ref().map(|version| format!(", PostgreSQL {version}"));
    format!("{place}{}", version.unwrap_or_default())
}

/// How the recovery time stands to what it may be.
pub(super) fn against_target(report: &DrillReport) -> String {
    match (report.rto_ms, report.rto_max_ms) {
        (_, None) => "no target is set (rto_max)".to_owned(),
        (None, Some(max)) => format!("it may take {}", took(max)),
        (Some(rto), Some(max)) if rto > max => {
            format!("{} longer than the {} it may take", took(rto - max), took(max))
        }
        (Some(rto), Some(max)) => {
            format!("{} % of the {} it may take", percent(rto, max), took(max))
        }
    }
}

/// A part in hundredths.
pub(super) fn percent(part: u64, whole: u64) -> u64 {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// `40 ms`, `7.4 s`, `42 s`, `12 min 34 s`, `3 h 05 min`.
pub(crate) fn took(ms: u64) -> String {
    let time = Duration::from_millis(ms);
    let secs = time.as_secs();
    match secs {
        0 => format!("{ms} ms"),
        60..3_600 if !secs.is_multiple_of(60) => format!("{} min {:02} s", secs / 60, secs % 60),
        _ => words::span(time),
    }
}

/// `38.2 MiB/s`; nothing where nothing was moved, or in no time.
pub(super) fn rate(moved: u64, ms: u64) -> Option<String> {
    let per_sec = (u128::from(moved) * 1000).checked_div(u128::from(ms))?;
    (moved > 0).then(|| format!("{}/s", bytes(u64::try_from(per_sec).unwrap_or(u64::MAX))))
}

/// `1 row`, `2 rows`, with the number as `count` writes it.
pub(crate) fn number_of(number: u64, one: &str, many: &str, count: fn(u64) -> String) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::fixture;

    #[test]
    fn times_are_as_long_as_they_must_be() {
        let cases = [
            (0, "0 ms"),
            (999, "999 ms"),
            (7_449, "7.4 s"),
            (59_000, "59 s"),
            (60_000, "1 min"),
            (754_000, "12 min 34 s"),
            (11_100_000, "3 h 05 min"),
        ];
        for (ms, text) in cases {
            assert_eq!(took(ms), text);
        }
        assert_eq!(rate(10 << 20, 500).as_deref(), Some("20.0 MiB/s"));
        assert_eq!((rate(0, 500), rate(5, 0)), (None, None));
    }

    #[test]
    fn a_passed_drill_never_says_more_than_was_compared() {
        let mut report = fixture::passed();
        let said = |report: &DrillReport| verdict(report, words::count);
        assert!(said(&report).starts_with("All "), "{}", said(&report));
        report.tables.clear();
        assert_eq!(said(&report), "There was no table to compare.");
        report.rto_max_ms = Some(1);
        assert!(said(&report).ends_with("longer than it may."), "{}", said(&report));
        assert_eq!(Standing::of(&report), Standing::Slow);
    }

    #[test]
    fn what_differs_stands_before_what_is_large() {
        let report = fixture::failed();
        let order: Vec<TableOutcome> =
            in_order(&report.tables).iter().take(4).map(|table| table.outcome).collect();
        use TableOutcome::{Differs, Missing, Moved};
        assert_eq!(order, [Missing, Missing, Differs, Moved]);
    }

    #[test]
    fn a_failed_check_is_not_told_as_lost_data_and_nothing_else_as_a_check() {
        let mut report = DrillReport { verdict: DrillVerdict::Fail, ..fixture::passed() };
        report.checks[0].passed = false;
        report.problems =
            vec!["check \"a booking\": the answer is not the expected one".to_owned()];
        assert_eq!(headline(&report), "bookings came back as it was, and a check of it failed");
        report.problems.push("identity a.key (age1x) does not open the snapshot".to_owned());
        let identity = "bookings came back as it was, and an identity does not open it";
        assert_eq!(headline(&report), identity);
        report.problems.push("segments/bookings/x is missing".to_owned());
        assert_eq!(headline(&report), "the drill of bookings failed");
        report.tables[0].outcome = TableOutcome::Differs;
        assert_eq!(headline(&report), "bookings did not come back as it was");
    }
}
