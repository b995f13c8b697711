//! Why a command fails.

use std::{error::Error, io, path::PathBuf, process::ExitCode};

use stonekeep_config::{ConfigError, url::UrlError};
use stonekeep_engine::{
    audit::AuditError,
    drill::{DrillError, DrillRecordError},
    extend::ExtendError,
    fetch::FetchError,
    history::FindError,
    init::InitError,
    list::ListError,
    policy::PolicyError,
    prove::ProveError,
    repository::RepositoryError,
    restore::RestoreError,
    rotate::RotateError,
    verify::VerifyError,
    watch::WatchError,
    witness::WitnessError,
};
use stonekeep_format::{ErrorKind, ids::Label, signature::SignatureError};
use stonekeep_postgres::connect::ConnectError;
use stonekeep_process::{
    failure::{self, FailureReport},
    notify::NotifyError,
};
use stonekeep_store::{DirectoryError, StoreError};

use crate::drill::signed::ReportError;

/// Why the process ends without having done what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The owner's public key.
    #[error("cannot use allowed_signers_file {}", path.display())]
    AllowedSigners { path: PathBuf, source: Box<SignatureError> },
    /// The bucket.
    #[error("cannot open the bucket of repository {name:?}")]
    Store { name: String, source: Box<StoreError> },
    /// The copy.
    #[error("cannot use the copy in {}", path.display())]
    Copy { path: PathBuf, source: Box<DirectoryError> },
    /// The repository.
    #[error(transparent)]
    Repository(Box<RepositoryError>),
    /// The snapshot's name.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The chains.
    #[error(transparent)]
    Audit(Box<AuditError>),
    /// What was seen before.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// `show`.
    #[error(transparent)]
    List(Box<ListError>),
    /// `verify`.
    #[error("cannot verify the snapshot")]
    Verify(#[source] Box<VerifyError>),
    /// `fetch`.
    #[error(transparent)]
    Fetch(Box<FetchError>),
    /// `extend`.
    #[error("cannot prolong the locks")]
    Extend(#[source] Box<ExtendError>),
    /// `watch`.
    #[error("cannot judge the repository")]
    Watch(#[source] Box<WatchError>),
    /// The URL of somebody to tell.
    #[error("cannot use {option}")]
    Notifier { option: &'static str, source: NotifyError },
    /// `extend` or `watch` of a copy.
    #[error("`stonekeep {0}` works on a [[repository]], not on a copy in a directory")]
    NotOfACopy(&'static str),
    /// `restore`.
    #[error("cannot restore the snapshot")]
    Restore(#[source] Box<RestoreError>),
    /// `init`.
    #[error("cannot make the repository")]
    Init(#[source] Box<InitError>),
    /// `rotate`.
    #[error("cannot sign the next genesis")]
    Rotate(#[source] Box<RotateError>),
    /// `prove`.
    #[error("cannot attack the bucket")]
    Prove(#[source] Box<ProveError>),
    /// `prove` of a copy.
    #[error("a copy in a directory has no locks: name a [[repository]] or --bucket")]
    NoBucket,
    /// The report key.
    #[error("cannot use the report key {}", path.display())]
    ReportKey { path: PathBuf, source: Box<SignatureError> },
    /// `drill`.
    #[error("cannot drill the snapshot")]
    Drill(#[source] Box<DrillError>),
    /// The record of a drill.
    #[error("cannot put the record of the drill into the bucket")]
    Record(#[source] Box<DrillRecordError>),
    /// A check that would never be made.
    #[error(
        "the check {name:?} is of database {label}, of which the repository has no snapshot: correct its `database` under [[drill.check]], or leave it out"
    )]
    CheckOfNobody { name: String, label: Label },
    /// A record without a key to sign it.
    #[error(
        "a record in the bucket must be signed: give --report-key FILE, or report_key_file under [drill] in the configuration"
    )]
    NoReportKey,
    /// `--owner`.
    #[error("cannot use --owner")]
    Owner(#[source] Box<SignatureError>),
    /// A report cannot be signed.
    #[error("cannot write the report")]
    Report(#[source] Box<SignatureError>),
    /// The report to check.
    #[error("cannot read the report {}", path.display())]
    ReportFile { path: PathBuf, source: io::Error },
    /// The report to check is not what somebody signed.
    #[error("do not believe {}", path.display())]
    NotGenuine { path: PathBuf, source: Box<ReportError> },
    /// `--reporter`.
    #[error("cannot use --reporter")]
    Reporter(#[source] Box<SignatureError>),
    /// Nobody is named who may sign reports.
    #[error("no line of {} names the principal \"reporter\": add the report key's, or give --reporter SHA256:…", path.display())]
    NoReporter { path: PathBuf },
    /// Nobody to believe about a report.
    #[error("without a configuration, say whose report to believe: --reporter SHA256:…")]
    NobodyToBelieve,
    /// It was asked to stop.
    #[error("stopped by a signal before the repository was read")]
    Stopped,
    /// Nobody to believe.
    #[error(
        "without a configuration, say whom to believe: --owner SHA256:…, as the recovery kit has it"
    )]
    NoOwner,
    /// The URL of a server.
    #[error("cannot use {option}")]
    TargetUrl { option: &'static str, source: UrlError },
    /// The URL of a server.
    #[error("cannot use {option}")]
    Target { option: &'static str, source: Box<ConnectError> },
    /// No identity was named.
    #[error(
        "opening a snapshot takes an age identity: give --identity FILE, or identity_files in the configuration"
    )]
    NoIdentity,
    /// An identity file cannot be used.
    #[error("cannot use the identity file {}", path.display())]
    Identity { path: PathBuf, source: Box<age::DecryptError> },
    /// An identity file holds none.
    #[error("there is no age identity in {}: make one with age-keygen", path.display())]
    EmptyIdentity { path: PathBuf },
    /// An identity file is an age file for somebody, not for a passphrase.
    #[error("{} is an age file that no passphrase opens: decrypt it first", path.display())]
    SealedIdentity { path: PathBuf },
    /// The owner key cannot be used.
    #[error("cannot use the owner key {}: {why}", path.display())]
    OwnerKey { path: PathBuf, why: String },
    /// The signer's public key cannot be found.
    #[error(
        "cannot find the signer's public key: neither {} nor the key it belongs to can be used; copy the public key there",
        path.display()
    )]
    SignerKey { path: PathBuf, source: Box<dyn Error + Send + Sync> },
    /// `policy`.
    #[error("cannot make the policies")]
    Policies(#[from] PolicyError),
    /// A policy is not JSON.
    #[error("cannot use the policy {}", path.display())]
    Policy { path: PathBuf, source: serde_json::Error },
    /// A file that `init` would write is there and says something else.
    #[error("{} exists and says something else: move it away, or give another --out", path.display())]
    InTheWay { path: PathBuf },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// `STONEKEEP_LOG`.
    #[error("STONEKEEP_LOG is no log filter")]
    LogFilter(#[source] tracing_subscriber::filter::ParseError),
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
            Self::Store { source, .. } => source.kind(),
            Self::Copy { source, .. } => source.kind(),
            Self::Repository(source) => source.kind(),
            Self::Find(source) => source.kind(),
            Self::Audit(source) => source.kind(),
            Self::Witness(source) => source.kind(),
            Self::List(source) => source.kind(),
            Self::Verify(source) => source.kind(),
            Self::Fetch(source) => source.kind(),
            Self::Extend(source) => source.kind(),
            Self::Watch(source) => source.kind(),
            Self::Restore(source) => source.kind(),
            Self::Init(source) => source.kind(),
            Self::Rotate(source) => source.kind(),
            Self::Prove(source) => source.kind(),
            Self::Drill(source) => source.kind(),
            Self::Record(source) => source.kind(),
            Self::Policies(source) => source.kind(),
            Self::Target { source, .. } => source.kind(),
            Self::Owner(_)
            | Self::Reporter(_)
            | Self::NobodyToBelieve
            | Self::ReportFile { .. }
            | Self::NoOwner
            | Self::NoReportKey
            | Self::NoBucket
            | Self::TargetUrl { .. }
            | Self::NoIdentity
            | Self::OwnerKey { .. } => ErrorKind::Usage,
            Self::Identity { source, .. } if !matches!(**source, age::DecryptError::Io(_)) => {
                ErrorKind::Denied
            }
            Self::NotOfACopy(_)
            | Self::Notifier { .. }
            | Self::AllowedSigners { .. }
            | Self::CheckOfNobody { .. }
            | Self::ReportKey { .. }
            | Self::NoReporter { .. }
            | Self::Identity { .. }
            | Self::EmptyIdentity { .. }
            | Self::SealedIdentity { .. }
            | Self::SignerKey { .. }
            | Self::Policy { .. }
            | Self::LogFilter(_) => ErrorKind::Config,
            Self::NotGenuine { .. } => ErrorKind::Corrupt,
            Self::Report(_) => ErrorKind::Internal,
            Self::InTheWay { .. } => ErrorKind::Conflict,
            Self::Write { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::Config
            }
            Self::Stopped
            | Self::Write { .. }
            | Self::Output(_)
            | Self::Runtime(_)
            | Self::Memory(_) => ErrorKind::Unavailable,
        }
    }

    /// Describes the failure of one of several databases.
    pub(crate) fn to_report(&self) -> FailureReport {
        FailureReport::new(self, self.kind())
    }

    /// Ends the process's work: prints the failure and returns its exit code.
    pub(crate) fn end(&self, json: bool) -> ExitCode {
        failure::end("stonekeep", self, self.kind(), json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_passphrase_is_denied_and_no_identity_is_usage() {
        let source = Box::new(age::DecryptError::KeyDecryptionFailed);
        assert_eq!(
            Failure::Identity { path: PathBuf::from("x"), source }.kind(),
            ErrorKind::Denied
        );
        assert_eq!(Failure::NoIdentity.kind(), ErrorKind::Usage);
    }
}
