//! Why a run of the daemon's commands fails.

use std::{io, path::PathBuf, process::ExitCode};

use stonekeep_config::ConfigError;
use stonekeep_engine::{backup::BackupError, prove::ProveError, repository::RepositoryError};
use stonekeep_format::{ErrorKind, ids::Label, signature::SignatureError};
use stonekeep_postgres::{connect::ConnectError, source::DumpError};
use stonekeep_process::{
    failure::{self, FailureReport},
    notify::{MailError, NotifyError},
};
use stonekeep_store::StoreError;

use crate::log::{About, Voice};

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
    /// A backup that another run is taking.
    #[error("{label} was skipped")]
    Skipped { label: Label, source: Box<BackupError> },
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
    /// It did not get on.
    #[error(
        "{label} was ended: nothing moved for {minutes} minutes; look at the server and the bucket, or raise stall_max"
    )]
    Stalled { label: Label, minutes: u64 },
    /// Its runs were killed.
    #[error(
        "{label} was begun {tries} times and each run was killed before it ended: look at the system's log; is memory short?"
    )]
    Killed { label: Label, tries: u32 },
    /// Nothing is on a schedule.
    #[error(
        "no [[database]] has a schedule: give one, such as schedule = \"15 * * * *\", or call `stonekeepd backup` instead"
    )]
    NoSchedule,
    /// A schedule that never comes.
    #[error("the schedule of {label} names a day that never comes: correct it")]
    Never { label: Label },
    /// A task of ours panicked.
    #[error("an internal task failed; no snapshot of {label} was made")]
    Task { label: Label, source: tokio::task::JoinError },
    /// `STONEKEEP_LOG`.
    #[error("STONEKEEP_LOG is no log filter")]
    LogFilter(#[source] tracing_subscriber::filter::ParseError),
    /// `STONEKEEP_LOG_FORMAT`.
    #[error("STONEKEEP_LOG_FORMAT is neither text nor json")]
    LogFormat,
    /// The URL of somebody to tell.
    #[error("cannot use {option}")]
    Notifier { option: &'static str, source: NotifyError },
    /// The mail.
    #[error("cannot use [notify.mail]")]
    Mail(#[source] MailError),
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
            | Self::Skipped { source, .. }
            | Self::BackupInto { source, .. }
            | Self::Check { source, .. } => source.kind(),
            Self::Prove { source, .. } => source.kind(),
            Self::Repository { source, .. } => source.kind(),
            Self::Signer { .. }
            | Self::AllowedSigners { .. }
            | Self::Url { .. }
            | Self::NoDatabase { .. }
            | Self::TwoOfALabel { .. }
            | Self::NoSchedule
            | Self::Never { .. }
            | Self::Metrics { .. }
            | Self::Notifier { .. }
            | Self::Mail(_)
            | Self::LogFormat
            | Self::LogFilter(_) => ErrorKind::Config,
            Self::Task { .. } => ErrorKind::Internal,
            Self::Stopped { .. }
            | Self::Killed { .. }
            | Self::Stalled { .. }
            | Self::Output(_)
            | Self::Runtime(_)
            | Self::Memory(_) => ErrorKind::Unavailable,
        }
    }

    /// Ends the process's work: prints the failure, with `json` also as the document on stdout, and returns its exit code.
    pub(crate) fn end(&self, voice: Voice, json: bool) -> ExitCode {
        self.print(voice);
        if json {
            failure::document(self, self.kind());
        }
        ExitCode::from(self.kind().exit_code())
    }

    /// Prints the failure, of one database of several or of all.
    pub(crate) fn print(&self, voice: Voice) {
        failure::print(PROGRAM, self, self.kind(), self.about(), voice.is_json());
    }

    /// Whether somebody asked it to stop.
    pub(crate) fn is_stop(&self) -> bool {
        match self {
            Self::Stopped { .. } => true,
            Self::Backup { source, .. } | Self::BackupInto { source, .. } => {
                matches!(**source, BackupError::Cancelled)
            }
            _ => false,
        }
    }

    fn about(&self) -> About<'_> {
        let (label, repository) = match self {
            Self::BackupInto { label, repository, .. } | Self::Check { label, repository, .. } => {
                (Some(label), Some(repository))
            }
            Self::Url { label, .. }
            | Self::Databases { label, .. }
            | Self::NoDatabase { label }
            | Self::TwoOfALabel { label }
            | Self::Backup { label, .. }
            | Self::Skipped { label, .. }
            | Self::Killed { label, .. }
            | Self::Never { label }
            | Self::Task { label, .. }
            | Self::Stalled { label, .. }
            | Self::Stopped { label } => (Some(label), None),
            Self::Prove { repository, .. }
            | Self::Repository { repository, .. }
            | Self::Store { name: repository, .. } => (None, Some(repository)),
            _ => (None, None),
        };
        About { label, repository: repository.map(String::as_str) }
    }

    /// Returns the failure as the document on stdout has it.
    pub(crate) fn to_report(&self) -> FailureReport {
        FailureReport::new(self, self.kind())
    }
}
