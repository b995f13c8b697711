//! Whether a repository is whole: the one judgement that `list`, `verify` and a watcher give of its chains and of what does not
//! belong there.
//!
//! Needs to list and to read manifests, nothing more. It changes nothing, and reads neither inventories nor segments: whether
//! what a snapshot names is there is [`crate::verify`]'s to say.

mod genesis;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use stonekeep_format::{
    ErrorKind,
    ids::{Label, RepositoryId, SnapshotId},
    lock::check_skew,
};
use stonekeep_store::StoreError;

use crate::{
    Context,
    finding::{Finding, FindingKind},
    history::{History, LabelHistory, Snapshot},
    repository::{Repository, RepositoryError},
    witness::{Seen, SeenGenesis, Witness},
};

/// Findings of one kind that are told one by one (1000); of more, only how many. Whoever may write can bring about any number
/// of some kinds, and must not so hide those of another.
const FINDINGS_MAX: usize = 1000;

/// What was found.
#[derive(Debug)]
pub struct Audit {
    /// The storage server's time, by which promises were judged.
    pub at: DateTime<Utc>,
    /// The repository.
    pub repository: RepositoryId,
    /// The genesis in force; absent if it was handed over, and not read.
    pub genesis: Option<SeenGenesis>,
    /// Every snapshot that can be believed.
    pub history: History,
    /// What is wrong, in the order of its kinds.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
}

impl Audit {
    /// Returns the findings about a label and about the repository as a whole.
    pub fn findings_of(&self, label: &Label) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |each| each.label.as_ref().is_none_or(|it| it == label))
    }
}

/// Why a repository cannot be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The manifests cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The storage server does not tell the time, without which nothing can be called missing.
    #[error("cannot read the storage server's clock")]
    Time(#[source] Box<StoreError>),
    /// The witness is of another repository.
    #[error(
        "the witness has seen repository {witness}, and this is {repository}: the bucket or prefix is another one, or the repository was replaced; if you replaced it, move the witness file away"
    )]
    OtherRepository {
        /// What the witness says.
        witness: RepositoryId,
        /// What the genesis says.
        repository: RepositoryId,
    },
}

impl AuditError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Repository(source) => source.kind(),
            Self::Time(source) => source.kind(),
            Self::OtherRepository { .. } => ErrorKind::Corrupt,
        }
    }
}

/// Judges every chain of a repository, and compares it with what a watcher saw before. Of a copy only what is planted is told:
/// a copy is not expected to be whole, and says nothing of the storage.
///
/// # Errors
/// [`AuditError`]: the bucket cannot be read, or the witness is another repository's. What is wrong is in the audit.
pub async fn audit(
    repository: &Repository,
    witness: Option<&Witness>,
    context: &Context,
) -> Result<Audit, AuditError> {
    judge(repository, None, witness, context).await
}

/// The same for one label, without reading the others' manifests.
///
/// # Errors
/// As [`audit`].
pub async fn audit_label(
    repository: &Repository,
    label: &Label,
    witness: Option<&Witness>,
    context: &Context,
) -> Result<Audit, AuditError> {
    judge(repository, Some(label), witness, context).await
}

async fn judge(
    repository: &Repository,
    only: Option<&Label>,
    witness: Option<&Witness>,
    context: &Context,
) -> Result<Audit, AuditError> {
    let id = repository.genesis.repository;
    if let Some(other) = witness.filter(|witness| witness.repository != id) {
        return Err(AuditError::OtherRepository { witness: other.repository, repository: id });
    }
    let history = match only {
        Some(label) => History::load_label(repository, label, context).await?,
        None => History::load(repository, context).await?,
    };
    let time = repository.stores.main().server_time().await;
    let at = time.map_err(|source| AuditError::Time(Box::new(source)))?;
    let (beside_genesis, more_beside) = genesis::planted(repository).await?;
    let mut findings = planted(&history);
    findings.extend(beside_genesis);
    if !repository.stores.is_copy() {
        findings.extend(markers(&history, at));
        findings.extend(clock(at, context));
        for (label, of_label) in &history.labels {
            findings.extend(chain(label, of_label, at));
        }
        if let Some(witness) = witness {
            findings.extend(genesis::rollback(repository, witness));
            let labels =
                witness.labels.iter().filter(|(label, _)| only.is_none_or(|it| it == *label));
            for (label, seen) in labels {
                findings.extend(rollback(label, seen, &history, witness.looked_at, at));
            }
        }
    }
    let more = history.more_planted + history.more_markers + more_beside + bound(&mut findings);
    Ok(Audit {
        at,
        repository: id,
        genesis: genesis::in_force(repository),
        history,
        findings,
        more,
    })
}

