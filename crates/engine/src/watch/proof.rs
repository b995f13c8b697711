//! When the repository was last attacked by its own writer, and what came of it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{TryStreamExt as _, pin_mut};
use stonekeep_format::{
    ids::SnapshotId,
    key::{ObjectKey, Place},
    prove::{Proof, ProveRecord, Verdict},
    signature::{Found, SignedDocument as _, verify_document},
};
use stonekeep_store::{ObjectVersion, ReadStore, StoreError, list_keys, oldest_verified};

use super::{Alarm, AlarmKind, WatchError, WatchPlan, alarm::Alarms};
use crate::repository::Repository;

/// How old the newest proof may be where nobody says otherwise (3 d): it is made daily, and may fail to be once.
const AGE_MAX: TimeDelta = TimeDelta::days(3);
/// Records that are looked at for the newest one that verifies (16): whoever may write can put junk there.
const RECORDS_MAX: usize = 16;

/// Judges the newest record of `stonekeepd prove`. Where there is none and none is asked for, that is a note.
pub(super) async fn judge(
    repository: &Repository,
    plan: &WatchPlan,
    at: DateTime<Utc>,
    (alarms, notes): (&mut Alarms, &mut Vec<String>),
) -> Result<(), WatchError> {
    let mut newest: Option<ProveRecord> = None;
    for store in repository.stores.all() {
        let failed = |source| {
            let (bucket, source) = (store.bucket().clone(), Box::new(source));
            WatchError::List { bucket, source }
        };
        let records = records(&**store).await.map_err(failed)?;
        match read(repository, &**store, records).await {
            Ok(found) => {
                newest = newest.into_iter().chain(found).max_by_key(|each| each.written_at);
            }
            Err(StoreError::Denied { .. }) => {
                notes.push("the records of `stonekeepd prove` may not be read".to_owned());
                return Ok(());
            }
            Err(source) => return Err(failed(source)),
        }
    }
    let asked = plan.prove_age_max.map(|age| TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX));
    let kind = AlarmKind::Proof;
    match newest {
        None if asked.is_none() => notes.push(
            "there is no record of `stonekeepd prove`: run it daily with the writer's credential"
                .to_owned(),
        ),
        None => {
            let what = "there is no record of `stonekeepd prove`".to_owned();
            alarms.raise(Alarm::warning(kind, None, what));
        }
        Some(record) => {
            if record.verdict == Verdict::Fail {
                let failed = record.probes.iter().filter(|line| line.verdict == Verdict::Fail);
                let ids: Vec<&str> = failed.map(|line| line.id.as_str()).collect();
                let what =
                    format!("an attack with the writer's credential succeeded: {}", ids.join(", "));
                alarms.raise(Alarm::critical(kind, None, what));
            }
            let age = at - record.written_at;
            if age > asked.unwrap_or(AGE_MAX) {
                let hours = age.num_hours();
                let what = format!("`stonekeepd prove` was last run {hours} hours ago");
                alarms.raise(Alarm::warning(kind, None, what));
            }
        }
    }
    Ok(())
}

/// The records there are, by their runs: the newest of them.
async fn records(
    store: &dyn ReadStore,
) -> Result<BTreeMap<SnapshotId, (ObjectKey, Vec<ObjectVersion>)>, StoreError> {
    let mut newest = BTreeMap::new();
    let keys = list_keys(store, "canary/");
    pin_mut!(keys);
    while let Some((key, found)) = keys.try_next().await? {
        if let Some(Place::Canary(run, name)) = Place::of(&key)
            && name == "record"
        {
            newest.insert(run, (key, found.versions));
            if newest.len() > RECORDS_MAX {
                newest.pop_first();
            }
        }
    }
    Ok(newest)
}

/// Returns the newest that our writer has signed.
async fn read(
    repository: &Repository,
    store: &dyn ReadStore,
    records: BTreeMap<SnapshotId, (ObjectKey, Vec<ObjectVersion>)>,
) -> Result<Option<ProveRecord>, StoreError> {
    let mut refused = None;
    for (key, versions) in records.into_values().rev() {
        let found = Found { key: &key, repository: Some(repository.genesis.repository) };
        let verify = |bytes: &[u8]| verify_document::<ProveRecord>(bytes, found, &repository.trust);
        let mut seen = oldest_verified(store, &versions, ProveRecord::BYTES_MAX, verify).await?;
        match seen.value {
            Some((record, _)) if record.proof == Proof::Authority => return Ok(Some(record)),
            _ => refused = refused.or(seen.unreadable.pop().map(|(_, error)| error)),
        }
    }
    refused.map_or(Ok(None), Err)
}
