//! A person keeps the last snapshots of a dead daemon: with the provisioner's credential, on a real server.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Database, Installation, User, must, run, said};

const SCRIPT: &str = "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i";

fn extend(installation: &Installation, user: User, args: &[&str]) -> Command {
    let mut command = installation.reader(&[&["extend"], args].concat());
    let (id, secret) = user.keys();
    command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
    command
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Until when the objects are locked, by the server's own answer. What `prove` put is no part of a snapshot.
fn locked_until(installation: &Installation) -> Vec<(String, String)> {
    let versions = installation.versions().into_iter();
    let versions = versions.filter(|(key, _)| !key.contains("/canary/"));
    let of_version = |(key, version): (String, String)| {
        let path = format!("/{key}?retention=&versionId={version}");
        let (status, xml) = installation.s3(User::Owner, "GET", &path, &[], "");
        assert_eq!(status, 200, "{xml}");
        let (_, rest) = xml.split_once("<RetainUntilDate>").expect("a lock");
        (key, rest.split_once('T').expect("a date").0.to_owned())
    };
    versions.map(of_version).collect()
}

#[test]
fn the_newest_snapshot_is_locked_for_longer_and_once_is_enough() {
    let source = Database::create("extend", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let before = locked_until(&installation);
    // A week is kept; the repository's cap is three.
    let first = must(&mut extend(&installation, User::Owner, &["--for", "20d"]));
    assert!(
        first.contains("is locked at least until") && first.contains("stays as it was signed"),
        "{first}"
    );
    let after = locked_until(&installation);
    let until = after.iter().map(|(_, date)| date).min().expect("objects");
    assert!(before.iter().any(|(_, date)| date < until), "{before:?} {after:?}");
    assert!(after.iter().zip(&before).all(|((_, after), (_, before))| after >= before));
    // The genesis is locked for longer already, and the other objects now are.
    let second =
        run(&mut extend(&installation, User::Owner, &["latest", "--for", "20d", "--json"]));
    let second = json(&second);
    assert_eq!(second["objects"]["prolonged"], 0, "{second}");
    assert_eq!(second["objects"]["left_alone"], before.len(), "{second}");
    must(&mut installation.reader(&["verify", "latest", "--read-data"]));
}

#[test]
fn a_readers_credential_and_too_long_a_time_are_refused() {
    let source = Database::create("extend_refused", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let before = locked_until(&installation);
    let denied = run(&mut extend(&installation, User::Reader, &["--for", "20d"]));
    assert_eq!(denied.status.code(), Some(77), "{}", said(&denied));
    let told = String::from_utf8_lossy(&denied.stdout).into_owned();
    assert!(told.contains("FAILED") && told.contains("s3:PutObjectRetention"), "{told}");
    let long = run(&mut extend(&installation, User::Owner, &["--for", "30d"]));
    assert_eq!(long.status.code(), Some(64), "{}", said(&long));
    assert!(said(&long).contains("cap of 21 days"), "{}", said(&long));
    assert_eq!(locked_until(&installation), before);
}

#[test]
fn where_buckets_name_the_locks_a_writer_cannot_prolong_and_a_provisioner_can() {
    let source = Database::create("extend_tiered", SCRIPT);
    let installation = crate::tier_buckets::installation(&source);
    must(&mut installation.init_of("vault"));
    installation.backup();
    installation.backup();
    let denied = run(&mut extend(&installation, User::Writer, &["--for", "60d"]));
    assert_eq!(denied.status.code(), Some(77), "{}", said(&denied));
    let done = run(&mut extend(&installation, User::Owner, &["--for", "66d", "--json"]));
    let report = json(&done);
    assert_eq!((done.status.code(), &report["objects"]["failed"]), (Some(0), &Value::from(0)));
    assert!(report["objects"]["prolonged"].as_u64() > Some(0), "{report}");
}

#[test]
fn whoever_knows_the_bucket_and_the_owner_alone_can_prolong_where_buckets_name_the_locks() {
    let source = Database::create("extend_bare", SCRIPT);
    let installation = crate::tier_buckets::installation(&source);
    must(&mut installation.init_of("vault"));
    installation.backup();
    let printed =
        must(Command::new("ssh-keygen").args(["-l", "-f"]).arg(installation.path("owner.pub")));
    let fingerprint = printed.split(' ').nth(1).expect("SHA256:…");
    let extend = ["--prefix", "stonekeep", "--owner", fingerprint, "extend", "--for", "66d"];
    let (id, secret) = User::Owner.keys();
    let mut bare = installation.bare(&[&extend[..], &["--json"]].concat());
    let done = run(bare.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret));
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    let report = json(&done);
    assert_eq!(report["objects"]["failed"], 0, "{report}");
    assert!(report["objects"]["prolonged"].as_u64() > Some(0), "{report}");
}
