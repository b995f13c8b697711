//! Adding: one PUT under lock, and lengthening a lock.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use aws_sdk_s3::{
    Config,
    error::{ProvideErrorMetadata, SdkError},
    operation::put_object::PutObjectError,
    primitives::ByteStream,
    types::{ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use md5::{Digest, Md5};
use stonekeep_format::{
    genesis::LockBy,
    ids::VersionId,
    key::{ObjectKey, Place},
    lock::{Lock, LockMode},
};

use super::{S3Store, connect, says_bucket_without_lock, whole_seconds};
use crate::{
    AppendStore, BucketLock, ReadStore, StoreError,
    retry::{RetryPolicy, retry},
};

const PUT: &str = "put objects under lock (s3:PutObject, s3:PutObjectRetention)";
const EXTEND: &str = "lengthen the lock of objects (s3:PutObjectRetention)";

#[async_trait]
impl AppendStore for S3Store {
    async fn put(&self, key: &ObjectKey, body: Bytes, lock: Lock) -> Result<VersionId, StoreError> {
        let hashed = body.clone();
        let md5 = tokio::task::spawn_blocking(move || BASE64_STANDARD.encode(Md5::digest(&hashed)))
            .await
            .map_err(|error| self.call(PUT, Some(key)).unanswered(error.into()))?;
        self.put_once(key, &body, &md5, lock).await
    }

    async fn extend(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        lock: Lock,
    ) -> Result<(), StoreError> {
        let retention = ObjectLockRetention::builder()
            .mode(match lock.mode {
                LockMode::Compliance => ObjectLockRetentionMode::Compliance,
                LockMode::Governance => ObjectLockRetentionMode::Governance,
            })
            .retain_until_date(whole_seconds(lock.retain_until))
            .build();
        let once = || async {
            let answer = self
                .client
                .put_object_retention()
                .bucket(self.bucket.as_str())
                .key(self.full_key(key))
                .version_id(version.as_str())
                .retention(retention.clone())
                .send()
                .await;
            match answer {
                Ok(_) => Ok(()),
                Err(error) if says_bucket_without_lock(&error) => {
                    Err(StoreError::NoObjectLock { bucket: self.bucket.clone() })
                }
                Err(error) => Err(self.call(EXTEND, Some(key)).failed(error)),
            }
        };
        // Setting the same date twice is no harm, so this is repeated like a read.
        retry(&*self.clock, &RetryPolicy::READS, once).await
    }
}

impl S3Store {
    /// One PUT. A segment's key is never used twice, so it is put on condition that there is nothing under it; what has a key of
    /// its own (a manifest, say) is sent again under the same one after an answer was lost. Refused for the condition alone, it
    /// is sent again without: nothing rests on it.
    async fn put_once(
        &self,
        key: &ObjectKey,
        body: &Bytes,
        md5: &str,
        lock: Lock,
    ) -> Result<VersionId, StoreError> {
        let call = self.call(PUT, Some(key));
        let is_segment = matches!(Place::of(key), Some(Place::Segment(..)));
        let conditional = is_segment && self.conditional.load(Ordering::Relaxed);
        let mut answer = self.send_put(key, body.clone(), md5, lock, conditional).await;
        if conditional && answer.as_ref().is_err_and(says_no_conditions) {
            self.conditional.store(false, Ordering::Relaxed);
            answer = self.send_put(key, body.clone(), md5, lock, false).await;
        }
        match answer {
            // No version id: the bucket is not versioned, so it has no locks either.
            Ok(None) => Err(StoreError::NoObjectLock { bucket: self.bucket.clone() }),
            Ok(Some(id)) => id.parse().map_err(|error| call.bad_answer(error)),
            Err(error) if error.code() == Some("InvalidRequest") => {
                // AWS says why, Ceph does not: ask for the one reason worth telling.
                let rejected = call.failed(error);
                match self.bucket_lock().await {
                    Ok(BucketLock { enabled: false, .. }) => {
                        Err(StoreError::NoObjectLock { bucket: self.bucket.clone() })
                    }
                    _ => Err(rejected),
                }
            }
            Err(error) => Err(call.failed(error)),
        }
    }

    async fn send_put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        md5: &str,
        lock: Lock,
        conditional: bool,
    ) -> Result<Option<String>, SdkError<PutObjectError>> {
        let timeouts = connect::timeouts(body.len() as u64);
        let named = (self.lock_by == LockBy::PerObject).then_some(lock);
        self.client
            .put_object()
            .bucket(self.bucket.as_str())
            .key(self.full_key(key))
            .set_if_none_match(conditional.then(|| "*".to_owned()))
            .content_md5(md5)
            .set_object_lock_mode(named.map(|lock| match lock.mode {
                LockMode::Compliance => ObjectLockMode::Compliance,
                LockMode::Governance => ObjectLockMode::Governance,
            }))
            .set_object_lock_retain_until_date(named.map(|lock| whole_seconds(lock.retain_until)))
            // In memory, so that its hash is signed.
            .body(ByteStream::from(body))
            .customize()
            .config_override(Config::builder().timeout_config(timeouts))
            .send()
            .await
            .map(|output| output.version_id().map(str::to_owned))
    }
}

/// Some servers answer 501, or 400 with the header's name, to a condition they do not know.
fn says_no_conditions(error: &SdkError<PutObjectError>) -> bool {
    let status = error.raw_response().map(|response| response.status().as_u16());
    let message = error.message().unwrap_or_default().to_ascii_lowercase();
    status == Some(501) || (status == Some(400) && message.contains("if-none-match"))
}
