//! Attacks on one's own repository, to know instead of to believe that nobody can delete.
//!
//! There are two proofs, since a refusal to delete a locked version does not say what refused. [`authority()`] is made with the
//! writer's own credential: everything but adding is refused to it. [`lock()`] is made with a credential that may delete: the
//! lock refuses all the same. Both touch their own canaries only ([`ProbeStore`] leaves them no other way), send
//! each attack once, and count as a pass nothing but a refusal for want of a right. What cannot be told is inconclusive; what a
//! server lacks although no promise rests on it is named.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use stonekeep_format::{
    ErrorKind,
    genesis::LockBy,
    ids::{BucketName, SnapshotId},
    key::ObjectKey,
    lock::{Lock, LockMode},
    prove::{ProbeLine, Proof, Verdict},
    signature::SignatureError,
};
use stonekeep_store::{
    Attack, BucketFacts, Canary, Planting, ProbeAnswer, ProbeStore, Reaction, StoreError,
};

use crate::Context;

mod authority;
mod lock;
mod record;

pub use self::{
    authority::authority,
    lock::{calibrate, lock},
    record::{put_lock_proof, put_record},
};

/// How long a canary is locked (1 d): the shortest that every server takes, and nothing adds up.
const CANARY_LOCK: TimeDelta = TimeDelta::days(1);

/// What to attack.
#[derive(Debug, Clone)]
pub struct ProvePlan {
    /// The repository's buckets, each once.
    pub stores: Vec<Arc<dyn ProbeStore>>,
    /// How its objects are locked.
    pub lock_mode: LockMode,
    /// Who names the locks.
    pub lock_by: LockBy,
    /// The longest lock there may be.
    pub cap: Duration,
    /// What an authorised caller was answered, by the probe, if that was ever tried: see [`lock()`].
    pub calibration: BTreeMap<String, u16>,
    /// How each bucket was configured when the owner signed, by its name.
    pub expected: BTreeMap<BucketName, BTreeMap<String, String>>,
    /// Whether to try also what leaves something behind for long where the server lets it.
    pub lasting: bool,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct ProveReport {
    /// The run.
    pub id: SnapshotId,
    /// Whose rights were tried.
    pub proof: Proof,
    /// When, by the storage server's clock.
    pub started_at: DateTime<Utc>,
    /// The worst of the verdicts.
    pub verdict: Verdict,
    /// Every probe, in the order in which they were made.
    pub probes: Vec<ProbeLine>,
    /// What this credential, if it is an authorised one, was answered where a request cannot take effect.
    pub calibration: BTreeMap<String, u16>,
    /// Where the signed record lies.
    pub record: Option<ObjectKey>,
}

impl ProveReport {
    /// Returns what the exit code says; `None`: nothing is wrong.
    #[must_use]
    pub const fn kind(&self) -> Option<ErrorKind> {
        match self.verdict {
            Verdict::Fail => Some(ErrorKind::Corrupt),
            Verdict::Inconclusive => Some(ErrorKind::Unavailable),
            Verdict::Pass | Verdict::Skipped | Verdict::Lacking => None,
        }
    }
}

/// Why nothing could be proved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The bucket does not answer.
    #[error("cannot {action}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: Box<StoreError>,
    },
    /// The record cannot be signed.
    #[error("cannot sign the record")]
    Sign(#[source] SignatureError),
    /// A request that means nothing took effect.
    #[error(
        "the server took a request that means nothing, and the bucket is configured otherwise now ({detail}): no server to keep backups on"
    )]
    Changed {
        /// What differs.
        detail: String,
    },
    /// Stopped on request.
    #[error(
        "stopped on request; what was attacked are canaries, and their locks end by themselves"
    )]
    Cancelled,
}

impl ProveError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store { source, .. } => source.kind(),
            Self::Sign(_) | Self::Changed { .. } => ErrorKind::Config,
            Self::Cancelled => ErrorKind::Unavailable,
        }
    }
}

/// How the answer to a probe is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// It must be refused for want of a right.
    Forbidden,
    /// The same, of a request that can take effect nowhere: what an authorised caller is told, and nobody, is compared with.
    Oracle,
    /// The same; the server may also say that the request means nothing.
    Meaningless,
    /// The state of the bucket refuses it to those who have the right: hearing of the state is having it.
    OfState,
    /// It should be refused, and no promise rests on that.
    Limit,
    /// Either answer is fine; which it is, is worth knowing.
    Told,
}

