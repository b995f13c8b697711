//! What does not belong into a chain is named, on a real server: by `list` and by `verify`, which goes on to say what is sound.

use std::{fs, process::Command};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use stonekeep_engine::context::SystemClock;
use stonekeep_format::{Clock as _, ids::SnapshotId};

use crate::harness::{Database, Installation, User, must, run, said};

const SCRIPT: &str = "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)";

/// The manifest of the only snapshot: its key, without the prefix, and its bytes.
fn manifest(installation: &Installation) -> (String, String) {
    let shown = json_of(installation, &["show", "latest"]);
    let key = shown["manifest"]["key"].as_str().expect("a key").to_owned();
    let version = shown["version_id"].as_str().expect("a version");
    let path = format!("/stonekeep/{key}?versionId={version}");
    let (status, bytes) = installation.s3(User::Reader, "GET", &path, &[], "");
    assert_eq!(status, 200, "{bytes}");
    (key, bytes)
}

fn json_of(installation: &Installation, args: &[&str]) -> Value {
    let said = must(installation.reader(&["--json"]).args(args));
    serde_json::from_str(&said).expect("one JSON document")
}

/// The same manifest, changed, under the key that it then has, signed with one of the installation's keys by ssh-keygen.
fn forge(
    installation: &Installation,
    bytes: &str,
    signer: &str,
    change: impl FnOnce(&mut Value),
) -> (String, String) {
    let (body, _) = bytes.split_once('\n').expect("a line of JSON");
    let mut manifest: Value = serde_json::from_str(body).expect("JSON");
    change(&mut manifest);
    let text = |name: &str| manifest[name].as_str().expect("text").to_owned();
    let seq = manifest["seq"].as_u64().expect("a number");
    let key = format!("manifests/{}/{seq:010}-{}-{}", text("label"), text("chain"), text("id"));
    manifest["key"] = json!(key);
    let body = format!("{manifest}\n");
    installation.write("forged", &body);
    drop(fs::remove_file(installation.path("forged.sig")));
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-Y", "sign", "-n", "stonekeep-manifest", "-f"]);
    must(sign.arg(installation.path(signer)).arg(installation.path("forged")));
    let armour = fs::read_to_string(installation.path("forged.sig")).expect("signed");
    (key, body + &armour)
}

/// Puts as the thief of the writer's credential can; under `genesis/`, which that is kept out of, as somebody with more rights.
fn put(installation: &Installation, key: &str, bytes: &str) {
    let path = format!("/stonekeep/{key}");
    let user = if key.starts_with("genesis/") { User::Owner } else { User::Writer };
    let (status, answer) = installation.s3(user, "PUT", &path, &[], bytes);
    assert_eq!(status, 200, "{answer}");
}

/// The kinds of findings about a key.
fn kinds(listed: &Value, key: &str) -> Vec<String> {
    let findings = listed["findings"].as_array().expect("findings").iter();
    let about = findings.filter(|finding| finding["key"] == key);
    about.map(|finding| finding["kind"].as_str().expect("a kind").to_owned()).collect()
}

