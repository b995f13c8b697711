//! A report for a terminal.

use stonekeep_format::drill::DrillReport;

pub(super) fn lines(report: &DrillReport) -> Vec<String> {
    let mut lines = vec![format!("{} {}", report.verdict.as_str(), report.label)];
    lines.extend(report.problems.iter().cloned());
    lines
}
