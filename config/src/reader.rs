//! `stonekeep.toml`.

use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use serde::Deserialize;
use stonekeep_format::genesis::LockBy;

use crate::{
    ConfigError, DatabaseConfig, DrillConfig, Environment, RepositoryConfig, WatchConfig,
    daemon::parse, defaults, file, origin, repository, repository::RepositoryTier, watch,
};

/// What `stonekeep` is told by its file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReaderConfig {
    /// Where this was read from.
    #[serde(skip)]
    pub path: PathBuf,
    /// The owner's public key, in the format of `ssh-keygen -Y verify`.
    pub allowed_signers_file: PathBuf,
    /// Files with age identities, which open segments; `--identity` takes their place.
    #[serde(default)]
    pub identity_files: Vec<PathBuf>,
    /// The directory of `pg_restore`, with `%v` for the server's major; absent: it is looked for.
    pub pg_bindir: Option<String>,
    /// Where a watcher remembers what it saw, with `%r` for the repository's name.
    witness_file: Option<String>,
    /// What `stonekeep watch` expects, and whom it tells.
    #[serde(default)]
    pub watch: WatchConfig,
    /// How a restore drill is made.
    #[serde(default)]
    pub drill: DrillConfig,
    directory: Option<PathBuf>,
    #[serde(default, rename = "repository")]
    repositories: Vec<RepositoryConfig>,
}

