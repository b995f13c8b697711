//! What a watcher says, on the model of a bucket: of each thing that can be wrong, and that it says nothing without cause.

use bytes::Bytes;
use chrono::TimeDelta;
use stonekeep_format::{
    Clock as _, ids::VersionId, inventory::Segment, lock::Lock, signature::sign_document,
    tier::Every,
};
use stonekeep_store::{
    BucketFacts, LifecycleAction, MemoryStore, ReadStore, Right, contract::list_all,
};

use super::*;
use crate::{
    finding::FindingKind,
    run::tests::{HOUR, World, tier},
};

mod drills;

fn bookings() -> Label {
    "bookings".parse().expect("a label")
}

/// Every two hours, of the one database.
fn plan() -> WatchPlan {
    let labels = BTreeMap::from([(bookings(), Some(Duration::from_secs(2 * 3_600)))]);
    WatchPlan { labels, ..WatchPlan::default() }
}

async fn see(world: &World, plan: &WatchPlan) -> WatchReport {
    let watched = watch(&world.open().await, plan, None, &world.context).await;
    watched.expect("a complete look").report
}

fn kinds(report: &WatchReport) -> Vec<&'static str> {
    report.alarms.iter().map(|alarm| alarm.kind.as_str()).collect()
}

async fn alarms(world: &World, plan: &WatchPlan) -> Vec<&'static str> {
    kinds(&see(world, plan).await)
}

/// A repository with three hourly snapshots, the last of them now.
async fn healthy() -> World {
    let world = World::weekly().await;
    for tables in [["aa", "bb"], ["aa", "bc"], ["aa", "bd"]] {
        world.pass(HOUR);
        world.snapshot(&tables).await;
    }
    world
}

async fn segment(world: &World) -> Segment {
    world.named().await.swap_remove(0)
}

#[tokio::test]
async fn a_healthy_repository_gives_no_alarm() {
    let world = healthy().await;
    let report = see(&world, &plan()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Ok, vec![]));
    assert_eq!(report.labels.len(), 1);
    // Nobody has attacked it yet, nor drilled.
    let [prove, drill] = &report.notes[..] else { panic!("{:?}", report.notes) };
    assert!(prove.contains("stonekeepd prove") && drill.contains("reporter"), "{report:?}");
    let newest = report.labels[0].newest.as_ref().expect("a snapshot");
    assert_eq!((newest.age_secs, newest.promise_left_percent), (0, 100));
    assert_eq!(report.objects, world.store.stored().len() as u64);
    assert_eq!(report.bytes, world.store.stored().iter().map(|(_, bytes)| bytes).sum::<u64>());
    assert_eq!(report.bytes_by_day[0], report.bytes);
    assert!(report.locks > 2);
}

#[tokio::test]
async fn a_month_of_expiry_gives_no_alarm() {
    let world =
        World::new(vec![tier("hourly", Every::Hour, 2), tier("daily", Every::Day, 5)]).await;
    let rules = crate::lifecycle::rules(world.open().await.genesis.lock.cap, 0);
    stonekeep_store::ProvisionStore::put_lifecycle(&world.store, &rules).await.expect("set");
    let every_half_day =
        WatchPlan { age_max: Some(Duration::from_secs(24 * 3_600)), ..WatchPlan::default() };
    let mut witness = None;
    for at in 0..30 * 2_u32 {
        world.snapshot(&["aa", &format!("b{at}")]).await;
        mark_expired(&world.store, world.clock.now()).await;
        world.store.expire();
        let mut repository = world.open().await;
        // The rules are the test's, and not those of the day on which the owner signed.
        repository.genesis.expected.clear();
        let watched = watch(&repository, &every_half_day, witness.as_ref(), &world.context).await;
        let watched = watched.expect("a complete look");
        assert_eq!(kinds(&watched.report), [""; 0], "{:?}", watched.report.alarms);
        witness = Some(watched.witness);
        world.pass(HOUR * 12);
    }
}

