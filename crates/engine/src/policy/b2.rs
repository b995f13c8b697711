//! Backblaze B2: application keys with capabilities, made by its command line. There are no policies.
//!
//! A key is for one prefix of one bucket. What is finer than that cannot be said, and is named in the notes.

use serde_json::json;
use stonekeep_format::{genesis::LockBy, lock::LockMode};
use stonekeep_store::{LifecycleAction, LifecycleRule};

use super::{
    PolicyBucket, PolicyPlan, PolicyReport, Role, expiry, file,
    principal::Principals,
    rights::{REPORTS, base},
};

/// How many rules a bucket takes.
const RULES_MAX: usize = 100;

pub(super) fn report(plan: &PolicyPlan, principals: &Principals) -> PolicyReport {
    let text = [head(), buckets(plan), keys(plan, principals), recorders(plan, principals)]
        .concat()
        .join("\n")
        + "\n";
    PolicyReport { files: vec![file("b2.sh", text)], notes: notes(plan) }
}

fn head() -> Vec<String> {
    let lines = [
        "#!/bin/sh",
        "# Makes the buckets and the application keys, with the master key (b2 account authorize).",
        "# Each `b2 key create` prints the id and the secret of a key, once.",
        "set -eu",
    ];
    lines.map(str::to_owned).to_vec()
}

fn buckets(plan: &PolicyPlan) -> Vec<String> {
    let of = |bucket: &PolicyBucket| {
        let name = &bucket.name;
        let mut lines = vec![format!(
            "b2 bucket create --file-lock-enabled --default-server-side-encryption SSE-B2 {name} allPrivate"
        )];
        let mode = match plan.lock_mode {
            LockMode::Compliance => "compliance",
            LockMode::Governance => "governance",
        };
        lines.extend(bucket.default_days.map(|days| {
            format!("b2 bucket update --default-retention-mode {mode} --default-retention-period '{days} days' {name}")
        }));
        let rules: Vec<String> = expiry::rules(plan).iter().filter_map(rule).collect();
        lines.push(format!("b2 bucket update{} {name} allPrivate", rules.concat()));
        lines
    };
    plan.buckets.iter().flat_map(of).collect()
}

/// An upload in parts is given up by none: one rule for all of them would cover the others' prefixes, which B2 refuses.
fn rule(rule: &LifecycleRule) -> Option<String> {
    let LifecycleAction::Expire { days } = rule.action else { return None };
    let rule = json!({
        "fileNamePrefix": rule.prefix,
        "daysFromUploadingToHiding": days,
        "daysFromHidingToDeleting": 1,
    });
    Some(format!(" \\\n  --lifecycle-rule '{rule}'"))
}

fn keys(plan: &PolicyPlan, principals: &Principals) -> Vec<String> {
    let mut lines = Vec::new();
    for role in Role::ALL {
        let capabilities = capabilities(role, plan).join(",");
        let prefix = match (role, plan.prefix.as_str()) {
            // What is about the bucket itself cannot be limited to a prefix.
            (Role::Provisioner, _) | (_, "") => String::new(),
            (_, prefix) => format!(" --name-prefix {prefix}/"),
        };
        for bucket in &plan.buckets {
            let key = |name: &String| {
                format!("b2 key create --bucket {}{prefix} {name} {capabilities}", bucket.name)
            };
            lines.extend(principals.of(role).iter().map(key));
        }
    }
    lines
}

/// A key is for one prefix: whoever restores needs another one for the records of drills, which lie with the genesis.
fn recorders(plan: &PolicyPlan, principals: &Principals) -> Vec<String> {
    let Some(bucket) = plan.buckets.first().filter(|_| plan.record_drills) else {
        return Vec::new();
    };
    let (name, prefix) = (&bucket.name, base(plan));
    let capabilities =
        "listBuckets,readBucketRetentions,readFileRetentions,writeFiles,writeFileRetentions";
    let key = |restorer: &String| {
        format!(
            "b2 key create --bucket {name} --name-prefix {prefix}{REPORTS}/ {restorer}-{REPORTS} {capabilities}"
        )
    };
    principals.of(Role::Restorer).iter().map(key).collect()
}

fn capabilities(role: Role, plan: &PolicyPlan) -> Vec<&'static str> {
    let state = ["listBuckets", "readBucketRetentions", "readFileRetentions"];
    let more: &[&str] = match (role, plan.write_only) {
        (Role::Writer, true) => &["writeFiles"],
        (Role::Writer, false) => &["writeFiles", "listFiles", "readFiles"],
        (Role::Watcher, _) => &["listFiles", "readFiles", "readBucketEncryption"],
        (Role::Restorer, _) => &["listFiles", "readFiles"],
        (Role::Provisioner, _) => &[
            "listFiles",
            "readFiles",
            "writeFiles",
            "writeFileRetentions",
            "writeBuckets",
            "writeBucketRetentions",
            "readBucketEncryption",
            "writeBucketEncryption",
        ],
    };
    let mut all = [&state[..], more].concat();
    if role == Role::Writer && plan.lock_by == LockBy::PerObject {
        all.push("writeFileRetentions");
    }
    all
}

fn notes(plan: &PolicyPlan) -> Vec<String> {
    let mut notes: Vec<String> = [
        "Nothing of this was run on Backblaze B2.",
        "B2 hides a file for whoever has writeFiles, and a key is for one prefix: the writer can put delete markers and objects anywhere below it, genesis/ too. Readers pass over both, and name them.",
        "Whoever has readFiles reads the segments, too, which are sealed. A writer that shall read nothing: --write-only, with state_dir and genesis_file.",
        "How long a lock may be cannot be limited, nor TLS or one PUT for each key be demanded: set a cap on storage in the account, and alerts.",
        "The provisioner's key has no deleteFiles and no bypassGovernance. For `stonekeep prove --lock` make a key with both for the prefix of canary/ alone, and delete it afterwards.",
        "No rule gives up an upload in parts that nobody completes, for its prefix would be that of the others, too, which B2 refuses: no run makes any, but a stolen key may. Look for unfinished large files, and cancel them.",
        "Give no key writeKeys (it is the whole account), deleteFiles, bypassGovernance or writeFileLegalHolds. The master key does not work with S3.",
    ]
    .map(str::to_owned)
    .to_vec();
    if plan.record_drills {
        notes.push("The restorer's key adds nothing: give the key that ends in -reports to `stonekeep drill`, as record_credentials_file under [drill].".to_owned());
    }
    let rules = expiry::rules(plan).len();
    if rules > RULES_MAX {
        notes.push(format!("{rules} lifecycle rules are more than the {RULES_MAX} that B2 takes: leave out the classes of the longest locks."));
    }
    notes
}
