//! What a broken run has stored, so that the next one need not store it again.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    ids::{Label, RepositoryId, SnapshotId},
    key::ObjectKey,
    manifest::InventoryRef,
    signature::{Namespace, SignedDocument},
};

/// A run that has not committed: the document under `attempts/<label>/<ulid>`. It names segments that were read back as
/// locked; a later run of the same label may reuse them while their locks reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// [`Attempt::FORMAT`].
    pub format: String,
    /// The repository.
    pub repository: RepositoryId,
    /// The database's label.
    pub label: Label,
    /// The key this document lies under.
    pub key: ObjectKey,
    /// The attempt.
    pub id: SnapshotId,
    /// The snapshot that the run would have made.
    pub snapshot: SnapshotId,
    /// When the run began, by the storage server's clock.
    pub started_at: DateTime<Utc>,
    /// When this document was signed, by the storage server's clock.
    pub written_at: DateTime<Utc>,
    /// Why the run ended, or `running`; never a row or a secret.
    pub reason: String,
    /// The manifest that was sent and not answered, if that is how the run ended: it may exist or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maybe: Option<ObjectKey>,
    /// The list of what was stored, in the form of a snapshot's inventory.
    pub inventory: InventoryRef,
}

impl SignedDocument for Attempt {
    const NAMESPACE: Namespace = Namespace::Attempt;
    const FORMAT: &'static str = "stonekeep/attempt/1";
    /// 16 KiB: the document is of fixed size but for its reason.
    const BYTES_MAX: u64 = 16 << 10;

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
        self.written_at
    }
}
