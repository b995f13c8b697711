//! Prolonging, on the model of a bucket.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::TimeDelta;
use stonekeep_format::tier::Every;
use stonekeep_store::{MemoryStore, Right, contract::list_all};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    audit::audit,
    events::Listener,
    list::ListReport,
    run::tests::{HOUR, World, tier},
    verify::verify,
};

const DAY: Duration = Duration::from_secs(86_400);
/// Longer than any lock that the writer gives there, and less than the cap of 127 d.
const LONG: Duration = Duration::from_secs(124 * 86_400);

fn buckets(world: &World) -> Prolongable {
    let of_tiers = world.of_tiers.values().map(|store| Arc::new(store.clone()) as _);
    Prolongable { main: Arc::new(world.store.clone()), of_tiers: of_tiers.collect() }
}

fn newest(length: Duration) -> ExtendPlan {
    ExtendPlan { snapshots: Vec::new(), length }
}

/// Two tiers, so that the cap is far above what the newest snapshots are kept for.
async fn world() -> World {
    World::new(vec![tier("hourly", Every::Hour, 7), tier("yearly", Every::Year, 60)]).await
}

async fn run(world: &World, plan: &ExtendPlan) -> Result<ExtendReport, ExtendError> {
    extend(&world.open().await, &buckets(world), plan, &world.context).await
}

/// The lock of every version in a bucket.
async fn locks(store: &MemoryStore) -> Vec<(ObjectKey, Option<Lock>)> {
    let mut locks = Vec::new();
    for version in list_all(store, "").await.versions {
        let lock = store.retention(&version.key, &version.version_id).await;
        locks.push((version.key, lock.expect("there")));
    }
    locks
}

#[tokio::test]
async fn all_that_the_newest_snapshot_needs_is_locked_longer_and_what_it_does_not_is_not() {
    let world = world().await;
    world.snapshot(&["a", "b"]).await;
    world.pass(HOUR);
    let report = world.snapshot(&["ac", "bd"]).await;
    let before = locks(&world.store).await;
    let extended = run(&world, &newest(LONG)).await.expect("prolonged");
    assert_eq!(extended.failures, []);
    assert_eq!(extended.snapshots[0].id, report.snapshot);
    assert_eq!(extended.lock.retain_until.time(), chrono::NaiveTime::MIN, "the end of a day");
    let needed: BTreeSet<ObjectKey> = {
        let repository = world.open().await;
        let id = Selector::Id(report.snapshot.to_string());
        let snapshot = find(&repository, &id, &world.context).await.expect("found");
        let all = objects(&repository, &snapshot).await.expect("read");
        all.into_iter().chain(genesis_objects(&repository)).map(|object| object.key).collect()
    };
    let mut prolonged = 0;
    for ((key, old), (_, new)) in before.into_iter().zip(locks(&world.store).await) {
        if needed.contains(&key) {
            assert!(new.is_some_and(|new| new.satisfies(&extended.lock)), "{key}");
            prolonged += u64::from(new != old);
        } else {
            assert_eq!(old, new, "{key} is not part of it");
        }
    }
    assert_eq!(extended.objects.prolonged, prolonged);
    assert!(prolonged > 3 && needed.len() as u64 > prolonged, "the genesis is locked for longer");
}

#[tokio::test]
async fn a_prolonged_snapshot_outlives_its_promise_and_the_lifecycle() {
    let world = World::weekly().await;
    let report = world.snapshot(&["a"]).await;
    // As long as the repository allows: a week, once more as window, and the margin.
    run(&world, &newest(DAY * 21)).await.expect("prolonged");
    world.pass(TimeDelta::days(20));
    let rules = crate::lifecycle::rules(DAY * 30, 0);
    stonekeep_store::ProvisionStore::put_lifecycle(&world.store, &rules).await.expect("set");
    world.store.expire();
    let repository = world.open().await;
    let listed = audit(&repository, None, &world.context).await.expect("read");
    let listed = ListReport::of(&repository, listed);
    assert!(listed.snapshots[0].expired, "the promise has passed");
    let snapshot = find(&repository, &Selector::Latest, &world.context).await.expect("there");
    let verified = verify(&repository, &snapshot, true, &world.context).await.expect("looked");
    assert_eq!((verified.snapshot, verified.problems), (report.snapshot, Vec::new()));
}

