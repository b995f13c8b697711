//! Servers that say one thing and do another: decorators of the in-memory model, for the tests of those who must find out.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{
    ids::{BucketName, SnapshotId, VersionId},
    key::ObjectKey,
    lock::Lock,
};

use crate::{
    Answer, AppendStore, Attack, BucketFacts, BucketLock, Canary, ListCursor, MemoryStore,
    ObjectHead, Planting, ProbeAnswer, ProbeStore, ReadStore, StoreError, VersionPage,
    contract::list_all,
};

/// What a server does other than it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// Drops the lock of what is put; one that is set afterwards it keeps.
    DropsLocksOnPut,
    /// Keeps no lock at all.
    KeepsNoLocks,
    /// Keeps no lock of keys that begin so.
    KeepsNoLocksOf(&'static str),
    /// Loses the answer to the first PUT, and keeps no lock of what is put after it.
    KeepsNoLocksOnRetry,
    /// Takes a longer lock for a version that has one, and forgets it.
    ForgetsExtensions,
    /// Keeps dates in 32 bits of seconds, so that 2110 is in the past.
    WrapsDates,
    /// Takes a shorter lock for a longer one.
    ShortensLocks,
    /// Deletes for anybody whatever it is asked to, locked or not.
    Deletes,
    /// Ignores If-None-Match.
    IgnoresConditions,
    /// Lists only what was there when the lie began.
    ListsOldState,
    /// Puts a delete marker over each manifest.
    AddsMarkers,
    /// Puts a version of its own over each manifest.
    AddsVersions,
}

/// The model of a bucket, behind a server that lies.
#[derive(Debug, Clone)]
pub struct LyingStore {
    inner: MemoryStore,
    lie: Lie,
    /// What was there when the lie began.
    old: Arc<BTreeSet<VersionId>>,
    has_put: Arc<AtomicBool>,
}

impl LyingStore {
    /// Lets the bucket tell `lie` from now on.
    pub async fn new(inner: MemoryStore, lie: Lie) -> Self {
        let there = list_all(&inner, "").await.versions;
        let old = there.into_iter().map(|version| version.version_id).collect();
        Self { inner, lie, old: Arc::new(old), has_put: Arc::default() }
    }

    /// Returns the same bucket and lie through the credential of `inner`.
    #[must_use]
    pub fn through(&self, inner: MemoryStore) -> Self {
        Self { inner, ..self.clone() }
    }

    fn keeps_no_lock(&self, key: &ObjectKey) -> bool {
        match self.lie {
            Lie::KeepsNoLocks => true,
            Lie::KeepsNoLocksOf(prefix) => key.as_str().starts_with(prefix),
            Lie::KeepsNoLocksOnRetry => self.has_put.load(Ordering::Relaxed),
            _ => false,
        }
    }

    /// What it adds of its own.
    fn add(&self, key: &ObjectKey) {
        match self.lie {
            _ if !key.as_str().starts_with("manifests/") => {}
            Lie::AddsMarkers => drop(self.inner.plant_marker(key)),
            Lie::AddsVersions => drop(self.inner.plant(key, Bytes::from_static(b"of its own"))),
            _ => {}
        }
    }
}

#[async_trait]
impl ReadStore for LyingStore {
    fn bucket(&self) -> &BucketName {
        self.inner.bucket()
    }

    async fn list_versions(
        &self,
        prefix: &str,
        after: Option<ListCursor>,
    ) -> Result<VersionPage, StoreError> {
        let mut page = self.inner.list_versions(prefix, after).await?;
        if self.lie == Lie::ListsOldState {
            page.versions.retain(|version| self.old.contains(&version.version_id));
        }
        Ok(page)
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        self.inner.get(key, version, bytes_max).await
    }

    async fn head(&self, key: &ObjectKey, version: &VersionId) -> Result<ObjectHead, StoreError> {
        self.inner.head(key, version).await
    }

    async fn retention(
        &self,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<Option<Lock>, StoreError> {
        let lock = self.inner.retention(key, version).await?;
        Ok(if self.lie == Lie::WrapsDates { lock.map(wrapped) } else { lock })
    }

    async fn bucket_lock(&self) -> Result<BucketLock, StoreError> {
        self.inner.bucket_lock().await
    }

    async fn bucket_facts(&self) -> Result<BucketFacts, StoreError> {
        self.inner.bucket_facts().await
    }

    async fn server_time(&self) -> Result<DateTime<Utc>, StoreError> {
        self.inner.server_time().await
    }
}

/// The date as 32 bits of seconds hold it.
fn wrapped(lock: Lock) -> Lock {
    let turn = TimeDelta::seconds(1 << 32);
    let turns = lock.retain_until.timestamp() >> 32;
    let turns = i32::try_from(turns).unwrap_or_default();
    Lock { retain_until: lock.retain_until - turn * turns, ..lock }
}

#[async_trait]
impl AppendStore for LyingStore {
    async fn put(&self, key: &ObjectKey, body: Bytes, lock: Lock) -> Result<VersionId, StoreError> {
        let version = self.inner.put(key, body, lock).await?;
        if self.lie == Lie::DropsLocksOnPut || self.keeps_no_lock(key) {
            self.inner.unlock(key, &version);
        }
        self.add(key);
        let is_first = !self.has_put.swap(true, Ordering::Relaxed);
        if is_first && self.lie == Lie::KeepsNoLocksOnRetry {
            let source = "the connection broke before the answer".into();
            return Err(StoreError::Unavailable { action: "put objects", source });
        }
        Ok(version)
    }

