//! Each kind of finding, brought about and named.

use std::sync::Arc;

use chrono::TimeDelta;
use stonekeep_format::{
    chain::Chains,
    clock::StillClock,
    ids::{ChainId, Seq},
    key::ObjectKey,
    manifest::Manifest,
};

use super::{
    fixture::{DAY, Put, Watched, With as _, stranger},
    *,
};
use crate::{
    history::{FindError, Selector, find},
    list::list,
    segments::fixture::signer,
    stores::Stores,
};

fn kinds(audit: &Audit) -> Vec<FindingKind> {
    audit.findings.iter().map(|finding| finding.kind).collect()
}

/// The only finding there is; it must be about this object.
fn only<'a>(audit: &'a Audit, kind: FindingKind, key: &ObjectKey) -> &'a Finding {
    let [finding] = &audit.findings[..] else { panic!("{:#?}", audit.findings) };
    assert_eq!((finding.kind, finding.key.as_ref()), (kind, Some(key)), "{finding}");
    finding
}

async fn latest(watched: &Watched) -> Result<SnapshotId, FindError> {
    let found = find(&watched.open().await, &Selector::Latest, &watched.context).await;
    found.map(|snapshot| snapshot.manifest.id)
}

/// The bytes of `put` under another key, as anybody who may write can put them.
async fn replay(watched: &Watched, put: &Put, key: &ObjectKey) {
    watched.store.plant(key, watched.bytes(put).await);
}

#[tokio::test]
async fn a_repository_that_nobody_touched_gives_no_finding() {
    let watched = Watched::new();
    let (mut chains, _) = watched.commit_hourly(5, DAY);
    watched.commit("orders", &mut Chains::default(), DAY);
    watched.commit("bookings", &mut chains, DAY);
    let audit = watched.audit(None).await;
    assert_eq!((&audit.findings[..], audit.more), (&[][..], 0));
}

#[tokio::test]
async fn a_lost_snapshot_is_a_gap_until_its_promise_ends() {
    let watched = Watched::new();
    let (mut chains, all) = watched.commit_hourly(4, DAY);
    watched.lose(&all[2]);
    let audit = watched.audit(None).await;
    let finding = only(&audit, FindingKind::Gap, all[2].key());
    assert_eq!(finding.label, Some(all[2].manifest.label.clone()));
    assert!(finding.what.contains(all[2].manifest.id.as_str()), "{finding}");
    watched.pass(TimeDelta::days(2));
    watched.commit("bookings", &mut chains, DAY);
    assert_eq!(kinds(&watched.audit(None).await), []);
}

#[tokio::test]
async fn two_ends_of_a_chain_are_a_fork_until_one_names_both() {
    let watched = Watched::new();
    let (mut chains, _) = watched.commit_hourly(2, DAY);
    let mut rolled_back = chains.clone();
    watched.commit("bookings", &mut chains, DAY);
    watched.pass(TimeDelta::seconds(1));
    let other = watched.commit("bookings", &mut rolled_back, DAY);
    let audit = watched.audit(None).await;
    assert_eq!(kinds(&audit), [FindingKind::Fork]);
    assert!(audit.findings[0].what.contains(other.manifest.id.as_str()), "{}", audit.findings[0]);
    let mut there = audit.history.of(&other.manifest.label).iter();
    let there = there.find(|each| each.manifest.id == other.manifest.id);
    chains.take(&other.manifest, there.expect("both can be restored").digest);
    watched.commit("bookings", &mut chains, DAY);
    assert_eq!(kinds(&watched.audit(None).await), []);
}

#[tokio::test]
async fn a_manifest_that_a_stranger_signed_is_a_foreign_signature() {
    let watched = Watched::new();
    let (chains, _) = watched.commit_hourly(2, DAY);
    let before = latest(&watched).await.expect("one");
    let forged = watched.manifest("bookings", &chains, DAY);
    watched.put(&forged, &stranger());
    let audit = watched.audit(None).await;
    let finding = only(&audit, FindingKind::ForeignSignature, &forged.key);
    assert!(finding.what.contains(&stranger().fingerprint()), "{finding}");
    assert_eq!(latest(&watched).await.expect("one"), before);
}

#[tokio::test]
async fn our_signature_under_other_words_is_a_foreign_signature() {
    let watched = Watched::new();
    let (chains, all) = watched.commit_hourly(2, DAY);
    let forged = watched.manifest("bookings", &chains, DAY);
    let object = watched.bytes(&all[1]).await;
    let (_, armour) = stonekeep_format::signature::split(&object).expect("signed");
    let mut bytes = stonekeep_format::signature::document_body(&forged).expect("JSON");
    bytes.extend_from_slice(armour);
    watched.store.plant(&forged.key, bytes.into());
    only(&watched.audit(None).await, FindingKind::ForeignSignature, &forged.key);
}

