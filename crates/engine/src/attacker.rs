//! Whoever has stolen the writer's credential, played by chance: puts anywhere, over anything, as often as he likes.
//!
//! He cannot delete versions (no credential of ours can), but sets delete markers: some servers let him. What he signs is signed
//! by a stranger, or, if he is root on the daemon's host, by our signer.

use std::{collections::BTreeMap, path::Path, sync::OnceLock};

use bytes::Bytes;
use chrono::TimeDelta;
use proptest::{collection::vec, prelude::*, sample::Index};
use stonekeep_format::{
    genesis::Genesis,
    ids::{ChainId, Digest, Label, Nonce, SegmentId, Seq, SnapshotId},
    key::{ObjectKey, Place},
    lock::Class,
    manifest::Manifest,
    signature::{SignedDocument, Signer, document_body, sign_document},
};
use stonekeep_store::{MemoryStore, contract::list_all};

use crate::{audit::fixture::stranger, history::Snapshot, repository::Repository};

/// One request of his.
#[derive(Debug, Clone)]
pub(crate) enum Attack {
    /// Puts over something that is there.
    Overwrite(Index, Body, bool),
    /// Hides something that is there behind a delete marker.
    Hide(Index),
    /// Puts where nothing is yet. If the flag is set, under a key of his own (SSE-C), so that nobody can read it.
    Plant(Spot, Body, bool),
}

/// Where nothing is yet.
#[derive(Debug, Clone)]
pub(crate) enum Spot {
    /// Beside the snapshots: below our label or another, in our chain or another, so many positions and minutes later; with the
    /// id of a snapshot that is there or with one of its own.
    Manifest { ours: bool, chain: bool, ahead: u8, minutes: i32, same_id: bool },
    /// A genesis of this number.
    Genesis(u32),
    /// An attempt record below our label or another, as much later.
    Attempt { ours: bool, minutes: i32 },
    /// An inventory.
    Inventory(u8),
    /// A segment.
    Segment(u8),
    /// Any key at all.
    Anything(String),
}

/// What he puts.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// Nothing in particular.
    Junk(Vec<u8>),
    /// More than any document of ours may have.
    TooLong,
    /// A document that fits its place, without a signature.
    Unsigned,
    /// The same, signed by a key of his own.
    Forged(Lie),
    /// The same, signed by our signer: of somebody who is root on the daemon's host.
    Signed(Lie),
    /// The bytes of something that is there.
    Replayed(Index),
}

/// How a manifest of his differs from one of ours.
#[derive(Debug, Clone)]
pub(crate) enum Lie {
    /// In its place alone.
    Place,
    /// It promises nothing any more.
    Expired,
    /// It knows of no other snapshot.
    Forgets,
    /// It names an inventory that is none.
    Elsewhere,
    /// It says that it was committed so many days later, or earlier.
    Dated(i16),
}

/// His requests. With `signs`, he has our signer's key.
pub(crate) fn attacks(signs: bool, most: usize) -> impl Strategy<Value = Vec<Attack>> {
    vec(attack(signs), 1..=most)
}

pub(crate) fn attack(signs: bool) -> impl Strategy<Value = Attack> {
    prop_oneof![
        3 => (any::<Index>(), body(signs), hidden()).prop_map(|(what, body, hidden)| Attack::Overwrite(what, body, hidden)),
        2 => any::<Index>().prop_map(Attack::Hide),
        5 => (spot(), body(signs), hidden()).prop_map(|(spot, body, hidden)| Attack::Plant(spot, body, hidden)),
    ]
}

fn hidden() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.2)
}

