//! The repository on an S3 server.
//!
//! Every setting of the SDK that matters is fixed in `connect`; what an answer means is in `answer`.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use aws_sdk_s3::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    presigning::PresigningConfig,
};
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use stonekeep_format::{Clock, genesis::LockBy, ids::BucketName, key::ObjectKey};

use crate::{OptionsError, StoreError};

mod answer;
mod append;
mod connect;
mod endpoint;
mod facts;
mod page;
mod probe;
mod provision;
mod read;
mod wire;

pub use probe::S3Probe;

use self::answer::Call;

/// Where a repository lies and as whom to go there.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The bucket.
    pub bucket: BucketName,
    /// What stands before every key, without slash at its ends; empty: the bucket holds this repository alone.
    pub prefix: String,
    /// The region requests are signed for.
    pub region: String,
    /// `https://host[:port]`; `http://` on loopback only. `None`: AWS.
    pub endpoint: Option<String>,
    /// Whether the bucket goes into the path and not into the host name, as most servers other than AWS want it.
    pub path_style: bool,
    /// The authorities to trust (PEM) instead of the system's.
    pub authorities: Option<Authorities>,
    /// Who names the locks: each PUT, or the bucket, whose default then holds.
    pub lock_by: LockBy,
    /// Who asks.
    pub credentials: S3Credentials,
}

/// Certificates (PEM) of authorities.
#[derive(Debug, Clone)]
pub enum Authorities {
    /// In a file.
    File(PathBuf),
    /// As given.
    Text {
        /// What messages call it.
        name: PathBuf,
        /// The certificates.
        pem: String,
    },
}

/// Where the credential comes from.
#[derive(Debug, Clone)]
pub enum S3Credentials {
    /// The AWS chain: environment, profile, web identity, container, instance role.
    Chain,
    /// A profile of a file in the format of `~/.aws/credentials`.
    File {
        /// The file.
        path: PathBuf,
        /// The profile in it, usually `default`.
        profile: String,
    },
    /// A profile of a text in that format.
    Text {
        /// The text.
        text: SecretString,
        /// The profile in it.
        profile: String,
    },
    /// As given.
    Static {
        /// The public half.
        access_key_id: String,
        /// The secret half.
        secret_access_key: SecretString,
        /// Of temporary credentials.
        session_token: Option<SecretString>,
    },
}

/// A repository on an S3 server. It has all three roles' methods; what it may do, its credential decides.
pub struct S3Store {
    client: Client,
    bucket: BucketName,
    /// Empty, or ending with a slash.
    prefix: String,
    region: String,
    endpoint: Option<String>,
    lock_by: LockBy,
    clock: Arc<dyn Clock>,
    /// Whether `If-None-Match` is sent: until the server says that it does not know it.
    conditional: AtomicBool,
}

impl S3Store {
    /// Returns a store over `options`. `clock` is the host's: it dates requests and waits between tries. No request is made, and
    /// a wrong credential or endpoint shows with the first.
    ///
    /// # Errors
    /// [`StoreError::Options`].
    pub async fn open(options: S3Options, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let prefix = slashed(&options.prefix)?;
        if options.region.is_empty() {
            return Err(OptionsError::Region.into());
        }
        options.endpoint.as_deref().map_or(Ok(()), endpoint::check)?;
        let client = connect::client(&options, Arc::clone(&clock)).await?;
        let S3Options { bucket, region, endpoint, lock_by, .. } = options;
        let conditional = AtomicBool::new(true);
        Ok(Self { client, bucket, prefix, region, endpoint, lock_by, clock, conditional })
    }

    fn call<'a>(&'a self, action: &'static str, key: Option<&'a ObjectKey>) -> Call<'a> {
        Call {
            action,
            key,
            bucket: &self.bucket,
            region: &self.region,
            endpoint: self.endpoint.as_deref().unwrap_or("AWS S3"),
        }
    }

    /// Returns the address of the bucket, ended by a slash, as the SDK finds it: what it would ask for an object, without that.
    async fn address(&self) -> Result<String, StoreError> {
        let call = self.call("find the address of the bucket", None);
        let expires = PresigningConfig::expires_in(Duration::from_secs(60));
        let expires = expires.map_err(|error| call.bad_answer(error))?;
        let object = self.client.get_object().bucket(self.bucket.as_str()).key("x");
        let presigned = object.presigned(expires).await.map_err(|error| call.failed(error))?;
        let address = presigned.uri().split('?').next().and_then(|uri| uri.strip_suffix('x'));
        address.map(str::to_owned).ok_or_else(|| call.bad_answer("an address without the object"))
    }

    fn full_key(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.prefix)
    }
}

/// The repository's prefix as it stands before keys.
fn slashed(prefix: &str) -> Result<String, OptionsError> {
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    if prefix.is_empty() {
        return Ok(String::new());
    }
    let bounded = prefix.len() <= 120 && prefix.bytes().all(valid);
    if !bounded || prefix.split('/').any(str::is_empty) {
        return Err(OptionsError::Prefix { prefix: prefix.chars().take(200).collect() });
    }
    Ok(format!("{prefix}/"))
}

/// Whole seconds, as S3 keeps them, rounded up: what is read back is never shorter than what was asked.
fn whole_seconds(at: DateTime<Utc>) -> aws_sdk_s3::primitives::DateTime {
    let part = i64::from(at.timestamp_subsec_nanos() > 0);
    aws_sdk_s3::primitives::DateTime::from_secs(at.timestamp().saturating_add(part))
}

fn when(at: &aws_sdk_s3::primitives::DateTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(at.secs(), at.subsec_nanos())
}

/// Asked for the lock of an object in a bucket that has none: AWS and Ceph answer 400 with a message of their own.
fn says_bucket_without_lock<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let message = error.message().unwrap_or_default().to_ascii_lowercase();
    error.code() == Some("InvalidRequest") && message.contains("lock")
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_put_before_keys_with_one_slash() {
        assert_eq!(slashed("").unwrap(), "");
        assert_eq!(slashed("stonekeep").unwrap(), "stonekeep/");
        assert_eq!(slashed("acme/prod").unwrap(), "acme/prod/");
        for wrong in ["/", "/a", "a/", "a//b", "a b", "ä", &"x".repeat(121)] {
            assert!(matches!(slashed(wrong), Err(OptionsError::Prefix { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_lock_is_asked_for_in_whole_seconds_rounded_up() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(
            when(&whole_seconds(at("2027-01-01T00:00:00.001Z"))),
            Some(at("2027-01-01T00:00:01Z"))
        );
        assert_eq!(
            when(&whole_seconds(at("2027-01-01T00:00:00Z"))),
            Some(at("2027-01-01T00:00:00Z"))
        );
    }
}
