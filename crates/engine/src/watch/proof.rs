//! When the repository was last attacked by its own writer, and what came of it.
//!
//! Whoever may write can put junk where records lie, under ids of his choice. So records are taken in the order in which the
//! server stored them, and that none of those looked at is ours is an alarm: somebody may hide one that failed.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{TryStreamExt as _, pin_mut};
use stonekeep_format::{
    key::{ObjectKey, Place},
    lock,
    prove::{LockProof, Proof, ProveRecord, Verdict},
    signature::{Found, SignedDocument as _, verify_document},
};
use stonekeep_store::{ObjectVersion, ReadStore, StoreError, list_keys, oldest_verified};

use super::{Alarm, AlarmKind, WatchError, WatchPlan, alarm::Alarms};
use crate::repository::Repository;

/// How old the newest proof may be where nobody says otherwise (3 d): it is made daily, and may fail to be once.
const AGE_MAX: TimeDelta = TimeDelta::days(3);
/// Records that are looked at for the newest that verify (16): whoever may write can put junk there.
const RECORDS_MAX: usize = 16;
/// Versions of each that are looked at (8), the oldest: its writer puts it once, or a few times if answers are lost. With their
/// length (256 KiB) and number that is 32 MiB to read at most.
const VERSIONS_MAX: usize = 8;

/// Reads when the repository was last attacked, and what came of it: of the records of `stonekeepd prove`, those that were stored
/// last and verify.
///
/// # Errors
/// [`WatchError::List`]: the bucket cannot be listed or read.
pub async fn proofs(repository: &Repository) -> Result<Proofs, WatchError> {
    Records::list(repository).await?.read(repository).await
}

/// Judges the newest record of `stonekeepd prove`. Where there is none and none is asked for, that is a note.
pub(super) async fn judge(
    repository: &Repository,
    plan: &WatchPlan,
    at: DateTime<Utc>,
    (alarms, notes): (&mut Alarms, &mut Vec<String>),
) -> Result<(), WatchError> {
    let records = proofs(repository).await?;
    let asked = plan.prove_age_max.map(|age| TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX));
    if records.conclusive.is_none() && records.others > 0 {
        alarms.raise(Alarm::critical(AlarmKind::Proof, None, not_ours(records.others)));
        return Ok(());
    }
    if let Some(record) = &records.inconclusive {
        let what = format!(
            "the last `stonekeepd prove` could not tell whether attacks succeed: {}",
            ids(record, Verdict::Inconclusive)
        );
        alarms.raise(Alarm::warning(AlarmKind::Proof, None, what));
    }
    match &records.conclusive {
        Some(record) => judge_conclusive(record, at, asked.unwrap_or(AGE_MAX), alarms),
        None if records.inconclusive.is_some() => {}
        None if asked.is_some() => {
            let what = "there is no record of `stonekeepd prove` that may be read".to_owned();
            alarms.raise(Alarm::warning(AlarmKind::Proof, None, what));
        }
        None if records.denied > 0 => {
            notes.push("the records of `stonekeepd prove` may not be read".to_owned());
        }
        None => notes.push(
            "there is no record of `stonekeepd prove`: run it daily with the writer's credential"
                .to_owned(),
        ),
    }
    Ok(())
}

fn judge_conclusive(
    record: &ProveRecord,
    at: DateTime<Utc>,
    age_max: TimeDelta,
    alarms: &mut Alarms,
) {
    if record.verdict == Verdict::Fail {
        let what = format!(
            "an attack with the writer's credential succeeded: {}",
            ids(record, Verdict::Fail)
        );
        alarms.raise(Alarm::critical(AlarmKind::Proof, None, what));
    }
    let age = at - record.written_at;
    if age > age_max {
        let hours = age.num_hours();
        let what = format!("`stonekeepd prove` last came to a verdict {hours} hours ago");
        alarms.raise(Alarm::warning(AlarmKind::Proof, None, what));
    }
}

fn not_ours(others: u64) -> String {
    format!(
        "{others} objects lie where records of `stonekeepd prove` do and are none of ours, or were left out, and none of ours that was looked at tells whether attacks succeed: somebody may hide one that does"
    )
}

/// The probes of one verdict.
fn ids(record: &ProveRecord, verdict: Verdict) -> String {
    let found = record.probes.iter().filter(|line| line.verdict == verdict);
    found.map(|line| line.id.as_str()).collect::<Vec<_>>().join(", ")
}

fn list_failed(store: &dyn ReadStore) -> impl Fn(StoreError) -> WatchError {
    let bucket = store.bucket().clone();
    move |source| WatchError::List { bucket: bucket.clone(), source: Box::new(source) }
}

/// Where a record could be.
struct Candidate<'r> {
    store: &'r dyn ReadStore,
    key: ObjectKey,
    /// The oldest of them.
    versions: Vec<ObjectVersion>,
}