#[tokio::test]
async fn a_second_run_on_the_same_day_finds_nothing_to_do() {
    let world = world().await;
    world.snapshot(&["a"]).await;
    let first = run(&world, &newest(LONG)).await.expect("prolonged");
    world.pass(TimeDelta::hours(22));
    let second = run(&world, &newest(LONG)).await.expect("prolonged");
    assert_eq!(second.lock, first.lock);
    assert_eq!(second.objects.prolonged, 0);
    assert_eq!(second.objects.left_alone, first.objects.prolonged + first.objects.left_alone);
}

/// Asks to stop once this much has happened.
#[derive(Debug)]
struct StopAfter(AtomicU64, CancellationToken);

impl Listener for StopAfter {
    fn hear(&self, event: &Event) {
        if matches!(event, Event::Progress { .. }) && self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.cancel();
        }
    }
}

#[tokio::test]
async fn a_run_that_was_stopped_is_gone_on_with() {
    let world = world().await;
    let tables: Vec<String> = (0..60).map(|at| format!("{at}")).collect();
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    world.snapshot(&tables).await;
    let cancel = CancellationToken::new();
    let listener = Arc::new(StopAfter(AtomicU64::new(20), cancel.clone()));
    let context = Context { listener, cancel, ..world.context.clone() };
    let repository = world.open().await;
    let stopped = extend(&repository, &buckets(&world), &newest(LONG), &context).await;
    let Err(ExtendError::Cancelled { prolonged }) = stopped else { panic!("{stopped:?}") };
    assert!((1..40).contains(&prolonged), "{prolonged}");
    assert_eq!(ExtendError::Cancelled { prolonged }.kind(), ErrorKind::Unavailable);
    let rest = run(&world, &newest(LONG)).await.expect("gone on with");
    assert!(rest.objects.left_alone >= prolonged && rest.objects.prolonged > 0);
    assert_eq!(run(&world, &newest(LONG)).await.expect("done").objects.prolonged, 0);
}

