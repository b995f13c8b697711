//! Records of drills in a real bucket: who may put them, what a watcher and the daemon's page make of them, and that junk beside
//! them changes nothing but a count.

use std::{
    fs,
    process::{Command, Output},
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::Value;
use stonekeep_engine::context::SystemClock;
use stonekeep_format::{
    Clock as _,
    drill::{DrillRecord, DrillVerdict},
    ids::{Digest, Label, RepositoryId, SnapshotId},
    key::ObjectKey,
    signature::{SignedDocument as _, Signer, sign_document},
};

use crate::{
    harness::{Database, Installation, User, must, run, said, server},
    status::Service,
};

const SCRIPT: &str = "CREATE TABLE secret_plans (a int, b text); INSERT INTO secret_plans SELECT i, md5(i::text) FROM generate_series(1, 1000) i";

/// An installation whose restorer may record drills, and whose readers believe a report key.
pub(crate) struct Drilled {
    pub(crate) installation: Installation,
    repository: RepositoryId,
    _source: Database,
}

impl Drilled {
    pub(crate) fn start(hint: &str) -> Self {
        let source = Database::create(hint, SCRIPT);
        let installation = Installation::prepare(&source);
        must(&mut installation.init_with("vault", &["--record-drills"]));
        installation.backup();
        must(
            Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                .arg(installation.path("report_key")),
        );
        let key = fs::read_to_string(installation.path("report_key.pub")).expect("made");
        let allowed = fs::read_to_string(installation.path("allowed_signers")).expect("made");
        let line = format!("reporter namespaces=\"stonekeep-report\" {key}");
        installation.write("allowed_signers", &format!("{allowed}{line}"));
        let mut drilled =
            Self { installation, repository: RepositoryId::from_bytes([0; 16]), _source: source };
        let report = drilled.report(0);
        let id = report["repository"].as_str().expect("an id");
        drilled.repository = id.parse().expect("an id");
        drilled
    }

    fn watch(&self, args: &[&str]) -> Output {
        let mut command = self.installation.reader(&[&["watch"], args].concat());
        let (id, secret) = User::Watcher.keys();
        run(command.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret))
    }

    /// What a watcher says, who must end so.
    fn report(&self, code: i32) -> Value {
        let output = self.watch(&["--json"]);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Puts the record of a drill of so long ago as the restorer does, such as `change` makes of one that passed.
    fn put(&self, ago: TimeDelta, change: impl FnOnce(&mut DrillRecord)) -> DrillRecord {
        let at = SystemClock.now() - ago - TimeDelta::seconds(1);
        let (label, id): (Label, _) =
            ("bookings".parse().expect("a label"), SnapshotId::new(at, rand(at)));
        let mut record = DrillRecord {
            format: DrillRecord::FORMAT.to_owned(),
            repository: self.repository,
            key: ObjectKey::report(&label, &id),
            label,
            snapshot: SnapshotId::new(at, 1),
            id,
            begun_at: at,
            written_at: at,
            verdict: DrillVerdict::Pass,
            problems: 0,
            rto_ms: Some(90_000),
            rto_max_ms: Some(120_000),
            tables: 1,
            rows: 1_000,
            plain_bytes: 40_000,
            report: Digest::of(b"the report"),
        };
        change(&mut record);
        let key = fs::read_to_string(self.installation.path("report_key")).expect("made");
        let key = Signer::from_openssh(&key).expect("a key");
        let bytes = sign_document(&record, &key).expect("signed");
        let text = String::from_utf8(bytes).expect("text");
        let until =
            (SystemClock.now() + TimeDelta::days(10)).to_rfc3339_opts(SecondsFormat::Secs, true);
        let lock = [
            "x-amz-object-lock-mode: COMPLIANCE".to_owned(),
            format!("x-amz-object-lock-retain-until-date: {until}"),
        ];
        let path = format!("/stonekeep/{}", record.key);
        let headers = [lock[0].as_str(), lock[1].as_str()];
        let (status, answer) = self.installation.s3(User::Reader, "PUT", &path, &headers, &text);
        assert_eq!(status, 200, "{answer}");
        record
    }
}

/// Bits that no other drill of this test has.
fn rand(at: DateTime<Utc>) -> u128 {
    u128::from(at.timestamp_subsec_nanos())
}

/// Each alarm as `SEVERITY WHAT`.
fn drill_alarms(report: &Value) -> Vec<String> {
    let alarms = report["alarms"].as_array().expect("alarms").iter();
    let alarms = alarms.inspect(|alarm| assert_eq!(alarm["kind"], "drill", "{report}"));
    alarms.map(|alarm| format!("{} {}", alarm["severity"], alarm["what"])).collect()
}

#[test]
fn a_watcher_and_the_daemons_page_tell_what_drills_came_to() {
    let drilled = Drilled::start("drill_records");
    let installation = &drilled.installation;
    let none = drilled.report(0);
    assert_eq!(drill_alarms(&none), [""; 0]);
    assert!(none["notes"].to_string().contains("no record of a drill of bookings"), "{none}");

    drilled.put(TimeDelta::days(40), |_| {});
    let old = drilled.report(0);
    let [alarm] = &drill_alarms(&old)[..] else { panic!("{old}") };
    assert!(alarm.contains("warning") && alarm.contains("40 days ago"), "{alarm}");

    let failed = drilled.put(TimeDelta::zero(), |record| {
        (record.verdict, record.problems) = (DrillVerdict::Fail, 3);
    });
    let bad = drilled.report(65);
    let [alarm] = &drill_alarms(&bad)[..] else { panic!("{bad}") };
    assert!(alarm.contains("critical") && alarm.contains("number of problems: 3"), "{alarm}");
    assert!(alarm.contains(failed.id.as_str()) && !bad.to_string().contains("secret_plans"));

    // Somebody with the right to record puts junk there; it hides nothing, and is counted.
    for n in 0..3 {
        let path = format!("/stonekeep/reports/bookings/{}", SnapshotId::new(SystemClock.now(), n));
        assert_eq!(installation.s3(User::Reader, "PUT", &path, &[], "{}").0, 200);
    }
    assert_eq!(drill_alarms(&drilled.report(65)).len(), 1);

    drilled.put(TimeDelta::zero(), |record| record.rto_max_ms = Some(60_000));
    let slow = drilled.report(0);
    let [alarm] = &drill_alarms(&slow)[..] else { panic!("{slow}") };
    assert!(alarm.contains("warning") && alarm.contains("took 90 s"), "{alarm}");

    let service = Service::start(installation, "show_names = true");
    let page = service.get("/");
    assert!(page.contains("✓ one passed") && !page.contains("The last drill of"), "{page}");
    let figures = service.get("/metrics");
    assert!(figures.contains("stonekeep_drills_failed{repository=\"vault\"} 0\n"), "{figures}");
    assert!(figures.contains("stonekeep_drill_timestamp_seconds{repository=\"vault\"} "));
}

#[test]
fn only_junk_where_records_lie_is_critical_and_a_stranger_records_nothing() {
    let drilled = Drilled::start("drill_junk");
    // Signed by a key that nobody calls a reporter's: the signer of the backups.
    let signer = fs::read(drilled.installation.path("signer")).expect("made");
    let report_key = fs::read(drilled.installation.path("report_key")).expect("made");
    fs::write(drilled.installation.path("report_key"), &signer).expect("written");
    drilled.put(TimeDelta::zero(), |_| {});
    let bad = drilled.report(65);
    let [alarm] = &drill_alarms(&bad)[..] else { panic!("{bad}") };
    assert!(alarm.contains("critical") && alarm.contains("somebody may hide"), "{alarm}");
    fs::write(drilled.installation.path("report_key"), &report_key).expect("written");
    drilled.put(TimeDelta::zero(), |_| {});
    assert_eq!(drill_alarms(&drilled.report(0)), [""; 0]);
}

#[test]
fn a_drill_leaves_a_locked_record_that_names_no_table() {
    let drilled = Drilled::start("drill_record");
    let installation = &drilled.installation;
    let target = server("STONEKEEP_TEST_PG2");
    let args = ["--json", "drill", "--record", "--report-key", "report_key", "--server", &target];
    let output = run(&mut installation.reader(&[&args[..], &["--identity", "identity1"]].concat()));
    assert!(output.status.success(), "{}", said(&output));
    let versions = installation.versions();
    let records: Vec<_> =
        versions.iter().filter(|(key, _)| key.contains("/reports/bookings/")).collect();
    let [(key, version)] = &records[..] else { panic!("{versions:?}") };
    let path = format!("/{key}?versionId={version}");
    let (status, text) = installation.s3(User::Watcher, "GET", &path, &[], "");
    assert!(status == 200 && text.contains("\"verdict\":\"pass\""), "{status} {text}");
    assert!(!text.contains("secret_plans"), "{text}");
    let retention = path.replace("?versionId", "?retention=&versionId");
    let (_, lock) = installation.s3(User::Watcher, "GET", &retention, &[], "");
    assert!(lock.contains("<Mode>COMPLIANCE</Mode>"), "{lock}");
    let report = drilled.report(0);
    assert_eq!(drill_alarms(&report), [""; 0]);
    assert_eq!(report["labels"][0]["drill"]["verdict"], "pass", "{report}");
}
