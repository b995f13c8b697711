//! What each role may do in the buckets, as the provider wants to be told: policies, lifecycle rules, Terraform.
//!
//! A pure function of the configuration: no server is asked and nothing is applied. The four roles and their rights are in
//! `rights`, once; each provider's file says them in its own way, and says in a note what it cannot say.

mod aws;
mod b2;
mod ceph;
mod document;
mod expiry;
mod minio;
mod principal;
mod rights;
mod terraform;

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::Serialize;
use stonekeep_format::{ErrorKind, genesis::LockBy, ids::BucketName, lock::LockMode};

/// What the policies are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyPlan {
    /// Whose policies.
    pub provider: Provider,
    /// The buckets, each once; the one with the genesis first.
    pub buckets: Vec<PolicyBucket>,
    /// What all keys begin with, without the slash; empty for none.
    pub prefix: String,
    /// The region of the buckets.
    pub region: String,
    /// Whether the server is reached by TLS. Only then can a policy demand it.
    pub tls: bool,
    /// Who names the date of a lock.
    pub lock_by: LockBy,
    /// The mode of locks.
    pub lock_mode: LockMode,
    /// The shortest keep.
    pub floor: Duration,
    /// The longest lock.
    pub cap: Duration,
    /// Who has each role: ARNs, or the names of users where the provider has no ARNs. A role without any gets a placeholder.
    pub principals: BTreeMap<Role, Vec<String>>,
    /// Whether the writer may neither list nor read, and so keeps its chain on its own host.
    pub write_only: bool,
    /// Whether the restorer may add records of drills.
    pub record_drills: bool,
}

/// A bucket of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyBucket {
    /// Its name.
    pub name: BucketName,
    /// Whether snapshots lie in it. If buckets name the locks, the one of the genesis may hold nothing else.
    pub holds_snapshots: bool,
    /// The days of its default retention, if the bucket names the locks.
    pub default_days: Option<u32>,
}

/// Who keeps the buckets: those whose way of granting rights is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// Amazon S3.
    Aws,
    /// Ceph's RADOS gateway, with users that belong to no account.
    Ceph,
    /// `MinIO`.
    Minio,
    /// `RustFS`.
    Rustfs,
    /// Backblaze B2.
    B2,
}

impl Provider {
    /// All of them, by name.
    pub const NAMES: [(&str, Self); 5] = [
        ("aws", Self::Aws),
        ("ceph", Self::Ceph),
        ("minio", Self::Minio),
        ("rustfs", Self::Rustfs),
        ("b2", Self::B2),
    ];
}

/// The name is none of [`Provider::NAMES`].
#[derive(Debug, thiserror::Error)]
#[error("no such provider")]
pub struct NoSuchProvider;

impl FromStr for Provider {
    type Err = NoSuchProvider;
    fn from_str(text: &str) -> Result<Self, NoSuchProvider> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, provider)| *provider).ok_or(NoSuchProvider)
    }
}

/// A role: what a credential is for. Nobody has two of: a right to delete, an identity, the signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The daemon: adds.
    Writer,
    /// The one that looks from outside: lists, and reads what holds no rows.
    Watcher,
    /// The one that restores: reads everything.
    Restorer,
    /// A person, once: makes and configures the buckets.
    Provisioner,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Writer, Self::Watcher, Self::Restorer, Self::Provisioner];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Watcher => "watcher",
            Self::Restorer => "restorer",
            Self::Provisioner => "provisioner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A file for the provider's own tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyFile {
    /// What it is called.
    pub name: String,
    /// What it says; ends with a newline.
    pub text: String,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyReport {
    /// The files.
    pub files: Vec<PolicyFile>,
    /// Sentences for the person: how to apply the files, what is still to be replaced, what the provider cannot enforce.
    pub notes: Vec<String>,
}

/// Why there are no policies.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// A principal cannot be one.
    #[error("{text:?} cannot be the {role}: expected {expected}")]
    Principal {
        /// The role.
        role: Role,
        /// What was given.
        text: String,
        /// What is taken.
        expected: &'static str,
    },
    /// The writer would have the rights of another role, or lose its own.
    #[error("{text:?} is the writer and the {role}: give the writer a credential of its own")]
    WriterIsAnother {
        /// The other role.
        role: Role,
        /// Who it is.
        text: String,
    },
}

impl PolicyError {
    /// Returns what to do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Principal { .. } | Self::WriterIsAnother { .. } => ErrorKind::Usage,
        }
    }
}

/// Makes the files of the plan's provider.
///
/// # Errors
/// [`PolicyError`]: a principal cannot be one.
pub fn policy(plan: &PolicyPlan) -> Result<PolicyReport, PolicyError> {
    let principals = principal::all(plan)?;
    let mut report = match plan.provider {
        Provider::Aws => aws::report(plan, &principals),
        Provider::Ceph => ceph::report(plan, &principals),
        Provider::Minio | Provider::Rustfs => minio::report(plan, &principals),
        Provider::B2 => b2::report(plan, &principals),
    };
    report.notes.extend(missing(plan, &principals));
    Ok(report)
}

/// Says which names are placeholders.
fn missing(plan: &PolicyPlan, principals: &principal::Principals) -> Option<String> {
    // A key of B2 is made by the commands: any name will do.
    let is_missing = |role: &Role| {
        plan.provider != Provider::B2 && plan.principals.get(role).is_none_or(Vec::is_empty)
    };
    let placeholders: Vec<&str> = Role::ALL
        .into_iter()
        .filter(is_missing)
        .flat_map(|role| principals.of(role))
        .map(String::as_str)
        .collect();
    let options = "give --writer, --watcher, --restorer, --provisioner";
    (!placeholders.is_empty())
        .then(|| format!("Still to be replaced: {} ({options}).", placeholders.join(", ")))
}

/// What `text` is in a file of this name.
fn file(name: impl Into<String>, text: impl Into<String>) -> PolicyFile {
    PolicyFile { name: name.into(), text: text.into() }
}

/// Returns the name of the file with the policy of a bucket. `stonekeep init --policy DIR` looks for it.
#[must_use]
pub fn bucket_policy_file(bucket: &BucketName) -> String {
    format!("bucket-policy-{bucket}.json")
}

#[cfg(test)]
mod tests;
