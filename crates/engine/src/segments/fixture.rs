//! A whole repository for the tests of everything that reads: one snapshot of the archive `shop`, written as a backup writes
//! it, in a directory that is read like a bucket; and a store in front of it in which a test breaks what it likes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{
    archive::{
        Archive, RowFormat, large_object_member, large_objects_toc_line, large_objects_toc_member,
    },
    catalog::{Catalog, DatabaseProperties, LargeObjects, Server, SlicedObject, Table, Text},
    codec::{Identities, Recipients, seal},
    digest::{ContentDigester, LargeObjectDigest, RowDigest, RowDigestKey, RowDigester},
    genesis::{Genesis, GenesisLock, GenesisSigner, GenesisTier, LockBy},
    ids::{
        BucketName, ChainId, Digest, Label, MemberName, Nonce, RepositoryId, SegmentId, Seq,
        SnapshotId, VersionId,
    },
    inventory::{Inventory, Segment, SegmentKind},
    key::ObjectKey,
    lock::{Class, Lock, LockMode},
    manifest::{InventoryRef, Link, Manifest, Totals, Versions},
    pack::PackWriter,
    signature::{Namespace, SignedDocument, Signer, Trust, sign_document},
    tier::Every,
};
use stonekeep_store::{
    AppendStore as _, BucketFacts, BucketLock, CopiedObject, CopiedObjects, DirectoryStore,
    ListCursor, MemoryStore, ObjectHead, ReadStore, StoreError, VERSIONS_FILE, VersionPage,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Context,
    context::SystemClock,
    events::Silence,
    history::{Snapshot, find},
    repository::Repository,
    stores::Stores,
};

/// Made for the tests of the format; it guards nothing.
const SIGNER: &str = include_str!("../../../format/tests/data/signer");
const ARCHIVE: &[u8] = include_bytes!("../../../format/tests/data/shop.custom");
const KEEP: Duration = Duration::from_secs(30 * 86_400);

/// A repository with one snapshot.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) archive: Archive,
    pub(crate) catalog: Catalog,
    pub(crate) inventory: Inventory,
    pub(crate) manifest: Manifest,
    /// What each member is when it is put together.
    pub(crate) members: BTreeMap<MemberName, Vec<u8>>,
    pub(crate) context: Context,
    identity: age::x25519::Identity,
    objects: CopiedObjects,
}

/// Returns a context that says nothing and is never cancelled unless a test does it.
pub(crate) fn context() -> Context {
    Context {
        clock: Arc::new(SystemClock),
        listener: Arc::new(Silence),
        cancel: CancellationToken::new(),
    }
}

fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("the test's own id")
}

pub(crate) fn signer() -> Signer {
    Signer::from_openssh(SIGNER).expect("the test's own key")
}

impl Fixture {
    /// Writes the repository.
    pub(crate) fn new() -> Self {
        let mut writer = Writer::new();
        let mut archive = Archive::read_custom(&mut &ARCHIVE[..]).expect("an archive");
        archive.assign_members().expect("members");
        let mut toc = Vec::new();
        archive.write_directory(&mut toc).expect("written");
        writer.segment(SegmentKind::Toc, None, &toc);
        let tables = writer.tables(&archive);
        let large_objects = writer.large_objects(&archive);
        let catalog = writer.catalog(tables, large_objects);
        writer.segment(SegmentKind::Globals, None, b"CREATE ROLE clerk;\n");
        let inventory = writer.inventory();
        let manifest = writer.manifest(&inventory, &catalog);
        let Writer { dir, members, identity, objects, .. } = writer;
        let context = context();
        Self { dir, archive, catalog, inventory, manifest, members, context, identity, objects }
    }

    /// Returns the identities that open it.
    pub(crate) fn identities(&self) -> Arc<Identities> {
        let all: Vec<Box<dyn age::Identity + Send + Sync>> = vec![Box::new(self.identity.clone())];
        all.into()
    }

    /// Returns identities that do not.
    pub(crate) fn strangers(&self) -> Arc<Identities> {
        let stranger = age::x25519::Identity::generate();
        let all: Vec<Box<dyn age::Identity + Send + Sync>> = vec![Box::new(stranger)];
        all.into()
    }

