//! The writer's credential adds and nothing else, and nothing that it adds changes what readers find.

use crate::harness::{Database, Installation, User, must, run};

const SCRIPT: &str = "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i";

#[test]
fn the_writers_credential_deletes_and_weakens_nothing() {
    let source = Database::create("locked", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let before = installation.versions();
    let writer = |method, path: &str, headers: &[&str], body: &str| {
        installation.s3(User::Writer, method, path, headers, body).0
    };
    for (key, version) in &before {
        assert_eq!(writer("DELETE", &format!("/{key}?versionId={version}"), &[], ""), 403, "{key}");
        assert_eq!(writer("DELETE", &format!("/{key}"), &[], ""), 403, "marker on {key}");
        let shorter = "<Retention><Mode>COMPLIANCE</Mode><RetainUntilDate>2026-11-22T00:00:00Z</RetainUntilDate></Retention>";
        let weaker = "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2099-01-01T00:00:00Z</RetainUntilDate></Retention>";
        for body in [shorter, weaker] {
            let status =
                writer("PUT", &format!("/{key}?retention=&versionId={version}"), &[], body);
            assert!((400..500).contains(&status), "{status}");
        }
    }
    let lifecycle = "<LifecycleConfiguration><Rule><ID>x</ID><Prefix></Prefix><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>";
    assert_eq!(writer("PUT", "?lifecycle=", &[], lifecycle), 403);
    assert_eq!(writer("PUT", "?policy=", &[], "{}"), 403);
    assert_eq!(writer("DELETE", "?policy=", &[], ""), 403);
    assert_eq!(writer("DELETE", "", &[], ""), 403);
    assert_eq!(installation.versions(), before);
    must(&mut installation.reader(&["verify", "latest", "--read-data"]));
}

#[test]
fn overwrites_markers_and_planted_objects_change_nothing_for_readers() {
    let source = Database::create("planted", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let before = installation.versions();
    installation.let_the_owner_delete();
    for (key, _) in &before {
        // A policy keeps the writer out of genesis/; the bucket's owner is there, too.
        let user = if key.contains("/genesis/") { User::Owner } else { User::Writer };
        let (status, answer) = installation.s3(user, "PUT", &format!("/{key}"), &[], "overwritten");
        assert_eq!(status, 200, "{answer}");
        // The bucket's owner can put a marker on anything that no policy forbids; that deletes nothing.
        let (status, answer) = installation.s3(User::Owner, "DELETE", &format!("/{key}"), &[], "");
        assert_eq!(status, 204, "{answer}");
    }
    let planted =
        "/stonekeep/manifests/bookings/9999999999-0000000000000000-7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
    assert_eq!(installation.s3(User::Writer, "PUT", planted, &[], "{}").0, 200);

    let listed = must(&mut installation.reader(&["list", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("one JSON document");
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(1), "{listed}");
    assert!(listed["planted"].as_array().is_some_and(|planted| !planted.is_empty()), "{listed}");
    must(&mut installation.reader(&["verify", "latest", "--read-data"]));
    let restored = Database::to_restore("planted_back");
    installation.restore(&restored);
    assert_eq!(source.rows(), restored.rows());
    // And the daemon goes on from the snapshot that counts.
    installation.backup();
    let listed = must(&mut installation.reader(&["list", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("one JSON document");
    assert_eq!(listed["snapshots"].as_array().map(Vec::len), Some(2), "{listed}");
}

#[test]
fn the_writer_cannot_read_segments() {
    let source = Database::create("unread", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let versions = installation.versions();
    let (key, version) =
        versions.iter().find(|(key, _)| key.contains("/segments/")).expect("a segment");
    assert_eq!(
        installation.s3(User::Writer, "GET", &format!("/{key}?versionId={version}"), &[], "").0,
        403
    );
    drop(run(&mut installation.reader(&["list"])));
}