#[tokio::test]
async fn a_suspicious_newest_is_passed_over_unless_it_is_named() {
    let world = world().await;
    let sound = world.snapshot(&["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]).await;
    world.pass(HOUR);
    let shrunk = world.snapshot(&["a"]).await;
    assert!(shrunk.suspicious.is_some());
    let report = run(&world, &newest(LONG)).await.expect("prolonged");
    assert_eq!(report.snapshots[0].id, sound.snapshot);
    let named = Selector::Id(shrunk.snapshot.to_string());
    let plan = ExtendPlan { snapshots: vec![named], length: LONG };
    let report = run(&world, &plan).await.expect("prolonged");
    assert_eq!(report.snapshots[0].id, shrunk.snapshot);
}

#[tokio::test]
async fn longer_than_the_cap_is_refused_and_says_what_is_allowed() {
    let world = World::weekly().await;
    world.snapshot(&["a"]).await;
    let before = locks(&world.store).await;
    let refused = run(&world, &newest(DAY * 22)).await;
    let error = refused.expect_err("above the cap");
    assert_eq!(error.kind(), ErrorKind::Usage);
    let said = crate::run::chain_of(&error);
    assert!(said.contains("cap of 21 days"), "{said}");
    assert_eq!(locks(&world.store).await, before);
}

#[tokio::test]
async fn a_credential_that_may_not_set_locks_is_denied() {
    let world = world().await;
    let many = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
    world.snapshot(&many).await;
    let crippled = Arc::new(world.store.without(&[Right::WriteLock]));
    let buckets = Prolongable { main: crippled, of_tiers: Vec::new() };
    let repository = world.open().await;
    let report = extend(&repository, &buckets, &newest(LONG), &world.context).await;
    let report = report.expect("it was tried");
    assert_eq!(report.worst, Some(ErrorKind::Denied));
    assert_eq!((report.objects.prolonged, report.given_up), (0, true));
    assert_eq!(report.failures.len() as u64, REFUSALS_MAX);
}

#[tokio::test]
async fn a_lost_segment_is_told_and_the_others_are_prolonged() {
    let world = world().await;
    world.snapshot(&["a", "b", "c"]).await;
    let lost = world.named().await.swap_remove(0);
    assert!(world.store.lose(&lost.key, &lost.version_id));
    let report = run(&world, &newest(LONG)).await.expect("it was tried");
    assert_eq!(report.worst, Some(ErrorKind::Corrupt));
    let told: Vec<_> = report.failures.iter().map(|each| &each.key).collect();
    assert_eq!(told, [&lost.key]);
    for segment in world.named().await.iter().filter(|segment| segment.key != lost.key) {
        let lock = world.store.retention(&segment.key, &segment.version_id).await.expect("there");
        assert!(lock.is_some_and(|lock| lock.satisfies(&report.lock)));
    }
}

#[tokio::test]
async fn a_lost_inventory_is_told_and_the_other_databases_are_prolonged() {
    let world = world().await;
    // The labels are gone through in their order: the lost one is the first.
    world.of_label("a-first".parse().expect("a label")).snapshot(&["a"]).await;
    let lost = list_all(&world.store, "inventories/").await.versions.remove(0);
    world.pass(HOUR);
    let kept = world.snapshot(&["a", "b"]).await;
    assert!(world.store.lose(&lost.key, &lost.version_id));
    let report = run(&world, &newest(LONG)).await.expect("it was tried");
    assert_eq!((report.worst, report.given_up), (Some(ErrorKind::Corrupt), false));
    let told: Vec<_> = report.failures.iter().map(|each| (&each.key, &each.version_id)).collect();
    assert_eq!(told, [(&lost.key, &lost.version_id)]);
    assert!(report.failures[0].why.contains("of a-first needs"), "{:?}", report.failures);
    assert_eq!(report.snapshots.iter().map(|each| &each.id).collect::<Vec<_>>(), [&kept.snapshot]);
    for segment in world.named().await {
        let lock = world.store.retention(&segment.key, &segment.version_id).await.expect("there");
        assert!(lock.is_some_and(|lock| lock.satisfies(&report.lock)));
    }
}

#[tokio::test]
async fn buckets_of_tiers_are_prolonged_too() {
    let tiers = vec![tier("hourly", Every::Hour, 7), tier("daily", Every::Day, 30)];
    let world = World::make(tiers, true).await;
    world.snapshot(&["a"]).await;
    world.pass(HOUR);
    // The second lies in the hourly bucket, and names what the daily one holds.
    world.snapshot(&["a", "b"]).await;
    let report = run(&world, &newest(DAY * 66)).await.expect("prolonged");
    assert_eq!(report.failures, []);
    let mut seen = BTreeSet::new();
    for segment in world.named().await {
        let tier = segment.bucket.as_str().trim_start_matches("vault-");
        let store = &world.of_tiers[tier];
        let lock = store.retention(&segment.key, &segment.version_id).await.expect("there");
        assert!(lock.is_some_and(|lock| lock.satisfies(&report.lock)), "{}", segment.key);
        seen.insert(segment.bucket);
    }
    assert_eq!(seen.len(), 2);
}

#[test]
fn nothing_is_ever_weakened() {
    let lock = |mode, day: u32| Lock {
        mode,
        retain_until: DateTime::from_timestamp(i64::from(day) * 86_400, 0).expect("a day"),
    };
    let (strict, lax) = (LockMode::Compliance, LockMode::Governance);
    assert_eq!(stronger(lock(strict, 1), lock(lax, 9)), lock(strict, 9));
    assert_eq!(stronger(lock(lax, 9), lock(strict, 1)), lock(strict, 9));
    assert_eq!(stronger(lock(lax, 1), lock(lax, 9)), lock(lax, 9));
}
