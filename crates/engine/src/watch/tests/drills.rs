//! What a watcher makes of the records of drills.

use std::collections::BTreeSet;

use stonekeep_format::{
    drill::{DrillRecord, DrillVerdict},
    ids::Digest,
    lock::LockMode,
    signature::{SignedDocument as _, Signer, Trust},
};

use super::*;
use crate::drill::{DrillRecords, last_records, put_record, records};

fn report_key() -> Signer {
    crate::audit::fixture::stranger()
}

fn reporters() -> Trust {
    let line = report_key().public_line().expect("a public key");
    Trust::of_reporters(&format!("reporter {line}")).expect("readable")
}

fn told() -> WatchPlan {
    WatchPlan { reporters: reporters(), ..plan() }
}

/// A drill of `label` that ends now and passed in 90 s.
async fn passed(world: &World, label: &Label) -> DrillRecord {
    let (at, repository) = (world.clock.now(), world.open().await.genesis.repository);
    let id = SnapshotId::new(at, rand::random());
    DrillRecord {
        format: DrillRecord::FORMAT.to_owned(),
        repository,
        label: label.clone(),
        key: ObjectKey::report(label, &id),
        snapshot: SnapshotId::new(at, 1),
        id,
        begun_at: at,
        written_at: at,
        verdict: DrillVerdict::Pass,
        problems: 0,
        rto_ms: Some(90_000),
        rto_max_ms: None,
        tables: 2,
        rows: 10,
        plain_bytes: 4_096,
        report: Digest::of(b"the report"),
    }
}

async fn put_by(world: &World, record: &DrillRecord, key: &Signer) {
    let repository = world.open().await;
    put_record(&repository, &world.store, record, key).await.expect("recorded");
}

/// Puts the record of a drill of `bookings`, such as `change` makes of one that passed.
async fn drilled(world: &World, change: impl FnOnce(&mut DrillRecord)) -> DrillRecord {
    let mut record = passed(world, &bookings()).await;
    change(&mut record);
    put_by(world, &record, &report_key()).await;
    record
}

/// Puts junk where records of `bookings` lie, stored one after the other.
fn plant(world: &World, count: u32) {
    for n in 0..count {
        world.pass(TimeDelta::milliseconds(1));
        let id = SnapshotId::new(world.clock.now() + TimeDelta::minutes(4), u128::from(n));
        world.store.plant(&ObjectKey::report(&bookings(), &id), Bytes::from_static(b"{}"));
    }
}

async fn read(world: &World) -> DrillRecords {
    records(&world.open().await, &reporters()).await.expect("readable")
}

#[tokio::test]
async fn a_record_is_read_back_and_locked_as_long_as_anything_may_be() {
    let world = healthy().await;
    let record = drilled(&world, |_| {}).await;
    assert_eq!(read(&world).await.of(&bookings()), [record]);
    let versions = list_all(&world.store, "reports/").await.versions;
    let [version] = &versions[..] else { panic!("{versions:?}") };
    let lock = world.store.retention(&version.key, &version.version_id).await.expect("asked");
    let lock = lock.expect("locked");
    let cap = TimeDelta::from_std(world.open().await.genesis.lock.cap).expect("days");
    assert_eq!((lock.mode, lock.retain_until), (LockMode::Compliance, world.clock.now() + cap));
}

#[tokio::test]
async fn where_backups_are_kept_for_years_a_record_is_locked_for_400_days() {
    let world = World::new(vec![tier("yearly", Every::Year, 1_000)]).await;
    drilled(&world, |_| {}).await;
    let version = list_all(&world.store, "reports/").await.versions.swap_remove(0);
    let lock = world.store.retention(&version.key, &version.version_id).await.expect("asked");
    let until = lock.expect("locked").retain_until;
    assert_eq!(until, world.clock.now() + TimeDelta::days(400));
}

