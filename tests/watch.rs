//! A watcher on another host, with list and manifest rights on a real server: what it says, to whom, and what it never says.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    harness::{Database, Installation, User, run, said},
    listener::{Listener, SECRET},
};

const SCRIPT: &str = "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i";
/// An installation whose watcher tells two listeners, and has a witness and figures.
struct Watched {
    _source: Database,
    installation: Installation,
    ping: Listener,
    webhook: Listener,
}

impl Watched {
    fn start(hint: &str) -> Self {
        let source = Database::create(hint, SCRIPT);
        let installation = Installation::create(&source);
        installation.backup();
        let (ping, webhook) = (Listener::start("ping"), Listener::start("webhook"));
        installation.write("ping_url", &ping.url);
        installation.write("webhook_url", &webhook.url);
        let watched = Self { _source: source, installation, ping, webhook };
        watched.configure("[watch]\n", "[watch]\nmetrics_file = \"watch.prom\"\nping_url_file = \"ping_url\"\nwebhook_url_file = \"webhook_url\"\n");
        watched
            .configure("allowed_signers_file", "witness_file = \"witness\"\nallowed_signers_file");
        watched
    }

    fn configure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.installation.path("stonekeep.toml")).expect("written");
        assert!(text.contains(from), "{text}");
        self.installation.write("stonekeep.toml", &text.replacen(from, to, 1));
    }

    fn watch(&self, args: &[&str]) -> Output {
        let mut command: Command = self.installation.reader(&[&["watch"], args].concat());
        let (id, secret) = User::Watcher.keys();
        let output = run(command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret));
        let all = format!("{}{}", said(&output), String::from_utf8_lossy(&output.stdout));
        assert!(!all.contains(SECRET), "a URL is a secret: {all}");
        output
    }

    fn nagios(&self) -> (Option<i32>, String) {
        let output = self.watch(&["--nagios"]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[test]
fn a_healthy_repository_is_pinged_for_and_what_changes_is_posted_once() {
    let watched = Watched::start("watch");
    let installation = &watched.installation;
    let fine = watched.watch(&["--json", "--all-locks"]);
    assert_eq!(fine.status.code(), Some(0), "{}", said(&fine));
    let report: Value = serde_json::from_slice(&fine.stdout).expect("JSON");
    assert_eq!((&report["status"], &report["alarms"]), (&"ok".into(), &Value::Array(vec![])));
    assert_eq!(report["labels"][0]["age_max_secs"], 2 * 3_600, "{report}");
    assert_eq!(report["objects"], installation.versions().len());
    assert!(installation.path("witness").exists(), "what was seen is remembered");
    let pinged = watched.ping.heard();
    assert!(pinged.len() == 1 && pinged[0].starts_with("GET /s3cret-path/ping"), "{pinged:?}");
    assert_eq!(watched.webhook.heard(), [""; 0]);
    let figures = fs::read_to_string(installation.path("watch.prom")).expect("figures");
    for line in [
        "stonekeep_watch_newest_snapshot_age_seconds{database=\"bookings\",repository=\"vault\"} ",
        "stonekeep_watch_newest_snapshot_timestamp_seconds{database=\"bookings\",repository=\"vault\"} ",
        "stonekeep_watch_status{repository=\"vault\"} 0\n",
        "stonekeep_watch_alarms{kind=\"stale\",repository=\"vault\"} 0\n",
        "stonekeep_watch_last_run_timestamp_seconds{repository=\"vault\"} ",
    ] {
        assert!(figures.contains(line), "{line:?} is not in {figures}");
    }
    let (code, line) = watched.nagios();
    assert!(code == Some(0) && line.starts_with("STONEKEEP OK - ") && line.lines().count() == 1);
    assert!(line.contains(" | 'age bookings'="), "{line}");
    watched.ping.heard();

    // Somebody with the writer's credential puts what is none of ours.
    let path = "/stonekeep/segments/junk";
    assert_eq!(installation.s3(User::Writer, "PUT", path, &[], "x").0, 200);
    let bad = watched.watch(&[]);
    assert_eq!(bad.status.code(), Some(65), "{}", said(&bad));
    let told = String::from_utf8_lossy(&bad.stdout).into_owned();
    assert!(told.contains("CRITICAL foreign: segments/junk"), "{told}");
    let posted = watched.webhook.heard();
    assert_eq!(posted.len(), 1);
    let (_, body) = posted[0].split_once("\r\n\r\n").expect("a body");
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&body["status"], &body["name"]), (&"critical".into(), &"vault".into()));
    assert!(body["text"].as_str().is_some_and(|text| text.starts_with("STONEKEEP CRITICAL - ")));
    let (code, line) = watched.nagios();
    assert!(code == Some(2) && line.starts_with("STONEKEEP CRITICAL - foreign"), "{line}");
    assert_eq!((watched.webhook.heard(), watched.ping.heard()), (vec![], vec![]));
    let figures = fs::read_to_string(installation.path("watch.prom")).expect("figures");
    assert!(figures.contains("stonekeep_watch_alarms{kind=\"foreign\",repository=\"vault\"} 1\n"));

    // It was not locked, so its owner can remove it.
    installation.let_the_owner_delete();
    let versions = installation.versions();
    let (key, version) = versions.iter().find(|(key, _)| key.ends_with("junk")).expect("there");
    let path = format!("/{key}?versionId={version}");
    assert_eq!(installation.s3(User::Owner, "DELETE", &path, &[], "").0, 204);
    // With another policy than the owner signed.
    let told = watched.nagios();
    assert!(told.1.contains("configuration: the policy"), "{told:?}");
    assert_eq!(watched.webhook.heard().len(), 1, "something else is wrong");
    installation.put_policy(&installation.policy());
    assert_eq!(watched.watch(&[]).status.code(), Some(0));
    let posted = watched.webhook.heard();
    assert!(posted.len() == 1 && posted[0].contains("STONEKEEP OK - "), "{posted:?}");
    assert_eq!(watched.ping.heard().len(), 1);
}