#[test]
fn what_does_not_belong_there_is_named_and_the_snapshot_stays_sound() {
    let source = Database::create("chained", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let clean = json_of(&installation, &["list"]);
    assert_eq!(clean["findings"], json!([]), "{clean}");
    let (key, bytes) = manifest(&installation);
    let honest = key.rsplit('-').next().expect("an id").to_owned();

    let next = SnapshotId::new(SystemClock.now(), 1).to_string();
    let (foreign, forged) = forge(&installation, &bytes, "owner", |manifest| {
        (manifest["seq"], manifest["id"]) = (json!(2), json!(next));
    });
    put(&installation, &foreign, &forged);
    let elsewhere = key.replace("/0000000001-", "/0000000009-");
    put(&installation, &elsewhere, &bytes);
    let relabelled = key.replace("/bookings/", "/orders/");
    put(&installation, &relabelled, &bytes);
    let ahead = SystemClock.now() + TimeDelta::days(30);
    let ahead_id = SnapshotId::new(ahead, 2).to_string();
    let (future, forged) = forge(&installation, &bytes, "signer", |manifest| {
        let time = |at: chrono::DateTime<Utc>| json!(at.to_rfc3339());
        (manifest["seq"], manifest["id"]) = (json!(3), json!(ahead_id));
        (manifest["started_at"], manifest["committed_at"]) = (time(ahead), time(ahead));
        let keep = manifest["keep_secs"].as_i64().expect("seconds");
        manifest["promised_until"] = time(ahead + TimeDelta::seconds(keep));
        manifest["previous"] = json!([]);
    });
    put(&installation, &future, &forged);

    let listed = json_of(&installation, &["list"]);
    assert_eq!(kinds(&listed, &foreign), ["foreign_signature"], "{listed}");
    assert_eq!(kinds(&listed, &elsewhere), ["replayed"], "{listed}");
    assert_eq!(kinds(&listed, &relabelled), ["replayed"], "{listed}");
    assert_eq!(kinds(&listed, &future), ["future"], "{listed}");
    let lines = must(&mut installation.reader(&["list"]));
    for name in ["FOREIGN SIGNATURE: version", "REPLAYED: version", "FUTURE: version"] {
        assert!(lines.contains(name), "{name:?} is not in: {lines}");
    }
    // The thief's forgeries are nothing to the snapshot; that of the signer is one of two ends of its chain.
    let shown = json_of(&installation, &["show", "latest"]);
    assert_eq!(shown["manifest"]["id"], honest.as_str());
    let restored = Database::to_restore("chained_back");
    installation.restore(&restored);
    assert_eq!(source.rows(), restored.rows());
    let verified = run(&mut installation.reader(&["verify", "latest"]));
    assert_eq!(verified.status.code(), Some(65), "{}", said(&verified));
    let lines = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(lines.contains("FORK: ") && lines.contains("is sound"), "{lines}");
    let verified = run(&mut installation.reader(&["verify", &ahead_id]));
    assert_eq!(verified.status.code(), Some(65), "{}", said(&verified));
    assert!(String::from_utf8_lossy(&verified.stdout).contains("later than it was stored"));
    // The next run follows both ends.
    installation.backup();
    let lines = must(&mut installation.reader(&["verify", "latest"]));
    assert!(lines.contains("FUTURE: ") && !lines.contains("FORK: "), "{lines}");
}

#[test]
fn a_thief_of_the_writers_credential_does_not_keep_a_snapshot_from_being_verified() {
    let source = Database::create("robbed", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let (key, bytes) = manifest(&installation);
    put(&installation, &key, "overwritten");
    put(&installation, &key.replace("/0000000001-", "/0000000002-"), &bytes);
    let (_, genesis) = installation.s3(User::Reader, "GET", "/stonekeep/genesis/1", &[], "");
    put(&installation, "genesis/2", &genesis);
    let lines = must(&mut installation.reader(&["verify", "latest", "--read-data"]));
    assert_eq!(lines.matches("REPLAYED: version").count(), 2, "{lines}");
    for words in ["OVERWRITE: version", " of genesis/2: ", "is sound"] {
        assert!(lines.contains(words), "{words:?} is not in: {lines}");
    }
}

#[test]
fn a_manifest_of_another_repository_with_the_same_signer_is_replayed() {
    let source = Database::create("twice", SCRIPT);
    let (one, other) = (Installation::create(&source), Installation::prepare(&source));
    for name in ["signer", "signer.pub"] {
        fs::copy(one.path(name), other.path(name)).expect("copied");
    }
    let output = other.init();
    assert!(output.status.success(), "init: {}", said(&output));
    one.backup();
    other.backup();
    let (key, bytes) = manifest(&one);
    put(&other, &key, &bytes);
    let listed = json_of(&other, &["list"]);
    assert_eq!(kinds(&listed, &key), ["replayed"], "{listed}");
    assert!(listed.to_string().contains("belongs to repository"), "{listed}");
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[test]
fn the_witness_shows_what_the_storage_does_not() {
    let source = Database::create("witnessed", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let reader = fs::read_to_string(installation.path("stonekeep.toml")).expect("written");
    installation.write("stonekeep.toml", &format!("witness_file = \"%r.witness\"\n{reader}"));
    // Until a watcher has written one, there is nothing to compare with.
    let listed = json_of(&installation, &["list"]);
    assert_eq!(listed["findings"], json!([]), "{listed}");
    let now = SystemClock.now();
    let lost = SnapshotId::new(now, 7).to_string();
    let seen = json!({
        "chain": listed["snapshots"][0]["chain"], "seq": 2, "id": lost, "digest": "00".repeat(32),
        "committed_at": now.to_rfc3339(), "promised_until": (now + TimeDelta::days(1)).to_rfc3339(),
    });
    let witness = |repository: &Value| {
        json!({
            "format": "stonekeep/witness/1", "repository": repository, "genesis": null,
            "looked_at": now.to_rfc3339(), "labels": { "bookings": [seen] },
        })
        .to_string()
    };
    installation.write("vault.witness", &witness(&listed["repository"]));
    let listed = must(&mut installation.reader(&["list"]));
    assert!(listed.contains("ROLLBACK: ") && listed.contains(&lost), "{listed}");
    let verified = run(&mut installation.reader(&["verify", "latest"]));
    assert_eq!(verified.status.code(), Some(65), "{}", said(&verified));
    assert!(String::from_utf8_lossy(&verified.stdout).contains("ROLLBACK: "));

    for (witness, words) in [
        (witness(&json!("00".repeat(16))), "the witness has seen repository"),
        ("{".to_owned(), "vault.witness is damaged"),
    ] {
        installation.write("vault.witness", &witness);
        let output = run(&mut installation.reader(&["list"]));
        assert_eq!(output.status.code(), Some(65), "{}", said(&output));
        assert!(said(&output).contains(words), "{words:?} is not in: {}", said(&output));
        let kept = fs::read_to_string(installation.path("vault.witness")).expect("there");
        assert_eq!(kept, witness);
    }
}
