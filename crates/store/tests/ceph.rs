//! The S3 store under the contract, on a real server, and what only a real server can answer.
//!
//! The addresses come from the environment: `./test` starts the server and sets them. Without them every test fails.
#![cfg(test)]

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
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
    StoreError,
    contract::{Server, list_all},
    oldest_verified, put_locked,
};

const PREFIX: &str = "keep/prod";

/// The host's clock, off by so much; sleeping is real.
#[derive(Debug)]
struct HostClock(TimeDelta);

impl Clock for HostClock {
    #[expect(clippy::disallowed_methods, reason = "the server's clock is real")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.0
    }
    #[expect(clippy::disallowed_methods, reason = "the server's clock is real")]
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

#[derive(Debug)]
struct Account {
    key: String,
    secret: String,
}

#[derive(Debug)]
struct Ceph {
    endpoint: String,
    owner: Account,
    writer: Account,
    reader: Account,
}

fn ceph() -> &'static Ceph {
    static CEPH: OnceLock<Ceph> = OnceLock::new();
    CEPH.get_or_init(|| Ceph {
        endpoint: variable("STONEKEEP_TEST_S3_ENDPOINT"),
        owner: account("STONEKEEP_TEST_S3_OWNER"),
        writer: account("STONEKEEP_TEST_S3_WRITER"),
        reader: account("STONEKEEP_TEST_S3_READER"),
    })
}

#[expect(clippy::disallowed_methods, reason = "a test finds its server in the environment")]
fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run ./test, which starts a server"))
}

fn account(name: &str) -> Account {
    let text = variable(name);
    let (key, secret) = text.split_once(':').expect("KEY:SECRET");
    Account { key: key.to_owned(), secret: secret.to_owned() }
}

fn options(bucket: &str, account: &Account) -> S3Options {
    S3Options {
        bucket: bucket.parse().unwrap(),
        prefix: PREFIX.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(ceph().endpoint.clone()),
        path_style: true,
        ca_file: None,
        lock_by: LockBy::PerObject,
        credentials: S3Credentials::Static {
            access_key_id: account.key.clone(),
            secret_access_key: account.secret.clone().into(),
            session_token: None,
        },
    }
}

async fn open(options: S3Options) -> S3Store {
    S3Store::open(options, Arc::new(HostClock(TimeDelta::zero()))).await.unwrap()
}

/// The owner's own hands, past our crate: they overwrite and delete.
fn raw() -> Client {
    let Account { key, secret } = &ceph().owner;
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .endpoint_url(&ceph().endpoint)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .credentials_provider(Credentials::new(key, secret, None, None, "test"));
    Client::from_conf(config.build())
}

fn fresh_name() -> String {
    format!("contract-{:016x}", rand::random::<u64>())
}

fn full(key: &ObjectKey) -> String {
    format!("{PREFIX}/{key}")
}

struct Rgw;

#[async_trait]
impl Server for Rgw {
    fn now(&self) -> DateTime<Utc> {
        HostClock(TimeDelta::zero()).now()
    }
    async fn absent(&self) -> Arc<dyn ProvisionStore> {
        Arc::new(open(options(&fresh_name(), &ceph().owner)).await)
    }
    async fn without_lock(&self) -> Arc<dyn ProvisionStore> {
        let name = fresh_name();
        raw().create_bucket().bucket(&name).send().await.unwrap();
        Arc::new(open(options(&name, &ceph().owner)).await)
    }
    async fn stranger(&self, store: &Arc<dyn ProvisionStore>) -> Arc<dyn ProvisionStore> {
        Arc::new(open(options(store.bucket().as_str(), &ceph().reader)).await)
    }
    async fn plant(&self, store: &Arc<dyn ProvisionStore>, key: &ObjectKey, body: Bytes) {
        let put = raw().put_object().bucket(store.bucket().as_str()).key(full(key));
        put.body(body.into()).send().await.unwrap();
    }
    async fn plant_marker(&self, store: &Arc<dyn ProvisionStore>, key: &ObjectKey) {
        let bucket = store.bucket().as_str();
        raw().delete_object().bucket(bucket).key(full(key)).send().await.unwrap();
    }
}

stonekeep_store::contract!(std::future::ready(Rgw));

fn lock(days: i64) -> Lock {
    use chrono::SubsecRound;
    let until = (Rgw.now() + TimeDelta::days(days)).trunc_subsecs(0);
    Lock { mode: LockMode::Governance, retain_until: until }
}

async fn vault() -> S3Store {
    let store = open(options(&fresh_name(), &ceph().owner)).await;
    store.create_bucket().await.unwrap();
    store
}

#[tokio::test]
async fn an_unknown_access_key_is_told() {
    let unknown = Account { key: "NOBODY".to_owned(), secret: "x".to_owned() };
    let store = open(options(&fresh_name(), &unknown)).await;
    let listed = store.list_versions("", None).await;
    assert!(matches!(listed, Err(StoreError::BadCredentials { .. })), "{listed:?}");
}