/// As a lifecycle rule does before it removes anything: hides what has reached its days.
async fn mark_expired(store: &MemoryStore, now: DateTime<Utc>) {
    let all = list_all(store, "").await;
    for version in all.versions {
        let rules = store.lifecycle();
        let rule = rules.iter().find(|rule| version.key.as_str().starts_with(&rule.prefix));
        let is_due = rule.is_some_and(|rule| {
            let LifecycleAction::Expire { days } = rule.action else { return false };
            now - version.modified_at >= TimeDelta::days(i64::from(days))
        });
        if is_due && !all.markers.iter().any(|marker| marker.key == version.key) {
            store.plant_marker(&version.key);
        }
    }
}

#[tokio::test]
async fn a_daemon_that_stopped_stays_an_alarm_when_its_promises_have_run_out() {
    let world = healthy().await;
    world.pass(HOUR * 2);
    assert_eq!(alarms(&world, &plan()).await, [""; 0]);
    world.pass(TimeDelta::seconds(1));
    let report = see(&world, &plan()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Critical, vec!["stale"]));
    world.pass(TimeDelta::days(4));
    let report = see(&world, &plan()).await;
    assert_eq!(kinds(&report), ["stale", "promise"]);
    assert!(report.alarms[1].what.contains("stonekeep extend"), "{:?}", report.alarms);
    // Nor does it end with the last promise, whether or not anybody named the database.
    world.pass(TimeDelta::days(5));
    for plan in [plan(), WatchPlan::default()] {
        let report = see(&world, &plan).await;
        assert_eq!((report.status, kinds(&report)), (Status::Critical, vec!["stale", "promise"]));
        assert_eq!(report.locks, 0, "what is promised no more may go");
    }
    lose_all(&world, "manifests/").await;
    let report = see(&world, &WatchPlan::default()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Critical, vec!["missing"]));
}

/// As lifecycle rules do in the end.
async fn lose_all(world: &World, prefix: &str) {
    for version in list_all(&world.store, prefix).await.versions {
        assert!(world.store.lose(&version.key, &version.version_id));
    }
}

#[tokio::test]
async fn a_database_that_was_given_up_is_stale_until_its_last_manifest_is_gone() {
    let world = healthy().await;
    let orders = world.of_label("orders".parse().expect("a label"));
    world.pass(TimeDelta::days(20));
    orders.snapshot(&["a"]).await;
    assert_eq!(alarms(&world, &WatchPlan::default()).await, ["stale", "promise"]);
    lose_all(&world, "manifests/bookings/").await;
    assert_eq!(alarms(&world, &WatchPlan::default()).await, [""; 0]);
}

#[tokio::test]
async fn without_an_age_it_is_twice_the_shortest_tier() {
    let world = healthy().await;
    let report = see(&world, &WatchPlan::default()).await;
    assert_eq!(report.labels[0].age_max_secs, 2 * 3_600);
    let report = see(
        &world,
        &WatchPlan { age_max: Some(HOUR.to_std().expect("an hour")), ..WatchPlan::default() },
    )
    .await;
    assert_eq!(report.labels[0].age_max_secs, 3_600);
}

#[tokio::test]
async fn an_expected_database_without_a_snapshot_is_missing() {
    let world = healthy().await;
    let mut plan = plan();
    plan.labels.insert("orders".parse().expect("a label"), None);
    let report = see(&world, &plan).await;
    assert_eq!(kinds(&report), ["missing"]);
    assert!(report.alarms[0].to_string().contains("orders"));
}

#[tokio::test]
async fn a_suspicious_snapshot_does_not_count_as_fresh() {
    let world = healthy().await;
    world.pass(HOUR * 3);
    assert!(world.snapshot(&["a"]).await.suspicious.is_some());
    assert_eq!(alarms(&world, &plan()).await, ["stale", "suspicious"]);
}

#[tokio::test]
async fn what_a_witness_saw_and_is_hidden_is_a_rollback() {
    let world = healthy().await;
    let repository = world.open().await;
    let seen = watch(&repository, &plan(), None, &world.context).await.expect("a look").witness;
    let all = list_all(&world.store, "manifests/").await.versions;
    let newest = all.last().expect("three");
    world.store.hide(&newest.key, &newest.version_id);
    let report = watch(&repository, &plan(), Some(&seen), &world.context).await.expect("a look");
    assert_eq!(kinds(&report.report), ["rollback"]);
    // It stays known until it is promised no more.
    let again = watch(&repository, &plan(), Some(&report.witness), &world.context).await;
    assert_eq!(kinds(&again.expect("a look").report), ["rollback"]);
}

