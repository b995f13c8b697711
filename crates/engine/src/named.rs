//! The objects that a snapshot names: its manifest, its inventory and its segments.

use stonekeep_format::{
    ids::{BucketName, VersionId},
    inventory::Segment,
    key::ObjectKey,
};

use crate::history::Snapshot;

/// One version of one object. Ordered, so that one that is named twice is looked at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamedObject {
    pub(crate) bucket: BucketName,
    pub(crate) key: ObjectKey,
    pub(crate) version_id: VersionId,
    pub(crate) bytes: u64,
}

impl NamedObject {
    /// Returns the manifest, which lies beside its inventory, and the inventory.
    pub(crate) fn documents(snapshot: &Snapshot) -> [Self; 2] {
        let named = &snapshot.manifest.inventory;
        let manifest = Self {
            bucket: named.bucket.clone(),
            key: snapshot.version.key.clone(),
            version_id: snapshot.version.version_id.clone(),
            bytes: snapshot.version.bytes,
        };
        let inventory = Self {
            bucket: named.bucket.clone(),
            key: named.key.clone(),
            version_id: named.version_id.clone(),
            bytes: named.bytes,
        };
        [manifest, inventory]
    }
}

impl From<&Segment> for NamedObject {
    fn from(segment: &Segment) -> Self {
        Self {
            bucket: segment.bucket.clone(),
            key: segment.key.clone(),
            version_id: segment.version_id.clone(),
            bytes: segment.bytes,
        }
    }
}
