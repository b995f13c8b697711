//! How the bucket is configured, read part by part.

use std::fmt;

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
    types::ReplicationRule,
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

fn lifecycle(output: &GetBucketLifecycleConfigurationOutput) -> String {
    let (count, rules) = whole(output.rules());
    let least = output.transition_default_minimum_object_size();
    if count == 0 {
        NONE.to_owned()
    } else {
        digested("rules", count, &format!("{rules}\n{least:?}"))
    }
}

/// How many rules there are, and all that the SDK reads of each, one on a line: what is not in the text could be changed unseen.
/// Sorted, for servers may return them in another order. Other versions of the SDK may spell them in another way, which a test
/// tells: then every owner has to sign anew.
fn whole<R: fmt::Debug>(rules: &[R]) -> (usize, String) {
    let mut lines: Vec<String> = rules.iter().map(|rule| format!("{rule:?}")).collect();
    lines.sort_unstable();
    (lines.len(), lines.join("\n"))
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

/// Where to, for people, and the digest of the whole.
fn replication(output: &GetBucketReplicationOutput) -> String {
    let Some(all) = output.replication_configuration() else { return NONE.to_owned() };
    let (count, rules) = whole(all.rules());
    let destination = |rule: &ReplicationRule| {
        let bucket = rule.destination().map(|destination| destination.bucket());
        format!("{} to {}", rule.status().as_str(), bucket.unwrap_or_default())
    };
    let mut texts: Vec<String> = all.rules().iter().map(destination).collect();
    texts.sort_unstable();
    texts.push(digested("rules", count, &format!("{rules}\n{}", all.role())));
    if count == 0 { NONE.to_owned() } else { texts.join(", ") }
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

#[cfg(test)]
mod tests {
    use aws_sdk_s3::{
        primitives::DateTime,
        types::{
            AbortIncompleteMultipartUpload, Destination, ExpirationStatus, LifecycleExpiration,
            LifecycleRule, LifecycleRuleAndOperator, LifecycleRuleFilter,
            NoncurrentVersionExpiration, NoncurrentVersionTransition, ReplicationConfiguration,
            ReplicationRuleFilter, ReplicationRuleStatus, Tag, Transition, TransitionStorageClass,
            builders::{
                LifecycleRuleBuilder, LifecycleRuleFilterBuilder, ReplicationRuleBuilder,
                TransitionBuilder,
            },
        },
    };

    use super::*;

    fn rule() -> LifecycleRuleBuilder {
        LifecycleRule::builder().id("expire").status(ExpirationStatus::Enabled)
    }

    fn text(rules: &[LifecycleRuleBuilder]) -> String {
        let rules = rules.iter().map(|rule| rule.clone().build().expect("a status")).collect();
        let output = GetBucketLifecycleConfigurationOutput::builder().set_rules(Some(rules));
        lifecycle(&output.build())
    }

    fn tag(value: &str) -> Tag {
        Tag::builder().key("kind").value(value).build().expect("a key and a value")
    }

    /// Each text once.
    fn assert_all_differ(texts: &[String]) {
        for (at, one) in texts.iter().enumerate() {
            assert_eq!(texts.iter().position(|other| other == one), Some(at), "{at}: {one}");
        }
    }

    #[test]
    fn lifecycle_rules_that_differ_in_anything_differ_in_text() {
        let filter = LifecycleRuleFilter::builder;
        let filtered = |filter: LifecycleRuleFilterBuilder| rule().filter(filter.build());
        let and = LifecycleRuleAndOperator::builder;
        let expiry = LifecycleExpiration::builder;
        let noncurrent = NoncurrentVersionExpiration::builder;
        let moved = |to: TransitionBuilder| rule().transitions(to.build());
        let transition = || Transition::builder().storage_class(TransitionStorageClass::Glacier);
        let left = || {
            let to = NoncurrentVersionTransition::builder();
            to.storage_class(TransitionStorageClass::Glacier).noncurrent_days(1)
        };
        let parts =
            |days| AbortIncompleteMultipartUpload::builder().days_after_initiation(days).build();
        let rules = [
            rule(),
            rule().id("other"),
            rule().status(ExpirationStatus::Disabled),
            #[expect(deprecated, reason = "a server still takes a rule with a prefix of its own")]
            rule().prefix("segments/"),
            filtered(filter().prefix("segments/")),
            filtered(filter().prefix("manifests/")),
            filtered(filter().tag(tag("a"))),
            filtered(filter().tag(tag("b"))),
            filtered(filter().object_size_greater_than(1)),
            filtered(filter().object_size_greater_than(2)),
            filtered(filter().object_size_less_than(1)),
            filtered(filter().and(and().prefix("segments/").build())),
            filtered(filter().and(and().prefix("segments/").tags(tag("a")).build())),
            filtered(filter().and(and().prefix("segments/").tags(tag("b")).build())),
            filtered(filter().and(and().prefix("segments/").object_size_less_than(1).build())),
            rule().expiration(expiry().days(1).build()),
            rule().expiration(expiry().days(2).build()),
            rule().expiration(expiry().date(DateTime::from_secs(1)).build()),
            rule().expiration(expiry().date(DateTime::from_secs(2)).build()),
            rule().expiration(expiry().expired_object_delete_marker(true).build()),
            rule().noncurrent_version_expiration(noncurrent().noncurrent_days(1).build()),
            rule().noncurrent_version_expiration(noncurrent().noncurrent_days(2).build()),
            rule().noncurrent_version_expiration(noncurrent().newer_noncurrent_versions(1).build()),
            rule().abort_incomplete_multipart_upload(parts(1)),
            rule().abort_incomplete_multipart_upload(parts(2)),
            moved(transition().days(1)),
            moved(transition().days(2)),
            moved(transition().date(DateTime::from_secs(1))),
            moved(transition().days(1).storage_class(TransitionStorageClass::DeepArchive)),
            rule().noncurrent_version_transitions(left().build()),
            rule().noncurrent_version_transitions(left().noncurrent_days(2).build()),
            rule().noncurrent_version_transitions(left().newer_noncurrent_versions(1).build()),
        ];
        let mut texts: Vec<String> =
            rules.iter().map(|rule| text(std::slice::from_ref(rule))).collect();
        texts.extend([text(&[]), text(&rules[..2])]);
        assert_all_differ(&texts);
    }

    fn copied(to: &str) -> ReplicationRuleBuilder {
        let destination = Destination::builder().bucket(to).build().expect("a bucket");
        let rule = ReplicationRule::builder().id("copy").status(ReplicationRuleStatus::Enabled);
        rule.destination(destination)
    }

    fn replicated(role: &str, rules: &[ReplicationRuleBuilder]) -> String {
        let rules = rules.iter().map(|rule| rule.clone().build().expect("a status")).collect();
        let all = ReplicationConfiguration::builder().role(role).set_rules(Some(rules));
        let all = all.build().expect("a role and rules");
        let output = GetBucketReplicationOutput::builder().replication_configuration(all);
        replication(&output.build())
    }

    #[test]
    fn replication_rules_that_differ_in_anything_differ_in_text() {
        let filter = ReplicationRuleFilter::builder;
        let rules = [
            copied("a"),
            copied("b"),
            copied("a").id("other"),
            copied("a").priority(1),
            copied("a").status(ReplicationRuleStatus::Disabled),
            #[expect(deprecated, reason = "a server still takes a rule with a prefix of its own")]
            copied("a").prefix("segments/"),
            copied("a").filter(filter().prefix("segments/").build()),
            copied("a").filter(filter().prefix("manifests/").build()),
            copied("a").filter(filter().tag(tag("a")).build()),
            copied("a").filter(filter().tag(tag("b")).build()),
        ];
        let mut texts: Vec<String> =
            rules.iter().map(|rule| replicated("role", std::slice::from_ref(rule))).collect();
        assert!(texts[0].starts_with("Enabled to a, 1 rules, BLAKE3 "), "{}", texts[0]);
        texts.extend([replicated("role", &[]), replicated("other", &rules[..1])]);
        assert_all_differ(&texts);
        assert_eq!(replication(&GetBucketReplicationOutput::builder().build()), NONE);
    }

    #[test]
    fn the_order_of_rules_does_not_matter() {
        let rules = [rule(), rule().id("a"), rule().id("z")];
        let turned = [rules[2].clone(), rules[0].clone(), rules[1].clone()];
        assert_eq!(text(&rules), text(&turned));
        let rules = [copied("b"), copied("a"), copied("a").priority(1)];
        let turned = [rules[2].clone(), rules[0].clone(), rules[1].clone()];
        assert_eq!(replicated("role", &rules), replicated("role", &turned));
    }

    /// The texts are signed. If a new SDK spells them in another way, every watcher finds its bucket changed: the change is to
    /// stand in the CHANGELOG, with `stonekeep rotate` as what to do.
    #[test]
    fn rules_are_spelled_as_they_were() {
        let expiry = LifecycleExpiration::builder().days(31).build();
        let filter = LifecycleRuleFilter::builder().prefix("segments/1/").build();
        let expected =
            "1 rules, BLAKE3 ffc5b26f867ac0e9fb2a51faeb4d9f6d8b173b83e5d35254480b4fe9befb24dc";
        assert_eq!(text(&[rule().filter(filter).expiration(expiry)]), expected);
        let expected = "Enabled to a, 1 rules, BLAKE3 a5e001cf4ebc20235a7c1075eb0876b0d8b9576bc9090d1e5da79c01fba652de";
        assert_eq!(replicated("role", &[copied("a")]), expected);
    }
}
