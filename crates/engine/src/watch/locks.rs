//! Whether what the newest snapshot of a database needs is there, and locked for as long as it is promised.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rand::seq::IteratorRandom as _;
use stonekeep_format::{ids::VersionId, inventory::Inventory, key::ObjectKey};
use stonekeep_store::StoreError;

use super::{Alarm, AlarmKind, WatchError, alarm::Alarms};
use crate::{
    history::Snapshot,
    named::NamedObject,
    repository::Repository,
    segments::{SegmentError, load_inventory},
    verify::{self, REQUESTS_MAX},
};

/// Segments of each newest snapshot whose locks are asked for (64), others each time: of a snapshot of which one in twenty is
/// wrong, 96 looks in 100 see it; of any that stays wrong, a day of hourly looks does.
const SAMPLE: usize = 64;

/// Asks for the locks, and returns how many were told.
pub(super) async fn judge(
    repository: &Repository,
    snapshot: &Snapshot,
    all: bool,
    alarms: &mut Alarms,
    notes: &mut Vec<String>,
) -> Result<u64, WatchError> {
    let manifest = &snapshot.manifest;
    let label = Some(manifest.label.clone());
    let mut objects = BTreeSet::from(NamedObject::documents(snapshot));
    match load_inventory(repository, &manifest.inventory, &manifest.id).await {
        Ok(inventory) => objects.extend(sample(&inventory, all)),
        Err(error) if is_refused(&error) => notes.push(format!(
            "the inventory of snapshot {} of {} may not be read: locks of its segments were not looked at",
            manifest.id, manifest.label
        )),
        Err(error) => alarms.raise(Alarm::critical(AlarmKind::Lock, label.clone(), broken(error)?)),
    }
    let asked = objects.len() as u64;
    let mut refused: u64 = 0;
    let mut looks = stream::iter(objects)
        .map(|object| look(repository, snapshot, object))
        .buffer_unordered(REQUESTS_MAX);
    while let Some(seen) = looks.try_next().await? {
        match seen {
            Seen::Good => {}
            Seen::Bad(what) => alarms.raise(Alarm::critical(AlarmKind::Lock, label.clone(), what)),
            Seen::Refused => refused += 1,
        }
    }
    if refused > 0 {
        notes.push(format!(
            "the locks of {refused} objects of snapshot {} of {} may not be read (s3:GetObjectRetention)",
            manifest.id, manifest.label
        ));
    }
    Ok(asked - refused)
}

fn sample(inventory: &Inventory, all: bool) -> Vec<NamedObject> {
    let segments = inventory.segments.iter();
    if all {
        return segments.map(NamedObject::from).collect();
    }
    segments.choose_multiple(&mut rand::rng(), SAMPLE).into_iter().map(NamedObject::from).collect()
}

fn is_refused(error: &SegmentError) -> bool {
    matches!(error, SegmentError::Store { source, .. } if matches!(**source, StoreError::Denied { .. }))
}

/// What is wrong with an inventory that could be asked for.
fn broken(error: SegmentError) -> Result<String, WatchError> {
    match error {
        SegmentError::Missing { key, version_id } => Ok(missing(&key, &version_id)),
        SegmentError::Store { ref source, .. }
            if !matches!(**source, StoreError::TooLong { .. } | StoreError::Rejected { .. }) =>
        {
            Err(WatchError::Inventory(error))
        }
        error => Ok(crate::run::chain_of(&error)),
    }
}

fn missing(key: &ObjectKey, version: &VersionId) -> String {
    format!("version {version} of {key} is not there")
}

enum Seen {
    Good,
    Bad(String),
    Refused,
}

async fn look(
    repository: &Repository,
    snapshot: &Snapshot,
    object: NamedObject,
) -> Result<Seen, WatchError> {
    let NamedObject { bucket, key, version_id, .. } = object;
    let lock = match repository.stores.of(&bucket).retention(&key, &version_id).await {
        Ok(lock) => lock,
        Err(StoreError::NotFound { .. }) => return Ok(Seen::Bad(missing(&key, &version_id))),
        Err(StoreError::Denied { .. }) => return Ok(Seen::Refused),
        Err(source) => return Err(WatchError::Lock { key, source: Box::new(source) }),
    };
    let promised_until = snapshot.manifest.promised_until;
    let weakness = verify::weakness(lock, promised_until, repository.genesis.lock.mode);
    Ok(weakness
        .map_or(Seen::Good, |what| Seen::Bad(format!("version {version_id} of {key}: {what}"))))
}
