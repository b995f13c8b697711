//! What is in a repository: every snapshot that can be believed, what is missing, and what does not belong there.
//!
//! Needs no identity: it reads manifests and, for one snapshot, its inventory. It changes nothing and judges nothing but the
//! chain; whether the named objects are really there is [`crate::verify`]'s to say.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use stonekeep_format::{
    ErrorKind,
    chain::ChainReport,
    ids::{BucketName, ChainId, Digest, Label, RepositoryId, Seq, SnapshotId, VersionId},
    inventory::{Inventory, Segment},
    key::ObjectKey,
    lock::{Lock, LockMode},
    manifest::{Link, Manifest},
};
use stonekeep_store::DeleteMarker;

use crate::{
    Context,
    audit::{Audit, AuditError, audit},
    finding::Finding,
    history::{FindError, LabelHistory, Selector, find},
    repository::{Planted, Repository},
    segments::{SegmentError, load_inventory},
};

/// Why a repository cannot be listed or a snapshot shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The repository cannot be read, or is not the one that the witness has seen.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// No snapshot is meant.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The inventory cannot be read.
    #[error("cannot show the snapshot")]
    Inventory(#[from] SegmentError),
}

impl ListError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Audit(source) => source.kind(),
            Self::Find(source) => source.kind(),
            Self::Inventory(source) => source.kind(),
        }
    }
}

/// Everything under `manifests/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListReport {
    /// The repository.
    pub repository: RepositoryId,
    /// Its bucket.
    pub bucket: BucketName,
    /// The storage server's time, by which promises were judged.
    pub at: DateTime<Utc>,
    /// Every verified snapshot, newest first.
    pub snapshots: Vec<SnapshotLine>,
    /// The state of each label's chain.
    pub labels: Vec<LabelReport>,
    /// Objects that are where a manifest could be and are none of ours: ignored, an alarm.
    pub planted: Vec<Planted>,
    /// How many more such objects there are.
    pub more_planted: u64,
    /// Delete markers over snapshots that are still promised: they change nothing, and nobody with our policies can have set
    /// one. (A lifecycle rule hides what has expired behind a marker; that is no news.)
    pub markers: Vec<Marker>,
    /// All that is wrong, by name: what is above and what a watcher's witness adds.
    pub findings: Vec<Finding>,
    /// How many more findings there are.
    pub more_findings: u64,
}

impl ListReport {
    /// Whether anything is there that should not be, or missing that should be.
    #[must_use]
    pub const fn is_alarming(&self) -> bool {
        !self.findings.is_empty() || self.more_findings > 0
    }
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotLine {
    /// Its id.
    pub id: SnapshotId,
    /// The database's label.
    pub label: Label,
    /// Its position.
    pub seq: Seq,
    /// Its chain.
    pub chain: ChainId,
    /// Its tier.
    pub tier: String,
    /// The instant of its content, by the database server's clock.
    pub snapshot_at: DateTime<Utc>,
    /// When it was committed, by the storage server's clock.
    pub committed_at: DateTime<Utc>,
    /// Until when it is promised.
    pub promised_until: DateTime<Utc>,
    /// Whether that has passed: it may still be there, and may go.
    pub expired: bool,
    /// Its tables.
    pub tables: u64,
    /// Its rows.
    pub rows: u64,
    /// Its plaintext, in bytes.
    pub plain_bytes: u64,
    /// What is stored of it, in bytes.
    pub sealed_bytes: u64,
    /// What it added to the bucket, in bytes.
    pub put_bytes: u64,
    /// Why it is suspicious, if it is.
    pub suspicious: Option<String>,
}

/// What the manifests of one label say of each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelReport {
    /// The label.
    pub label: Label,
    /// The newest snapshot of each chain, newest first.
    pub heads: Vec<SnapshotId>,
    /// Snapshots that must be there and are not.
    pub gaps: Vec<Gap>,
    /// Chains with more than one newest snapshot.
    pub forks: Vec<ForkLine>,
    /// How many snapshots are gone because their promise has passed.
    pub expired: usize,
}

