//! What can be done to a bucket, and by whom: one trait for each role.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use stonekeep_format::{
    ids::{BucketName, VersionId},
    key::ObjectKey,
    lock::{Lock, LockMode},
};

use crate::StoreError;

/// A repository that can be read: what the watcher and the restorer hold.
///
/// Keys are relative to the repository's prefix. Every read names a version, never just a key: a delete marker or an
/// overwrite, which any writer can place, then changes nothing. Calls are repeated by the store itself where that helps
/// (see [`crate::retry`]).
#[async_trait]
pub trait ReadStore: Debug + Send + Sync {
    /// Returns the bucket, for messages.
    fn bucket(&self) -> &BucketName;

    /// Lists one page of the versions and delete markers of all keys that begin with `prefix`, in the order of the keys.
    /// `after` is [`VersionPage::next`] of the page before. [`crate::list_keys`] reads all pages.
    async fn list_versions(
        &self,
        prefix: &str,
        after: Option<ListCursor>,
    ) -> Result<VersionPage, StoreError>;

    /// Returns the bytes of a version, which are unverified.
    ///
    /// # Errors
    /// [`StoreError::TooLong`] if there are more than `bytes_max`; no more than that is ever read or held.
    async fn get(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError>;

    /// Returns what there is to know of a version without reading it.
    async fn head(&self, key: &ObjectKey, version: &VersionId) -> Result<ObjectHead, StoreError>;

    /// Returns the lock of a version as the server tells it; `None` if it has none.
    async fn retention(
        &self,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<Option<Lock>, StoreError>;

    /// Returns whether the bucket has Object Lock, and its default.
    async fn bucket_lock(&self) -> Result<BucketLock, StoreError>;

    /// Returns how the bucket is configured, as far as this credential may see it.
    ///
    /// # Errors
    /// A bucket that is not there or does not answer; a part that may not be read is no error.
    async fn bucket_facts(&self) -> Result<BucketFacts, StoreError>;

    /// Returns the server's clock (whole seconds): the `Date` of its answer to a signed request.
    ///
    /// A credential without the right to the request that carries it still gets the time: a server that says "denied" has
    /// checked the signature first, and its clock is as good.
    async fn server_time(&self) -> Result<DateTime<Utc>, StoreError>;
}

/// A repository that can also be added to: what the daemon holds.
#[async_trait]
pub trait AppendStore: ReadStore {
    /// Puts an object under lock, in one attempt, and returns the version it became.
    ///
    /// A store of a bucket that names the locks itself sends none. Success proves nothing about the lock: use [`crate::put_locked`] or [`crate::put_fresh`]. An error leaves the outcome
    /// unknown unless it says that the server refused; so put again under another key, never under the same.
    async fn put(&self, key: &ObjectKey, body: Bytes, lock: Lock) -> Result<VersionId, StoreError>;

    /// Sets the lock of a version that has none or a shorter one. The server refuses to shorten.
    async fn extend(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        lock: Lock,
    ) -> Result<(), StoreError>;
}

/// A bucket that can be configured: what a person with the provisioner's credential holds, once.
#[async_trait]
pub trait ProvisionStore: AppendStore {
    /// Makes the bucket with Object Lock; one that is ours already is left as it is.
    ///
    /// # Errors
    /// [`StoreError::NoObjectLock`] if it exists without Object Lock, [`StoreError::BucketTaken`] if it is someone else's.
    async fn create_bucket(&self) -> Result<Created, StoreError>;

    /// Sets what the server locks objects for whose PUT names no lock.
    async fn put_default_retention(&self, default: DefaultRetention) -> Result<(), StoreError>;

    /// Replaces the bucket policy.
    async fn put_policy(&self, json: &str) -> Result<(), StoreError>;

    /// Replaces the bucket's lifecycle rules by `rules`.
    async fn put_lifecycle(&self, rules: &[LifecycleRule]) -> Result<(), StoreError>;
}

/// One version of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// Its key, relative to the repository's prefix.
    pub key: ObjectKey,
    /// Which version of it.
    pub version_id: VersionId,
    /// Its length in bytes.
    pub bytes: u64,
    /// When the server stored it.
    pub modified_at: DateTime<Utc>,
    /// Whether a read that names no version would find it.
    pub is_latest: bool,
}

/// A marker that hides the versions under it from reads that name no version. It deletes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteMarker {
    /// The key it hides.
    pub key: ObjectKey,
    /// The marker's own version.
    pub version_id: VersionId,
    /// When it was placed.
    pub modified_at: DateTime<Utc>,
}

/// Where a page of a listing ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListCursor {
    /// The last key listed, with the repository's prefix, as the server spells it.
    pub(crate) key: String,
    /// The last version of it listed; `None`: all of them were.
    pub(crate) version_id: Option<String>,
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionPage {
    /// Versions in the order of the keys; of one key, the oldest first.
    pub versions: Vec<ObjectVersion>,
    /// Delete markers, in the same order.
    pub markers: Vec<DeleteMarker>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<ListCursor>,
}

/// What there is to know of a version without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its length in bytes.
    pub bytes: u64,
}

/// Whether a bucket keeps locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketLock {
    /// Whether Object Lock is on.
    pub enabled: bool,
    /// What the server locks objects for whose PUT names no lock.
    pub default: Option<DefaultRetention>,
}

/// How a bucket is configured: each part as one text that is the same as long as the configuration is.
///
/// The parts are `versioning`, `object-lock`, `lifecycle`, `policy`, `encryption`, `replication`, `public-access` and
/// `ownership`. Of one that is not set the text is `none`. One that the server does not offer is in neither map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketFacts {
    /// What was read.
    pub facts: BTreeMap<String, String>,
    /// What may not be read by this credential.
    pub unread: BTreeSet<String>,
}

/// The lock that a bucket gives to objects whose PUT names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultRetention {
    /// Its mode.
    pub mode: LockMode,
    /// Its length in days; a default in years counts 365 days each.
    pub days: u32,
}

/// What became of [`ProvisionStore::create_bucket`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The bucket is new.
    New,
    /// It was ours already, with Object Lock.
    Existed,
}

/// What happens by itself under a prefix. Locks win over it: a locked version stays until its lock has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleRule {
    /// The name of the rule, unique in the bucket.
    pub id: String,
    /// What it covers, relative to the repository's prefix.
    pub prefix: String,
    /// What happens, and when.
    pub action: LifecycleAction,
}

/// What a [`LifecycleRule`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleAction {
    /// Hides a version some days after its PUT, and removes it the day after.
    Expire {
        /// How many days.
        days: u32,
    },
    /// Removes the parts of an upload that was not completed some days after it began. We make none; a thief might.
    AbortUploads {
        /// How many days.
        days: u32,
    },
}
