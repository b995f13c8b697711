//! Runs against the model of a bucket, with time in hand.

mod attacked;
mod lies;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use chrono::TimeDelta;
use stonekeep_format::{
    catalog::{Catalog, DatabaseProperties, LargeObjects, Server},
    clock::StillClock,
    digest::{LargeObjectDigest, RowDigestKey},
    ids::{BucketName, RepositoryId, VersionId},
    inventory::TableTotals,
    key::{ObjectKey, Place},
    lock::{Lock, LockMode},
    manifest::Versions,
    signature::Namespace,
    tier::Every,
};
use stonekeep_store::{
    BucketFacts, BucketLock, DefaultRetention, ListCursor, MemoryStore, ObjectHead,
    ProvisionStore as _, ReadStore, Right, StoreError, VersionPage, contract::list_all,
};

use super::*;
use crate::{
    history::{History, Selector, find},
    init::{Buckets, InitPlan, init},
    list::list,
    repository::{Repository, RepositoryError},
    segments::fixture::{context, signer},
    stores::Stores,
    verify::verify,
};

pub(crate) const HOUR: TimeDelta = TimeDelta::hours(1);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("the test's own date")
}

pub(crate) fn tier(name: &str, every: Every, days: u64) -> Tier {
    Tier { name: name.to_owned(), every, keep: Duration::from_secs(days * 86_400) }
}

/// A repository in memory, and a writer for it.
pub(crate) struct World {
    pub(crate) clock: Arc<StillClock>,
    pub(crate) store: MemoryStore,
    /// The buckets of tiers, if buckets name the locks.
    pub(crate) of_tiers: BTreeMap<String, MemoryStore>,
    pub(crate) context: Context,
    pub(crate) plan: BackupPlan,
    state: Option<tempfile::TempDir>,
    genesis: Option<Vec<u8>>,
}

impl World {
    /// Another database, in the same repository at the same time.
    pub(crate) fn of_label(&self, label: Label) -> Self {
        Self {
            plan: BackupPlan { label, ..self.plan.clone() },
            clock: Arc::clone(&self.clock),
            store: self.store.clone(),
            of_tiers: BTreeMap::new(),
            context: self.context.clone(),
            state: None,
            genesis: None,
        }
    }

    pub(crate) async fn new(tiers: Vec<Tier>) -> Self {
        Self::make(tiers, false).await
    }

    pub(crate) async fn make(tiers: Vec<Tier>, buckets_lock: bool) -> Self {
        let clock = Arc::new(StillClock::new(at("2026-11-21T00:00:00Z")));
        let bucket = |name: &str| {
            MemoryStore::new(name.parse().expect("a bucket"), Arc::clone(&clock) as _)
                .in_large_pages()
        };
        let store = bucket("vault");
        let locking = tiers.iter().filter(|_| buckets_lock);
        let of_tiers: BTreeMap<String, MemoryStore> = locking
            .map(|tier| (tier.name.clone(), bucket(&format!("vault-{}", tier.name))))
            .collect();
        let context = Context { clock: Arc::clone(&clock) as _, ..context() };
        let recipient = || age::x25519::Identity::generate().to_public().to_string();
        let recipients = vec![recipient(), recipient()];
        let (signer, mut owner) = (signer(), Trust::none());
        let line = signer.public_line().expect("a line");
        owner.allow(&line, &[Namespace::Genesis], None, None).expect("a key");
        let plan = InitPlan {
            signer_public_lines: vec![line],
            recipients: recipients.clone(),
            tiers: tiers.clone(),
            policies: BTreeMap::new(),
            lock_mode: LockMode::Compliance,
            owner: owner.clone(),
        };
        let sign = |namespace, message: &[u8]| {
            signer.sign(namespace, message).map_err(|error| error.to_string())
        };
        let provision = |store: &MemoryStore| Arc::new(store.clone()) as _;
        let buckets = Buckets {
            main: provision(&store),
            of_tiers: of_tiers
                .iter()
                .map(|(name, store)| (name.clone(), provision(store)))
                .collect(),
            probes: Vec::new(),
        };
        init(&plan, &buckets, &sign, &context).await.expect("a repository");
        let plan = BackupPlan {
            label: "bookings".parse().expect("a label"),
            tiers,
            zone: chrono_tz::Europe::Berlin,
            compression_level: 1,
            memory_budget_bytes: 64 << 20,
            signer,
            recipients,
            owner,
            distrusted: BTreeSet::new(),
            fresh: false,
            shrink_percent_max: 50,
        };
        Self { clock, store, of_tiers, context, plan, state: None, genesis: None }
    }