fn spot() -> impl Strategy<Value = Spot> {
    let minutes = -3_000..3_000_i32;
    let manifest = (any::<bool>(), any::<bool>(), any::<u8>(), minutes.clone(), any::<bool>())
        .prop_map(|(ours, chain, ahead, minutes, same_id)| Spot::Manifest {
            ours,
            chain,
            ahead,
            minutes,
            same_id,
        });
    prop_oneof![
        5 => manifest,
        2 => (1..8_u32).prop_map(Spot::Genesis),
        1 => (any::<bool>(), minutes).prop_map(|(ours, minutes)| Spot::Attempt { ours, minutes }),
        1 => any::<u8>().prop_map(Spot::Inventory),
        1 => any::<u8>().prop_map(Spot::Segment),
        1 => "(manifests|genesis|attempts)/[a-z0-9/ -]{1,30}".prop_map(Spot::Anything),
    ]
}

fn body(signs: bool) -> impl Strategy<Value = Body> {
    let lie = || {
        prop_oneof![
            Just(Lie::Place),
            Just(Lie::Expired),
            Just(Lie::Forgets),
            Just(Lie::Elsewhere),
            (-400..400_i16).prop_map(Lie::Dated),
        ]
    };
    prop_oneof![
        2 => vec(any::<u8>(), 0..40).prop_map(Body::Junk),
        1 => Just(Body::TooLong),
        1 => Just(Body::Unsigned),
        3 => lie().prop_map(Body::Forged),
        if signs { 6 } else { 0 } => lie().prop_map(Body::Signed),
        3 => any::<Index>().prop_map(Body::Replayed),
    ]
}

/// What he knows: all of it stands in the bucket.
pub(crate) struct Ground {
    store: MemoryStore,
    genesis: Genesis,
    genesis_digest: Digest,
    manifest: Manifest,
    /// The one who signs on the daemon's host.
    signer: Signer,
}

impl Ground {
    pub(crate) fn new(
        store: &MemoryStore,
        repository: &Repository,
        snapshot: &Snapshot,
        signer: Signer,
    ) -> Self {
        Self {
            store: store.clone(),
            genesis: repository.genesis.clone(),
            genesis_digest: repository.line.last().expect("a genesis").digest,
            manifest: snapshot.manifest.clone(),
            signer,
        }
    }

    pub(crate) async fn take(&self, attack: &Attack) {
        let (key, body, hidden) = match attack {
            Attack::Overwrite(what, body, hidden) => (self.existing(what).0, body, *hidden),
            Attack::Plant(spot, body, hidden) => (self.key(spot), body, *hidden),
            Attack::Hide(what) => {
                self.store.plant_marker(&self.existing(what).0);
                return;
            }
        };
        let version = self.store.plant(&key, self.content(&key, body).await);
        if hidden {
            self.store.seal_away(&key, &version);
        }
    }

    fn existing(&self, what: &Index) -> (ObjectKey, u64) {
        what.get(&self.store.stored()).clone()
    }

    fn key(&self, spot: &Spot) -> ObjectKey {
        let Manifest { label, chain, seq, id, started_at, .. } = &self.manifest;
        let label = |ours: bool| -> Label {
            if ours { label.clone() } else { "others".parse().expect("a label") }
        };
        let later = |minutes: i32| {
            let at = *started_at + TimeDelta::minutes(i64::from(minutes));
            SnapshotId::new(at, u128::from(minutes.unsigned_abs()))
        };
        match spot {
            Spot::Manifest { ours, chain: same, ahead, minutes, same_id } => {
                let chain = if *same { *chain } else { ChainId::from_bytes([*ahead; 8]) };
                let id = if *same_id { id.clone() } else { later(*minutes) };
                ObjectKey::manifest(&label(*ours), Seq(seq.0 + u64::from(*ahead)), chain, &id)
            }
            Spot::Genesis(n) => ObjectKey::genesis(*n),
            Spot::Attempt { ours, minutes } => ObjectKey::attempt(&label(*ours), &later(*minutes)),
            Spot::Inventory(n) => ObjectKey::inventory(Class::MAX, &later(i32::from(*n))),
            Spot::Segment(n) => {
                let (id, nonce) = (SegmentId::from_bytes([*n; 32]), Nonce::from_bytes([*n; 16]));
                ObjectKey::segment(Class::MAX, id, nonce)
            }
            Spot::Anything(text) => text.parse().expect("S3 takes it"),
        }
    }

