//! Unchanged data is stored once, and a run that breaks is gone on with.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use serde_json::Value;

use crate::harness::{Database, Installation, is_slow, must, run};

/// Text that does not compress to nothing, 100 bytes in each row of `ROWS`, and small tables beside it.
const SCRIPT: &str = "\
CREATE TABLE big (id int PRIMARY KEY, a text, n int DEFAULT 0);
INSERT INTO big SELECT i, md5(i::text) || md5((i + 1)::text), 0 FROM generate_series(1, ROWS) i;
CREATE TABLE small (id serial, name text);
INSERT INTO small (name) SELECT 'name ' || i FROM generate_series(1, 100) i;
SELECT lo_from_bytea(4711, decode(repeat(md5('x'), 10000), 'hex'));
VACUUM FREEZE";

/// Every byte under the prefixes of a snapshot's objects, by the owner's own listing.
fn stored_bytes(installation: &Installation) -> u64 {
    installation.sizes().iter().sum()
}

#[test]
fn a_second_snapshot_stores_what_has_changed() {
    // A gigabyte with `./test --slow`; a tenth of it has slices of a tenth of the table, so one change weighs more.
    let (rows, share_max) = if is_slow() { (9_000_000, 20) } else { (1_000_000, 5) };
    let source = Database::create("unchanged", &SCRIPT.replace("ROWS", &rows.to_string()));
    let installation = Installation::create(&source);
    let empty = stored_bytes(&installation);
    installation.backup();
    let first = stored_bytes(&installation) - empty;
    let added = |what: &str, change: &str| {
        for statement in change.split(';').filter(|statement| !statement.trim().is_empty()) {
            source.query(statement);
        }
        let before = stored_bytes(&installation);
        installation.backup();
        let added = stored_bytes(&installation) - before;
        // Printed for whoever asks what reuse is worth.
        println!("{what}: {added} of {first} bytes, {:.3} %", added as f64 * 100.0 / first as f64);
        added
    };
    assert!(added("nothing changed", "") * 1000 <= first);
    assert!(added("VACUUM and ANALYZE", "VACUUM big; ANALYZE") * 1000 <= first);
    assert!(added("a sequence", "SELECT nextval('small_id_seq')") * 1000 <= first);
    let table = "CREATE TABLE added (a int); INSERT INTO added SELECT generate_series(1, 1000)";
    assert!(added("a table is added", table) * 1000 <= first);
    let middle = rows / 2;
    let one_percent =
        format!("UPDATE big SET n = 1 WHERE id BETWEEN {middle} AND {}", middle + rows / 100);
    assert!(added("1 % of the rows, in one place", &one_percent) * share_max <= first);
    let target = Database::to_restore("unchanged");
    installation.restore(&target);
    assert_eq!(source.rows(), target.rows());
    assert_eq!(source.sequences(), target.sequences());
}

#[test]
fn what_a_killed_run_has_recorded_is_not_stored_again() {
    // Some 70 slices, which compress well: a record is written after 32.
    let script = "CREATE TABLE big (a int, b text); \
        INSERT INTO big SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 800000) i; VACUUM FREEZE";
    let source = Database::create("killed", script);
    let installation = Installation::create(&source);
    let mut daemon = installation.daemon(&["backup", "--json"]);
    let mut daemon = daemon.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let events = BufReader::new(daemon.stderr.take().expect("a pipe"));
    let puts = |line: &String| line.contains("\"segment_put\"");
    let half = events.lines().map_while(Result::ok).filter(puts).take(48).count();
    daemon.kill().expect("killed");
    daemon.wait().expect("reaped");
    assert_eq!(half, 48, "it ended before it could be killed");
    let keys = || -> Vec<String> {
        let versions = installation.versions().into_iter().map(|(key, _)| key);
        versions.filter(|key| key.contains("/segments/")).collect()
    };
    let stored = keys();
    assert!(installation.versions().iter().any(|(key, _)| key.contains("/attempts/")));
    assert!(!installation.versions().iter().any(|(key, _)| key.contains("/manifests/")));
    installation.backup();
    // An id that is stored twice is content that was stored again.
    let id = |key: &String| key.rsplit('/').next().map(|name| name[..64].to_owned());
    let ids: Vec<_> = keys().iter().filter_map(id).collect();
    let again =
        stored.iter().filter_map(id).filter(|id| ids.iter().filter(|each| *each == id).count() > 1);
    let again = again.count();
    println!("{again} of {} segments were stored again", stored.len());
    assert!(stored.len() >= 48 && stored.len() - again >= 32, "{again} of {}", stored.len());
    let target = Database::to_restore("killed");
    installation.restore(&target);
    assert_eq!(source.rows(), target.rows());
}