/// One probe.
#[derive(Debug, Clone, Copy)]
struct Probe {
    id: &'static str,
    what: &'static str,
    attack: Attack,
    rule: Rule,
}

/// One bucket under attack, and what came of it so far.
struct Siege<'a> {
    plan: &'a ProvePlan,
    store: &'a dyn ProbeStore,
    run: &'a SnapshotId,
    /// The server's time at its beginning.
    at: DateTime<Utc>,
    lines: Vec<ProbeLine>,
}

impl Siege<'_> {
    fn bucket(&self) -> BucketName {
        self.store.store().bucket().clone()
    }

    fn say(&mut self, id: &str, what: &str, verdict: Verdict, detail: impl fmt::Display) {
        let (bucket, detail) = (self.bucket(), detail.to_string());
        let (id, what) = (id.to_owned(), what.to_owned());
        self.lines.push(ProbeLine { bucket, id, what, verdict, detail });
    }

    /// Returns the lock of a canary.
    fn canary_lock(&self) -> Lock {
        Lock { mode: self.plan.lock_mode, retain_until: self.at + CANARY_LOCK }
    }

    /// Sends one attack and judges the answer.
    async fn probe(&mut self, probe: Probe, canary: &Canary) -> Verdict {
        let answer = self.store.attack(probe.attack, canary, true).await;
        let authorised = self.plan.calibration.get(probe.id).copied();
        let (verdict, note) = match (probe.rule, answer.reaction) {
            (_, Reaction::Unclear) => (Verdict::Inconclusive, "tells nothing"),
            (Rule::Told, Reaction::Done) => (Verdict::Pass, "it may, which is no danger"),
            (Rule::Told | Rule::Limit, Reaction::Denied)
            | (Rule::Told, Reaction::Stopped)
            | (Rule::Meaningless, Reaction::Stopped | Reaction::Denied)
            | (Rule::OfState, Reaction::Denied) => (Verdict::Pass, "refused"),
            (Rule::Limit, Reaction::Done) => (Verdict::Lacking, "the server lets it"),
            (Rule::Limit, Reaction::Stopped) => {
                (Verdict::Lacking, "stopped for another reason than a missing right")
            }
            (
                Rule::Forbidden | Rule::Oracle | Rule::Meaningless | Rule::OfState,
                Reaction::Done,
            ) => (Verdict::Fail, "IT SUCCEEDED"),
            (Rule::OfState, Reaction::Stopped) => (
                Verdict::Fail,
                "only the bucket's state stood in the way: this credential has the right; is it an administrator's?",
            ),
            (Rule::Oracle, Reaction::Denied) if authorised == Some(answer.answer.status) => (
                Verdict::Lacking,
                "the server says so to an authorised caller, too: it tells nothing",
            ),
            (Rule::Forbidden | Rule::Oracle, Reaction::Denied) => (Verdict::Pass, "refused"),
            (Rule::Forbidden, Reaction::Stopped) => {
                (Verdict::Inconclusive, "not a refusal for want of a right")
            }
            (Rule::Oracle, Reaction::Stopped) => self.stopped(probe, &answer, canary).await,
        };
        self.say(probe.id, probe.what, verdict, format!("{answer}: {note}"));
        verdict
    }

    /// The request was refused for its form. It is asked once more, by nobody: a server that says the same to nobody looks at
    /// forms before rights, and nothing is learnt from it. Else only who has seen an authorised caller's answer can judge.
    async fn stopped(
        &self,
        probe: Probe,
        answer: &ProbeAnswer,
        canary: &Canary,
    ) -> (Verdict, &'static str) {
        let control = self.store.attack(probe.attack, canary, false).await;
        if control.reaction == Reaction::Done {
            return (Verdict::Fail, "ANYBODY MAY, without a credential");
        }
        if control.reaction == Reaction::Stopped && control.answer.status == answer.answer.status {
            return (Verdict::Lacking, "the server says so to anybody: it tells nothing");
        }
        let signed = self.plan.expected.get(&self.bucket());
        let is_offered = |part| signed.is_none_or(|signed| signed.contains_key(part));
        if part_of(probe.attack).is_some_and(|part| !is_offered(part)) {
            return (Verdict::Lacking, "the server has no such configuration");
        }
        match self.plan.calibration.get(probe.id) {
            Some(authorised) if *authorised == answer.answer.status => {
                (Verdict::Fail, "so it answers an authorised caller: this credential has the right")
            }
            _ => (Verdict::Inconclusive, "not a refusal for want of a right"),
        }
    }

    /// Puts a canary that is locked as a backup is, and reads its lock back.
    async fn plant_locked(&mut self, id: &str, what: &str, planting: Planting) -> Option<Canary> {
        let canary = match self.store.plant(self.run, id, planting).await {
            Ok(canary) => canary,
            Err(answer) => {
                self.say(id, what, Verdict::Inconclusive, format!("{answer}: nothing was put"));
                return None;
            }
        };
        let (verdict, detail) = self.read_back(&canary, planting.lock()).await;
        self.say(id, what, verdict, detail);
        Some(canary)
    }

    /// Says whether a canary is locked as was asked for.
    async fn read_back(&self, canary: &Canary, wanted: Lock) -> (Verdict, String) {
        match self.store.store().retention(canary.key(), canary.version_id()).await {
            Ok(Some(lock)) if lock.satisfies(&wanted) => (Verdict::Pass, format!("locked: {lock}")),
            Ok(Some(lock)) => {
                (Verdict::Fail, format!("its lock is {lock}, weaker than {wanted} was asked for"))
            }
            Ok(None) => (Verdict::Fail, "THE SERVER DROPPED ITS LOCK".to_owned()),
            Err(error) if error.is_transient() => {
                (Verdict::Inconclusive, format!("its lock could not be read: {error}"))
            }
            Err(error) => (Verdict::Fail, format!("its lock cannot be read back: {error}")),
        }
    }

    /// Attacks with all of `probes`; after one that could reconfigure the bucket, with no more.
    async fn all(&mut self, probes: &[Probe], canary: &Canary) -> bool {
        for (at, probe) in probes.iter().enumerate() {
            let verdict = self.probe(*probe, canary).await;
            if verdict == Verdict::Fail && reconfigures(probe.attack) {
                self.skip(&probes[at + 1..], "after a credential that may reconfigure the bucket");
                return false;
            }
        }
        true
    }

    fn skip(&mut self, probes: &[Probe], why: &str) {
        for probe in probes {
            self.say(probe.id, probe.what, Verdict::Skipped, format!("not tried {why}"));
        }
    }

    /// Says whether the bucket is still configured as it was before.
    async fn unchanged(&mut self, before: &BucketFacts) -> Result<(), ProveError> {
        let after = facts(self.store).await?;
        let changed = differences(&before.facts, &after.facts).join("; ");
        let what = "The bucket's configuration is what it was before";
        let read = after.facts.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let (verdict, detail) = match (changed.is_empty(), read.is_empty()) {
            (false, _) => (Verdict::Fail, format!("{changed}; set it back by hand")),
            (true, true) => (Verdict::Skipped, "this credential may not read it".to_owned()),
            (true, false) => (Verdict::Pass, format!("read: {read}")),
        };
        self.say("E2", what, verdict, detail);
        self.as_signed(&after);
        Ok(())
    }

    /// Says whether the bucket is configured as the owner has signed, if he has.
    fn as_signed(&mut self, found: &BucketFacts) {
        let Some(signed) = self.plan.expected.get(&self.bucket()) else { return };
        let differ = differences(signed, &found.facts).join("; ");
        let read = signed.keys().filter(|name| found.facts.contains_key(*name)).count();
        let (verdict, detail) = if differ.is_empty() {
            (Verdict::Pass, format!("{read} of {} parts could be read", signed.len()))
        } else {
            let mend = "set it back, or sign it anew with stonekeep rotate";
            (Verdict::Fail, format!("{differ}; {mend}"))
        };
        self.say("E3", "The bucket is configured as the owner has signed", verdict, detail);
    }
}

