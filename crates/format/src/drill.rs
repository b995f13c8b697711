//! What a restore drill found: the whole report that goes into a directory, and the record of it that goes into the bucket.
//!
//! Both are signed by a report key, in the same namespace, and told apart by their `format`. The report names tables; the
//! record, which whoever may list a bucket may read, names none. Neither holds a row, a value of one, or a secret.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{Digest, Label, RepositoryId, Seq, SnapshotId},
    key::ObjectKey,
    signature::{Namespace, SignedDocument},
};

/// What a drill comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrillVerdict {
    /// The restored database is what production held, and every check was answered as expected.
    Pass,
    /// It is not, or could not be restored from what is in the bucket.
    Fail,
}

impl DrillVerdict {
    /// Returns it as documents spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}

/// The record of a drill in the bucket, under `reports/<label>/<ulid>`. It names no table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRecord {
    /// [`DrillRecord::FORMAT`].
    pub format: String,
    /// The repository.
    pub repository: RepositoryId,
    /// The database's label.
    pub label: Label,
    /// The key this document lies under.
    pub key: ObjectKey,
    /// The drill; also in its key.
    pub id: SnapshotId,
    /// The snapshot that was restored.
    pub snapshot: SnapshotId,
    /// When the drill began, by the storage server's clock.
    pub begun_at: DateTime<Utc>,
    /// When this document was signed, by the same clock.
    pub written_at: DateTime<Utc>,
    /// What it came to.
    pub verdict: DrillVerdict,
    /// How many problems were found.
    pub problems: u64,
    /// How long the restore took, in milliseconds; absent if it did not come to its end.
    pub rto_ms: Option<u64>,
    /// How long it may take, if somebody said so, in milliseconds.
    pub rto_max_ms: Option<u64>,
    /// Tables.
    pub tables: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of plaintext in the snapshot's segments.
    pub plain_bytes: u64,
    /// The BLAKE3 digest of the whole report, as the file `drill-<label>-<ulid>.json` holds it.
    pub report: Digest,
}

impl DrillRecord {
    /// Whether the restore took longer than it may.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        is_slow(self.rto_ms, self.rto_max_ms)
    }
}

fn is_slow(rto_ms: Option<u64>, rto_max_ms: Option<u64>) -> bool {
    rto_ms.zip(rto_max_ms).is_some_and(|(took, max)| took > max)
}

impl SignedDocument for DrillRecord {
    const NAMESPACE: Namespace = Namespace::Report;
    const FORMAT: &'static str = "stonekeep/drill-record/1";
    /// 16 KiB: some ten times what one takes.
    const BYTES_MAX: u64 = 16 << 10;

    fn format(&self) -> &str {
        &self.format
    }
    fn repository(&self) -> RepositoryId {
        self.repository
    }
    fn key(&self) -> &ObjectKey {
        &self.key
    }
    fn label(&self) -> Option<&Label> {
        Some(&self.label)
    }
    fn signed_at(&self) -> DateTime<Utc> {
        self.written_at
    }
}

