use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::TimeDelta;
use stonekeep_format::{
    Clock as _,
    clock::StillClock,
    lock::LockMode,
    signature::{Namespace, Signer, sign_document},
    tier::Every,
};
use stonekeep_store::{MemoryStore, ProvisionStore, Right};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    events::Silence,
    init::{InitPlan, init},
    repository::RepositoryError,
    stores::Stores,
};

struct World {
    clock: Arc<StillClock>,
    store: MemoryStore,
    context: Context,
    owner: Signer,
    signer: Signer,
    recipients: Vec<String>,
}

fn key() -> Signer {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&path)
        .status();
    assert!(made.expect("ssh-keygen runs").success());
    Signer::from_openssh(&std::fs::read_to_string(path).expect("written")).expect("a key")
}

fn recipient() -> String {
    age::x25519::Identity::generate().to_public().to_string()
}

fn trust(owner: &Signer) -> Trust {
    let mut trust = Trust::none();
    let line = owner.public_line().expect("a line");
    trust.allow(&line, &[Namespace::Genesis], None, None).expect("a key");
    trust
}

fn tiers() -> Vec<Tier> {
    vec![Tier { name: "hourly".into(), every: Every::Hour, keep: Duration::from_secs(7 * 86_400) }]
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(StillClock::new("2026-11-21T00:00:00Z".parse().expect("a date")));
        let store =
            MemoryStore::absent("vault".parse().expect("a bucket"), Arc::clone(&clock) as _);
        let (listener, cancel) = (Arc::new(Silence), CancellationToken::new());
        let context = Context { clock: Arc::clone(&clock) as _, listener, cancel };
        let recipients = vec![recipient(), recipient()];
        let world = Self { clock, store, context, owner: key(), signer: key(), recipients };
        let plan = InitPlan {
            signer_public_lines: vec![world.signer.public_line().expect("a line")],
            recipients: world.recipients.clone(),
            tiers: tiers(),
            policies: BTreeMap::new(),
            lock_mode: LockMode::Compliance,
            owner: trust(&world.owner),
        };
        let sign = |namespace, message: &[u8]| world.sign(&world.owner, namespace, message);
        init(&plan, &world.buckets(), &sign, &world.context).await.expect("made");
        world
    }

    fn sign(&self, key: &Signer, namespace: Namespace, message: &[u8]) -> Result<String, String> {
        key.sign(namespace, message).map_err(|error| error.to_string())
    }

    fn buckets(&self) -> Buckets {
        let main: Arc<dyn ProvisionStore> = Arc::new(self.store.clone());
        Buckets { main, of_tiers: BTreeMap::new(), probes: vec![Arc::new(self.store.clone())] }
    }

    async fn open(&self) -> Result<Repository, RepositoryError> {
        let stores = Stores::new(Arc::new(self.store.clone()), Vec::new());
        Repository::open(stores, &trust(&self.owner), &self.context).await
    }

    fn plan(&self, signer: &Signer) -> RotatePlan {
        RotatePlan {
            signer_public_lines: vec![signer.public_line().expect("a line")],
            recipients: self.recipients.clone(),
            tiers: tiers(),
            withdrawn_from: None,
            accept_configuration: false,
            owner: trust(&self.owner),
        }
    }

    async fn rotate(&self, plan: &RotatePlan, by: &Signer) -> Result<RotateReport, RotateError> {
        let known = known(&self.buckets(), &trust(&self.owner), &self.context).await?;
        let sign = |namespace, message: &[u8]| self.sign(by, namespace, message);
        rotate(plan, &known, &self.buckets(), &sign, &self.context).await
    }
}

#[tokio::test]
async fn a_signer_is_withdrawn_and_what_it_signed_before_stays_believed() {
    let world = World::new().await;
    let before = world.clock.now();
    world.clock.set(before + TimeDelta::days(1));
    let next = key();
    let report = world.rotate(&world.plan(&next), &world.owner).await.expect("signed");
    assert_eq!(report.genesis_key, ObjectKey::genesis(2));
    let known = world.open().await.expect("a line of two");
    let now = world.clock.now();
    let may = |signer, at| known.trust.allows_signer(signer, Namespace::Manifest, at);
    assert_eq!((known.genesis.n, known.line.len()), (2, 2));
    assert!(may(&world.signer, before) && !may(&world.signer, now));
    assert!(may(&next, now) && !may(&next, before));
}