    async fn content(&self, key: &ObjectKey, body: &Body) -> Bytes {
        match body {
            Body::Junk(bytes) => bytes.clone().into(),
            Body::TooLong => too_long(),
            Body::Unsigned => {
                document_body(&self.manifest_at(key, &Lie::Place)).expect("JSON").into()
            }
            Body::Forged(lie) if matches!(Place::of(key), Some(Place::Genesis(_))) => {
                signed(&self.genesis_at(key, lie), &stranger())
            }
            Body::Forged(lie) => signed(&self.manifest_at(key, lie), &stranger()),
            Body::Signed(lie) => signed(&self.manifest_at(key, lie), &self.signer),
            Body::Replayed(what) => self.read(&self.existing(what).0).await,
        }
    }

    async fn read(&self, key: &ObjectKey) -> Bytes {
        use stonekeep_store::ReadStore as _;
        let versions = list_all(&self.store, key.as_str()).await.versions;
        let oldest = versions.iter().find(|version| version.key == *key).expect("it is there");
        let read = self.store.get(key, &oldest.version_id, u64::MAX).await;
        // What he cannot read himself he knows all the same: he has put it.
        read.unwrap_or_else(|_| Bytes::from_static(b"sealed away"))
    }

    /// A manifest of ours, as it would be under `key`.
    fn manifest_at(&self, key: &ObjectKey, lie: &Lie) -> Manifest {
        let mut manifest = Manifest { key: key.clone(), ..self.manifest.clone() };
        if let Some(Place::Manifest(label, seq, chain, id)) = Place::of(key) {
            (manifest.label, manifest.seq, manifest.chain, manifest.id) = (label, seq, chain, id);
        }
        match lie {
            Lie::Place => {}
            Lie::Expired => {
                (manifest.keep, manifest.promised_until) =
                    (std::time::Duration::ZERO, manifest.committed_at);
            }
            Lie::Forgets => (manifest.previous, manifest.live) = (Vec::new(), Vec::new()),
            Lie::Elsewhere => manifest.inventory.digest = Digest::of(b"elsewhere"),
            Lie::Dated(days) => {
                manifest.committed_at += TimeDelta::days(i64::from(*days));
                manifest.started_at = manifest.committed_at;
            }
        }
        manifest
    }

    /// A genesis that would continue ours, and trust him.
    fn genesis_at(&self, key: &ObjectKey, lie: &Lie) -> Genesis {
        let mut genesis = Genesis { key: key.clone(), ..self.genesis.clone() };
        if let Some(Place::Genesis(n)) = Place::of(key) {
            genesis.n = n;
        }
        genesis.previous = Some(self.genesis_digest);
        genesis.signers[0].public_key = stranger().public_line().expect("a line");
        if matches!(lie, Lie::Forgets) {
            genesis.previous = None;
        }
        genesis
    }
}

fn signed(document: &impl SignedDocument, signer: &Signer) -> Bytes {
    sign_document(document, signer).expect("signed").into()
}

/// One byte more than the longest document of ours, and made once.
fn too_long() -> Bytes {
    static LONG: OnceLock<Bytes> = OnceLock::new();
    let bytes = usize::try_from(Manifest::BYTES_MAX + 1).expect("it fits");
    LONG.get_or_init(|| vec![b'{'; bytes].into()).clone()
}

/// Runs one case of a property.
pub(crate) fn run(case: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(case);
}

