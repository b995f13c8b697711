//! What a store could hide, and what the witness says of it.

use std::os::unix::fs::PermissionsExt as _;

use chrono::TimeDelta;
use proptest::prelude::*;
use stonekeep_format::chain::Chains;

use super::*;
use crate::{
    audit::{
        AuditError, audit,
        fixture::{DAY, Put, Watched},
    },
    finding::FindingKind,
    segments::fixture::signer,
};

async fn kinds(watched: &Watched, witness: &Witness) -> Vec<FindingKind> {
    let audit = watched.audit(Some(witness)).await;
    audit.findings.iter().map(|finding| finding.kind).collect()
}

async fn look(watched: &Watched) -> Witness {
    Witness::first(&watched.audit(None).await)
}

fn hide(watched: &Watched, hidden: &[Put]) {
    hidden.iter().for_each(|put| watched.store.hide(put.key(), &put.version));
}

/// A chain of snapshots (hours since the one before, days of keep) is seen; some days later the newest of them are hidden.
async fn hidden_end_is_seen(chain: &[(i64, u32)], hidden: usize, days_later: i64) {
    let watched = Watched::new();
    let mut chains = Chains::default();
    let mut all = Vec::new();
    for (hours, days) in chain {
        watched.pass(TimeDelta::hours(*hours));
        all.push(watched.commit("bookings", &mut chains, DAY * *days));
    }
    let witness = look(&watched).await;
    watched.pass(TimeDelta::days(days_later));
    let end = &all[all.len() - hidden..];
    hide(&watched, end);
    let is_lost = end.iter().any(|put| put.manifest.promised_until > watched.now());
    let found = kinds(&watched, &witness).await;
    assert_eq!(found.contains(&FindingKind::Rollback), is_lost, "{found:?}");
    assert!(is_lost || found.is_empty(), "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Hidden from the first on, it is a label that is gone.
    #[test]
    fn any_end_of_a_chain_that_a_store_hides_is_found(
        chain in prop::collection::vec((1_i64..60, prop::sample::select(vec![1_u32, 3, 10, 30])), 1..12),
        hidden in any::<prop::sample::Index>(),
        days_later in 0_i64..35,
    ) {
        let hidden = hidden.index(chain.len()) + 1;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(hidden_end_is_seen(&chain, hidden, days_later));
    }
}

#[tokio::test]
async fn what_is_missed_and_named_by_another_is_a_gap_alone() {
    let watched = Watched::new();
    let mut chains = Chains::default();
    let lost = watched.commit("bookings", &mut chains, DAY * 30);
    watched.pass(TimeDelta::hours(1));
    watched.commit("bookings", &mut chains, DAY);
    let witness = look(&watched).await;
    watched.lose(&lost);
    assert_eq!(kinds(&watched, &witness).await, [FindingKind::Gap]);
}

#[tokio::test]
async fn a_snapshot_that_was_replaced_is_a_rollback() {
    let watched = Watched::new();
    let (chains, _) = watched.commit_hourly(2, DAY);
    let put = watched.commit("bookings", &mut chains.clone(), DAY);
    let witness = look(&watched).await;
    watched.lose(&put);
    let mut other = put.manifest.clone();
    other.totals.rows += 1;
    watched.put(&other, &signer());
    assert_eq!(kinds(&watched, &witness).await, [FindingKind::Rollback]);
}

#[tokio::test]
async fn what_went_missing_is_remembered_although_the_writer_goes_on() {
    let watched = Watched::new();
    let (mut chains, _) = watched.commit_hourly(3, DAY * 3);
    let mut rolled_back = chains.clone();
    let lost = watched.commit("bookings", &mut chains, DAY * 2);
    let mut witness = look(&watched).await;
    watched.lose(&lost);
    for _ in 0..5 {
        watched.pass(TimeDelta::hours(8));
        watched.commit("bookings", &mut rolled_back, DAY * 3);
        let audit = watched.audit(Some(&witness)).await;
        let keys: Vec<_> =
            audit.findings.iter().map(|each| (each.kind, each.key.as_ref())).collect();
        assert_eq!(keys, [(FindingKind::Rollback, Some(lost.key()))]);
        witness = witness.updated(&audit);
    }
    watched.pass(TimeDelta::hours(9));
    let audit = watched.audit(Some(&witness)).await;
    assert_eq!(audit.findings, [], "its promise has ended");
    let left: Vec<_> = witness.updated(&audit).labels.into_values().flatten().collect();
    assert!(!left.iter().any(|seen| seen.id == lost.manifest.id), "{left:?}");
}

#[tokio::test]
async fn each_end_of_a_fork_is_missed() {
    let watched = Watched::new();
    let (chains, _) = watched.commit_hourly(1, DAY * 30);
    let ends = [DAY * 9, DAY, DAY * 2].map(|keep| {
        watched.pass(TimeDelta::seconds(1));
        watched.commit("bookings", &mut chains.clone(), keep)
    });
    let witness = look(&watched).await;
    for end in &ends {
        hide(&watched, std::slice::from_ref(end));
        assert!(kinds(&watched, &witness).await.contains(&FindingKind::Rollback), "{end:?}");
        watched.store.show(end.key(), &end.version);
    }
}

#[tokio::test]
async fn an_older_genesis_is_a_rollback() {
    let watched = Watched::new();
    watched.commit_hourly(1, DAY);
    let first = look(&watched).await.genesis.expect("read");
    let (version, _) = watched.put(&watched.genesis(2, Some(first.digest)), &signer());
    let witness = look(&watched).await;
    assert_eq!(witness.genesis.map(|seen| seen.n), Some(2));
    watched.store.hide(&ObjectKey::genesis(2), &version);
    let audit = watched.audit(Some(&witness)).await;
    let [finding] = &audit.findings[..] else { panic!("{:?}", audit.findings) };
    assert_eq!((finding.kind, &finding.key), (FindingKind::Rollback, &Some(ObjectKey::genesis(2))));
    assert_eq!(finding.label, None, "it concerns every label");
    // Another look does not make it the normal case.
    assert_eq!(kinds(&watched, &witness.updated(&audit)).await, [FindingKind::Rollback]);
    // Another one in its place.
    let mut other = watched.genesis(2, Some(first.digest));
    other.recipients.push("age1".to_owned());
    watched.put(&other, &signer());
    assert_eq!(kinds(&watched, &witness).await, [FindingKind::Rollback]);
    watched.store.show(&ObjectKey::genesis(2), &version);
    assert_eq!(kinds(&watched, &witness).await, [FindingKind::Overwrite], "the other one");
}

#[tokio::test]
async fn a_genesis_that_has_a_successor_by_now_is_no_rollback() {
    let watched = Watched::new();
    watched.commit_hourly(1, DAY);
    let witness = look(&watched).await;
    let first = witness.genesis.expect("read");
    watched.put(&watched.genesis(2, Some(first.digest)), &signer());
    let audit = watched.audit(Some(&witness)).await;
    assert_eq!(audit.findings, []);
    assert_eq!(witness.updated(&audit).genesis.map(|seen| seen.n), Some(2));
}

#[tokio::test]
async fn the_witness_of_another_repository_is_refused() {
    let (watched, other) = (Watched::new(), Watched::of(4));
    let witness = look(&other).await;
    let error = audit(&watched.open().await, Some(&witness), &watched.context).await;
    let error = error.expect_err("refused");
    assert!(matches!(error, AuditError::OtherRepository { .. }));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_witness_file_is_read_back_and_private() {
    let watched = Watched::new();
    watched.commit_hourly(3, DAY);
    let witness = look(&watched).await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("vault.witness");
    assert_eq!(Witness::load(&path).expect("none"), None);
    witness.save(&path).expect("written");
    assert_eq!(Witness::load(&path).expect("read"), Some(witness.clone()));
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    witness.save(&path).expect("written over");
    let names = fs::read_dir(dir.path()).expect("read").count();
    assert_eq!(names, 1, "nothing else is left");
}

#[tokio::test]
async fn a_witness_that_could_not_be_read_again_is_not_written() {
    let watched = Watched::new();
    watched.commit_hourly(1, DAY);
    let witness = look(&watched).await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("vault.witness");
    witness.save(&path).expect("written");
    let mut long = witness.clone();
    let seen = long.labels.values_mut().next().expect("a label");
    *seen = vec![seen[0].clone(); 60_000];
    let error = long.save(&path).expect_err("refused");
    assert!(matches!(error, WitnessError::Write { .. }), "{error}");
    assert_eq!(Witness::load(&path).expect("as it was"), Some(witness));
}

#[test]
fn a_damaged_witness_file_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("witness");
    for (text, is_damaged) in [
        ("", true),
        ("{\"format\":\"stonekeep/witness/1\"}", true),
        ("{\"format\":\"stonekeep/witness/2\"}", false),
    ] {
        fs::write(&path, text).expect("written");
        let error = Witness::load(&path).expect_err("refused");
        assert_eq!(matches!(error, WitnessError::Damaged { .. }), is_damaged, "{error}");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(fs::read_to_string(&path).expect("there"), text);
    }
}
