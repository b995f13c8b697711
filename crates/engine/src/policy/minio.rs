//! `MinIO` and `RustFS`: a policy for each role, attached to a user.
//!
//! The policy of a bucket is for those who show no key, so there is none. An action or a condition that the server does not
//! know makes it refuse the whole policy: what they do not share with AWS is left out or spelled as they do.

use super::{
    PolicyPlan, PolicyReport, Provider, Role,
    document::{Policy, Statement},
    expiry, file,
    principal::Principals,
    rights::{self, DELETE, Grant},
};

/// What no writer may: what both servers know of it.
const DENIED: [&str; 10] = [
    DELETE[0],
    DELETE[1],
    DELETE[2],
    "s3:AbortMultipartUpload",
    "s3:PutObjectLegalHold",
    "s3:PutObjectTagging",
    "s3:DeleteObjectTagging",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:ForceDeleteBucket",
];

pub(super) fn report(plan: &PolicyPlan, principals: &Principals) -> PolicyReport {
    let of = |role: Role| file(format!("{role}.json"), of_role(role, plan).text());
    let mut files: Vec<_> = Role::ALL.into_iter().map(of).collect();
    files.push(file("lifecycle.json", expiry::json(plan)));
    PolicyReport { files, notes: notes(plan, principals) }
}

fn of_role(role: Role, plan: &PolicyPlan) -> Policy {
    let buckets = plan.buckets.as_slice();
    let mut grants = rights::of(role, plan);
    let configuration = rights::configuration();
    if role == Role::Provisioner {
        grants.push(configuration.clone());
    }
    let allow = |grant: Grant| {
        let actions = spelled(plan.provider, &grant.actions);
        Grant { actions, ..grant }.allow(plan, buckets)
    };
    let mut statements: Vec<Statement> = grants.into_iter().map(allow).collect();
    if role == Role::Writer {
        let is_put = |action: &&str| action.starts_with("s3:Put");
        let puts: Vec<_> = configuration.actions.into_iter().filter(is_put).collect();
        let denied = [spelled(plan.provider, &DENIED), spelled(plan.provider, &puts)].concat();
        statements.push(rights::writer_reads_no_rows(plan, buckets));
        statements.push(
            Statement::deny("WriterRemovesAndConfiguresNothing")
                .actions(denied)
                .on(rights::everything(buckets)),
        );
    }
    if plan.tls {
        statements.push(
            Statement::deny("Tls").actions(["s3:*"]).on(rights::everything(buckets)).when(
                "Bool",
                "aws:SecureTransport",
                ["false"],
            ),
        );
    }
    Policy::new(statements)
}

/// Returns the actions that the server knows, as it spells them.
fn spelled(provider: Provider, actions: &[&'static str]) -> Vec<&'static str> {
    let is_rustfs = provider == Provider::Rustfs;
    let spell = |action: &&'static str| match *action {
        "s3:GetBucketPublicAccessBlock"
        | "s3:PutBucketPublicAccessBlock"
        | "s3:GetBucketOwnershipControls"
        | "s3:PutBucketOwnershipControls" => None,
        "s3:GetLifecycleConfiguration" if is_rustfs => Some("s3:GetBucketLifecycle"),
        "s3:PutLifecycleConfiguration" if is_rustfs => Some("s3:PutBucketLifecycle"),
        "s3:GetEncryptionConfiguration" if is_rustfs => Some("s3:GetBucketEncryption"),
        "s3:PutEncryptionConfiguration" if is_rustfs => Some("s3:PutBucketEncryption"),
        other => Some(other),
    };
    actions.iter().filter_map(spell).collect()
}

fn notes(plan: &PolicyPlan, principals: &Principals) -> Vec<String> {
    let mut notes = vec!["Nothing of this was run on MinIO or RustFS.".to_owned()];
    for role in Role::ALL {
        notes.push(format!("mc admin policy create ALIAS stonekeep-{role} {role}.json"));
        let attach =
            |user: &String| format!("mc admin policy attach ALIAS stonekeep-{role} --user {user}");
        notes.extend(principals.of(role).iter().map(attach));
    }
    let import = |name: &str| {
        format!("After `stonekeep init`: mc ilm rule import ALIAS/{name} < lifecycle.json")
    };
    notes.extend(plan.buckets.iter().map(|bucket| import(bucket.name.as_str())));
    notes.push("How long a lock may be cannot be limited here: their spelling of that condition differs, and an unknown one makes them refuse the policy. Set a quota on the bucket.".to_owned());
    notes.push(if plan.tls {
        "Tls is denied by the server's own view: remove those statements if a proxy ends TLS before it.".to_owned()
    } else {
        "The endpoint is not https: the policies do not demand TLS.".to_owned()
    });
    notes
}