    async fn extend(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        lock: Lock,
    ) -> Result<(), StoreError> {
        let found = self.inner.retention(key, version).await?;
        if self.keeps_no_lock(key) || (self.lie == Lie::ForgetsExtensions && found.is_some()) {
            return Ok(());
        }
        if self.lie == Lie::ShortensLocks {
            self.inner.unlock(key, version);
        }
        self.inner.extend(key, version, lock).await
    }
}

#[async_trait]
impl ProbeStore for LyingStore {
    fn store(&self) -> &dyn AppendStore {
        self
    }

    async fn plant(
        &self,
        run: &SnapshotId,
        name: &str,
        planting: Planting,
    ) -> Result<Canary, ProbeAnswer> {
        let canary = ProbeStore::plant(&self.inner, run, name, planting).await?;
        let asks_lock = !matches!(planting, Planting::Unlocked(_));
        if asks_lock && (self.lie == Lie::DropsLocksOnPut || self.keeps_no_lock(canary.key())) {
            self.inner.unlock(canary.key(), canary.version_id());
        }
        Ok(canary)
    }

    async fn attack(&self, attack: Attack, canary: &Canary, signed: bool) -> ProbeAnswer {
        let done = ProbeAnswer::new(Answer::new(200, None, None));
        let (key, version) = (canary.key(), canary.version_id());
        match (self.lie, attack) {
            (Lie::Deletes, Attack::DeleteVersion { .. } | Attack::DeleteMany { .. }) => {
                self.inner.lose(key, version);
                done
            }
            (Lie::ShortensLocks, Attack::Relock(_)) => {
                self.inner.unlock(key, version);
                self.inner.attack(attack, canary, signed).await
            }
            (Lie::IgnoresConditions, Attack::Overwrite { conditional: true }) => {
                let attack = Attack::Overwrite { conditional: false };
                self.inner.attack(attack, canary, signed).await
            }
            _ if self.keeps_no_lock(key) && matches!(attack, Attack::Relock(_)) => done,
            _ => self.inner.attack(attack, canary, signed).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use stonekeep_format::lock::LockMode;

    use super::*;
    use crate::{memory::tests::still_clock, put_fresh, put_locked, see_locked};

    fn until(text: &str) -> Lock {
        Lock { mode: LockMode::Compliance, retain_until: text.parse().unwrap() }
    }

    async fn liar(lie: Lie) -> LyingStore {
        let bucket = "vault".parse().unwrap();
        LyingStore::new(MemoryStore::new(bucket, still_clock()), lie).await
    }

    /// What reading the lock back comes to, of one put that is sent again if no answer came.
    async fn read_back(lie: Lie, lock: Lock) -> Result<(), StoreError> {
        let (store, clock) = (liar(lie).await, still_clock());
        let mut n = 0;
        let fresh = || {
            n += 1;
            ObjectKey::genesis(n)
        };
        put_fresh(&store, &*clock, fresh, Bytes::from_static(b"x"), lock).await.map(drop)
    }

    #[tokio::test]
    async fn a_lock_that_is_not_kept_is_found_out_by_reading_it_back() {
        let soon = until("2027-01-01T00:00:00Z");
        for lie in [Lie::KeepsNoLocks, Lie::KeepsNoLocksOf("genesis/"), Lie::KeepsNoLocksOnRetry] {
            let outcome = read_back(lie, soon).await;
            assert!(
                matches!(outcome, Err(StoreError::LockNotKept { found: None, .. })),
                "{lie:?}: {outcome:?}"
            );
        }
        for lie in [Lie::None, Lie::DropsLocksOnPut, Lie::KeepsNoLocksOf("segments/")] {
            assert!(read_back(lie, soon).await.is_ok(), "{lie:?}: set once more, it is kept");
        }
    }

    #[tokio::test]
    async fn a_date_that_wraps_is_found_out_by_reading_it_back() {
        let outcome = read_back(Lie::WrapsDates, until("2110-01-01T00:00:00Z")).await;
        let Err(StoreError::LockNotKept { found: Some(found), .. }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(found, until("1973-11-24T17:31:44Z"), "as Ceph 16 has it");
        assert!(read_back(Lie::WrapsDates, until("2099-12-31T00:00:00Z")).await.is_ok());
    }

    #[tokio::test]
    async fn an_extension_that_is_forgotten_is_found_out_by_reading_it_back() {
        let store = liar(Lie::ForgetsExtensions).await;
        let (key, body) = (ObjectKey::genesis(1), Bytes::from_static(b"x"));
        let short = until("2027-01-01T00:00:00Z");
        let receipt = put_locked(&store, &key, body, short).await.unwrap();
        let longer = until("2028-01-01T00:00:00Z");
        let outcome = see_locked(&store, &key, receipt.version_id, longer).await;
        let Err(StoreError::LockNotKept { found, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(found, Some(short));
    }
}
