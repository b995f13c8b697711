//! Who may sign and who can open changes by the owner key alone, and a fingerprint is enough to read.

use std::{fs, process::Command};

use crate::harness::{Database, Installation, User, must, run, said};

const SCRIPT: &str = "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 100)";

fn rotate(installation: &Installation, key: &str, user: User) -> Command {
    let mut rotate = installation.reader(&["rotate", "--daemon-config"]);
    rotate.arg(installation.path("stonekeepd.toml"));
    rotate.arg("--owner-key").arg(installation.path(key));
    let (id, secret) = user.keys();
    rotate.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
    rotate
}

fn key(installation: &Installation, name: &str) {
    for part in [name.to_owned(), format!("{name}.pub")] {
        drop(fs::remove_file(installation.path(&part)));
    }
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]);
    must(keygen.arg(installation.path(name)));
}

fn listed(installation: &Installation) -> usize {
    let listed = must(&mut installation.reader(&["list", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("one JSON document");
    assert_eq!(listed["planted"].as_array().map(Vec::len), Some(0), "{listed}");
    listed["snapshots"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_new_signer_takes_the_owner_and_the_old_snapshots_stay_believed() {
    let source = Database::create("rotated", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    key(&installation, "signer");
    let stranger = run(&mut installation.daemon(&["backup"]));
    assert_eq!(stranger.status.code(), Some(78), "{}", said(&stranger));
    // Root on the daemon's host has the signer and the writer's credential.
    let root = run(&mut rotate(&installation, "signer", User::Writer));
    assert_ne!(root.status.code(), Some(0));
    let forged = run(&mut rotate(&installation, "signer", User::Owner));
    assert_ne!(forged.status.code(), Some(0), "even past the bucket's rights");
    let told = must(&mut rotate(&installation, "owner", User::Owner));
    assert!(told.contains("genesis/2") && told.contains("may sign no longer"), "{told}");
    installation.backup();
    assert_eq!(listed(&installation), 2);
    must(&mut installation.reader(&["verify", "latest", "--read-data"]));
    let again = run(&mut rotate(&installation, "owner", User::Owner));
    assert_eq!(again.status.code(), Some(73), "{}", said(&again));
    let restored = Database::to_restore("rotated_back");
    installation.restore(&restored);
    assert_eq!(source.rows(), restored.rows());
}

#[test]
fn new_recipients_take_the_owner_and_new_snapshots_are_for_them() {
    let source = Database::create("reopened", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    fs::rename(installation.path("stranger"), installation.path("identity2")).expect("moved");
    installation.configure(|text| text);
    let refused = run(&mut installation.daemon(&["backup"]));
    assert_eq!(refused.status.code(), Some(78), "{}", said(&refused));
    must(&mut rotate(&installation, "owner", User::Owner));
    installation.backup();
    assert_eq!(listed(&installation), 2);
    let (restored, identity) =
        (Database::to_restore("reopened_back"), installation.path("identity2"));
    let mut restore = installation.reader(&["restore", "latest", "--target", &restored.url]);
    must(restore.arg("--identity").arg(identity));
    assert_eq!(source.rows(), restored.rows());
}

#[test]
fn a_bucket_and_a_fingerprint_are_enough_to_read() {
    let source = Database::create("bare", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let said_of =
        must(Command::new("ssh-keygen").args(["-l", "-f"]).arg(installation.path("owner.pub")));
    let fingerprint = said_of.split(' ').nth(1).expect("SHA256:…");
    let bare = |args: &[&str]| {
        let mut bare = installation.bare(args);
        let (id, secret) = User::Reader.keys();
        bare.args(["--prefix", "stonekeep"]);
        bare.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret);
        bare
    };
    must(&mut bare(&["--owner", fingerprint, "verify", "latest"]));
    let restored = Database::to_restore("bare_back");
    let identity = installation.path("identity1");
    let mut restore =
        bare(&["--owner", fingerprint, "restore", "latest", "--target", &restored.url]);
    must(restore.arg("--identity").arg(identity));
    assert_eq!(source.rows(), restored.rows());
    let signer =
        must(Command::new("ssh-keygen").args(["-l", "-f"]).arg(installation.path("signer.pub")));
    let other = signer.split(' ').nth(1).expect("SHA256:…");
    assert_eq!(run(&mut bare(&["--owner", other, "list"])).status.code(), Some(65));
    assert_eq!(run(&mut bare(&["list"])).status.code(), Some(64));
    assert_eq!(run(&mut bare(&["--owner", "SHA256:x", "list"])).status.code(), Some(64));
}
