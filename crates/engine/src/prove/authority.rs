//! The authority proof: what the writer's own credential is refused.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use stonekeep_format::{
    genesis::LockBy,
    lock::{Lock, LockMode},
    prove::{Proof, Verdict},
};
use stonekeep_store::{Attack, Canary, Planting, Reaction, StoreError};

use super::{ORACLES, Probe, ProveError, ProvePlan, ProveReport, Rule, Siege, each, facts};
use crate::Context;

/// Attacks the repository with the credential of its writer.
///
/// # Errors
/// [`ProveError`]: a bucket does not answer at all. What it answers is in the report.
pub async fn authority(plan: &ProvePlan, context: &Context) -> Result<ProveReport, ProveError> {
    each(plan, Proof::Authority, context, async |siege| {
        siege.authority().await?;
        Ok(BTreeMap::new())
    })
    .await
}

const fn probe(id: &'static str, what: &'static str, attack: Attack, rule: Rule) -> Probe {
    Probe { id, what, attack, rule }
}

/// What deletes or weakens what is there.
pub(super) const fn deletes() -> [Probe; 4] {
    use Attack::{DeleteMany, DeleteVersion};
    use Rule::Forbidden;
    [
        probe("S1", "Delete a version", DeleteVersion { bypass: false }, Forbidden),
        probe("S2", "Delete many versions", DeleteMany { bypass: false }, Forbidden),
        probe("S3a", "Delete a version, bypassing", DeleteVersion { bypass: true }, Forbidden),
        probe("S3b", "Delete many versions, bypassing", DeleteMany { bypass: true }, Forbidden),
    ]
}

/// What the bucket's state refuses to those who have the right.
const OF_STATE: [Probe; 2] = [
    probe("S5", "Suspend versioning", Attack::SuspendVersioning, Rule::OfState),
    probe("S6", "Delete the bucket", Attack::DeleteBucket, Rule::OfState),
];

