//! PostgreSQL's own programs: which ones, and how they run as children.

use std::path::{Path, PathBuf};

use stonekeep_format::ErrorKind;

/// The newest major whose programs are looked for.
const MAJOR_MAX: u32 = 20;
/// Where the packages of Debian and PostgreSQL put them.
const DEFAULT_PATTERN: &str = "/usr/lib/postgresql/%v/bin";

/// Where PostgreSQL's programs are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolDirs {
    /// A directory in which `%v` stands for the major version; absent: Debian's.
    pub pattern: Option<String>,
}

/// There is no such program.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot find {tool} of PostgreSQL {major} or newer in {looked_in}: install the client package (postgresql-client-{major}), or set pg_bindir"
)]
pub struct ToolError {
    tool: String,
    major: u32,
    looked_in: String,
}

impl ToolError {
    /// Returns what to do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Config
    }
}

impl ToolDirs {
    /// Finds `tool` of the server's major, else of the next higher one. Debian's wrapper in `/usr/bin`, which chooses a
    /// version by its own rules, is never taken.
    ///
    /// # Errors
    /// [`ToolError`].
    pub fn find(&self, tool: &str, major: u32) -> Result<PathBuf, ToolError> {
        let pattern = self.pattern();
        let in_major =
            |major: u32| Path::new(&pattern.replace("%v", &major.to_string())).join(tool);
        let missing = || ToolError { tool: tool.to_owned(), major, looked_in: pattern.to_owned() };
        (major..=MAJOR_MAX.max(major)).map(in_major).find(|path| path.is_file()).ok_or_else(missing)
    }

    /// Returns the pattern that is looked in.
    pub(crate) fn pattern(&self) -> &str {
        self.pattern.as_deref().unwrap_or(DEFAULT_PATTERN)
    }
}
