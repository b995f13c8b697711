//! The object whose existence makes a snapshot exist.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{BucketName, ChainId, Digest, Label, RepositoryId, Seq, SnapshotId, VersionId},
    key::ObjectKey,
    lock::{Lock, promised_until},
    signature::{Namespace, SignedDocument},
    tier::secs,
};

/// A snapshot: the document under `manifests/<label>/<seq>-<chain>-<ulid>`. Its PUT is the commit.
///
/// It holds no table name, no row and no secret: whoever may list a bucket may read it. Identity comes first, then the
/// place in the chain, then what was promised, then where the rest lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`Manifest::FORMAT`].
    pub format: String,
    /// The repository.
    pub repository: RepositoryId,
    /// The database's label.
    pub label: Label,
    /// The key this document lies under.
    pub key: ObjectKey,
    /// The snapshot.
    pub id: SnapshotId,
    /// Its position.
    pub seq: Seq,
    /// Its chain.
    pub chain: ChainId,
    /// The snapshots it follows: none if it begins a chain, one as a rule, more if it closes a fork.
    pub previous: Vec<Link>,
    /// Every snapshot of this label, of any chain, that the writer knows and whose promise still holds.
    pub live: Vec<Link>,
    /// Keys of earlier manifests whose PUT had an unknown outcome: they may exist or not, and neither is an alarm.
    pub maybe: Vec<ObjectKey>,
    /// The tier's name.
    pub tier: String,
    /// How long the snapshot is kept, in seconds.
    #[serde(rename = "keep_secs", with = "secs")]
    pub keep: Duration,
    /// When the run began, by the storage server's clock.
    pub started_at: DateTime<Utc>,
    /// The instant of the exported snapshot, by the database server's clock.
    pub snapshot_at: DateTime<Utc>,
    /// When this document was signed, by the storage server's clock.
    pub committed_at: DateTime<Utc>,
    /// `committed_at` + `keep`: until then every named version is locked.
    pub promised_until: DateTime<Utc>,
    /// Why the snapshot is suspicious (rows, tables or bytes shrank beyond a limit); absent if it is not.
    pub suspicious: Option<String>,
    /// Where the list of its segments lies.
    pub inventory: InventoryRef,
    /// What it holds in all.
    pub totals: Totals,
    /// BLAKE3 over the sorted recipients, one a line: who can open it.
    pub recipients: Digest,
    /// What made it.
    pub versions: Versions,
}

/// Another snapshot as a manifest names it, with all that a writer needs to know of it: so it reads one manifest, not all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Its position.
    pub seq: Seq,
    /// Its chain.
    pub chain: ChainId,
    /// Its id.
    pub id: SnapshotId,
    /// The BLAKE3 digest of its manifest as stored, signature included.
    pub digest: Digest,
    /// When it was committed.
    pub committed_at: DateTime<Utc>,
    /// How long it is kept, in seconds.
    #[serde(rename = "keep_secs", with = "secs")]
    pub keep: Duration,
    /// Whether it is suspicious, and so fills no period.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspicious: bool,
}

impl Link {
    /// Returns the key of its manifest.
    #[must_use]
    pub fn key(&self, label: &Label) -> ObjectKey {
        ObjectKey::manifest(label, self.seq, self.chain, &self.id)
    }

    /// Returns until when it must be there.
    #[must_use]
    pub fn promised_until(&self) -> DateTime<Utc> {
        promised_until(self.committed_at, self.keep)
    }
}

/// One version of an inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryRef {
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
    /// Its lock as read back from the server.
    pub lock: Lock,
}

/// Sums over a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Tables with data entries.
    pub tables: u64,
    /// Those of them whose rows are in COPY's binary format.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub binary_tables: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Large objects.
    pub large_objects: u64,
    /// Segments named by the inventory.
    pub segments: u64,
    /// Bytes of plaintext in them.
    pub plain_bytes: u64,
    /// Bytes of them as stored.
    pub sealed_bytes: u64,
    /// Bytes of those that this run put (the others were there already).
    pub put_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The software that made a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Stonekeep's version.
    pub stonekeep: String,
    /// The server's version as it tells it.
    pub server: String,
    /// pg_dump's version.
    pub pg_dump: String,
}

