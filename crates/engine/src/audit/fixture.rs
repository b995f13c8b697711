//! A repository of signed manifests and nothing else, in memory: all that a watcher reads.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{
    Clock as _,
    chain::Chains,
    clock::StillClock,
    genesis::{Genesis, GenesisLock, GenesisSigner, GenesisTier, LockBy},
    ids::{BucketName, ChainId, Digest, Label, RepositoryId, Seq, SnapshotId, VersionId},
    key::ObjectKey,
    lock::{Class, Lock, LockMode},
    manifest::{InventoryRef, Manifest, Totals, Versions},
    signature::{Namespace, SignedDocument, Signer, Trust, sign_document},
    tier::Every,
};
use stonekeep_store::MemoryStore;

use super::{Audit, audit};
use crate::{
    Context,
    repository::Repository,
    segments::fixture::{context, signer},
    stores::Stores,
    witness::Witness,
};

/// A key that signs nothing here; it guards nothing either.
const STRANGER: &str = include_str!("../../../format/tests/data/stranger");

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn stranger() -> Signer {
    Signer::from_openssh(STRANGER).expect("the test's own key")
}

/// A repository, and the time in it.
pub(crate) struct Watched {
    pub(crate) clock: Arc<StillClock>,
    pub(crate) store: MemoryStore,
    pub(crate) context: Context,
    id: RepositoryId,
}

/// A manifest that was put.
#[derive(Debug, Clone)]
pub(crate) struct Put {
    pub(crate) manifest: Manifest,
    pub(crate) version: VersionId,
}

impl Put {
    pub(crate) fn key(&self) -> &ObjectKey {
        &self.manifest.key
    }
}

impl Watched {
    pub(crate) fn new() -> Self {
        Self::of(3)
    }

    /// Another repository of the same owner and signer.
    pub(crate) fn of(id: u8) -> Self {
        let at = "2026-11-21T00:00:00Z".parse().expect("the test's own date");
        let clock = Arc::new(StillClock::new(at));
        let bucket: BucketName = "acme-vault".parse().expect("a bucket");
        let store = MemoryStore::new(bucket, Arc::clone(&clock) as _).in_large_pages();
        let context = Context { clock: Arc::clone(&clock) as _, ..context() };
        let watched = Self { clock, store, context, id: RepositoryId::from_bytes([id; 16]) };
        watched.put(&watched.genesis(1, None), &signer());
        watched
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) fn pass(&self, time: TimeDelta) {
        self.clock.set(self.now() + time);
    }

    /// A genesis in whose force the signer may sign.
    pub(crate) fn genesis(&self, n: u32, previous: Option<Digest>) -> Genesis {
        let bucket: BucketName = "acme-vault".parse().expect("a bucket");
        let (floor, cap) = (DAY, DAY * 4_000);
        Genesis {
            expected: BTreeMap::new(),
            calibration: BTreeMap::new(),
            format: Genesis::FORMAT.to_owned(),
            repository: self.id,
            key: ObjectKey::genesis(n),
            n,
            created_at: self.now(),
            previous,
            signers: vec![GenesisSigner {
                public_key: signer().public_line().expect("a line"),
                valid_from: DateTime::<Utc>::UNIX_EPOCH,
                valid_until: None,
            }],
            recipients: Vec::new(),
            lock: GenesisLock { mode: LockMode::Compliance, by: LockBy::PerObject, floor, cap },
            tiers: vec![GenesisTier {
                name: "daily".to_owned(),
                every: Every::Day,
                keep: DAY,
                bucket,
            }],
        }
    }

    /// Signs a document and puts it where it belongs; returns its version and digest.
    pub(crate) fn put(
        &self,
        document: &impl SignedDocument,
        signer: &Signer,
    ) -> (VersionId, Digest) {
        let object = sign_document(document, signer).expect("signed");
        let digest = Digest::of(&object);
        (self.store.plant(document.key(), object.into()), digest)
    }

    /// What a writer that knows `chains` would sign now.
    pub(crate) fn manifest(&self, label: &str, chains: &Chains, keep: Duration) -> Manifest {
        let at = self.now();
        let place = chains.next(at, ChainId::from_bytes([1; 8]));
        self.manifest_at(label, place.seq, place.chain, keep).with(|manifest| {
            manifest.previous = place.previous;
            manifest.live = place.live;
        })
    }

    fn manifest_at(&self, label: &str, seq: Seq, chain: ChainId, keep: Duration) -> Manifest {
        let (at, label) = (self.now(), label.parse::<Label>().expect("a label"));
        let id = SnapshotId::new(at, u128::from(seq.0));
        let lock = Lock { mode: LockMode::Compliance, retain_until: at + keep * 2 };
        let class = Class::of(at, lock.retain_until);
        Manifest {
            format: Manifest::FORMAT.to_owned(),
            repository: self.id,
            key: ObjectKey::manifest(&label, seq, chain, &id),
            label,
            seq,
            chain,
            previous: Vec::new(),
            live: Vec::new(),
            maybe: Vec::new(),
            tier: "daily".to_owned(),
            keep,
            started_at: at,
            snapshot_at: at,
            committed_at: at,
            promised_until: at + keep,
            suspicious: None,
            inventory: InventoryRef {
                key: ObjectKey::inventory(class, &id),
                bucket: "acme-vault".parse().expect("a bucket"),
                version_id: "v1".parse().expect("a version"),
                bytes: 1,
                digest: Digest::of(b"x"),
                lock,
            },
            id,
            totals: Totals::default(),
            recipients: Digest::of(b"r"),
            versions: Versions { stonekeep: "0".into(), server: "15".into(), pg_dump: "15".into() },
        }
    }

    /// Commits a snapshot as a writer that knows `chains` would, and adds it to them.
    pub(crate) fn commit(&self, label: &str, chains: &mut Chains, keep: Duration) -> Put {
        let manifest = self.manifest(label, chains, keep);
        let (version, digest) = self.put(&manifest, &signer());
        chains.take(&manifest, digest);
        Put { manifest, version }
    }

    /// Commits one snapshot an hour.
    pub(crate) fn commit_hourly(&self, count: usize, keep: Duration) -> (Chains, Vec<Put>) {
        let mut chains = Chains::default();
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.commit("bookings", &mut chains, keep));
            self.pass(TimeDelta::hours(1));
        }
        (chains, all)
    }

    /// The bytes of a manifest, as put.
    pub(crate) async fn bytes(&self, put: &Put) -> Bytes {
        use stonekeep_store::ReadStore as _;
        self.store.get(put.key(), &put.version, u64::MAX).await.expect("read")
    }

    pub(crate) fn lose(&self, put: &Put) {
        assert!(self.store.lose(put.key(), &put.version), "it was there");
    }

    pub(crate) async fn open(&self) -> Repository {
        self.open_as(Stores::new(Arc::new(self.store.clone()), Vec::new())).await
    }

    pub(crate) async fn open_as(&self, stores: Stores) -> Repository {
        let mut owner = Trust::none();
        let line = signer().public_line().expect("a line");
        owner.allow(&line, &[Namespace::Genesis], None, None).expect("a key");
        Repository::open(stores, &owner, &self.context).await.expect("a genesis")
    }

    pub(crate) async fn audit(&self, witness: Option<&Witness>) -> Audit {
        audit(&self.open().await, witness, &self.context).await.expect("judged")
    }
}

/// A manifest that a test changes before it is signed.
pub(crate) trait With: Sized {
    fn with(self, change: impl FnOnce(&mut Self)) -> Self;
}

impl With for Manifest {
    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}