/// A snapshot that is promised and absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Its id.
    pub id: SnapshotId,
    /// Its position.
    pub seq: Seq,
    /// Its chain.
    pub chain: ChainId,
    /// Until when it is promised.
    pub promised_until: DateTime<Utc>,
}

/// An open fork: all of its heads can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForkLine {
    /// The chain.
    pub chain: ChainId,
    /// Its heads.
    pub heads: Vec<SnapshotId>,
}

/// A delete marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Marker {
    /// The key it stands over.
    pub key: ObjectKey,
    /// Its own version id.
    pub version_id: VersionId,
    /// When it was set.
    pub modified_at: DateTime<Utc>,
}

/// Lists every snapshot of every label, and what is missing or planted.
///
/// # Errors
/// [`ListError`]: the bucket cannot be read.
pub async fn list(repository: &Repository, context: &Context) -> Result<ListReport, ListError> {
    Ok(ListReport::of(repository, audit(repository, None, context).await?))
}

impl ListReport {
    /// Turns an audit of the repository into a list.
    #[must_use]
    pub fn of(repository: &Repository, audit: Audit) -> Self {
        let Audit { at, history, findings, more, .. } = audit;
        let all = history.labels.values().flat_map(|of_label| &of_label.snapshots);
        let mut snapshots: Vec<SnapshotLine> =
            all.map(|each| SnapshotLine::of(&each.manifest, at)).collect();
        snapshots
            .sort_by(|a, b| (b.committed_at, b.seq, &b.id).cmp(&(a.committed_at, a.seq, &a.id)));
        let promised = history.promised_keys(at);
        let mut markers = history.markers;
        markers.retain(|each| promised.contains(&each.key));
        let labels = history.labels.iter();
        Self {
            repository: repository.genesis.repository,
            bucket: repository.stores.main().bucket().clone(),
            at,
            snapshots,
            labels: labels.map(|(label, all)| LabelReport::of(label, all, at)).collect(),
            planted: history.planted,
            more_planted: history.more_planted,
            markers: markers.into_iter().map(Marker::from).collect(),
            findings,
            more_findings: more,
        }
    }
}

impl From<DeleteMarker> for Marker {
    fn from(marker: DeleteMarker) -> Self {
        let DeleteMarker { key, version_id, modified_at } = marker;
        Self { key, version_id, modified_at }
    }
}

impl SnapshotLine {
    fn of(manifest: &Manifest, at: DateTime<Utc>) -> Self {
        let totals = &manifest.totals;
        Self {
            id: manifest.id.clone(),
            label: manifest.label.clone(),
            seq: manifest.seq,
            chain: manifest.chain,
            tier: manifest.tier.clone(),
            snapshot_at: manifest.snapshot_at,
            committed_at: manifest.committed_at,
            promised_until: manifest.promised_until,
            expired: manifest.promised_until <= at,
            tables: totals.tables,
            rows: totals.rows,
            plain_bytes: totals.plain_bytes,
            sealed_bytes: totals.sealed_bytes,
            put_bytes: totals.put_bytes,
            suspicious: manifest.suspicious.clone(),
        }
    }
}

impl LabelReport {
    fn of(label: &Label, history: &LabelHistory, at: DateTime<Utc>) -> Self {
        let ChainReport { heads, gaps, forks, expired } = history.chains.examine(at);
        let forks = forks.into_iter().map(|fork| ForkLine { chain: fork.chain, heads: fork.heads });
        Self {
            label: label.clone(),
            heads,
            gaps: gaps.iter().map(Gap::from).collect(),
            forks: forks.collect(),
            expired,
        }
    }
}

impl From<&Link> for Gap {
    fn from(link: &Link) -> Self {
        Self {
            id: link.id.clone(),
            seq: link.seq,
            chain: link.chain,
            promised_until: link.promised_until(),
        }
    }
}

