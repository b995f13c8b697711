//! The lock proof: even a credential that may delete is refused, as long as a lock lasts and no longer.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{
    genesis::LockBy,
    ids::SnapshotId,
    lock::{Lock, LockMode},
    prove::{Proof, Verdict},
};
use stonekeep_store::{Attack, Canary, Planting, ProbeStore, Reaction};

use super::{
    ORACLES, Probe, ProveError, ProvePlan, ProveReport, Siege,
    authority::{deletes, relocks},
    each, facts, failed,
};
use crate::Context;

/// How long the lock lasts whose end is waited for (20 s): longer than the requests before its first attack take.
const SHORT_LOCK: TimeDelta = TimeDelta::seconds(20);
/// How often the server's clock is read meanwhile, and how many times at most: a minute.
const WAIT: Duration = Duration::from_secs(2);
const WAITS_MAX: u32 = 30;

/// Attacks the repository with a credential that may configure it, and may delete canaries.
///
/// # Errors
/// [`ProveError`]: a bucket does not answer at all. What it answers is in the report.
pub async fn lock(plan: &ProvePlan, context: &Context) -> Result<ProveReport, ProveError> {
    each(plan, Proof::Lock, context, async |siege| siege.lock_proof(context).await).await
}

/// Asks, as an authorised caller, what the server says to requests that can take effect nowhere: what a writer is told is
/// compared with it.
///
/// # Errors
/// [`ProveError::Store`]: the bucket does not answer. [`ProveError::Changed`]: it is configured otherwise afterwards; the
/// server takes what means nothing.
pub async fn calibrate(
    store: &dyn ProbeStore,
    lock_mode: LockMode,
) -> Result<BTreeMap<String, u16>, ProveError> {
    let before = facts(store).await?;
    let at = store.store().server_time().await;
    let at = at.map_err(|source| failed("read the storage server's clock", source))?;
    let run = SnapshotId::new(at, rand::random());
    let (lock_by, cap) = (LockBy::PerObject, Duration::ZERO);
    let (stores, calibration) = (Vec::new(), BTreeMap::new());
    let expected = BTreeMap::new();
    let plan = ProvePlan { stores, lock_mode, lock_by, cap, calibration, expected, lasting: false };
    let mut siege = Siege { plan: &plan, store, run: &run, at, lines: Vec::new() };
    let planting = Planting::NamedLock(siege.canary_lock());
    let Some(canary) = siege.plant_locked("C0", "", planting).await else {
        return Ok(BTreeMap::new());
    };
    let calibration = siege.calibrate(&canary).await;
    siege.unchanged(&before).await?;
    match siege.lines.iter().find(|line| line.verdict == Verdict::Fail) {
        Some(line) => {
            let detail = format!("{}: {}", line.what, line.detail);
            Err(ProveError::Changed { detail })
        }
        None => Ok(calibration),
    }
}