#[tokio::test]
async fn markers_over_what_is_locked_are_alarms_and_over_what_was_are_not() {
    let world = healthy().await;
    let segment = segment(&world).await;
    world.store.plant_marker(&segment.key);
    world.store.plant_marker(&ObjectKey::genesis(1));
    let inventories = list_all(&world.store, "inventories/").await.versions;
    world.store.plant_marker(&inventories[0].key);
    let manifests = list_all(&world.store, "manifests/").await.versions;
    world.store.plant_marker(&manifests[0].key);
    assert_eq!(alarms(&world, &plan()).await, ["marker"; 4]);

    let world = healthy().await;
    let class = world.named().await[0].key.clone();
    let Some(stonekeep_format::key::Place::Segment(class, ..)) =
        stonekeep_format::key::Place::of(&class)
    else {
        panic!("a segment")
    };
    let days = TimeDelta::days(i64::from(class.days()));
    let key = self::segment(&world).await.key;
    world.pass(days);
    world.store.plant_marker(&key);
    assert!(!alarms(&world, &plan()).await.contains(&"marker"));
}

#[tokio::test]
async fn other_versions_of_our_keys_are_overwrites_unless_a_document_was_sent_twice() {
    let world = healthy().await;
    let store = &world.store;
    // Sent twice: the same bytes.
    for prefix in ["genesis/", "inventories/", "manifests/"] {
        let version = list_all(store, prefix).await.versions.swap_remove(0);
        let bytes = store.get(&version.key, &version.version_id, 1 << 20).await.expect("read");
        store.plant(&version.key, bytes);
    }
    assert_eq!(alarms(&world, &plan()).await, [""; 0]);
    // Of the same length, and not the same.
    let version = list_all(store, "inventories/").await.versions.swap_remove(0);
    let length = usize::try_from(version.bytes).expect("small");
    store.plant(&version.key, Bytes::from(vec![b'x'; length]));
    // Shorter.
    store.plant(&ObjectKey::genesis(1), Bytes::from_static(b"{}"));
    // A segment is never sent twice under one key.
    let segment = segment(&world).await;
    let bytes = store.get(&segment.key, &segment.version_id, segment.bytes).await.expect("read");
    store.plant(&segment.key, bytes);
    assert_eq!(alarms(&world, &plan()).await, ["overwrite"; 3]);
    // A watcher that may read no inventories knows their length.
    let crippled = world.store.without(&[Right::Read]);
    let mut sweep_alarms = Alarms::default();
    let repository = Repository {
        stores: crate::stores::Stores::new(std::sync::Arc::new(crippled), Vec::new()),
        ..world.open().await
    };
    Sweep::of(&repository, world.clock.now(), &mut sweep_alarms).await.expect("listed");
    assert_eq!(sweep_alarms.finish().0.len(), 1, "the genesis is the audit's to judge");
}

#[tokio::test]
async fn many_pairs_of_the_same_hide_no_overwrite_of_a_document() {
    let world = healthy().await;
    let store = &world.store;
    // Attempts are listed before inventories.
    for n in 0..1024 {
        let id = SnapshotId::new(world.clock.now(), n);
        for _ in 0..2 {
            store.plant(&ObjectKey::attempt(&bookings(), &id), Bytes::from_static(b"{}"));
        }
    }
    assert_eq!(alarms(&world, &plan()).await, [""; 0], "documents that were sent twice");
    let version = list_all(store, "inventories/").await.versions.swap_remove(0);
    let length = usize::try_from(version.bytes).expect("small");
    store.plant(&version.key, Bytes::from(vec![b'x'; length]));
    assert_eq!(alarms(&world, &plan()).await, ["overwrite"]);
}

#[tokio::test]
async fn an_overwrite_of_the_same_length_under_somebodys_own_key_is_told() {
    let world = healthy().await;
    let version = list_all(&world.store, "inventories/").await.versions.swap_remove(0);
    let length = usize::try_from(version.bytes).expect("small");
    let sealed = world.store.plant(&version.key, Bytes::from(vec![b'x'; length]));
    world.store.seal_away(&version.key, &sealed);
    assert_eq!(alarms(&world, &plan()).await, ["overwrite"]);
}

