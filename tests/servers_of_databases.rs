//! One entry of the configuration for many databases of a server.

use crate::harness::{Database, Installation, must, run, said};

#[test]
fn every_database_that_matches_gets_a_snapshot_of_its_own() {
    let first = Database::create("many", "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let (stem, _) = first.name.split_once('_').expect("many_…");
    let process = std::process::id();
    let second = Database::create("many", "CREATE TABLE t (a int); INSERT INTO t VALUES (2), (3)");
    let odd = format!("{stem}_{process}_Odd Name");
    first.admin(&format!("CREATE DATABASE \"{odd}\""));
    let scratch = Database::create("many_scratch", "CREATE TABLE t (a int)");
    let mut installation = Installation::create(&first);
    installation.database_url = first.url.replace(&first.name, "postgres");
    installation.configure(|text| {
        let databases = format!("databases = [\"{stem}_*{process}_*\", \"!*scratch*\"]\njobs = 2");
        text.replace("jobs = 2", &databases)
    });
    let report = must(&mut installation.daemon(&["--json", "backup"]));
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let labels: Vec<&str> = report["databases"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|each| each["label"].as_str().expect("a label"))
        .collect();
    assert_eq!(labels.len(), 3, "{labels:?}");
    assert!(labels.contains(&format!("bookings-{}", first.name).as_str()), "{labels:?}");
    assert!(labels.iter().any(|label| label.contains("odd-name-")), "{labels:?}");
    assert!(!labels.iter().any(|label| label.contains(&scratch.name)), "{labels:?}");

    // One of them alone, and back.
    let label = format!("bookings-{}", second.name);
    must(&mut installation.daemon(&["backup", &label]));
    let target = Database::to_restore("one_of_many");
    let latest = format!("latest:{label}");
    let restore = ["restore", &latest, "--identity", "identity1", "--target", &target.url];
    must(&mut installation.reader(&restore));
    assert_eq!(target.query("SELECT sum(a) FROM t").trim(), "5");
    let unknown = run(&mut installation.daemon(&["backup", "bookings-nothing"]));
    assert_eq!(unknown.status.code(), Some(64), "{}", said(&unknown));
    first.admin(&format!("DROP DATABASE \"{odd}\""));
}

#[test]
fn a_server_that_cannot_be_asked_fails_alone() {
    let source = Database::create("alone", "CREATE TABLE t (a int)");
    let installation = Installation::create(&source);
    installation.configure(|text| {
        let begin = text.find("[[database]]").expect("a database");
        let away = text[begin..]
            .replace("\"bookings\"", "\"away\"\ndatabases = [\"*\"]")
            .replace(&source.url, "postgres://nobody@127.0.0.1:1/postgres");
        format!("{text}{away}")
    });
    let output = run(&mut installation.daemon(&["backup"]));
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    assert!(said(&output).contains("cannot list the databases of away"), "{}", said(&output));
    must(&mut installation.reader(&["verify", "latest:bookings"]));
    must(&mut installation.daemon(&["backup", "bookings"]));
    // Whoever asks for one of its databases does not get those of others.
    let output = run(&mut installation.daemon(&["backup", "away-x"]));
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    let listed = must(&mut installation.reader(&["list", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(2), "{listed}");
}