#[tokio::test]
async fn where_buckets_name_the_locks_a_record_has_its_own() {
    let world = World::make(vec![tier("hourly", Every::Hour, 7)], true).await;
    let record = drilled(&world, |_| {}).await;
    assert_eq!(read(&world).await.of(&bookings()), [record]);
}

#[tokio::test]
async fn a_drill_that_passed_in_time_gives_no_alarm() {
    let world = healthy().await;
    let record = drilled(&world, |record| record.rto_max_ms = Some(90_000)).await;
    let report = see(&world, &told()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Ok, vec![]));
    let line = report.labels[0].drill.as_ref().expect("a drill");
    assert_eq!((&line.id, line.age_secs, line.rto_ms), (&record.id, 0, Some(90_000)));
}

#[tokio::test]
async fn a_drill_that_failed_is_critical_until_another_passes() {
    let world = healthy().await;
    drilled(&world, |_| {}).await;
    world.pass(TimeDelta::minutes(1));
    let fail =
        |record: &mut DrillRecord| (record.verdict, record.problems) = (DrillVerdict::Fail, 3);
    drilled(&world, fail).await;
    let report = see(&world, &told()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Critical, vec!["drill"]));
    assert!(report.alarms[0].to_string().contains("bookings"), "{:?}", report.alarms);
    assert!(report.alarms[0].what.contains("number of problems: 3"), "{:?}", report.alarms);
    world.pass(TimeDelta::minutes(1));
    drilled(&world, |_| {}).await;
    assert_eq!(alarms(&world, &told()).await, [""; 0]);
}

#[tokio::test]
async fn a_drill_slower_than_it_may_be_is_a_warning() {
    let world = healthy().await;
    drilled(&world, |record| record.rto_max_ms = Some(60_000)).await;
    let report = see(&world, &told()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Warning, vec!["drill"]));
    assert!(report.alarms[0].what.contains("took 90 s"), "{:?}", report.alarms);
}

#[tokio::test]
async fn a_drill_that_is_long_ago_is_a_warning_and_so_is_none_if_one_is_asked_for() {
    let world = healthy().await;
    let asked = WatchPlan { drill_age_max: Some(Duration::from_secs(3_600)), ..told() };
    let none = see(&world, &asked).await;
    assert_eq!((none.status, kinds(&none)), (Status::Warning, vec!["drill"]));
    let unasked = see(&world, &told()).await;
    assert_eq!(unasked.status, Status::Ok);
    assert!(unasked.notes.iter().any(|note| note.contains("a drill of bookings")), "{unasked:?}");

    drilled(&world, |_| {}).await;
    assert_eq!(alarms(&world, &asked).await, [""; 0]);
    world.pass(HOUR + TimeDelta::seconds(1));
    assert_eq!(alarms(&world, &asked).await, ["drill"]);
    assert_eq!(alarms(&world, &told()).await, [""; 0], "35 days, unless it is said");
    world.pass(TimeDelta::days(35));
    world.snapshot(&["aa", "bb"]).await;
    assert_eq!(alarms(&world, &told()).await, ["drill"]);
}

#[tokio::test]
async fn who_believes_no_report_key_is_told_so() {
    let world = healthy().await;
    drilled(&world, |record| record.verdict = DrillVerdict::Fail).await;
    let report = see(&world, &plan()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Ok, vec![]));
    assert!(report.notes.iter().any(|note| note.contains("reporter")), "{:?}", report.notes);
    let asked = WatchPlan { drill_age_max: Some(Duration::from_secs(3_600)), ..plan() };
    assert_eq!(alarms(&world, &asked).await, ["drill"]);
}

