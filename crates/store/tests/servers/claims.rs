//! What only a real server can answer: our store's calls where no model knows better, and what a bucket is trusted with, asked
//! by raw requests.

use std::sync::Arc;

use aws_sdk_s3::types::{
    BucketVersioningStatus, CompletedMultipartUpload, CompletedPart, ObjectLockMode,
    ObjectLockRetention, ObjectLockRetentionMode, VersioningConfiguration,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use md5::{Digest as _, Md5};
use stonekeep_format::{
    Clock,
    genesis::LockBy,
    ids::BucketName,
    key::ObjectKey,
    lock::{Lock, LockMode},
};
use stonekeep_store::{
    AppendStore, DefaultRetention, ProvisionStore, ReadStore, S3Credentials, S3Options, S3Store,
    StoreError, contract::list_all, oldest_verified, put_locked,
};

use crate::server::{Account, HostClock, OnServer, PREFIX, fresh_name, full, open};

fn lock(days: i64) -> Lock {
    let until = (HostClock(TimeDelta::zero()).now() + TimeDelta::days(days)).trunc_subsecs(0);
    Lock { mode: LockMode::Governance, retain_until: until }
}

pub(crate) async fn an_unknown_access_key_is_told(server: &OnServer) {
    let unknown = Account { key: "NOBODY".to_owned(), secret: "x".to_owned() };
    let store = open(server.options(&fresh_name(), &unknown)).await;
    let listed = store.list_versions("", None).await;
    assert!(matches!(listed, Err(StoreError::BadCredentials { .. })), "{listed:?}");
}

pub(crate) async fn a_wrong_secret_is_told_by_every_call(server: &OnServer) {
    let wrong = Account { key: server.owner.key.clone(), secret: "wrong".to_owned() };
    let store = open(server.options(server.vault().await.bucket().as_str(), &wrong)).await;
    let key = ObjectKey::genesis(1);
    let outcomes = [
        store.list_versions("", None).await.map(drop),
        store.put(&key, Bytes::from_static(b"x"), lock(1)).await.map(drop),
        store.bucket_lock().await.map(drop),
        store.server_time().await.map(drop),
        store.create_bucket().await.map(drop),
    ];
    for outcome in outcomes {
        assert!(matches!(outcome, Err(StoreError::BadCredentials { .. })), "{outcome:?}");
        let text = format!("{:?}", outcome.err());
        assert!(!text.contains("wrong\""), "a secret is in {text}");
    }
}

pub(crate) async fn a_wrong_host_clock_is_told(server: &OnServer) {
    let bucket: BucketName = server.vault().await.bucket().clone();
    for hours in [-1, 1] {
        let clock = Arc::new(HostClock(TimeDelta::hours(hours)));
        let options = server.options(bucket.as_str(), &server.owner);
        let store = S3Store::open(options, clock).await.unwrap();
        let listed = store.list_versions("", None).await;
        assert!(matches!(listed, Err(StoreError::Skewed { .. })), "{listed:?}");
        // A second call must not have been "corrected" by the first one's answer.
        let again = store.server_time().await;
        assert!(matches!(again, Err(StoreError::Skewed { .. })), "{again:?}");
    }
}

pub(crate) async fn a_credentials_file_is_read_by_profile(server: &OnServer) {
    use std::io::Write;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let Account { key, secret } = &server.owner;
    writeln!(file, "[other]\naws_access_key_id = x\naws_secret_access_key = y").unwrap();
    writeln!(file, "[vault]\naws_access_key_id = {key}\naws_secret_access_key = {secret}").unwrap();
    let path = file.path().to_owned();
    let from_file = |path, profile: &str| S3Options {
        credentials: S3Credentials::File { path, profile: profile.to_owned() },
        ..server.options(&fresh_name(), &server.owner)
    };
    let store = open(from_file(path.clone(), "vault")).await;
    store.create_bucket().await.unwrap();
    let missing = open(from_file(path, "nowhere")).await;
    let listed = missing.list_versions("", None).await;
    assert!(matches!(listed, Err(StoreError::NoCredentials { .. })), "{listed:?}");
    let clock = Arc::new(HostClock(TimeDelta::zero()));
    let absent = S3Store::open(from_file("/nowhere/file".into(), "vault"), clock).await;
    assert!(matches!(absent, Err(StoreError::Options(_))), "{absent:?}");
}

pub(crate) async fn a_segment_of_sixteen_mebibytes_is_put_and_read_back(server: &OnServer) {
    let store = server.vault().await;
    let body = Bytes::from((0..16_u32 << 18).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    let receipt = put_locked(&store, &ObjectKey::genesis(1), body.clone(), lock(1)).await.unwrap();
    let read = store.get(&receipt.key, &receipt.version_id, body.len() as u64).await.unwrap();
    assert!(read == body);
}

pub(crate) async fn a_thousand_and_some_versions_are_listed_whole(server: &OnServer) {
    let store = server.vault().await;
    let raw = server.raw();
    for n in 0..1010 {
        let key = full(&format!("k/{:02}", n % 2).parse().unwrap());
        let put = raw.put_object().bucket(store.bucket().as_str()).key(key);
        put.body(n.to_string().into_bytes().into()).send().await.unwrap();
    }
    let all = list_all(&store, "k/").await;
    assert_eq!(all.versions.len(), 1010);
    for versions in all.versions.chunk_by(|a, b| a.key == b.key) {
        assert_eq!(versions.len(), 505);
        assert!(versions.is_sorted_by_key(|version| version.modified_at));
        assert_eq!(versions.iter().filter(|version| version.is_latest).count(), 1);
        assert!(versions[504].is_latest, "the newest comes last");
    }
}

pub(crate) async fn a_key_that_xml_cannot_hold_at_a_pages_end_spoils_no_listing(server: &OnServer) {
    let store = server.vault().await;
    let raw = server.raw();
    for n in 0..1001 {
        let key = full(&format!("k/{n:04}\u{1}").parse().unwrap());
        let put = raw.put_object().bucket(store.bucket().as_str()).key(key);
        put.body(Vec::new().into()).send().await.unwrap();
    }
    let all = list_all(&store, "k/").await;
    assert_eq!(all.versions.len(), 1001);
}

pub(crate) async fn a_bucket_that_names_the_locks_is_sent_none(server: &OnServer) {
    let owner = server.vault().await;
    let default = DefaultRetention { mode: LockMode::Governance, days: 3 };
    owner.put_default_retention(default).await.unwrap();
    let options = server.options(owner.bucket().as_str(), &server.owner);
    let store = open(S3Options { lock_by: LockBy::BucketDefault, ..options }).await;
    let key = ObjectKey::genesis(1);
    let receipt = put_locked(&store, &key, Bytes::from_static(b"x"), lock(1)).await.unwrap();
    // Three days by the bucket, not the one that was wanted at least.
    assert!(receipt.lock.satisfies(&lock(2)), "{receipt:?}");
}

pub(crate) async fn a_version_under_a_key_of_somebodys_own_is_passed_over(server: &OnServer) {
    let store = server.vault().await;
    let bytes = b"0123456789abcdef0123456789abcdef";
    let put =
        server.raw().put_object().bucket(store.bucket().as_str()).key(full(&ObjectKey::genesis(1)));
    let put = put.sse_customer_algorithm("AES256");
    let put = put.sse_customer_key(BASE64_STANDARD.encode(bytes));
    let put = put.sse_customer_key_md5(BASE64_STANDARD.encode(Md5::digest(bytes)));
    put.body(b"sealed".to_vec().into()).send().await.unwrap();
    let versions = list_all(&store, "genesis/").await.versions;
    let found = oldest_verified(&store, &versions, 100, |_| Ok::<_, ()>(())).await.unwrap();
    assert!(found.value.is_none() && found.unreadable.len() == 1, "{found:?}");
}

pub(crate) async fn a_writer_with_put_rights_alone_stores_under_lock_and_reads_nothing(
    server: &OnServer,
) {
    let store = server.vault().await;
    let bucket = store.bucket().as_str();
    // Elsewhere the user's own policy says so: tests/servers/users.py.
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",
        "Principal":{{"AWS":["arn:aws:iam:::user/{}"]}},
        "Action":["s3:PutObject","s3:PutObjectRetention","s3:GetObjectRetention"],
        "Resource":"arn:aws:s3:::{bucket}/{PREFIX}/*"}}]}}"#,
        server.writer.key.to_lowercase(),
    );
    if server.name.starts_with("ceph") {
        store.put_policy(&policy).await.unwrap();
    }
    let writer = open(server.options(bucket, &server.writer)).await;
    // Where a writer may put.
    let key: ObjectKey = "canary/x".parse().unwrap();
    let receipt =
        put_locked(&writer, &key, Bytes::from_static(b"x"), lock(1)).await.expect("it may put");
    assert!(receipt.lock.satisfies(&lock(0)));
    writer.extend(&key, &receipt.version_id, lock(2)).await.expect("it may lengthen");
    assert!(writer.server_time().await.is_ok());
    let listed = writer.list_versions("", None).await;
    assert!(matches!(listed, Err(StoreError::Denied { .. })), "{listed:?}");
    let configured = writer.put_lifecycle(&[]).await;
    assert!(configured.is_err(), "{configured:?}");
}