#[tokio::test]
async fn what_a_withdrawn_signer_signs_later_is_a_foreign_signature() {
    let watched = Watched::new();
    let (mut chains, _) = watched.commit_hourly(2, DAY);
    let first = watched.audit(None).await.genesis.expect("read");
    let mut second = watched.genesis(2, Some(first.digest));
    second.signers[0].valid_until = Some(watched.now());
    watched.put(&second, &signer());
    assert_eq!(kinds(&watched.audit(None).await), [], "what it signed before counts");
    watched.pass(TimeDelta::seconds(1));
    let late = watched.commit("bookings", &mut chains, DAY);
    only(&watched.audit(None).await, FindingKind::ForeignSignature, late.key());
}

#[tokio::test]
async fn what_is_put_where_a_genesis_is_or_could_be_is_named() {
    let watched = Watched::new();
    watched.commit_hourly(1, DAY);
    let first = watched.audit(None).await.genesis.expect("read");
    let forged = watched.genesis(2, Some(first.digest));
    watched.put(&forged, &stranger());
    let audit = watched.audit(None).await;
    let finding = only(&audit, FindingKind::ForeignSignature, &forged.key);
    assert!(finding.what.contains(&stranger().fingerprint()), "{finding}");
    assert_eq!(audit.genesis, Some(first));

    let watched = Watched::new();
    // Sent again.
    watched.put(&watched.genesis(1, None), &signer());
    assert_eq!(kinds(&watched.audit(None).await), []);
    let genesis = stonekeep_format::signature::sign_document(&watched.genesis(1, None), &signer());
    watched.store.plant(&ObjectKey::genesis(3), genesis.expect("signed").into());
    only(&watched.audit(None).await, FindingKind::Replayed, &ObjectKey::genesis(3));
}

#[tokio::test]
async fn our_manifest_under_another_key_is_replayed() {
    let watched = Watched::new();
    let (_, all) = watched.commit_hourly(2, DAY);
    let Manifest { label, chain, id, .. } = &all[0].manifest;
    let key = ObjectKey::manifest(label, Seq(9), *chain, id);
    replay(&watched, &all[0], &key).await;
    let audit = watched.audit(None).await;
    let finding = only(&audit, FindingKind::Replayed, &key);
    assert!(finding.what.contains("belongs to key"), "{finding}");
}

#[tokio::test]
async fn our_manifest_under_another_label_is_replayed() {
    let watched = Watched::new();
    let (_, all) = watched.commit_hourly(2, DAY);
    let text = all[0].key().as_str().replace("/bookings/", "/orders/");
    replay(&watched, &all[0], &text.parse().expect("a key")).await;
    let audit = watched.audit(None).await;
    let finding = only(&audit, FindingKind::Replayed, &text.parse().expect("a key"));
    assert_eq!(finding.label.as_ref().map(Label::as_str), Some("orders"));
    assert!(!audit.history.labels.contains_key("orders".parse::<Label>().as_ref().expect("one")));
}

#[tokio::test]
async fn a_manifest_of_another_repository_of_ours_is_replayed() {
    let (watched, other) = (Watched::new(), Watched::of(4));
    watched.commit_hourly(2, DAY);
    let (_, theirs) = other.commit_hourly(1, DAY);
    // Not over one of ours: their chain is another one.
    let manifest = theirs[0].manifest.clone().with(|manifest| {
        manifest.chain = ChainId::from_bytes([9; 8]);
        let Manifest { label, seq, chain, id, .. } = &*manifest;
        manifest.key = ObjectKey::manifest(label, *seq, *chain, id);
    });
    let (version, _) = other.put(&manifest, &signer());
    let put = Put { manifest, version };
    watched.store.plant(put.key(), other.bytes(&put).await);
    let audit = watched.audit(None).await;
    let finding = only(&audit, FindingKind::Replayed, put.key());
    assert!(finding.what.contains("belongs to repository"), "{finding}");
}

#[tokio::test]
async fn a_snapshot_of_the_future_is_named_kept_and_never_the_latest() {
    let watched = Watched::new();
    let (mut chains, all) = watched.commit_hourly(3, DAY);
    // Its chain, and one that it begins: neither hides what is older than a day before it.
    for byte in [1, 7] {
        let ahead = watched.now() + TimeDelta::days(400);
        let fresh = Chains::default();
        let forged = watched.manifest("bookings", &fresh, DAY).with(|manifest| {
            (manifest.committed_at, manifest.started_at) = (ahead, ahead);
            manifest.promised_until = ahead + DAY;
            manifest.id = SnapshotId::new(ahead, u128::from(byte));
            (manifest.seq, manifest.chain) = (Seq(u64::MAX), ChainId::from_bytes([byte; 8]));
            manifest.previous = if byte == 1 { vec![chains.known().remove(2)] } else { Vec::new() };
            let Manifest { label, seq, chain, id, .. } = &*manifest;
            manifest.key = ObjectKey::manifest(label, *seq, *chain, id);
        });
        watched.put(&forged, &signer());
        let audit = watched.audit(None).await;
        let found = audit.findings.iter().find(|each| each.key.as_ref() == Some(&forged.key));
        assert_eq!(found.map(|each| each.kind), Some(FindingKind::Future), "{audit:#?}");
        assert_eq!(latest(&watched).await.expect("an honest one"), all[2].manifest.id);
        let selector = Selector::Id(forged.id.to_string());
        let found = find(&watched.open().await, &selector, &watched.context).await;
        assert_eq!(found.expect("it can be restored").manifest.id, forged.id);
    }
    let listed = list(&watched.open().await, &watched.context).await.expect("listed");
    assert_eq!(listed.snapshots.len(), 5);
    // It is none the better when its time has come.
    watched.pass(TimeDelta::days(401));
    let late = watched.commit("bookings", &mut chains, DAY);
    assert!(kinds(&watched.audit(None).await).contains(&FindingKind::Future));
    assert_eq!(latest(&watched).await.expect("an honest one"), late.manifest.id);
}