    pub(crate) async fn weekly() -> Self {
        Self::new(vec![tier("hourly", Every::Hour, 7)]).await
    }

    pub(crate) fn pass(&self, time: TimeDelta) {
        use stonekeep_format::Clock as _;
        self.clock.set(self.clock.now() + time);
    }

    fn target(&self, store: impl AppendStore + 'static) -> Target {
        Target {
            name: "vault".to_owned(),
            store: Arc::new(store),
            tiers: self
                .of_tiers
                .iter()
                .map(|(name, store)| (name.clone(), Arc::new(store.naming_no_locks()) as _))
                .collect(),
            genesis: self.genesis.clone(),
            state_dir: self.state.as_ref().map(|dir| dir.path().to_owned()),
        }
    }

    async fn begin(&self) -> Run {
        let begun = begin(&self.plan, &[self.target(self.store.clone())], &self.context).await;
        begun.map(|(run, _)| run).expect("it may be written to")
    }

    /// Takes a snapshot of tables that hold this.
    pub(crate) async fn snapshot(&self, tables: &[&str]) -> BackupReport {
        self.snapshot_in(&[self.target(self.store.clone())], tables)
            .await
            .remove(0)
            .result
            .expect("a snapshot")
    }

    async fn snapshot_in(&self, targets: &[Target], tables: &[&str]) -> Vec<Outcome> {
        match begin(&self.plan, targets, &self.context).await {
            Err(outcomes) => outcomes,
            Ok((run, failed)) => match self.keep_all(&run, tables).await {
                Ok(contents) => run.commit(&contents, failed).await,
                Err(BackupError::NoRepositoryLeft) => run.failures(),
                Err(error) => panic!("{error}"),
            },
        }
    }

    async fn keep_all(&self, run: &Run, tables: &[&str]) -> Result<Contents, BackupError> {
        let mut segments = Vec::new();
        for (kind, text) in [(SegmentKind::Toc, "toc"), (SegmentKind::Globals, "globals")] {
            segments.push(run.keep(piece(kind, None, text)).await?);
        }
        for (at, table) in tables.iter().enumerate() {
            let member = format!("t{at}.dat").parse().expect("a member");
            segments.push(run.keep(piece(SegmentKind::Rows, Some(member), table)).await?);
        }
        Ok(contents(run, segments, tables))
    }

    async fn keys(&self, prefix: &str) -> Vec<ObjectKey> {
        let all = list_all(&self.store, prefix).await;
        all.versions.into_iter().map(|version| version.key).collect()
    }

    pub(crate) async fn open(&self) -> Repository {
        self.open_in(self.store.clone()).await
    }

    async fn open_in(&self, store: impl ReadStore + 'static) -> Repository {
        let store: Arc<dyn ReadStore> = Arc::new(store);
        let of_tiers = self.of_tiers.values().map(|store| Arc::new(store.clone()) as _);
        let stores = Stores::new(store, of_tiers.collect());
        let repository = Repository::open(stores, &self.plan.owner, &self.context).await;
        repository.expect("a genesis")
    }

    /// The segments that the newest snapshot names.
    pub(crate) async fn named(&self) -> Vec<Segment> {
        let repository = self.open().await;
        let newest =
            find(&repository, &Selector::LatestOf(self.plan.label.clone()), &self.context).await;
        let manifest = &newest.expect("a snapshot").manifest;
        let inventory =
            crate::segments::load_inventory(&repository, &manifest.inventory, &manifest.id).await;
        inventory.expect("an inventory").segments
    }

    async fn row_segments(&self) -> Vec<Segment> {
        let mut named = self.named().await;
        named.retain(|segment| segment.kind == SegmentKind::Rows);
        named
    }
}

