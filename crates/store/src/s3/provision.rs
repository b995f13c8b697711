//! Configuring the bucket, once, by a person.

use async_trait::async_trait;
use aws_sdk_s3::{
    error::ProvideErrorMetadata,
    types::{
        self, AbortIncompleteMultipartUpload, BucketLifecycleConfiguration,
        BucketLocationConstraint, CreateBucketConfiguration, ExpirationStatus, LifecycleExpiration,
        LifecycleRuleFilter, NoncurrentVersionExpiration,
    },
};

use stonekeep_format::lock::LockMode;

use super::{S3Store, endpoint};
use crate::{
    BucketLock, Created, DefaultRetention, LifecycleAction, LifecycleRule, ProvisionStore,
    ReadStore, StoreError,
};

const CREATE: &str = "make the bucket (s3:CreateBucket, s3:PutBucketObjectLockConfiguration)";
const PUT_DEFAULT: &str =
    "set the bucket's default retention (s3:PutBucketObjectLockConfiguration)";
const PUT_POLICY: &str = "set the bucket policy (s3:PutBucketPolicy)";
const PUT_LIFECYCLE: &str = "set the lifecycle rules (s3:PutLifecycleConfiguration)";

#[async_trait]
impl ProvisionStore for S3Store {
    async fn create_bucket(&self) -> Result<Created, StoreError> {
        let region = BucketLocationConstraint::from(self.region.as_str());
        let spelled = endpoint::is_aws(self.endpoint.as_deref()) && self.region != "us-east-1";
        let place = spelled
            .then(|| CreateBucketConfiguration::builder().location_constraint(region).build());
        // Some servers answer 200 to making what is there already, whatever it is: look first, and again afterwards.
        // Denied: it is someone else's, or ours and unreadable; the server's answer to making it tells.
        match self.bucket_lock().await {
            Ok(lock) => return self.existed(lock),
            Err(StoreError::NoBucket { .. } | StoreError::Denied { .. }) => {}
            Err(error) => return Err(error),
        }
        let answer = self
            .client
            .create_bucket()
            .bucket(self.bucket.as_str())
            .object_lock_enabled_for_bucket(true)
            .set_create_bucket_configuration(place)
            .send()
            .await;
        match answer {
            Ok(_) => self.existed(self.bucket_lock().await?).map(|_| Created::New),
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => {
                self.existed(self.bucket_lock().await?)
            }
            Err(error) => Err(self.call(CREATE, None).failed(error)),
        }
    }

    async fn put_default_retention(&self, default: DefaultRetention) -> Result<(), StoreError> {
        let retention = types::DefaultRetention::builder()
            .mode(match default.mode {
                LockMode::Compliance => types::ObjectLockRetentionMode::Compliance,
                LockMode::Governance => types::ObjectLockRetentionMode::Governance,
            })
            .days(i32::try_from(default.days).unwrap_or(i32::MAX));
        let rule = types::ObjectLockRule::builder().default_retention(retention.build()).build();
        let configuration = types::ObjectLockConfiguration::builder()
            .object_lock_enabled(types::ObjectLockEnabled::Enabled)
            .rule(rule);
        let answer = self
            .client
            .put_object_lock_configuration()
            .bucket(self.bucket.as_str())
            .object_lock_configuration(configuration.build())
            .send()
            .await;
        answer.map(drop).map_err(|error| self.call(PUT_DEFAULT, None).failed(error))
    }

    async fn put_policy(&self, json: &str) -> Result<(), StoreError> {
        let answer =
            self.client.put_bucket_policy().bucket(self.bucket.as_str()).policy(json).send().await;
        answer.map(drop).map_err(|error| self.call(PUT_POLICY, None).failed(error))
    }

    async fn put_lifecycle(&self, rules: &[LifecycleRule]) -> Result<(), StoreError> {
        let call = self.call(PUT_LIFECYCLE, None);
        let rules = rules.iter().map(|rule| self.lifecycle_rule(rule)).collect();
        let configuration = BucketLifecycleConfiguration::builder()
            .set_rules(Some(rules))
            .build()
            .expect("the rules, all it requires, are set");
        let answer = self
            .client
            .put_bucket_lifecycle_configuration()
            .bucket(self.bucket.as_str())
            .lifecycle_configuration(configuration)
            .send()
            .await;
        answer.map(drop).map_err(|error| call.failed(error))
    }
}

impl S3Store {
    fn existed(&self, lock: BucketLock) -> Result<Created, StoreError> {
        if lock.enabled {
            Ok(Created::Existed)
        } else {
            Err(StoreError::NoObjectLock { bucket: self.bucket.clone() })
        }
    }

    /// First the version is hidden by a marker, then, a day later, it goes: that is how a versioned bucket expires things. The
    /// marker goes with it.
    fn lifecycle_rule(&self, rule: &LifecycleRule) -> types::LifecycleRule {
        let in_days = |days| i32::try_from(days).unwrap_or(i32::MAX);
        let builder =
            types::LifecycleRule::builder().id(&rule.id).status(ExpirationStatus::Enabled).filter(
                LifecycleRuleFilter::builder()
                    .prefix(format!("{}{}", self.prefix, rule.prefix))
                    .build(),
            );
        let builder = match rule.action {
            LifecycleAction::Expire { days } => builder
                .expiration(LifecycleExpiration::builder().days(in_days(days)).build())
                .noncurrent_version_expiration(
                    NoncurrentVersionExpiration::builder().noncurrent_days(1).build(),
                ),
            LifecycleAction::AbortUploads { days } => builder.abort_incomplete_multipart_upload(
                AbortIncompleteMultipartUpload::builder()
                    .days_after_initiation(in_days(days))
                    .build(),
            ),
        };
        builder.build().expect("the status, all it requires, is set")
    }
}
