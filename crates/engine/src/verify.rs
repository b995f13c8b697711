//! Whether everything that a snapshot names is there, as long as it says, locked as it promises, and undamaged.
//!
//! Needs no identity. Reads versions by their ids, so that neither a delete marker nor an overwrite is in its way. A problem
//! of the snapshot is collected and named, and the look goes on; a server that does not answer is an error, since it says
//! nothing of the snapshot. At most [`REQUESTS_MAX`] objects are looked at at a time, so with `read_data` memory is bounded
//! by that many segments (16 × 17 MiB, as segments ordinarily are).

use std::{collections::BTreeSet, fmt};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use stonekeep_format::{
    ErrorKind,
    codec::CodecError,
    ids::{BucketName, Digest, Label, SnapshotId, VersionId},
    inventory::{Inventory, Segment, SegmentKind},
    key::ObjectKey,
    lock::{Lock, LockMode},
    manifest::Manifest,
};
use stonekeep_store::{ReadStore, StoreError};

use crate::{
    Context,
    audit::Audit,
    events::{Event, Phase},
    finding::Finding,
    history::Snapshot,
    repository::Repository,
    segments::{Named, SegmentError, get_named, load_inventory},
    stores::Stores,
};

/// Objects that are looked at at the same time (16): enough to hide a round trip of 100 ms behind 160 requests a second.
pub const REQUESTS_MAX: usize = 16;

/// Why a snapshot could not be verified: nothing is said of the snapshot itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The bucket did not answer as it should.
    #[error("cannot look at {key}")]
    Store {
        /// What was looked at.
        key: ObjectKey,
        /// What the store said.
        #[source]
        source: Box<StoreError>,
    },
    /// A part of the snapshot could not be read, for no fault of its own.
    #[error("cannot read a part of the snapshot")]
    Read(#[source] SegmentError),
    /// Stopped on request.
    #[error("stopped on request; the snapshot was not looked at to the end")]
    Cancelled,
}

impl VerifyError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store { source, .. } => source.kind(),
            Self::Read(source) => source.kind(),
            Self::Cancelled => ErrorKind::Unavailable,
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The database's label.
    pub label: Label,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Until when it is promised.
    pub promised_until: DateTime<Utc>,
    /// Whether every byte was read and its digest checked.
    pub read_data: bool,
    /// Segments that its inventory names.
    pub segments: u64,
    /// Bytes of all objects that were looked at, as stored.
    pub bytes: u64,
    /// The lock that ends first, of those that were read back.
    pub first_lock: Option<Lock>,
    /// What is wrong. A snapshot without problems can be restored, as far as can be seen without an identity.
    pub problems: Vec<Problem>,
    /// What is wrong with the chain that it belongs to, and what does not belong there, if it was judged
    /// ([`VerifyReport::judge`]).
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Takes in what an audit says of the snapshot's label and of the repository. A snapshot that itself claims the future has a
    /// problem of its own.
    pub fn judge(&mut self, snapshot: &Snapshot, audit: &Audit) {
        self.findings = audit.findings_of(&snapshot.manifest.label).cloned().collect();
        if snapshot.is_future() {
            let what = format!("it is dated {}, later than it was stored", snapshot.dated_at());
            self.problems.push(Object::manifest(snapshot).problem(what));
        }
    }

    /// Whether the snapshot has no problem, and its chain is whole. What anybody who may write can bring about (a planted object, a
    /// delete marker) does not count: else he could keep every snapshot from being verified.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && !self.findings.iter().any(|each| each.kind.breaks_chain())
    }
}

/// Something wrong with an object that the snapshot needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// What the object is to the snapshot.
    pub object: ObjectKind,
    /// Its key.
    pub key: ObjectKey,
    /// The version that is named.
    pub version_id: VersionId,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (version {}): {}", self.object, self.key, self.version_id, self.what)
    }
}

/// What an object is to a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ObjectKind {
    /// The manifest.
    Manifest,
    /// The inventory.
    Inventory,
    /// The segment of the archive's table of contents.
    Toc,
    /// A slice of a member.
    Rows,
    /// A pack of members.
    Pack,
    /// The catalog.
    Catalog,
    /// Roles and tablespaces.
    Globals,
}