    /// Adds an object that was never part of the snapshot.
    pub(crate) fn plant(&mut self, key: &ObjectKey, content: &[u8]) {
        put(&self.dir, &mut self.objects, key, content, None);
        save(&self.dir, &self.objects);
    }

    /// Returns the directory as a store.
    pub(crate) fn store(&self) -> DirectoryStore {
        DirectoryStore::open(self.dir.path(), Arc::new(SystemClock)).expect("a copy")
    }

    /// Copies it into a bucket in memory, which can be written to. Objects get the versions they have here.
    pub(crate) async fn in_memory(&self) -> MemoryStore {
        let bucket = MemoryStore::new(self.objects.bucket.clone(), Arc::new(SystemClock));
        for object in &self.objects.objects {
            let path = self.dir.path().join(object.key.as_str());
            let body = std::fs::read(path).expect("an object").into();
            let lock = object.lock.expect("everything of ours is locked");
            let version = bucket.put(&object.key, body, lock).await.expect("put");
            assert_eq!(version, object.version_id);
        }
        bucket
    }

    /// Opens the repository in `store`, and its latest snapshot.
    pub(crate) async fn open(&self, store: Arc<dyn ReadStore>) -> (Repository, Snapshot) {
        let repository = self.open_only(store).await;
        let snapshot = find(&repository, &id("latest"), &self.context).await.expect("a snapshot");
        (repository, snapshot)
    }

    /// Opens the repository in `store`.
    pub(crate) async fn open_only(&self, store: Arc<dyn ReadStore>) -> Repository {
        let mut owner = Trust::none();
        let line = signer().public_line().expect("a line");
        owner.allow(&line, &[Namespace::Genesis], None, None).expect("a key");
        Repository::open(Stores::copy(store), &owner, &self.context).await.expect("a genesis")
    }
}

/// A store in which things are broken, by key.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) inner: DirectoryStore,
    pub(crate) missing: Option<ObjectKey>,
    pub(crate) damaged: Option<ObjectKey>,
    pub(crate) lock: Option<(ObjectKey, Option<Lock>)>,
    pub(crate) unavailable: Option<ObjectKey>,
}

impl Broken {
    pub(crate) fn new(inner: DirectoryStore) -> Self {
        Self { inner, missing: None, damaged: None, lock: None, unavailable: None }
    }

    fn fail(&self, key: &ObjectKey) -> Result<(), StoreError> {
        if self.unavailable.as_ref() == Some(key) {
            return Err(StoreError::Unavailable {
                action: "read what the test says",
                source: "the test says so".into(),
            });
        }
        if self.missing.as_ref() == Some(key) {
            return Err(StoreError::NotFound { key: key.clone() });
        }
        Ok(())
    }
}

#[async_trait]
impl ReadStore for Broken {
    fn bucket(&self) -> &BucketName {
        self.inner.bucket()
    }
    async fn list_versions(
        &self,
        prefix: &str,
        after: Option<ListCursor>,
    ) -> Result<VersionPage, StoreError> {
        self.inner.list_versions(prefix, after).await
    }
    async fn get(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        self.fail(key)?;
        let mut bytes = self.inner.get(key, version, bytes_max).await?.to_vec();
        if let (true, Some(byte)) = (self.damaged.as_ref() == Some(key), bytes.last_mut()) {
            *byte ^= 1;
        }
        Ok(Bytes::from(bytes))
    }
    async fn head(&self, key: &ObjectKey, version: &VersionId) -> Result<ObjectHead, StoreError> {
        self.fail(key)?;
        self.inner.head(key, version).await
    }
    async fn retention(
        &self,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<Option<Lock>, StoreError> {
        self.fail(key)?;
        match &self.lock {
            Some((of, lock)) if of == key => Ok(*lock),
            _ => self.inner.retention(key, version).await,
        }
    }
    async fn bucket_lock(&self) -> Result<BucketLock, StoreError> {
        self.inner.bucket_lock().await
    }
    async fn bucket_facts(&self) -> Result<BucketFacts, StoreError> {
        self.inner.bucket_facts().await
    }
    async fn server_time(&self) -> Result<DateTime<Utc>, StoreError> {
        self.inner.server_time().await
    }
}

/// Writes as a backup does.
struct Writer {
    dir: tempfile::TempDir,
    at: DateTime<Utc>,
    lock: Lock,
    class: Class,
    identity: age::x25519::Identity,
    recipients: Vec<String>,
    key: RowDigestKey,
    snapshot: SnapshotId,
    label: Label,
    repository: RepositoryId,
    segments: Vec<Segment>,
    members: BTreeMap<MemberName, Vec<u8>>,
    objects: CopiedObjects,
}

impl Writer {
    fn new() -> Self {
        use stonekeep_format::Clock as _;
        let at = SystemClock.now() - TimeDelta::hours(1);
        let retain_until = at + KEEP * 2;
        let identities = [age::x25519::Identity::generate(), age::x25519::Identity::generate()];
        let recipients = identities.iter().map(|each| each.to_public().to_string()).collect();
        let [identity, _] = identities;
        let mut writer = Self {
            dir: tempfile::tempdir().expect("a directory"),
            at,
            lock: Lock { mode: LockMode::Compliance, retain_until },
            class: Class::of(at, retain_until),
            identity,
            recipients,
            key: RowDigestKey::from_bytes([9; 32]),
            snapshot: SnapshotId::new(at, 7),
            label: id("shop"),
            repository: RepositoryId::from_bytes([3; 16]),
            segments: Vec::new(),
            members: BTreeMap::new(),
            objects: CopiedObjects::new(id("acme-vault")),
        };
        writer.genesis();
        writer
    }

