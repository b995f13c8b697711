//! The clear list of a snapshot's segments: what must be there, for those who cannot open it.

use std::io::{Read, Write};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{BucketName, Digest, Label, MemberName, RepositoryId, SegmentId, SnapshotId, VersionId},
    key::ObjectKey,
    lock::Lock,
};

/// The longest inventory a reader unpacks: 512 MiB of JSON, at some 600 bytes a segment more than 800 000 segments, 12 TiB.
pub const INVENTORY_PLAIN_BYTES_MAX: u64 = 512 << 20;
/// The longest inventory object a reader fetches: 128 MiB.
pub const INVENTORY_BYTES_MAX: u64 = 128 << 20;
const LEVEL: i32 = 6;

/// What a segment's plaintext is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentKind {
    /// `toc.dat` of the directory archive.
    Toc,
    /// A slice of one member: append the slices, in order, to rebuild it.
    Rows,
    /// A tar of whole members.
    Pack,
    /// The catalog.
    Catalog,
    /// `globals.sql`: roles and tablespaces.
    Globals,
}

impl SegmentKind {
    /// Returns the kind as the inventory spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Toc => "toc",
            Self::Rows => "rows",
            Self::Pack => "pack",
            Self::Catalog => "catalog",
            Self::Globals => "globals",
        }
    }
}

/// The list of what one snapshot (or one attempt) rests on. Stored as zstd of this JSON document; its digest stands in the
/// signed object that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// [`Inventory::FORMAT`].
    pub format: String,
    /// The repository.
    pub repository: RepositoryId,
    /// The database's label.
    pub label: Label,
    /// The snapshot, or the attempt.
    pub id: SnapshotId,
    /// The segments, in the order in which a restore by hand works them off.
    pub segments: Vec<Segment>,
    /// What each table held, under a name only the writer can make: to see shrinkage without telling names.
    pub tables: Vec<TableTotals>,
}

/// One version of one object that the snapshot needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// What its plaintext is.
    pub kind: SegmentKind,
    /// For `rows`: the member it is a slice of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberName>,
    /// The keyed digest of its content.
    pub id: SegmentId,
    /// Its key.
    pub key: ObjectKey,
    /// Its bucket.
    pub bucket: BucketName,
    /// Its version.
    pub version_id: VersionId,
    /// Its length as stored, in bytes.
    pub bytes: u64,
    /// The BLAKE3 digest of its bytes as stored.
    pub digest: Digest,
    /// The length of its plaintext, in bytes.
    pub plain_bytes: u64,
    /// Its lock as last read back from the server.
    pub lock: Lock,
    /// When that was, by the storage server's clock: a lock that nobody asked for in 24 h is asked for again.
    pub checked_at: DateTime<Utc>,
    /// Since when this place has held this content, unchanged.
    pub since: DateTime<Utc>,
}

/// What a table held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableTotals {
    /// Keyed BLAKE3 of the label and the qualified name (the first 16 bytes).
    pub name: crate::ids::Nonce,
    /// Its rows.
    pub rows: u64,
    /// Bytes of COPY.
    pub plain_bytes: u64,
    /// The pages of its slices, if they have more than [`HEAP_SLICE_PAGES`](crate::slicer::HEAP_SLICE_PAGES): the next
    /// snapshot cuts at the same ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice_pages: Option<u32>,
    /// Whether its rows are in COPY's binary format: the next snapshot begins so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub binary: bool,
}

/// Why an inventory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// It is no zstd, or longer than allowed.
    #[error("the inventory cannot be unpacked")]
    Unpack(#[source] std::io::Error),
    /// It is no inventory, or cannot be written.
    #[error("the inventory cannot be read")]
    Document(#[source] serde_json::Error),
    /// Its bytes are not those the signed object names.
    #[error("the inventory's digest is {found}, not {wanted}: the object is damaged")]
    Digest {
        /// Of the bytes.
        found: Digest,
        /// As signed.
        wanted: Digest,
    },
    /// It is another kind or version, or another snapshot's.
    #[error("the inventory says {found}, not {wanted}")]
    Foreign {
        /// What it says.
        found: String,
        /// What was expected.
        wanted: String,
    },
    /// No reader would take it.
    #[error(
        "the list of segments is {bytes} bytes long, more than readers take: this database is too large for one snapshot"
    )]
    TooLong {
        /// Its length, unpacked.
        bytes: u64,
    },
    /// A `rows` segment without a member, or another kind with one.
    #[error("segment {0} of the inventory has the wrong members")]
    Member(SegmentId),
}

impl Inventory {
    /// The value of the `format` field.
    pub const FORMAT: &'static str = "stonekeep/inventory/1";

    /// Returns the bytes to store: zstd, with frame checksum, of the JSON document.
    ///
    /// # Errors
    /// [`InventoryError::TooLong`]; [`InventoryError::Document`] and [`InventoryError::Unpack`] do not occur on memory.
    pub fn dump(&self) -> Result<Vec<u8>, InventoryError> {
        let json = serde_json::to_vec(self).map_err(InventoryError::Document)?;
        let pack = || -> std::io::Result<Vec<u8>> {
            let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
            encoder.include_checksum(true)?;
            encoder.write_all(&json)?;
            encoder.finish()
        };
        let stored = pack().map_err(InventoryError::Unpack)?;
        // What no reader takes must not be written.
        let (plain, packed) = (json.len() as u64, stored.len() as u64);
        if plain > INVENTORY_PLAIN_BYTES_MAX || packed > INVENTORY_BYTES_MAX {
            return Err(InventoryError::TooLong { bytes: plain });
        }
        Ok(stored)
    }

    /// Reads the stored bytes of the inventory `wanted` of snapshot `id`; the digest is checked before anything is unpacked.
    ///
    /// # Errors
    /// [`InventoryError`]: the bytes are not that inventory.
    pub fn load(
        stored: &[u8],
        wanted: Digest,
        repository: RepositoryId,
        id: &SnapshotId,
    ) -> Result<Self, InventoryError> {
        let found = Digest::of(stored);
        if found != wanted {
            return Err(InventoryError::Digest { found, wanted });
        }
        let decoder = zstd::Decoder::new(stored).map_err(InventoryError::Unpack)?;
        let mut json = Vec::new();
        decoder
            .take(INVENTORY_PLAIN_BYTES_MAX)
            .read_to_end(&mut json)
            .map_err(InventoryError::Unpack)?;
        let inventory: Self = serde_json::from_slice(&json).map_err(InventoryError::Document)?;
        inventory.check(repository, id)?;
        Ok(inventory)
    }

    fn check(&self, repository: RepositoryId, id: &SnapshotId) -> Result<(), InventoryError> {
        let foreign =
            |found: String, wanted: String| Err(InventoryError::Foreign { found, wanted });
        if self.format != Self::FORMAT {
            return foreign(self.format.clone(), Self::FORMAT.to_owned());
        }
        if self.repository != repository {
            return foreign(self.repository.to_string(), repository.to_string());
        }
        if self.id != *id {
            return foreign(self.id.to_string(), id.to_string());
        }
        let wrong =
            |segment: &&Segment| (segment.kind == SegmentKind::Rows) != segment.member.is_some();
        self.segments
            .iter()
            .find(wrong)
            .map_or(Ok(()), |segment| Err(InventoryError::Member(segment.id)))
    }
}
