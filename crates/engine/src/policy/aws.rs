//! Amazon S3: a policy for each role, one for each bucket, lifecycle rules, and Terraform for all of it.
//!
//! The writer may live in another account than the buckets, so the bucket policies allow what the roles' policies allow.
//! What holds for everybody, whatever a role may, is denied in the bucket policies.

use std::time::Duration;

use stonekeep_format::{genesis::LockBy, lock::LockMode};

use super::{
    PolicyBucket, PolicyPlan, PolicyReport, Role, bucket_policy_file,
    document::{Policy, Statement},
    expiry, file,
    principal::Principals,
    rights::{self, DELETE, On, PROMISED},
    terraform,
};

/// How many characters a managed policy may have, white space not counted (IAM's quota).
const MANAGED_CHARS_MAX: usize = 6144;

const REMAINING: &str = "s3:object-lock-remaining-retention-days";
const PUTS: [&str; 2] = ["s3:PutObject", "s3:PutObjectRetention"];

pub(super) fn report(plan: &PolicyPlan, principals: &Principals) -> PolicyReport {
    let of_roles: Vec<(Role, Policy)> =
        Role::ALL.into_iter().map(|role| (role, of_role(role, plan))).collect();
    let of_buckets: Vec<(&PolicyBucket, Policy)> =
        plan.buckets.iter().map(|bucket| (bucket, of_bucket(bucket, plan, principals))).collect();
    let mut files: Vec<_> = of_roles
        .iter()
        .map(|(role, policy)| file(format!("{role}.json"), policy.text()))
        .chain(
            of_buckets
                .iter()
                .map(|(bucket, policy)| file(bucket_policy_file(&bucket.name), policy.text())),
        )
        .collect();
    files.push(file("lifecycle.json", expiry::json(plan)));
    files.push(file("main.tf", terraform::text(plan, &of_roles, &of_buckets)));
    let long = of_roles.iter().filter(|(_, policy)| chars(policy) > MANAGED_CHARS_MAX);
    let mut notes = notes(plan);
    notes.extend(long.map(|(role, _)| {
        format!(
            "The policy of the {role} is longer than the {MANAGED_CHARS_MAX} characters that AWS takes: divide it by buckets."
        )
    }));
    PolicyReport { files, notes }
}

fn chars(policy: &Policy) -> usize {
    policy.text().chars().filter(|c| !c.is_whitespace()).count()
}

/// What is attached to the role itself.
fn of_role(role: Role, plan: &PolicyPlan) -> Policy {
    let grants = rights::of(role, plan);
    let buckets = plan.buckets.as_slice();
    let mut statements: Vec<Statement> =
        grants.iter().map(|grant| grant.allow(plan, buckets)).collect();
    match role {
        Role::Writer => {
            let mut denied = writer_is_denied(plan, buckets);
            let last = denied.pop().map(|rest| rest.on(vec!["*".to_owned()]));
            statements.extend(denied.into_iter().chain(last));
        }
        Role::Provisioner => {
            statements.push(rights::configuration().allow(plan, buckets));
            statements = statements.into_iter().map(with_mfa).collect();
            let canaries = rights::resources(plan, buckets, On::Folders(&["canary"]));
            statements.push(
                Statement::deny("ProvisionerDeletesNothingElse")
                    .actions(DELETE)
                    .on_all_but(canaries),
            );
        }
        Role::Watcher | Role::Restorer => {}
    }
    Policy::new(statements)
}

fn with_mfa(statement: Statement) -> Statement {
    statement.when("Bool", "aws:MultiFactorAuthPresent", ["true"])
}

/// The last one denies all that is not granted: on everything in the role's policy, on the bucket in the bucket's.
fn writer_is_denied(plan: &PolicyPlan, buckets: &[PolicyBucket]) -> Vec<Statement> {
    let mut granted: Vec<&str> =
        rights::of(Role::Writer, plan).into_iter().flat_map(|grant| grant.actions).collect();
    granted.sort_unstable();
    vec![
        rights::writer_adds_nowhere_else(plan, buckets),
        rights::writer_reads_no_rows(plan, buckets),
        Statement::deny("WriterDoesNothingElse")
            .all_actions_but(granted)
            .on(rights::everything(buckets)),
    ]
}

fn of_bucket(bucket: &PolicyBucket, plan: &PolicyPlan, principals: &Principals) -> Policy {
    let here = std::slice::from_ref(bucket);
    let mut statements = Vec::new();
    // The provisioner is of the buckets' own account: it needs no grant here.
    for role in [Role::Writer, Role::Watcher, Role::Restorer] {
        let grants = rights::of(role, plan);
        let allowed = grants.iter().map(|grant| grant.allow(plan, here));
        statements.extend(allowed.map(|statement| statement.by(principals.of(role))));
    }
    let denied = writer_is_denied(plan, here).into_iter();
    statements.extend(denied.map(|statement| statement.by(principals.of(Role::Writer))));
    statements.push(
        Statement::deny("Tls").by_everyone().actions(["s3:*"]).on(rights::everything(here)).when(
            "Bool",
            "aws:SecureTransport",
            ["false"],
        ),
    );
    statements.extend(of_puts(plan, here));
    statements.extend(of_destruction(plan, here, principals));
    Policy::new(statements)
}

