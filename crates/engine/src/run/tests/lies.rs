//! Servers that lie, each found out by who should, under the name by which an operator hears of it.
//!
//! Two lies show elsewhere: dates that wrap are never asked for (a lock of 2100 or later is refused), and read back if they are;
//! an extension that is forgotten is read back, too. `stonekeep_store::lying` has those.

use std::{collections::BTreeMap, error::Error};

use stonekeep_store::{
    ProbeStore,
    lying::{Lie, LyingStore},
};

use super::*;
use crate::{
    audit::audit,
    prove::{ProvePlan, ProveReport, authority, lock},
    witness::Witness,
};

/// Who finds it out: backup, list, verify, the watcher's witness, and both proofs; and as what.
type Caught = BTreeMap<&'static str, BTreeSet<String>>;

fn caught(by: &[(&'static str, &[&str])]) -> Caught {
    by.iter().map(|(who, what)| (*who, what.iter().copied().map(str::to_owned).collect())).collect()
}

#[tokio::test]
async fn each_lie_is_caught_by_who_should() {
    let truth = said(Lie::None).await;
    let not_kept: &[&str] = &["LockNotKept"];
    // Set afterwards, a lock is kept.
    let unlocked: &[&str] = &["C0", "C0m", "E1", "S4a"];
    let deletable: &[&str] = &["C0", "C0m", "E1", "L0", "L1", "S1"];
    let relocked: &[&str] = &["C0", "C0m", "E1", "S4a", "S4b"];
    let lockless: &[&str] = &["C0", "C0m", "E1", "L0", "L1", "S1", "S4a", "S4b"];
    let deleted: &[&str] = &["E1", "S0", "S1", "S2", "S3a", "S3b"];
    let all_deleted: &[&str] = &["E1", "L1", "S1", "S2", "S3a", "S3b", "S4d"];
    let lies = [
        (Lie::DropsLocksOnPut, caught(&[("prove", unlocked), ("prove --lock", deletable)])),
        (
            Lie::KeepsNoLocks,
            caught(&[("backup", not_kept), ("prove", relocked), ("prove --lock", lockless)]),
        ),
        (
            Lie::KeepsNoLocksOnRetry,
            caught(&[("backup", not_kept), ("prove", relocked), ("prove --lock", lockless)]),
        ),
        (Lie::KeepsNoLocksOf("segments/"), caught(&[("backup", not_kept)])),
        (Lie::KeepsNoLocksOf("inventories/"), caught(&[("backup", not_kept)])),
        // It is there: the run failed all the same, and whoever looks sees why.
        (
            Lie::KeepsNoLocksOf("manifests/"),
            caught(&[("backup", not_kept), ("verify", &["it is not locked"])]),
        ),
        (
            Lie::ShortensLocks,
            caught(&[
                ("prove", &["E1", "S4a", "S4b"]),
                ("prove --lock", &["E1", "S4a", "S4b", "S4d"]),
            ]),
        ),
        (Lie::Deletes, caught(&[("prove", deleted), ("prove --lock", all_deleted)])),
        (Lie::IgnoresConditions, caught(&[("prove", &["C2b"])])),
        (Lie::ListsOldState, caught(&[("witness", &["rollback"])])),
        (Lie::AddsMarkers, caught(&[("list", &["marker"]), ("witness", &["marker"])])),
        (Lie::AddsVersions, caught(&[("list", &["overwrite"]), ("witness", &["overwrite"])])),
    ];
    let mut wrong = Vec::new();
    for (lie, expected) in lies {
        let mut found = said(lie).await;
        for (who, what) in &mut found {
            what.retain(|each| !truth.get(who).is_some_and(|truth| truth.contains(each)));
        }
        found.retain(|_, what| !what.is_empty());
        if found != expected {
            wrong.push(format!("{lie:?} is caught by {found:?}, not by {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lets a server begin to lie after a first snapshot, and collects all that is said.
async fn said(lie: Lie) -> Caught {
    let world = World::weekly().await;
    world.snapshot(&["a"]).await;
    let store = LyingStore::new(world.store.clone(), lie).await;
    world.pass(HOUR);
    let mut said = Caught::new();
    let outcome = world.snapshot_in(&[world.target(store.clone())], &["a", "b"]).await.remove(0);
    said.insert("backup", outcome.result.err().iter().map(name).collect());
    let honest = audit(&world.open().await, None, &world.context).await.expect("judged");
    let witness = Witness::first(&honest);
    let repository = world.open_in(store.clone()).await;
    for (who, witness) in [("list", None), ("witness", Some(&witness))] {
        let audit = audit(&repository, witness, &world.context).await.expect("judged");
        let kinds = audit.findings.iter().map(|finding| finding.kind.as_str().to_owned());
        said.insert(who, kinds.collect());
    }
    let newest = find(&repository, &Selector::Latest, &world.context).await.expect("found");
    let report = verify(&repository, &newest, true, &world.context).await.expect("looked at");
    said.insert("verify", report.problems.into_iter().map(|problem| problem.what).collect());
    let writer = store.through(world.store.without(&Right::NOT_OF_A_WRITER));
    let report = authority(&plan(writer), &world.context).await.expect("it answers");
    said.insert("prove", probes(&report));
    let report = lock(&plan(store), &world.context).await.expect("it answers");
    said.insert("prove --lock", probes(&report));
    said
}

fn name(error: &BackupError) -> String {
    let mut text = format!("{error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text} {error:?}");
        source = error.source();
    }
    if text.contains("LockNotKept") { "LockNotKept".to_owned() } else { text }
}

fn plan(store: LyingStore) -> ProvePlan {
    let stores: Vec<Arc<dyn ProbeStore>> = vec![Arc::new(store)];
    ProvePlan {
        stores,
        lock_mode: LockMode::Compliance,
        lock_by: stonekeep_format::genesis::LockBy::PerObject,
        cap: Duration::from_secs(100 * 86_400),
        calibration: BTreeMap::new(),
        expected: BTreeMap::new(),
        lasting: false,
    }
}

/// The probes that a server fails, and what it lacks.
fn probes(report: &ProveReport) -> BTreeSet<String> {
    use stonekeep_format::prove::Verdict::{Fail, Lacking};
    let lines = report.probes.iter().filter(|line| matches!(line.verdict, Fail | Lacking));
    lines.map(|line| line.id.clone()).collect()
}
