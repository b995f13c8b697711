//! A model of a bucket with Object Lock, in memory, for tests: the same traits, the same rules, and faults to switch on.
//!
//! It is held to the same `contract` suite as the real servers; where it differs from them it is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use stonekeep_format::{
    Clock,
    genesis::LockBy,
    ids::{BucketName, VersionId},
    key::{ObjectKey, Place},
    lock::{Lock, LockMode},
};

mod probe;

use crate::{
    Answer, AppendStore, BucketFacts, BucketLock, Created, DefaultRetention, DeleteMarker,
    LifecycleAction, LifecycleRule, ListCursor, ObjectHead, ObjectVersion, ProvisionStore,
    ReadStore, StoreError, VersionPage,
};

/// What a credential may do; see [`MemoryStore::without`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// List versions.
    List,
    /// Read and head versions.
    Read,
    /// Put objects.
    Put,
    /// Read locks.
    ReadLock,
    /// Set locks.
    WriteLock,
    /// Read the bucket's configuration.
    ReadBucket,
    /// Make and configure the bucket.
    Configure,
    /// Delete versions, set delete markers, bypass GOVERNANCE.
    Delete,
    /// Set legal holds and event holds.
    Hold,
    /// Change who may read.
    Publish,
    /// Put outside the prefixes of a writer.
    PutAnywhere,
}

impl Right {
    /// What a writer's credential lacks under the least policy.
    pub const NOT_OF_A_WRITER: [Self; 5] =
        [Self::Configure, Self::Delete, Self::Hold, Self::Publish, Self::PutAnywhere];
}

/// How many entries a page of a listing holds: few, so that tests meet page ends.
const PAGE_ENTRIES: usize = 7;

/// A bucket in memory, seen through one credential. Clones, and what [`MemoryStore::without`] returns, are the same bucket.
#[derive(Clone)]
pub struct MemoryStore {
    bucket: BucketName,
    denied: BTreeSet<Right>,
    lock_by: LockBy,
    page_entries: usize,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    exists: bool,
    locks_enabled: bool,
    default: Option<DefaultRetention>,
    versions_made: u64,
    puts: u64,
    reads: u64,
    /// Of each key, the oldest first.
    entries: BTreeMap<ObjectKey, Vec<Entry>>,
    policy: Option<String>,
    lifecycle: Vec<LifecycleRule>,
    faults: Faults,
}

#[derive(Debug, Clone)]
struct Entry {
    version_id: VersionId,
    modified_at: DateTime<Utc>,
    /// `None`: a delete marker.
    body: Option<Bytes>,
    lock: Option<Lock>,
    /// Whether listings pass it over.
    hidden: bool,
    /// Whether reads of it are refused.
    sealed_away: bool,
}

#[derive(Default)]
struct Faults {
    refuse_puts: Option<(usize, MakeError)>,
    refuse_reads: Option<(usize, MakeError)>,
    lost_answers: usize,
    drop_locks: bool,
    shorten_locks: Option<Duration>,
}

type MakeError = Box<dyn Fn() -> StoreError + Send>;