fn piece(kind: SegmentKind, member: Option<MemberName>, text: &str) -> Piece {
    Piece { kind, member, plaintext: text.as_bytes().to_vec(), held: None }
}

fn contents(run: &Run, segments: Vec<Copies>, tables: &[&str]) -> Contents {
    let rows = |text: &&str| TableTotals {
        name: run.keyer().table_name(b"public", text.get(..1).unwrap_or_default().as_bytes()),
        rows: text.len() as u64,
        plain_bytes: text.len() as u64,
        slice_pages: None,
        binary: false,
    };
    let tables: Vec<TableTotals> = tables.iter().map(rows).collect();
    let totals = Totals {
        tables: tables.len() as u64,
        rows: tables.iter().map(|table| table.rows).sum(),
        ..Totals::default()
    };
    let catalog = Catalog {
        format: Catalog::FORMAT.to_owned(),
        repository: RepositoryId::from_bytes([0; 16]),
        label: run.plan().label.clone(),
        id: run.id().clone(),
        digest_key: RowDigestKey::from_bytes([0; 32]),
        snapshot_at: at("2026-11-21T00:00:00Z"),
        wal_lsn: None,
        server: Server {
            version_num: 150_000,
            version: "15".to_owned(),
            system_identifier: None,
            settings: Vec::new(),
        },
        database: DatabaseProperties::default(),
        tables: Vec::new(),
        large_objects: LargeObjects {
            digest: LargeObjectDigest::default(),
            packs: Vec::new(),
            sliced: Vec::new(),
        },
        sequences: Vec::new(),
        objects: None,
        warnings: Vec::new(),
    };
    let versions = Versions { stonekeep: "0".into(), server: "15".into(), pg_dump: "15".into() };
    Contents { catalog, segments, tables, totals, versions }
}

#[tokio::test]
async fn unchanged_content_is_stored_once() {
    let world = World::weekly().await;
    world.snapshot(&["a", "b"]).await;
    let first = world.row_segments().await;
    world.pass(HOUR);
    let second = world.snapshot(&["a", "c"]).await;
    let now = world.row_segments().await;
    assert_eq!((&now[0].key, &now[0].version_id), (&first[0].key, &first[0].version_id));
    assert_ne!(now[1].key, first[1].key);
    assert_eq!(now[0].since, first[0].since);
    let put: u64 = now[1].bytes + world.named().await.last().map_or(0, |catalog| catalog.bytes);
    assert_eq!(second.totals.put_bytes, put);
}

#[tokio::test]
async fn content_is_stored_again_before_its_lock_is_too_short() {
    let world = World::weekly().await;
    let mut keys = BTreeSet::new();
    for _ in 0..6 * 60 {
        let report = world.snapshot(&["a"]).await;
        for segment in world.named().await {
            assert!(segment.lock.retain_until > report.promised_until);
        }
        keys.extend(world.row_segments().await.into_iter().map(|segment| segment.key));
        world.pass(HOUR * 4);
    }
    // The window is seven days, the longest that keep allows, once content has stood for so long.
    assert!((8..=10).contains(&keys.len()), "{}", keys.len());
}

#[tokio::test]
async fn a_lost_or_distrusted_segment_is_stored_again() {
    let mut world = World::weekly().await;
    world.snapshot(&["a", "b"]).await;
    let first = world.row_segments().await;
    assert!(world.store.lose(&first[0].key, &first[0].version_id));
    world.plan.distrusted.insert(first[1].id);
    // Documents are relied on for a day; then the server is asked.
    world.pass(HOUR * 25);
    world.snapshot(&["a", "b"]).await;
    let now = world.row_segments().await;
    for (now, first) in now.iter().zip(&first) {
        assert_eq!((now.id, now.since), (first.id, first.since));
        assert_ne!(now.key, first.key);
        let lock = world.store.retention(&now.key, &now.version_id).await.expect("it is there");
        assert_eq!(lock, Some(now.lock));
    }
}

#[tokio::test]
async fn a_bucket_that_lost_its_segments_is_noticed_by_the_next_run() {
    let world = World::weekly().await;
    world.snapshot(&["a", "b", "c"]).await;
    let first = world.row_segments().await;
    for segment in world.named().await {
        assert!(world.store.lose(&segment.key, &segment.version_id));
    }
    world.pass(HOUR);
    world.snapshot(&["a", "b", "c"]).await;
    for (now, first) in world.row_segments().await.iter().zip(&first) {
        assert_ne!(now.key, first.key);
        assert!(world.store.retention(&now.key, &now.version_id).await.is_ok());
    }
}