/// Puts an object past our crate, locked for so many days, and returns its version.
async fn plant_locked(
    server: &OnServer,
    store: &S3Store,
    mode: ObjectLockMode,
    days: i64,
) -> String {
    let until = HostClock(TimeDelta::zero()).now() + TimeDelta::days(days);
    let put =
        server.raw().put_object().bucket(store.bucket().as_str()).key(full(&ObjectKey::genesis(1)));
    let put = put.object_lock_mode(mode).object_lock_retain_until_date(seconds(until));
    let put = put.content_md5(BASE64_STANDARD.encode(Md5::digest(b"x")));
    let answer = put.body(b"x".to_vec().into()).send().await.unwrap();
    answer.version_id().expect("a version").to_owned()
}

fn seconds(at: DateTime<Utc>) -> aws_sdk_s3::primitives::DateTime {
    aws_sdk_s3::primitives::DateTime::from_secs(at.timestamp())
}

pub(crate) async fn a_locked_version_is_not_deleted(server: &OnServer) {
    let store = server.vault().await;
    for (mode, bypass) in [(ObjectLockMode::Governance, false), (ObjectLockMode::Compliance, true)]
    {
        let version = plant_locked(server, &store, mode.clone(), 1).await;
        let delete = server.raw().delete_object().bucket(store.bucket().as_str());
        let delete = delete.key(full(&ObjectKey::genesis(1))).version_id(version);
        let delete = delete.set_bypass_governance_retention(bypass.then_some(true));
        let answer = delete.send().await;
        assert!(answer.is_err(), "a version under {mode} is gone");
    }
}