impl Siege<'_> {
    async fn authority(&mut self) -> Result<(), ProveError> {
        let before = facts(self.store).await?;
        self.read_bucket().await;
        let lock = self.canary_lock();
        let put = self.plant_locked(
            "C0",
            "Put under lock, and read the lock back",
            Planting::Locked(lock),
        );
        let Some(canary) = put.await else { return Ok(()) };
        let is_locked = self.lines.last().is_some_and(|line| line.verdict == Verdict::Pass);
        self.may_read(&canary).await;
        self.in_parts(lock).await;
        self.delete_unlocked(lock).await;
        self.all(&deletes(), &canary).await;
        self.all(&self.relocks(&canary, lock).await, &canary).await;
        // A bucket that holds no locked version might really be deleted.
        let (still, _) = self.read_back(&canary, lock).await;
        let goes_on = if is_locked && still == Verdict::Pass {
            self.all(&OF_STATE, &canary).await
        } else {
            self.skip(&OF_STATE, "without a locked canary in the bucket");
            true
        };
        if goes_on {
            self.besides(&canary, lock).await;
            self.oracles(&canary, lock).await;
        }
        let (verdict, detail) = self.read_back(&canary, lock).await;
        self.say("E1", "The canary is still there and locked", verdict, detail);
        self.unchanged(&before).await
    }

    /// Where the bucket names the locks, a canary's is another than was asked for.
    async fn relocks(&self, canary: &Canary, lock: Lock) -> Vec<Probe> {
        let found = self.store.store().retention(canary.key(), canary.version_id()).await;
        let lock = found.ok().flatten().unwrap_or(lock);
        // A lock that is GOVERNANCE already cannot be weakened to it.
        let fits = |probe: &Probe| probe.id != "S4b" || lock.mode == LockMode::Compliance;
        relocks(lock).into_iter().filter(fits).collect()
    }

    async fn read_bucket(&mut self) {
        let what = "The bucket has Object Lock";
        let (verdict, detail) = match self.store.store().bucket_lock().await {
            Ok(lock) if lock.enabled => (Verdict::Pass, "on".to_owned()),
            Ok(_) => (Verdict::Fail, "IT HAS NONE".to_owned()),
            Err(StoreError::Denied { .. }) => {
                (Verdict::Skipped, "this credential may not read it".to_owned())
            }
            Err(error) => (Verdict::Inconclusive, error.to_string()),
        };
        self.say("R1", what, verdict, detail);
    }

    /// What it may read is no danger of itself, and worth knowing.
    async fn may_read(&mut self, canary: &Canary) {
        use Rule::Told;
        let reads = [
            probe("R2", "Name another owner of the bucket", Attack::ForeignOwner, Rule::Limit),
            probe("R3a", "Read a canary", Attack::Read, Told),
            probe("R3b", "List objects", Attack::List, Told),
            probe("R3c", "List versions", Attack::ListVersions, Told),
        ];
        self.all(&reads, canary).await;
    }

    /// Backups are put whole. What is put in parts by others may lose its lock, which is worth knowing.
    pub(super) async fn in_parts(&mut self, lock: Lock) {
        let what = "Put in parts under lock, and read the lock back";
        match self.store.plant(self.run, "parts", Planting::Multipart(lock)).await {
            Ok(canary) => {
                let (verdict, detail) = self.read_back(&canary, lock).await;
                let verdict = if verdict == Verdict::Fail { Verdict::Lacking } else { verdict };
                self.say(
                    "C0m",
                    what,
                    verdict,
                    format!("{detail} (Stonekeep puts nothing in parts)"),
                );
            }
            Err(answer) if answer.reaction == Reaction::Unclear => {
                self.say("C0m", what, Verdict::Inconclusive, answer);
            }
            Err(answer) => self.say("C0m", what, Verdict::Pass, format!("{answer}: refused")),
        }
    }

    /// Of a locked version a refusal does not say what refused. Of one without a lock it does.
    async fn delete_unlocked(&mut self, lock: Lock) {
        let (id, what) = ("S0", "Delete a version that is not locked");
        if self.plan.lock_by == LockBy::BucketDefault {
            return self.say(id, what, Verdict::Skipped, "the bucket locks whatever is put");
        }
        match self.store.plant(self.run, "unlocked", Planting::Unlocked(lock)).await {
            Ok(canary) => {
                let attack = Attack::DeleteVersion { bypass: false };
                self.probe(probe(id, what, attack, Rule::Forbidden), &canary).await;
            }
            Err(answer) if answer.reaction == Reaction::Denied => {
                self.say(
                    id,
                    what,
                    Verdict::Pass,
                    format!("{answer}: nothing can be put without a lock"),
                );
            }
            Err(answer) => self.say(id, what, Verdict::Inconclusive, answer),
        }
    }

    /// What adds more than a writer has to.
    async fn besides(&mut self, canary: &Canary, lock: Lock) {
        use Rule::{Forbidden, Limit};
        let attacks = [
            probe("C1", "Hide a canary behind a delete marker", Attack::Hide, Limit),
            probe("C2a", "Put over a canary", Attack::Overwrite { conditional: false }, Limit),
            probe("C4", "Set a legal hold", Attack::Hold, Forbidden),
            probe("C6b", "Let everybody read a canary", Attack::Publish, Forbidden),
        ];
        self.all(&attacks, canary).await;
        self.put_on_condition(canary).await;
        let day_later = Lock { mode: LockMode::Governance, ..lock };
        self.plant_as(
            "C3a",
            "Put under GOVERNANCE",
            Planting::NamedLock(day_later),
            Verdict::Lacking,
        )
        .await;
        self.plant_as("C6a", "Put outside the repository", Planting::Outside(lock), Verdict::Fail)
            .await;
        self.plant_as(
            "C6c",
            "Put outside the writer's folders",
            Planting::Beside(lock),
            Verdict::Lacking,
        )
        .await;
        self.plant_as(
            "C7",
            "Put under a key that is not ours",
            Planting::ForeignKey(lock),
            Verdict::Lacking,
        )
        .await;
        let cap = TimeDelta::from_std(self.plan.cap).unwrap_or(TimeDelta::days(365));
        let beyond = Lock { retain_until: self.at + cap + TimeDelta::days(1), ..lock };
        for (id, what, planting) in [
            ("C3b", "Put under a lock beyond the cap", Planting::NamedLock(beyond)),
            ("C5a", "Put with a legal hold", Planting::LegalHold(lock)),
            ("C5b", "Put with an event hold", Planting::EventHold(lock)),
        ] {
            if self.plan.lasting {
                self.plant_as(id, what, planting, Verdict::Lacking).await;
            } else {
                self.say(
                    id,
                    what,
                    Verdict::Skipped,
                    "it would leave something behind; see --lasting",
                );
            }
        }
    }

    async fn put_on_condition(&mut self, canary: &Canary) {
        let (id, what) = ("C2b", "Put over a canary on condition that there is none");
        let answer = self.store.attack(Attack::Overwrite { conditional: true }, canary, true).await;
        let (verdict, note) = match answer.reaction {
            Reaction::Denied | Reaction::Stopped => (Verdict::Pass, "refused"),
            Reaction::Done => (
                Verdict::Lacking,
                "the server ignores the condition; readers take the oldest version",
            ),
            Reaction::Unclear => (Verdict::Inconclusive, "tells nothing"),
        };
        self.say(id, what, verdict, format!("{answer}: {note}"));
    }

    /// Puts what no writer has to put; `lets` is what it comes to if the server lets it.
    async fn plant_as(&mut self, id: &str, what: &str, planting: Planting, lets: Verdict) {
        let (verdict, detail) = match self.store.plant(self.run, id, planting).await {
            Ok(canary) => (lets, format!("the server lets it; left behind: {}", canary.key())),
            Err(answer) => match answer.reaction {
                Reaction::Denied => (Verdict::Pass, format!("{answer}: refused")),
                Reaction::Stopped => (
                    Verdict::Lacking,
                    format!("{answer}: stopped for another reason than a missing right"),
                ),
                Reaction::Done | Reaction::Unclear => {
                    (Verdict::Inconclusive, format!("{answer}: tells nothing"))
                }
            },
        };
        self.say(id, what, verdict, detail);
    }

    async fn oracles(&mut self, canary: &Canary, lock: Lock) {
        if !self.all(&ORACLES, canary).await {
            return;
        }
        let until = lock.retain_until + TimeDelta::days(1);
        let nothing = Attack::LockNothing { until };
        let o5 = probe("O5", "Set a lock on a version that is not there", nothing, Rule::Forbidden);
        if self.plan.lock_by == LockBy::BucketDefault {
            self.probe(o5, canary).await;
        } else {
            self.skip(&[o5], "where the writer names the locks, since it has this right");
        }
        let uploads = [
            probe("O6a", "End an upload in parts", Attack::AbortUpload, Rule::Told),
            probe("O6b", "List uploads in parts", Attack::ListUploads, Rule::Limit),
        ];
        self.all(&uploads, canary).await;
    }
}

/// What weakens a lock.
pub(super) fn relocks(lock: Lock) -> [Probe; 3] {
    let shorter = Lock { retain_until: lock.retain_until - TimeDelta::hours(12), ..lock };
    let weaker = Lock {
        mode: LockMode::Governance,
        // Later than any default of the bucket: only the mode is weaker.
        retain_until: lock.retain_until + TimeDelta::days(1),
    };
    [
        probe("S4a", "Shorten a lock", Attack::Relock(shorter), Rule::Forbidden),
        probe("S4b", "Weaken a lock to GOVERNANCE", Attack::Relock(weaker), Rule::Forbidden),
        probe("S4c", "Clear a lock", Attack::ClearLock, Rule::Meaningless),
    ]
}