#[tokio::test]
async fn fresh_reuses_nothing() {
    let mut world = World::weekly().await;
    world.snapshot(&["a"]).await;
    let first = world.row_segments().await;
    world.plan.fresh = true;
    world.pass(HOUR);
    world.snapshot(&["a"]).await;
    assert_ne!(world.row_segments().await[0].key, first[0].key);
}

#[tokio::test]
async fn a_broken_run_is_continued_from_its_records() {
    let world = World::weekly().await;
    let run = world.begin().await;
    world.keep_all(&run, &["a", "b"]).await.expect("stored");
    run.record("killed").await;
    let stored = world.keys("segments/").await;
    drop(run);
    world.pass(HOUR);
    world.snapshot(&["a", "b"]).await;
    let named = world.named().await;
    let reused = named.iter().filter(|segment| stored.contains(&segment.key)).count();
    assert_eq!((reused, named.len()), (4, 5), "all but the catalog");
    // Nothing of it is looked for once a snapshot names it.
    assert_eq!(world.keys("attempts/").await.len(), 1);
}

#[tokio::test]
async fn records_of_others_and_of_other_labels_count_for_nothing() {
    let world = World::weekly().await;
    let run = world.begin().await;
    world.keep_all(&run, &["a"]).await.expect("stored");
    run.record("killed").await;
    let key = world.keys("attempts/").await.remove(0);
    let Some(Place::Attempt(_, id)) = Place::of(&key) else { panic!("{key}") };
    let versions = list_all(&world.store, key.as_str()).await.versions;
    let record = world.store.get(&key, &versions[0].version_id, 100_000).await.expect("read");
    let stored = world.keys("segments/").await;
    let label: Label = "payroll".parse().expect("a label");
    // Replayed below another label, and with one byte of its content changed under its own.
    world.store.plant(&ObjectKey::attempt(&label, &id), record.clone());
    let mut forged = record.to_vec();
    forged[20] ^= 1;
    let later = SnapshotId::new(at("2026-11-21T00:30:00Z"), 7);
    world.store.plant(&ObjectKey::attempt(&world.plan.label, &later), forged.into());
    world.pass(HOUR);
    let other = world.of_label(label);
    other.snapshot(&["a"]).await;
    let named = other.named().await;
    assert!(named.iter().all(|segment| !stored.contains(&segment.key)));
    world.snapshot(&["a"]).await;
    let named = world.named().await;
    assert!(named.iter().any(|segment| stored.contains(&segment.key)), "its own record counts");
}

#[tokio::test]
async fn a_planted_segment_is_never_named() {
    let world = World::weekly().await;
    world.snapshot(&["a"]).await;
    let first = world.row_segments().await;
    // Over the segment, and beside it under the same id.
    world.store.plant(&first[0].key, Bytes::from_static(b"planted"));
    let class = stonekeep_format::lock::Class::MAX;
    let beside = ObjectKey::segment(class, first[0].id, Nonce::from_bytes([9; 16]));
    world.store.plant(&beside, Bytes::from_static(b"planted"));
    world.pass(HOUR * 30);
    world.snapshot(&["a"]).await;
    let now = world.row_segments().await;
    assert_eq!((&now[0].key, &now[0].version_id), (&first[0].key, &first[0].version_id));
}