#[tokio::test]
async fn keys_that_are_none_of_ours_are_foreign_and_provess_are_ours() {
    let world = healthy().await;
    let run = SnapshotId::new(world.clock.now(), 5);
    world.store.plant(&ObjectKey::canary(&run, "plain"), Bytes::from_static(b"x"));
    world.store.plant_marker(&ObjectKey::canary(&run, "plain"));
    assert_eq!(alarms(&world, &plan()).await, [""; 0]);
    for key in ["junk", "segments/7/x", "canary/x", "genesis/2"] {
        world.store.plant(&key.parse().expect("a key"), Bytes::from_static(b"x"));
    }
    assert_eq!(alarms(&world, &plan()).await, ["unsigned", "foreign", "foreign", "foreign"]);
    // Under manifests/ it is the audit that reads and names it.
    world.store.plant(&"manifests/bookings/x".parse().expect("a key"), Bytes::from_static(b"x"));
    assert_eq!(alarms(&world, &plan()).await.len(), 5);
}

async fn version_of(store: &MemoryStore, key: &ObjectKey) -> VersionId {
    list_all(store, key.as_str()).await.versions.swap_remove(0).version_id
}

#[tokio::test]
async fn a_newest_snapshot_with_a_lost_or_unlocked_object_is_told() {
    let world = healthy().await;
    let named = world.named().await;
    world.store.unlock(&named[0].key, &named[0].version_id);
    assert!(world.store.lose(&named[1].key, &named[1].version_id));
    let newest = list_all(&world.store, "manifests/").await.versions.pop().expect("three");
    world.store.unlock(&newest.key, &newest.version_id);
    let report = see(&world, &plan()).await;
    assert_eq!(kinds(&report), ["lock"; 3]);
    assert!(report.alarms.iter().any(|alarm| alarm.what.contains("is not there")));

    let world = healthy().await;
    let inventory = list_all(&world.store, "inventories/").await.versions.pop().expect("three");
    assert!(world.store.lose(&inventory.key, &version_of(&world.store, &inventory.key).await));
    // Named twice: it cannot be read, and its lock is gone with it.
    assert_eq!(alarms(&world, &plan()).await, ["lock"; 2]);
}