#[tokio::test]
async fn junk_beside_records_changes_a_count_and_only_junk_is_critical() {
    let world = healthy().await;
    drilled(&world, |record| record.verdict = DrillVerdict::Fail).await;
    plant(&world, 15);
    let report = see(&world, &told()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Critical, vec!["drill"]));
    assert!(report.alarms[0].what.contains("failed"), "{:?}", report.alarms);
    assert_eq!(read(&world).await.labels[&bookings()].others, 15);
    plant(&world, 5);
    let report = see(&world, &told()).await;
    assert_eq!((report.status, kinds(&report)), (Status::Critical, vec!["drill"]));
    assert!(report.alarms[0].what.contains("somebody may hide"), "{:?}", report.alarms);
    // The next drill is newer than what hid the last.
    world.pass(TimeDelta::minutes(1));
    drilled(&world, |_| {}).await;
    assert_eq!(alarms(&world, &told()).await, [""; 0]);
}

#[tokio::test]
async fn junk_of_other_labels_is_not_looked_at() {
    let world = healthy().await;
    drilled(&world, |_| {}).await;
    for n in 0..300_u32 {
        let (label, id) = (format!("junk-{n}"), SnapshotId::new(world.clock.now(), 1));
        let key = ObjectKey::report(&label.parse().expect("a label"), &id);
        world.store.plant(&key, Bytes::from_static(b"{}"));
    }
    let (_, before) = world.store.calls();
    let labels = BTreeSet::from([bookings()]);
    let last = last_records(&world.open().await, &labels, &reporters()).await.expect("readable");
    let (_, after) = world.store.calls();
    assert_eq!(last.labels.len(), 1);
    assert!(after - before < 50, "{} reads", after - before);
    assert_eq!(alarms(&world, &told()).await, [""; 0]);
}

#[tokio::test]
async fn who_signs_backups_or_the_genesis_signs_no_drill() {
    let world = healthy().await;
    let record = passed(&world, &bookings()).await;
    // Of this repository both the owner and a signer.
    put_by(&world, &record, &world.plan.signer).await;
    let of = read(&world).await;
    assert_eq!((of.of(&bookings()).len(), of.labels[&bookings()].others), (0, 1));
    assert_eq!(alarms(&world, &told()).await, ["drill"]);
}

#[tokio::test]
async fn a_record_that_was_carried_elsewhere_or_dated_later_does_not_count() {
    let world = healthy().await;
    let later = drilled(&world, |record| record.written_at += TimeDelta::days(20)).await;
    assert_eq!(read(&world).await.labels[&later.label].others, 1);
    let other = "orders".parse().expect("a label");
    let record = drilled(&world, |_| {}).await;
    let version = list_all(&world.store, "reports/").await.versions;
    let version = version.iter().find(|each| each.key == record.key).expect("put");
    let bytes = world.store.get(&version.key, &version.version_id, 1 << 14).await.expect("read");
    world.store.plant(&ObjectKey::report(&other, &record.id), bytes.clone());
    let id = SnapshotId::new(world.clock.now(), 99);
    world.store.plant(&ObjectKey::report(&bookings(), &id), bytes);
    let read = read(&world).await;
    assert_eq!((read.of(&other).len(), read.of(&bookings()).len()), (0, 1));
}

#[tokio::test]
async fn of_many_drills_the_last_hundred_are_read_the_last_one_first() {
    let world = healthy().await;
    for _ in 0..103 {
        world.pass(TimeDelta::seconds(1));
        drilled(&world, |_| {}).await;
    }
    let read = read(&world).await;
    let drills = read.of(&bookings());
    assert_eq!((drills.len(), read.labels[&bookings()].others), (100, 3));
    assert!(drills.is_sorted_by(|a, b| a.written_at > b.written_at));
}

#[tokio::test]
async fn a_marker_over_a_locked_record_is_an_alarm_and_changes_nothing() {
    let world = healthy().await;
    let record = drilled(&world, |_| {}).await;
    world.store.plant_marker(&record.key);
    assert_eq!(alarms(&world, &told()).await, ["marker"]);
    assert_eq!(read(&world).await.of(&bookings()).len(), 1);
}