impl From<SegmentKind> for ObjectKind {
    fn from(kind: SegmentKind) -> Self {
        match kind {
            SegmentKind::Toc => Self::Toc,
            SegmentKind::Rows => Self::Rows,
            SegmentKind::Pack => Self::Pack,
            SegmentKind::Catalog => Self::Catalog,
            SegmentKind::Globals => Self::Globals,
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifest => "manifest",
            Self::Inventory => "inventory",
            Self::Toc => "toc segment",
            Self::Rows => "rows segment",
            Self::Pack => "pack segment",
            Self::Catalog => "catalog segment",
            Self::Globals => "globals segment",
        })
    }
}

/// Looks at every object that `snapshot` needs; with `read_data` reads them all.
///
/// # Errors
/// [`VerifyError`]: the bucket cannot be read, or somebody asked to stop. What is wrong with the snapshot is in the report.
pub async fn verify(
    repository: &Repository,
    snapshot: &Snapshot,
    read_data: bool,
    context: &Context,
) -> Result<VerifyReport, VerifyError> {
    tokio::select! {
        report = look(repository, snapshot, read_data, context) => report,
        () = context.cancel.cancelled() => Err(VerifyError::Cancelled),
    }
}

async fn look(
    repository: &Repository,
    snapshot: &Snapshot,
    read_data: bool,
    context: &Context,
) -> Result<VerifyReport, VerifyError> {
    let manifest = &snapshot.manifest;
    let look = Look {
        stores: &repository.stores,
        promised_until: manifest.promised_until,
        mode: repository.genesis.lock.mode,
        read_data,
    };
    let mut report = empty_report(manifest, read_data);
    let mut problems = Vec::new();
    let mut objects = BTreeSet::from([Object::manifest(snapshot), Object::inventory(manifest)]);
    match load_inventory(repository, &manifest.inventory, &manifest.id).await {
        Ok(inventory) => {
            report.segments = inventory.segments.len() as u64;
            problems.extend(check_sums(&inventory, manifest));
            objects.extend(segments(&inventory));
        }
        // The version that is missing or damaged is told when it is looked at below.
        Err(error) => problems.extend(unreadable(manifest, error)?),
    }
    let bytes_expected = objects.iter().map(|object| object.bytes).fold(0, u64::saturating_add);
    let bytes_expected = read_data.then_some(bytes_expected);
    context.tell(Event::Phase { phase: Phase::Verifying, bytes_expected, rows_expected: None });
    let mut looks =
        stream::iter(objects).map(|object| look.at(object)).buffer_unordered(REQUESTS_MAX);
    while let Some(seen) = looks.try_next().await? {
        context.tell(Event::Progress { bytes: seen.bytes, rows: 0 });
        report.bytes = report.bytes.saturating_add(seen.bytes);
        report.first_lock = earlier(report.first_lock, seen.lock);
        problems.extend(seen.problems);
    }
    problems.sort();
    problems.dedup();
    report.problems = problems;
    Ok(report)
}

fn empty_report(manifest: &Manifest, read_data: bool) -> VerifyReport {
    VerifyReport {
        label: manifest.label.clone(),
        snapshot: manifest.id.clone(),
        promised_until: manifest.promised_until,
        read_data,
        segments: 0,
        bytes: 0,
        first_lock: None,
        problems: Vec::new(),
        findings: Vec::new(),
    }
}

fn earlier(a: Option<Lock>, b: Option<Lock>) -> Option<Lock> {
    a.into_iter().chain(b).min_by_key(|lock| lock.retain_until)
}

/// An object to look at. Ordered by key and version, so that one that is named twice is looked at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Object {
    bucket: BucketName,
    key: ObjectKey,
    version_id: VersionId,
    kind: ObjectKind,
    bytes: u64,
    digest: Digest,
}

impl Object {
    fn manifest(snapshot: &Snapshot) -> Self {
        Self {
            // A manifest lies beside its inventory.
            bucket: snapshot.manifest.inventory.bucket.clone(),
            key: snapshot.version.key.clone(),
            version_id: snapshot.version.version_id.clone(),
            kind: ObjectKind::Manifest,
            bytes: snapshot.version.bytes,
            digest: snapshot.digest,
        }
    }