#[tokio::test]
async fn a_writer_that_may_not_read_keeps_its_chain_in_its_state() {
    let mut world = World::weekly().await;
    let genesis = world.keys("genesis/").await.remove(0);
    let version = list_all(&world.store, "genesis/").await.versions.remove(0);
    let bytes = world.store.get(&genesis, &version.version_id, 100_000).await.expect("read");
    world.genesis = Some(bytes.to_vec());
    world.state = Some(tempfile::tempdir().expect("a directory"));
    let blind = world.store.without(&[Right::List, Right::Read, Right::ReadBucket]);
    let snapshot = async |world: &World| {
        let mut outcomes = world.snapshot_in(&[world.target(blind.clone())], &["a"]).await;
        outcomes.remove(0).result.expect("a snapshot")
    };
    let first = snapshot(&world).await;
    let before = world.row_segments().await;
    world.pass(HOUR);
    let second = snapshot(&world).await;
    assert_eq!((second.chain, second.seq.0), (first.chain, 2));
    assert_eq!(world.row_segments().await[0].key, before[0].key);
    // The state is lost: a full snapshot in a new chain, which readers can tell from the other.
    let path = world.state.as_ref().expect("a state").path().to_owned();
    std::fs::remove_dir_all(path.join("manifests")).expect("lost");
    world.pass(HOUR);
    let third = snapshot(&world).await;
    assert_ne!(third.chain, first.chain);
    assert_ne!(world.row_segments().await[0].key, before[0].key);
    let history = History::load(&world.open().await, &world.context).await;
    let chains = &history.expect("manifests").labels[&world.plan.label].chains;
    let report = chains.examine(third.committed_at);
    assert!(report.forks.is_empty() && report.gaps.is_empty());
}

#[tokio::test]
async fn a_snapshot_that_was_sent_twice_is_one_and_what_nobody_can_read_hides_nothing() {
    let world = World::weekly().await;
    let first = world.snapshot(&["a"]).await;
    let key = world.keys("manifests/").await.remove(0);
    let versions = list_all(&world.store, key.as_str()).await.versions;
    let bytes = world.store.get(&key, &versions[0].version_id, 1 << 20).await.expect("read");
    world.store.plant(&key, bytes.clone());
    let listed = list(&world.open().await, &world.context).await.expect("listed");
    assert!(!listed.is_alarming(), "{listed:?}");

    // Over it, beside it, and where the next genesis would be.
    let id = SnapshotId::new(first.committed_at + HOUR, 7);
    let beside = ObjectKey::manifest(&world.plan.label, Seq(9), first.chain, &id);
    for at in [key, beside, ObjectKey::genesis(2)] {
        let version = world.store.plant(&at, bytes.clone());
        world.store.seal_away(&at, &version);
    }
    // Below a label that is nobody's, under the very id.
    let nobody: Label = "nobody".parse().expect("a label");
    let at = ObjectKey::manifest(&nobody, Seq(1), first.chain, &first.snapshot);
    let version = world.store.plant(&at, bytes.clone());
    world.store.seal_away(&at, &version);
    let repository = world.open().await;
    let listed = list(&repository, &world.context).await.expect("listed");
    assert_eq!((listed.snapshots.len(), listed.planted.len()), (1, 3));
    for selector in [Selector::Latest, Selector::Id(first.snapshot.to_string())] {
        let found = find(&repository, &selector, &world.context).await.expect("found");
        assert_eq!(found.manifest.label, world.plan.label);
    }
    let other = world.of_label(nobody);
    other.snapshot(&["a"]).await;
    world.pass(HOUR);
    assert_eq!(world.snapshot(&["a"]).await.seq, Seq(2));
}

#[tokio::test]
async fn a_manifest_that_got_no_answer_is_no_fork_when_it_shows() {
    let world = World::weekly().await;
    world.snapshot(&["a"]).await;
    world.pass(HOUR);
    // It is stored, and nobody can see it for now.
    let unheard = world.snapshot(&["b"]).await;
    let key = world.keys("manifests/").await.remove(1);
    let version = list_all(&world.store, key.as_str()).await.versions.remove(0);
    world.store.hide(&key, &version.version_id);
    let run = world.begin().await;
    world.keep_all(&run, &["c"]).await.expect("stored");
    run.record_in(&run.0.destinations[0], "no answer", Some(key)).await;
    for _ in 0..3 {
        world.pass(HOUR);
        world.snapshot(&["d"]).await;
    }
    world.store.show(&unheard_key(&unheard), &version.version_id);
    let listed = list(&world.open().await, &world.context).await.expect("listed");
    assert_eq!((listed.snapshots.len(), listed.is_alarming()), (5, false), "{listed:?}");
}

fn unheard_key(report: &BackupReport) -> ObjectKey {
    ObjectKey::manifest(&report.label, report.seq, report.chain, &report.snapshot)
}

