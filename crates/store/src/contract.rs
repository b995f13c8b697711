//! What every store must do: one suite, run on the in-memory model and on every real server.
//!
//! What it expects was seen on real servers; a model that fails it is wrong, and what a server lacks is a list of its own ([`Lack`]). [`contract!`](crate::contract!) declares one test
//! for each claim, so that they run side by side, each in a bucket of its own.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use futures_util::{FutureExt as _, TryStreamExt as _};
use stonekeep_format::{
    ids::{ChainId, Nonce, SegmentId, Seq, SnapshotId, VersionId},
    key::ObjectKey,
    lock::{Class, Lock, LockMode},
};

use crate::{
    Created, DefaultRetention, DeleteMarker, LifecycleAction, LifecycleRule, ListCursor,
    ObjectVersion, ProvisionStore, ReadStore, StoreError, list_keys, put_locked,
};

/// A server to hold to the contract, and the hands of those who do not keep to ours.
#[async_trait]
pub trait Server: Sync {
    /// Returns the server's clock.
    fn now(&self) -> DateTime<Utc>;
    /// Returns the owner's store over a bucket that is not there, another one each time.
    async fn absent(&self) -> Arc<dyn ProvisionStore>;
    /// Returns the owner's store over a bucket without Object Lock.
    async fn without_lock(&self) -> Arc<dyn ProvisionStore>;
    /// Returns the same bucket through a credential that has no rights there.
    async fn stranger(&self, store: &Arc<dyn ProvisionStore>) -> Arc<dyn ProvisionStore>;
    /// Puts an object without a lock under a key of the store's prefix.
    async fn plant(&self, store: &Arc<dyn ProvisionStore>, key: &ObjectKey, body: Bytes);
    /// Puts a delete marker over a key.
    async fn plant_marker(&self, store: &Arc<dyn ProvisionStore>, key: &ObjectKey);
    /// Returns what the server is known not to do; see [`hold`].
    fn lacks(&self) -> &'static [Lack] {
        &[]
    }
}

/// A claim that a server is known to break, and how that shows.
#[derive(Debug, Clone, Copy)]
pub struct Lack {
    /// The claim's name.
    pub claim: &'static str,
    /// What the broken claim says, in part: a server that breaks it in another way is another server.
    pub shows: &'static str,
}

/// Holds a server to a claim. One it is known to lack must break, as it is known to: a server that has learnt to keep it is to be
/// taken off the list.
pub async fn hold(lacks: &[Lack], claim: &str, kept: impl Future<Output = ()> + Send) {
    let outcome = AssertUnwindSafe(kept).catch_unwind().await;
    let lack = lacks.iter().find(|lack| lack.claim == claim);
    match (outcome, lack) {
        (Ok(()), lack) => assert!(lack.is_none(), "the server keeps {claim} now"),
        (Err(said), None) => resume_unwind(said),
        (Err(said), Some(lack)) => {
            let said = words(&*said);
            assert!(said.contains(lack.shows), "{claim} breaks in a new way: {said}");
        }
    }
}

fn words(said: &(dyn Any + Send)) -> String {
    let text = said.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| said.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
}

/// Declares the contract's tests for the [`Server`] that `$server`, an expression to be awaited, makes.
#[macro_export]
macro_rules! contract {
    ($server:expr) => {
        $crate::contract!(@tests $server;
            a_bucket_is_made_once_with_object_lock,
            a_bucket_without_object_lock_is_told,
            an_absent_bucket_is_told,
            a_strangers_bucket_is_denied,
            an_object_comes_back_by_version,
            an_overwrite_hides_nothing,
            what_is_sent_again_under_its_key_is_another_version,
            a_segment_is_put_where_there_is_nothing,
            nothing_is_put_over_a_segment,
            a_delete_marker_hides_nothing,
            an_unknown_version_is_not_found,
            a_longer_object_is_not_read,
            a_lock_is_kept_and_read_back,
            a_lock_can_be_extended_and_not_shortened,
            a_lock_in_the_past_is_refused,
            an_object_without_lock_has_none,
            listings_keep_to_the_prefix,
            long_listings_are_whole,
            strange_keys_are_listed_as_they_are,
            the_servers_clock_is_told,
            the_bucket_takes_policy_and_rules,
            a_default_retention_locks_what_names_no_lock
        );
    };
    (@tests $server:expr; $($claim:ident),*) => {
        $(
            #[tokio::test]
            async fn $claim() {
                let server = $server.await;
                let lacks = $crate::contract::Server::lacks(&server);
                let kept = $crate::contract::$claim(&server);
                $crate::contract::hold(lacks, stringify!($claim), kept).await;
            }
        )*
    };
}