#[test]
fn what_it_may_not_look_at_is_said_and_the_rest_is_judged() {
    let watched = Watched::start("watch_rights");
    let installation = &watched.installation;
    let mut policy: Value = serde_json::from_str(&installation.policy()).expect("JSON");
    let statements = policy["Statement"].as_array_mut().expect("statements");
    statements.push(serde_json::json!({
        "Sid": "NoInventories", "Effect": "Deny",
        "Principal": { "AWS": ["arn:aws:iam:::user/watcher"] },
        "Action": ["s3:GetObject", "s3:GetObjectVersion"],
        "Resource": [format!("arn:aws:s3:::{}/stonekeep/inventories/*", installation.bucket)],
    }));
    installation.put_policy(&policy.to_string());
    let looked = watched.watch(&[]);
    let told = String::from_utf8_lossy(&looked.stdout).into_owned();
    assert!(told.contains("note: the inventory of snapshot"), "{told}");
    // It is no alarm that it may not; that the policy is another one than was signed is.
    let alarms = told.lines().filter(|line| line.starts_with("CRITICAL "));
    let alarms: Vec<&str> =
        alarms.filter(|line| !line.contains("the policy configuration")).collect();
    assert_eq!(alarms, [""; 0]);
    assert_eq!(looked.status.code(), Some(65), "{told}{}", said(&looked));
    // A database that is expected and has no snapshot.
    watched.configure(
        "[[watch.database]]",
        "[[watch.database]]\nname = \"orders\"\n[[watch.database]]",
    );
    let (code, line) = watched.nagios();
    assert!(code == Some(2) && line.contains("missing orders"), "{line}");
    assert_eq!(watched.ping.heard(), [""; 0]);
}

#[test]
fn where_nothing_can_be_looked_at_it_is_unknown_and_nobody_is_told_that_all_is_well() {
    let watched = Watched::start("watch_unknown");
    let text = fs::read_to_string(watched.installation.path("stonekeep.toml")).expect("written");
    let endpoint = text.lines().find(|line| line.starts_with("endpoint")).expect("one").to_owned();
    watched.configure(&endpoint, "endpoint = \"http://127.0.0.1:1\"");
    let (code, line) = watched.nagios();
    assert!(code == Some(3) && line.starts_with("STONEKEEP UNKNOWN - "), "{line}");
    assert_eq!(watched.watch(&[]).status.code(), Some(69));
    watched.configure("[watch]", "[watch]\nunknown_name = 1");
    let (code, line) = watched.nagios();
    assert!(code == Some(3) && line.starts_with("STONEKEEP UNKNOWN - "), "{line}");
    assert_eq!(watched.ping.heard(), [""; 0]);
}
