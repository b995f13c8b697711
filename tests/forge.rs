//! Snapshots that are wrong on purpose, and that everything but a restore believes: made by the engine's own run, with the
//! signer, the recipients and the writer's credential of an installation, so that signatures, digests, locks and inventory are
//! right. Only what is in the segments is not what production held.

use std::{fs, sync::Arc};

use stonekeep_engine::{
    Context,
    context::SystemClock,
    events::Silence,
    history::{Selector, Snapshot, find},
    repository::Repository,
    run::{self, BackupPlan, Contents, Piece, Target},
    segments::{READ_BUDGET_BYTES, SegmentReader, load_inventory},
    stores::Stores,
};
use stonekeep_format::{
    archive::Archive,
    catalog::Catalog,
    genesis::LockBy,
    inventory::{Inventory, Segment, SegmentKind},
    signature::{Signer, Trust},
    tier::{Every, Tier},
};
use stonekeep_store::{S3Credentials, S3Options, S3Store};
use tokio_util::sync::CancellationToken;

use crate::harness::{Installation, User, server};

/// The contents of a snapshot, opened, to be changed.
pub(crate) struct Forgery {
    pub(crate) catalog: Catalog,
    /// Segments with their plaintexts, in the inventory's order, without the catalog's.
    segments: Vec<(Segment, Vec<u8>)>,
}

impl Forgery {
    /// Changes pg_dump's table of contents.
    pub(crate) fn contents(&mut self, change: impl FnOnce(&mut Archive)) {
        let (_, toc) = self
            .segments
            .iter_mut()
            .find(|(segment, _)| segment.kind == SegmentKind::Toc)
            .expect("a TOC");
        let mut archive = Archive::read_directory(&mut toc.as_slice()).expect("it is one");
        change(&mut archive);
        toc.clear();
        archive.write_directory(toc).expect("written");
    }

    /// The plaintext of a table's first segment.
    pub(crate) fn rows_of(&mut self, table: &str) -> &mut Vec<u8> {
        let at = self.segments_of(table)[0];
        &mut self.segments[at].1
    }

    /// Takes a table's segments from another snapshot, and from nowhere else: catalog and table of contents stay.
    pub(crate) fn take_rows(&mut self, table: &str, other: &Self) {
        let (mine, others) = (self.segments_of(table), other.segments_of(table));
        assert_eq!(mine.len(), others.len(), "as many slices");
        for (mine, other_at) in mine.into_iter().zip(others) {
            self.segments[mine] = other.segments[other_at].clone();
        }
    }

    fn segments_of(&self, table: &str) -> Vec<usize> {
        let found = self
            .catalog
            .tables
            .iter()
            .find(|each| format!("{}.{}", each.schema, each.name) == table);
        let segments = &found.unwrap_or_else(|| panic!("{table} is not in the catalog")).segments;
        segments.iter().map(|at| *at as usize).collect()
    }
}

/// Changes one occurrence of a text in bytes to another of the same length.
pub(crate) fn replace(bytes: &mut [u8], old: &str, new: &str) {
    assert_eq!(old.len(), new.len());
    let at = bytes.windows(old.len()).position(|part| part == old.as_bytes());
    let at = at.unwrap_or_else(|| panic!("{old:?} is not there"));
    bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
}

/// Who can read and write the repository of an installation.
struct Forger<'a> {
    installation: &'a Installation,
    context: Context,
    owner: Trust,
}

/// Makes of a snapshot the newest one, with other contents. `change` gets those of that snapshot and of the one before it. Returns
/// the id of what was made.
pub(crate) fn forge(
    installation: &Installation,
    genuine: &str,
    change: impl FnOnce(&mut Forgery, Option<&Forgery>),
) -> String {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(Forger::new(installation).forge(genuine, change))
}

impl<'a> Forger<'a> {
    fn new(installation: &'a Installation) -> Self {
        let lines =
            fs::read_to_string(installation.path("allowed_signers")).expect("init has written it");
        Self {
            installation,
            context: Context {
                clock: Arc::new(SystemClock),
                listener: Arc::new(Silence),
                cancel: CancellationToken::new(),
            },
            owner: Trust::from_allowed_signers(&lines).expect("an owner"),
        }
    }