/// The whole report of a drill of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillReport {
    /// [`DrillReport::FORMAT`].
    pub format: String,
    /// The repository.
    pub repository: RepositoryId,
    /// The database's label.
    pub label: Label,
    /// The key under which its record lies, if there is one.
    pub key: ObjectKey,
    /// The drill.
    pub id: SnapshotId,
    /// Which version of stonekeep made it.
    pub stonekeep: String,
    /// When the drill began, by the storage server's clock.
    pub begun_at: DateTime<Utc>,
    /// When this document was signed, by the same clock.
    pub written_at: DateTime<Utc>,
    /// What it came to.
    pub verdict: DrillVerdict,
    /// Why it failed, each naming the object; none if it passed.
    pub problems: Vec<String>,
    /// Further problems, which are not named.
    pub more_problems: u64,
    /// The snapshot.
    pub snapshot: DrilledSnapshot,
    /// Where it was restored to.
    pub server: DrillServer,
    /// What took how long, in the order in which it was done.
    pub phases: Vec<DrillPhase>,
    /// The measured recovery time: how long `stonekeep restore` takes, comparison and statistics included, in milliseconds.
    /// Absent if the restore did not come to its end.
    pub rto_ms: Option<u64>,
    /// How long it may take, if somebody said so, in milliseconds.
    pub rto_max_ms: Option<u64>,
    /// How old what is recoverable is.
    pub rpo: Rpo,
    /// Each table, as the snapshot names it.
    pub tables: Vec<DrillTable>,
    /// What else was compared, kind by kind.
    pub compared: Vec<Compared>,
    /// Who can open the snapshot, and whether that was proven.
    pub recipients: Vec<DrillRecipient>,
    /// The operator's own checks.
    pub checks: Vec<DrillCheck>,
    /// What was not compared, and why.
    pub not_checked: Vec<String>,
    /// What is not as it was and no reason to fail.
    pub notes: Vec<String>,
    /// How long a restore of each database of the repository would take, by what was measured; without those that are more
    /// than ten times as large or small as the one that was drilled, of which it tells nothing.
    pub estimates: Vec<Estimate>,
    /// Earlier drills of this database, the oldest first.
    pub earlier: Vec<EarlierDrill>,
}

impl DrillReport {
    /// Whether the restore took longer than it may.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        is_slow(self.rto_ms, self.rto_max_ms)
    }

    /// Returns how many problems were found, those that are not named as well.
    #[must_use]
    pub fn problem_count(&self) -> u64 {
        self.more_problems.saturating_add(self.problems.len() as u64)
    }

    /// Returns its record for the bucket. `report` is the digest of this document as it is written.
    #[must_use]
    pub fn record(&self, report: Digest) -> DrillRecord {
        DrillRecord {
            format: DrillRecord::FORMAT.to_owned(),
            repository: self.repository,
            label: self.label.clone(),
            key: self.key.clone(),
            id: self.id.clone(),
            snapshot: self.snapshot.id.clone(),
            begun_at: self.begun_at,
            written_at: self.written_at,
            verdict: self.verdict,
            problems: self.problem_count(),
            rto_ms: self.rto_ms,
            rto_max_ms: self.rto_max_ms,
            tables: self.snapshot.tables,
            rows: self.snapshot.rows,
            plain_bytes: self.snapshot.plain_bytes,
            report,
        }
    }
}

impl SignedDocument for DrillReport {
    const NAMESPACE: Namespace = Namespace::Report;
    const FORMAT: &'static str = "stonekeep/drill/1";
    /// 256 MiB: a line for each of some hundred thousands of tables.
    const BYTES_MAX: u64 = 256 << 20;

    fn format(&self) -> &str {
        &self.format
    }
    fn repository(&self) -> RepositoryId {
        self.repository
    }
    fn key(&self) -> &ObjectKey {
        &self.key
    }
    fn label(&self) -> Option<&Label> {
        Some(&self.label)
    }
    fn signed_at(&self) -> DateTime<Utc> {
        self.written_at
    }
}

/// The snapshot that was restored, as its manifest has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrilledSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its position in the chain.
    pub seq: Seq,
    /// Its tier.
    pub tier: String,
    /// The instant of its content.
    pub snapshot_at: DateTime<Utc>,
    /// When it was committed.
    pub committed_at: DateTime<Utc>,
    /// Until when it is promised.
    pub promised_until: DateTime<Utc>,
    /// `server_version` of production.
    pub server_version: String,
    /// How it was chosen: `newest`, `named`, or `by chance, of N`.
    pub chosen: String,
    /// Tables.
    pub tables: u64,
    /// Rows.
    pub rows: u64,
    /// Large objects.
    pub large_objects: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes of plaintext in them.
    pub plain_bytes: u64,
    /// Bytes of them as stored.
    pub sealed_bytes: u64,
}

