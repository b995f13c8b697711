//! A repository in memory, its writer and its readers.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_engine::{
    Context,
    events::Silence,
    history::History,
    init::{Buckets, InitError, InitPlan, init},
    lifecycle,
    list::{ListError, list},
    repository::{Repository, RepositoryError},
    run::{self, BackupError, BackupPlan, BackupReport, Contents, Copies, Piece, Run, Target},
    stores::Stores,
    verify::{VerifyError, verify},
};
use stonekeep_format::{
    Clock,
    catalog::{Catalog, DatabaseProperties, LargeObjects, Server},
    clock::StillClock,
    digest::{LargeObjectDigest, RowDigestKey},
    ids::{RepositoryId, SegmentId},
    inventory::{SegmentKind, TableTotals},
    key::Place,
    lock::{self, LockMode},
    manifest::{Totals, Versions},
    signature::{Namespace, SignatureError, Signer, Trust},
    tier::Tier,
};
use stonekeep_store::{MemoryStore, ProvisionStore, StoreError};
use tokio_util::sync::CancellationToken;

use crate::Database;

/// Signs and owns the simulated repository; it guards nothing.
const KEY: &str = include_str!("../../crates/format/tests/data/signer");

/// Why a simulation ends.
#[derive(Debug)]
pub enum WorldError {
    /// The key cannot be used.
    Key(SignatureError),
    /// The repository cannot be made.
    Init(InitError),
    /// The repository cannot be read.
    Read(RepositoryError),
    /// The bucket refuses.
    Store(StoreError),
    /// It cannot be listed.
    List(ListError),
    /// A snapshot cannot be verified.
    Verify(VerifyError),
}

/// A bucket, a clock and a writer.
#[derive(Debug)]
pub struct World {
    /// The time of everybody.
    pub clock: Arc<StillClock>,
    /// The bucket.
    pub store: MemoryStore,
    /// The rules of the next run.
    pub plan: BackupPlan,
    context: Context,
    slices: Mutex<HashSet<SegmentId>>,
}

/// What is in the bucket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stored {
    /// Segments of the simulated table.
    pub slices: u64,
    /// Bytes of everything else, which is as large as it really is.
    pub document_bytes: u64,
}

impl World {
    /// Makes a repository at `at`. Versions expire `grace_days` after their locks.
    ///
    /// # Errors
    /// [`WorldError`].
    #[expect(clippy::missing_panics_doc, reason = "the names are valid")]
    pub async fn new(
        at: DateTime<Utc>,
        tiers: Vec<Tier>,
        zone: chrono_tz::Tz,
        grace_days: u32,
    ) -> Result<Self, WorldError> {
        let clock = Arc::new(StillClock::new(at));
        let bucket = "simulated".parse().expect("a valid name");
        let store = MemoryStore::new(bucket, Arc::clone(&clock) as _).in_large_pages();
        let context = Context {
            clock: Arc::clone(&clock) as _,
            listener: Arc::new(Silence),
            cancel: CancellationToken::new(),
        };
        let signer = Signer::from_openssh(KEY).map_err(WorldError::Key)?;
        let line = signer.public_line().map_err(WorldError::Key)?;
        let mut owner = Trust::none();
        owner.allow(&line, &[Namespace::Genesis], None, None).map_err(WorldError::Key)?;
        let recipient = || age::x25519::Identity::generate().to_public().to_string();
        let recipients = vec![recipient(), recipient()];
        let longest = tiers.iter().map(|tier| tier.keep).max().unwrap_or_default();
        let init_plan = InitPlan {
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
        let buckets = Buckets {
            main: Arc::new(store.clone()),
            of_tiers: BTreeMap::new(),
            probes: Vec::new(),
        };
        init(&init_plan, &buckets, &sign, &context).await.map_err(WorldError::Init)?;
        let rules = lifecycle::rules(lock::cap(longest), grace_days);
        store.put_lifecycle(&rules).await.map_err(WorldError::Store)?;
        let plan = BackupPlan {
            label: "bookings".parse().expect("a valid label"),
            tiers,
            zone,
            compression_level: 1,
            memory_budget_bytes: 64 << 20,
            signer,
            recipients,
            owner,
            distrusted: BTreeSet::new(),
            fresh: false,
            shrink_percent_max: 50,
        };
        Ok(Self { clock, store, plan, context, slices: Mutex::default() })
    }

    /// Returns the time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Lets time pass, and the bucket's lifecycle with it.
    pub fn pass(&self, time: TimeDelta) {
        self.clock.set(self.now() + time);
        self.store.expire();
    }

    /// Returns what is in the bucket.
    #[must_use]
    pub fn stored(&self) -> Stored {
        let slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stored = Stored::default();
        for (key, bytes) in self.store.stored() {
            match Place::of(&key) {
                Some(Place::Segment(_, id, _)) if slices.contains(&id) => stored.slices += 1,
                _ => stored.document_bytes += bytes,
            }
        }
        stored
    }

    /// Takes a snapshot.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn snapshot(&self, database: &Database) -> Result<BackupReport, BackupError> {
        let run = self.begin().await?;
        let mut outcomes = match self.keep_all(&run, database, database.len()).await {
            Ok(contents) => run.commit(&contents, Vec::new()).await,
            Err(error) => {
                run.record(&error.to_string()).await;
                run.failures()
            }
        };
        outcomes.pop().map_or(Err(BackupError::NoRepositoryLeft), |outcome| outcome.result)
    }