const fn reconfigures(attack: Attack) -> bool {
    use Attack as A;
    matches!(
        attack,
        A::SuspendVersioning
            | A::DeleteBucket
            | A::Lifecycle
            | A::DefaultRetention
            | A::Policy
            | A::Encryption
            | A::Replication
            | A::PublicAccess
            | A::Ownership
            | A::BucketAcl
    )
}

/// Returns the part of a bucket's configuration that an attack would change; see [`BucketFacts`].
const fn part_of(attack: Attack) -> Option<&'static str> {
    match attack {
        Attack::Lifecycle => Some("lifecycle"),
        Attack::DefaultRetention => Some("object-lock"),
        Attack::Policy => Some("policy"),
        Attack::Encryption => Some("encryption"),
        Attack::Replication => Some("replication"),
        Attack::PublicAccess => Some("public-access"),
        Attack::Ownership => Some("ownership"),
        _ => None,
    }
}

/// What stands for a part that the owner might not read when he signed.
pub const UNREAD: &str = "unread";

/// Returns what is configured otherwise than before, or than expected.
#[must_use]
pub fn differences(
    wanted: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
) -> Vec<String> {
    let told = |name: &String| format!("{name} is {:?}, not {:?}", found[name], wanted[name]);
    differing(wanted, found).map(told).collect()
}

