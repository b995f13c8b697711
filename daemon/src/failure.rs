//! Why a run of the daemon's commands fails.

use std::{io, path::PathBuf, process::ExitCode};

use stonekeep_config::ConfigError;
use stonekeep_engine::{backup::BackupError, prove::ProveError, repository::RepositoryError};
use stonekeep_format::{ErrorKind, ids::Label, signature::SignatureError};
use stonekeep_postgres::{connect::ConnectError, source::DumpError};
use stonekeep_process::failure::{self, FailureReport};
use stonekeep_store::StoreError;

const PROGRAM: &str = "stonekeepd";

/// Why the process ends without having done what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The signing key.
    #[error("cannot use signer_file {}", path.display())]
    Signer { path: PathBuf, source: Box<SignatureError> },
    /// The owner's key.
    #[error("cannot use allowed_signers_file {}", path.display())]
    AllowedSigners { path: PathBuf, source: Box<SignatureError> },
    /// The URL of a database.
    #[error("cannot use the url of database {label}")]
    Url { label: Label, source: Box<ConnectError> },
    /// The list of a server's databases.
    #[error("cannot list the databases of {label}")]
    Databases { label: Label, source: Box<DumpError> },
    /// No database matches.
    #[error(
        "no database of {label} matches its `databases`: correct the patterns, or the role may not see them"
    )]
    NoDatabase { label: Label },
    /// Two databases have one label.
    #[error(
        "two databases have the label {label}: only the first is backed up; give one of their entries another name"
    )]
    TwoOfALabel { label: Label },
    /// The bucket.
    #[error("cannot open the bucket of repository {name:?}")]
    Store { name: String, source: Box<StoreError> },
    /// A backup.
    #[error("cannot back up {label}")]
    Backup { label: Label, source: Box<BackupError> },
    /// A backup into one repository.
    #[error("cannot back up {label} into {repository}")]
    BackupInto { label: Label, repository: String, source: Box<BackupError> },
    /// A check that could not be made at all.
    #[error("cannot check {label} in {repository}")]
    Check { label: Label, repository: String, source: Box<BackupError> },
    /// A repository that could not be attacked.
    #[error("cannot attack repository {repository}")]
    Prove { repository: String, source: Box<ProveError> },
    /// A repository whose genesis cannot be read.
    #[error("cannot open repository {repository}")]
    Repository { repository: String, source: Box<RepositoryError> },
    /// It was not begun.
    #[error("stopped by a signal before {label} was begun")]
    Stopped { label: Label },
    /// `STONEKEEP_LOG`.
    #[error("STONEKEEP_LOG is no log filter")]
    LogFilter(#[source] tracing_subscriber::filter::ParseError),
    /// The file for Prometheus.
    #[error("cannot write metrics_file {}", path.display())]
    Metrics { path: PathBuf, source: io::Error },
    /// Standard output.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// The operating system did not let us begin.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    /// A certificate or key that is in no file.
    #[error("there is no memory for a certificate or key that is in no file")]
    Memory(#[source] io::Error),
}

impl Failure {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(source) => source.kind(),
            Self::Databases { source, .. } => source.kind(),
            Self::Store { source, .. } => source.kind(),
            Self::Backup { source, .. }
            | Self::BackupInto { source, .. }
            | Self::Check { source, .. } => source.kind(),
            Self::Prove { source, .. } => source.kind(),
            Self::Repository { source, .. } => source.kind(),
            Self::Signer { .. }
            | Self::AllowedSigners { .. }
            | Self::Url { .. }
            | Self::NoDatabase { .. }
            | Self::TwoOfALabel { .. }
            | Self::Metrics { .. }
            | Self::LogFilter(_) => ErrorKind::Config,
            Self::Stopped { .. } | Self::Output(_) | Self::Runtime(_) | Self::Memory(_) => {
                ErrorKind::Unavailable
            }
        }
    }

    /// Ends the process's work: prints the failure and returns its exit code.
    pub(crate) fn end(&self, json: bool) -> ExitCode {
        failure::end(PROGRAM, self, self.kind(), json)
    }

    /// Prints the failure of one database of several.
    pub(crate) fn print(&self, json: bool) {
        failure::print(PROGRAM, self, self.kind(), json);
    }

    /// Returns the failure as the document on stdout has it.
    pub(crate) fn to_report(&self) -> FailureReport {
        FailureReport::new(self, self.kind())
    }
}
