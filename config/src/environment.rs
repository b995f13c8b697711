//! The environment variables that count: this is the only place that reads them.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf};

use secrecy::SecretString;

/// What the environment says, read once at the start. (The AWS SDK reads its own variables, and libpq's children get theirs
/// from us.)
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `CREDENTIALS_DIRECTORY`: where systemd puts `LoadCredential=` files.
    pub credentials_directory: Option<PathBuf>,
    /// `PGPASSFILE`.
    pub pgpassfile: Option<PathBuf>,
    /// `PGPASSWORD`.
    pub pgpassword: Option<SecretString>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `TMPDIR`.
    pub tmpdir: Option<PathBuf>,
    /// Every variable, for the configuration in one ([`crate::origin`]) and for the files that it names as `env:NAME`
    /// ([`mod@crate::file`]).
    pub variables: Variables,
    /// `STONEKEEP_LOG`: which log lines are shown, in the language of `tracing`'s `EnvFilter`; see
    /// [`crate::defaults::LOG_FILTER`].
    pub log_filter: Option<String>,
    /// `STONEKEEP_LOG_FORMAT`: `text` or `json`.
    pub log_format: Option<String>,
}

/// Every variable of the process. `Debug` shows none of them: some hold secrets.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<OsString, OsString>);

impl Variables {
    /// Returns a variable that is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables")
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Environment {
    /// Reads the variables of this process. One that is empty or (where text is needed) not UTF-8 counts as absent.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |name| variable(name).and_then(|value| value.into_string().ok());
        Self {
            credentials_directory: variable("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            pgpassfile: variable("PGPASSFILE").map(PathBuf::from),
            pgpassword: text("PGPASSWORD").map(SecretString::from),
            home: variable("HOME").map(PathBuf::from),
            tmpdir: variable("TMPDIR").map(PathBuf::from),
            variables: std::env::vars_os().collect(),
            log_filter: text("STONEKEEP_LOG"),
            log_format: text("STONEKEEP_LOG_FORMAT"),
        }
    }

    /// Returns where temporary files belong: `TMPDIR`, or `/tmp`.
    #[must_use]
    pub fn temp_dir(&self) -> PathBuf {
        self.tmpdir.clone().unwrap_or_else(|| PathBuf::from("/tmp"))
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
