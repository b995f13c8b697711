//! The lifecycle rules as AWS's command line takes them, which other providers' tools do, too.

use serde_json::{Value, json};
use stonekeep_store::{LifecycleAction, LifecycleRule};

use super::{PolicyPlan, rights::base};
use crate::lifecycle;

/// Returns the rules that `init` sets, with whole prefixes.
pub(super) fn rules(plan: &PolicyPlan) -> Vec<LifecycleRule> {
    let whole = |rule: LifecycleRule| LifecycleRule {
        prefix: format!("{}{}", base(plan), rule.prefix),
        ..rule
    };
    lifecycle::rules(plan.cap, lifecycle::GRACE_DAYS).into_iter().map(whole).collect()
}

/// Returns them as `aws s3api put-bucket-lifecycle-configuration` takes them, one on a line.
pub(super) fn json(plan: &PolicyPlan) -> String {
    let lines: Vec<String> = rules(plan).iter().map(|each| format!("    {}", rule(each))).collect();
    format!("{{\n  \"Rules\": [\n{}\n  ]\n}}\n", lines.join(",\n"))
}

fn rule(rule: &LifecycleRule) -> Value {
    let mut value = json!({
        "ID": rule.id, "Status": "Enabled", "Filter": { "Prefix": rule.prefix },
    });
    match rule.action {
        LifecycleAction::Expire { days } => {
            value["Expiration"] = json!({ "Days": days });
            value["NoncurrentVersionExpiration"] = json!({ "NoncurrentDays": 1 });
        }
        LifecycleAction::AbortUploads { days } => {
            value["AbortIncompleteMultipartUpload"] = json!({ "DaysAfterInitiation": days });
        }
    }
    value
}