    fn genesis(&mut self) {
        let (key, bucket) = (ObjectKey::genesis(1), self.objects.bucket.clone());
        let tier = GenesisTier { name: "daily".into(), every: Every::Day, keep: KEEP, bucket };
        let genesis = Genesis {
            expected: BTreeMap::new(),
            calibration: BTreeMap::new(),
            format: Genesis::FORMAT.to_owned(),
            repository: self.repository,
            key: key.clone(),
            n: 1,
            created_at: self.at,
            previous: None,
            signers: vec![GenesisSigner {
                public_key: signer().public_line().expect("a line"),
                valid_from: self.at - TimeDelta::days(1),
                valid_until: None,
            }],
            recipients: self.recipients.clone(),
            lock: GenesisLock {
                mode: LockMode::Compliance,
                by: LockBy::PerObject,
                floor: KEEP,
                cap: KEEP * 3,
            },
            tiers: vec![tier],
        };
        self.put_signed(&key, &genesis);
    }

    fn put_signed(&mut self, key: &ObjectKey, document: &impl SignedDocument) {
        let object = sign_document(document, &signer()).expect("signed");
        self.put(key, &object);
    }

    fn put(&mut self, key: &ObjectKey, content: &[u8]) -> VersionId {
        put(&self.dir, &mut self.objects, key, content, Some(self.lock))
    }

    /// Seals and stores a segment, and returns its position.
    fn segment(&mut self, kind: SegmentKind, member: Option<&MemberName>, plain: &[u8]) -> u32 {
        let recipients = Recipients::parse(&self.recipients).expect("recipients");
        let sealed = seal(plain, 1, &recipients).expect("sealed");
        let id = SegmentId::from_bytes(*Digest::of(plain).as_bytes());
        let nonce = Nonce::from_bytes([u8::try_from(self.segments.len()).expect("few"); 16]);
        let key = ObjectKey::segment(self.class, id, nonce);
        let version_id = self.put(&key, &sealed.bytes);
        if let Some(member) = member {
            self.members.entry(member.clone()).or_default().extend_from_slice(plain);
        }
        self.segments.push(Segment {
            kind,
            member: member.cloned(),
            id,
            key,
            bucket: self.objects.bucket.clone(),
            version_id,
            bytes: sealed.bytes.len() as u64,
            digest: sealed.digest,
            plain_bytes: plain.len() as u64,
            lock: self.lock,
            checked_at: self.at,
            since: self.at,
        });
        u32::try_from(self.segments.len() - 1).expect("few")
    }

    fn pack(&mut self, members: &[(MemberName, Vec<u8>)]) -> u32 {
        let mut pack = PackWriter::new(Vec::new());
        for (member, content) in members {
            pack.append(member, content).expect("packed");
            self.members.insert(member.clone(), content.clone());
        }
        self.segment(SegmentKind::Pack, None, &pack.finish().expect("packed"))
    }