#[tokio::test]
async fn locks_are_sampled_or_all_asked_for() {
    let world = World::weekly().await;
    let tables: Vec<String> = (0..100).map(|at| format!("{at}")).collect();
    world.snapshot(&tables.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(see(&world, &plan()).await.locks, 66);
    let all = WatchPlan { all_locks: true, ..plan() };
    assert_eq!(see(&world, &all).await.locks, 2 + world.named().await.len() as u64);
    let weak = &world.named().await[50];
    world.store.unlock(&weak.key, &weak.version_id);
    assert_eq!(alarms(&world, &all).await, ["lock"]);
}

#[tokio::test]
async fn more_than_may_be_stored_in_a_day_is_told() {
    let world = healthy().await;
    let stored = see(&world, &plan()).await.bytes;
    let limited = |max| WatchPlan { bytes_per_day_max: Some(max), ..plan() };
    assert_eq!(alarms(&world, &limited(stored)).await, [""; 0]);
    assert_eq!(alarms(&world, &limited(stored - 1)).await, ["bytes"]);
}

#[test]
fn a_day_is_compared_with_the_seven_before_once_there_are_seven() {
    let at: DateTime<Utc> = "2026-11-21T00:00:00Z".parse().expect("a date");
    let kinds = |gib: [u64; 8], days| {
        let by_day = gib.map(|gib| gib << 30);
        let first_at = at - TimeDelta::days(days);
        let sweep = Sweep::counted(by_day, first_at);
        let mut alarms = Alarms::default();
        sweep.judge(at, None, &mut alarms);
        alarms.finish().0.len()
    };
    assert_eq!(kinds([30, 10, 10, 10, 10, 10, 10, 10], 9), 0);
    assert_eq!(kinds([31, 10, 10, 10, 10, 10, 10, 10], 9), 1);
    assert_eq!(kinds([31, 10, 10, 10, 10, 10, 10, 10], 7), 0);
    assert_eq!(kinds([1, 0, 0, 0, 0, 0, 0, 0], 90), 0);
    assert_eq!(kinds([2, 0, 0, 0, 0, 0, 0, 0], 90), 1);
}

#[tokio::test]
async fn a_bucket_that_is_not_configured_as_signed_is_told() {
    let world = healthy().await;
    stonekeep_store::ProvisionStore::put_policy(&world.store, "{}").await.expect("set");
    let report = see(&world, &plan()).await;
    assert_eq!(kinds(&report), ["configuration"]);
    assert!(report.alarms[0].what.contains("the policy configuration"), "{:?}", report.alarms);
}

#[tokio::test]
async fn clocks_that_differ_are_told() {
    let world = healthy().await;
    let ahead =
        stonekeep_format::clock::StillClock::new(world.clock.now() + TimeDelta::seconds(301));
    let context = Context { clock: std::sync::Arc::new(ahead), ..world.context.clone() };
    let report = watch(&world.open().await, &plan(), None, &context).await.expect("a look").report;
    assert_eq!(kinds(&report), [FindingKind::Clock.as_str()]);
}

#[tokio::test]
async fn a_right_that_is_missing_is_a_note_and_a_server_that_fails_an_error() {
    let world = healthy().await;
    let repository = world.open().await;
    let crippled = std::sync::Arc::new(world.store.without(&[Right::ReadLock]));
    let blind = Repository {
        stores: crate::stores::Stores::new(crippled, Vec::new()),
        ..repository.clone()
    };
    let report = watch(&blind, &plan(), None, &world.context).await.expect("a look").report;
    assert_eq!((report.status, report.notes.len(), report.locks), (Status::Ok, 3, 0));
    assert!(report.notes[0].contains("s3:GetObjectRetention"), "{:?}", report.notes);

    world.store.refuse_reads(1, || StoreError::Unavailable {
        action: "list",
        source: "the test says so".into(),
    });
    let failed = watch(&repository, &plan(), None, &world.context).await;
    assert_eq!(failed.expect_err("no look").kind(), ErrorKind::Unavailable);
    world.context.cancel.cancel();
    let stopped = watch(&repository, &plan(), None, &world.context).await;
    assert!(matches!(stopped, Err(WatchError::Cancelled)));
}

/// What [`MemoryStore`] has no right of its own for: inventories that may not be read.
#[derive(Debug)]
struct WithoutInventories(MemoryStore);

#[async_trait::async_trait]
impl ReadStore for WithoutInventories {
    fn bucket(&self) -> &BucketName {
        self.0.bucket()
    }
    async fn list_versions(
        &self,
        prefix: &str,
        after: Option<stonekeep_store::ListCursor>,
    ) -> Result<stonekeep_store::VersionPage, StoreError> {
        self.0.list_versions(prefix, after).await
    }
    async fn get(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        let store = self.0.without(&[Right::Read]);
        let is_inventory = key.as_str().starts_with("inventories/");
        if is_inventory { &store } else { &self.0 }.get(key, version, bytes_max).await
    }
    async fn head(
        &self,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<stonekeep_store::ObjectHead, StoreError> {
        self.0.head(key, version).await
    }
    async fn retention(
        &self,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<Option<Lock>, StoreError> {
        self.0.retention(key, version).await
    }
    async fn bucket_lock(&self) -> Result<stonekeep_store::BucketLock, StoreError> {
        self.0.bucket_lock().await
    }
    async fn bucket_facts(&self) -> Result<BucketFacts, StoreError> {
        self.0.bucket_facts().await
    }
    async fn server_time(&self) -> Result<DateTime<Utc>, StoreError> {
        self.0.server_time().await
    }
}

#[tokio::test]
async fn without_a_right_to_inventories_the_rest_is_judged_and_it_is_said() {
    let world = healthy().await;
    let store = std::sync::Arc::new(WithoutInventories(world.store.clone()));
    let repository =
        Repository { stores: crate::stores::Stores::new(store, Vec::new()), ..world.open().await };
    let report = watch(&repository, &plan(), None, &world.context).await.expect("a look").report;
    assert_eq!((report.status, report.locks), (Status::Ok, 2));
    assert!(report.notes[0].contains("inventory"), "{:?}", report.notes);
}

/// Puts the record of an attack on the repository, such as `change` makes of it.
async fn prove(
    world: &World,
    store: MemoryStore,
    change: impl FnOnce(&mut crate::prove::ProveReport),
) {
    use crate::prove::{ProvePlan, authority, put_record};
    let repository = world.open().await;
    let genesis = &repository.genesis;
    let plan = ProvePlan {
        stores: vec![std::sync::Arc::new(store)],
        lock_mode: genesis.lock.mode,
        lock_by: genesis.lock.by,
        cap: genesis.lock.cap,
        calibration: BTreeMap::new(),
        expected: BTreeMap::new(),
        lasting: false,
    };
    let mut report = authority(&plan, &world.context).await.expect("it answers");
    change(&mut report);
    let signer = &world.plan.signer;
    put_record(&mut report, &plan, genesis.repository, signer).await.expect("recorded");
}

#[tokio::test]
async fn a_proof_of_the_locks_alone_is_no_alarm_and_one_of_many_is() {
    use stonekeep_format::{
        prove::{LockProof, Proof, ProveRecord, Verdict},
        signature::SignedDocument as _,
    };
    let world = healthy().await;
    let repository = world.open().await.genesis.repository;
    let report_key = crate::audit::fixture::stranger();
    for n in 0..17 {
        world.pass(TimeDelta::milliseconds(1));
        let (id, at) = (SnapshotId::new(world.clock.now(), n), world.clock.now());
        let key = ObjectKey::canary(&id, "record");
        let record = LockProof(ProveRecord {
            format: LockProof::FORMAT.to_owned(),
            repository,
            key: key.clone(),
            id,
            proof: Proof::Lock,
            written_at: at,
            verdict: Verdict::Pass,
            probes: Vec::new(),
        });
        let bytes = sign_document(&record, &report_key).expect("signed");
        world.store.plant(&key, bytes.into());
        let wanted: &[&str] = if n < 16 { &[] } else { &["proof"] };
        assert_eq!(alarms(&world, &plan()).await, wanted, "of {n} something may be hidden");
    }
}

/// A credential as a writer's must be.
fn writer(world: &World) -> MemoryStore {
    world.store.without(&Right::NOT_OF_A_WRITER)
}

/// A writer's that may delete as well.
fn deleter(world: &World) -> MemoryStore {
    let mut denied = Right::NOT_OF_A_WRITER.to_vec();
    denied.retain(|right| *right != Right::Delete);
    world.store.without(&denied)
}

fn prove_asked() -> WatchPlan {
    WatchPlan { prove_age_max: Some(Duration::from_secs(3_600)), ..plan() }
}

/// Puts this many objects where records lie, each stored after the one before, under ids that are greater than any of today.
async fn plant_records(world: &World, count: u32) -> Vec<(ObjectKey, VersionId)> {
    let planted = (0..count).map(|n| {
        world.pass(TimeDelta::milliseconds(1));
        let id = SnapshotId::new(world.clock.now() + TimeDelta::minutes(4), u128::from(n));
        let key = ObjectKey::canary(&id, "record");
        let version = world.store.plant(&key, Bytes::from_static(b"{}"));
        (key, version)
    });
    planted.collect()
}

#[tokio::test]
async fn a_proof_that_failed_is_critical_and_one_that_is_old_a_warning() {
    let world = healthy().await;
    prove(&world, writer(&world), |_| {}).await;
    let report = see(&world, &prove_asked()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Ok, vec![]));
    world.pass(HOUR * 2);
    assert_eq!(alarms(&world, &prove_asked()).await, ["proof"]);
    assert_eq!(alarms(&world, &plan()).await, [""; 0], "three days, unless it is said");
    // A record that is dated later and that nobody of ours has signed hides no other.
    let later = SnapshotId::new(world.clock.now() + TimeDelta::days(1), 1);
    world.store.plant(&ObjectKey::canary(&later, "record"), Bytes::from_static(b"{}"));
    assert_eq!(alarms(&world, &prove_asked()).await, ["proof"]);
    prove(&world, deleter(&world), |_| {}).await;
    let report = see(&world, &prove_asked()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Critical, vec!["proof"]));
    assert!(report.alarms[0].what.contains("S0"), "{:?}", report.alarms);
}

#[tokio::test]
async fn junk_of_the_future_hides_no_proof_that_failed() {
    let world = healthy().await;
    prove(&world, deleter(&world), |_| {}).await;
    for n in 0..40 {
        let last: SnapshotId = format!("7{}{n:02}", "Z".repeat(23)).parse().expect("an id");
        world.store.plant(&ObjectKey::canary(&last, "record"), Bytes::from_static(b"{}"));
    }
    let report = see(&world, &plan()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Critical, vec!["proof"]));
    assert!(report.alarms[0].what.contains("S0"), "{:?}", report.alarms);
}