    /// Takes a snapshot that breaks after `slices` slices, with or without a record of them.
    ///
    /// # Errors
    /// [`BackupError`], if it does not even come so far.
    pub async fn break_off(
        &self,
        database: &Database,
        slices: usize,
        is_recorded: bool,
    ) -> Result<(), BackupError> {
        let run = self.begin().await?;
        self.keep_all(&run, database, slices).await?;
        if is_recorded {
            run.record("broken off").await;
        }
        Ok(())
    }

    async fn begin(&self) -> Result<Run, BackupError> {
        let target = Target {
            name: "simulated".to_owned(),
            store: Arc::new(self.store.clone()),
            tiers: BTreeMap::new(),
            genesis: None,
            state_dir: None,
        };
        match run::begin(&self.plan, &[target], &self.context).await {
            Ok((run, _)) => Ok(run),
            Err(mut outcomes) => {
                let error = outcomes.pop().and_then(|outcome| outcome.result.err());
                Err(error.unwrap_or(BackupError::NoRepositoryLeft))
            }
        }
    }

    async fn keep_all(
        &self,
        run: &Run,
        database: &Database,
        slices: usize,
    ) -> Result<Contents, BackupError> {
        let mut segments = Vec::new();
        for kind in [SegmentKind::Toc, SegmentKind::Globals] {
            let plaintext = kind.as_str().as_bytes().to_vec();
            segments.push(run.keep(Piece { kind, member: None, plaintext, held: None }).await?);
        }
        for slice in database.slices().take(slices) {
            let id = run.keyer().id(SegmentKind::Rows, slice.as_bytes());
            self.slices.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
            let piece = Piece {
                kind: SegmentKind::Rows,
                member: "t1.dat".parse().ok(),
                plaintext: slice.into_bytes(),
                held: None,
            };
            segments.push(run.keep(piece).await?);
        }
        Ok(contents(run, segments, database))
    }

    /// Returns everything that `list` and `verify` of each promised snapshot find wrong now.
    ///
    /// # Errors
    /// [`WorldError`]: they cannot even look.
    pub async fn alarms(&self) -> Result<Vec<String>, WorldError> {
        let stores = Stores::new(Arc::new(self.store.clone()), Vec::new());
        let repository = Repository::open(stores, &self.plan.owner, &self.context)
            .await
            .map_err(WorldError::Read)?;
        let listed = list(&repository, &self.context).await.map_err(WorldError::List)?;
        let mut alarms: Vec<String> = listed.findings.iter().map(ToString::to_string).collect();
        let history = History::load(&repository, &self.context).await;
        for snapshot in history.map_err(WorldError::Read)?.of(&self.plan.label) {
            if snapshot.manifest.promised_until > self.now() {
                let report = verify(&repository, snapshot, false, &self.context).await;
                let problems = report.map_err(WorldError::Verify)?.problems;
                alarms.extend(problems.iter().map(ToString::to_string));
            }
        }
        Ok(alarms)
    }
}

fn contents(run: &Run, segments: Vec<Copies>, database: &Database) -> Contents {
    let rows = database.len() as u64 * 1000;
    let name = run.keyer().table_name(b"public", b"t");
    Contents {
        catalog: Catalog {
            format: Catalog::FORMAT.to_owned(),
            repository: RepositoryId::from_bytes([0; 16]),
            label: run.plan().label.clone(),
            id: run.id().clone(),
            digest_key: RowDigestKey::from_bytes([0; 32]),
            snapshot_at: DateTime::<Utc>::UNIX_EPOCH,
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
        },
        segments,
        tables: vec![TableTotals {
            name,
            rows,
            plain_bytes: rows * 100,
            slice_pages: None,
            binary: false,
        }],
        totals: Totals { tables: 1, rows, ..Totals::default() },
        versions: Versions {
            stonekeep: env!("CARGO_PKG_VERSION").to_owned(),
            server: "15".to_owned(),
            pg_dump: "15".to_owned(),
        },
    }
}