/// Where a reader finds the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts<'c> {
    /// `[[repository]]`: in a bucket.
    Bucket(&'c RepositoryConfig),
    /// `directory`: in a copy that `stonekeep fetch --sealed` wrote.
    Directory(&'c Path),
}

/// What stands for the repository's name in `witness_file` and `metrics_file`.
pub(crate) const REPOSITORY_NAME: &str = "%r";

/// Returns the file of one repository, of a name that stands for one of each.
pub(crate) fn file_of(file: &str, repository: &str) -> PathBuf {
    file.replace(REPOSITORY_NAME, repository).into()
}

const IDENTITIES: &str = "\
# identity_files = [\"/path/identity\"]   # age identities, mode 0600; or give --identity
";
const CREDENTIALS: &str = "# credentials_file = \"/path/reader-credentials\"   # else: environment, profile, web identity, instance role\n";

impl ReaderConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`]: it cannot be read, parsed or used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::of(path, &file::read_file(path)?)
    }

    /// The same with what the command line names, else `STONEKEEP_CONFIG`, else the usual file.
    ///
    /// # Errors
    /// As [`ReaderConfig::load`].
    pub fn find(named: Option<&Path>, environment: &Environment) -> Result<Self, ConfigError> {
        let (path, text) = origin::text(named, defaults::READER_FILE, environment)?;
        Self::of(&path, &text)
    }

    fn of(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config = Self { path: path.to_owned(), ..parse(path, text)? };
        config.repository(None)?;
        config.watch.check(path)?;
        config.drill.check(path)?;
        for repository in &config.repositories {
            // Which tiers there are, the genesis says.
            repository.check_tiers(path, std::iter::empty())?;
        }
        let is_shared = |file: &Option<String>| {
            let is_one = file.as_ref().is_some_and(|file| !file.contains(REPOSITORY_NAME));
            is_one && config.repositories.len() > 1
        };
        let written = [
            ("witness_file", &config.witness_file),
            ("metrics_file", &config.watch.metrics_file),
            ("metrics_file", &config.drill.metrics_file),
        ];
        if let Some((option, _)) = written.into_iter().find(|(_, file)| is_shared(file)) {
            return Err(ConfigError::SharedFile { path: path.to_owned(), option });
        }
        Ok(config)
    }

    /// Returns a configuration of one bucket, for whoever has no file.
    #[must_use]
    pub fn of_bucket(repository: RepositoryConfig) -> Self {
        Self { repositories: vec![repository], ..Self::default() }
    }

    /// Returns a configuration of a copy, for whoever has no file.
    #[must_use]
    pub fn of_copy(directory: PathBuf) -> Self {
        Self { directory: Some(directory), ..Self::default() }
    }

    /// Returns where the witness of the repository of this name is, if one is kept. A copy in a directory has none.
    ///
    /// # Errors
    /// As [`ReaderConfig::repository`].
    pub fn witness_file(&self, name: Option<&str>) -> Result<Option<PathBuf>, ConfigError> {
        let (Some(file), Whereabouts::Bucket(repository)) =
            (&self.witness_file, self.repository(name)?)
        else {
            return Ok(None);
        };
        Ok(Some(file_of(file, &repository.name)))
    }

    /// Returns where the repository of this name is; without a name, the first. A directory is one
    /// repository, whatever its name.
    ///
    /// # Errors
    /// [`ConfigError::NoSuchRepository`]; [`ConfigError::Missing`] and [`ConfigError::TwoPlaces`], neither of which a loaded
    /// file shows.
    pub fn repository(&self, name: Option<&str>) -> Result<Whereabouts<'_>, ConfigError> {
        match self.directory.as_deref() {
            None => {
                repository::named(&self.path, &self.repositories, name).map(Whereabouts::Bucket)
            }
            Some(directory) if self.repositories.is_empty() => {
                Ok(Whereabouts::Directory(directory))
            }
            Some(_) => Err(ConfigError::TwoPlaces { path: self.path.clone() }),
        }
    }

    /// Returns the text of a file that names `repositories`, as `stonekeep init` writes it for readers, and lets a watcher expect
    /// what the schedules of `databases` say for the year from `today`. The writer's credentials are not in it: a reader has its
    /// own.
    #[must_use]
    pub fn render(
        allowed_signers_file: &Path,
        repositories: &[RepositoryConfig],
        databases: &[DatabaseConfig],
        today: NaiveDate,
    ) -> String {
        let mut text = String::from("# Written by `stonekeep init`.\n");
        let mut add =
            |name: &str, value: toml::Value| text.push_str(&format!("{name} = {value}\n"));
        add("allowed_signers_file", path_value(allowed_signers_file));
        text.push_str(IDENTITIES);
        for repository in repositories {
            render_repository(&mut text, repository);
        }
        watch::render(&mut text, databases, today);
        text
    }

    /// Reads the owner's public key.
    ///
    /// # Errors
    /// As [`file::read_text`].
    pub fn allowed_signers(&self, environment: &Environment) -> Result<String, ConfigError> {
        file::read_text(&self.allowed_signers_file, environment)
    }
}

fn render_repository(text: &mut String, repository: &RepositoryConfig) {
    text.push_str("\n[[repository]]\n");
    let mut add = |name: &str, value: toml::Value| text.push_str(&format!("{name} = {value}\n"));
    add("name", repository.name.as_str().into());
    add("bucket", repository.bucket.as_str().into());
    if !repository.prefix.is_empty() {
        add("prefix", repository.prefix.as_str().into());
    }
    add("region", repository.region.as_str().into());
    if let Some(endpoint) = &repository.endpoint {
        add("endpoint", endpoint.as_str().into());
    }
    if repository.path_style {
        add("path_style", true.into());
    }
    if let Some(ca_file) = &repository.ca_file {
        add("ca_file", path_value(ca_file));
    }
    if repository.lock_by == LockBy::BucketDefault {
        add("lock", "bucket-default".into());
    }
    text.push_str(CREDENTIALS);
    for RepositoryTier { name, bucket } in &repository.tiers {
        text.push_str("[[repository.tier]]\n");
        for (field, value) in [("name", name.as_str()), ("bucket", bucket.as_str())] {
            text.push_str(&format!("{field} = {}\n", toml::Value::from(value)));
        }
    }
}

/// Paths that are not UTF-8 cannot stand in TOML; they come from TOML or the command line of a person, who will see it.
fn path_value(path: &Path) -> toml::Value {
    path.to_string_lossy().into_owned().into()
}