/// Everything under a prefix.
#[derive(Debug, Default)]
pub struct Listing {
    /// In the order of the keys; of one key, the oldest first.
    pub versions: Vec<ObjectVersion>,
    /// In the same order.
    pub markers: Vec<DeleteMarker>,
}

/// Lists everything under a prefix that holds no more than a test has put there.
pub async fn list_all(store: &dyn ReadStore, prefix: &str) -> Listing {
    let keys: Result<Vec<_>, _> = list_keys(store, prefix).try_collect().await;
    let mut all = Listing::default();
    for (_, found) in keys.expect("it may be listed") {
        all.versions.extend(found.versions);
        all.markers.extend(found.markers);
    }
    all
}

async fn vault(server: &dyn Server) -> Arc<dyn ProvisionStore> {
    let store = server.absent().await;
    store.create_bucket().await.expect("the owner may make buckets");
    store
}

/// GOVERNANCE, so that the bucket of a test can be emptied by its owner.
fn lock(server: &dyn Server, days: i64) -> Lock {
    let retain_until = (server.now() + TimeDelta::days(days)).trunc_subsecs(0);
    Lock { mode: LockMode::Governance, retain_until }
}

fn key(text: &str) -> ObjectKey {
    text.parse().expect("the suite's own key")
}

async fn put(
    server: &dyn Server,
    store: &Arc<dyn ProvisionStore>,
    at: &str,
    body: &'static str,
) -> VersionId {
    let body = Bytes::from_static(body.as_bytes());
    let receipt = put_locked(&**store, &key(at), body, lock(server, 1)).await;
    receipt.expect("an object can be put").version_id
}

/// The bodies of all versions under `prefix`, in the order of the listing.
async fn bodies(store: &dyn ReadStore, versions: &[ObjectVersion]) -> Vec<String> {
    let mut bodies = Vec::new();
    for version in versions {
        let bytes = store.get(&version.key, &version.version_id, 1000).await;
        let bytes = bytes.expect("a listed version can be read");
        assert_eq!(bytes.len() as u64, version.bytes);
        bodies.push(String::from_utf8(bytes.to_vec()).expect("the suite's own text"));
    }
    bodies
}

pub async fn a_bucket_is_made_once_with_object_lock(server: &dyn Server) {
    let store = server.absent().await;
    assert_eq!(store.create_bucket().await.ok(), Some(Created::New));
    assert_eq!(store.create_bucket().await.ok(), Some(Created::Existed));
    let lock = store.bucket_lock().await.expect("the owner may read it");
    assert!(lock.enabled && lock.default.is_none());
}

pub async fn a_bucket_without_object_lock_is_told(server: &dyn Server) {
    let store = server.without_lock().await;
    let told = store.bucket_lock().await.expect("the owner may read it");
    assert!(!told.enabled);
    let made = store.create_bucket().await;
    assert!(matches!(made, Err(StoreError::NoObjectLock { .. })), "{made:?}");
    let put = store.put(&key("a"), Bytes::from_static(b"x"), lock(server, 1)).await;
    assert!(matches!(put, Err(StoreError::NoObjectLock { .. })), "{put:?}");
}

pub async fn an_absent_bucket_is_told(server: &dyn Server) {
    let store = server.absent().await;
    let listed = store.list_versions("", None).await;
    assert!(matches!(listed, Err(StoreError::NoBucket { .. })), "{listed:?}");
    let put = store.put(&key("a"), Bytes::new(), lock(server, 1)).await;
    assert!(matches!(put, Err(StoreError::NoBucket { .. })), "{put:?}");
    let told = store.bucket_lock().await;
    assert!(matches!(told, Err(StoreError::NoBucket { .. })), "{told:?}");
    let time = store.server_time().await;
    assert!(matches!(time, Err(StoreError::NoBucket { .. })), "{time:?}");
}