    /// The table `plain` in two slices, all others in one pack.
    fn tables(&mut self, archive: &Archive) -> Vec<Table> {
        let mut tables = Vec::new();
        let mut packed = Vec::new();
        for entry in archive.entries.iter().filter(|entry| entry.is_table_data()) {
            let rows = rows_of(entry.dump_id);
            let member = entry.member().expect("a name").expect("a member");
            let segments = if entry.tag.as_deref() == Some(b"plain") {
                let cut = rows.iter().position(|byte| *byte == b'\n').expect("rows") + 1;
                let last = [&rows[cut..], RowFormat::Text.tail()].concat();
                vec![
                    self.segment(SegmentKind::Rows, Some(&member), &rows[..cut]),
                    self.segment(SegmentKind::Rows, Some(&member), &last),
                ]
            } else {
                packed.push((member.clone(), [&rows, RowFormat::Text.tail()].concat()));
                Vec::new()
            };
            tables.push(Table {
                oid: entry.oid,
                dump_id: entry.dump_id,
                schema: Text(entry.namespace.clone().unwrap_or_default()),
                name: Text(entry.tag.clone().unwrap_or_default()),
                columns: Vec::new(),
                condition: None,
                member,
                digest: self.digest(&rows),
                segments,
            });
        }
        let pack = self.pack(&packed);
        tables.iter_mut().filter(|table| table.segments.is_empty()).for_each(|table| {
            table.segments.push(pack);
        });
        tables
    }

    fn digest(&self, rows: &[u8]) -> RowDigest {
        let mut digester = RowDigester::new(&self.key);
        rows.split_inclusive(|byte| *byte == b'\n').for_each(|line| digester.add(line));
        digester.finish()
    }

    /// One large object in two slices, the others in a pack with the list of all.
    fn large_objects(&mut self, archive: &Archive) -> LargeObjects {
        let blobs = archive.entries.iter().find(|entry| entry.is_large_objects());
        let list = large_objects_toc_member(archive.header.version, blobs.expect("blobs").dump_id);
        let lines: String = [90_001, 90_002, u32::MAX].map(large_objects_toc_line).concat();
        let mut packed = vec![(list, lines.into_bytes())];
        let mut digest = LargeObjectDigest::default();
        for oid in [90_001, 90_002, u32::MAX] {
            let mut digester = ContentDigester::new(&self.key, oid);
            digester.add(&object_of(oid));
            digest = digest.merge(digester.finish());
        }
        for oid in [90_002, u32::MAX] {
            packed.push((large_object_member(oid), object_of(oid)));
        }
        let pack = self.pack(&packed);
        let member = large_object_member(90_001);
        let content = object_of(90_001);
        let (head, tail) = content.split_at(3_000);
        let segments = vec![
            self.segment(SegmentKind::Rows, Some(&member), head),
            self.segment(SegmentKind::Rows, Some(&member), tail),
        ];
        let sliced = vec![SlicedObject { oid: 90_001, segments }];
        LargeObjects { digest, packs: vec![pack], sliced }
    }

    fn catalog(&mut self, tables: Vec<Table>, large_objects: LargeObjects) -> Catalog {
        let catalog = Catalog {
            format: Catalog::FORMAT.to_owned(),
            repository: self.repository,
            label: self.label.clone(),
            id: self.snapshot.clone(),
            digest_key: self.key.clone(),
            snapshot_at: self.at,
            wal_lsn: None,
            server: Server {
                version_num: 150_020,
                version: "15.20".to_owned(),
                system_identifier: Some("1".to_owned()),
                settings: vec![("lc_monetary".to_owned(), "C".to_owned())],
            },
            database: DatabaseProperties {
                name: Text::from("shop"),
                owner: Text::from("postgres"),
                encoding: "UTF8".to_owned(),
                collate: "C".to_owned(),
                ctype: "C".to_owned(),
                connection_limit: -1,
                ..DatabaseProperties::default()
            },
            tables,
            large_objects,
            sequences: Vec::new(),
            objects: None,
            warnings: Vec::new(),
        };
        self.segment(
            SegmentKind::Catalog,
            None,
            &serde_json::to_vec(&catalog).expect("a catalog is JSON"),
        );
        catalog
    }

