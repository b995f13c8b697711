//! What `prove` found, for people: a line for each probe, under the bucket it was sent to.

use stonekeep_format::prove::{ProbeLine, Verdict};

use crate::table::{Align, Table};

/// Returns the lines; what is not well stands out in capitals.
#[must_use]
pub fn lines(probes: &[ProbeLine]) -> Vec<String> {
    let mut lines = Vec::new();
    for of_bucket in probes.chunk_by(|a, b| a.bucket == b.bucket) {
        let mut table = Table::new(&[
            ("PROBE", Align::Left),
            ("", Align::Left),
            (of_bucket[0].bucket.as_str(), Align::Left),
            ("ANSWER", Align::Left),
        ]);
        for ProbeLine { id, what, verdict, detail, .. } in of_bucket {
            table.row(vec![id.clone(), word(*verdict), what.clone(), detail.clone()]);
        }
        lines.extend(table.lines());
    }
    let lacking: Vec<&str> = probes
        .iter()
        .filter(|line| line.verdict == Verdict::Lacking)
        .map(|line| line.id.as_str())
        .collect();
    if !lacking.is_empty() {
        lines.push(format!(
            "What this server lacks, and no promise rests on: {} (docs/operations.md)",
            lacking.join(", ")
        ));
    }
    lines
}

fn word(verdict: Verdict) -> String {
    match verdict {
        Verdict::Fail | Verdict::Inconclusive => verdict.as_str().to_uppercase(),
        Verdict::Pass | Verdict::Skipped | Verdict::Lacking => verdict.as_str().to_owned(),
    }
}
