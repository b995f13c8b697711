//! Why the object store did not do what it was asked.

use std::{error::Error, fmt};

use stonekeep_format::{ErrorKind, ids::BucketName, key::ObjectKey, lock::Lock};

type Source = Box<dyn Error + Send + Sync>;

/// What the server said, in its own words. They are a foreign text: cut to 300 characters, without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The S3 error code, such as `AccessDenied`; empty if there was none.
    pub code: String,
    /// The message; empty if there was none.
    pub message: String,
}

impl Answer {
    pub(crate) fn new(status: u16, code: Option<&str>, message: Option<&str>) -> Self {
        let tame = |text: Option<&str>| {
            text.unwrap_or_default().chars().filter(|c| !c.is_control()).take(300).collect()
        };
        Self { status, code: tame(code), message: tame(message) }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        for text in [&self.code, &self.message] {
            if !text.is_empty() {
                write!(f, " {text}")?;
            }
        }
        Ok(())
    }
}

impl Error for Answer {}

/// Why a call to the object store failed. The display says what to do; the source, if there is one, what was answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// That version of that object does not exist (or is a delete marker).
    #[error("{key} is not there in the version asked for")]
    NotFound {
        /// The object.
        key: ObjectKey,
    },
    /// The bucket does not exist.
    #[error(
        "there is no bucket {bucket} at this endpoint: check bucket, endpoint and region, or make it with `stonekeep init`"
    )]
    NoBucket {
        /// The bucket.
        bucket: BucketName,
    },
    /// The bucket exists and cannot keep locks.
    #[error(
        "bucket {bucket} has no Object Lock: make a new bucket with Object Lock (most servers cannot turn it on later)"
    )]
    NoObjectLock {
        /// The bucket.
        bucket: BucketName,
    },
    /// The name is taken by someone else's bucket.
    #[error("bucket {bucket} belongs to someone else: choose another name")]
    BucketTaken {
        /// The bucket.
        bucket: BucketName,
    },
    /// The credential is known and may not do this.
    #[error(
        "the storage credential may not {action} in bucket {bucket}: grant it that right, or use the credential of the right role"
    )]
    Denied {
        /// What was tried, with the right it needs.
        action: &'static str,
        /// The bucket.
        bucket: BucketName,
        /// What the server said.
        source: Answer,
    },
    /// The server does not know the access key, or the secret or token does not belong to it.
    #[error(
        "the storage credential for bucket {bucket} is wrong or has expired: check access key, secret and session token"
    )]
    BadCredentials {
        /// The bucket.
        bucket: BucketName,
        /// What the server said.
        source: Answer,
    },
    /// No credential was found, or the place that holds it cannot be read.
    #[error(
        "no storage credential could be loaded: set credentials_file, or one of the AWS chain (environment, profile, web identity, instance role)"
    )]
    NoCredentials {
        /// What the credential chain said.
        source: Source,
    },
    /// The server refused the request because of its date.
    #[error(
        "the host's clock and the clock of bucket {bucket} are too far apart: set the host's clock (NTP)"
    )]
    Skewed {
        /// The bucket.
        bucket: BucketName,
        /// What the server said.
        source: Answer,
    },
    /// The bucket lives in another region than the configured one.
    #[error("bucket {bucket} is not in region {region}: set region (and endpoint) to where it is")]
    WrongRegion {
        /// The bucket.
        bucket: BucketName,
        /// The configured region.
        region: String,
        /// What the server said, often with the right region.
        source: Answer,
    },
    /// No connection to the endpoint.
    #[error("cannot connect to {endpoint}: check endpoint, network and firewall")]
    Unreachable {
        /// The endpoint.
        endpoint: String,
        /// What the connection said.
        source: Source,
    },
    /// The endpoint speaks no TLS, or its certificate is not trusted.
    #[error(
        "no trusted TLS connection to {endpoint}: set ca_file to the authority that issued its certificate, or correct the endpoint"
    )]
    Untrusted {
        /// The endpoint.
        endpoint: String,
        /// What the handshake said.
        source: Source,
    },
    /// The server is there and did not do it this time: an error of its own, overload, a lost connection, a timeout.
    #[error("the object store did not {action}: try again later")]
    Unavailable {
        /// What was tried.
        action: &'static str,
        /// What happened.
        source: Source,
    },
    /// The object is longer than what is expected there; nothing beyond the limit was read.
    #[error("{key} is longer than the {bytes_max} bytes that such an object can have")]
    TooLong {
        /// The object.
        key: ObjectKey,
        /// The limit in bytes.
        bytes_max: u64,
    },
    /// There is an object of that name already.
    #[error("{key} exists already")]
    Exists {
        /// The object.
        key: ObjectKey,
    },
    /// The server took the object and not its lock.
    #[error("the object store did not keep the lock of {key}: asked for {}, found {}; it cannot be trusted with backups as it is configured", Told(Some(wanted)), Told(found.as_ref()))]
    LockNotKept {
        /// The object.
        key: ObjectKey,
        /// What was asked for.
        wanted: Lock,
        /// What was read back.
        found: Option<Lock>,
    },
    /// The server refused the request for a reason of its own; repeating it will not help.
    #[error("the object store refused to {action}")]
    Rejected {
        /// What was tried.
        action: &'static str,
        /// What the server said.
        source: Answer,
    },
    /// The answer is not that of an S3 server with versions.
    #[error(
        "the endpoint's answer to the request to {action} makes no sense: is it an S3 endpoint with versioning?"
    )]
    BadAnswer {
        /// What was tried.
        action: &'static str,
        /// What is wrong with it.
        source: Source,
    },
    /// The options cannot be used.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

