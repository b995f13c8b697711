//! `stonekeepd.toml`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use stonekeep_format::{
    codec::{CodecError, Recipients},
    ids::{Label, SegmentId},
    tier::Tier,
};

use crate::{
    ConfigError, DatabaseConfig, Environment, NotifyConfig, RepositoryConfig, ServiceConfig,
    StatusConfig, defaults, file, origin, repository, tier::TierConfig, value,
};

/// What `stonekeepd` is told by its file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DaemonConfig {
    /// Where this was read from.
    #[serde(skip)]
    pub path: PathBuf,
    /// The host's signing key, an OpenSSH Ed25519 private key.
    pub signer_file: PathBuf,
    /// The owner's public key, in the format of `ssh-keygen -Y verify`.
    pub allowed_signers_file: PathBuf,
    /// What the daemon keeps for itself; mode 0700.
    #[serde(default = "defaults::state_dir")]
    pub state_dir: PathBuf,
    /// Plaintext and ciphertext in memory at the same time, in bytes.
    #[serde(
        rename = "memory_budget",
        default = "defaults::memory_budget_bytes",
        deserialize_with = "value::memory_budget"
    )]
    pub memory_budget_bytes: u64,
    /// zstd's level.
    #[serde(
        default = "defaults::compression_level",
        deserialize_with = "value::compression_level"
    )]
    pub compression_level: i32,
    /// A list of segment ids, one a line, that are stored again by the next run.
    pub distrust_file: Option<PathBuf>,
    /// Where figures of the last run are written for Prometheus; `%l` in the file's name is the label.
    pub metrics_file: Option<PathBuf>,
    /// The directory of `pg_dump`, with `%v` for the server's major; absent: it is looked for.
    pub pg_bindir: Option<String>,
    /// How the service goes about its schedules.
    #[serde(default)]
    pub service: ServiceConfig,
    /// Whom the daemon tells of what is wrong.
    #[serde(default)]
    pub notify: NotifyConfig,
    /// What the service shows of itself.
    #[serde(default)]
    pub status: StatusConfig,
    encryption: Encryption,
    #[serde(default, rename = "repository")]
    repositories: Vec<RepositoryConfig>,
    #[serde(default, rename = "tier")]
    tiers: Vec<TierConfig>,
    #[serde(default, rename = "database")]
    databases: Vec<DatabaseConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encryption {
    recipients: Vec<String>,
}

