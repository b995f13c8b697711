//! Where an object lies in a repository.
//!
//! Keys here are relative to the repository's prefix: the store adds it. So a repository that was copied elsewhere, whole,
//! still verifies, although every signed object contains its own key.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{ChainId, IdError, Label, Nonce, SegmentId, Seq, SnapshotId},
    lock::Class,
};

/// The key of an object, relative to the repository's prefix.
///
/// Any text of 1 to 900 bytes that S3 takes is a key, for a bucket may hold what others planted; the constructors make the
/// ones we write, and [`Place::of`] tells them from foreign ones. (S3 takes 1024 bytes; the rest is left to the prefix.)
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Returns the key of the `n`-th genesis, counted from 1.
    #[must_use]
    pub fn genesis(n: u32) -> Self {
        Self(format!("genesis/{n}"))
    }

    /// Returns the key of a manifest. The sequence number is padded to ten digits, so that keys sort as the chain runs.
    #[must_use]
    pub fn manifest(label: &Label, seq: Seq, chain: ChainId, id: &SnapshotId) -> Self {
        Self(format!("manifests/{label}/{:010}-{chain}-{id}", seq.0))
    }

    /// Returns the key of the inventory of a snapshot.
    #[must_use]
    pub fn inventory(class: Class, id: &SnapshotId) -> Self {
        Self(format!("inventories/{class}/{id}"))
    }

    /// Returns the key of a segment. `nonce` must be fresh for every PUT, retries included.
    #[must_use]
    pub fn segment(class: Class, id: SegmentId, nonce: Nonce) -> Self {
        Self(format!("segments/{class}/{id}-{nonce}"))
    }

    /// Returns the key of an attempt record.
    #[must_use]
    pub fn attempt(label: &Label, id: &SnapshotId) -> Self {
        Self(format!("attempts/{label}/{id}"))
    }

    /// Returns the key of what `prove` puts in one of its runs: a canary, or the `record` of the run. A name is of 1 to 40
    /// lower-case letters, digits and hyphens; capitals are made small, and anything else a hyphen.
    #[must_use]
    pub fn canary(run: &SnapshotId, name: &str) -> Self {
        let tame = |c: char| if is_canary(c) { c } else { '-' };
        let name = name.to_ascii_lowercase();
        let name: String = name.chars().take(CANARY_NAME_MAX).map(tame).collect();
        Self(format!("canary/{run}/{name}"))
    }

    /// Returns the key of the record of a drill.
    #[must_use]
    pub fn report(label: &Label, drill: &SnapshotId) -> Self {
        Self(format!("reports/{label}/{drill}"))
    }

    /// Returns the text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectKey {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::try_from(text.to_owned())
    }
}
impl TryFrom<String> for ObjectKey {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        if (1..=900).contains(&text.len()) && !text.starts_with('/') {
            Ok(Self(text))
        } else {
            Err(IdError::new("object key", "1 to 900 bytes, not beginning with a slash", &text))
        }
    }
}
/// Keys sort as their text does.
impl Borrow<str> for ObjectKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl From<ObjectKey> for String {
    fn from(key: ObjectKey) -> Self {
        key.0
    }
}
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key says about the object under it. A key that says nothing is foreign: [`Place::of`] answers `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `genesis/<n>`
    Genesis(u32),
    /// `manifests/<label>/<seq>-<chain>-<ulid>`
    Manifest(Label, Seq, ChainId, SnapshotId),
    /// `inventories/<class>/<ulid>`
    Inventory(Class, SnapshotId),
    /// `segments/<class>/<id>-<random>`
    Segment(Class, SegmentId, Nonce),
    /// `attempts/<label>/<ulid>`
    Attempt(Label, SnapshotId),
    /// `canary/<ulid>/<name>`
    Canary(SnapshotId, String),
    /// `reports/<label>/<ulid>`
    Report(Label, SnapshotId),
}

/// The longest name of a canary, in characters.
const CANARY_NAME_MAX: usize = 40;

const fn is_canary(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

impl Place {
    /// Reads a key back into what it was made of; a key in any other spelling is foreign.
    #[must_use]
    pub fn of(key: &ObjectKey) -> Option<Self> {
        let place = Self::parse(key.as_str())?;
        (place.key() == *key).then_some(place)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let place = match (parts.next()?, parts.next()?, parts.next()) {
            ("genesis", n, None) => Self::Genesis(n.parse().ok()?),
            ("manifests", label, Some(name)) => {
                let mut fields = name.splitn(3, '-');
                let seq = Seq(fields.next()?.parse().ok()?);
                let chain = fields.next()?.parse().ok()?;
                Self::Manifest(label.parse().ok()?, seq, chain, fields.next()?.parse().ok()?)
            }
            ("inventories", class, Some(id)) => {
                Self::Inventory(class.parse().ok()?, id.parse().ok()?)
            }
            ("segments", class, Some(name)) => {
                let (id, nonce) = name.split_once('-')?;
                Self::Segment(class.parse().ok()?, id.parse().ok()?, nonce.parse().ok()?)
            }
            ("attempts", label, Some(id)) => Self::Attempt(label.parse().ok()?, id.parse().ok()?),
            ("reports", label, Some(id)) => Self::Report(label.parse().ok()?, id.parse().ok()?),
            ("canary", run, Some(name)) if !name.is_empty() => {
                Self::Canary(run.parse().ok()?, name.to_owned())
            }
            _ => return None,
        };
        parts.next().is_none().then_some(place)
    }

    fn key(&self) -> ObjectKey {
        match self {
            Self::Genesis(n) => ObjectKey::genesis(*n),
            Self::Manifest(label, seq, chain, id) => ObjectKey::manifest(label, *seq, *chain, id),
            Self::Inventory(class, id) => ObjectKey::inventory(*class, id),
            Self::Segment(class, id, nonce) => ObjectKey::segment(*class, *id, *nonce),
            Self::Attempt(label, id) => ObjectKey::attempt(label, id),
            Self::Canary(run, name) => ObjectKey::canary(run, name),
            Self::Report(label, id) => ObjectKey::report(label, id),
        }
    }
}
