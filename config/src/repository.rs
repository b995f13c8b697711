//! `[[repository]]`: where the snapshots lie. The same in both files.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de::Error};
use stonekeep_format::{genesis::LockBy, ids::BucketName, lock::LockMode};

use crate::{ConfigError, Environment, Given, defaults, file};

/// A prefix in a bucket, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// Its name in messages.
    pub name: String,
    /// The bucket; it must have Object Lock.
    pub bucket: BucketName,
    /// What all keys begin with, without the slash; empty for none.
    #[serde(default, deserialize_with = "prefix")]
    pub prefix: String,
    /// The region, as the provider names it.
    pub region: String,
    /// The address of the server; absent: AWS.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path of the URL and not in the host name.
    #[serde(default)]
    pub path_style: bool,
    /// Certificates (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Who names the locks' dates: the writer on each PUT, or the bucket.
    #[serde(default = "per_object", rename = "lock")]
    pub lock_by: LockBy,
    /// With `bucket-default`: the bucket of each tier.
    #[serde(default, rename = "tier")]
    pub tiers: Vec<RepositoryTier>,
    /// Whether a right to bypass locks may exist: `COMPLIANCE` (the default; nobody can) or `GOVERNANCE`. Signed into the
    /// genesis by `stonekeep init`, which is the only one to read it here.
    #[serde(default = "compliance")]
    pub lock_mode: LockMode,
    /// A copy of the genesis as `stonekeep init` writes it, for a writer that may not read the bucket.
    pub genesis_file: Option<PathBuf>,
    /// Access keys in AWS's ini format; absent: the SDK's chain (environment, profile, web identity, instance role).
    pub credentials_file: Option<PathBuf>,
}

/// What it takes to reach a repository besides its address.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Access keys in AWS's ini format; absent: the SDK's chain.
    pub credentials: Option<Given>,
    /// Certificates (PEM) to trust besides the system's.
    pub authorities: Option<Given>,
}

/// The bucket of one tier.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryTier {
    /// The name of the `[[tier]]`.
    pub name: String,
    /// The bucket, whose default retention locks what is put there.
    pub bucket: BucketName,
}

impl RepositoryConfig {
    /// Returns the repository of a bucket with nothing but defaults.
    #[must_use]
    pub fn new(bucket: BucketName, region: String) -> Self {
        Self {
            name: bucket.to_string(),
            bucket,
            prefix: String::new(),
            region,
            endpoint: None,
            path_style: false,
            ca_file: None,
            lock_by: LockBy::PerObject,
            tiers: Vec::new(),
            lock_mode: LockMode::Compliance,
            genesis_file: None,
            credentials_file: None,
        }
    }

    /// Returns what else than its address it takes to reach it: the access key of `credentials` (the command line's) or else
    /// of the configuration, and the authorities.
    ///
    /// # Errors
    /// As [`file::given_private`] and [`file::given`].
    pub fn access(
        &self,
        credentials: Option<&Path>,
        environment: &Environment,
    ) -> Result<Access, ConfigError> {
        self.access_of(credentials.or(self.credentials_file.as_deref()), environment)
    }

    /// The same with the access key of `credentials` alone, or else the SDK's chain: that of the configuration is a writer's or
    /// a reader's.
    ///
    /// # Errors
    /// As [`RepositoryConfig::access`].
    pub fn access_of(
        &self,
        credentials: Option<&Path>,
        environment: &Environment,
    ) -> Result<Access, ConfigError> {
        Ok(Access {
            credentials: credentials
                .map(|path| file::given_private(path, environment))
                .transpose()?,
            authorities: file::given(self.ca_file.as_deref(), environment)?,
        })
    }

    /// Checks that each of these tiers has a bucket if buckets name the locks, and none has one if they do not.
    ///
    /// # Errors
    /// [`ConfigError::TierBuckets`].
    pub(crate) fn check_tiers<'t>(
        &self,
        path: &Path,
        mut tiers: impl Iterator<Item = &'t str>,
    ) -> Result<(), ConfigError> {
        let wrong = |what: String| {
            let (path, repository) = (path.to_owned(), self.name.clone());
            Err(ConfigError::TierBuckets { path, repository, what })
        };
        if self.lock_by == LockBy::PerObject {
            return match self.tiers.first() {
                None => Ok(()),
                Some(_) => {
                    wrong("[[repository.tier]] goes with lock = \"bucket-default\" only".to_owned())
                }
            };
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = self.tiers.iter().find(|tier| !seen.insert(&tier.name)) {
            return wrong(format!("two [[repository.tier]] are named {:?}", twice.name));
        }
        match tiers.find(|tier| !self.tiers.iter().any(|each| each.name == *tier)) {
            None => Ok(()),
            Some(tier) => wrong(format!(
                "tier {tier:?} has no bucket: add a [[repository.tier]] with name = {tier:?} and bucket"
            )),
        }
    }

    /// Reads the copy of the genesis, if one is named.
    ///
    /// # Errors
    /// As [`file::read_text`].
    pub fn genesis(&self, environment: &Environment) -> Result<Option<String>, ConfigError> {
        let path = self.genesis_file.as_deref();
        path.map(|path| file::read_text(path, environment)).transpose()
    }
}

/// Returns the repository of this name; without a name the first one of a file.
pub(crate) fn named<'r>(
    path: &Path,
    repositories: &'r [RepositoryConfig],
    name: Option<&str>,
) -> Result<&'r RepositoryConfig, ConfigError> {
    let found = match name {
        None => repositories.first(),
        Some(name) => repositories.iter().find(|repository| repository.name == name),
    };
    let Some(name) = name else {
        return found.ok_or_else(|| ConfigError::Missing {
            path: path.to_owned(),
            what: "[[repository]]",
            example: "one with name, bucket and region",
        });
    };
    found.ok_or_else(|| ConfigError::NoSuchRepository {
        name: name.to_owned(),
        path: path.to_owned(),
        known: repositories
            .iter()
            .map(|repository| repository.name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    })
}

const fn per_object() -> LockBy {
    LockBy::PerObject
}

const fn compliance() -> LockMode {
    LockMode::Compliance
}

fn prefix<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let part = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain)
    };
    let valid =
        text.is_empty() || text.len() <= defaults::PREFIX_BYTES_MAX && text.split('/').all(part);
    if valid {
        return Ok(text);
    }
    Err(D::Error::custom(
        "a prefix is up to 100 characters of A-Z a-z 0-9 - _ . and single slashes between them, such as \"acme/stonekeep\"",
    ))
}
