//! What an attack on the own repository found: the record that `prove` leaves in the bucket.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{BucketName, Label, RepositoryId, SnapshotId},
    key::ObjectKey,
    signature::{Namespace, SignedDocument},
};

/// What one probe, or all of them, come to. Ordered from good to bad: of several, the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Refused, as it must be; or as it should be, if it is no attack.
    Pass,
    /// Not tried, and why is said.
    Skipped,
    /// The server does not keep this one rule, which no promise rests on. It is named.
    Lacking,
    /// The answer tells neither. It is never a pass.
    Inconclusive,
    /// The attack succeeded, or would have but for its own form.
    Fail,
}

impl Verdict {
    /// Returns it as documents spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Skipped => "skipped",
            Self::Lacking => "lacking",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
        }
    }
}

/// Whose rights were tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The writer's own credential: it is refused everything but adding.
    Authority,
    /// The lock: even a credential that may delete is refused.
    Lock,
}

/// What became of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeLine {
    /// The bucket it was sent to.
    pub bucket: BucketName,
    /// Its name in `docs/operations.md`, such as `S1`.
    pub id: String,
    /// What was tried.
    pub what: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// What the server answered, or why nothing was sent.
    pub detail: String,
}

/// The record of one run, under `canary/<id>/record`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProveRecord {
    /// [`ProveRecord::FORMAT`], or that of [`LockProof`].
    pub format: String,
    /// The repository.
    pub repository: RepositoryId,
    /// The key this document lies under.
    pub key: ObjectKey,
    /// The run; also in its canaries' keys.
    pub id: SnapshotId,
    /// Whose rights were tried.
    pub proof: Proof,
    /// When this document was signed, by the storage server's clock.
    pub written_at: DateTime<Utc>,
    /// The worst of the verdicts.
    pub verdict: Verdict,
    /// Every probe.
    pub probes: Vec<ProbeLine>,
}

impl SignedDocument for ProveRecord {
    const NAMESPACE: Namespace = Namespace::Prove;
    const FORMAT: &'static str = "stonekeep/prove/1";
    /// 256 KiB: some fifty probes for each of a few tens of buckets.
    const BYTES_MAX: u64 = 256 << 10;

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
        None
    }
    fn signed_at(&self) -> DateTime<Utc> {
        self.written_at
    }
}

/// The record of a lock proof: the same, signed by a report key, since no signer is at the provisioner's host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LockProof(pub ProveRecord);

impl SignedDocument for LockProof {
    const NAMESPACE: Namespace = Namespace::Report;
    const FORMAT: &'static str = "stonekeep/lock-proof/1";
    const BYTES_MAX: u64 = ProveRecord::BYTES_MAX;

    fn format(&self) -> &str {
        &self.0.format
    }
    fn repository(&self) -> RepositoryId {
        self.0.repository
    }
    fn key(&self) -> &ObjectKey {
        &self.0.key
    }
    fn label(&self) -> Option<&Label> {
        None
    }
    fn signed_at(&self) -> DateTime<Utc> {
        self.0.written_at
    }
}