impl StoreError {
    /// Returns what to do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::TooLong { .. } | Self::BadAnswer { .. } => {
                ErrorKind::Corrupt
            }
            Self::NoBucket { .. }
            | Self::NoObjectLock { .. }
            | Self::Skewed { .. }
            | Self::WrongRegion { .. }
            | Self::Untrusted { .. }
            | Self::LockNotKept { .. }
            | Self::Rejected { .. }
            | Self::Options(_) => ErrorKind::Config,
            Self::BucketTaken { .. } | Self::Exists { .. } => ErrorKind::Conflict,
            Self::Denied { .. } | Self::BadCredentials { .. } | Self::NoCredentials { .. } => {
                ErrorKind::Denied
            }
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
        }
    }

    /// Whether the same call may succeed a moment later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unavailable { .. })
    }
}

/// What is wrong with [`crate::S3Options`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The endpoint is no URL of the form that is taken.
    #[error(
        "endpoint {endpoint:?} must be a URL like https://s3.example.com or https://s3.example.com:8443, without path, user or query"
    )]
    Endpoint {
        /// What was given.
        endpoint: String,
    },
    /// Plain http to another host.
    #[error(
        "endpoint {endpoint} must be https: plain http is taken on loopback only (127.0.0.0/8, [::1], localhost)"
    )]
    PlainHttp {
        /// What was given.
        endpoint: String,
    },
    /// The prefix cannot be put before keys.
    #[error(
        "prefix {prefix:?} must have at most 120 of A-Z a-z 0-9 - _ . / and neither begin nor end with a slash"
    )]
    Prefix {
        /// What was given.
        prefix: String,
    },
    /// A file could not be read.
    #[error("cannot read {option} {}", path.display())]
    File {
        /// Which option names it.
        option: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file holds no usable certificate.
    #[error("ca_file {} holds no PEM certificate that can be used as an authority", path.display())]
    CaFile {
        /// The file.
        path: std::path::PathBuf,
    },
    /// No region.
    #[error("region is empty: set it to the bucket's region (us-east-1 if the server has none)")]
    Region,
}

struct Told<'a>(Option<&'a Lock>);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(lock) => write!(f, "{} until {}", lock.mode, lock.retain_until.to_rfc3339()),
            None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_are_cut_and_tamed() {
        let long = format!("bad\u{1b}[31m\n{}", "x".repeat(1000));
        let answer = Answer::new(400, Some("InvalidArgument"), Some(&long));
        assert_eq!(answer.message.chars().count(), 300);
        assert!(answer.to_string().starts_with("the server answered 400 InvalidArgument bad[31mx"));
    }
}
