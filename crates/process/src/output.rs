//! Standard output: results and nothing else. A reader that has seen enough (`| head -1`) is no failure.

use std::io::{self, Write};

use serde::Serialize;

/// Writes a result: as one JSON document, or as the lines that `text` makes of it.
///
/// # Errors
/// As [`line()`].
pub fn result(
    json: bool,
    report: &impl Serialize,
    text: impl FnOnce() -> Vec<String>,
) -> io::Result<()> {
    if json { document(report) } else { text().iter().try_for_each(|text| line(text)) }
}

/// Writes one line.
///
/// # Errors
/// The operating system's, but not a closed pipe.
pub fn line(text: &str) -> io::Result<()> {
    written(writeln!(io::stdout().lock(), "{}", printable(text)))
}

/// Writes one JSON document, indented.
///
/// # Errors
/// As [`line()`].
pub fn document(document: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    written(writeln!(io::stdout().lock(), "{text}"))
}

fn written(outcome: io::Result<()>) -> io::Result<()> {
    outcome.or_else(
        |error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) },
    )
}

/// Returns `text` without control characters: names and messages come from servers and may be made to confuse a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns bytes as people read them: `812 B`, `1.5 MiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = None;
    // Tenths, so that no float is needed: a u64 of bytes times ten fits in a u128.
    let mut tenths = u128::from(bytes) * 10;
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = Some(next);
    }
    match unit {
        None => format!("{bytes} B"),
        Some(unit) => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_600_000, "1.5 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
        assert!(written(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(written(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