impl DaemonConfig {
    /// Reads and checks a file. The secret files that it names are read later, and only by those who need them: `stonekeep
    /// init` runs where they are not.
    ///
    /// # Errors
    /// [`ConfigError`]: it cannot be read, parsed or used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::of(path, &file::read_file(path)?)
    }

    /// The same with what the command line names, else `STONEKEEP_CONFIG`, else the usual file.
    ///
    /// # Errors
    /// As [`DaemonConfig::load`].
    pub fn find(named: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        let (path, text) = origin::text(named, defaults::DAEMON_FILE, environment)?;
        Self::of(&path, &text)
    }

    fn of(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config = Self { path: path.to_owned(), ..parse(path, text)? };
        config.check()?;
        Ok(config)
    }

    /// Returns the age recipients, two or more.
    #[must_use]
    pub fn recipients(&self) -> &[String] {
        &self.encryption.recipients
    }

    /// Returns the memory budget of one run of the service, in bytes: those that run at the same time share it.
    #[must_use]
    pub fn run_budget_bytes(&self) -> u64 {
        self.memory_budget_bytes / (self.service.parallel.max(1) as u64)
    }

    /// Returns the retention tiers, one or more.
    #[must_use]
    pub fn tiers(&self) -> Vec<Tier> {
        self.tiers.iter().map(Tier::from).collect()
    }

    /// Returns the repositories, one or more, each with a name of its own.
    #[must_use]
    pub fn repositories(&self) -> &[RepositoryConfig] {
        &self.repositories
    }

    /// Returns the repository of this name; without a name, the first.
    ///
    /// # Errors
    /// [`ConfigError::NoSuchRepository`]; [`ConfigError::Missing`], which no loaded file shows.
    pub fn repository(&self, name: Option<&str>) -> Result<&RepositoryConfig, ConfigError> {
        repository::named(&self.path, &self.repositories, name)
    }

    /// Reads which segments are stored again although they seem to be there: one id on each line; `#` begins a comment.
    ///
    /// # Errors
    /// [`ConfigError::Distrust`]; as [`file::read_text`].
    pub fn distrusted(
        &self,
        environment: &Environment,
    ) -> Result<BTreeSet<SegmentId>, ConfigError> {
        let Some(path) = &self.distrust_file else { return Ok(BTreeSet::new()) };
        let text = file::read_text(path, environment)?;
        let ids = text.lines().enumerate().filter_map(|(at, line)| {
            let id = line.split('#').next().unwrap_or_default().trim();
            let bad = |_| ConfigError::Distrust { path: path.clone(), line: at + 1 };
            (!id.is_empty()).then(|| id.parse().map_err(bad))
        });
        ids.collect()
    }

    /// Returns the databases as the file has them; one of several stands for all of them.
    #[must_use]
    pub fn databases(&self) -> &[DatabaseConfig] {
        &self.databases
    }

    /// Returns, of all databases, those of these labels, each once and in their order; all if there are no labels.
    ///
    /// # Errors
    /// [`ConfigError::NoSuchLabel`].
    pub fn choose(
        &self,
        all: Vec<DatabaseConfig>,
        labels: &[Label],
    ) -> Result<Vec<DatabaseConfig>, ConfigError> {
        let known: BTreeSet<&Label> = all.iter().map(|database| &database.name).collect();
        if let Some(label) = labels.iter().find(|label| !known.contains(label)) {
            return Err(ConfigError::NoSuchLabel {
                label: label.to_string(),
                path: self.path.clone(),
                known: known.into_iter().map(Label::as_str).collect::<Vec<_>>().join(", "),
            });
        }
        let wanted =
            |database: &DatabaseConfig| labels.is_empty() || labels.contains(&database.name);
        Ok(all.into_iter().filter(wanted).collect())
    }

    /// Reads the signing key.
    ///
    /// # Errors
    /// As [`file::read_key`].
    pub fn signer(&self, environment: &Environment) -> Result<SecretString, ConfigError> {
        file::read_key(&self.signer_file, environment)
    }

    /// Reads the owner's public key.
    ///
    /// # Errors
    /// As [`file::read_text`].
    pub fn allowed_signers(&self, environment: &Environment) -> Result<String, ConfigError> {
        file::read_text(&self.allowed_signers_file, environment)
    }

    /// What no single value can show.
    fn check(&self) -> Result<(), ConfigError> {
        self.repository(None)?;
        let repositories = self.repositories.iter().map(|repository| repository.name.as_str());
        self.check_names(
            "[[repository]]",
            "one with name, bucket and region",
            "repositories",
            repositories,
        )?;
        self.check_recipients()?;
        self.check_budget()?;
        self.notify.check(&self.path)?;
        let tiers = || self.tiers.iter().map(|tier| tier.name.as_str());
        self.check_names("[[tier]]", "one with name, every and keep", "tiers", tiers())?;
        for repository in &self.repositories {
            repository.check_tiers(&self.path, tiers())?;
        }
        let databases = self.databases.iter().map(|database| database.name.as_str());
        self.check_names("[[database]]", "one with name and url", "databases", databases)
    }

    /// Each of the databases that are backed up at the same time needs the least budget for itself.
    fn check_budget(&self) -> Result<(), ConfigError> {
        if self.run_budget_bytes() >= defaults::MEMORY_BUDGET_BYTES_MIN {
            return Ok(());
        }
        Err(ConfigError::Budget { path: self.path.clone(), parallel: self.service.parallel })
    }

    fn check_recipients(&self) -> Result<(), ConfigError> {
        let path = self.path.clone();
        match Recipients::parse(self.recipients()) {
            Ok(_) => Ok(()),
            Err(CodecError::TooFewRecipients(found)) => {
                Err(ConfigError::TooFewRecipients { path, found })
            }
            Err(source) => Err(ConfigError::Recipients { path, source: Box::new(source) }),
        }
    }

    fn check_names<'n>(
        &self,
        section: &'static str,
        example: &'static str,
        plural: &'static str,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                return Err(ConfigError::NotUnique {
                    path: self.path.clone(),
                    what: plural,
                    name: name.to_owned(),
                });
            }
        }
        if seen.is_empty() {
            return Err(ConfigError::Missing { path: self.path.clone(), what: section, example });
        }
        Ok(())
    }
}

/// Parses TOML. The error has the place and the reason, and not the line itself as `toml` would print it: secrets have been
/// seen in such lines.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ConfigError::Syntax {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: error.message().trim_end().replace('\n', "; "),
        }
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