#[tokio::test]
async fn a_label_whose_snapshots_all_claim_the_future_has_no_latest() {
    let watched = Watched::new();
    let ahead = watched.now() + TimeDelta::minutes(6);
    let forged = watched
        .manifest("bookings", &Chains::default(), DAY)
        .with(|manifest| manifest.started_at = ahead);
    watched.put(&forged, &signer());
    let error = latest(&watched).await.expect_err("none");
    assert!(matches!(error, FindError::OnlyFuture(_)), "{error}");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn clocks_that_differ_by_less_than_five_minutes_make_no_future() {
    let watched = Watched::new();
    let ahead = watched.now() + TimeDelta::minutes(5);
    let signed = watched
        .manifest("bookings", &Chains::default(), DAY)
        .with(|manifest| manifest.committed_at = ahead);
    watched.put(&signed, &signer());
    assert_eq!(kinds(&watched.audit(None).await), []);
    assert_eq!(latest(&watched).await.expect("one"), signed.id);
}

#[tokio::test]
async fn overwrites_junk_and_markers_are_named_apart() {
    let watched = Watched::new();
    let (_, all) = watched.commit_hourly(2, DAY);
    watched.store.plant(all[0].key(), "later".into());
    watched.store.plant(all[0].key(), watched.bytes(&all[0]).await);
    watched.store.plant_marker(all[1].key());
    let junk = |name: &str| format!("manifests/bookings/{name}").parse().expect("a key");
    watched.store.plant(&junk("a"), "{}".into());
    let long =
        usize::try_from(<Manifest as stonekeep_format::signature::SignedDocument>::BYTES_MAX);
    watched.store.plant(&junk("b"), vec![b'x'; long.expect("small") + 1].into());
    let sealed = watched.store.plant(&junk("c"), watched.bytes(&all[0]).await);
    watched.store.seal_away(&junk("c"), &sealed);
    let audit = watched.audit(None).await;
    assert_eq!(
        kinds(&audit),
        [
            FindingKind::Overwrite,
            FindingKind::Unsigned,
            FindingKind::Unreadable,
            FindingKind::Unreadable,
            FindingKind::Marker,
        ]
    );
    assert!(!audit.findings.iter().any(|finding| finding.kind.breaks_chain()));
}

#[tokio::test]
async fn a_flood_of_junk_hides_nothing_of_another_kind() {
    let watched = Watched::new();
    let (_, all) = watched.commit_hourly(1, DAY);
    for n in 0..1_500 {
        let key = format!("manifests/aaa/{n:05}").parse().expect("a key");
        watched.store.plant(&key, "{}".into());
    }
    let key: ObjectKey = "manifests/zzz/last".parse().expect("a key");
    replay(&watched, &all[0], &key).await;
    let audit = watched.audit(None).await;
    assert_eq!((audit.findings.len(), audit.more), (FINDINGS_MAX + 1, 500));
    assert_eq!(audit.findings[0].key, Some(key));
}

#[tokio::test]
async fn a_server_whose_clock_runs_ahead_is_told() {
    let watched = Watched::new();
    watched.commit_hourly(1, DAY);
    let here = Arc::new(StillClock::new(watched.now() - TimeDelta::minutes(6)));
    let context = Context { clock: here, ..watched.context.clone() };
    let audit = audit(&watched.open().await, None, &context).await.expect("judged");
    assert_eq!(kinds(&audit), [FindingKind::Clock]);
}

#[tokio::test]
async fn one_label_is_judged_without_the_others() {
    let watched = Watched::new();
    let (_, all) = watched.commit_hourly(3, DAY);
    watched.lose(&all[1]);
    let orders = watched.commit("orders", &mut Chains::default(), DAY).manifest.label;
    let repository = watched.open().await;
    let of = async |label: &Label| {
        let audit = audit_label(&repository, label, None, &watched.context).await;
        kinds(&audit.expect("judged"))
    };
    assert_eq!(of(&orders).await, []);
    assert_eq!(of(&all[0].manifest.label).await, [FindingKind::Gap]);
}

#[tokio::test]
async fn a_copy_need_not_be_whole() {
    let watched = Watched::new();
    let (_, all) = watched.commit_hourly(3, DAY);
    let witness = Witness::first(&watched.audit(None).await);
    watched.lose(&all[1]);
    let copy = watched.open_as(Stores::copy(Arc::new(watched.store.clone()))).await;
    let audit = audit(&copy, Some(&witness), &watched.context).await.expect("judged");
    assert_eq!(kinds(&audit), []);
}