/// The files of a directory.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries =
        std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::{
        fetch::fetch,
        history::{Selector, find},
        list::list,
        segments::fixture::{Fixture, signer},
    };

    /// What a reader sees of a repository: its list, and of the snapshot every file.
    #[derive(Debug, PartialEq)]
    struct Seen {
        snapshots: Vec<crate::list::SnapshotLine>,
        labels: Vec<crate::list::LabelReport>,
        by_selector: Vec<Digest>,
        files: BTreeMap<String, Vec<u8>>,
    }

    /// The repository of the fixture, in memory, so that it can be written to.
    struct Shop {
        fixture: Arc<Fixture>,
        store: MemoryStore,
    }

    impl Shop {
        async fn of(fixture: &Arc<Fixture>) -> Self {
            Self { fixture: Arc::clone(fixture), store: fixture.in_memory().await }
        }

        /// Suffers his requests, and returns the snapshot that was there before.
        async fn suffer(&self, attacks: &[Attack], signer: Signer) -> Snapshot {
            let (repository, honest) = self.open().await;
            let ground = Ground::new(&self.store, &repository, &honest, signer);
            for attack in attacks {
                ground.take(attack).await;
            }
            honest
        }

        async fn open(&self) -> (Repository, Snapshot) {
            self.fixture.open(Arc::new(self.store.clone())).await
        }

        async fn see(&self) -> Seen {
            let context = &self.fixture.context;
            let (repository, snapshot) = self.open().await;
            let report = list(&repository, context).await.expect("listed");
            let id = snapshot.manifest.id.to_string();
            let mut by_selector = Vec::new();
            for text in ["latest", "latest:shop", &id, &id[..20]] {
                let selector: Selector = text.parse().expect("a selector");
                let found = find(&repository, &selector, context).await.expect("found");
                by_selector.push(found.digest);
            }
            let files = self.fetch(&repository, &snapshot).await;
            Seen { snapshots: report.snapshots, labels: report.labels, by_selector, files }
        }

        async fn fetch(
            &self,
            repository: &Repository,
            snapshot: &Snapshot,
        ) -> BTreeMap<String, Vec<u8>> {
            let here = tempfile::tempdir().expect("a directory");
            let out = here.path().join("out");
            let (identities, context) = (self.fixture.identities(), &self.fixture.context);
            fetch(repository, snapshot, identities, &out, context).await.expect("fetched");
            files(&out)
        }
    }

    /// Plays 256 attackers, each in a copy of one repository. What fails is shrunk, and its seed printed.
    fn play(signs: bool, claim: &impl AsyncFn(&Shop, &Seen, &[Attack])) {
        let fixture = Arc::new(Fixture::new());
        let mut before = None;
        run(async { before = Some(Shop::of(&fixture).await.see().await) });
        let before = before.expect("seen");
        let cases = ProptestConfig::with_cases(256);
        let config = ProptestConfig { source_file: Some(file!()), ..cases };
        let outcome = TestRunner::new(config).run(&attacks(signs, 12), |attacks| {
            run(async { claim(&Shop::of(&fixture).await, &before, &attacks).await });
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
    }

    #[test]
    fn who_may_only_put_changes_no_list_and_no_restore() {
        play(false, &async |shop, before, attacks| {
            shop.suffer(attacks, stranger()).await;
            assert_eq!(shop.see().await, *before);
        });
    }

    #[test]
    fn who_also_signs_adds_snapshots_and_takes_none_away() {
        play(true, &async |shop, before, attacks| {
            let honest = shop.suffer(attacks, signer()).await;
            let repository = shop.fixture.open_only(Arc::new(shop.store.clone())).await;
            let context = &shop.fixture.context;
            let report = list(&repository, context).await.expect("listed");
            for line in &before.snapshots {
                assert!(report.snapshots.contains(line), "{} is not listed", line.id);
            }
            let by_id = Selector::Id(honest.manifest.id.to_string());
            let found = find(&repository, &by_id, context).await.expect("found");
            assert_eq!(found.digest, honest.digest);
            assert_eq!(found.version.version_id, honest.version.version_id);
            assert_eq!(shop.fetch(&repository, &found).await, before.files);
        });
    }
}