/// One snapshot, as far as it can be seen without an identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShowReport {
    /// The manifest, as signed.
    pub manifest: Manifest,
    /// The BLAKE3 digest of the manifest object.
    pub digest: Digest,
    /// The version of the manifest object.
    pub version_id: VersionId,
    /// Segments by kind.
    pub segments: BTreeMap<&'static str, KindSums>,
    /// The lock that ends first and the one that ends last, as they were when the snapshot was committed.
    pub locks: Option<LockRange>,
}

/// Sums over the segments of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct KindSums {
    /// How many.
    pub segments: u64,
    /// Bytes of plaintext.
    pub plain_bytes: u64,
    /// Bytes as stored.
    pub sealed_bytes: u64,
}

/// From the shortest to the longest of a snapshot's locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LockRange {
    /// The first to end.
    pub first: Lock,
    /// The last to end.
    pub last: Lock,
    /// Whether all of them hold against everybody.
    pub all_compliance: bool,
}

/// Shows one snapshot: its manifest and the sums of its inventory.
///
/// # Errors
/// [`ListError`]: there is no such snapshot, or its inventory cannot be read.
pub async fn show(
    repository: &Repository,
    selector: &Selector,
    context: &Context,
) -> Result<ShowReport, ListError> {
    let snapshot = find(repository, selector, context).await?;
    let inventory =
        load_inventory(repository, &snapshot.manifest.inventory, &snapshot.manifest.id).await?;
    Ok(ShowReport {
        manifest: snapshot.manifest.clone(),
        digest: snapshot.digest,
        version_id: snapshot.version.version_id.clone(),
        segments: sums(&inventory),
        locks: lock_range(&inventory.segments),
    })
}

fn sums(inventory: &Inventory) -> BTreeMap<&'static str, KindSums> {
    let mut sums: BTreeMap<&'static str, KindSums> = BTreeMap::new();
    for segment in &inventory.segments {
        let of_kind = sums.entry(segment.kind.as_str()).or_default();
        of_kind.segments += 1;
        of_kind.plain_bytes = of_kind.plain_bytes.saturating_add(segment.plain_bytes);
        of_kind.sealed_bytes = of_kind.sealed_bytes.saturating_add(segment.bytes);
    }
    sums
}

fn lock_range(segments: &[Segment]) -> Option<LockRange> {
    let locks = || segments.iter().map(|segment| segment.lock);
    Some(LockRange {
        first: locks().min_by_key(|lock| lock.retain_until)?,
        last: locks().max_by_key(|lock| lock.retain_until)?,
        all_compliance: locks().all(|lock| lock.mode == LockMode::Compliance),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::segments::fixture::Fixture;

    #[tokio::test]
    async fn lost_and_planted_snapshots_are_told() {
        let mut fixture = Fixture::new();
        let planted = SnapshotId::new(fixture.manifest.committed_at, 99);
        let (label, chain) = (fixture.manifest.label.clone(), fixture.manifest.chain);
        let key = ObjectKey::manifest(&label, Seq(9), chain, &planted);
        fixture.plant(&key, b"{}\n");
        let (repository, _) = fixture.open(Arc::new(fixture.store())).await;
        let report = list(&repository, &fixture.context).await.expect("listed");
        assert_eq!(report.snapshots.len(), 1);
        assert_eq!(report.snapshots[0].id, fixture.manifest.id);
        assert_eq!(report.labels[0].heads, [fixture.manifest.id.clone()]);
        assert_eq!(report.labels[0].gaps.len(), 1);
        assert_eq!(report.planted.iter().map(|each| &each.key).collect::<Vec<_>>(), [&key]);
        assert!(report.is_alarming());
    }

    #[tokio::test]
    async fn show_adds_up_without_an_identity() {
        let fixture = Fixture::new();
        let (repository, _) = fixture.open(Arc::new(fixture.store())).await;
        let report = show(&repository, &Selector::Latest, &fixture.context).await.expect("shown");
        let segments: u64 = report.segments.values().map(|sums| sums.segments).sum();
        assert_eq!(segments, fixture.manifest.totals.segments);
        assert_eq!(report.segments["rows"].segments, 4);
        assert!(report.locks.is_some_and(|range| range.all_compliance));
    }
}
