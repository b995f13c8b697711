//! What breaks on the way leaves no snapshot, a non-zero exit and a message; what changes on the way is consistent or loud.

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use stonekeep_engine::context::SystemClock;
use stonekeep_format::Clock as _;

use crate::{
    harness::{Database, Installation, must, run, said, server},
    proxy::{self, Answer, Fate},
};

/// Some 90 MB, so that a COPY takes long enough to be caught.
const LARGE: &str = "CREATE TABLE big (a int, b text); INSERT INTO big SELECT i, repeat(md5(i::text), 12) FROM generate_series(1, 200000) i";
const SMALL: &str = "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i";
/// How long a fault may be waited for.
const PATIENCE: Duration = Duration::from_secs(60);

fn manifests(installation: &Installation) -> usize {
    installation.versions().iter().filter(|(key, _)| key.contains("/manifests/")).count()
}

fn start(installation: &Installation) -> Child {
    let mut daemon = installation.daemon(&["backup"]);
    daemon
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs")
}

#[test]
fn a_connection_that_dies_in_a_copy_makes_no_snapshot() {
    let source = Database::create("dies", LARGE);
    let installation = Installation::create(&source);
    let mut daemon = start(&installation);
    let begun = Instant::now();
    let kill = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'stonekeep' AND query LIKE 'COPY (SELECT%'",
        source.name
    );
    while source.admin(&kill).trim() == "0" {
        assert!(
            daemon.try_wait().expect("waited").is_none(),
            "the backup ended before it was broken"
        );
        assert!(begun.elapsed() < PATIENCE, "no COPY was seen");
    }
    let output = daemon.wait_with_output().expect("it ends");
    assert!(!output.status.success());
    assert!(said(&output).contains("cannot read database"), "{}", said(&output));
    assert_eq!(manifests(&installation), 0);
    // The next run is not hindered by what the broken one left.
    installation.backup();
    assert_eq!(manifests(&installation), 1);
}

#[test]
fn an_interrupt_ends_the_backup_without_a_snapshot() {
    let source = Database::create("interrupted", LARGE);
    let installation = Installation::create(&source);
    let daemon = start(&installation);
    let begun = Instant::now();
    let copying = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'stonekeep' AND query LIKE 'COPY (SELECT%'",
        source.name
    );
    while source.admin(&copying).trim() == "0" {
        assert!(begun.elapsed() < PATIENCE, "no COPY was seen");
    }
    must(Command::new("kill").args(["-INT", &daemon.id().to_string()]));
    let output = daemon.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert_eq!(manifests(&installation), 0);
}

#[test]
fn a_refused_put_makes_no_snapshot_and_says_so() {
    let source = Database::create("refused", SMALL);
    let installation = Installation::create(&source);
    let refuse = format!(
        r#"{{"Version":"2012-10-17","Statement":[
        {{"Effect":"Allow","Principal":{{"AWS":["arn:aws:iam:::user/writer"]}},"Action":["s3:GetObject","s3:GetObjectVersion","s3:GetObjectRetention","s3:ListBucketVersions","s3:GetBucketVersioning","s3:GetBucketObjectLockConfiguration"],"Resource":["arn:aws:s3:::{0}","arn:aws:s3:::{0}/*"]}},
        {{"Effect":"Deny","Principal":{{"AWS":["arn:aws:iam:::user/writer"]}},"Action":["s3:PutObject"],"Resource":["arn:aws:s3:::{0}/stonekeep/segments/*"]}}]}}"#,
        installation.bucket
    );
    installation.put_policy(&refuse);
    let output = run(&mut installation.daemon(&["backup"]));
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
    assert!(said(&output).contains("store a segment"), "{}", said(&output));
    assert_eq!(manifests(&installation), 0);
}

/// Sends the daemon's requests through a proxy; the test's own go to the server.
fn through(installation: &Installation, proxy: &str) {
    let direct = server("STONEKEEP_TEST_S3_ENDPOINT");
    installation.configure(|text| text.replace(&direct, proxy));
}

/// Whether a request has this method and is about an object of this kind.
fn is(line: &str, method: &str, kind: &str) -> bool {
    line.starts_with(method) && line.contains(&format!("/stonekeep/{kind}/"))
}

/// Gives the first `count` requests of a kind this fate, and returns how many there were, too.
fn first(
    count: usize,
    method: &'static str,
    kind: &'static str,
    fate: fn() -> Fate,
) -> (Arc<AtomicUsize>, impl Fn(&str) -> Fate + Send + Sync + 'static) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let decide = move |line: &str| {
        let is_one = is(line, method, kind) && counter.fetch_add(1, Ordering::Relaxed) < count;
        if is_one { fate() } else { Fate::Served }
    };
    (seen, decide)
}

/// A lock that ends in an hour, whatever the server said.
fn shortened(answer: Answer) -> Answer {
    let text = String::from_utf8_lossy(&answer.body);
    let ends = text.split_once("<RetainUntilDate>");
    let Some((head, rest)) = ends else { return answer };
    let (_, tail) = rest.split_once('<').expect("a closing tag");
    let soon = (SystemClock.now() + chrono::TimeDelta::hours(1)).to_rfc3339();
    let body = format!("{head}<RetainUntilDate>{soon}<{tail}").into_bytes();
    Answer { body, ..answer }
}