    fn inventory(&self) -> Inventory {
        Inventory {
            format: Inventory::FORMAT.to_owned(),
            repository: self.repository,
            label: self.label.clone(),
            id: self.snapshot.clone(),
            segments: self.segments.clone(),
            tables: Vec::new(),
        }
    }

    fn manifest(&mut self, inventory: &Inventory, catalog: &Catalog) -> Manifest {
        let stored = inventory.dump().expect("packed");
        let key = ObjectKey::inventory(self.class, &self.snapshot);
        let version_id = self.put(&key, &stored);
        let chain = ChainId::from_bytes([1; 8]);
        let seq = Seq(2);
        let inventory_ref = InventoryRef {
            key,
            bucket: self.objects.bucket.clone(),
            version_id,
            bytes: stored.len() as u64,
            digest: Digest::of(&stored),
            lock: self.lock,
        };
        let manifest = Manifest {
            format: Manifest::FORMAT.to_owned(),
            repository: self.repository,
            label: self.label.clone(),
            key: ObjectKey::manifest(&self.label, seq, chain, &self.snapshot),
            id: self.snapshot.clone(),
            seq,
            chain,
            previous: Vec::new(),
            live: vec![self.lost(chain)],
            maybe: Vec::new(),
            tier: "daily".to_owned(),
            keep: KEEP,
            started_at: self.at,
            snapshot_at: self.at,
            committed_at: self.at,
            promised_until: self.at + KEEP,
            suspicious: None,
            inventory: inventory_ref,
            totals: self.totals(catalog),
            recipients: Digest::of(b"r"),
            versions: Versions { stonekeep: "0".into(), server: "15".into(), pg_dump: "15".into() },
        };
        let key = manifest.key.clone();
        self.put_signed(&key, &manifest);
        save(&self.dir, &self.objects);
        manifest
    }

    /// A snapshot that is promised and was never there.
    fn lost(&self, chain: ChainId) -> Link {
        Link {
            seq: Seq(1),
            chain,
            id: SnapshotId::new(self.at - TimeDelta::days(1), 1),
            digest: Digest::of(b"lost"),
            committed_at: self.at,
            keep: KEEP,
            suspicious: false,
        }
    }

    fn totals(&self, catalog: &Catalog) -> Totals {
        let sum = |of: fn(&Segment) -> u64| self.segments.iter().map(of).sum();
        Totals {
            binary_tables: 0,
            tables: catalog.tables.len() as u64,
            rows: catalog.tables.iter().map(|table| table.digest.rows).sum(),
            large_objects: 3,
            segments: self.segments.len() as u64,
            plain_bytes: sum(|segment| segment.plain_bytes),
            sealed_bytes: sum(|segment| segment.bytes),
            put_bytes: 0,
        }
    }
}

/// The rows that pg_dump wrote for an entry of the archive, without what follows them in the file.
fn rows_of(dump_id: i32) -> Vec<u8> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../format/tests/data/shop.dir");
    let member = std::fs::read(format!("{dir}/{dump_id}.dat")).expect("a member of the archive");
    member.strip_suffix(RowFormat::Text.tail()).expect("the end of a member").to_vec()
}

fn object_of(oid: u32) -> Vec<u8> {
    oid.to_string().into_bytes().repeat(1_000)
}

fn put(
    dir: &tempfile::TempDir,
    objects: &mut CopiedObjects,
    key: &ObjectKey,
    content: &[u8],
    lock: Option<Lock>,
) -> VersionId {
    let path = dir.path().join(key.as_str());
    std::fs::create_dir_all(path.parent().expect("a key has a parent")).expect("made");
    std::fs::write(&path, content).expect("written");
    let version_id: VersionId = id(&format!("v{}", objects.objects.len() + 1));
    objects.objects.push(CopiedObject {
        key: key.clone(),
        version_id: version_id.clone(),
        bytes: content.len() as u64,
        lock,
    });
    version_id
}

fn save(dir: &tempfile::TempDir, objects: &CopiedObjects) {
    let list = serde_json::to_vec(objects).expect("a list is JSON");
    std::fs::write(dir.path().join(VERSIONS_FILE), list).expect("written");
}