#[tokio::test]
async fn a_signer_can_be_withdrawn_from_the_hour_of_its_theft() {
    let world = World::new().await;
    let stolen = world.clock.now() + TimeDelta::hours(5);
    world.clock.set(stolen + TimeDelta::hours(1));
    let early = stolen + TimeDelta::days(1);
    let plan = RotatePlan { withdrawn_from: Some(early), ..world.plan(&key()) };
    let refused = world.rotate(&plan, &world.owner).await;
    assert!(matches!(refused, Err(RotateError::Early(at)) if at == early), "{refused:?}");
    let plan = RotatePlan { withdrawn_from: Some(stolen), ..plan };
    world.rotate(&plan, &world.owner).await.expect("signed");
    let known = world.open().await.expect("a line of two");
    let may = |at| known.trust.allows_signer(&world.signer, Namespace::Manifest, at);
    assert!(may(stolen - TimeDelta::seconds(1)) && !may(stolen));
}

#[tokio::test]
async fn a_theft_that_was_earlier_than_thought_is_dated_again() {
    let world = World::new().await;
    world.clock.set(world.clock.now() + TimeDelta::hours(9));
    let next = key();
    world.rotate(&world.plan(&next), &world.owner).await.expect("signed");
    let stolen = world.clock.now() - TimeDelta::hours(4);
    world.clock.set(world.clock.now() + TimeDelta::hours(1));
    let plan = RotatePlan { withdrawn_from: Some(stolen), ..world.plan(&next) };
    world.rotate(&plan, &world.owner).await.expect("signed");
    let known = world.open().await.expect("opened");
    let may = |signer, at| known.trust.allows_signer(signer, Namespace::Manifest, at);
    assert!(!may(&world.signer, stolen) && may(&world.signer, stolen - TimeDelta::seconds(1)));
    assert!(may(&next, world.clock.now()));
    // Another one that is withdrawn later does not move it.
    world.clock.set(world.clock.now() + TimeDelta::hours(1));
    world.rotate(&world.plan(&key()), &world.owner).await.expect("signed");
    let known = world.open().await.expect("opened");
    let may = |at| known.trust.allows_signer(&world.signer, Namespace::Manifest, at);
    assert!(!may(stolen) && may(stolen - TimeDelta::seconds(1)));
}

/// One owner has several repositories, and a thief copies what he signed for one into another.
#[tokio::test]
async fn a_successor_of_another_repository_is_nobodys_here() {
    let (world, mut other) = (World::new().await, World::new().await);
    // The other one's owner is the same.
    other.store =
        MemoryStore::absent("other".parse().expect("a bucket"), Arc::clone(&other.clock) as _);
    other.owner = world.owner.clone();
    let plan = InitPlan {
        signer_public_lines: vec![other.signer.public_line().expect("a line")],
        recipients: other.recipients.clone(),
        tiers: tiers(),
        policies: BTreeMap::new(),
        lock_mode: LockMode::Compliance,
        owner: trust(&other.owner),
    };
    let sign = |namespace, message: &[u8]| other.sign(&other.owner, namespace, message);
    init(&plan, &other.buckets(), &sign, &other.context).await.expect("made");
    let report = other.rotate(&other.plan(&key()), &other.owner).await.expect("signed");
    world.store.plant(&report.genesis_key, Bytes::from(report.genesis));
    assert_eq!(world.open().await.expect("opened").genesis.n, 1);
    world.rotate(&world.plan(&key()), &world.owner).await.expect("signed");
    assert_eq!(world.open().await.expect("opened").genesis.n, 2);
}

