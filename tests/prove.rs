//! The writer's rights and the lock are proved by attack, and a server that keeps no locks is found out by name.

use std::{fs, process::Output};

use serde_json::Value;

use crate::harness::{Database, Installation, User, must, run, said, server};

const SCRIPT: &str = "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 100)";

/// The one JSON document of a command.
fn document(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", said(output)))
}

/// The ids of the probes that came to `verdict`.
fn of<'d>(prove: &'d Value, verdict: &str) -> Vec<&'d str> {
    let probes = prove["probes"].as_array().expect("probes");
    let lines = probes.iter().filter(|line| line["verdict"] == verdict);
    lines.map(|line| line["id"].as_str().expect("an id")).collect()
}

/// What each server is known not to keep. One that keeps more, or less, is told by the test.
fn lacking() -> &'static [&'static str] {
    match server("STONEKEEP_TEST_S3_SERVER").as_str() {
        "ceph16" => &["C0m", "C2a", "C2b", "C3a", "C7", "O4a", "O4d"],
        other => panic!("nobody has written down yet what {other} lacks"),
    }
}

fn authority(installation: &Installation, user: User) -> (Option<i32>, Value) {
    let output = run(installation.daemon(&["prove", "--json"]).envs(environment(user.keys())));
    let document = document(&output);
    (output.status.code(), document["repositories"][0]["prove"].clone())
}

fn environment((id, secret): (String, String)) -> [(&'static str, String); 2] {
    [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)]
}

#[test]
fn the_writers_credential_adds_and_nothing_else_and_what_the_server_lacks_is_named() {
    let source = Database::create("proved", SCRIPT);
    let installation = Installation::create(&source);
    installation.configure(|text| {
        format!("metrics_file = \"{}\"\n{text}", installation.path("stonekeep.prom").display())
    });
    installation.backup();
    let before = installation.versions();
    let (code, prove) = authority(&installation, User::Writer);
    assert_eq!((of(&prove, "fail"), of(&prove, "inconclusive")), (vec![], vec![]), "{prove:#}");
    assert_eq!(of(&prove, "lacking"), lacking(), "{prove:#}");
    assert_eq!(code, Some(0));
    // What was attacked are canaries: everything else is as it was.
    let after = installation.versions();
    assert!(before.iter().all(|version| after.contains(version)));
    let new = after.iter().filter(|version| !before.contains(version));
    assert!(new.clone().count() > 3 && new.clone().all(|(key, _)| key.contains("/canary/")));
    let metrics = fs::read_to_string(installation.path("stonekeep-prove.prom")).expect("written");
    assert!(
        metrics.contains(r#"stonekeep_prove_probes{repository="vault",verdict="fail"} 0"#),
        "{metrics}"
    );
    check_record(&installation, prove["record"].as_str().expect("recorded"));
}

/// The record is a signed object as `ssh-keygen` knows it.
fn check_record(installation: &Installation, key: &str) {
    let path = format!("/stonekeep/{key}");
    let (status, record) = installation.s3(User::Reader, "GET", &path, &[], "");
    assert_eq!(status, 200, "{record}");
    let (body, armour) = record.split_once("-----BEGIN").expect("a signature");
    installation.write("record", body);
    installation.write("record.sig", &format!("-----BEGIN{armour}"));
    let signer = fs::read_to_string(installation.path("signer.pub")).expect("there");
    installation.write("signers", &format!("signer {signer}"));
    let mut verify = std::process::Command::new("sh");
    verify.current_dir(installation.path("")).args([
        "-c",
        "ssh-keygen -Y verify -f signers -I signer -n stonekeep-prove -s record.sig < record",
    ]);
    must(&mut verify);
}

#[test]
fn a_credential_that_may_delete_is_no_writers_and_the_probe_is_named() {
    let source = Database::create("overpowered", SCRIPT);
    let installation = Installation::create(&source);
    let (code, prove) = authority(&installation, User::Owner);
    assert_eq!(code, Some(65), "{prove:#}");
    let failed = of(&prove, "fail");
    assert!(failed.contains(&"S0") && failed.contains(&"S5"), "{failed:?}");
    assert!(of(&prove, "skipped").contains(&"O1"), "it stops at what reconfigures the bucket");
    let text = run(installation.daemon(&["prove"]).envs(environment(User::Owner.keys())));
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("FAIL") && text.contains("AN ATTACK SUCCEEDED"), "{text}");
}

#[test]
fn the_lock_holds_against_one_who_may_delete() {
    let source = Database::create("lock_proved", SCRIPT);
    let installation = Installation::create(&source);
    installation.let_the_owner_delete();
    must(
        std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
            .arg(installation.path("report")),
    );
    let prove = |user: User| {
        let mut prove = installation.reader(&["prove", "--lock", "--json", "--report-key"]);
        let output = run(prove.arg(installation.path("report")).envs(environment(user.keys())));
        (output.status.code(), document(&output))
    };
    let (code, proved) = prove(User::Owner);
    assert_eq!((code, of(&proved, "fail")), (Some(0), vec![]), "{proved:#}");
    for id in ["L1", "L2", "S1", "S2", "S3a", "S3b", "S4a", "S4b", "S4d", "E1"] {
        assert!(of(&proved, "pass").contains(&id), "{id}: {proved:#}");
    }
    assert!(proved["record"].as_str().is_some_and(|key| key.starts_with("canary/")));
    let (code, unproved) = prove(User::Writer);
    assert_eq!(code, Some(75), "a writer proves no lock: {unproved:#}");
}

/// moto takes locks and keeps none. Nobody can make a repository there, and both proofs say why.
#[test]
fn a_server_that_keeps_no_locks_is_found_out() {
    let source = Database::create("lax", SCRIPT);
    let installation = Installation::prepare_at(&source, server("STONEKEEP_TEST_MOTO_ENDPOINT"));
    let keys = |name: &str| {
        let keys = server(name);
        let (id, secret) = keys.split_once(':').expect("KEY:SECRET");
        environment((id.to_owned(), secret.to_owned()))
    };
    let (owner, writer) = (keys("STONEKEEP_TEST_MOTO_OWNER"), keys("STONEKEEP_TEST_MOTO_WRITER"));
    let init = run(installation.init_of("vault").envs(owner.clone()));
    assert_ne!(init.status.code(), Some(0), "{}", said(&init));
    let line = fs::read_to_string(installation.path("owner.pub")).expect("there");
    installation.write("allowed_signers", &format!("owner {line}"));
    let output = run(installation.daemon(&["prove", "--json"]).envs(writer));
    let proved = &document(&output)["repositories"][0]["prove"];
    assert_eq!(output.status.code(), Some(65), "{proved:#}");
    assert!(of(proved, "fail").contains(&"C0"), "{proved:#}");
    let output =
        run(installation.bare(&["prove", "--lock", "--json", "--prefix", "stonekeep"]).envs(owner));
    let proved = document(&output);
    assert_eq!(output.status.code(), Some(65), "{proved:#}");
    for id in ["C0", "S4a", "S4b"] {
        assert!(of(&proved, "fail").contains(&id), "{id}: {proved:#}");
    }
}