#[tokio::test]
async fn a_wrong_secret_is_told_by_every_call() {
    let wrong = Account { key: ceph().owner.key.clone(), secret: "wrong".to_owned() };
    let store = open(options(vault().await.bucket().as_str(), &wrong)).await;
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

#[tokio::test]
async fn a_wrong_host_clock_is_told() {
    let bucket: BucketName = vault().await.bucket().clone();
    for hours in [-1, 1] {
        let clock = Arc::new(HostClock(TimeDelta::hours(hours)));
        let options = options(bucket.as_str(), &ceph().owner);
        let store = S3Store::open(options, clock).await.unwrap();
        let listed = store.list_versions("", None).await;
        assert!(matches!(listed, Err(StoreError::Skewed { .. })), "{listed:?}");
        // A second call must not have been "corrected" by the first one's answer.
        let again = store.server_time().await;
        assert!(matches!(again, Err(StoreError::Skewed { .. })), "{again:?}");
    }
}

#[tokio::test]
async fn a_credentials_file_is_read_by_profile() {
    use std::io::Write;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let Account { key, secret } = &ceph().owner;
    writeln!(file, "[other]\naws_access_key_id = x\naws_secret_access_key = y").unwrap();
    writeln!(file, "[vault]\naws_access_key_id = {key}\naws_secret_access_key = {secret}").unwrap();
    let path = file.path().to_owned();
    let from_file = |path, profile: &str| S3Options {
        credentials: S3Credentials::File { path, profile: profile.to_owned() },
        ..options(&fresh_name(), &ceph().owner)
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

#[tokio::test]
async fn a_segment_of_sixteen_mebibytes_is_put_and_read_back() {
    let store = vault().await;
    let body = Bytes::from((0..16_u32 << 18).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    let receipt = put_locked(&store, &ObjectKey::genesis(1), body.clone(), lock(1)).await.unwrap();
    let read = store.get(&receipt.key, &receipt.version_id, body.len() as u64).await.unwrap();
    assert!(read == body);
}

#[tokio::test]
async fn a_thousand_and_some_versions_are_listed_whole() {
    let store = vault().await;
    let raw = raw();
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

#[tokio::test]
async fn a_key_that_xml_cannot_hold_at_a_pages_end_spoils_no_listing() {
    let store = vault().await;
    let raw = raw();
    for n in 0..1001 {
        let key = full(&format!("k/{n:04}\u{1}").parse().unwrap());
        let put = raw.put_object().bucket(store.bucket().as_str()).key(key);
        put.body(Vec::new().into()).send().await.unwrap();
    }
    let all = list_all(&store, "k/").await;
    assert_eq!(all.versions.len(), 1001);
}

#[tokio::test]
async fn a_bucket_that_names_the_locks_is_sent_none() {
    let owner = vault().await;
    let default = DefaultRetention { mode: LockMode::Governance, days: 3 };
    owner.put_default_retention(default).await.unwrap();
    let options = options(owner.bucket().as_str(), &ceph().owner);
    let store = open(S3Options { lock_by: LockBy::BucketDefault, ..options }).await;
    let key = ObjectKey::genesis(1);
    let receipt = put_locked(&store, &key, Bytes::from_static(b"x"), lock(1)).await.unwrap();
    // Three days by the bucket, not the one that was wanted at least.
    assert!(receipt.lock.satisfies(&lock(2)), "{receipt:?}");
}

#[tokio::test]
async fn a_version_under_a_key_of_somebodys_own_is_passed_over() {
    let store = vault().await;
    let bytes = b"0123456789abcdef0123456789abcdef";
    let put = raw().put_object().bucket(store.bucket().as_str()).key(full(&ObjectKey::genesis(1)));
    let put = put.sse_customer_algorithm("AES256");
    let put = put.sse_customer_key(BASE64_STANDARD.encode(bytes));
    let put = put.sse_customer_key_md5(BASE64_STANDARD.encode(Md5::digest(bytes)));
    put.body(b"sealed".to_vec().into()).send().await.unwrap();
    let versions = list_all(&store, "genesis/").await.versions;
    let found = oldest_verified(&store, &versions, 100, |_| Ok::<_, ()>(())).await.unwrap();
    assert!(found.value.is_none() && found.unreadable.len() == 1, "{found:?}");
}

#[tokio::test]
async fn a_writer_with_put_rights_alone_stores_under_lock_and_reads_nothing() {
    let store = vault().await;
    let bucket = store.bucket().as_str();
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",
        "Principal":{{"AWS":["arn:aws:iam:::user/{}"]}},
        "Action":["s3:PutObject","s3:PutObjectRetention","s3:GetObjectRetention"],
        "Resource":"arn:aws:s3:::{bucket}/{PREFIX}/*"}}]}}"#,
        ceph().writer.key.to_lowercase(),
    );
    store.put_policy(&policy).await.unwrap();
    let writer = open(options(bucket, &ceph().writer)).await;
    let key = ObjectKey::genesis(1);
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