impl Siege<'_> {
    async fn lock_proof(&mut self, context: &Context) -> Result<BTreeMap<String, u16>, ProveError> {
        let before = facts(self.store).await?;
        let short = Lock { retain_until: self.now().await? + SHORT_LOCK, ..self.canary_lock() };
        let what = "Put under a lock of seconds";
        let ending = self.plant_locked("L0", what, Planting::NamedLock(short)).await;
        let may_delete = match ending {
            Some(canary) => self.outlives(&canary, short, context).await?,
            None => false,
        };
        let lock =
            Lock { retain_until: self.now().await? + super::CANARY_LOCK, ..self.canary_lock() };
        let whole = self.plant_locked(
            "C0",
            "Put under lock, and read the lock back",
            Planting::NamedLock(lock),
        );
        let Some(canary) = whole.await else { return Ok(BTreeMap::new()) };
        self.in_parts(lock).await;
        self.delete(&canary, may_delete).await;
        self.relock(&canary, lock, may_delete).await;
        let (verdict, detail) = self.read_back(&canary, lock).await;
        self.say("E1", "The canary is still there and locked", verdict, detail);
        let calibration = self.calibrate(&canary).await;
        self.unchanged(&before).await?;
        Ok(calibration)
    }

    async fn now(&self) -> Result<DateTime<Utc>, ProveError> {
        let time = self.store.store().server_time().await;
        time.map_err(|source| failed("read the storage server's clock", source))
    }

    /// A lock that has ended keeps nothing: else the bucket would grow for ever. That this credential may delete then shows
    /// that it is the lock, and no missing right, that refuses it elsewhere.
    async fn outlives(
        &mut self,
        canary: &Canary,
        lock: Lock,
        context: &Context,
    ) -> Result<bool, ProveError> {
        let attack = Attack::DeleteVersion { bypass: false };
        let early = self.store.attack(attack, canary, true).await;
        let has_ended = self.now().await? > lock.retain_until;
        let (verdict, note) = match early.reaction {
            Reaction::Denied => (Verdict::Pass, "refused"),
            Reaction::Done if has_ended => (Verdict::Inconclusive, "too late: its lock has ended"),
            Reaction::Done => (Verdict::Fail, "IT SUCCEEDED BEFORE THE LOCK ENDED"),
            _ => (Verdict::Inconclusive, "tells nothing"),
        };
        self.say("L1", "Delete it while its lock lasts", verdict, format!("{early}: {note}"));
        let mut waits = 0;
        while self.now().await? <= lock.retain_until && waits < WAITS_MAX {
            context.clock.sleep(WAIT).await;
            waits += 1;
        }
        let late = self.store.attack(attack, canary, true).await;
        let (verdict, note) = match late.reaction {
            Reaction::Done => (Verdict::Pass, "deleted: locks end"),
            Reaction::Denied => (
                Verdict::Inconclusive,
                "this credential may not delete: a refusal elsewhere is not the lock's; use one that may delete under canary/",
            ),
            // Of a lax server it is gone already.
            Reaction::Stopped if early.reaction == Reaction::Done => {
                (Verdict::Skipped, "it is gone")
            }
            _ => (Verdict::Inconclusive, "tells nothing"),
        };
        self.say("L2", "Delete it after its lock has ended", verdict, format!("{late}: {note}"));
        Ok(late.reaction == Reaction::Done)
    }

    async fn delete(&mut self, canary: &Canary, may_delete: bool) {
        for Probe { id, what, attack, .. } in deletes() {
            self.delete_by(id, what, attack, (canary, may_delete)).await;
        }
    }

    /// Deletes a locked canary by one attack.
    async fn delete_by(
        &mut self,
        id: &str,
        what: &str,
        attack: Attack,
        (canary, may_delete): (&Canary, bool),
    ) {
        use Attack::{DeleteMany, DeleteVersion};
        let is_bypass =
            matches!(attack, DeleteVersion { bypass: true } | DeleteMany { bypass: true });
        let answer = self.store.attack(attack, canary, true).await;
        let (verdict, note) = match answer.reaction {
            Reaction::Denied if may_delete => (Verdict::Pass, "refused by the lock"),
            Reaction::Denied => (Verdict::Inconclusive, "refused, perhaps for want of the right"),
            Reaction::Done if is_bypass && self.plan.lock_mode == LockMode::Governance => {
                (Verdict::Lacking, "GOVERNANCE: whoever may bypass it, deletes")
            }
            Reaction::Done => (Verdict::Fail, "THE LOCK DID NOT HOLD"),
            _ => (Verdict::Inconclusive, "tells nothing"),
        };
        self.say(id, what, verdict, format!("{answer}: {note}"));
    }

    /// Weakens the lock; and whatever came of that, deletes once more, bypassing: two steps that each look harmless.
    async fn relock(&mut self, canary: &Canary, lock: Lock, may_delete: bool) {
        for probe in relocks(lock) {
            if probe.id == "S4b" && self.plan.lock_mode == LockMode::Governance {
                self.skip(&[probe], "where locks are GOVERNANCE");
                continue;
            }
            self.probe(probe, canary).await;
        }
        if self.plan.lock_mode == LockMode::Compliance {
            let what = "Delete a version, bypassing, after weakening its lock";
            let attack = Attack::DeleteVersion { bypass: true };
            self.delete_by("S4d", what, attack, (canary, may_delete)).await;
        }
    }

    /// Notes what an authorised caller is answered where a request cannot take effect: the writer must be answered otherwise.
    async fn calibrate(&mut self, canary: &Canary) -> BTreeMap<String, u16> {
        let mut calibration = BTreeMap::new();
        for (at, probe) in ORACLES.into_iter().enumerate() {
            let answer = self.store.attack(probe.attack, canary, true).await;
            let (verdict, note) = match answer.reaction {
                Reaction::Stopped => {
                    (Verdict::Pass, "noted: this is what an authorised caller is told")
                }
                Reaction::Denied => {
                    (Verdict::Skipped, "this credential may not: nothing to compare with")
                }
                Reaction::Done => (Verdict::Fail, "THE SERVER TOOK WHAT MEANS NOTHING"),
                Reaction::Unclear => (Verdict::Skipped, "tells nothing"),
            };
            // What refuses everybody tells nothing of anybody.
            if matches!(answer.reaction, Reaction::Stopped | Reaction::Denied) {
                calibration.insert(probe.id.to_owned(), answer.answer.status);
            }
            self.say(probe.id, probe.what, verdict, format!("{answer}: {note}"));
            if verdict == Verdict::Fail {
                self.skip(&ORACLES[at + 1..], "after a server that takes what means nothing");
                break;
            }
        }
        calibration
    }
}