#[tokio::test]
async fn that_only_junk_lies_where_records_do_is_critical_however_it_is_sealed() {
    for are_sealed in [false, true] {
        let world = healthy().await;
        prove(&world, deleter(&world), |_| {}).await;
        for (key, version) in plant_records(&world, 20).await {
            if are_sealed {
                world.store.seal_away(&key, &version);
            }
        }
        let report = see(&world, &plan()).await;
        assert_eq!((report.status, kinds(&report)), (Status::Critical, vec!["proof"]));
        assert!(report.alarms[0].what.contains("somebody may hide"), "{:?}", report.alarms);
        // The next proof is newer than what hid the last.
        world.pass(TimeDelta::minutes(1));
        prove(&world, writer(&world), |_| {}).await;
        assert_eq!(alarms(&world, &plan()).await, [""; 0]);
    }
}

#[tokio::test]
async fn of_a_record_that_was_put_a_thousand_times_few_versions_are_read() {
    let world = healthy().await;
    let (key, _) = plant_records(&world, 1).await.remove(0);
    for _ in 0..500 {
        world.store.plant(&key, Bytes::from_static(b"{}"));
    }
    let (_, before) = world.store.calls();
    assert_eq!(alarms(&world, &plan()).await, ["proof"]);
    let (_, after) = world.store.calls();
    assert!(after - before < 300, "{} reads", after - before);
}