    fn inventory(manifest: &Manifest) -> Self {
        let named = &manifest.inventory;
        Self {
            bucket: named.bucket.clone(),
            key: named.key.clone(),
            version_id: named.version_id.clone(),
            kind: ObjectKind::Inventory,
            bytes: named.bytes,
            digest: named.digest,
        }
    }

    fn problem(&self, what: impl Into<String>) -> Problem {
        Problem {
            object: self.kind,
            key: self.key.clone(),
            version_id: self.version_id.clone(),
            what: what.into(),
        }
    }
}

fn segments(inventory: &Inventory) -> impl Iterator<Item = Object> + '_ {
    inventory.segments.iter().map(|segment| Object {
        bucket: segment.bucket.clone(),
        key: segment.key.clone(),
        version_id: segment.version_id.clone(),
        kind: segment.kind.into(),
        bytes: segment.bytes,
        digest: segment.digest,
    })
}

/// An inventory whose bytes are the named ones and that still cannot be used is a problem of its own.
fn unreadable(manifest: &Manifest, error: SegmentError) -> Result<Option<Problem>, VerifyError> {
    let what = match &error {
        SegmentError::Missing { .. } => {
            return Ok(Some(Object::inventory(manifest).problem(MISSING)));
        }
        SegmentError::Store { source, .. } if matches!(**source, StoreError::TooLong { .. }) => {
            LONGER.to_owned()
        }
        SegmentError::Inventory { source, .. } => {
            let cause = std::error::Error::source(source);
            cause.map_or_else(|| source.to_string(), |cause| format!("{source}: {cause}"))
        }
        _ => return Err(VerifyError::Read(error)),
    };
    Ok(Some(
        Object::inventory(manifest).problem(format!("{what}; its segments were not looked at")),
    ))
}

/// The manifest repeats the inventory's sums: a list that was cut short would not fit them.
fn check_sums(inventory: &Inventory, manifest: &Manifest) -> Option<Problem> {
    let (totals, segments) = (&manifest.totals, &inventory.segments);
    let sum = |of: fn(&Segment) -> u64| segments.iter().map(of).fold(0, u64::saturating_add);
    let found = (segments.len() as u64, sum(|each| each.plain_bytes), sum(|each| each.bytes));
    let wanted = (totals.segments, totals.plain_bytes, totals.sealed_bytes);
    (found != wanted).then(|| {
        Object::inventory(manifest).problem(format!(
            "it lists {} segments of {} bytes ({} stored), the manifest says {} of {} ({})",
            found.0, found.1, found.2, wanted.0, wanted.1, wanted.2
        ))
    })
}

const MISSING: &str = "this version is not in the bucket";
const LONGER: &str = "the object is longer than named";

/// What is asked of every object.
#[derive(Debug, Clone, Copy)]
struct Look<'a> {
    stores: &'a Stores,
    promised_until: DateTime<Utc>,
    mode: LockMode,
    read_data: bool,
}

/// What is seen of one.
#[derive(Debug, Default)]
struct Seen {
    bytes: u64,
    lock: Option<Lock>,
    problems: Vec<Problem>,
}