/// What no object may be put with.
fn of_puts(plan: &PolicyPlan, here: &[PolicyBucket]) -> Vec<Statement> {
    let all = || rights::resources(plan, here, On::Objects);
    let folders = |folders| rights::resources(plan, here, On::Folders(folders));
    let deny = |sid| Statement::deny(sid).by_everyone();
    let put = |sid| deny(sid).actions(["s3:PutObject"]).on(all());
    let lock = |sid| deny(sid).actions(PUTS).on(all());
    // A manifest is sent again under its own key after an answer was lost; a segment never is.
    let mut statements = vec![
        deny("WriteOnce")
            .actions(["s3:PutObject"])
            .on(folders(&["segments"]))
            .when("Null", "s3:if-none-match", ["true"])
            .when("Bool", "s3:ObjectCreationOperation", ["true"]),
    ];
    if plan.lock_mode == LockMode::Compliance {
        statements.push(lock("NoGovernance").when(
            "StringEquals",
            "s3:object-lock-mode",
            ["GOVERNANCE"],
        ));
    }
    if let Some(days) = days_min(plan.floor) {
        let short = deny("TooShort").actions(PUTS).on(folders(&PROMISED));
        statements.push(short.when("NumericLessThan", REMAINING, [days.to_string()]));
    }
    let days_max = days_max(plan.cap).to_string();
    let customer = "s3:x-amz-server-side-encryption-customer-algorithm";
    statements.extend([
        lock("TooLong").when("NumericGreaterThan", REMAINING, [days_max]),
        lock("NoEventHold").when("StringEquals", "s3:object-lock-event-hold", ["ON"]),
        put("NoKms").when("StringLike", "s3:x-amz-server-side-encryption", ["aws:kms*"]),
        put("NoSseC").when("Null", customer, ["false"]),
        put("NoCold").when("StringEquals", "s3:x-amz-storage-class", ["GLACIER", "DEEP_ARCHIVE"]),
    ]);
    statements
}

/// Days that a lock of a promised object has left at least when it is put. Rounded down, for the server may do so, too; a
/// writer's lock has a day more than the keep.
fn days_min(floor: Duration) -> Option<u64> {
    Some(floor.as_secs() / 86_400).filter(|days| *days > 0)
}

/// One day more than the cap: a genesis is locked for all of it and a second, which a server may round up.
fn days_max(cap: Duration) -> u64 {
    cap.as_secs().div_ceil(86_400) + 1
}

fn of_destruction(
    plan: &PolicyPlan,
    here: &[PolicyBucket],
    principals: &Principals,
) -> [Statement; 2] {
    let objects = ["s3:PutObjectLegalHold", "s3:PutObjectAcl", "s3:PutObjectVersionAcl"];
    let settings = [
        "s3:UpdateObjectEncryption",
        "s3:DeleteBucket",
        "s3:DeleteBucketPolicy",
        "s3:PutBucketPolicy",
        "s3:PutBucketVersioning",
        "s3:PutLifecycleConfiguration",
        "s3:PutBucketObjectLockConfiguration",
        "s3:PutEncryptionConfiguration",
        "s3:PutReplicationConfiguration",
        "s3:PutBucketAcl",
        "s3:PutBucketOwnershipControls",
        "s3:PutBucketPublicAccessBlock",
    ];
    let destroys: Vec<_> = DELETE.into_iter().chain(objects).chain(settings).collect();
    [
        Statement::deny("NoDelete").by_everyone().actions(DELETE).on_all_but(rights::resources(
            plan,
            here,
            On::Folders(&["canary"]),
        )),
        Statement::deny("NoDestroy")
            .by_everyone()
            .actions(destroys)
            .on(rights::everything(here))
            .when("ArnNotEquals", "aws:PrincipalArn", principals.of(Role::Provisioner)),
    ]
}

fn notes(plan: &PolicyPlan) -> Vec<String> {
    let mut notes = vec![
        "Nothing of this was run on AWS, and `terraform validate` has not been run: try it in an account that holds nothing.".to_owned(),
        "Apply main.tf, or the JSON files by hand: NAME.json to each role, bucket-policy-BUCKET.json and lifecycle.json to each bucket. Then run `stonekeep init` without --policy.".to_owned(),
        "Terraform is to run as the provisioner, who then needs to make policies (iam:CreatePolicy) and to read more of a bucket than Stonekeep does (s3:GetBucket*, s3:GetAccelerateConfiguration): give him that while it runs.".to_owned(),
        "Only the provisioner can change a bucket policy once it is there, besides the root of the account: look at its ARN twice.".to_owned(),
        "lifecycle.json replaces all rules of a bucket: what else lies there must keep its own.".to_owned(),
    ];
    if plan.lock_by == LockBy::BucketDefault {
        notes.push("The writer has no s3:PutObjectRetention: AWS then refuses a PUT that names a lock, and the bucket's default decides.".to_owned());
    }
    notes
}