impl SignedDocument for Manifest {
    const NAMESPACE: Namespace = Namespace::Manifest;
    const FORMAT: &'static str = "stonekeep/manifest/1";
    /// 2 MiB: at some 240 bytes a link, nearly nine thousand live snapshots, which is hourly for a year. An ordinary manifest has
    /// 20 to 200 KiB.
    const BYTES_MAX: u64 = 2 << 20;

    fn format(&self) -> &str {
        &self.format
    }
    fn repository(&self) -> RepositoryId {
        self.repository
    }
    fn key(&self) -> &ObjectKey {
        &self.key
    }
    fn label(&self) -> Option<&Label> {
        Some(&self.label)
    }
    fn signed_at(&self) -> DateTime<Utc> {
        self.committed_at
    }
}

impl Manifest {
    /// Returns this snapshot as another manifest names it; `digest` is of the manifest object as stored.
    #[must_use]
    pub fn link(&self, digest: Digest) -> Link {
        Link {
            seq: self.seq,
            chain: self.chain,
            id: self.id.clone(),
            digest,
            committed_at: self.committed_at,
            keep: self.keep,
            suspicious: self.suspicious.is_some(),
        }
    }
}

/// A manifest for tests of other modules.
#[cfg(test)]
pub(crate) mod fixture {
    use super::*;
    use crate::{
        ids::Nonce,
        lock::{Class, LockMode},
    };

    /// Returns a manifest without history, committed at `at`; `seq` makes its id.
    pub(crate) fn manifest(
        seq: Seq,
        chain: ChainId,
        at: DateTime<Utc>,
        keep: Duration,
    ) -> Manifest {
        let label: Label = "bookings".parse().expect("a label");
        let id = SnapshotId::new(at, u128::from(seq.0));
        let lock = Lock { mode: LockMode::Compliance, retain_until: at + keep * 2 };
        let class = Class::of(at, lock.retain_until);
        Manifest {
            format: Manifest::FORMAT.to_owned(),
            repository: RepositoryId::from_bytes(*Nonce::from_bytes([3; 16]).as_bytes()),
            key: ObjectKey::manifest(&label, seq, chain, &id),
            label,
            seq,
            chain,
            previous: Vec::new(),
            live: Vec::new(),
            maybe: Vec::new(),
            tier: "hourly".to_owned(),
            keep,
            started_at: at,
            snapshot_at: at,
            committed_at: at,
            promised_until: at + keep,
            suspicious: None,
            inventory: InventoryRef {
                key: ObjectKey::inventory(class, &id),
                bucket: "acme-vault".parse().expect("a bucket"),
                version_id: "v1".parse().expect("a version"),
                bytes: 1,
                digest: Digest::of(b"x"),
                lock,
            },
            id,
            totals: Totals::default(),
            recipients: Digest::of(b"r"),
            versions: Versions { stonekeep: "0".into(), server: "15".into(), pg_dump: "15".into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_of_hourly_snapshots_fits() {
        let at = "2026-11-21T00:00:00Z".parse().expect("a date");
        let mut manifest =
            fixture::manifest(Seq(1), ChainId::from_bytes([1; 8]), at, Duration::from_secs(3600));
        manifest.live = vec![manifest.link(Digest::of(b"m")); 8_760];
        let bytes = serde_json::to_vec(&manifest).expect("JSON").len() as u64;
        assert!(bytes < Manifest::BYTES_MAX, "{bytes}");
    }

    #[test]
    fn instants_are_written_in_rfc_3339() {
        let at = "2026-11-21T00:00:00Z".parse().expect("a date");
        let manifest =
            fixture::manifest(Seq(7), ChainId::from_bytes([1; 8]), at, Duration::from_secs(3600));
        let json = serde_json::to_string(&manifest).expect("JSON");
        assert!(
            json.contains(r#""promised_until":"2026-11-21T01:00:00Z""#)
                && json.contains(r#""keep_secs":3600"#)
        );
        assert_eq!(serde_json::from_str::<Manifest>(&json).expect("reads back"), manifest);
    }
}
