//! Reading: listings, versions, locks, and the server's clock.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, http::HttpResponse,
        interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::{BoxError, ProvideErrorMetadata, SdkError},
    operation::get_object::GetObjectOutput,
    types::{EncodingType, ObjectLockEnabled, ObjectLockRetentionMode},
};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use stonekeep_format::{
    ids::{BucketName, VersionId},
    key::ObjectKey,
    lock::{Lock, LockMode},
};

use super::{S3Store, answer::Call, connect, page, says_bucket_without_lock, when};
use crate::{
    BucketFacts, BucketLock, DefaultRetention, ListCursor, ObjectHead, ReadStore, StoreError,
    VersionPage,
    retry::{RetryPolicy, retry},
};

const LIST: &str = "list object versions (s3:ListBucketVersions)";
const READ: &str = "read object versions (s3:GetObjectVersion)";
const READ_LOCK: &str = "read the lock of objects (s3:GetObjectRetention)";
const READ_BUCKET: &str =
    "read the Object Lock configuration (s3:GetBucketObjectLockConfiguration)";
const READ_TIME: &str = "tell the time (s3:GetBucketVersioning)";

#[async_trait]
impl ReadStore for S3Store {
    fn bucket(&self) -> &BucketName {
        &self.bucket
    }

    async fn list_versions(
        &self,
        prefix: &str,
        after: Option<ListCursor>,
    ) -> Result<VersionPage, StoreError> {
        let once = || self.list_once(prefix, after.clone());
        retry(&*self.clock, &RetryPolicy::READS, once).await
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        let once = || self.get_once(key, version, bytes_max);
        retry(&*self.clock, &RetryPolicy::READS, once).await
    }

    async fn head(&self, key: &ObjectKey, version: &VersionId) -> Result<ObjectHead, StoreError> {
        retry(&*self.clock, &RetryPolicy::READS, || self.head_once(key, version)).await
    }

    async fn retention(
        &self,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<Option<Lock>, StoreError> {
        retry(&*self.clock, &RetryPolicy::READS, || self.retention_once(key, version)).await
    }

    async fn bucket_lock(&self) -> Result<BucketLock, StoreError> {
        retry(&*self.clock, &RetryPolicy::READS, || self.bucket_lock_once()).await
    }

    async fn bucket_facts(&self) -> Result<BucketFacts, StoreError> {
        self.read_facts().await
    }

    async fn server_time(&self) -> Result<DateTime<Utc>, StoreError> {
        retry(&*self.clock, &RetryPolicy::READS, || self.server_time_once()).await
    }
}

impl S3Store {
    async fn list_once(
        &self,
        prefix: &str,
        after: Option<ListCursor>,
    ) -> Result<VersionPage, StoreError> {
        let call = self.call(LIST, None);
        let (key_marker, version_id_marker) =
            after.map_or((None, None), |after| (Some(after.key), after.version_id));
        let output = self
            .client
            .list_object_versions()
            .bucket(self.bucket.as_str())
            .prefix(format!("{}{prefix}", self.prefix))
            // Keys may hold what XML cannot: without this, one planted key would make the bucket unlistable.
            .encoding_type(EncodingType::Url)
            .set_key_marker(key_marker)
            .set_version_id_marker(version_id_marker)
            .send()
            .await
            .map_err(|error| call.failed(error))?;
        page::read(&output, &self.prefix, &call)
    }

    async fn get_once(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        let call = self.call(READ, Some(key));
        let output = self
            .client
            .get_object()
            .bucket(self.bucket.as_str())
            .key(self.full_key(key))
            .version_id(version.as_str())
            .send()
            .await
            .map_err(|error| call.failed(error))?;
        let limit = connect::transfer_max(bytes_max);
        tokio::time::timeout(limit, read_body(output, key, bytes_max, &call))
            .await
            .unwrap_or_else(|elapsed| Err(call.unanswered(elapsed.into())))
    }

