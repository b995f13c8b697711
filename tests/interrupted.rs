//! A restore that is killed, and run again.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use crate::harness::{Database, Installation, must, run, said};

#[test]
fn a_restore_killed_at_half_goes_on_and_loads_no_finished_table_twice() {
    let tables: String = (0..8)
        .map(|n| format!("CREATE TABLE t{n} (id int PRIMARY KEY, pad text); INSERT INTO t{n} SELECT i, md5((i * {n})::text) || repeat('x', 60) FROM generate_series(1, 60000) i;"))
        .collect();
    let source = Database::create("halfway", &tables);
    let installation = Installation::create(&source);
    installation.backup();
    let target = Database::to_restore("halfway");
    let url = target.url.as_str();
    let restore =
        ["--json", "restore", "latest", "--identity", "identity1", "--jobs", "1", "--target", url];
    let mut child = installation
        .reader(&restore)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let events = BufReader::new(child.stderr.take().expect("piped")).lines();
    // The fifth table has begun, so four are in.
    let begun = events.map_while(Result::ok).filter(|line| line.contains("table_started")).take(5);
    assert_eq!(begun.count(), 5, "it ended before it was killed");
    child.kill().expect("killed");
    child.wait().expect("gone");
    // A part of the snapshot does not finish what the whole has begun.
    let part = [&restore[..], &["--table", "t1"]].concat();
    let output = run(&mut installation.reader(&part));
    assert_eq!(output.status.code(), Some(73), "{}", said(&output));
    let report = must(&mut installation.reader(&restore));
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let kept = report["tables_kept"].as_u64().expect("a number");
    assert!((3..8).contains(&kept), "{report}");
    assert_eq!(source.rows(), target.rows());
}