    async fn forge(
        &self,
        genuine: &str,
        change: impl FnOnce(&mut Forgery, Option<&Forgery>),
    ) -> String {
        let store = Arc::new(self.store(User::Reader).await);
        let stores = Stores::new(store, Vec::new());
        let repository = Repository::open(stores, &self.owner, &self.context).await.expect("open");
        let genuine = self.find(&repository, genuine).await;
        let mut forgery = self.open(&repository, &genuine).await;
        let mut before = None;
        for link in &genuine.manifest.previous {
            let snapshot = self.find(&repository, &link.id.to_string()).await;
            before = Some(self.open(&repository, &snapshot).await);
        }
        change(&mut forgery, before.as_ref());
        self.commit(forgery, &genuine).await
    }

    async fn find(&self, repository: &Repository, id: &str) -> Snapshot {
        find(repository, &Selector::Id(id.to_owned()), &self.context).await.expect("it is there")
    }

    async fn store(&self, user: User) -> S3Store {
        let (access_key_id, secret) = user.keys();
        let options = S3Options {
            bucket: self.installation.bucket.parse().expect("a bucket"),
            prefix: "stonekeep".to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(server("STONEKEEP_TEST_S3_ENDPOINT")),
            path_style: true,
            authorities: None,
            lock_by: LockBy::PerObject,
            credentials: S3Credentials::Static {
                access_key_id,
                secret_access_key: secret.into(),
                session_token: None,
            },
        };
        S3Store::open(options, Arc::new(SystemClock)).await.expect("a store")
    }

    async fn open(&self, repository: &Repository, snapshot: &Snapshot) -> Forgery {
        let manifest = &snapshot.manifest;
        let inventory: Inventory = load_inventory(repository, &manifest.inventory, &manifest.id)
            .await
            .expect("an inventory");
        let line = fs::read_to_string(self.installation.path("identity1")).expect("a file");
        let key = line.lines().find(|line| !line.starts_with('#')).expect("a key");
        let identity: age::x25519::Identity = key.parse().expect("an identity");
        let identities: Box<dyn age::Identity + Send + Sync> = Box::new(identity);
        let reader = SegmentReader::new(repository, Arc::new([identities]), READ_BUDGET_BYTES);
        let catalog = reader.load_catalog(&inventory, manifest).await.expect("a catalog");
        let mut segments = Vec::new();
        for segment in
            inventory.segments.into_iter().filter(|each| each.kind != SegmentKind::Catalog)
        {
            let plaintext = reader.open(&segment).await.expect("opened").bytes().to_vec();
            segments.push((segment, plaintext));
        }
        Forgery { catalog, segments }
    }

    fn plan(&self) -> BackupPlan {
        let key = fs::read_to_string(self.installation.path("signer")).expect("a file");
        let hour = Tier {
            name: "hourly".to_owned(),
            every: Every::Hour,
            keep: std::time::Duration::from_secs(7 * 86_400),
        };
        BackupPlan {
            label: "bookings".parse().expect("a label"),
            tiers: vec![hour],
            zone: "UTC".parse().expect("a zone"),
            compression_level: 3,
            memory_budget_bytes: 160 << 20,
            signer: Signer::from_openssh(&key).expect("a signer"),
            recipients: vec![
                self.installation.recipient("identity1"),
                self.installation.recipient("identity2"),
            ],
            owner: self.owner.clone(),
            distrusted: std::collections::BTreeSet::new(),
            fresh: false,
            shrink_percent_max: 100,
        }
    }

    async fn commit(&self, forgery: Forgery, genuine: &Snapshot) -> String {
        let target = Target {
            name: "vault".to_owned(),
            store: Arc::new(self.store(User::Writer).await),
            tiers: std::collections::BTreeMap::new(),
            genesis: None,
            state_dir: None,
        };
        let begun = run::begin(&self.plan(), &[target], &self.context).await;
        let (run, _) = begun.unwrap_or_else(|outcomes| panic!("{outcomes:?}"));
        let mut segments = Vec::new();
        for (segment, plaintext) in forgery.segments {
            let piece = Piece { kind: segment.kind, member: segment.member, plaintext, held: None };
            segments.push(run.keep(piece).await.expect("kept"));
        }
        let manifest = &genuine.manifest;
        let contents = Contents {
            catalog: forgery.catalog,
            segments,
            tables: Vec::new(),
            totals: manifest.totals,
            versions: manifest.versions.clone(),
        };
        let outcomes = run.commit(&contents, Vec::new()).await;
        let report =
            outcomes.into_iter().next().expect("one repository").result.expect("committed");
        report.snapshot.to_string()
    }
}