pub(crate) async fn a_compliance_lock_is_not_weakened(server: &OnServer) {
    let store = server.vault().await;
    let weaker = [
        ("shortened", ObjectLockRetentionMode::Compliance, 1),
        ("turned into GOVERNANCE", ObjectLockRetentionMode::Governance, 3),
    ];
    for (what, mode, days) in weaker {
        let version = plant_locked(server, &store, ObjectLockMode::Compliance, 2).await;
        let until = HostClock(TimeDelta::zero()).now() + TimeDelta::days(days);
        let retention = ObjectLockRetention::builder().mode(mode);
        let retention = retention.retain_until_date(seconds(until)).build();
        let put = server.raw().put_object_retention().bucket(store.bucket().as_str());
        let put = put.key(full(&ObjectKey::genesis(1))).version_id(version).retention(retention);
        let answer = put.bypass_governance_retention(true).send().await;
        assert!(answer.is_err(), "a lock under COMPLIANCE was {what}");
    }
}

pub(crate) async fn versioning_is_not_suspended(server: &OnServer) {
    let store = server.vault().await;
    let suspended =
        VersioningConfiguration::builder().status(BucketVersioningStatus::Suspended).build();
    let put = server.raw().put_bucket_versioning().bucket(store.bucket().as_str());
    let answer = put.versioning_configuration(suspended).send().await;
    assert!(answer.is_err(), "the versioning of a bucket with Object Lock was suspended");
}

pub(crate) async fn a_body_that_is_not_what_its_checksum_says_is_refused(server: &OnServer) {
    let store = server.vault().await;
    let put = server.raw().put_object().bucket(store.bucket().as_str());
    let put = put.key(full(&ObjectKey::genesis(1))).body(b"x".to_vec().into());
    let answer = put.content_md5(BASE64_STANDARD.encode(Md5::digest(b"y"))).send().await;
    assert!(answer.is_err(), "a body was stored that is not what its Content-MD5 says");
}

pub(crate) async fn a_lock_past_2106_does_not_wrap(server: &OnServer) {
    let store = server.vault().await;
    let until = "2110-01-01T00:00:00Z".parse().unwrap();
    let far = Lock { mode: LockMode::Governance, retain_until: until };
    let version = store.put(&ObjectKey::genesis(1), Bytes::from_static(b"x"), far).await.unwrap();
    let found = store.retention(&ObjectKey::genesis(1), &version).await.unwrap();
    assert_eq!(found, Some(far));
}

pub(crate) async fn an_upload_in_parts_is_locked(server: &OnServer) {
    let store = server.vault().await;
    let (raw, key) = (server.raw(), full(&ObjectKey::genesis(1)));
    let bucket = store.bucket().as_str();
    let wanted = lock(1);
    let until = seconds(wanted.retain_until);
    let begin = raw.create_multipart_upload().bucket(bucket).key(&key);
    let begin = begin.object_lock_mode(ObjectLockMode::Governance);
    let upload = begin.object_lock_retain_until_date(until).send().await.unwrap();
    let id = upload.upload_id().expect("an upload");
    let part = raw.upload_part().bucket(bucket).key(&key).upload_id(id).part_number(1);
    let part = part.content_md5(BASE64_STANDARD.encode(Md5::digest(b"x")));
    let sent = part.body(b"x".to_vec().into()).send().await.unwrap();
    let part = CompletedPart::builder().part_number(1).set_e_tag(sent.e_tag).build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let end = raw.complete_multipart_upload().bucket(bucket).key(&key).upload_id(id);
    let ended = end.multipart_upload(parts).send().await.unwrap();
    let version = ended.version_id().expect("a version").parse().unwrap();
    let found = store.retention(&ObjectKey::genesis(1), &version).await.unwrap();
    let kept = found.is_some_and(|found| found.satisfies(&wanted));
    assert!(kept, "what was sent in parts has the lock {found:?}");
}
