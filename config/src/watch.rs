//! `[watch]`: what a watcher expects, and whom it tells.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::NaiveDate;
use secrecy::SecretString;
use serde::Deserialize;
use stonekeep_format::ids::Label;

use crate::{ConfigError, DatabaseConfig, Environment, notify, reader::file_of, value};

/// What `stonekeep watch` is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// How old the newest snapshot of a database may be that is not named below.
    #[serde(default, deserialize_with = "value::age")]
    pub age_max: Option<Duration>,
    /// How much may be stored within a day, in bytes.
    #[serde(rename = "bytes_per_day_max", default, deserialize_with = "value::size")]
    pub bytes_per_day_max: Option<u64>,
    /// How old the newest record of `stonekeepd prove` may be.
    #[serde(default, deserialize_with = "value::age")]
    pub prove_age_max: Option<Duration>,
    /// How old the newest drill of a database may be.
    #[serde(default, deserialize_with = "value::age")]
    pub drill_age_max: Option<Duration>,
    /// Where figures are written for Prometheus, with `%r` for the repository's name.
    pub metrics_file: Option<String>,
    /// A file that holds the URL to call when all is well.
    pub ping_url_file: Option<PathBuf>,
    /// A file that holds the URL to post what is wrong to.
    pub webhook_url_file: Option<PathBuf>,
    /// The databases of which there must be snapshots.
    #[serde(default, rename = "database")]
    pub databases: Vec<WatchedDatabase>,
}

/// A database of which there must be snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchedDatabase {
    /// Its label.
    pub name: Label,
    /// How old its newest snapshot may be.
    #[serde(default, deserialize_with = "value::age")]
    pub age_max: Option<Duration>,
}

impl WatchConfig {
    /// Returns where the figures of a repository are written.
    #[must_use]
    pub fn metrics_file(&self, repository: &str) -> Option<PathBuf> {
        self.metrics_file.as_deref().map(|file| file_of(file, repository))
    }

    /// Reads the URL to call when all is well. It is a secret: whoever knows it can feign that.
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
        match self.databases.iter().find(|database| !seen.insert(&database.name)) {
            None => Ok(()),
            Some(twice) => Err(ConfigError::NotUnique {
                path: path.to_owned(),
                what: "watched databases",
                name: twice.name.to_string(),
            }),
        }
    }
}

/// Writes the section for `databases`.
pub(crate) fn render(text: &mut String, databases: &[DatabaseConfig], today: NaiveDate) {
    text.push_str("\n[watch]\n# age_max = \"3h\"   # of databases that are not named here\n");
    for database in databases {
        let name = toml::Value::from(database.name.as_str());
        if !database.databases.is_empty() {
            text.push_str(&format!(
                "# The databases of {name} are known by pattern: name here those that must be there.\n"
            ));
            continue;
        }
        text.push_str(&format!("[[watch.database]]\nname = {name}\n"));
        if let Some(age_max) = database.age_max(today) {
            let minutes = age_max.as_secs().div_ceil(60);
            text.push_str(&format!("age_max = \"{minutes}m\"\n"));
        }
    }
}
