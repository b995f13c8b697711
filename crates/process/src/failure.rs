//! What went wrong, said once, and the exit code that goes with it.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;
use stonekeep_engine::context::SystemClock;
use stonekeep_format::{Clock as _, ErrorKind};

use crate::{
    lines::{self, About, Level},
    output,
};

/// A failure as `--json` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureReport {
    /// The error and its sources, on one line.
    pub message: String,
    /// What to do about it, as one word.
    pub kind: &'static str,
    /// The exit code of that kind.
    pub exit_code: u8,
}

impl FailureReport {
    /// Describes `error`, which is of `kind`.
    #[must_use]
    pub fn new(error: &dyn Error, kind: ErrorKind) -> Self {
        Self { message: chain(error), kind: name(kind), exit_code: kind.exit_code() }
    }
}

/// A failure as a line of JSON tells it.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename = "error")]
struct Line<'r> {
    #[serde(flatten)]
    report: &'r FailureReport,
    hint: &'static str,
}

/// Prints `error` on stderr: a JSON line with `json`, else a line that begins with the program's name, and a hint.
pub fn print(program: &str, error: &dyn Error, kind: ErrorKind, about: About<'_>, json: bool) {
    let report = FailureReport::new(error, kind);
    if json {
        let line = Line { report: &report, hint: hint(kind) };
        return lines::write(SystemClock.now(), Level::Error, about, &line);
    }
    // Nobody can be told that stderr is gone.
    let _gone =
        writeln!(io::stderr().lock(), "{program}: error: {}\nhint: {}", report.message, hint(kind));
}

/// Ends the process's work with `error`: prints it, with `json` also as the document on stdout, and returns the exit code.
#[must_use]
pub fn end(program: &str, error: &dyn Error, kind: ErrorKind, json: bool) -> ExitCode {
    print(program, error, kind, About::default(), json);
    if json {
        document(error, kind);
    }
    ExitCode::from(kind.exit_code())
}

/// Writes `error` as the document on stdout.
pub fn document(error: &dyn Error, kind: ErrorKind) {
    #[derive(Serialize)]
    struct Document {
        error: FailureReport,
    }
    let _gone = output::document(&Document { error: FailureReport::new(error, kind) });
}

/// Prints clap's own message. Its exit code for wrong usage is 2; ours is 64.
#[must_use]
pub fn usage(error: &clap::Error) -> ExitCode {
    let _gone = error.print();
    if error.use_stderr() {
        ExitCode::from(ErrorKind::Usage.exit_code())
    } else {
        ExitCode::SUCCESS
    }
}

/// Joins an error and its sources with colons, on one line. A source that only repeats what was said is left out.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let fragment = source.to_string();
        if !text.ends_with(&fragment) {
            text = format!("{text}: {fragment}");
        }
        next = source.source();
    }
    output::printable(&text)
}

/// Returns the kind as one word.
#[must_use]
pub const fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Usage => "usage",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Unreachable => "unreachable",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Denied => "denied",
        ErrorKind::Config => "config",
        _ => "internal",
    }
}

/// Returns what to do about a failure of this kind, in one line.
#[must_use]
pub const fn hint(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Usage => "--help tells what there is",
        ErrorKind::Corrupt => {
            "do not wait: something is damaged, foreign or not trusted; `stonekeep list` shows what is good"
        }
        ErrorKind::Unreachable => {
            "no server answered there: check address, port, firewall and name service"
        }
        ErrorKind::Conflict => "something is in the way; nothing was overwritten",
        ErrorKind::Unavailable => "try again later; the same call may succeed",
        ErrorKind::Denied => "check password, access key, rights and identity",
        ErrorKind::Config => "correct the configuration, or make what it names",
        _ => "this is a bug: please report it with the lines above",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let source =
            texts.get(1..).filter(|rest| !rest.is_empty()).map(|rest| Box::new(layers(rest)));
        Layer { text: texts[0], source }
    }

    #[test]
    fn a_chain_is_one_line_and_says_nothing_twice() {
        assert_eq!(chain(&layers(&["cannot a", "cannot b", "no"])), "cannot a: cannot b: no");
        assert_eq!(chain(&layers(&["cannot a: no", "no"])), "cannot a: no");
        assert_eq!(chain(&layers(&["x\n\u{1b}[2Jy"])), "x  [2Jy");
    }

    #[test]
    fn a_failure_as_json_has_kind_and_code() {
        let report = FailureReport::new(&layers(&["cannot"]), ErrorKind::Denied);
        let json = serde_json::to_value(report).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({ "message": "cannot", "kind": "denied", "exit_code": 77 })
        );
    }

    #[test]
    fn a_failure_as_a_line_is_an_event_like_others() {
        let report = FailureReport::new(&layers(&["cannot"]), ErrorKind::Denied);
        let said = Line { report: &report, hint: hint(ErrorKind::Denied) };
        let at = "2026-11-21T00:00:00Z".parse().expect("a date");
        let about = About { label: None, repository: Some("vault") };
        let line = lines::line(at, Level::Error, about, &said).expect("JSON");
        assert_eq!(
            line,
            r#"{"at":"2026-11-21T00:00:00Z","level":"error","repository":"vault","event":"error","message":"cannot","kind":"denied","exit_code":77,"hint":"check password, access key, rights and identity"}"#
        );
    }

    #[test]
    fn help_is_success_and_wrong_usage_is_64() {
        let command = || clap::Command::new("x").arg(clap::Arg::new("needed").required(true));
        let error = |args: &[&str]| command().try_get_matches_from(args).expect_err("ends");
        // An ExitCode cannot be compared but by what it prints.
        assert_eq!(
            format!("{:?}", usage(&error(&["x", "--help"]))),
            format!("{:?}", ExitCode::SUCCESS)
        );
        assert_eq!(format!("{:?}", usage(&error(&["x"]))), format!("{:?}", ExitCode::from(64)));
    }
}