#[test]
fn a_lock_that_reads_back_short_makes_no_snapshot() {
    let source = Database::create("short", SMALL);
    let installation = Installation::create(&source);
    // The server keeps the lock, and tells of segments another one.
    through(
        &installation,
        &proxy::start(|line| {
            let asked = is(line, "GET", "segments") && line.contains("?retention");
            if asked { Fate::Retold(shortened) } else { Fate::Served }
        }),
    );
    let output = run(&mut installation.daemon(&["backup"]));
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    for words in ["did not keep the lock of segments/", "asked for COMPLIANCE until", "hint: "] {
        assert!(said(&output).contains(words), "{words:?} is not in: {}", said(&output));
    }
    assert_eq!(manifests(&installation), 0);
}

#[test]
fn a_segment_that_is_cut_off_on_its_way_is_stored_again() {
    let source = Database::create("torn", SMALL);
    let installation = Installation::create(&source);
    let (seen, torn) = first(3, "PUT", "segments", || Fate::Torn);
    through(&installation, &proxy::start(torn));
    installation.backup();
    let stored = installation.versions().into_iter().filter(|(key, _)| key.contains("/segments/"));
    // The server kept nothing of what it did not get whole.
    assert_eq!(seen.load(Ordering::Relaxed), stored.count() + 3);
    installation.configure(|text| text);
    let target = Database::to_restore("torn");
    installation.restore(&target);
    assert_eq!(source.rows(), target.rows());
}

#[test]
fn a_segment_that_gets_no_answer_is_stored_again_under_another_key() {
    let source = Database::create("unanswered", SMALL);
    let installation = Installation::create(&source);
    let (_, cut) = first(2, "PUT", "segments", || Fate::Unanswered);
    through(&installation, &proxy::start(cut));
    installation.backup();
    let mut keys: Vec<String> = installation.versions().into_iter().map(|(key, _)| key).collect();
    let all = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), all, "no key has two versions");
    installation.configure(|text| text);
    let target = Database::to_restore("unanswered");
    installation.restore(&target);
    assert_eq!(source.rows(), target.rows());
}

#[test]
fn a_manifest_that_gets_no_answer_is_found_and_the_snapshot_is_one() {
    let source = Database::create("unheard", SMALL);
    let installation = Installation::create(&source);
    let (_, cut) = first(1, "PUT", "manifests", || Fate::Unanswered);
    through(&installation, &proxy::start(cut));
    installation.backup();
    installation.configure(|text| text);
    let listed = must(&mut installation.reader(&["list", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["planted"].as_array().map(Vec::len), Some(0), "{listed}");
    assert_eq!(manifests(&installation), 1);
}

#[test]
fn a_server_that_takes_nothing_ends_the_backup() {
    let source = Database::create("overloaded", SMALL);
    let installation = Installation::create(&source);
    let before = installation.versions();
    through(
        &installation,
        &proxy::start(|line| if line.starts_with("PUT ") { Fate::Refused } else { Fate::Served }),
    );
    // Eight tries of each, and between them 51.5 s, by chance up to twice that.
    let output = run(&mut installation.daemon(&["backup"]));
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    assert!(said(&output).contains("503 SlowDown"), "{}", said(&output));
    assert_eq!(installation.versions(), before);
}

#[test]
fn a_truncate_at_the_start_is_consistent_or_loud() {
    let source = Database::create("truncated", SMALL);
    let installation = Installation::create(&source);
    let script =
        "TRUNCATE t; INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i;";
    for round in 0..3 {
        let mut daemon = start(&installation);
        // Each statement pair is one transaction: nobody may ever see an empty table.
        while daemon.try_wait().expect("waited").is_none() {
            drop(run(Command::new("psql").args(["-X", "-q", "-c", script, &source.url])));
        }
        let output = daemon.wait_with_output().expect("it ends");
        if !output.status.success() {
            assert_eq!(output.status.code(), Some(75), "{}", said(&output));
            continue;
        }
        let target = Database::to_restore(&format!("truncated{round}"));
        installation.restore(&target);
        assert_eq!(target.query("SELECT count(*) FROM t").trim(), "1000");
    }
}

#[test]
fn a_waiting_alter_table_neither_hangs_nor_is_held_up() {
    let source = Database::create("waiting", SMALL);
    let installation = Installation::create(&source);
    // A reader holds the table, an ALTER waits behind it, and the backup comes third.
    let hold = |sql: &str| {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-c", sql, &source.url])
            .stdout(Stdio::null())
            .spawn()
            .expect("psql runs")
    };
    let mut reader = hold("BEGIN; SELECT count(*) FROM t; SELECT pg_sleep(1.5)");
    let mut alter = hold("SELECT pg_sleep(0.3); ALTER TABLE t ADD COLUMN c int DEFAULT 7");
    let output = run(&mut installation.daemon(&["backup"]));
    assert!(alter.wait().expect("reaped").success() && reader.wait().expect("reaped").success());
    assert!(output.status.success() || output.status.code() == Some(75), "{}", said(&output));
}
