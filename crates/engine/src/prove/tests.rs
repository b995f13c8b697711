use std::sync::Arc;

use stonekeep_format::clock::StillClock;
use stonekeep_store::{DefaultRetention, MemoryStore, ProvisionStore as _, Right};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::events::Silence;

struct World {
    store: MemoryStore,
    context: Context,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(StillClock::new("2026-11-21T00:00:00Z".parse().expect("a date")));
        let bucket = "vault".parse().expect("a bucket");
        let store = MemoryStore::new(bucket, Arc::clone(&clock) as _);
        let cancel = CancellationToken::new();
        Self { store, context: Context { clock, listener: Arc::new(Silence), cancel } }
    }

    fn writer(&self) -> MemoryStore {
        self.store.without(&Right::NOT_OF_A_WRITER)
    }

    async fn authority(&self, store: MemoryStore) -> ProveReport {
        authority(&plan(store), &self.context).await.expect("it answers")
    }

    async fn lock(&self, store: MemoryStore) -> ProveReport {
        lock(&plan(store), &self.context).await.expect("it answers")
    }
}

fn plan(store: MemoryStore) -> ProvePlan {
    ProvePlan {
        stores: vec![Arc::new(store)],
        lock_mode: LockMode::Compliance,
        lock_by: LockBy::PerObject,
        cap: Duration::from_secs(100 * 86_400),
        calibration: BTreeMap::new(),
        expected: BTreeMap::new(),
        lasting: true,
    }
}

fn of(report: &ProveReport, verdict: Verdict) -> Vec<&str> {
    let lines = report.probes.iter().filter(|line| line.verdict == verdict);
    lines.map(|line| line.id.as_str()).collect()
}

#[tokio::test]
async fn a_writer_with_the_least_rights_passes_and_what_the_server_lacks_is_named() {
    let world = World::new();
    let report = world.authority(world.writer()).await;
    assert_eq!(of(&report, Verdict::Fail), [""; 0], "{report:#?}");
    assert_eq!(of(&report, Verdict::Inconclusive), [""; 0], "{report:#?}");
    assert_eq!(of(&report, Verdict::Lacking), ["C2a", "C3a", "C7", "C3b", "O6b"]);
    assert_eq!((report.verdict, report.kind()), (Verdict::Lacking, None));
}

#[tokio::test]
async fn each_right_too_many_fails_its_own_probes() {
    for (right, probes) in [
        (Right::Delete, vec!["S0"]),
        (Right::Hold, vec!["C4"]),
        (Right::Publish, vec!["C6b"]),
        (Right::PutAnywhere, vec!["C6a"]),
        // Nothing more is sent once it shows that the bucket could be reconfigured.
        (Right::Configure, vec!["S5"]),
    ] {
        let world = World::new();
        let lacks: Vec<Right> =
            Right::NOT_OF_A_WRITER.into_iter().filter(|each| *each != right).collect();
        let report = world.authority(world.store.without(&lacks)).await;
        assert_eq!(of(&report, Verdict::Fail), probes, "{right:?}");
        assert_eq!(report.kind(), Some(ErrorKind::Corrupt));
        assert_eq!(of(&report, Verdict::Skipped).contains(&"S6"), right == Right::Configure);
    }
}

#[tokio::test]
async fn an_oracle_is_judged_by_what_an_authorised_caller_was_told() {
    let world = World::new();
    let calibration = world.lock(world.store.clone()).await.calibration;
    assert_eq!(calibration.get("O1"), Some(&400));
    // One that may set lifecycle rules and no more: S5 and S6, which would stop the proof, are refused to it.
    let siege = async |calibration: BTreeMap<String, u16>| {
        let plan = ProvePlan { calibration, ..plan(world.store.clone()) };
        let at = world.context.clock.now();
        let run = SnapshotId::new(at, 1);
        let planting = Planting::Unlocked(Lock { mode: LockMode::Compliance, retain_until: at });
        let canary = ProbeStore::plant(&world.store, &run, "x", planting).await.expect("put");
        let mut siege =
            Siege { plan: &plan, store: &world.store, run: &run, at, lines: Vec::new() };
        siege.all(&ORACLES[..1], &canary).await;
        siege.lines.remove(0).verdict
    };
    assert_eq!(siege(BTreeMap::new()).await, Verdict::Inconclusive);
    // What is refused to everybody says nothing of this one.
    let blind = world.lock(world.writer()).await.calibration;
    assert_eq!(blind.get("O1"), Some(&403));
    assert_eq!(siege(calibration).await, Verdict::Fail);
}

#[tokio::test]
async fn a_lock_is_proved_by_one_who_may_delete() {
    let world = World::new();
    let report = world.lock(world.store.clone()).await;
    assert_eq!((report.verdict, report.proof), (Verdict::Pass, Proof::Lock), "{report:#?}");
    let refused = world.lock(world.writer()).await;
    assert_eq!(refused.kind(), Some(ErrorKind::Unavailable), "a writer can prove no lock");
    assert!(of(&refused, Verdict::Inconclusive).contains(&"L2"));
}

#[tokio::test]
async fn a_dropped_lock_fails_both_proofs() {
    let world = World::new();
    world.store.drop_locks_on_put(true);
    let report = world.authority(world.writer()).await;
    // A lock that is not there can be set to anything (S4a).
    assert_eq!(of(&report, Verdict::Fail), ["C0", "S4a", "E1"], "{report:#?}");
    let report = world.lock(world.store.clone()).await;
    assert!(of(&report, Verdict::Fail).contains(&"S1"), "{report:#?}");
}

#[tokio::test]
async fn a_bucket_that_names_the_locks_is_attacked_the_same() {
    let world = World::new();
    let default = DefaultRetention { mode: LockMode::Compliance, days: 9 };
    world.store.put_default_retention(default).await.expect("set");
    let plan = ProvePlan {
        lock_by: LockBy::BucketDefault,
        ..plan(world.writer().naming_no_locks().without(&[Right::WriteLock]))
    };
    let report = authority(&plan, &world.context).await.expect("it answers");
    assert_eq!(of(&report, Verdict::Fail), [""; 0], "{report:#?}");
    let of_locks = report.probes.iter().find(|line| line.id == "C3a").expect("tried");
    assert_eq!(of_locks.verdict, Verdict::Pass, "it may name no lock of its own");
}

#[tokio::test]
async fn a_right_that_is_refused_to_an_authorised_caller_is_not_proved() {
    let world = World::new();
    let calibration = world.lock(world.writer()).await.calibration;
    let plan = ProvePlan { calibration, ..plan(world.writer()) };
    let report = authority(&plan, &world.context).await.expect("it answers");
    assert!(of(&report, Verdict::Lacking).contains(&"O1"), "{report:#?}");
}

#[tokio::test]
async fn nothing_but_canaries_is_touched() {
    let world = World::new();
    let key = ObjectKey::genesis(1);
    world.store.plant(&key, "precious".into());
    for store in [world.writer(), world.store.clone()] {
        world.authority(store.clone()).await;
        world.lock(store).await;
    }
    let others: Vec<_> = world
        .store
        .stored()
        .into_iter()
        .filter(|(key, _)| !key.as_str().starts_with("canary"))
        .collect();
    assert_eq!(others, [(key, 8)]);
}
