//! The root of a repository: who may sign, who can open, how long things are kept. Signed by the owner key.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{BucketName, Digest, Label, RepositoryId},
    key::ObjectKey,
    lock::LockMode,
    signature::{Namespace, SignatureError, SignedDocument, Trust},
    tier::{Every, secs},
};

/// What a repository is: the document under `genesis/<n>`. The highest `n` whose signature verifies is in force.
///
/// Readers ignore fields they do not know; a change that they must not ignore is a new `format`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// [`Genesis::FORMAT`].
    pub format: String,
    /// The repository, the same in all successors.
    pub repository: RepositoryId,
    /// The key this document lies under.
    pub key: ObjectKey,
    /// Its number, from 1.
    pub n: u32,
    /// When it was signed.
    pub created_at: DateTime<Utc>,
    /// The BLAKE3 digest of the genesis before it, as stored; absent in the first.
    pub previous: Option<Digest>,
    /// The keys that may sign manifests and attempts.
    pub signers: Vec<GenesisSigner>,
    /// The age recipients of every segment, two or more.
    pub recipients: Vec<String>,
    /// How locks are set.
    pub lock: GenesisLock,
    /// The tiers, each with its bucket.
    pub tiers: Vec<GenesisTier>,
    /// How each bucket was configured when this was signed, part by part: what a watcher expects to find. The texts are
    /// compared and never interpreted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expected: BTreeMap<BucketName, BTreeMap<String, String>>,
    /// What the server told an authorised caller, by the probe of `prove`, of requests that can take effect nowhere: the
    /// writer must be told something else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calibration: BTreeMap<String, u16>,
}

/// A key that may sign, and when. Its fields are those of an `allowed_signers` line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisSigner {
    /// The public key, one line of OpenSSH text.
    pub public_key: String,
    /// Signatures dated earlier do not count.
    pub valid_from: DateTime<Utc>,
    /// Signatures dated at this instant or later do not count.
    pub valid_until: Option<DateTime<Utc>>,
}

/// How the repository's objects are locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisLock {
    /// `COMPLIANCE`, or `GOVERNANCE` for those who asked for it.
    pub mode: LockMode,
    /// Who names the date: each PUT, or the bucket.
    pub by: LockBy,
    /// The shortest keep that a snapshot may promise, in seconds.
    #[serde(rename = "floor_secs", with = "secs")]
    pub floor: Duration,
    /// The longest lock that an object may have, in seconds: [`crate::lock::cap`] of the longest keep.
    #[serde(rename = "cap_secs", with = "secs")]
    pub cap: Duration,
}

/// Who names the retain-until date of a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockBy {
    /// The writer, by headers on each PUT (mode B).
    PerObject,
    /// The bucket's default retention; the writer names none (mode A).
    BucketDefault,
}

impl LockBy {
    /// Returns it as documents and configuration spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PerObject => "per-object",
            Self::BucketDefault => "bucket-default",
        }
    }
}

/// A retention tier and where its snapshots lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisTier {
    /// The tier's name in the configuration.
    pub name: String,
    /// Its calendar period.
    pub every: Every,
    /// How long its snapshots are kept, in seconds.
    #[serde(rename = "keep_secs", with = "secs")]
    pub keep: Duration,
    /// Its bucket (the same for all tiers unless the bucket names the lock).
    pub bucket: BucketName,
}

impl SignedDocument for Genesis {
    const NAMESPACE: Namespace = Namespace::Genesis;
    const FORMAT: &'static str = "stonekeep/genesis/1";
    /// 64 KiB: hundreds of signers and recipients.
    const BYTES_MAX: u64 = 64 << 10;

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
        self.created_at
    }
}

impl Genesis {
    /// Returns the trust in manifests, attempts and prove records that this genesis gives.
    ///
    /// # Errors
    /// [`SignatureError::Key`] if a signer's line is no public key.
    pub fn trust(&self) -> Result<Trust, SignatureError> {
        let mut trust = Trust::none();
        let namespaces = [Namespace::Manifest, Namespace::Attempt, Namespace::Prove];
        for signer in &self.signers {
            trust.allow(
                &signer.public_key,
                &namespaces,
                Some(signer.valid_from),
                signer.valid_until,
            )?;
        }
        Ok(trust)
    }
}
