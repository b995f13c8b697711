//! The generated policies, on a real server: each role may what it needs, and what it may not is refused.

use crate::harness::{Database, Installation, User, must, run, said, server};

const SCRIPT: &str = "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i";

/// Where the daemon puts something.
const FOLDERS: [&str; 5] = ["manifests", "inventories", "segments", "attempts", "canary"];

/// A repository with one snapshot.
fn with_a_snapshot(hint: &str) -> (Database, Installation) {
    let source = Database::create(hint, SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    (source, installation)
}

/// `/KEY?versionId=…` of an object of this kind.
fn version_of(installation: &Installation, folder: &str) -> String {
    let versions = installation.versions();
    let found = versions.iter().find(|(key, _)| key.contains(&format!("/{folder}/")));
    let (key, version) = found.unwrap_or_else(|| panic!("no object below {folder}/"));
    format!("/{key}?versionId={version}")
}

/// The same of one of its properties. The parts of a query are in order, for they are signed so.
fn property_of(version: &str, name: &str) -> String {
    version.replace("?versionId", &format!("?{name}=&versionId"))
}

fn put(installation: &Installation, user: User, path: &str) -> u16 {
    asked(installation, user, "PUT", path, "x")
}

/// The status of an answer; a refusal must be for the lack of a right, not for a wrong signature.
fn asked(installation: &Installation, user: User, method: &str, path: &str, body: &str) -> u16 {
    let (status, answer) = installation.s3(user, method, path, &[], body);
    assert!(status != 403 || answer.contains("AccessDenied"), "{method} {path}: {answer}");
    status
}

#[test]
fn the_writer_puts_into_its_own_folders_and_nowhere_else() {
    let (_source, installation) = with_a_snapshot("folders");
    for folder in FOLDERS {
        assert_eq!(put(&installation, User::Writer, &format!("/stonekeep/{folder}/x")), 200);
    }
    for path in [
        "/stonekeep/genesis/2",
        "/stonekeep/other/x",
        "/stonekeep/manifests",
        "/stonekeepers/manifests/x",
        "/manifests/x",
        "/x",
    ] {
        assert_eq!(put(&installation, User::Writer, path), 403, "{path}");
    }
    assert_eq!(
        put(&installation, User::Owner, "/stonekeep/genesis/2"),
        200,
        "the path is no fault"
    );
    let until = "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>";
    let genesis = property_of(&version_of(&installation, "genesis"), "retention");
    assert_eq!(asked(&installation, User::Writer, "PUT", &genesis, until), 403);
    assert_eq!(asked(&installation, User::Owner, "PUT", &genesis, until), 200);
}

#[test]
fn the_writer_neither_removes_nor_hides_nor_configures() {
    let (_source, installation) = with_a_snapshot("removes");
    // Its own object, for Ceph gives the uploader rights over it that only a denial takes away.
    assert_eq!(put(&installation, User::Writer, "/stonekeep/canary/own"), 200);
    let canary = version_of(&installation, "canary");
    let of_canary = |name: &str| property_of(&canary, name);
    let hold = "<LegalHold><Status>ON</Status></LegalHold>";
    let tags = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
    let rules = "<LifecycleConfiguration><Rule><ID>x</ID><Prefix></Prefix><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>";
    let suspended = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    let no_default = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
    let policy = installation.policy();
    let public = &["x-amz-acl: public-read"][..];
    let requests: [(&str, &str, &[&str], &str); 16] = [
        ("DELETE", &canary, &[], ""),
        ("DELETE", "/stonekeep/canary/own", &[], ""),
        ("DELETE", &version_of(&installation, "manifests"), &[], ""),
        ("DELETE", "/stonekeep/manifests/x", &[], ""),
        ("PUT", &of_canary("acl"), public, ""),
        ("PUT", &of_canary("legal-hold"), &[], hold),
        ("PUT", &of_canary("tagging"), &[], tags),
        ("PUT", "?acl=", public, ""),
        ("PUT", "?lifecycle=", &[], rules),
        ("DELETE", "?lifecycle=", &[], ""),
        ("PUT", "?policy=", &[], &policy),
        ("DELETE", "?policy=", &[], ""),
        ("PUT", "?versioning=", &[], suspended),
        ("PUT", "?object-lock=", &[], no_default),
        ("PUT", "?tagging=", &[], tags),
        ("DELETE", "", &[], ""),
    ];
    let before = installation.versions();
    for (method, path, headers, body) in requests {
        let (status, answer) = installation.s3(User::Writer, method, path, headers, body);
        assert!(status == 403 && answer.contains("AccessDenied"), "{method} {path}: {answer}");
    }
    assert_eq!(installation.versions(), before);
    // None was refused for what it says: whoever may is answered otherwise.
    for (path, body) in [("?lifecycle=", rules), ("?object-lock=", no_default)] {
        let (status, answer) = installation.s3(User::Owner, "PUT", path, &[], body);
        assert_eq!(status, 200, "{path}: {answer}");
    }
}

#[test]
fn the_watcher_reads_manifests_and_no_segment_and_adds_nothing() {
    let (_source, installation) = with_a_snapshot("watched");
    let get = |user, path: &str| asked(&installation, user, "GET", path, "");
    for folder in ["genesis", "manifests", "inventories"] {
        let path = version_of(&installation, folder);
        for user in [User::Watcher, User::Writer, User::Reader, User::Owner] {
            assert_eq!(get(user, &path), 200, "{path}");
        }
    }
    let segment = version_of(&installation, "segments");
    for user in [User::Watcher, User::Writer, User::Owner] {
        assert_eq!(get(user, &segment), 403, "only the restorer reads rows");
    }
    assert_eq!(get(User::Reader, &segment), 200);
    assert_eq!(get(User::Watcher, &property_of(&segment, "retention")), 200);
    for query in ["?versions=", "?versioning=", "?object-lock=", "?policy=", "?lifecycle="] {
        assert_eq!(get(User::Watcher, query), 200, "{query}");
    }
    for folder in FOLDERS {
        for user in [User::Watcher, User::Reader] {
            assert_eq!(put(&installation, user, &format!("/stonekeep/{folder}/x")), 403);
        }
    }
    for path in [segment.as_str(), "?policy="] {
        assert_eq!(asked(&installation, User::Watcher, "DELETE", path, ""), 403, "{path}");
    }
}

#[test]
fn nobody_deletes_but_the_provisioner_his_canaries() {
    let (_source, installation) = with_a_snapshot("deletes");
    let delete = |path: &str| asked(&installation, User::Owner, "DELETE", path, "");
    assert_eq!(put(&installation, User::Owner, "/stonekeep/canary/1"), 200);
    for folder in ["genesis", "manifests", "inventories", "segments"] {
        let path = version_of(&installation, folder);
        let (key, _) = path.split_once('?').expect("a query");
        assert_eq!(delete(&path), 403, "{path}");
        assert_eq!(delete(key), 403, "a marker on {key}");
    }
    let versions = installation.versions();
    let ours = versions.iter().find(|(key, _)| key == "stonekeep/canary/1").expect("put");
    assert_eq!(delete("/stonekeep/canary/1"), 204, "a marker");
    let canary = format!("/{}?versionId={}", ours.0, ours.1);
    assert_eq!(delete(&canary), 204, "it has no lock");
}

#[test]
fn a_restorer_that_records_drills_adds_below_reports_and_nowhere_else() {
    let (_source, installation) = with_a_snapshot("records");
    assert_eq!(put(&installation, User::Reader, "/stonekeep/reports/bookings/x"), 403);
    installation.policies("vault", &["--record-drills"]);
    installation.put_policy(&installation.policy());
    assert_eq!(put(&installation, User::Reader, "/stonekeep/reports/bookings/x"), 200);
    for folder in FOLDERS.into_iter().chain(["genesis", "other", "reports"]) {
        let path = if folder == "reports" {
            "/stonekeep/reports".to_owned()
        } else {
            format!("/stonekeep/{folder}/x")
        };
        assert_eq!(put(&installation, User::Reader, &path), 403, "{path}");
    }
    let path = "/stonekeep/reports/bookings/y";
    for user in [User::Writer, User::Watcher] {
        assert_eq!(put(&installation, user, path), 403, "it is for the restorer alone");
    }
    let record = version_of(&installation, "reports");
    for user in [User::Watcher, User::Writer, User::Reader] {
        assert_eq!(asked(&installation, user, "GET", &record, ""), 200);
        assert_eq!(asked(&installation, user, "DELETE", &record, ""), 403);
        assert_eq!(asked(&installation, user, "DELETE", "/stonekeep/reports/bookings/x", ""), 403);
    }
    // The uploader owns it here; he may lock it, and change nothing else.
    let until = "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>";
    let retention = property_of(&record, "retention");
    assert_eq!(asked(&installation, User::Reader, "PUT", &retention, until), 200);
    let public = &["x-amz-acl: public-read"][..];
    let acl = property_of(&record, "acl");
    assert_eq!(installation.s3(User::Reader, "PUT", &acl, public, "").0, 403);
}

#[test]
fn every_command_works_with_the_rights_of_its_role() {
    let (source, installation) = with_a_snapshot("works");
    must(&mut installation.daemon(&["check"]));
    installation.backup();
    must(&mut installation.reader(&["list"]));
    must(&mut installation.reader(&["verify", "latest", "--read-data"]));
    let target = Database::to_restore("works");
    installation.restore(&target);
    assert_eq!(source.rows(), target.rows());
}

#[test]
fn a_writer_that_only_writes_makes_snapshots_that_can_be_restored() {
    let (source, installation) = with_a_snapshot("write_only");
    installation.policies("vault", &["--write-only"]);
    installation.put_policy(&installation.policy());
    let manifest = version_of(&installation, "manifests");
    for path in ["?versions=", manifest.as_str()] {
        assert_eq!(asked(&installation, User::Writer, "GET", path, ""), 403, "{path}");
    }
    let genesis = installation.path("vault.genesis").display().to_string();
    installation.configure(|text| {
        text.replace("path_style", &format!("genesis_file = \"{genesis}\"\npath_style"))
    });
    installation.backup();
    let target = Database::to_restore("write_only");
    installation.restore(&target);
    assert_eq!(source.rows(), target.rows());
}

#[test]
fn where_buckets_name_the_locks_the_writer_lengthens_none() {
    let source = Database::create("mode_a", SCRIPT);
    let installation = Installation::prepare(&source);
    let hourly = format!("{}-hourly", installation.bucket);
    installation.configure(|text| {
        let locks = format!(
            "lock = \"bucket-default\"\n[[repository.tier]]\nname = \"hourly\"\nbucket = \"{hourly}\"\n[[tier]]"
        );
        text.replacen("[[tier]]", &locks, 1)
    });
    must(&mut installation.init_of("vault"));
    installation.backup();
    // The bucket of the genesis holds nothing else of a writer.
    assert_eq!(put(&installation, User::Writer, "/stonekeep/manifests/x"), 403);
    assert_eq!(put(&installation, User::Writer, "/stonekeep/canary/x"), 200);
    let longer = "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>";
    let canary = property_of(&version_of(&installation, "canary"), "retention");
    assert_eq!(asked(&installation, User::Writer, "PUT", &canary, longer), 403);
    assert_eq!(asked(&installation, User::Owner, "PUT", &canary, longer), 200);
}

#[test]
fn a_policy_for_https_refuses_whoever_comes_without() {
    let (_source, installation) = with_a_snapshot("without_tls");
    let by_tls = server("STONEKEEP_TEST_S3_TLS_ENDPOINT");
    let direct = server("STONEKEEP_TEST_S3_ENDPOINT");
    installation.configure(|text| {
        let authority = format!("{by_tls}\"\nca_file = \"{}", server("STONEKEEP_TEST_S3_CA"));
        text.replace(&direct, &authority)
    });
    installation.policies("vault", &[]);
    installation.put_policy(&installation.policy());
    for user in [User::Writer, User::Reader, User::Owner] {
        assert_eq!(asked(&installation, user, "GET", "?versions=", ""), 403);
    }
    installation.backup();
    installation.configure(|text| text);
    let output = run(&mut installation.daemon(&["backup"]));
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
}
