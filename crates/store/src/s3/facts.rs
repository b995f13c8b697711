//! How the bucket is configured, read part by part.

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        get_bucket_encryption::GetBucketEncryptionOutput,
        get_bucket_lifecycle_configuration::GetBucketLifecycleConfigurationOutput,
        get_bucket_ownership_controls::GetBucketOwnershipControlsOutput,
        get_bucket_policy::GetBucketPolicyOutput,
        get_bucket_replication::GetBucketReplicationOutput,
        get_bucket_versioning::GetBucketVersioningOutput,
        get_public_access_block::GetPublicAccessBlockOutput,
    },
    types::LifecycleRule,
};
use stonekeep_format::ids::Digest;

use super::S3Store;
use crate::{
    BucketFacts, BucketLock, ReadStore, StoreError,
    retry::{RetryPolicy, retry},
};

const READ_FACTS: &str = "read the bucket's configuration (s3:GetBucketVersioning, s3:GetLifecycleConfiguration, s3:GetBucketPolicy, s3:GetEncryptionConfiguration, s3:GetReplicationConfiguration, s3:GetBucketPublicAccessBlock, s3:GetBucketOwnershipControls)";
/// The text of what is not set.
const NONE: &str = "none";

/// One part: its text, or why there is none.
enum Fact {
    Text(String),
    Unread,
    NotOffered,
}

/// Reads a part with `$call` and makes a text of its output.
macro_rules! read {
    ($store:expr, $call:ident, $text:expr) => {
        retry(&*$store.clock, &RetryPolicy::READS, || async {
            let answer = $store.client.$call().bucket($store.bucket.as_str()).send().await;
            $store.fact(answer, $text)
        })
        .await?
    };
}

impl S3Store {
    pub(super) async fn read_facts(&self) -> Result<BucketFacts, StoreError> {
        let mut facts = BucketFacts::default();
        let mut take = |name: &str, fact: Fact| match fact {
            Fact::Text(text) => drop(facts.facts.insert(name.to_owned(), text)),
            Fact::Unread => drop(facts.unread.insert(name.to_owned())),
            Fact::NotOffered => {}
        };
        take("versioning", read!(self, get_bucket_versioning, versioning));
        take("object-lock", self.lock_fact().await?);
        take("lifecycle", read!(self, get_bucket_lifecycle_configuration, lifecycle));
        take("policy", read!(self, get_bucket_policy, policy));
        take("encryption", read!(self, get_bucket_encryption, encryption));
        take("replication", read!(self, get_bucket_replication, replication));
        take("public-access", read!(self, get_public_access_block, public_access));
        take("ownership", read!(self, get_bucket_ownership_controls, ownership));
        Ok(facts)
    }

    /// The bucket's default retention is known as typed as the writer sees it.
    async fn lock_fact(&self) -> Result<Fact, StoreError> {
        match self.bucket_lock().await {
            Ok(BucketLock { enabled, default }) => {
                let on = if enabled { "on" } else { "off" };
                let default = default.map_or_else(
                    || "no default".to_owned(),
                    |default| format!("default {} {} days", default.mode, default.days),
                );
                Ok(Fact::Text(format!("{on}, {default}")))
            }
            Err(StoreError::Denied { .. }) => Ok(Fact::Unread),
            Err(error) => Err(error),
        }
    }

    fn fact<T, E>(
        &self,
        answer: Result<T, SdkError<E, HttpResponse>>,
        text: impl Fn(&T) -> String,
    ) -> Result<Fact, StoreError>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let error = match answer {
            Ok(output) => return Ok(Fact::Text(text(&output))),
            Err(error) => error,
        };
        let status = error.raw_response().map(|response| response.status().as_u16());
        match self.call(READ_FACTS, None).failed(error) {
            StoreError::Denied { .. } => Ok(Fact::Unread),
            error @ StoreError::NoBucket { .. } => Err(error),
            // "There is none" has a code of its own for each part, and the same status.
            _ if status == Some(404) => Ok(Fact::Text(NONE.to_owned())),
            // A server that does not know the part answers as if nothing but the bucket had been asked for.
            _ if matches!(status, Some(200..=299 | 400 | 405 | 501)) => Ok(Fact::NotOffered),
            error => Err(error),
        }
    }
}