    async fn head_once(
        &self,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<ObjectHead, StoreError> {
        let call = self.call(READ, Some(key));
        let output = self
            .client
            .head_object()
            .bucket(self.bucket.as_str())
            .key(self.full_key(key))
            .version_id(version.as_str())
            .send()
            .await
            .map_err(|error| call.failed(error))?;
        if output.delete_marker() == Some(true) {
            return Err(StoreError::NotFound { key: key.clone() });
        }
        let bytes = output.content_length().and_then(|length| u64::try_from(length).ok());
        bytes
            .map(|bytes| ObjectHead { bytes })
            .ok_or_else(|| call.bad_answer("an object without a length"))
    }

    async fn retention_once(
        &self,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<Option<Lock>, StoreError> {
        let call = self.call(READ_LOCK, Some(key));
        let answer = self
            .client
            .get_object_retention()
            .bucket(self.bucket.as_str())
            .key(self.full_key(key))
            .version_id(version.as_str())
            .send()
            .await;
        let output = match answer {
            Ok(output) => output,
            Err(error) if says_no_lock(&error) => return Ok(None),
            Err(error) if says_bucket_without_lock(&error) => {
                return Err(StoreError::NoObjectLock { bucket: self.bucket.clone() });
            }
            Err(error) => return Err(call.failed(error)),
        };
        let Some(retention) = output.retention() else { return Ok(None) };
        let lock = retention.mode().and_then(mode_of).zip(retention.retain_until_date());
        let lock = lock.and_then(|(mode, until)| Some(Lock { mode, retain_until: when(until)? }));
        lock.map(Some).ok_or_else(|| call.bad_answer("a lock without mode or date"))
    }

    async fn bucket_lock_once(&self) -> Result<BucketLock, StoreError> {
        let call = self.call(READ_BUCKET, None);
        let answer =
            self.client.get_object_lock_configuration().bucket(self.bucket.as_str()).send().await;
        let output = match answer {
            Ok(output) => output,
            Err(error) if says_no_lock(&error) => {
                return Ok(BucketLock { enabled: false, default: None });
            }
            Err(error) => return Err(call.failed(error)),
        };
        let configuration = output.object_lock_configuration();
        let enabled = configuration.and_then(|configuration| configuration.object_lock_enabled());
        let rule = configuration.and_then(|configuration| configuration.rule());
        let default = rule.and_then(|rule| rule.default_retention()).and_then(|default| {
            let years = default.years().map(|years| years.saturating_mul(365));
            let days = u32::try_from(default.days().or(years)?).ok()?;
            Some(DefaultRetention { mode: mode_of(default.mode()?)?, days })
        });
        Ok(BucketLock { enabled: enabled == Some(&ObjectLockEnabled::Enabled), default })
    }

    async fn server_time_once(&self) -> Result<DateTime<Utc>, StoreError> {
        let call = self.call(READ_TIME, None);
        let probe = DateProbe::default();
        let answer = self
            .client
            .get_bucket_versioning()
            .bucket(self.bucket.as_str())
            .customize()
            .interceptor(probe.clone())
            .send()
            .await;
        // Whatever else a success says: it is its date that was asked for.
        let is_success = |error: &SdkError<_, HttpResponse>| {
            error.raw_response().is_some_and(|answer| answer.status().is_success())
        };
        match answer.map(drop).or_else(|error| match error {
            error if is_success(&error) => Ok(()),
            error => Err(call.failed(error)),
        }) {
            Ok(()) | Err(StoreError::Denied { .. }) => {
                probe.date().ok_or_else(|| call.bad_answer("an answer without a Date"))
            }
            Err(error) => Err(error),
        }
    }
}

/// Reads the body up to `bytes_max`, whatever length the server announced.
async fn read_body(
    output: GetObjectOutput,
    key: &ObjectKey,
    bytes_max: u64,
    call: &Call<'_>,
) -> Result<Bytes, StoreError> {
    let too_long = || StoreError::TooLong { key: key.clone(), bytes_max };
    let announced = output.content_length().and_then(|length| u64::try_from(length).ok());
    if announced.is_some_and(|announced| announced > bytes_max) {
        return Err(too_long());
    }
    let capacity = usize::try_from(announced.unwrap_or(0)).map_err(|_| too_long())?;
    let mut bytes = BytesMut::with_capacity(capacity);
    let mut body = output.body;
    while let Some(part) = body.next().await {
        let part = part.map_err(|error| call.unanswered(error.into()))?;
        if (bytes.len() + part.len()) as u64 > bytes_max {
            return Err(too_long());
        }
        bytes.extend_from_slice(&part);
    }
    if announced.is_some_and(|announced| announced != bytes.len() as u64) {
        return Err(call.unanswered("the object ended early".into()));
    }
    Ok(bytes.freeze())
}

/// Some servers take and keep the mode in any case.
fn mode_of(mode: &ObjectLockRetentionMode) -> Option<LockMode> {
    let mode = mode.as_str();
    if mode.eq_ignore_ascii_case("COMPLIANCE") {
        return Some(LockMode::Compliance);
    }
    mode.eq_ignore_ascii_case("GOVERNANCE").then_some(LockMode::Governance)
}

/// The version has no lock (AWS, Ceph: two spellings), or the bucket no Object Lock.
fn says_no_lock<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    matches!(
        error.code(),
        Some("NoSuchObjectLockConfiguration" | "ObjectLockConfigurationNotFoundError")
    )
}

/// Keeps the `Date` of an answer, whatever the answer.
#[derive(Debug, Clone, Default)]
struct DateProbe(Arc<Mutex<Option<String>>>);

impl DateProbe {
    fn date(&self) -> Option<DateTime<Utc>> {
        let text = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        DateTime::parse_from_rfc2822(&text).ok().map(|at| at.to_utc())
    }
}

impl Intercept for DateProbe {
    fn name(&self) -> &'static str {
        "stonekeep-date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}