#[tokio::test]
async fn a_proof_that_could_not_tell_is_a_warning_and_hides_no_other() {
    use stonekeep_format::prove::Verdict;
    let world = healthy().await;
    let unclear = |report: &mut crate::prove::ProveReport| report.verdict = Verdict::Inconclusive;
    prove(&world, writer(&world), unclear).await;
    let report = see(&world, &prove_asked()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Warning, vec!["proof"]));
    world.pass(TimeDelta::minutes(1));
    prove(&world, deleter(&world), |_| {}).await;
    world.pass(TimeDelta::minutes(1));
    prove(&world, writer(&world), unclear).await;
    let report = see(&world, &plan()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Critical, vec!["proof"; 2]));
    // Nor does it make the last verdict younger.
    world.pass(TimeDelta::minutes(1));
    prove(&world, writer(&world), |_| {}).await;
    world.pass(TimeDelta::minutes(61));
    prove(&world, writer(&world), unclear).await;
    assert_eq!(alarms(&world, &prove_asked()).await, ["proof"; 2]);
}

#[tokio::test]
async fn a_proof_that_is_dated_later_than_it_was_stored_does_not_count() {
    let world = healthy().await;
    prove(&world, writer(&world), |_| {}).await;
    let real = list_all(&world.store, "canary/").await.versions;
    let real = real.into_iter().find(|it| it.key.as_str().ends_with("/record")).expect("one");
    let bytes = world.store.get(&real.key, &real.version_id, 1 << 20).await.expect("read");
    let end = bytes.windows(5).position(|at| at == b"-----").expect("a signature");
    let mut record: stonekeep_format::prove::ProveRecord =
        serde_json::from_slice(&bytes[..end]).expect("a record");
    assert!(world.store.lose(&real.key, &real.version_id));
    record.written_at = world.clock.now() + TimeDelta::days(20);
    let bytes = sign_document(&record, &world.plan.signer).expect("signed");
    world.store.plant(&record.key, bytes.into());
    assert_eq!(alarms(&world, &plan()).await, ["proof"]);
}

#[tokio::test]
async fn a_suspicious_newest_snapshot_is_a_warning() {
    let world = World::weekly().await;
    world.snapshot(&[&"x".repeat(1000)]).await;
    world.pass(HOUR);
    let shrunk = world.snapshot(&[&"x".repeat(10)]).await;
    let report = see(&world, &plan()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Warning, vec!["suspicious"]));
    assert!(report.alarms[0].what.contains(shrunk.snapshot.as_str()), "{:?}", report.alarms);
    let newest = report.labels[0].newest.as_ref().expect("the one before");
    assert_ne!(newest.id, shrunk.snapshot);
}
