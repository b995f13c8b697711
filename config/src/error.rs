//! Why a configuration cannot be used.

use std::{io, path::PathBuf};

use stonekeep_format::{ErrorKind, codec::CodecError};

/// Why a configuration, or a file that it names, cannot be used. None of them repeats the content of a secret file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is longer than any file of its kind.
    #[error("{} is longer than {bytes_max} bytes: it is not the file that belongs here", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        bytes_max: u64,
    },
    /// The file is not UTF-8.
    #[error("{} is not text (UTF-8)", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The TOML cannot be parsed, or a value or name in it is not what belongs there.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// Something there must be one of is not there.
    #[error("{}: there is no {what}; add {example}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What.
        what: &'static str,
        /// What it could look like.
        example: &'static str,
    },
    /// Two of something have the same name.
    #[error("{}: two {what} have the name {name:?}; give each its own", path.display())]
    NotUnique {
        /// The file.
        path: PathBuf,
        /// What, in the plural.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Fewer than two recipients.
    #[error(
        "{}: [encryption] recipients holds {found}, and two or more are needed, so that losing one identity does not lose the backups; make another with age-keygen",
        path.display()
    )]
    TooFewRecipients {
        /// The file.
        path: PathBuf,
        /// How many there are.
        found: usize,
    },
    /// Too many databases at the same time for the memory there is.
    #[error(
        "{}: [service] parallel = {parallel} leaves each database less than 64MiB of the memory_budget: lower the one or raise the other",
        path.display()
    )]
    Budget {
        /// The file.
        path: PathBuf,
        /// Databases at the same time.
        parallel: usize,
    },
    /// A recipient cannot be used.
    #[error("{}: [encryption] recipients cannot be used", path.display())]
    Recipients {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<CodecError>,
    },
    /// A repository on the command line is not in the file.
    #[error("there is no [[repository]] of the name {name:?} in {}; it has {known}", path.display())]
    NoSuchRepository {
        /// What was asked for.
        name: String,
        /// The file.
        path: PathBuf,
        /// The names it has, separated by commas.
        known: String,
    },
    /// The tiers' buckets do not go with who names the locks.
    #[error("{}: repository {repository:?}: {what}", path.display())]
    TierBuckets {
        /// The file.
        path: PathBuf,
        /// The repository.
        repository: String,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The list of distrusted segments has a line that is no id.
    #[error("{}, line {line}: not a segment id (64 hexadecimal digits, as `stonekeep verify` prints them)", path.display())]
    Distrust {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A bucket and a directory.
    #[error("{}: there is a directory and a [[repository]]; leave one of them out", path.display())]
    TwoPlaces {
        /// The file.
        path: PathBuf,
    },
    /// One file for several repositories, each of which would overwrite the others'.
    #[error(
        "{}: {option} is one file, and there are several repositories: put %r into it, which stands for the repository's name",
        path.display()
    )]
    SharedFile {
        /// The file.
        path: PathBuf,
        /// What names it.
        option: &'static str,
    },
    /// Whom to tell, and how, does not go together.
    #[error("{}: {what}", path.display())]
    Notify {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: &'static str,
    },
    /// A label on the command line is not in the file.
    #[error("there is no [[database]] of the name {label:?} in {}; it has {known}", path.display())]
    NoSuchLabel {
        /// What was asked for.
        label: String,
        /// The file.
        path: PathBuf,
        /// The labels it has, separated by commas.
        known: String,
    },
    /// A secret file can be read by others.
    #[error("{} holds a secret and is open to group or others (mode {mode:04o}): chmod 600 it", path.display())]
    OpenSecret {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A variable that the configuration names is not there.
    #[error("env:{name}: the environment has no variable {name}, or an empty one")]
    NoVariable {
        /// Its name.
        name: String,
    },
    /// Something behind `env:` that cannot be a name. It is not repeated: it may be the secret itself.
    #[error(
        "what stands behind env: in the configuration is no name of a variable: letters, digits and _, such as env:STONEKEEP_SIGNER"
    )]
    NoName,
    /// A secret file is empty.
    #[error("{} is empty", path.display())]
    EmptySecret {
        /// The file.
        path: PathBuf,
    },
}

impl ConfigError {
    /// Returns what to do about it: fix the configuration, or (a label that is not in it) the command line.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchLabel { .. } | Self::NoSuchRepository { .. } => ErrorKind::Usage,
            _ => ErrorKind::Config,
        }
    }
}