/// Where the newest records could be, by when the server stored them.
#[derive(Default)]
struct Records<'r> {
    newest: BTreeMap<(DateTime<Utc>, ObjectKey, usize), Candidate<'r>>,
    left_out: u64,
}

impl<'r> Records<'r> {
    async fn list(repository: &'r Repository) -> Result<Self, WatchError> {
        let mut records = Self::default();
        for (at, store) in repository.stores.all().enumerate() {
            let store = &**store;
            let failed = list_failed(store);
            let keys = list_keys(store, "canary/");
            pin_mut!(keys);
            while let Some((key, mut found)) = keys.try_next().await.map_err(&failed)? {
                let Some(Place::Canary(run, name)) = Place::of(&key) else { continue };
                let Some(first) = found.versions.first().filter(|_| name == "record") else {
                    continue;
                };
                let stored_at = first.modified_at;
                if is_ahead(run.begun_at(), stored_at) {
                    records.left_out += 1;
                    continue;
                }
                found.versions.truncate(VERSIONS_MAX);
                let candidate = Candidate { store, key: key.clone(), versions: found.versions };
                records.newest.insert((stored_at, key, at), candidate);
                if records.newest.len() > RECORDS_MAX {
                    records.newest.pop_first();
                    records.left_out += 1;
                }
            }
        }
        Ok(records)
    }

    /// Reads them, the newest first, until one of ours tells whether attacks succeed.
    async fn read(self, repository: &Repository) -> Result<Proofs, WatchError> {
        let mut read = Proofs { others: self.left_out, ..Proofs::default() };
        for candidate in self.newest.into_values().rev() {
            let found = candidate.read(repository).await.map_err(list_failed(candidate.store))?;
            read.take(found);
            if read.conclusive.is_some() {
                break;
            }
        }
        Ok(read)
    }
}

/// Whether something claims to be from later than the server stored it, by more than clocks may differ.
fn is_ahead(claimed: DateTime<Utc>, stored_at: DateTime<Utc>) -> bool {
    TimeDelta::from_std(lock::SKEW_MAX).is_ok_and(|skew| claimed - stored_at > skew)
}

/// What lies where a record could be.
enum Seen {
    /// Ours.
    Authority(ProveRecord),
    /// A proof of the locks, which is not judged here. Its signer no genesis names, so anybody may have made it.
    LockProof,
    /// Not ours, or nobody knows.
    Other,
    /// This credential may not read it.
    Denied,
    /// It is gone since.
    Gone,
}

/// Whether a person with a report key may have put it. It hides nothing as long as nothing is left out.
fn is_lock_proof(bytes: &[u8], key: &ObjectKey) -> bool {
    let first = serde_json::Deserializer::from_slice(bytes).into_iter::<LockProof>().next();
    first.is_some_and(|proof| {
        proof.is_ok_and(|LockProof(record)| {
            record.format == LockProof::FORMAT && record.proof == Proof::Lock && record.key == *key
        })
    })
}

impl Candidate<'_> {
    async fn read(&self, repository: &Repository) -> Result<Seen, StoreError> {
        let found = Found { key: &self.key, repository: Some(repository.genesis.repository) };
        let verify =
            |bytes: &[u8]| match verify_document::<ProveRecord>(bytes, found, &repository.trust) {
                Err(_) if is_lock_proof(bytes, &self.key) => Ok(None),
                verified => verified.map(Some),
            };
        let read = oldest_verified(self.store, &self.versions, ProveRecord::BYTES_MAX, verify);
        let seen = read.await?;
        let is_denied =
            |(_, error): &(ObjectVersion, StoreError)| matches!(error, StoreError::Denied { .. });
        let is_gone =
            seen.planted.is_empty() && seen.too_long.is_empty() && seen.unreadable.is_empty();
        Ok(match seen.value {
            Some((None, _)) => Seen::LockProof,
            Some((Some(record), version)) if is_ahead(record.written_at, version.modified_at) => {
                Seen::Other
            }
            Some((Some(record), _)) => Seen::Authority(record),
            None if is_gone => Seen::Gone,
            None if seen.unreadable.len() == self.versions.len()
                && seen.unreadable.iter().all(is_denied) =>
            {
                Seen::Denied
            }
            None => Seen::Other,
        })
    }
}

/// What the records say.
#[derive(Debug, Clone, Default)]
pub struct Proofs {
    /// The newest, if it could not tell whether attacks succeed.
    pub inconclusive: Option<ProveRecord>,
    /// The newest that could.
    pub conclusive: Option<ProveRecord>,
    /// How many are not ours, or were not looked at.
    pub others: u64,
    /// How many this credential may not read.
    pub denied: u64,
}

impl Proofs {
    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Authority(record) if record.verdict == Verdict::Inconclusive => {
                self.inconclusive.get_or_insert(record);
            }
            Seen::Authority(record) => self.conclusive = Some(record),
            Seen::LockProof | Seen::Gone => {}
            Seen::Other => self.others += 1,
            Seen::Denied => self.denied += 1,
        }
    }
}
