//! `stonekeep.toml`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{ConfigError, RepositoryConfig, daemon::parse, file, repository};

/// What `stonekeep` is told by its file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
    #[serde(default, rename = "repository")]
    repositories: Vec<RepositoryConfig>,
}

impl ReaderConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`]: it cannot be read, parsed or used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config = Self { path: path.to_owned(), ..parse(path, &file::read_text(path)?)? };
        repository::only(path, &config.repositories)?;
        Ok(config)
    }

    /// Returns the repository.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] and [`ConfigError::SeveralRepositories`], neither of which a loaded file shows.
    pub fn repository(&self) -> Result<&RepositoryConfig, ConfigError> {
        repository::only(&self.path, &self.repositories)
    }

    /// Reads the owner's public key.
    ///
    /// # Errors
    /// As [`file::read_text`].
    pub fn allowed_signers(&self) -> Result<String, ConfigError> {
        file::read_text(&self.allowed_signers_file)
    }
}