impl Look<'_> {
    fn store(&self, object: &Object) -> &dyn ReadStore {
        &**self.stores.of(&object.bucket)
    }

    async fn at(&self, object: Object) -> Result<Seen, VerifyError> {
        let found =
            if self.read_data { self.read(&object).await? } else { self.head(&object).await? };
        if let Some(what) = found {
            // Of a version that is not there no lock can be asked for.
            if what == MISSING {
                return Ok(Seen { problems: vec![object.problem(what)], ..Seen::default() });
            }
            let mut seen = self.lock(&object).await?;
            seen.problems.push(object.problem(what));
            return Ok(seen);
        }
        self.lock(&object).await
    }

    /// Returns what is wrong with the object's presence and length.
    async fn head(&self, object: &Object) -> Result<Option<String>, VerifyError> {
        match self.store(object).head(&object.key, &object.version_id).await {
            Ok(head) if head.bytes == object.bytes => Ok(None),
            Ok(head) => {
                Ok(Some(format!("the object has {} bytes, not {}", head.bytes, object.bytes)))
            }
            Err(StoreError::NotFound { .. }) => Ok(Some(MISSING.to_owned())),
            Err(source) => {
                Err(VerifyError::Store { key: object.key.clone(), source: Box::new(source) })
            }
        }
    }

    /// Returns what is wrong with the object's content.
    async fn read(&self, object: &Object) -> Result<Option<String>, VerifyError> {
        let named = Named {
            key: &object.key,
            version_id: &object.version_id,
            bytes: object.bytes,
            digest: object.digest,
        };
        match get_named(self.store(object), &named).await {
            Ok(_) => Ok(None),
            Err(SegmentError::Missing { .. }) => Ok(Some(MISSING.to_owned())),
            Err(SegmentError::Store { source, .. })
                if matches!(*source, StoreError::TooLong { .. }) =>
            {
                Ok(Some(LONGER.to_owned()))
            }
            Err(SegmentError::Store { key, source }) => Err(VerifyError::Store { key, source }),
            Err(SegmentError::Open { key, source }) => match *source {
                CodecError::Damaged { found, wanted } => {
                    Ok(Some(format!("damaged: its digest is {found}, not {wanted}")))
                }
                other => {
                    Err(VerifyError::Read(SegmentError::Open { key, source: Box::new(other) }))
                }
            },
            Err(error) => Err(VerifyError::Read(error)),
        }
    }

    async fn lock(&self, object: &Object) -> Result<Seen, VerifyError> {
        let lock = match self.store(object).retention(&object.key, &object.version_id).await {
            Ok(lock) => lock,
            Err(StoreError::NotFound { .. }) => None,
            Err(source) => {
                return Err(VerifyError::Store {
                    key: object.key.clone(),
                    source: Box::new(source),
                });
            }
        };
        let problems = self.weakness(lock).map(|what| object.problem(what));
        Ok(Seen { bytes: object.bytes, lock, problems: problems.into_iter().collect() })
    }

    fn weakness(&self, lock: Option<Lock>) -> Option<String> {
        let promised = self.promised_until;
        match lock {
            None => Some("it is not locked".to_owned()),
            Some(lock) if lock.retain_until <= promised => Some(format!(
                "its lock ends at {}, before the promise ({promised})",
                lock.retain_until
            )),
            Some(lock)
                if lock.mode == LockMode::Governance && self.mode == LockMode::Compliance =>
            {
                Some("its lock is GOVERNANCE where the genesis asks for COMPLIANCE".to_owned())
            }
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        finding::FindingKind,
        segments::fixture::{Broken, Fixture},
    };

    /// Verifies the fixture with something broken in the store.
    async fn broken(
        read_data: bool,
        breaks: impl FnOnce(&Fixture, &mut Broken),
    ) -> Result<VerifyReport, VerifyError> {
        let fixture = Fixture::new();
        let mut store = Broken::new(fixture.store());
        breaks(&fixture, &mut store);
        let (repository, snapshot) = fixture.open(Arc::new(store)).await;
        verify(&repository, &snapshot, read_data, &fixture.context).await
    }

    fn segment(fixture: &Fixture, kind: SegmentKind) -> ObjectKey {
        let of_kind = fixture.inventory.segments.iter().find(|segment| segment.kind == kind);
        of_kind.expect("one of each kind").key.clone()
    }

    fn whats(report: &VerifyReport) -> Vec<String> {
        report.problems.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn whole_snapshot_has_no_problem() {
        for read_data in [false, true] {
            let report = broken(read_data, |_, _| {}).await.expect("verified");
            assert_eq!(whats(&report), [""; 0]);
            assert!(report.segments > 5 && report.bytes > 0 && report.first_lock.is_some());
        }
    }

    #[tokio::test]
    async fn a_broken_chain_fails_a_sound_snapshot_and_what_was_planted_does_not() {
        let mut fixture = Fixture::new();
        // Its manifest names one that was never there.
        let (copy, snapshot) = fixture.open(Arc::new(fixture.store())).await;
        let of = async |repository: &Repository, fixture: &Fixture| {
            let context = &fixture.context;
            let audit = crate::audit::audit(repository, None, context).await.expect("judged");
            let report = verify(repository, &snapshot, false, context).await;
            let mut report = report.expect("verified");
            report.judge(&snapshot, &audit);
            let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
            (kinds, report.is_sound())
        };
        assert_eq!(of(&copy, &fixture).await, (vec![], true));
        let stores = Stores::new(Arc::new(fixture.store()), Vec::new());
        let bucket = Repository { stores, ..copy };
        assert_eq!(of(&bucket, &fixture).await, (vec![FindingKind::Gap], false));
        let Manifest { label, seq, chain, .. } = &fixture.manifest;
        let junk = SnapshotId::new(fixture.manifest.committed_at, 99);
        fixture.plant(&ObjectKey::manifest(label, *seq, *chain, &junk), b"{}\n");
        let (copy, _) = fixture.open(Arc::new(fixture.store())).await;
        assert_eq!(of(&copy, &fixture).await, (vec![FindingKind::Unsigned], true));
    }

    #[tokio::test]
    async fn missing_version_is_named() {
        for read_data in [false, true] {
            let report = broken(read_data, |fixture, store| {
                store.missing = Some(segment(fixture, SegmentKind::Rows));
            });
            let report = report.await.expect("verified");
            let [problem] = &report.problems[..] else { panic!("{:?}", report.problems) };
            assert_eq!((problem.object, problem.what.as_str()), (ObjectKind::Rows, MISSING));
        }
    }

    #[tokio::test]
    async fn damaged_byte_is_seen_only_by_reading() {
        let damage = |fixture: &Fixture, store: &mut Broken| {
            store.damaged = Some(segment(fixture, SegmentKind::Pack));
        };
        assert!(broken(false, damage).await.expect("verified").problems.is_empty());
        let report = broken(true, damage).await.expect("verified");
        let [problem] = &report.problems[..] else { panic!("{:?}", report.problems) };
        assert!(problem.object == ObjectKind::Pack && problem.what.starts_with("damaged"));
    }

    #[tokio::test]
    async fn weak_locks_are_named() {
        let until = |fixture: &Fixture| fixture.manifest.promised_until;
        type LockOf = fn(&Fixture) -> Option<Lock>;
        let compliance = |retain_until| Some(Lock { mode: LockMode::Compliance, retain_until });
        let weak: [(LockOf, &str); 2] = [
            (|_| None, "it is not locked"),
            (
                |fixture| {
                    let retain_until = fixture.manifest.promised_until + chrono::TimeDelta::days(1);
                    Some(Lock { mode: LockMode::Governance, retain_until })
                },
                "GOVERNANCE",
            ),
        ];
        for (lock, what) in weak {
            let report = broken(false, |fixture, store| {
                store.lock = Some((segment(fixture, SegmentKind::Toc), lock(fixture)));
            });
            let report = report.await.expect("verified");
            let [problem] = &report.problems[..] else { panic!("{:?}", report.problems) };
            assert!(problem.what.contains(what), "{problem}");
        }
        let report = broken(false, |fixture, store| {
            store.lock = Some((fixture.manifest.key.clone(), compliance(until(fixture))));
        });
        let report = report.await.expect("verified");
        assert_eq!(report.problems[0].object, ObjectKind::Manifest);
        assert!(report.problems[0].what.contains("before the promise"));
        assert_eq!(report.first_lock.map(|lock| lock.retain_until), Some(report.promised_until));
    }

    #[tokio::test]
    async fn server_that_does_not_answer_is_no_problem_of_the_snapshot() {
        let result = broken(false, |fixture, store| {
            store.unavailable = Some(segment(fixture, SegmentKind::Toc));
        });
        assert_eq!(result.await.expect_err("an error").kind(), ErrorKind::Unavailable);
    }

    #[tokio::test]
    async fn damaged_inventory_is_a_problem_and_ends_the_look_at_segments() {
        let report = broken(true, |fixture, store| {
            store.damaged = Some(fixture.manifest.inventory.key.clone());
        });
        let report = report.await.expect("verified");
        assert_eq!(report.segments, 0);
        assert!(report.problems.iter().all(|problem| problem.object == ObjectKind::Inventory));
        assert!(report.problems.iter().any(|problem| problem.what.contains("damaged")));
    }

    #[tokio::test]
    async fn cancelled_look_is_an_error() {
        let fixture = Fixture::new();
        let (repository, snapshot) = fixture.open(Arc::new(fixture.store())).await;
        fixture.context.cancel.cancel();
        // The look may win the race; it never says that something is wrong.
        match verify(&repository, &snapshot, true, &fixture.context).await {
            Ok(report) => assert!(report.problems.is_empty()),
            Err(error) => assert!(matches!(error, VerifyError::Cancelled)),
        }
    }
}