fn versioning(output: &GetBucketVersioningOutput) -> String {
    output.status().map_or_else(|| NONE.to_owned(), |status| status.as_str().to_owned())
}

/// One line for each rule, in the order of their names: servers may return them in another.
fn lifecycle(output: &GetBucketLifecycleConfigurationOutput) -> String {
    let mut rules: Vec<String> = output.rules().iter().map(lifecycle_rule).collect();
    rules.sort_unstable();
    if rules.is_empty() {
        NONE.to_owned()
    } else {
        digested("rules", rules.len(), &rules.join("\n"))
    }
}

fn lifecycle_rule(rule: &LifecycleRule) -> String {
    let prefix = rule.filter().and_then(|filter| filter.prefix()).unwrap_or_default();
    let days = rule.expiration().and_then(|expiration| expiration.days());
    let noncurrent = rule.noncurrent_version_expiration().and_then(|each| each.noncurrent_days());
    let parts =
        rule.abort_incomplete_multipart_upload().and_then(|each| each.days_after_initiation());
    let transitions = rule.transitions().len() + rule.noncurrent_version_transitions().len();
    let (id, status) = (rule.id().unwrap_or_default(), rule.status().as_str());
    format!("{id} {status} {prefix} {days:?} {noncurrent:?} {parts:?} {transitions}")
}

/// Statements as JSON with sorted names: servers may print them in another way.
fn policy(output: &GetBucketPolicyOutput) -> String {
    let text = output.policy().unwrap_or_default();
    let sorted = serde_json::from_str::<serde_json::Value>(text);
    let sorted = sorted.map_or_else(|_| text.to_owned(), |policy| policy.to_string());
    let statements = serde_json::from_str::<serde_json::Value>(text);
    let count = statements.ok().and_then(|policy| policy["Statement"].as_array().map(Vec::len));
    digested("statements", count.unwrap_or(1), &sorted)
}

/// Long texts are told by their digest.
fn digested(what: &str, count: usize, text: &str) -> String {
    format!("{count} {what}, BLAKE3 {}", Digest::of(text.as_bytes()))
}

fn encryption(output: &GetBucketEncryptionOutput) -> String {
    let rules = output.server_side_encryption_configuration().map(|all| all.rules());
    let defaults = rules.unwrap_or_default().iter();
    let defaults = defaults.filter_map(|rule| rule.apply_server_side_encryption_by_default());
    let texts = defaults.map(|default| {
        let key = default.kms_master_key_id().unwrap_or("no key");
        format!("{} {key}", default.sse_algorithm().as_str())
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn replication(output: &GetBucketReplicationOutput) -> String {
    let rules = output.replication_configuration().map(|all| all.rules()).unwrap_or_default();
    let texts = rules.iter().map(|rule| {
        let bucket = rule.destination().map(|destination| destination.bucket());
        format!("{} to {}", rule.status().as_str(), bucket.unwrap_or_default())
    });
    let texts = texts.collect::<Vec<_>>().join(", ");
    if texts.is_empty() { NONE.to_owned() } else { texts }
}

fn public_access(output: &GetPublicAccessBlockOutput) -> String {
    let Some(block) = output.public_access_block_configuration() else { return NONE.to_owned() };
    let parts = [
        ("acls", block.block_public_acls()),
        ("ignored acls", block.ignore_public_acls()),
        ("policies", block.block_public_policy()),
        ("buckets", block.restrict_public_buckets()),
    ];
    let blocked = parts.iter().filter(|(_, on)| *on == Some(true)).map(|(name, _)| *name);
    format!("blocked: {}", blocked.collect::<Vec<_>>().join(", "))
}

fn ownership(output: &GetBucketOwnershipControlsOutput) -> String {
    let rules = output.ownership_controls().map(|all| all.rules()).unwrap_or_default();
    rules.iter().map(|rule| rule.object_ownership().as_str()).collect::<Vec<_>>().join(", ")
}
