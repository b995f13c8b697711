//! Years of snapshots with everything that happens in them: nothing promised is ever missing, and nobody cries wolf.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom as _};
use stonekeep_bench::{Database, World};
use stonekeep_engine::{lifecycle::GRACE_DAYS, run::BackupError};
use stonekeep_format::tier::{Every, Tier};
use stonekeep_store::StoreError;

fn tier(name: &str, every: Every, days: u64) -> Tier {
    Tier { name: name.to_owned(), every, keep: Duration::from_secs(days * 86_400) }
}

/// The longest keep is always there, so that every change of the tiers stays within the genesis.
fn tiers(random: &mut StdRng) -> Vec<Tier> {
    let mut tiers = vec![tier("yearly", Every::Year, 1100)];
    for (name, every, days) in [
        ("hourly", Every::Hour, 2..9),
        ("daily", Every::Day, 9..40),
        ("weekly", Every::Week, 40..100),
        ("monthly", Every::Month, 100..500),
    ] {
        if random.random_bool(0.6) {
            tiers.push(tier(name, every, random.random_range(days)));
        }
    }
    tiers
}

fn unavailable() -> StoreError {
    StoreError::Unavailable { action: "answer", source: "503".into() }
}

/// One thing that happens between two snapshots.
async fn happen(world: &mut World, database: &mut Database, random: &mut StdRng) {
    match random.random_range(0..40) {
        0 => world.plan.tiers = tiers(random),
        1 => world.store.lose_answers_of_puts(random.random_range(1..12)),
        2 => world.store.refuse_puts(random.random_range(1..20), unavailable),
        3 | 4 => {
            let slices = random.random_range(0..database.len());
            let is_recorded = random.random_bool(0.7);
            // A run that is to break off may break by itself.
            drop(world.break_off(database, slices, is_recorded).await);
        }
        5 => world.plan.fresh = true,
        6 => world.pass(TimeDelta::days(random.random_range(1..20))),
        7 => database.change(10_000, 1.0, random),
        _ => {
            let locality = *[0.1, 0.2, 0.5].choose(random).expect("there are three");
            database.change(random.random_range(0..4), locality, random);
        }
    }
}

/// Whether the error is one of those that the faults switched on can make.
fn is_expected(error: &BackupError) -> bool {
    matches!(
        error,
        BackupError::Store { .. } | BackupError::Uncertain { .. } | BackupError::Repository(_)
    )
}

/// Simulates `years` and returns how many snapshots there were.
async fn simulate(seed: u64, years: i64, hours_between: std::ops::Range<i64>) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    // Leap days, and two changes of the clock a year.
    let begin: DateTime<Utc> = "2027-02-20T00:10:00Z".parse().expect("a date");
    let widest = vec![tier("hourly", Every::Hour, 2), tier("yearly", Every::Year, 1100)];
    let world = World::new(begin, widest, chrono_tz::Europe::Berlin, GRACE_DAYS).await;
    let mut world = world.expect("a repository");
    world.plan.tiers = tiers(&mut random);
    let mut database = Database::new(10);
    let mut taken = 0;
    let mut look_at = begin;
    while world.now() < begin + TimeDelta::days(365 * years) {
        happen(&mut world, &mut database, &mut random).await;
        match world.snapshot(&database).await {
            Ok(report) => {
                taken += 1;
                assert!(report.suspicious.is_none(), "seed {seed}: {report:?}");
            }
            Err(error) => assert!(is_expected(&error), "seed {seed}: {error:?}"),
        }
        world.plan.fresh = false;
        if world.now() >= look_at {
            let alarms = world.alarms().await.expect("the bucket can be read");
            assert!(alarms.is_empty(), "seed {seed} at {}: {alarms:#?}", world.now());
            look_at = world.now() + TimeDelta::days(random.random_range(60..200));
        }
        world.pass(TimeDelta::minutes(random.random_range(hours_between.clone()) * 60 + 7));
    }
    let alarms = world.alarms().await.expect("the bucket can be read");
    assert!(alarms.is_empty(), "seed {seed} at the end: {alarms:#?}");
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_years_of_mixed_tiers_lose_nothing_and_raise_no_alarm() {
    let taken = simulate(1, 10, 30..100).await;
    assert!(taken > 900, "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_schedules_and_failures_lose_nothing_and_raise_no_alarm() {
    for seed in 100..106 {
        let mut random = StdRng::seed_from_u64(seed);
        let shortest = random.random_range(1..30);
        simulate(seed, 1, shortest..shortest * 3).await;
    }
}