pub async fn a_strangers_bucket_is_denied(server: &dyn Server) {
    let store = vault(server).await;
    let version = put(server, &store, "a", "x").await;
    let stranger = server.stranger(&store).await;
    let denied = [
        stranger.list_versions("", None).await.map(drop),
        stranger.get(&key("a"), &version, 10).await.map(drop),
        stranger.head(&key("a"), &version).await.map(drop),
        stranger.retention(&key("a"), &version).await.map(drop),
        stranger.bucket_lock().await.map(drop),
        stranger.put(&key("b"), Bytes::from_static(b"x"), lock(server, 1)).await.map(drop),
        stranger.extend(&key("a"), &version, lock(server, 2)).await,
        stranger.put_policy("{}").await,
        stranger.put_lifecycle(&[]).await,
    ];
    for (n, outcome) in denied.into_iter().enumerate() {
        assert!(matches!(outcome, Err(StoreError::Denied { .. })), "call {n}: {outcome:?}");
    }
    let made = stranger.create_bucket().await;
    assert!(matches!(made, Err(StoreError::BucketTaken { .. })), "{made:?}");
    assert!(stranger.server_time().await.is_ok(), "the time is told to whoever can sign");
}

pub async fn an_object_comes_back_by_version(server: &dyn Server) {
    let store = vault(server).await;
    let version = put(server, &store, "segments/1/a", "ciphertext").await;
    let bytes = store.get(&key("segments/1/a"), &version, 10).await.expect("it is there");
    assert_eq!(bytes, "ciphertext");
    let head = store.head(&key("segments/1/a"), &version).await.expect("it is there");
    assert_eq!(head.bytes, 10);
    let empty = put(server, &store, "empty", "").await;
    assert_eq!(store.get(&key("empty"), &empty, 0).await.expect("it is there"), "");
}

pub async fn an_overwrite_hides_nothing(server: &dyn Server) {
    let store = vault(server).await;
    let first = put(server, &store, "a", "first").await;
    server.plant(&store, &key("a"), Bytes::from_static(b"second")).await;
    server.plant(&store, &key("a"), Bytes::from_static(b"third")).await;
    let all = list_all(&*store, "").await;
    assert_eq!(bodies(&*store, &all.versions).await, ["first", "second", "third"]);
    assert_eq!(all.versions[0].version_id, first);
    let latest: Vec<bool> = all.versions.iter().map(|version| version.is_latest).collect();
    assert_eq!(latest, [false, false, true]);
    assert!(all.versions.is_sorted_by_key(|version| version.modified_at));
}

pub async fn what_is_sent_again_under_its_key_is_another_version(server: &dyn Server) {
    let store = vault(server).await;
    let chain = ChainId::from_bytes([1; 8]);
    let id = SnapshotId::new(server.now(), 1);
    let label = "bookings".parse().expect("a label");
    let at = ObjectKey::manifest(&label, Seq(1), chain, &id);
    for _ in 0..2 {
        put(server, &store, at.as_str(), "signed").await;
    }
    let all = list_all(&*store, "").await;
    assert_eq!(bodies(&*store, &all.versions).await, ["signed", "signed"]);
}

pub async fn a_segment_is_put_where_there_is_nothing(server: &dyn Server) {
    let store = vault(server).await;
    let lock = lock(server, 1);
    let class = Class::of(server.now(), lock.retain_until);
    let at = ObjectKey::segment(class, SegmentId::from_bytes([1; 32]), Nonce::from_bytes([2; 16]));
    let first = put(server, &store, at.as_str(), "first").await;
    // A server that knows no conditions makes another version of it, and nothing rests on that either.
    let again = store.put(&at, Bytes::from_static(b"second"), lock).await;
    assert!(matches!(again, Ok(_) | Err(StoreError::Exists { .. })), "{again:?}");
    let all = list_all(&*store, "").await;
    assert_eq!(all.versions[0].version_id, first);
    assert_eq!(all.versions.len(), 1 + usize::from(again.is_ok()));
}

pub async fn nothing_is_put_over_a_segment(server: &dyn Server) {
    let store = vault(server).await;
    let lock = lock(server, 1);
    let class = Class::of(server.now(), lock.retain_until);
    let at = ObjectKey::segment(class, SegmentId::from_bytes([1; 32]), Nonce::from_bytes([2; 16]));
    put(server, &store, at.as_str(), "first").await;
    let again = store.put(&at, Bytes::from_static(b"second"), lock).await;
    assert!(matches!(again, Err(StoreError::Exists { .. })), "{again:?}");
}