/// Where a drill restored to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillServer {
    /// `server_version`; absent if it did not come so far.
    pub version: Option<String>,
    /// Whether the drill made the server itself.
    pub scratch: bool,
    /// Host and port of one that it was given.
    pub address: Option<String>,
    /// Connections that loaded and compared.
    pub jobs: usize,
    /// Whether the server waits for its disk, as one that is to outlive a crash does; absent of one that the drill was given.
    #[serde(default)]
    pub fsync: Option<bool>,
}

/// One step of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillPhase {
    /// Its name in the `phase` events: `verifying`, `fetching` (each identity is tried), `starting`, `preparing`, `schema`,
    /// `loading`, `finishing`, `comparing`, `analyzing`, `checking`, `removing`.
    pub name: String,
    /// When it began, in milliseconds since the drill did.
    pub begun_ms: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Bytes of plaintext that it moved.
    pub bytes: u64,
    /// Rows that it moved.
    pub rows: u64,
    /// Whether a real restore has it, too: so it counts in the recovery time. What was begun again does not.
    pub is_restore: bool,
}

/// The achieved recovery point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rpo {
    /// How old the content of the newest snapshot of this database was when the drill began, in milliseconds. If that one is
    /// suspicious: how long ago the newest that is not was committed.
    pub newest_age_ms: u64,
    /// The longest time between the commits of two snapshots that follow each other, of those that are still kept, at most
    /// 30 days old and not suspicious, in milliseconds; absent where there are fewer than two.
    pub longest_gap_ms: Option<u64>,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillTable {
    /// Schema and name.
    pub name: String,
    /// Rows that production held.
    pub rows: u64,
    /// Bytes of them as COPY prints them.
    pub bytes: u64,
    /// Rows that were found; absent if it is missing.
    pub rows_found: Option<u64>,
    /// What came of it.
    pub outcome: TableOutcome,
}

/// What comparing a table came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableOutcome {
    /// Every row is as it was.
    Same,
    /// All rows of its family are as they were, and some lie in another partition.
    Moved,
    /// Its rows are not those that production held.
    Differs,
    /// It is not there.
    Missing,
}

/// What a kind of objects came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Which objects, in the plural: `sequences`, `indexes`, `large objects`.
    pub what: String,
    /// How many production held.
    pub wanted: u64,
    /// How many of those are as they were.
    pub same: u64,
}

/// Somebody for whom the snapshot is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillRecipient {
    /// The age recipient, public. `unknown` for an identity that does not tell whose it is (one of a plugin).
    pub recipient: String,
    /// The name of the identity file that opened the snapshot for it, without its directory; absent: not proven.
    pub proven_by: Option<String>,
}

/// One of the operator's own checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillCheck {
    /// Its name.
    pub name: String,
    /// Whether it was answered as expected.
    pub passed: bool,
    /// Why not, without any value of the database.
    pub why: Option<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// How long a restore of a database would take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Its label.
    pub label: Label,
    /// Its newest snapshot.
    pub snapshot: SnapshotId,
    /// Bytes of plaintext in it.
    pub plain_bytes: u64,
    /// How long it would take, in milliseconds.
    pub restore_ms: u64,
    /// Whether this very snapshot was restored by this drill.
    pub is_measured: bool,
}

/// A drill before this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierDrill {
    /// Its id.
    pub id: SnapshotId,
    /// When it began.
    pub begun_at: DateTime<Utc>,
    /// What it came to.
    pub verdict: DrillVerdict,
    /// How long the restore took, in milliseconds.
    pub rto_ms: Option<u64>,
    /// Bytes of plaintext in its snapshot.
    pub plain_bytes: u64,
}

impl From<&DrillRecord> for EarlierDrill {
    fn from(record: &DrillRecord) -> Self {
        Self {
            id: record.id.clone(),
            begun_at: record.begun_at,
            verdict: record.verdict,
            rto_ms: record.rto_ms,
            plain_bytes: record.plain_bytes,
        }
    }
}