/// Yields the parts that are configured otherwise than is wanted. One that was not read, then or now, tells nothing.
pub(crate) fn differing<'w>(
    wanted: &'w BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
) -> impl Iterator<Item = &'w String> {
    let differs = |(name, wanted): &(&String, &String)| {
        *wanted != UNREAD && found.get(*name).is_some_and(|found| found != *wanted)
    };
    wanted.iter().filter(differs).map(|(name, _)| name)
}

async fn facts(store: &dyn ProbeStore) -> Result<BucketFacts, ProveError> {
    let facts = store.store().bucket_facts().await;
    facts.map_err(|source| failed("read the bucket's configuration", source))
}

fn failed(action: &'static str, source: StoreError) -> ProveError {
    ProveError::Store { action, source: Box::new(source) }
}

/// Besieges each bucket in turn with `besiege`.
async fn each(
    plan: &ProvePlan,
    proof: Proof,
    context: &Context,
    besiege: impl AsyncFn(&mut Siege<'_>) -> Result<BTreeMap<String, u16>, ProveError>,
) -> Result<ProveReport, ProveError> {
    let mut report: Option<ProveReport> = None;
    for store in &plan.stores {
        let time = store.store().server_time().await;
        let at = time.map_err(|source| failed("read the storage server's clock", source))?;
        let report = report.get_or_insert_with(|| ProveReport {
            id: SnapshotId::new(at, rand::random()),
            proof,
            started_at: at,
            verdict: Verdict::Skipped,
            probes: Vec::new(),
            calibration: BTreeMap::new(),
            record: None,
        });
        let run = report.id.clone();
        let mut siege = Siege { plan, store: &**store, run: &run, at, lines: Vec::new() };
        let calibration = tokio::select! {
            calibration = besiege(&mut siege) => calibration?,
            () = context.cancel.cancelled() => return Err(ProveError::Cancelled),
        };
        report.calibration.extend(calibration);
        report.probes.append(&mut siege.lines);
    }
    let mut report = report.ok_or(ProveError::Cancelled)?;
    let worst = report.probes.iter().map(|line| line.verdict).max();
    report.verdict = worst.unwrap_or(Verdict::Inconclusive);
    Ok(report)
}

/// The requests that can take effect nowhere, whoever sends them: an authorised caller is told what is wrong with them.
const ORACLES: [Probe; 8] = {
    const fn oracle(id: &'static str, what: &'static str, attack: Attack) -> Probe {
        Probe { id, what, attack, rule: Rule::Oracle }
    }
    [
        oracle("O1", "Set lifecycle rules", Attack::Lifecycle),
        oracle("O2", "Set the bucket's default retention", Attack::DefaultRetention),
        oracle("O3", "Set the bucket policy", Attack::Policy),
        oracle("O4a", "Set the bucket's encryption", Attack::Encryption),
        oracle("O4b", "Set a replication", Attack::Replication),
        oracle("O4c", "Set who may make things public", Attack::PublicAccess),
        oracle("O4d", "Set who owns objects", Attack::Ownership),
        oracle("O4e", "Set the bucket's access list", Attack::BucketAcl),
    ]
};

#[cfg(test)]
mod tests;
