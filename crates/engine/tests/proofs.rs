//! Both proofs on real servers: what each fails and what it lacks, by probe.
//!
//! The addresses come from the environment: `./test` starts the servers and sets them. Without them every test fails.
#![cfg(test)]

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use stonekeep_engine::{
    Context,
    events::Silence,
    policy::{PolicyBucket, PolicyPlan, Provider, Role, policy},
    prove::{ProvePlan, ProveReport, authority, lock},
};
use stonekeep_format::{Clock, genesis::LockBy, lock::LockMode, prove::Verdict};
use stonekeep_store::{
    ProvisionStore as _, ReadStore as _, S3Credentials, S3Options, S3Probe, S3Store,
};

const PREFIX: &str = "keep/prod";
const CAP: Duration = Duration::from_secs(100 * 86_400);

#[expect(clippy::disallowed_methods, reason = "a test finds its server in the environment")]
fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run ./test, which starts a server"))
}

/// A bucket of a server's, and the credentials there: `STONEKEEP_TEST_S3_…` or `STONEKEEP_TEST_MOTO_…`.
struct Bucket {
    server: &'static str,
    name: String,
}

impl Bucket {
    async fn new(server: &'static str) -> Self {
        let bucket = Self { server, name: format!("proof-{:016x}", rand::random::<u64>()) };
        let owner = bucket.owner().await;
        owner.create_bucket().await.expect("the owner may make buckets");
        bucket
    }

    /// Gives the writer its rights, where its user's own policy does not.
    async fn let_the_writer_in(&self) {
        if self.kind().starts_with("ceph") {
            let owner = self.owner().await;
            owner.put_policy(&ceph_policy(&owner)).await.expect("the owner may set a policy");
        }
    }

    async fn owner(&self) -> S3Store {
        S3Store::open(self.options("OWNER"), Arc::new(HostClock)).await.expect("options")
    }

    async fn probe(&self, user: &str) -> S3Probe {
        S3Probe::open(self.options(user), Arc::new(HostClock)).await.expect("options")
    }

    fn kind(&self) -> String {
        if self.server == "MOTO" { "moto".to_owned() } else { variable("STONEKEEP_TEST_S3_SERVER") }
    }

    fn options(&self, user: &str) -> S3Options {
        let credential = variable(&format!("STONEKEEP_TEST_{}_{user}", self.server));
        let (key, secret) = credential.split_once(':').expect("KEY:SECRET");
        S3Options {
            bucket: self.name.parse().expect("a bucket"),
            prefix: PREFIX.to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(variable(&format!("STONEKEEP_TEST_{}_ENDPOINT", self.server))),
            path_style: true,
            authorities: None,
            lock_by: LockBy::PerObject,
            credentials: S3Credentials::Static {
                access_key_id: key.to_owned(),
                secret_access_key: secret.to_owned().into(),
                session_token: None,
            },
        }
    }
}

/// What `stonekeep policy` makes for it. Elsewhere a user's own policy says the same: tests/servers/users.py.
fn ceph_policy(owner: &S3Store) -> String {
    let users = [(Role::Writer, "writer"), (Role::Provisioner, "owner")];
    let plan = PolicyPlan {
        provider: Provider::Ceph,
        buckets: vec![PolicyBucket {
            name: owner.bucket().clone(),
            holds_snapshots: true,
            default_days: None,
        }],
        prefix: PREFIX.to_owned(),
        region: "us-east-1".to_owned(),
        tls: false,
        lock_by: LockBy::PerObject,
        lock_mode: LockMode::Compliance,
        floor: Duration::from_secs(86_400),
        cap: CAP,
        principals: users.into_iter().map(|(role, user)| (role, vec![user.to_owned()])).collect(),
        write_only: false,
        record_drills: false,
    };
    let report = policy(&plan).expect("a policy");
    let file = report.files.iter().find(|file| file.name.starts_with("bucket-policy-"));
    file.expect("a bucket policy").text.clone()
}

/// The host's clock; sleeping is real, since locks end by the server's clock.
#[derive(Debug)]
struct HostClock;

