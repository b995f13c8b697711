//! What each role may, once for all providers, in the names of AWS.

use stonekeep_format::genesis::LockBy;

use super::{PolicyBucket, PolicyPlan, Role, document::Statement};

/// Where the daemon puts something. Not `genesis/`: who could put there could try to name new signers.
const WRITTEN: [&str; 5] = ["manifests", "inventories", "segments", "attempts", "canary"];
/// Where a drill puts its record: nothing that is restored lies there.
pub(super) const REPORTS: &str = "reports";
/// What a reader without an identity needs, and what a writer reads to know its chain: all but the segments.
const WITHOUT_ROWS: [&str; 6] =
    ["genesis", "manifests", "inventories", "attempts", "canary", REPORTS];
/// What a provisioner puts: `init` and rotation a genesis, `prove --lock` its canaries.
const PROVISIONED: [&str; 2] = ["genesis", "canary"];
/// What is locked for at least as long as the shortest keep.
pub(super) const PROMISED: [&str; 3] = ["segments", "manifests", "inventories"];

/// What nobody may but the provisioner on his own canaries: `prove --lock` shows that a lock refuses even one who may delete.
pub(super) const DELETE: [&str; 3] =
    ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"];

/// What a bucket can be asked about itself without anything of it being read.
const SETTINGS: [&str; 7] = [
    "s3:GetBucketPolicy",
    "s3:GetLifecycleConfiguration",
    "s3:GetEncryptionConfiguration",
    "s3:GetReplicationConfiguration",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetBucketOwnershipControls",
    "s3:GetBucketLocation",
];

/// What a right is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// The buckets themselves.
    Buckets,
    /// Every object of the repository.
    Objects,
    /// The objects below these.
    Folders(&'static [&'static str]),
    /// The objects that the writer may put there.
    Written,
}

/// Something that a role may.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) sid: &'static str,
    pub(super) actions: Vec<&'static str>,
    pub(super) on: On,
}

impl Grant {
    fn new(sid: &'static str, actions: impl Into<Vec<&'static str>>, on: On) -> Self {
        Self { sid, actions: actions.into(), on }
    }

    pub(super) fn allow(&self, plan: &PolicyPlan, buckets: &[PolicyBucket]) -> Statement {
        let resources = resources(plan, buckets, self.on);
        Statement::allow(self.sid).actions(self.actions.clone()).on(resources)
    }
}

/// Returns what a role may. Nothing else is needed by any command of it.
pub(super) fn of(role: Role, plan: &PolicyPlan) -> Vec<Grant> {
    match role {
        Role::Writer => writer(plan),
        Role::Watcher => watcher(),
        Role::Restorer => restorer(plan),
        Role::Provisioner => provisioner(),
    }
}

/// It reads the lock of what it put in any case. It neither begins nor gives up an upload in parts: it makes none.
fn writer(plan: &PolicyPlan) -> Vec<Grant> {
    let mut puts = vec!["s3:PutObject"];
    if plan.lock_by == LockBy::PerObject {
        puts.push("s3:PutObjectRetention");
    }
    let bucket = ["s3:GetBucketVersioning", "s3:GetBucketObjectLockConfiguration"];
    let mut grants = vec![
        Grant::new("WriterAdds", puts, On::Written),
        Grant::new("WriterReadsLocks", ["s3:GetObjectRetention"], On::Objects),
        Grant::new("WriterReadsTheBucketsState", bucket, On::Buckets),
    ];
    if !plan.write_only {
        let reads = ["s3:GetObject", "s3:GetObjectVersion"];
        grants.push(Grant::new("WriterLists", ["s3:ListBucketVersions"], On::Buckets));
        grants.push(Grant::new("WriterReadsWhatHoldsNoRows", reads, On::Folders(&WITHOUT_ROWS)));
    }
    grants
}

fn watcher() -> Vec<Grant> {
    vec![
        Grant::new("WatcherLists", LISTS, On::Buckets),
        Grant::new("WatcherReadsSettings", SETTINGS, On::Buckets),
        Grant::new("WatcherReadsLocks", ["s3:GetObjectRetention"], On::Objects),
        Grant::new("WatcherReadsWhatHoldsNoRows", READS, On::Folders(&WITHOUT_ROWS)),
    ]
}

/// Whoever drills may say what came of it, where nothing is restored from. It names the lock, whoever names a backup's.
fn restorer(plan: &PolicyPlan) -> Vec<Grant> {
    let mut grants = vec![
        Grant::new("RestorerLists", LISTS, On::Buckets),
        Grant::new("RestorerReads", [READS[0], READS[1], "s3:GetObjectRetention"], On::Objects),
    ];
    if plan.record_drills {
        let puts = ["s3:PutObject", "s3:PutObjectRetention"];
        grants.push(Grant::new("RestorerRecordsDrills", puts, On::Folders(&[REPORTS])));
    }
    grants
}

