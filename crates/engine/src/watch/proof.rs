//! When the repository was last attacked by its own writer, and what came of it.
//!
//! Whoever may write can put junk where records lie, under ids of his choice. So records are taken in the order in which the
//! server stored them, and that none of those looked at is ours is an alarm: somebody may hide one that failed.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{TryStreamExt as _, pin_mut};
use stonekeep_format::{
    key::{ObjectKey, Place},
    prove::{LockProof, Proof, ProveRecord, Verdict},
    signature::{Found, SignedDocument as _, verify_document},
};
use stonekeep_store::{ReadStore, StoreError, list_keys};

use super::{Alarm, AlarmKind, WatchError, WatchPlan, alarm::Alarms};
use crate::{
    newest::{Candidate, Newest, Seen},
    repository::Repository,
};

/// How old the newest proof may be where nobody says otherwise (3 d): it is made daily, and may fail to be once.
const AGE_MAX: TimeDelta = TimeDelta::days(3);
/// Records that are looked at for the newest that verify (16): whoever may write can put junk there. Of 8 versions of each, of
/// up to 256 KiB, that is 32 MiB to read at most.
const RECORDS_MAX: usize = 16;

/// Reads when the repository was last attacked, and what came of it: of the records of `stonekeepd prove`, those that were stored
/// last and verify.
///
/// # Errors
/// [`WatchError::List`]: the bucket cannot be listed or read.
pub async fn proofs(repository: &Repository) -> Result<Proofs, WatchError> {
    read(list(repository).await?, repository).await
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

async fn list(repository: &Repository) -> Result<Newest<'_>, WatchError> {
    let mut newest = Newest::of(RECORDS_MAX);
    for (at, store) in repository.stores.all().enumerate() {
        let store = &**store;
        let failed = list_failed(store);
        let keys = list_keys(store, "canary/");
        pin_mut!(keys);
        while let Some((key, found)) = keys.try_next().await.map_err(&failed)? {
            if let Some(Place::Canary(run, name)) = Place::of(&key)
                && name == "record"
            {
                newest.take((at, store), (key, found), run.begun_at());
            }
        }
    }
    Ok(newest)
}

/// Reads them, the newest first, until one of ours tells whether attacks succeed.
async fn read(newest: Newest<'_>, repository: &Repository) -> Result<Proofs, WatchError> {
    let mut read = Proofs { others: newest.left_out, ..Proofs::default() };
    for candidate in newest.into_last_first() {
        let found = record(&candidate, repository).await.map_err(list_failed(candidate.store))?;
        read.take(found);
        if read.conclusive.is_some() {
            break;
        }
    }
    Ok(read)
}

/// Reads a record of ours, or a proof of the locks, which is not judged here. The signer of that no genesis names, so anybody may
/// have made it.
async fn record(
    candidate: &Candidate<'_>,
    repository: &Repository,
) -> Result<Seen<Option<ProveRecord>>, StoreError> {
    let key = &candidate.key;
    let found = Found { key, repository: Some(repository.genesis.repository) };
    let verify =
        |bytes: &[u8]| match verify_document::<ProveRecord>(bytes, found, &repository.trust) {
            Err(_) if is_lock_proof(bytes, key) => Ok(None),
            verified => verified.map(Some),
        };
    let dated = |record: &Option<ProveRecord>| record.as_ref().map(|record| record.written_at);
    candidate.read(ProveRecord::BYTES_MAX, verify, dated).await
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
    fn take(&mut self, seen: Seen<Option<ProveRecord>>) {
        match seen {
            Seen::Record(Some(record)) if record.verdict == Verdict::Inconclusive => {
                self.inconclusive.get_or_insert(record);
            }
            Seen::Record(Some(record)) => self.conclusive = Some(record),
            Seen::Record(None) | Seen::Gone => {}
            Seen::Other => self.others += 1,
            Seen::Denied => self.denied += 1,
        }
    }
}
