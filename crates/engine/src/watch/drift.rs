//! Whether the buckets are configured as the owner has signed.

use stonekeep_store::StoreError;

use super::{Alarm, AlarmKind, WatchError, alarm::Alarms};
use crate::{
    prove::{UNREAD, differing},
    repository::Repository,
};

/// Compares each bucket with the genesis, as far as this credential may read its configuration. The texts are not told: a policy
/// is long, and `stonekeep prove` shows them.
pub(super) async fn judge(
    repository: &Repository,
    alarms: &mut Alarms,
    notes: &mut Vec<String>,
) -> Result<(), WatchError> {
    for store in repository.stores.all() {
        let bucket = store.bucket();
        let Some(signed) = repository.genesis.expected.get(bucket) else { continue };
        let found = match store.bucket_facts().await {
            Ok(found) => found,
            Err(StoreError::Denied { .. }) => {
                notes.push(format!("the configuration of bucket {bucket} may not be read"));
                continue;
            }
            Err(source) => {
                return Err(WatchError::Configuration {
                    bucket: bucket.clone(),
                    source: Box::new(source),
                });
            }
        };
        for part in differing(signed, &found.facts) {
            let what = format!(
                "the {part} configuration of bucket {bucket} is not as the owner signed it: set it back, or sign it anew with `stonekeep rotate`"
            );
            alarms.raise(Alarm::critical(AlarmKind::Configuration, None, what));
        }
        let was_read = signed.iter().filter(|(_, text)| *text != UNREAD).map(|(part, _)| part);
        let unread = was_read.filter(|part| !found.facts.contains_key(*part));
        let unread: Vec<&str> = unread.map(String::as_str).collect();
        if !unread.is_empty() {
            let unread = unread.join(", ");
            notes
                .push(format!("of the configuration of bucket {bucket} may not be read: {unread}"));
        }
    }
    Ok(())
}
