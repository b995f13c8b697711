//! Records of drills in the bucket: that one was made and what it came to, for whoever looks from outside.
//!
//! A record names no table, is signed by a report key, and is locked as evidence. Only keys that `allowed_signers` calls a
//! reporter's are believed; no genesis names them, so who signs reports can sign nothing that is restored.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use futures_util::{TryStreamExt as _, pin_mut};
use stonekeep_format::{
    ErrorKind,
    drill::{DrillRecord, DrillVerdict},
    ids::{BucketName, Label},
    key::{ObjectKey, Place},
    lock::Lock,
    signature::verify_document,
    signature::{Found, SignatureError, SignedDocument as _, Signer, Trust, sign_document},
};
use stonekeep_store::{AppendStore, ReadStore, StoreError, list_keys, put_locked};

use crate::{
    lifecycle::REPORT_DAYS,
    newest::{Candidate, Newest, Seen},
    repository::Repository,
};

/// Records of a database that are looked at for the last that passed (16), as of proofs: whoever may write can put junk there.
const LAST_MAX: usize = 16;
/// Records of a database that are looked at for a plot (100): eight years of monthly drills, or three months of daily ones.
const PLOTTED_MAX: usize = 100;
/// Databases of which there may be records where nobody says which are meant (1000), several times as many as one daemon backs up.
const LABELS_MAX: usize = 1000;
/// Objects that are read in one go (4096), of up to 8 versions of 16 KiB: 512 MiB, if somebody fills them all with junk.
const READS_MAX: usize = 4096;

/// Why a record of a drill was not put, or the records could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrillRecordError {
    /// The records cannot be listed or read.
    #[error("cannot read the records of drills in bucket {bucket}")]
    Read {
        /// The bucket.
        bucket: BucketName,
        /// What it said.
        #[source]
        source: Box<StoreError>,
    },
    /// The bucket does not take the record.
    #[error("cannot put the record of the drill under {key}")]
    Put {
        /// Its key.
        key: ObjectKey,
        /// What the store said.
        #[source]
        source: Box<StoreError>,
    },
    /// The record cannot be signed.
    #[error("cannot sign the record of the drill")]
    Sign(#[source] SignatureError),
}

impl DrillRecordError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } | Self::Put { source, .. } => source.kind(),
            Self::Sign(_) => ErrorKind::Internal,
        }
    }
}

/// Puts the record of a drill, signed by a report key, into the bucket of the genesis, with a lock that `store` names. It is
/// locked for 400 days, or for as long as anything in the repository may be: evidence of a year, however short backups are kept.
///
/// # Errors
/// [`DrillRecordError`]: the bucket refuses it or does not keep its lock, or it cannot be signed.
pub async fn put_record(
    repository: &Repository,
    store: &dyn AppendStore,
    record: &DrillRecord,
    key: &Signer,
) -> Result<ObjectKey, DrillRecordError> {
    let failed =
        |source| DrillRecordError::Put { key: record.key.clone(), source: Box::new(source) };
    let bytes = sign_document(record, key).map_err(DrillRecordError::Sign)?;
    let now = store.server_time().await.map_err(failed)?;
    let genesis = &repository.genesis.lock;
    let lock = Lock { mode: genesis.mode, retain_until: now + lock_length(repository) };
    put_locked(store, &record.key, bytes.into(), lock).await.map_err(failed)?;
    Ok(record.key.clone())
}

/// Returns for how long a record is locked.
pub(crate) fn lock_length(repository: &Repository) -> TimeDelta {
    let evidence = TimeDelta::days(i64::from(REPORT_DAYS));
    TimeDelta::from_std(repository.genesis.lock.cap).unwrap_or(evidence).min(evidence)
}

/// What the records of drills say.
#[derive(Debug, Clone, Default)]
pub struct DrillRecords {
    /// Each database of which there are any objects.
    pub labels: BTreeMap<Label, LabelDrills>,
    /// Objects of further labels, which were not looked at.
    pub left_out: u64,
}

impl DrillRecords {
    /// Returns the drills of a database, the last first.
    #[must_use]
    pub fn of(&self, label: &Label) -> &[DrillRecord] {
        self.labels.get(label).map(|of| of.drills.as_slice()).unwrap_or_default()
    }
}

/// What the records of one database say.
#[derive(Debug, Clone, Default)]
pub struct LabelDrills {
    /// Those that were looked at and verify, the last first.
    pub drills: Vec<DrillRecord>,
    /// How many are not ours, or were not looked at.
    pub others: u64,
    /// How many this credential may not read.
    pub denied: u64,
}

impl LabelDrills {
    /// Returns the last one.
    #[must_use]
    pub fn last(&self) -> Option<&DrillRecord> {
        self.drills.first()
    }

