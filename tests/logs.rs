//! What the daemon's log looks like to a program that reads it.

use serde_json::Value;

use crate::harness::{Database, Installation, run};

const SCRIPT: &str = "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)";

/// The lines that the daemon writes where nobody sits.
fn lines(installation: &Installation, args: &[&str], filter: &str) -> Vec<Value> {
    let mut daemon = installation.daemon(args);
    let output = run(daemon.env_remove("STONEKEEP_LOG_FORMAT").env("STONEKEEP_LOG", filter));
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    text.lines().map(parse).collect()
}

fn has(lines: &[Value], event: &str) -> bool {
    lines.iter().any(|line| line["event"] == event)
}

#[test]
fn every_line_says_when_how_bad_and_what() {
    let source = Database::create("logs", SCRIPT);
    let installation = Installation::create(&source);
    let all = lines(&installation, &["backup"], "trace");
    for line in &all {
        let at = line["at"].as_str().expect("a time");
        assert!(at.parse::<chrono::DateTime<chrono::Utc>>().is_ok() && at.ends_with('Z'), "{line}");
        assert!(["error", "warn", "info", "debug"].contains(&line["level"].as_str().expect("one")));
        let event = line["event"].as_str().expect("a name");
        assert!(event.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
        assert!(event != "log" || line["target"].is_string(), "{line}");
        assert!(event == "log" || line["label"] == "bookings", "{line}");
    }
    for event in ["phase", "segment_put", "committed", "log"] {
        assert!(has(&all, event), "{event}");
    }
    let kept = lines(&installation, &["backup"], "info");
    assert!(has(&kept, "committed") && !has(&kept, "segment_reused"), "{kept:?}");
    // --json is asked for by a program, which gets everything.
    assert!(has(&lines(&installation, &["backup", "--json"], "error"), "segment_reused"));

    installation.configure(|text| text.replace(&format!("/{}\"", source.name), "/nowhere\""));
    let failed = lines(&installation, &["backup"], "info");
    let error = failed.iter().find(|line| line["event"] == "error").expect("an error");
    assert_eq!((&error["level"], &error["label"]), (&"error".into(), &"bookings".into()));
    assert_eq!((&error["kind"], &error["exit_code"]), (&"config".into(), &78.into()));
    assert!(error["message"].as_str().is_some_and(|text| text.contains("nowhere")), "{error}");
    let mut daemon = installation.daemon(&["check"]);
    let output = run(daemon.env("STONEKEEP_LOG_FORMAT", "xml"));
    assert_eq!(output.status.code(), Some(78));
}
