//! What an answer of the server, or the lack of one, means.

use std::{error::Error, io};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use stonekeep_format::{ids::BucketName, key::ObjectKey};

use crate::{Answer, StoreError};

/// What a message needs to know of the call that failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// What was tried, in words that follow "may not", with the right it needs.
    pub(super) action: &'static str,
    /// The object, if the call is about one.
    pub(super) key: Option<&'a ObjectKey>,
    pub(super) bucket: &'a BucketName,
    pub(super) region: &'a str,
    pub(super) endpoint: &'a str,
}

impl Call<'_> {
    /// Returns what a failed call means.
    pub(super) fn failed<E>(&self, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match error {
            SdkError::ServiceError(error) => {
                let meta = error.err().meta();
                let status = error.raw().status().as_u16();
                self.answered(Answer::new(status, meta.code(), meta.message()))
            }
            // An error status without an XML body: answers to HEAD, proxies, overload.
            SdkError::ResponseError(error) => match error.raw().status().as_u16() {
                status @ 300.. => self.answered(Answer::new(status, None, None)),
                _ => self.bad_answer("an answer that cannot be parsed"),
            },
            other => self.unanswered(other.into()),
        }
    }

    /// Returns what is wrong with an answer that is none of an S3 server with versions.
    pub(super) fn bad_answer(&self, what: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        StoreError::BadAnswer { action: self.action, source: what.into() }
    }

    /// Returns what an error answer means. Codes are those of the S3 API reference; where servers differ, the status decides.
    pub(super) fn answered(&self, source: Answer) -> StoreError {
        let (action, bucket) = (self.action, self.bucket.clone());
        match source.code.as_str() {
            "NoSuchBucket" => StoreError::NoBucket { bucket },
            "BucketAlreadyExists" => StoreError::BucketTaken { bucket },
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "AuthFailure"
            | "NotSignedUp" => StoreError::BadCredentials { bucket, source },
            "RequestTimeTooSkewed" | "RequestExpired" => StoreError::Skewed { bucket, source },
            "AuthorizationHeaderMalformed"
            | "PermanentRedirect"
            | "TemporaryRedirect"
            | "IllegalLocationConstraintException"
            | "InvalidLocationConstraint"
            | "InvalidRegionName" => {
                StoreError::WrongRegion { bucket, region: self.region.to_owned(), source }
            }
            // Damaged or cut on the way, or in the way of another call: the same call may succeed.
            "BadDigest"
            | "XAmzContentSHA256Mismatch"
            | "IncompleteBody"
            | "RequestTimeout"
            | "SlowDown"
            | "OperationAborted"
            | "ConditionalRequestConflict" => {
                StoreError::Unavailable { action, source: source.into() }
            }
            code if code.starts_with("Throttl") => {
                StoreError::Unavailable { action, source: source.into() }
            }
            _ => self.by_status(source),
        }
    }

    fn by_status(&self, source: Answer) -> StoreError {
        let (action, bucket) = (self.action, self.bucket.clone());
        match (source.status, self.key) {
            // AWS does not look for a version whose id it cannot have made, as those of a copied bucket.
            (400, Some(key)) if source.message.to_ascii_lowercase().contains("version id") => {
                StoreError::NotFound { key: key.clone() }
            }
            (..=299, _) => self.bad_answer("a success that cannot be parsed"),
            // 405: the version is a delete marker.
            (404 | 405, Some(key)) => StoreError::NotFound { key: key.clone() },
            (412, Some(key)) => StoreError::Exists { key: key.clone() },
            (404, None) => self.bad_answer(source),
            (401 | 403, _) => StoreError::Denied { action, bucket, source },
            (301 | 302 | 307 | 308, _) => {
                StoreError::WrongRegion { bucket, region: self.region.to_owned(), source }
            }
            (501, _) => StoreError::Rejected { action, source },
            (408 | 429 | 500.., _) => StoreError::Unavailable { action, source: source.into() },
            _ => StoreError::Rejected { action, source },
        }
    }

    /// Returns what it means that there was no answer.
    pub(super) fn unanswered(&self, source: Box<dyn Error + Send + Sync>) -> StoreError {
        let endpoint = self.endpoint.to_owned();
        if find::<CredentialsError>(source.as_ref()).is_some() {
            return StoreError::NoCredentials { source };
        }
        if find::<rustls::Error>(source.as_ref()).is_some() {
            return StoreError::Untrusted { endpoint, source };
        }
        if never_connected(source.as_ref()) {
            return StoreError::Unreachable { endpoint, source };
        }
        StoreError::Unavailable { action: self.action, source }
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

/// An `io::Error` that wraps another gives that one's source as its own: look inside first.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(<dyn Error>::downcast_ref)
}

/// Whether there was no connection at all. hyper keeps that in its text only, not in a type that can be named.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    let unreached = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable
        )
    };
    chain(error).any(|error| {
        let text = error.to_string();
        error.downcast_ref::<io::Error>().is_some_and(unreached)
            || text.contains("dns error")
            || text.contains("HTTP connect timeout")
            || text.contains("tcp connect error")
    })
}

#[cfg(test)]
mod tests {
    use stonekeep_format::ErrorKind;

    use super::*;

    fn meaning(status: u16, code: &str, key: Option<&ObjectKey>) -> StoreError {
        let bucket = "vault".parse().unwrap();
        let call =
            Call { action: "read objects", key, bucket: &bucket, region: "r", endpoint: "e" };
        call.answered(Answer::new(status, Some(code), None))
    }

    #[test]
    fn answers_mean_what_the_api_says() {
        let key = ObjectKey::genesis(1);
        assert!(matches!(meaning(404, "NoSuchKey", Some(&key)), StoreError::NotFound { .. }));
        assert!(matches!(meaning(404, "NoSuchBucket", Some(&key)), StoreError::NoBucket { .. }));
        assert!(matches!(
            meaning(405, "MethodNotAllowed", Some(&key)),
            StoreError::NotFound { .. }
        ));
        assert!(matches!(
            meaning(412, "PreconditionFailed", Some(&key)),
            StoreError::Exists { .. }
        ));
        assert!(matches!(meaning(403, "RequestTimeTooSkewed", None), StoreError::Skewed { .. }));
        assert!(matches!(meaning(400, "ExpiredToken", None), StoreError::BadCredentials { .. }));
        assert!(matches!(meaning(301, "", None), StoreError::WrongRegion { .. }));
        assert_eq!(meaning(403, "", None).kind(), ErrorKind::Denied);
        assert_eq!(meaning(501, "NotImplemented", None).kind(), ErrorKind::Config);
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        for (status, code) in
            [(503, "SlowDown"), (500, "InternalError"), (400, "BadDigest"), (429, ""), (502, "")]
        {
            assert!(meaning(status, code, None).is_transient(), "{status} {code}");
        }
        for (status, code) in [(403, "AccessDenied"), (400, "InvalidArgument"), (501, "")] {
            assert!(!meaning(status, code, None).is_transient(), "{status} {code}");
        }
    }
}