impl MemoryStore {
    /// Returns an empty bucket with Object Lock. `clock` is the server's clock.
    #[must_use]
    pub fn new(bucket: BucketName, clock: Arc<dyn Clock>) -> Self {
        let state = State { exists: true, locks_enabled: true, ..State::default() };
        Self {
            bucket,
            denied: BTreeSet::new(),
            lock_by: LockBy::PerObject,
            page_entries: PAGE_ENTRIES,
            clock,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Returns a bucket that nobody has made yet.
    #[must_use]
    pub fn absent(bucket: BucketName, clock: Arc<dyn Clock>) -> Self {
        let store = Self::new(bucket, clock);
        store.state().exists = false;
        store
    }

    /// Returns an empty bucket that cannot keep locks.
    #[must_use]
    pub fn unlocked(bucket: BucketName, clock: Arc<dyn Clock>) -> Self {
        let store = Self::new(bucket, clock);
        store.state().locks_enabled = false;
        store
    }

    /// Returns the same bucket, listed in pages of a real server's size (1000): for simulations of many objects.
    #[must_use]
    pub fn in_large_pages(&self) -> Self {
        Self { page_entries: 1000, ..self.clone() }
    }

    /// Returns the same bucket, whose default then locks what is put.
    #[must_use]
    pub fn naming_no_locks(&self) -> Self {
        Self { lock_by: LockBy::BucketDefault, ..self.clone() }
    }

    /// Returns the same bucket through a credential that lacks `rights` too.
    #[must_use]
    pub fn without(&self, rights: &[Right]) -> Self {
        let denied = self.denied.iter().chain(rights).copied().collect();
        Self { denied, ..self.clone() }
    }

    /// Removes what the lifecycle rules say, as a server does once a day: versions older than their rule's days whose lock has
    /// ended.
    pub fn expire(&self) {
        let now = self.clock.now();
        let mut state = self.state();
        let State { entries, lifecycle, .. } = &mut *state;
        entries.retain(|key, versions| {
            let days = lifecycle
                .iter()
                .filter(|rule| key.as_str().starts_with(&rule.prefix))
                .filter_map(|rule| match rule.action {
                    LifecycleAction::Expire { days } => Some(i64::from(days)),
                    LifecycleAction::AbortUploads { .. } => None,
                })
                .min();
            versions.retain(|entry| {
                let is_due =
                    days.is_some_and(|days| now - entry.modified_at > TimeDelta::days(days));
                let is_locked = entry.lock.is_some_and(|lock| lock.retain_until > now);
                !is_due || is_locked
            });
            !versions.is_empty()
        });
    }

    /// Returns the key and the length of every version there is.
    #[must_use]
    pub fn stored(&self) -> Vec<(ObjectKey, u64)> {
        let state = self.state();
        let of_key = |(key, versions): (&ObjectKey, &Vec<Entry>)| {
            let bodies = versions.iter().filter_map(|each| each.body.as_ref());
            bodies.map(|body| (key.clone(), body.len() as u64)).collect::<Vec<_>>()
        };
        state.entries.iter().flat_map(of_key).collect()
    }

    /// Returns how many puts, and how many other calls, the bucket has answered.
    #[must_use]
    pub fn calls(&self) -> (u64, u64) {
        let state = self.state();
        (state.puts, state.reads)
    }

    /// Puts a version without lock and without asking for rights, as an attacker would: above an object, or below a key that
    /// will be used later.
    pub fn plant(&self, key: &ObjectKey, body: Bytes) -> VersionId {
        self.append(key, Some(body), None)
    }

    /// Puts a delete marker over a key.
    pub fn plant_marker(&self, key: &ObjectKey) -> VersionId {
        self.append(key, None, None)
    }

    /// Passes the bytes of a version through `damage`, as a failing disk does; says whether it was there.
    pub fn damage(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        damage: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let mut damaged = false;
        self.change(key, version, |entry| {
            if let Some(body) = &mut entry.body {
                let mut bytes = body.to_vec();
                damage(&mut bytes);
                *body = bytes.into();
                damaged = true;
            }
        });
        damaged
    }

    /// Loses a version, lock or not, as the storage operator can; says whether it was there.
    pub fn lose(&self, key: &ObjectKey, version: &VersionId) -> bool {
        let mut state = self.state();
        let Some(entries) = state.entries.get_mut(key) else { return false };
        let before = entries.len();
        entries.retain(|entry| entry.version_id != *version);
        entries.len() < before
    }

    /// Leaves a version out of listings; it can still be read.
    pub fn hide(&self, key: &ObjectKey, version: &VersionId) {
        self.change(key, version, |entry| entry.hidden = true);
    }

    /// Lists it again.
    pub fn show(&self, key: &ObjectKey, version: &VersionId) {
        self.change(key, version, |entry| entry.hidden = false);
    }

    /// Lets the server refuse to give a version out, as for one that was put under a key of somebody's own (SSE-C).
    pub fn seal_away(&self, key: &ObjectKey, version: &VersionId) {
        self.change(key, version, |entry| entry.sealed_away = true);
    }

    /// Takes the lock of a version away.
    pub fn unlock(&self, key: &ObjectKey, version: &VersionId) {
        self.change(key, version, |entry| entry.lock = None);
    }

    /// Lets the next `count` puts fail with what `error` makes, without storing anything.
    pub fn refuse_puts(&self, count: usize, error: impl Fn() -> StoreError + Send + 'static) {
        self.state().faults.refuse_puts = Some((count, Box::new(error)));
    }

    /// Lets the next `count` reads (lists, gets, heads, retentions) fail with what `error` makes.
    pub fn refuse_reads(&self, count: usize, error: impl Fn() -> StoreError + Send + 'static) {
        self.state().faults.refuse_reads = Some((count, Box::new(error)));
    }

    /// Stores the next `count` puts and answers as if the connection had broken.
    pub fn lose_answers_of_puts(&self, count: usize) {
        self.state().faults.lost_answers = count;
    }

    /// Stores objects without the lock that their PUT asks for, and says nothing, as some servers do.
    pub fn drop_locks_on_put(&self, drop: bool) {
        self.state().faults.drop_locks = drop;
    }

    /// Stores objects with a lock shorter by this than asked for, and says nothing.
    pub fn shorten_locks_on_put(&self, by: Duration) {
        self.state().faults.shorten_locks = Some(by);
    }

    /// Returns the policy that was put last.
    #[must_use]
    pub fn policy(&self) -> Option<String> {
        self.state().policy.clone()
    }

    /// Returns the lifecycle rules that were put last.
    #[must_use]
    pub fn lifecycle(&self) -> Vec<LifecycleRule> {
        self.state().lifecycle.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked with the guard in hand has failed already; the state is whole after each call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, key: &ObjectKey, body: Option<Bytes>, lock: Option<Lock>) -> VersionId {
        let modified_at = self.clock.now();
        let mut state = self.state();
        let by_default = state.default.filter(|_| body.is_some()).map(|default| Lock {
            mode: default.mode,
            retain_until: modified_at + TimeDelta::days(i64::from(default.days)),
        });
        let lock = lock.or(by_default);
        state.versions_made += 1;
        let version_id: VersionId = format!("v{}", state.versions_made)
            .parse()
            .expect("a letter and digits are a version id");
        let entry = Entry {
            version_id: version_id.clone(),
            modified_at,
            body,
            lock,
            hidden: false,
            sealed_away: false,
        };
        state.entries.entry(key.clone()).or_default().push(entry);
        version_id
    }

    fn change(&self, key: &ObjectKey, version: &VersionId, change: impl FnOnce(&mut Entry)) {
        let mut state = self.state();
        let entries = state.entries.get_mut(key);
        if let Some(entry) =
            entries.and_then(|all| all.iter_mut().find(|e| e.version_id == *version))
        {
            change(entry);
        }
    }

    fn allow(&self, right: Right, action: &'static str) -> Result<(), StoreError> {
        if !self.state().exists {
            return Err(StoreError::NoBucket { bucket: self.bucket.clone() });
        }
        if self.denied.contains(&right) {
            let source = Answer::new(403, Some("AccessDenied"), None);
            return Err(StoreError::Denied { action, bucket: self.bucket.clone(), source });
        }
        let mut state = self.state();
        match right {
            Right::Put | Right::WriteLock | Right::Configure => state.puts += 1,
            _ => state.reads += 1,
        }
        Ok(())
    }

    fn readable(&self, right: Right, action: &'static str) -> Result<(), StoreError> {
        self.allow(right, action)?;
        due(&mut self.state().faults.refuse_reads)
    }

    fn entry(&self, key: &ObjectKey, version: &VersionId) -> Result<(Bytes, Entry), StoreError> {
        let state = self.state();
        let entry = state
            .entries
            .get(key)
            .and_then(|entries| entries.iter().find(|entry| entry.version_id == *version));
        match entry.and_then(|entry| Some((entry.body.clone()?, entry.clone()))) {
            Some(found) => Ok(found),
            None => Err(StoreError::NotFound { key: key.clone() }),
        }
    }

    fn check_lock(&self, lock: &Lock, action: &'static str) -> Result<(), StoreError> {
        if !self.state().locks_enabled {
            return Err(StoreError::NoObjectLock { bucket: self.bucket.clone() });
        }
        if lock.retain_until <= self.clock.now() {
            let source = Answer::new(400, Some("InvalidArgument"), Some("a date in the past"));
            return Err(StoreError::Rejected { action, source });
        }
        Ok(())
    }
}

fn due(fault: &mut Option<(usize, MakeError)>) -> Result<(), StoreError> {
    match fault {
        Some((left, make)) if *left > 0 => {
            *left -= 1;
            Err(make())
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl ReadStore for MemoryStore {
    fn bucket(&self) -> &BucketName {
        &self.bucket
    }

    async fn list_versions(
        &self,
        prefix: &str,
        after: Option<ListCursor>,
    ) -> Result<VersionPage, StoreError> {
        self.readable(Right::List, "list versions")?;
        let state = self.state();
        let after = after.as_ref();
        let from = after.map_or(prefix, |after| after.key.as_str());
        let ended = after.and_then(|after| age_of_last(&state, after));
        let is_done = |key: &ObjectKey, age: usize| {
            let is_last_key = after.is_some_and(|after| key.as_str() == after.key);
            is_last_key && ended.is_none_or(|ended| age <= ended)
        };
        // As S3 lists: keys in order, of each the newest first.
        let mut entries = state
            .entries
            .range::<str, _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .flat_map(|(key, all)| {
                all.iter().rev().enumerate().map(move |(age, entry)| (key, entry, age))
            })
            .filter(|(key, entry, age)| !entry.hidden && !is_done(key, *age))
            .map(|(key, entry, age)| (key, entry, age == 0));
        let listed: Vec<_> = entries.by_ref().take(self.page_entries).collect();
        let mut page = VersionPage::default();
        for (key, entry, is_latest) in listed.iter().rev() {
            page.take(key, entry, *is_latest);
        }
        page.versions.sort_by(|a, b| a.key.cmp(&b.key));
        page.markers.sort_by(|a, b| a.key.cmp(&b.key));
        if entries.next().is_some() {
            page.next = listed.last().map(|(key, entry, _)| ListCursor {
                key: key.as_str().to_owned(),
                version_id: Some(entry.version_id.as_str().to_owned()),
            });
        }
        Ok(page)
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        self.readable(Right::Read, "read objects")?;
        let (body, entry) = self.entry(key, version)?;
        if entry.sealed_away {
            let source = Answer::new(400, Some("InvalidRequest"), None);
            return Err(StoreError::Rejected { action: "read objects", source });
        }
        if body.len() as u64 > bytes_max {
            return Err(StoreError::TooLong { key: key.clone(), bytes_max });
        }
        Ok(body)
    }

    async fn head(&self, key: &ObjectKey, version: &VersionId) -> Result<ObjectHead, StoreError> {
        self.readable(Right::Read, "read objects")?;
        self.entry(key, version).map(|(body, _)| ObjectHead { bytes: body.len() as u64 })
    }

    async fn retention(
        &self,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<Option<Lock>, StoreError> {
        self.readable(Right::ReadLock, "read locks")?;
        self.entry(key, version).map(|(_, entry)| entry.lock)
    }

    async fn bucket_lock(&self) -> Result<BucketLock, StoreError> {
        self.allow(Right::ReadBucket, "read the bucket's Object Lock configuration")?;
        let state = self.state();
        Ok(BucketLock { enabled: state.locks_enabled, default: state.default })
    }

    async fn bucket_facts(&self) -> Result<BucketFacts, StoreError> {
        let BucketLock { enabled, default } = match self.bucket_lock().await {
            Ok(lock) => lock,
            Err(StoreError::Denied { .. }) => {
                let unread = ["versioning", "object-lock", "lifecycle", "policy"];
                let unread = unread.map(str::to_owned).into();
                return Ok(BucketFacts { facts: BTreeMap::new(), unread });
            }
            Err(error) => return Err(error),
        };
        let state = self.state();
        let facts = [
            ("versioning", "Enabled".to_owned()),
            ("object-lock", format!("{enabled} {default:?}")),
            ("lifecycle", format!("{:?}", state.lifecycle)),
            ("policy", state.policy.clone().unwrap_or_else(|| "none".to_owned())),
        ];
        let facts = facts.map(|(name, text)| (name.to_owned(), text)).into();
        Ok(BucketFacts { facts, unread: BTreeSet::new() })
    }

    async fn server_time(&self) -> Result<DateTime<Utc>, StoreError> {
        if !self.state().exists {
            return Err(StoreError::NoBucket { bucket: self.bucket.clone() });
        }
        Ok(self.clock.now().trunc_subsecs(0))
    }
}

/// Returns how many versions of its key are newer than the one at which a page ended: versions of a key come newest first.
fn age_of_last(state: &State, after: &ListCursor) -> Option<usize> {
    let ended = after.version_id.as_deref();
    let mut versions = state.entries.get(after.key.as_str())?.iter().rev();
    versions.position(|each| Some(each.version_id.as_str()) == ended)
}

impl VersionPage {
    fn take(&mut self, key: &ObjectKey, entry: &Entry, is_latest: bool) {
        let (key, version_id) = (key.clone(), entry.version_id.clone());
        let modified_at = entry.modified_at;
        match &entry.body {
            Some(body) => {
                let bytes = body.len() as u64;
                self.versions.push(ObjectVersion {
                    key,
                    version_id,
                    bytes,
                    modified_at,
                    is_latest,
                });
            }
            None => self.markers.push(DeleteMarker { key, version_id, modified_at }),
        }
    }
}

#[async_trait]
impl AppendStore for MemoryStore {
    async fn put(&self, key: &ObjectKey, body: Bytes, lock: Lock) -> Result<VersionId, StoreError> {
        self.allow(Right::Put, "put objects")?;
        due(&mut self.state().faults.refuse_puts)?;
        self.check_lock(&lock, "put objects")?;
        let faults = {
            let faults = &mut self.state().faults;
            let lost = faults.lost_answers > 0;
            faults.lost_answers = faults.lost_answers.saturating_sub(1);
            (faults.drop_locks, faults.shorten_locks, lost)
        };
        let (dropped, shortened, lost) = faults;
        let by = shortened.and_then(|by| TimeDelta::from_std(by).ok()).unwrap_or_default();
        let kept = Lock { retain_until: lock.retain_until - by, ..lock };
        // Segments are put on condition that there is nothing under their key.
        let is_segment = matches!(Place::of(key), Some(Place::Segment(..)));
        if is_segment && self.state().entries.contains_key(key) {
            return Err(StoreError::Exists { key: key.clone() });
        }
        let named = self.lock_by == LockBy::PerObject && !dropped;
        let version = self.append(key, Some(body), named.then_some(kept));
        if lost {
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
        let action = "set locks";
        self.allow(Right::WriteLock, action)?;
        self.check_lock(&lock, action)?;
        let (_, entry) = self.entry(key, version)?;
        let weaker = entry.lock.is_some_and(|old| {
            lock.retain_until < old.retain_until
                || (old.mode == LockMode::Compliance && lock.mode == LockMode::Governance)
        });
        if weaker {
            let source = Answer::new(403, Some("AccessDenied"), Some("shortens a retention"));
            return Err(StoreError::Denied { action, bucket: self.bucket.clone(), source });
        }
        self.change(key, version, |entry| entry.lock = Some(lock));
        Ok(())
    }
}

#[async_trait]
impl ProvisionStore for MemoryStore {
    async fn create_bucket(&self) -> Result<Created, StoreError> {
        if self.denied.contains(&Right::Configure) && self.state().exists {
            return Err(StoreError::BucketTaken { bucket: self.bucket.clone() });
        }
        let mut state = self.state();
        match (state.exists, state.locks_enabled) {
            (true, true) => Ok(Created::Existed),
            (true, false) => Err(StoreError::NoObjectLock { bucket: self.bucket.clone() }),
            (false, _) => {
                (state.exists, state.locks_enabled) = (true, true);
                Ok(Created::New)
            }
        }
    }

    async fn put_default_retention(&self, default: DefaultRetention) -> Result<(), StoreError> {
        self.allow(Right::Configure, "put the bucket's default retention")?;
        self.state().default = Some(default);
        Ok(())
    }

    async fn put_policy(&self, json: &str) -> Result<(), StoreError> {
        self.allow(Right::Configure, "put the bucket policy")?;
        self.state().policy = Some(json.to_owned());
        Ok(())
    }

    async fn put_lifecycle(&self, rules: &[LifecycleRule]) -> Result<(), StoreError> {
        self.allow(Right::Configure, "put the bucket's lifecycle rules")?;
        self.state().lifecycle = rules.to_vec();
        Ok(())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("bucket", &self.bucket)
            .field("denied", &self.denied)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use stonekeep_format::clock::StillClock;

    use super::*;

    /// Returns a clock that moves only when someone sleeps.
    pub(crate) fn still_clock() -> Arc<StillClock> {
        Arc::new(StillClock::new("2026-11-20T00:00:00Z".parse().unwrap()))
    }

    fn store() -> MemoryStore {
        MemoryStore::new("vault".parse().unwrap(), still_clock())
    }

    #[tokio::test]
    async fn a_hidden_version_can_be_read_and_is_not_listed() {
        let store = store();
        let key = ObjectKey::genesis(1);
        let version = store.plant(&key, Bytes::from_static(b"x"));
        store.hide(&key, &version);
        assert!(store.list_versions("", None).await.unwrap().versions.is_empty());
        assert_eq!(store.get(&key, &version, 1).await.unwrap(), "x");
    }

    #[tokio::test]
    async fn damaged_and_lost_versions_are() {
        let store = store();
        let key = ObjectKey::genesis(1);
        let version = store.plant(&key, Bytes::from_static(b"x"));
        assert!(store.damage(&key, &version, |bytes| bytes[0] ^= 1));
        assert_eq!(store.get(&key, &version, 1).await.unwrap(), "y");
        assert!(store.lose(&key, &version));
        let gone = store.head(&key, &version).await;
        assert!(matches!(gone, Err(StoreError::NotFound { .. })));
    }

    #[tokio::test]
    async fn refused_reads_come_back() {
        let store = store();
        store.refuse_reads(1, || StoreError::Unavailable { action: "list", source: "503".into() });
        assert!(store.list_versions("", None).await.is_err());
        assert!(store.list_versions("", None).await.is_ok());
    }
}
