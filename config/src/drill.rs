//! `[drill]`: how a restore drill is made, what is asked of the restored database, and who is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;
use serde::Deserialize;
use stonekeep_format::ids::Label;

use crate::{ConfigError, Environment, defaults, notify, reader::file_of, value};

/// What `stonekeep drill` is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DrillConfig {
    /// A file that holds the SSH key that signs reports, and nothing else.
    pub report_key_file: Option<PathBuf>,
    /// The directory that reports are written to.
    pub report_dir: Option<PathBuf>,
    /// The directory in which the scratch server is made, and removed again; absent: that for temporary files.
    pub scratch_dir: Option<PathBuf>,
    /// Connections that load and compare.
    #[serde(deserialize_with = "value::jobs")]
    pub jobs: usize,
    /// How long a restore may take.
    #[serde(deserialize_with = "value::rto_max")]
    pub rto_max: Option<Duration>,
    /// Whether a record of each drill is put into the bucket.
    pub record: bool,
    /// The access key that puts it there; absent: the repository's own.
    pub record_credentials_file: Option<PathBuf>,
    /// Settings of the scratch server, such as `shared_preload_libraries`.
    pub settings: BTreeMap<String, String>,
    /// Where figures are written for Prometheus, with `%r` for the repository's name.
    pub metrics_file: Option<String>,
    /// A file that holds the URL to call when every drill of a run passed.
    pub ping_url_file: Option<PathBuf>,
    /// A file that holds the URL to post what is wrong to.
    pub webhook_url_file: Option<PathBuf>,
    /// What is asked of the restored database.
    #[serde(rename = "check")]
    pub checks: Vec<DrillCheckConfig>,
}

impl Default for DrillConfig {
    fn default() -> Self {
        Self {
            report_key_file: None,
            report_dir: None,
            scratch_dir: None,
            jobs: defaults::JOBS,
            rto_max: None,
            record: false,
            record_credentials_file: None,
            settings: BTreeMap::new(),
            metrics_file: None,
            ping_url_file: None,
            webhook_url_file: None,
            checks: Vec::new(),
        }
    }
}

/// One question to the restored database, and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillCheckConfig {
    /// What reports call it; its SQL is not in them.
    pub name: String,
    /// The database it is asked of; absent: each.
    pub database: Option<Label>,
    /// A query that answers with one row of one column.
    pub sql: String,
    /// The answer, as PostgreSQL prints it: `t` and `f` are the truth values.
    pub expect: String,
    /// How long it may take.
    #[serde(default, deserialize_with = "value::timeout")]
    pub timeout: Option<Duration>,
}

impl DrillConfig {
    /// Returns where the figures of a repository are written.
    #[must_use]
    pub fn metrics_file(&self, repository: &str) -> Option<PathBuf> {
        self.metrics_file.as_deref().map(|file| file_of(file, repository))
    }

    /// Reads the URL to call when all drills passed. It is a secret: whoever knows it can feign that.
    ///
    /// # Errors
    /// As [`crate::file::read_secret`].
    pub fn ping_url(&self, environment: &Environment) -> Result<Option<SecretString>, ConfigError> {
        notify::secret(self.ping_url_file.as_deref(), environment)
    }

    /// Reads the URL to post what is wrong to, a secret as well.
    ///
    /// # Errors
    /// As [`crate::file::read_secret`].
    pub fn webhook_url(
        &self,
        environment: &Environment,
    ) -> Result<Option<SecretString>, ConfigError> {
        notify::secret(self.webhook_url_file.as_deref(), environment)
    }

    /// What no single value can show.
    pub(crate) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        match self.checks.iter().find(|check| !seen.insert((&check.name, &check.database))) {
            None => Ok(()),
            Some(twice) => Err(ConfigError::NotUnique {
                path: path.to_owned(),
                what: "checks of a drill",
                name: twice.name.clone(),
            }),
        }
    }
}
