//! Writes that are believed: stored, locked, and the lock read back.

use bytes::Bytes;
use stonekeep_format::{Clock, ids::VersionId, key::ObjectKey, lock::Lock};

use crate::{
    AppendStore, StoreError,
    retry::{RetryPolicy, retry},
};

/// An object that is in the bucket under lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutReceipt {
    /// Where it lies.
    pub key: ObjectKey,
    /// The version that holds it; the key alone is no name.
    pub version_id: VersionId,
    /// The lock as read back; never shorter or weaker than the one asked for.
    pub lock: Lock,
}

/// Puts an object once, and reads its lock back by version id: a success of the PUT proves nothing about the lock (several
/// servers drop the headers silently). A missing or short lock is set once more by itself, and read back again.
///
/// # Errors
/// [`StoreError::LockNotKept`] if the server still does not keep the lock; whatever the calls answer. After an error the
/// object may or may not be there, locked or not: put again under another key.
pub async fn put_locked(
    store: &dyn AppendStore,
    key: &ObjectKey,
    body: Bytes,
    lock: Lock,
) -> Result<PutReceipt, StoreError> {
    let version_id = store.put(key, body, lock).await?;
    see_locked(store, key, version_id, lock).await
}

/// Reads the lock of a version that is there. A missing or short one is set by itself, and read back again.
///
/// # Errors
/// As [`put_locked`].
pub async fn see_locked(
    store: &dyn AppendStore,
    key: &ObjectKey,
    version_id: VersionId,
    lock: Lock,
) -> Result<PutReceipt, StoreError> {
    let mut found = store.retention(key, &version_id).await?;
    if !kept(found, &lock) {
        extend(store, key, &version_id, lock).await?;
        found = store.retention(key, &version_id).await?;
    }
    match found {
        Some(found) if found.satisfies(&lock) => {
            Ok(PutReceipt { key: key.clone(), version_id, lock: found })
        }
        _ => Err(StoreError::LockNotKept { key: key.clone(), wanted: lock, found }),
    }
}

/// Puts an object as [`put_locked`] does, each time under the key that `fresh_key` makes, until it is there and locked or
/// [`RetryPolicy::PUTS`] is used up. A put of unknown outcome may leave its object behind as an orphan, under its own key.
///
/// # Errors
/// The error of the last attempt.
pub async fn put_fresh(
    store: &dyn AppendStore,
    clock: &dyn Clock,
    mut fresh_key: impl FnMut() -> ObjectKey + Send,
    body: Bytes,
    lock: Lock,
) -> Result<PutReceipt, StoreError> {
    retry(clock, &RetryPolicy::PUTS, || {
        let (key, body) = (fresh_key(), body.clone());
        async move { put_locked(store, &key, body, lock).await }
    })
    .await
}

fn kept(found: Option<Lock>, wanted: &Lock) -> bool {
    found.is_some_and(|found| found.satisfies(wanted))
}

/// A server that refuses to repair the lock shows in what is read back, which says more than its refusal.
async fn extend(
    store: &dyn AppendStore,
    key: &ObjectKey,
    version: &VersionId,
    lock: Lock,
) -> Result<(), StoreError> {
    match store.extend(key, version, lock).await {
        Err(StoreError::Denied { .. } | StoreError::Rejected { .. }) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use chrono::{DateTime, Utc};
    use stonekeep_format::lock::LockMode;

    use super::*;
    use crate::{MemoryStore, ReadStore, Right, contract::list_all, memory::tests::still_clock};

    fn store() -> (MemoryStore, Arc<dyn Clock>) {
        let clock = still_clock();
        (MemoryStore::new("vault".parse().unwrap(), Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }
    fn lock() -> Lock {
        Lock { mode: LockMode::Compliance, retain_until: at("2027-01-01T00:00:00Z") }
    }
    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }
    fn key(n: u32) -> ObjectKey {
        ObjectKey::genesis(n)
    }

    #[tokio::test]
    async fn a_put_returns_the_lock_that_was_read_back() {
        let (store, _) = store();
        let receipt = put_locked(&store, &key(1), Bytes::from_static(b"x"), lock()).await.unwrap();
        assert_eq!(receipt.lock, lock());
        assert_eq!(store.retention(&key(1), &receipt.version_id).await.unwrap(), Some(lock()));
    }

    #[tokio::test]
    async fn a_dropped_lock_is_repaired_once() {
        let (store, _) = store();
        store.drop_locks_on_put(true);
        let receipt = put_locked(&store, &key(1), Bytes::from_static(b"x"), lock()).await.unwrap();
        assert_eq!(receipt.lock, lock());
    }

    #[tokio::test]
    async fn a_short_lock_that_cannot_be_repaired_fails() {
        let (store, _) = store();
        store.shorten_locks_on_put(Duration::from_secs(1));
        let crippled = store.without(&[Right::WriteLock]);
        let outcome = put_locked(&crippled, &key(1), Bytes::from_static(b"x"), lock()).await;
        let Err(StoreError::LockNotKept { found: Some(found), wanted, .. }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(wanted, lock());
        assert_eq!(found.retain_until, at("2026-12-31T23:59:59Z"));
    }

    #[tokio::test]
    async fn an_answer_that_was_lost_is_put_again_under_another_key() {
        let (store, clock) = store();
        store.lose_answers_of_puts(2);
        let mut n = 0;
        let fresh = || {
            n += 1;
            key(n)
        };
        let receipt =
            put_fresh(&store, &*clock, fresh, Bytes::from_static(b"x"), lock()).await.unwrap();
        assert_eq!(receipt.key, key(3));
        let all = list_all(&store, "").await;
        assert_eq!(all.versions.len(), 3, "the two orphans and the one that counts");
    }

    #[tokio::test]
    async fn a_refusal_for_good_is_not_repeated() {
        let (store, clock) = store();
        let denied = store.without(&[Right::Put]);
        let mut keys = 0;
        let fresh = || {
            keys += 1;
            key(keys)
        };
        let outcome = put_fresh(&denied, &*clock, fresh, Bytes::from_static(b"x"), lock()).await;
        assert!(matches!(outcome, Err(StoreError::Denied { .. })));
        assert_eq!(keys, 1);
    }
}