    /// Returns the last that passed.
    #[must_use]
    pub fn last_passed(&self) -> Option<&DrillRecord> {
        self.drills.iter().find(|record| record.verdict == DrillVerdict::Pass)
    }

    fn take(&mut self, seen: Seen<DrillRecord>) {
        match seen {
            Seen::Record(record) => self.drills.push(record),
            Seen::Gone => {}
            Seen::Other => self.others += 1,
            Seen::Denied => self.denied += 1,
        }
    }
}

/// Reads the last hundred records of each database, as a plot takes them.
///
/// # Errors
/// [`DrillRecordError::Read`].
pub async fn records(
    repository: &Repository,
    reporters: &Trust,
) -> Result<DrillRecords, DrillRecordError> {
    Reading::new(repository, reporters, Depth::Plotted).run(None).await
}

/// Reads of each of these databases the last records, back to the last that passed.
///
/// # Errors
/// As [`records`].
pub async fn last_records(
    repository: &Repository,
    labels: &BTreeSet<Label>,
    reporters: &Trust,
) -> Result<DrillRecords, DrillRecordError> {
    Reading::new(repository, reporters, Depth::Last).run(Some(labels)).await
}

/// How far back is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// To the last that passed.
    Last,
    /// As far as a plot goes.
    Plotted,
}

impl Depth {
    const fn candidates_max(self) -> usize {
        match self {
            Self::Last => LAST_MAX,
            Self::Plotted => PLOTTED_MAX,
        }
    }

    fn is_reached(self, of: &LabelDrills) -> bool {
        self == Self::Last && of.last_passed().is_some()
    }
}

/// A reading under way: label by label, as keys are sorted, so that the candidates of one are held at a time.
struct Reading<'r> {
    repository: &'r Repository,
    reporters: &'r Trust,
    depth: Depth,
    reads_left: usize,
    read: DrillRecords,
}

impl<'r> Reading<'r> {
    fn new(repository: &'r Repository, reporters: &'r Trust, depth: Depth) -> Self {
        let read = DrillRecords::default();
        Self { repository, reporters, depth, reads_left: READS_MAX, read }
    }

    async fn run(
        mut self,
        wanted: Option<&BTreeSet<Label>>,
    ) -> Result<DrillRecords, DrillRecordError> {
        let store: &'r dyn ReadStore = &**self.repository.stores.main();
        let failed = |source| {
            let (bucket, source) = (store.bucket().clone(), Box::new(source));
            DrillRecordError::Read { bucket, source }
        };
        let mut current: Option<(Label, Newest<'r>)> = None;
        let keys = list_keys(store, "reports/");
        pin_mut!(keys);
        while let Some((key, found)) = keys.try_next().await.map_err(failed)? {
            let Some(Place::Report(label, id)) = Place::of(&key) else { continue };
            if wanted.is_some_and(|wanted| !wanted.contains(&label)) {
                continue;
            }
            let is_of = current.as_ref().is_some_and(|(of, _)| *of == label);
            if !is_of {
                let next = (label, Newest::of(self.depth.candidates_max()));
                self.read(current.replace(next)).await.map_err(failed)?;
            }
            if let Some((_, newest)) = &mut current {
                newest.take((0, store), (key, found), id.begun_at());
            }
        }
        self.read(current).await.map_err(failed)?;
        Ok(self.read)
    }

    /// Reads those of one label, the one that was stored last first.
    async fn read(&mut self, of: Option<(Label, Newest<'r>)>) -> Result<(), StoreError> {
        let Some((label, newest)) = of else { return Ok(()) };
        if self.read.labels.len() >= LABELS_MAX {
            self.read.left_out += newest.left_out + newest.into_last_first().count() as u64;
            return Ok(());
        }
        let mut drills = LabelDrills { others: newest.left_out, ..LabelDrills::default() };
        let mut rest = newest.into_last_first();
        for candidate in rest.by_ref().take(self.reads_left) {
            self.reads_left -= 1;
            drills.take(self.verified(&candidate).await?);
            if self.depth.is_reached(&drills) {
                break;
            }
        }
        if self.reads_left == 0 {
            drills.others += rest.count() as u64;
        }
        self.read.labels.insert(label, drills);
        Ok(())
    }

    async fn verified(&self, candidate: &Candidate<'_>) -> Result<Seen<DrillRecord>, StoreError> {
        let repository = Some(self.repository.genesis.repository);
        let found = Found { key: &candidate.key, repository };
        let verify = |bytes: &[u8]| verify_document::<DrillRecord>(bytes, found, self.reporters);
        let dated = |record: &DrillRecord| Some(record.written_at);
        candidate.read(DrillRecord::BYTES_MAX, verify, dated).await
    }
}
