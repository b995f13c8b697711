//! Buckets that name the locks (`lock = "bucket-default"`): one for each tier, and a writer that has no right to name any.

use crate::harness::{Database, Installation, must, run, said};

const SCRIPT: &str = "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i";

pub(crate) fn installation(source: &Database) -> Installation {
    let installation = Installation::prepare(source);
    let bucket = installation.bucket.clone();
    installation.configure(|text| {
        let tier = |name: &str| {
            format!("[[repository.tier]]\nname = \"{name}\"\nbucket = \"{bucket}-{name}\"\n")
        };
        let locks = format!("lock = \"bucket-default\"\n{}{}", tier("hourly"), tier("daily"));
        let daily = "[[tier]]\nname = \"daily\"\nevery = \"day\"\nkeep = \"30d\"\n[[database]]";
        text.replacen("[[tier]]", &format!("{locks}[[tier]]"), 1).replacen("[[database]]", daily, 1)
    });
    installation
}

#[test]
fn snapshots_of_each_tier_lie_in_its_bucket_and_make_one_repository() {
    let source = Database::create("tiered", SCRIPT);
    let installation = installation(&source);
    must(&mut installation.init_of("vault"));
    let checked = must(&mut installation.daemon(&["check"]));
    assert!(checked.contains("daily"), "{checked}");

    let mut snapshots = Vec::new();
    for tier in ["daily", "hourly"] {
        let report = must(&mut installation.daemon(&["--json", "backup"]));
        let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
        let snapshot = &report["databases"][0]["snapshot"];
        assert_eq!(snapshot["tier"], tier, "{report}");
        snapshots.push(snapshot["snapshot"].as_str().expect("an id").to_owned());
    }
    for (tier, snapshot) in ["daily", "hourly"].into_iter().zip(&snapshots) {
        let shown = must(&mut installation.reader(&["--json", "show", snapshot]));
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        let bucket = format!("{}-{tier}", installation.bucket);
        assert_eq!(shown["manifest"]["inventory"]["bucket"], bucket.as_str());
        must(&mut installation.reader(&["verify", snapshot, "--read-data"]));
    }
    let listed = must(&mut installation.reader(&["--json", "list"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!(listed["snapshots"][0]["chain"], listed["snapshots"][1]["chain"]);
    // All but the genesis, and the canary with which the server was asked, lies in the buckets of tiers.
    let keys = installation.versions().into_iter().map(|(key, _)| key);
    let keys: Vec<String> = keys.filter(|key| !key.contains("/canary/")).collect();
    assert_eq!(keys, ["stonekeep/genesis/1"]);

    // The second one names what lies in the bucket of the first.
    let target = Database::to_restore("tiered");
    installation.restore(&target);
    assert_eq!(source.rows(), target.rows());
    let copy = ["fetch", "latest", "--sealed", "--out", "drawer"];
    must(&mut installation.reader(&copy));
    let drawer = installation.path("drawer");
    let allowed = installation.path("allowed_signers");
    installation.write(
        "stonekeep.toml",
        &format!(
            "allowed_signers_file = \"{}\"\ndirectory = \"{}\"\n",
            allowed.display(),
            drawer.display()
        ),
    );
    must(&mut installation.reader(&["verify", "latest", "--read-data"]));
}

#[test]
fn a_bucket_without_a_default_retention_is_refused() {
    let source = Database::create("no_default", SCRIPT);
    let installation = installation(&source);
    must(&mut installation.init_of("vault"));
    let none = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
    let daily = format!("{}-daily", installation.bucket);
    let (status, answer) = installation.configure_bucket(&daily, "object-lock", none);
    assert_eq!(status, 200, "{answer}");
    let output = run(&mut installation.daemon(&["backup"]));
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    for words in ["locks by default: none", "32 to 67 days of COMPLIANCE"] {
        assert!(said(&output).contains(words), "{words:?} is not in: {}", said(&output));
    }
}