pub async fn a_delete_marker_hides_nothing(server: &dyn Server) {
    let store = vault(server).await;
    let wanted = lock(server, 1);
    let version = store.put(&key("a"), Bytes::from_static(b"x"), wanted).await.expect("put");
    server.plant_marker(&store, &key("a")).await;
    let all = list_all(&*store, "").await;
    assert_eq!(bodies(&*store, &all.versions).await, ["x"]);
    assert!(!all.versions[0].is_latest);
    assert_eq!(store.retention(&key("a"), &version).await.ok(), Some(Some(wanted)));
    assert_eq!(all.markers.len(), 1);
    let marker = &all.markers[0];
    assert_eq!(marker.key, key("a"));
    let read = store.get(&key("a"), &marker.version_id, 10).await;
    assert!(matches!(read, Err(StoreError::NotFound { .. })), "{read:?}");
    let head = store.head(&key("a"), &marker.version_id).await;
    assert!(matches!(head, Err(StoreError::NotFound { .. })), "{head:?}");
}

pub async fn an_unknown_version_is_not_found(server: &dyn Server) {
    let store = vault(server).await;
    let a = put(server, &store, "a", "x").await;
    let b = put(server, &store, "b", "x").await;
    for (at, version) in [("a", &b), ("b", &a), ("nowhere", &a)] {
        let outcomes = [
            store.get(&key(at), version, 10).await.map(drop),
            store.head(&key(at), version).await.map(drop),
            store.retention(&key(at), version).await.map(drop),
        ];
        for outcome in outcomes {
            assert!(matches!(outcome, Err(StoreError::NotFound { .. })), "{outcome:?}");
        }
    }
}

pub async fn a_longer_object_is_not_read(server: &dyn Server) {
    let store = vault(server).await;
    let version = put(server, &store, "a", "eleven byte").await;
    let read = store.get(&key("a"), &version, 10).await;
    assert!(matches!(read, Err(StoreError::TooLong { bytes_max: 10, .. })), "{read:?}");
    assert!(store.get(&key("a"), &version, 11).await.is_ok());
}

pub async fn a_lock_is_kept_and_read_back(server: &dyn Server) {
    let store = vault(server).await;
    let wanted = lock(server, 3);
    let receipt = put_locked(&*store, &key("a"), Bytes::from_static(b"x"), wanted).await;
    assert_eq!(receipt.map(|receipt| receipt.lock).ok(), Some(wanted));
    // Some seconds only: the bucket of a test must not stay for ever.
    let until = (server.now() + TimeDelta::seconds(5)).trunc_subsecs(0);
    let wanted = Lock { mode: LockMode::Compliance, retain_until: until };
    let receipt = put_locked(&*store, &key("b"), Bytes::from_static(b"x"), wanted).await;
    assert_eq!(receipt.map(|receipt| receipt.lock).ok(), Some(wanted));
}

pub async fn a_lock_can_be_extended_and_not_shortened(server: &dyn Server) {
    let store = vault(server).await;
    let version = put(server, &store, "a", "x").await;
    let longer = lock(server, 2);
    store.extend(&key("a"), &version, longer).await.expect("longer is allowed");
    assert_eq!(store.retention(&key("a"), &version).await.ok(), Some(Some(longer)));
    let shorter = store.extend(&key("a"), &version, lock(server, 1)).await;
    assert!(matches!(shorter, Err(StoreError::Denied { .. })), "{shorter:?}");
    assert_eq!(store.retention(&key("a"), &version).await.ok(), Some(Some(longer)));
}

pub async fn a_lock_in_the_past_is_refused(server: &dyn Server) {
    let store = vault(server).await;
    let put = store.put(&key("a"), Bytes::from_static(b"x"), lock(server, -1)).await;
    assert!(matches!(put, Err(StoreError::Rejected { .. })), "{put:?}");
}

pub async fn an_object_without_lock_has_none(server: &dyn Server) {
    let store = vault(server).await;
    server.plant(&store, &key("a"), Bytes::from_static(b"x")).await;
    let all = list_all(&*store, "").await;
    let version = &all.versions[0].version_id;
    assert_eq!(store.retention(&key("a"), version).await.ok(), Some(None));
    let wanted = lock(server, 1);
    store.extend(&key("a"), version, wanted).await.expect("a lock can be added");
    assert_eq!(store.retention(&key("a"), version).await.ok(), Some(Some(wanted)));
}