#[tokio::test]
async fn a_shrunken_database_is_suspicious_until_somebody_accepts_it() {
    let mut world =
        World::new(vec![tier("hourly", Every::Hour, 7), tier("daily", Every::Day, 30)]).await;
    let (full, empty) = ("x".repeat(1000), "x".repeat(10));
    assert_eq!(world.snapshot(&[&full]).await.tier, "daily");
    world.pass(HOUR * 24);
    let shrunk = world.snapshot(&[&empty]).await;
    assert_eq!(shrunk.tier, "hourly", "it fills no day");
    assert!(shrunk.suspicious.is_some());
    world.pass(HOUR);
    assert!(world.snapshot(&[&empty]).await.suspicious.is_some(), "it is no baseline");
    world.plan.shrink_percent_max = 100;
    let accepted = world.snapshot(&[&empty]).await;
    assert_eq!((accepted.suspicious, accepted.tier.as_str()), (None, "daily"));
    world.plan.shrink_percent_max = 50;
    world.pass(HOUR);
    assert_eq!(world.snapshot(&[&empty]).await.suspicious, None);
}

#[tokio::test]
async fn a_repository_that_fails_takes_nobody_with_it() {
    let world = World::weekly().await;
    let failing = world.store.without(&[Right::Put]);
    let mut bad = world.target(failing);
    bad.name = "bad".to_owned();
    let good = world.target(world.store.clone());
    let outcomes = world.snapshot_in(&[bad, good], &["a"]).await;
    let of: BTreeMap<&str, bool> = outcomes
        .iter()
        .map(|outcome| (outcome.repository.as_str(), outcome.result.is_ok()))
        .collect();
    assert_eq!(of, BTreeMap::from([("bad", false), ("vault", true)]));
}

#[tokio::test]
async fn one_skewed_clock_refuses_the_run() {
    let world = World::weekly().await;
    let late = Arc::new(StillClock::new(at("2026-11-21T00:05:01Z")));
    let context = Context { clock: late, ..world.context.clone() };
    let begun = begin(&world.plan, &[world.target(world.store.clone())], &context).await;
    let Err(mut outcomes) = begun else { panic!("it began") };
    assert!(matches!(outcomes.remove(0).result, Err(BackupError::Lock(_))));
}

#[tokio::test]
async fn buckets_that_name_the_locks_hold_one_tier_each_and_one_chain() {
    let tiers = vec![tier("hourly", Every::Hour, 7), tier("daily", Every::Day, 30)];
    let world = World::make(tiers, true).await;
    let mut reports = Vec::new();
    for hour in 0..50 {
        reports.push(world.snapshot(&["a", &format!("b{hour}")]).await);
        world.pass(HOUR);
    }
    let daily = reports.iter().filter(|report| report.tier == "daily").count();
    assert_eq!(daily, 3, "one of each day in Berlin");
    let repository = world.open().await;
    let listed = list(&repository, &world.context).await.expect("listed");
    assert_eq!((listed.snapshots.len(), listed.is_alarming()), (50, false));
    let chains: BTreeSet<_> = reports.iter().map(|report| report.chain).collect();
    assert_eq!((chains.len(), reports[49].seq), (1, Seq(50)));
    for report in &reports {
        let selector = Selector::Id(report.snapshot.to_string());
        let snapshot = find(&repository, &selector, &world.context).await.expect("found");
        let bucket = format!("vault-{}", report.tier);
        assert_eq!(snapshot.manifest.inventory.bucket.as_str(), bucket);
        let report = verify(&repository, &snapshot, true, &world.context).await.expect("looked");
        assert_eq!(report.problems, []);
    }
    assert_eq!(world.keys("").await, [ObjectKey::genesis(1)], "nothing but that in the main one");
    // What stands is stored once a month in the bucket of days, and named from everywhere.
    let rows = world.row_segments().await;
    assert_eq!(rows[0].bucket.as_str(), "vault-daily");
    assert_eq!(rows[1].bucket.as_str(), "vault-hourly");

    // A manifest that was copied into the other bucket is no second snapshot.
    let newest = find(&repository, &Selector::Latest, &world.context).await.expect("found");
    let (key, version) = (&newest.version.key, &newest.version.version_id);
    let bytes = world.of_tiers["hourly"].get(key, version, 1 << 20).await.expect("read");
    world.of_tiers["daily"].plant(key, bytes);
    let listed = list(&repository, &world.context).await.expect("listed");
    assert_eq!((listed.snapshots.len(), listed.planted.len()), (50, 1));
    world.snapshot(&["a"]).await;
}