#[tokio::test]
async fn recipients_change_and_nothing_else_is_signed_twice() {
    let world = World::new().await;
    let same = world.rotate(&world.plan(&world.signer), &world.owner).await;
    assert!(matches!(same, Err(RotateError::Unchanged { n: 1 })), "{same:?}");
    let recipients = vec![world.recipients[0].clone(), recipient()];
    let plan = RotatePlan { recipients: recipients.clone(), ..world.plan(&world.signer) };
    let report = world.rotate(&plan, &world.owner).await.expect("signed");
    assert_eq!(report.changes.len(), 2, "{:?}", report.changes);
    assert_eq!(world.open().await.expect("opened").genesis.recipients, recipients);
    let plan = RotatePlan { recipients: recipients[..1].to_vec(), ..plan };
    let one = world.rotate(&plan, &world.owner).await;
    assert!(matches!(one, Err(RotateError::Recipients(_))), "{one:?}");
}

/// Whoever has taken over the writer's host has its signer and may put what he likes.
#[tokio::test]
async fn root_on_the_writers_host_cannot_rotate_himself_in() {
    let world = World::new().await;
    let thief = key();
    for by in [&thief, &world.signer] {
        let refused = world.rotate(&world.plan(&thief), by).await;
        assert!(
            matches!(refused, Err(RotateError::Genesis(InitError::Signature(_)))),
            "{refused:?}"
        );
        // Past our own checks, by hand.
        let known = world.open().await.expect("opened");
        let now = world.clock.now();
        let forged = successor(&world.plan(&thief), &known, &world.buckets(), now).expect("made");
        let object = sign_document(&forged, by).expect("signed");
        world.store.plant(&forged.key, Bytes::from(object));
    }
    let known = world.open().await.expect("opened");
    assert_eq!(known.genesis.n, 1);
    let now = world.clock.now();
    assert!(!known.trust.allows_signer(&thief, Namespace::Manifest, now));
    // Nor does what he has put there keep the owner from going on.
    world.rotate(&world.plan(&key()), &world.owner).await.expect("signed");
    assert_eq!(world.open().await.expect("opened").genesis.n, 2);
}

#[tokio::test]
async fn a_fingerprint_is_enough_to_read() {
    let world = World::new().await;
    let stores = || Stores::new(Arc::new(world.store.clone()), Vec::new());
    let owner = Trust::of_owner(&world.owner.fingerprint()).expect("a fingerprint");
    let known = Repository::open(stores(), &owner, &world.context).await.expect("opened");
    assert_eq!(known.genesis, world.open().await.expect("opened").genesis);
    let other = Trust::of_owner(&world.signer.fingerprint()).expect("a fingerprint");
    let refused = Repository::open(stores(), &other, &world.context).await;
    assert!(matches!(refused, Err(RepositoryError::ForeignGenesis { .. })));
    for wrong in ["", "SHA256:abc", "MD5:00:11"] {
        assert!(Trust::of_owner(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn what_a_bucket_is_expected_to_be_is_signed() {
    let world = World::new().await;
    let known = world.open().await.expect("opened");
    let expected = &known.genesis.expected[ReadStore::bucket(&world.store)];
    assert_eq!(expected["versioning"], "Enabled");
    assert_eq!(known.genesis.calibration.get("O1"), Some(&400));
    world.store.put_policy("{}").await.expect("put");
    // Somebody has changed it, and nobody signs that without a word.
    let plan = world.plan(&key());
    let refused = world.rotate(&plan, &world.owner).await;
    assert!(
        matches!(&refused, Err(RotateError::Configured(what)) if what[0].contains("policy")),
        "{refused:?}"
    );
    let plan = RotatePlan { accept_configuration: true, ..plan };
    world.rotate(&plan, &world.owner).await.expect("signed anew");
    let signed = world.open().await.expect("opened").genesis.expected;
    assert_eq!(signed[ReadStore::bucket(&world.store)]["policy"], "{}");
    // A credential that may read less does not unsign what was read.
    let known = world.open().await.expect("opened");
    let mut buckets = world.buckets();
    buckets.main = Arc::new(world.store.without(&[Right::ReadBucket]));
    let kept = configuration(&world.plan(&world.signer), &known.genesis, &buckets).await;
    assert_eq!(kept.expect("read"), known.genesis.expected);
}