impl Clock for HostClock {
    #[expect(clippy::disallowed_methods, reason = "the server's clock is real")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
    #[expect(clippy::disallowed_methods, reason = "the server's clock is real")]
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

fn context() -> Context {
    let cancel = tokio_util::sync::CancellationToken::new();
    Context { clock: Arc::new(HostClock), listener: Arc::new(Silence), cancel }
}

/// Knows how the bucket is configured, as a genesis does.
async fn plan(bucket: &Bucket, user: &str) -> ProvePlan {
    let (store, owner) = (bucket.probe(user).await, bucket.owner().await);
    let facts = owner.bucket_facts().await.expect("the owner may read them");
    ProvePlan {
        stores: vec![Arc::new(store)],
        lock_mode: LockMode::Compliance,
        lock_by: LockBy::PerObject,
        cap: CAP,
        calibration: BTreeMap::new(),
        expected: BTreeMap::from([(owner.bucket().clone(), facts.facts)]),
        lasting: false,
    }
}

/// What both proofs come to, with all that is no pass.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    fails: Vec<String>,
    lacks: Vec<String>,
    unclear: Vec<String>,
}

impl Found {
    fn of(report: &ProveReport) -> Self {
        let of = |verdict: Verdict| {
            let lines = report.probes.iter().filter(|line| line.verdict == verdict);
            lines.map(|line| line.id.clone()).collect()
        };
        let (fails, lacks) = (of(Verdict::Fail), of(Verdict::Lacking));
        Self { fails, lacks, unclear: of(Verdict::Inconclusive) }
    }

    fn expected(fails: &str, lacks: &str, unclear: &str) -> Self {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Self { fails: words(fails), lacks: words(lacks), unclear: words(unclear) }
    }
}

/// What each server was seen to come to: docs/servers.md.
fn authority_of(server: &str) -> Found {
    let (fails, lacks, unclear) = match server {
        "ceph16" => ("", "C0m C2a C2b C3a C7 O4a O4b O4d", ""),
        "ceph18" => ("", "C0m C2a C2b C3a C7 O4b O4d", ""),
        "ceph20" => ("", "C2a C3a C7 O4b O4d", ""),
        "ministack" => ("", "C0m C2a C3a C7", ""),
        // Whether the writer is kept to its folders there, its user's policy says.
        "moto" => ("C0 S4a S4b S4c C4 E1", "C0m C2a C3a C7", ""),
        other => panic!("nobody has looked at {other}"),
    };
    Found::expected(fails, lacks, unclear)
}

/// The same of the lock proof.
fn lock_of(server: &str) -> Found {
    let (fails, lacks, unclear) = match server {
        "ceph16" => ("", "C0m", ""),
        "ceph18" => ("", "C0m", ""),
        "ceph20" => ("", "", ""),
        "ministack" => ("O3 E2 E3", "C0m", ""),
        "moto" => ("L0 C0 S4a S4b S4c S4d E1 O1 E2 E3", "C0m", ""),
        other => panic!("nobody has looked at {other}"),
    };
    Found::expected(fails, lacks, unclear)
}

async fn proves_authority(server: &'static str) {
    let bucket = Bucket::new(server).await;
    bucket.let_the_writer_in().await;
    let report = authority(&plan(&bucket, "WRITER").await, &context()).await;
    let report = report.expect("it answers");
    assert_eq!(Found::of(&report), authority_of(&bucket.kind()), "{report:#?}");
}

async fn proves_lock(server: &'static str) {
    let bucket = Bucket::new(server).await;
    let report = lock(&plan(&bucket, "OWNER").await, &context()).await;
    let report = report.expect("it answers");
    assert_eq!(Found::of(&report), lock_of(&bucket.kind()), "{report:#?}");
}

mod s3 {
    #[tokio::test]
    async fn the_writers_rights_are_proved_and_what_the_server_lacks_is_named() {
        super::proves_authority("S3").await;
    }

    #[tokio::test]
    async fn the_lock_is_proved_and_what_the_server_lacks_is_named() {
        super::proves_lock("S3").await;
    }
}

mod moto {
    #[tokio::test]
    async fn a_server_that_locks_nothing_fails_by_name() {
        super::proves_authority("MOTO").await;
    }

    #[tokio::test]
    async fn a_lock_that_does_not_hold_fails_by_name() {
        super::proves_lock("MOTO").await;
    }
}