#[test]
fn a_repository_that_fails_takes_no_other_with_it() {
    let source = Database::create("twice", "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)");
    let installation = Installation::create(&source);
    installation.configure(|text| {
        let begin = text.find("[[repository]]").expect("a repository");
        let end = text.find("[[tier]]").expect("a tier");
        let second = text[begin..end]
            .replace(&installation.bucket, "no-such-bucket")
            .replace("\"vault\"", "\"second\"");
        let metrics = installation.path("metrics.prom");
        format!("metrics_file = {metrics:?}\n{}{second}{}", &text[..end], &text[end..])
    });
    let output = run(&mut installation.daemon(&["backup", "--json"]));
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(78), "{document}");
    let of = |name: &str| {
        let all = document["databases"].as_array().expect("a list");
        all.iter().find(|each| each["repository"] == name).expect("it is told").clone()
    };
    assert!(of("second")["error"].is_object() && of("vault")["snapshot"].is_object(), "{document}");
    let metrics = std::fs::read_to_string(installation.path("metrics.prom")).expect("written");
    let of = |repository| format!("{{database=\"bookings\",repository=\"{repository}\"}}");
    for (name, repository, value) in [
        ("stonekeep_backup_success", "second", " 0"),
        ("stonekeep_backup_success", "vault", " 1"),
        ("stonekeep_snapshot_rows", "vault", " 2"),
        ("stonekeep_snapshot_put_bytes", "vault", " "),
        ("stonekeep_snapshot_committed_timestamp_seconds", "vault", " 1"),
    ] {
        let line = format!("\n{name}{}{value}", of(repository));
        assert!(metrics.contains(&line), "{line:?} is not in: {metrics}");
    }
    assert!(!metrics.contains(&format!("stonekeep_snapshot_rows{}", of("second"))), "{metrics}");
    installation.restore(&Database::to_restore("twice"));
}

#[test]
fn one_reading_fills_two_repositories() {
    let source = Database::create("both", "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)");
    let installation = Installation::create(&source);
    let second = format!("{}-2", installation.bucket);
    installation.configure(|text| {
        let begin = text.find("[[repository]]").expect("a repository");
        let end = text.find("[[tier]]").expect("a tier");
        let other = text[begin..end]
            .replace(&installation.bucket, &second)
            .replace("\"vault\"", "\"second\"");
        format!("{}{other}{}", &text[..end], &text[end..])
    });
    // The readers' file names both repositories now, which the one that is there does not.
    std::fs::remove_file(installation.path("stonekeep.toml")).expect("removed");
    must(&mut installation.init_of("second"));
    installation.backup();
    for name in ["vault", "second"] {
        let listed = must(&mut installation.reader(&["--repository", name, "list", "--json"]));
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1), "{listed}");
        let target = Database::to_restore(&format!("both_{name}"));
        must(&mut installation.reader(&[
            "--repository",
            name,
            "restore",
            "latest",
            "--identity",
            "identity1",
            "--target",
            &target.url,
        ]));
        assert_eq!(target.query("SELECT sum(a) FROM t").trim(), "3");
    }
}

#[test]
fn content_that_is_named_twice_comes_back_every_way() {
    let script = "CREATE TABLE a AS SELECT i, md5(i::text) AS t FROM generate_series(1, 50000) i; \
        CREATE TABLE b AS SELECT * FROM a; VACUUM FREEZE";
    let source = Database::create("twins", script);
    let installation = Installation::create(&source);
    // Stored side by side it may be stored twice; the next snapshot names one of the two for both tables.
    installation.backup();
    installation.backup();
    must(&mut installation.reader(&["verify", "latest", "--read-data"]));
    let target = Database::to_restore("twins");
    installation.restore(&target);
    assert_eq!(source.rows(), target.rows());
    let identity = ["--identity", "identity1"];
    must(installation.reader(&["fetch", "latest", "--out", "plain"]).args(identity));
    must(&mut installation.reader(&["fetch", "latest", "--out", "sealed", "--sealed"]));
    let (plain, copy) = (installation.path("plain"), installation.path("sealed"));
    let files = std::fs::read_dir(plain).expect("a directory").flatten();
    let tables = files.filter(|file| file.file_name().to_string_lossy().starts_with('t'));
    assert_eq!(
        tables.filter(|file| file.path().extension().is_some_and(|e| e == "dat")).count(),
        3
    );
    let signers = installation.path("allowed_signers");
    let config = format!(
        "allowed_signers_file = {:?}\ndirectory = {:?}\n",
        signers.display(),
        copy.display()
    );
    installation.write("copy.toml", &config.replace('\'', "\""));
    let target = Database::to_restore("twins_copy");
    let mut restore = installation.reader(&["restore", "latest", "--target", &target.url]);
    must(restore.args(identity).args(["--config", "copy.toml"]));
    assert_eq!(source.rows(), target.rows());
}
