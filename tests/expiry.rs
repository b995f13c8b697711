//! What is no longer promised goes, and what is locked stays: on a real server whose lifecycle takes ten seconds for a day.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use stonekeep_engine::{context::SystemClock, lifecycle::GRACE_DAYS};
use stonekeep_format::Clock as _;

use crate::harness::{Database, Installation, User, must, run, script};

/// How long expiry may take: class 1 is 10 s here, and one day more is as long.
const PATIENCE: Duration = Duration::from_secs(150);

/// A Ceph of the test's own.
struct Ceph {
    dir: tempfile::TempDir,
    endpoint: String,
}

impl Ceph {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let port = must(&mut Command::new(script("ports.sh"))).trim().to_owned();
        let mut command = Command::new(script("ceph.sh"));
        command.arg("up").arg(dir.path().join("ceph")).arg(&port);
        must(command.env("CEPH_RGW_EXTRA", "rgw lc debug interval = 10"));
        Self { dir, endpoint: format!("http://127.0.0.1:{port}") }
    }

    /// Has the server work its lifecycle rules off.
    fn process_lifecycle(&self) {
        let config = self.dir.path().join("ceph/ceph.conf");
        let mut command = Command::new("radosgw-admin");
        command.args(["-n", "client.rgw", "lc", "process"]).env("CEPH_CONF", config);
        drop(run(&mut command));
    }
}

impl Drop for Ceph {
    fn drop(&mut self) {
        drop(run(Command::new(script("ceph.sh")).arg("down").arg(self.dir.path().join("ceph"))));
    }
}

/// Takes the 30 days that versions stay after their locks out of the rules that `init` has set.
fn without_grace(installation: &Installation) {
    let (status, rules) = installation.s3(User::Owner, "GET", "?lifecycle=", &[], "");
    assert_eq!(status, 200, "{rules}");
    let mut parts = rules.split("<Days>");
    let mut shorter = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (days, rest) = part.split_once('<').expect("an end");
        let days: u32 = days.parse().expect("a number");
        shorter.push_str(&format!("<Days>{}<{rest}", days.checked_sub(GRACE_DAYS).unwrap_or(days)));
    }
    installation.write("rules.xml", &shorter);
    let digest = "openssl md5 -binary rules.xml | base64";
    let digest = must(Command::new("sh").args(["-c", digest]).current_dir(installation.path(".")));
    let digest = format!("Content-MD5: {}", digest.trim());
    let (status, answer) = installation.s3(User::Owner, "PUT", "?lifecycle=", &[&digest], &shorter);
    assert!(status < 300, "{status} {answer}");
}

fn put_locked(installation: &Installation, key: &str, length: TimeDelta) {
    let until = (SystemClock.now() + length).with_timezone(&Utc).format("%Y-%m-%dT%H:%M:%SZ");
    let lock = [
        "x-amz-object-lock-mode: COMPLIANCE".to_owned(),
        format!("x-amz-object-lock-retain-until-date: {until}"),
        // Of the four bytes `data`.
        "Content-MD5: jXd/OF09/siBXSD3SWAm3A==".to_owned(),
    ];
    let headers: Vec<&str> = lock.iter().map(String::as_str).collect();
    let (status, answer) = installation.s3(User::Owner, "PUT", key, &headers, "data");
    assert!(status < 300, "{status} {answer}");
}

#[test]
fn what_is_no_longer_locked_expires_and_what_is_locked_stays() {
    let ceph = Ceph::start();
    let source = Database::create("expiry", "CREATE TABLE t (a int)");
    let installation = Installation::prepare_at(&source, ceph.endpoint.clone());
    assert!(installation.init().status.success(), "a repository, with its lifecycle rules");
    without_grace(&installation);
    put_locked(&installation, "/stonekeep/segments/1/ended", TimeDelta::seconds(5));
    put_locked(&installation, "/stonekeep/segments/1/locked", TimeDelta::days(1));
    let has = |name: &str| {
        installation.versions().iter().any(|(key, _)| key == &format!("stonekeep/{name}"))
    };
    assert!(has("segments/1/ended") && has("segments/1/locked") && has("genesis/1"));
    let begun_at = Instant::now();
    while has("segments/1/ended") {
        assert!(begun_at.elapsed() < PATIENCE, "nothing expires");
        ceph.process_lifecycle();
        std::thread::sleep(Duration::from_secs(1));
    }
    assert!(has("segments/1/locked"), "a lock is stronger than a rule");
    assert!(has("genesis/1"), "a genesis has no rule");
}
