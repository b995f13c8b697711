//! Ceph's RADOS gateway, with users that belong to no account: a policy for each bucket does everything.
//!
//! Such a user owns what it uploads and keeps rights over it that only an explicit denial takes away; nobody else may read it
//! unless the policy says so. Ceph 16 accepts conditions on locks and on `If-None-Match` and does not keep them (some refuse
//! every PUT), so there are none here.

use super::{
    PolicyBucket, PolicyPlan, PolicyReport, Role, bucket_policy_file,
    document::{Policy, Statement},
    expiry, file,
    principal::Principals,
    rights::{self, DELETE, On},
};

/// What a writer may not, named one by one: the gateway's answer to a denial of "all but" was not relied on.
const DENIED: [&str; 30] = [
    "s3:AbortMultipartUpload",
    "s3:ListBucketMultipartUploads",
    "s3:ListMultipartUploadParts",
    "s3:RestoreObject",
    "s3:PutObjectAcl",
    "s3:PutObjectVersionAcl",
    "s3:PutObjectLegalHold",
    "s3:PutObjectTagging",
    "s3:PutObjectVersionTagging",
    "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersionTagging",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:DeleteBucketWebsite",
    "s3:PutBucketAcl",
    "s3:PutBucketCORS",
    "s3:PutBucketLogging",
    "s3:PutBucketNotification",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketRequestPayment",
    "s3:PutBucketTagging",
    "s3:PutBucketVersioning",
    "s3:PutBucketWebsite",
    "s3:PutLifecycleConfiguration",
    "s3:PutReplicationConfiguration",
    DELETE[0],
    DELETE[1],
    DELETE[2],
];

pub(super) fn report(plan: &PolicyPlan, principals: &Principals) -> PolicyReport {
    let of = |bucket: &PolicyBucket| {
        file(bucket_policy_file(&bucket.name), of_bucket(bucket, plan, principals).text())
    };
    let mut files: Vec<_> = plan.buckets.iter().map(of).collect();
    files.push(file("lifecycle.json", expiry::json(plan)));
    PolicyReport { files, notes: notes(plan) }
}

fn of_bucket(bucket: &PolicyBucket, plan: &PolicyPlan, principals: &Principals) -> Policy {
    let here = std::slice::from_ref(bucket);
    let mut statements = Vec::new();
    for role in Role::ALL {
        let mut grants = rights::of(role, plan);
        if role == Role::Provisioner {
            grants.push(rights::configuration());
        }
        grants.iter_mut().for_each(|grant| grant.actions.retain(|action| is_known(action)));
        let allowed = grants.iter().map(|grant| grant.allow(plan, here));
        statements.extend(allowed.map(|statement| statement.by(principals.of(role))));
    }
    let denied = [
        rights::writer_adds_nowhere_else(plan, here),
        rights::writer_reads_no_rows(plan, here),
        writer_removes_and_configures_nothing(plan, here),
    ];
    statements.extend(denied.map(|statement| statement.by(principals.of(Role::Writer))));
    if plan.record_drills {
        let denied = rights::restorer_changes_no_record(plan, here);
        statements.push(denied.by(principals.of(Role::Restorer)));
    }
    statements.push(
        Statement::deny("NoDelete").by_everyone().actions(DELETE).on_all_but(rights::resources(
            plan,
            here,
            On::Folders(&["canary"]),
        )),
    );
    if plan.tls {
        // The gateway knows the key for requests by TLS only, so "false" is never found: absent is what is denied.
        statements.push(
            Statement::deny("Tls")
                .by_everyone()
                .actions(["s3:*"])
                .on(rights::everything(here))
                .when("Null", "aws:SecureTransport", ["true"]),
        );
    }
    Policy::new(statements)
}

/// An action that Ceph 16 does not know makes it refuse the whole policy; making buckets is no right on one that is there.
fn is_known(action: &str) -> bool {
    let unknown = ["OwnershipControls", "EncryptionConfiguration", "CreateBucket"];
    !unknown.iter().any(|end| action.ends_with(end))
}

fn writer_removes_and_configures_nothing(plan: &PolicyPlan, here: &[PolicyBucket]) -> Statement {
    let mut denied = DENIED.to_vec();
    let granted: Vec<_> =
        rights::of(Role::Writer, plan).into_iter().flat_map(|grant| grant.actions).collect();
    // An owner of objects may lengthen their locks unless this is denied.
    denied.extend(["s3:PutObjectRetention"].iter().filter(|action| !granted.contains(action)));
    Statement::deny("WriterRemovesAndConfiguresNothing")
        .actions(denied)
        .on(rights::everything(here))
}

fn notes(plan: &PolicyPlan) -> Vec<String> {
    let mut notes = vec![
        "Give the directory of these files to `stonekeep init --policy DIR`, or each bucket its own with `aws s3api put-bucket-policy`. Tried on Ceph 16.2.15.".to_owned(),
        "Up to Ceph 18 a stolen writer's key can lock junk for any time, put again under a key that is there, and put in parts without a lock: conditions that would forbid it are not kept. Readers ignore such objects; give the user a quota.".to_owned(),
        "Nobody may delete, not even the owner of the bucket, but canaries by the provisioner. To clear a bucket whose locks have ended, remove the policy first.".to_owned(),
    ];
    if !plan.tls {
        notes.push("The endpoint is not https: the policies do not demand TLS.".to_owned());
    }
    notes
}