#[tokio::test]
async fn a_bucket_whose_default_is_too_short_or_that_the_genesis_knows_nothing_of_is_refused() {
    let tiers = || vec![tier("hourly", Every::Hour, 7), tier("daily", Every::Day, 30)];
    let world = World::make(tiers(), true).await;
    let refused = async |target: Target| {
        let begun = begin(&world.plan, &[target], &world.context).await;
        let Err(mut outcomes) = begun else { panic!("it began") };
        outcomes.remove(0).result.expect_err("refused")
    };
    let per_object = Target { tiers: BTreeMap::new(), ..world.target(world.store.clone()) };
    let error = refused(per_object).await;
    assert!(
        matches!(error, BackupError::Repository(RepositoryError::TierBucket { .. })),
        "{error:?}"
    );
    for default in [
        DefaultRetention { mode: LockMode::Compliance, days: 31 },
        DefaultRetention { mode: LockMode::Governance, days: 60 },
        DefaultRetention { mode: LockMode::Compliance, days: 1000 },
    ] {
        world.of_tiers["daily"].put_default_retention(default).await.expect("set");
        let error = refused(world.target(world.store.clone())).await;
        assert!(matches!(error, BackupError::BucketDefault { .. }), "{error:?}");
        assert!(error.to_string().contains("32 to 67 days of COMPLIANCE"), "{error}");
    }
    let other = World::new(tiers()).await;
    let mut target = world.target(other.store.clone());
    target.name = "other".to_owned();
    let begun = begin(&other.plan, &[target], &other.context).await;
    let Err(mut outcomes) = begun else { panic!("it began") };
    let error = outcomes.remove(0).result.expect_err("refused");
    assert!(matches!(error, BackupError::LockByDiffers { .. }), "{error:?}");
}

/// A server that takes requests to put and never answers them.
#[derive(Debug)]
struct Stuck(MemoryStore);

#[async_trait::async_trait]
impl ReadStore for Stuck {
    fn bucket(&self) -> &BucketName {
        self.0.bucket()
    }
    async fn list_versions(
        &self,
        prefix: &str,
        after: Option<ListCursor>,
    ) -> Result<VersionPage, StoreError> {
        self.0.list_versions(prefix, after).await
    }
    async fn get(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        self.0.get(key, version, bytes_max).await
    }
    async fn head(&self, key: &ObjectKey, version: &VersionId) -> Result<ObjectHead, StoreError> {
        self.0.head(key, version).await
    }
    async fn retention(
        &self,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<Option<Lock>, StoreError> {
        self.0.retention(key, version).await
    }
    async fn bucket_lock(&self) -> Result<BucketLock, StoreError> {
        self.0.bucket_lock().await
    }
    async fn bucket_facts(&self) -> Result<BucketFacts, StoreError> {
        self.0.bucket_facts().await
    }
    async fn server_time(&self) -> Result<DateTime<Utc>, StoreError> {
        self.0.server_time().await
    }
}

#[async_trait::async_trait]
impl AppendStore for Stuck {
    async fn put(&self, _: &ObjectKey, _: Bytes, _: Lock) -> Result<VersionId, StoreError> {
        std::future::pending().await
    }
    async fn extend(&self, _: &ObjectKey, _: &VersionId, _: Lock) -> Result<(), StoreError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_repository_that_never_answers_is_left_behind() {
    let world = World::weekly().await;
    let mut stuck = world.target(Stuck(world.store.clone()));
    stuck.name = "stuck".to_owned();
    let good = world.target(world.store.clone());
    for outcome in world.snapshot_in(&[stuck, good], &["a", "b"]).await {
        match (outcome.repository.as_str(), outcome.result) {
            ("stuck", Err(BackupError::Behind { .. })) | ("vault", Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}