/// Sorts them, and leaves out surplus ones of each kind; returns how many.
fn bound(findings: &mut Vec<Finding>) -> u64 {
    findings.sort();
    let mut of_kind: BTreeMap<FindingKind, usize> = BTreeMap::new();
    let before = findings.len();
    findings.retain(|finding| {
        let count = of_kind.entry(finding.kind).or_default();
        *count += 1;
        *count <= FINDINGS_MAX
    });
    (before - findings.len()) as u64
}

fn planted(history: &History) -> Vec<Finding> {
    let of = |each: &crate::repository::Planted| {
        let what = format!("ignored: {}", each.why);
        Finding::of_version(each.kind, each.key.clone(), each.version_id.clone(), &what)
    };
    history.planted.iter().map(of).collect()
}

/// A lifecycle rule hides what has expired behind a marker; that is no news.
fn markers(history: &History, at: DateTime<Utc>) -> Vec<Finding> {
    let promised = history.promised_keys(at);
    let over_promised = history.markers.iter().filter(|marker| promised.contains(&marker.key));
    over_promised
        .map(|marker| {
            let what =
                format!("a delete marker, set {}; it changes nothing", time(marker.modified_at));
            let (key, version_id) = (marker.key.clone(), marker.version_id.clone());
            Finding::of_version(FindingKind::Marker, key, version_id, &what)
        })
        .collect()
}

/// A server whose clock runs ahead lets promises look as if they had passed, and locks end.
fn clock(at: DateTime<Utc>, context: &Context) -> Option<Finding> {
    let here = context.clock.now();
    check_skew(here, at).err().map(|_| {
        let (at, here) = (time(at), time(here));
        let what = format!(
            "the storage server's clock says {at}, this host's {here}; promises are judged by the server's"
        );
        Finding::about(FindingKind::Clock, None, what)
    })
}

fn chain(label: &Label, history: &LabelHistory, at: DateTime<Utc>) -> Vec<Finding> {
    let report = history.chains.examine(at);
    let gaps = report.gaps.iter().map(|gap| {
        let until = time(gap.promised_until());
        let what =
            format!("snapshot {} of {label} is promised until {until} and is not there", gap.id);
        Finding::at(FindingKind::Gap, gap.key(label), &what)
    });
    let forks = report.forks.iter().map(|fork| {
        let heads: Vec<&str> = fork.heads.iter().map(SnapshotId::as_str).collect();
        let (chain, count, heads) = (fork.chain, heads.len(), heads.join(", "));
        let what = format!("chain {chain} of {label} has {count} ends: {heads}");
        Finding::about(FindingKind::Fork, Some(label.clone()), what)
    });
    let ahead = history.snapshots.iter().filter(|each| each.is_future()).map(future);
    gaps.chain(forks).chain(ahead).collect()
}

fn future(snapshot: &Snapshot) -> Finding {
    let (manifest, version) = (&snapshot.manifest, &snapshot.version);
    let what = format!(
        "snapshot {} says it was committed {}, and the server stored it {}; latest passes over it",
        manifest.id,
        time(snapshot.dated_at()),
        time(version.modified_at)
    );
    let (key, version_id) = (version.key.clone(), version.version_id.clone());
    Finding::of_version(FindingKind::Future, key, version_id, &what)
}

/// What is promised, was seen and is not there. What is there names some of it, perhaps: that is a gap, and told as one.
fn rollback(
    label: &Label,
    seen: &[Seen],
    history: &History,
    looked_at: DateTime<Utc>,
    at: DateTime<Utc>,
) -> Vec<Finding> {
    let gaps = history.labels.get(label).map(|of_label| of_label.chains.examine(at).gaps);
    let gaps: BTreeSet<SnapshotId> =
        gaps.unwrap_or_default().into_iter().map(|gap| gap.id).collect();
    let there = history.of(label);
    let is_lost = |seen: &&Seen| {
        seen.promised_until > at
            && !gaps.contains(&seen.id)
            && !there.iter().any(|each| seen.is(each))
    };
    seen.iter()
        .filter(is_lost)
        .map(|seen| {
            let (looked_at, until) = (time(looked_at), time(seen.promised_until));
            let what = format!(
                "snapshot {} of {label} was there {looked_at}, is promised until {until}, and nothing that is there names it: the storage shows an older state",
                seen.id
            );
            Finding::at(FindingKind::Rollback, seen.key(label), &what)
        })
        .collect()
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod years;