pub async fn listings_keep_to_the_prefix(server: &dyn Server) {
    let store = vault(server).await;
    for at in ["manifests/a/1", "manifests/ab/1", "inventories/1/x"] {
        put(server, &store, at, "x").await;
    }
    let all = list_all(&*store, "manifests/a/").await;
    let keys: Vec<&str> = all.versions.iter().map(|version| version.key.as_str()).collect();
    assert_eq!(keys, ["manifests/a/1"]);
    let none = list_all(&*store, "attempts/").await;
    assert!(none.versions.is_empty() && none.markers.is_empty());
}

pub async fn long_listings_are_whole(server: &dyn Server) {
    let store = vault(server).await;
    // Several pages of the model, none of the keys at a page's end alone.
    for n in 0..10 {
        let at = key(&format!("k{}", n % 3));
        server.plant(&store, &at, Bytes::from(format!("{n}"))).await;
        server.plant_marker(&store, &at).await;
    }
    let all = list_all(&*store, "").await;
    assert_eq!(all.markers.len(), 10);
    let found = bodies(&*store, &all.versions).await;
    assert_eq!(found, ["0", "3", "6", "9", "1", "4", "7", "2", "5", "8"]);
    let mut cursor: Option<ListCursor> = None;
    let mut versions = 0;
    loop {
        let page = store.list_versions("k", cursor).await.expect("the owner may list");
        versions += page.versions.len();
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(versions, 10);
}

pub async fn strange_keys_are_listed_as_they_are(server: &dyn Server) {
    let store = vault(server).await;
    let mut keys = ["a b", "a+b", "a%41", "a\u{1}b", "ä", "a&<b>", "a//b"].map(key);
    keys.sort();
    for each in &keys {
        server.plant(&store, each, Bytes::from_static(b"x")).await;
    }
    let all = list_all(&*store, "").await;
    let listed: Vec<ObjectKey> = all.versions.iter().map(|version| version.key.clone()).collect();
    assert_eq!(listed, keys);
    assert_eq!(bodies(&*store, &all.versions).await, ["x"; 7]);
}

pub async fn the_servers_clock_is_told(server: &dyn Server) {
    let store = vault(server).await;
    let told = store.server_time().await.expect("the owner may ask");
    let apart = (told - server.now()).num_seconds().abs();
    assert!(apart <= 5, "{told} is {apart} s off");
}

pub async fn a_default_retention_locks_what_names_no_lock(server: &dyn Server) {
    let store = vault(server).await;
    let wanted = DefaultRetention { mode: LockMode::Governance, days: 3 };
    store.put_default_retention(wanted).await.expect("the owner may set it");
    let told = store.bucket_lock().await.expect("the owner may read it");
    assert_eq!(told.default, Some(wanted));
    server.plant(&store, &key("a"), Bytes::from_static(b"x")).await;
    let version = &list_all(&*store, "").await.versions[0];
    let lock = store.retention(&version.key, &version.version_id).await.expect("it is there");
    let lock = lock.expect("the bucket's default");
    let off = (lock.retain_until - version.modified_at - TimeDelta::days(3)).num_seconds().abs();
    assert!(lock.mode == LockMode::Governance && off <= 2, "{lock:?} for {version:?}");
}

pub async fn the_bucket_takes_policy_and_rules(server: &dyn Server) {
    let store = vault(server).await;
    let bucket = store.bucket().clone();
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Principal":"*","Action":"s3:DeleteObjectVersion","Resource":"arn:aws:s3:::{bucket}/*"}}]}}"#
    );
    store.put_policy(&policy).await.expect("the owner may set a policy");
    let rule = |class: u32| LifecycleRule {
        id: format!("stonekeep-{class}"),
        prefix: format!("segments/{class}/"),
        action: LifecycleAction::Expire { days: class + 30 },
    };
    let abort = LifecycleRule {
        id: "stonekeep-abort".to_owned(),
        prefix: String::new(),
        action: LifecycleAction::AbortUploads { days: 2 },
    };
    let rules = [rule(1), rule(40), abort];
    store.put_lifecycle(&rules).await.expect("the owner may set lifecycle rules");
}