/// Of objects: what `init`, `extend` and `prove --lock` do. No segment is read, and none but a canary can be deleted.
fn provisioner() -> Vec<Grant> {
    let locks = ["s3:PutObjectRetention", "s3:GetObjectRetention"];
    vec![
        Grant::new("ProvisionerLists", LISTS, On::Buckets),
        Grant::new("ProvisionerPuts", ["s3:PutObject"], On::Folders(&PROVISIONED)),
        Grant::new("ProvisionerLengthensLocks", locks, On::Objects),
        Grant::new("ProvisionerReadsWhatHoldsNoRows", READS, On::Folders(&WITHOUT_ROWS)),
        Grant::new("ProvisionerDeletesCanaries", DELETE, On::Folders(&["canary"])),
    ]
}

const LISTS: [&str; 4] = [
    "s3:ListBucket",
    "s3:ListBucketVersions",
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
];
const READS: [&str; 2] = ["s3:GetObject", "s3:GetObjectVersion"];

/// Returns what a provisioner may besides: to configure the buckets. There is no right to delete one.
pub(super) fn configuration() -> Grant {
    let puts = [
        "s3:CreateBucket",
        "s3:PutBucketVersioning",
        "s3:PutBucketObjectLockConfiguration",
        "s3:PutBucketPolicy",
        "s3:PutLifecycleConfiguration",
        "s3:PutEncryptionConfiguration",
        "s3:PutBucketPublicAccessBlock",
        "s3:PutBucketOwnershipControls",
    ];
    let actions: Vec<_> = puts.into_iter().chain(SETTINGS).collect();
    Grant::new("ProvisionerConfigures", actions, On::Buckets)
}

/// Denies the writer to put or to lock anywhere but in its own places, whatever else allows it.
pub(super) fn writer_adds_nowhere_else(plan: &PolicyPlan, buckets: &[PolicyBucket]) -> Statement {
    Statement::deny("WriterAddsNowhereElse")
        .actions(["s3:PutObject", "s3:PutObjectRetention"])
        .on_all_but(resources(plan, buckets, On::Written))
}

/// Denies the writer to read segments, or anything if it only writes, whatever else allows it.
pub(super) fn writer_reads_no_rows(plan: &PolicyPlan, buckets: &[PolicyBucket]) -> Statement {
    let on = if plan.write_only { On::Objects } else { On::Folders(&["segments"]) };
    Statement::deny("WriterReadsNoRows").actions(READS).on(resources(plan, buckets, on))
}

/// Denies the restorer what an owner of objects may do to them, which he is of his records on some servers.
pub(super) fn restorer_changes_no_record(plan: &PolicyPlan, buckets: &[PolicyBucket]) -> Statement {
    let rights = [
        "s3:PutObjectAcl",
        "s3:PutObjectVersionAcl",
        "s3:PutObjectLegalHold",
        "s3:PutObjectTagging",
        "s3:PutObjectVersionTagging",
    ];
    let records = resources(plan, buckets, On::Folders(&[REPORTS]));
    Statement::deny("RestorerChangesNoRecord").actions(rights).on(records)
}

/// Returns the ARNs of `on` in these buckets.
pub(super) fn resources(plan: &PolicyPlan, buckets: &[PolicyBucket], on: On) -> Vec<String> {
    let of = |bucket: &PolicyBucket| {
        let arn = format!("arn:aws:s3:::{}", bucket.name);
        let below = |folder: &&str| format!("{arn}/{}{folder}/*", base(plan));
        match on {
            On::Buckets => vec![arn],
            On::Objects => vec![format!("{arn}/{}*", base(plan))],
            On::Folders(folders) => folders.iter().map(below).collect(),
            On::Written => written(bucket).iter().map(below).collect(),
        }
    };
    buckets.iter().flat_map(of).collect()
}

/// Returns the buckets and all that is in them.
pub(super) fn everything(buckets: &[PolicyBucket]) -> Vec<String> {
    let of = |bucket: &PolicyBucket| {
        let arn = format!("arn:aws:s3:::{}", bucket.name);
        [arn.clone(), format!("{arn}/*")]
    };
    buckets.iter().flat_map(of).collect()
}

/// What keys of the repository begin with.
pub(super) fn base(plan: &PolicyPlan) -> String {
    if plan.prefix.is_empty() { String::new() } else { format!("{}/", plan.prefix) }
}

/// Of a bucket that holds the genesis alone, a writer has nothing to put there but `prove`'s canaries.
const fn written(bucket: &PolicyBucket) -> &'static [&'static str] {
    if bucket.holds_snapshots { &WRITTEN } else { &["canary"] }
}
