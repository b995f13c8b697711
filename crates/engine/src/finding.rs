//! What can be wrong with a repository as a whole, by name: what `list`, `verify` and a watcher say of it.

use std::fmt;

use serde::Serialize;
use stonekeep_format::{
    ids::{Label, VersionId},
    key::{ObjectKey, Place},
    signature::SignatureError,
};

/// What is wrong. In the order in which it is told: what is missing first, then what somebody with our signer did, then what
/// anybody who may write can do, which changes nothing for readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// What a watcher has seen, and what is promised, is not there, and nothing here names it: the storage shows an older state.
    Rollback,
    /// A snapshot that another one names is promised, and is not there.
    Gap,
    /// A chain has more than one end: two writers, or one that was rolled back.
    Fork,
    /// A snapshot of our signer's says that it was made later than the server stored it.
    Future,
    /// A signed object of ours that belongs to another key, label, bucket or repository.
    Replayed,
    /// A manifest or genesis with the signature of a key that may not sign it here, or with one that does not fit.
    ForeignSignature,
    /// A later version under the key of a snapshot.
    Overwrite,
    /// No signature.
    Unsigned,
    /// Nothing that a reader can read: too long, no manifest, or not given out by the server.
    Unreadable,
    /// A delete marker over a snapshot that is promised.
    Marker,
    /// The clocks of the storage server and of this host differ.
    Clock,
}

impl FindingKind {
    /// Every kind, in the order in which they are told.
    pub const ALL: [Self; 11] = [
        Self::Rollback,
        Self::Gap,
        Self::Fork,
        Self::Future,
        Self::Replayed,
        Self::ForeignSignature,
        Self::Overwrite,
        Self::Unsigned,
        Self::Unreadable,
        Self::Marker,
        Self::Clock,
    ];

    /// Whether the chain itself is broken: promised snapshots are missing, or two histories part. Nobody brings that about by
    /// putting objects. All else is news for a person and no reason to distrust a snapshot that verifies.
    #[must_use]
    pub const fn breaks_chain(self) -> bool {
        matches!(self, Self::Rollback | Self::Gap | Self::Fork)
    }

    /// Returns its name, as JSON and metrics spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Gap => "gap",
            Self::Fork => "fork",
            Self::Future => "future",
            Self::Replayed => "replayed",
            Self::ForeignSignature => "foreign_signature",
            Self::Overwrite => "overwrite",
            Self::Unsigned => "unsigned",
            Self::Unreadable => "unreadable",
            Self::Marker => "marker",
            Self::Clock => "clock",
        }
    }

    /// Returns its name for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Rollback => "ROLLBACK",
            Self::Gap => "GAP",
            Self::Fork => "FORK",
            Self::Future => "FUTURE",
            Self::Replayed => "REPLAYED",
            Self::ForeignSignature => "FOREIGN SIGNATURE",
            Self::Overwrite => "OVERWRITE",
            Self::Unsigned => "UNSIGNED",
            Self::Unreadable => "UNREADABLE",
            Self::Marker => "DELETE MARKER",
            Self::Clock => "CLOCK",
        }
    }
}

impl From<&SignatureError> for FindingKind {
    fn from(error: &SignatureError) -> Self {
        match error {
            SignatureError::NotAllowed { .. } | SignatureError::Mismatch => Self::ForeignSignature,
            SignatureError::Foreign { .. } => Self::Replayed,
            SignatureError::Unsigned => Self::Unsigned,
            _ => Self::Unreadable,
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What kind of thing.
    pub kind: FindingKind,
    /// The label that it is about; absent: the repository.
    pub label: Option<Label>,
    /// The object that it is about.
    pub key: Option<ObjectKey>,
    /// The version of it.
    pub version_id: Option<VersionId>,
    /// What is wrong, for people. It repeats nothing that an attacker wrote but ids and keys.
    pub what: String,
}

impl Finding {
    /// Returns one about a snapshot's place.
    pub(crate) fn at(kind: FindingKind, key: ObjectKey, what: &str) -> Self {
        let label = label_of(&key);
        Self { kind, label, key: Some(key), version_id: None, what: plain(what) }
    }

    /// Returns one about a version of an object.
    pub(crate) fn of_version(
        kind: FindingKind,
        key: ObjectKey,
        version_id: VersionId,
        what: &str,
    ) -> Self {
        Self { version_id: Some(version_id), ..Self::at(kind, key, what) }
    }

    /// Returns one about a label, or about the repository.
    pub(crate) const fn about(kind: FindingKind, label: Option<Label>, what: String) -> Self {
        Self { kind, label, key: None, version_id: None, what }
    }
}

/// Escapes all but printable ASCII: whoever may write chooses the keys of what he plants, and a terminal would obey them.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            ' '..='~' => plain.push(char),
            _ => plain.extend(char.escape_unicode()),
        }
    }
    plain
}

/// The label under whose keys an object lies, whether or not the rest of the key is one of ours.
fn label_of(key: &ObjectKey) -> Option<Label> {
    match Place::of(key) {
        Some(Place::Manifest(label, ..)) => Some(label),
        _ => key.as_str().strip_prefix("manifests/")?.split('/').next()?.parse().ok(),
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kind.title())?;
        match (&self.version_id, &self.key) {
            (Some(version), Some(key)) => {
                write!(f, "version {version} of {}: ", plain(key.as_str()))?;
            }
            (None, Some(key)) => write!(f, "{}: ", plain(key.as_str()))?,
            _ => {}
        }
        f.write_str(&self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_name_everywhere() {
        for kind in FindingKind::ALL {
            let json = serde_json::to_string(&kind).expect("JSON");
            assert_eq!(json, format!("\"{}\"", kind.as_str()));
        }
        assert!(FindingKind::ALL.is_sorted());
    }

    #[test]
    fn a_planted_key_says_nothing_to_a_terminal() {
        let key: ObjectKey = "manifests/\u{1b}[2J\u{202e}".parse().expect("a key");
        let said =
            Finding::at(FindingKind::Replayed, key.clone(), &format!("not {key}")).to_string();
        assert!(said.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{said:?}");
        assert!(said.contains("\\u{1b}[2J"), "{said}");
    }

    #[test]
    fn the_label_of_a_key_that_is_none_of_ours_is_told() {
        let key: ObjectKey = "manifests/bookings/anything".parse().expect("a key");
        let finding = Finding::at(FindingKind::Unsigned, key, "x");
        assert_eq!(finding.label.as_ref().map(Label::as_str), Some("bookings"));
        assert_eq!(finding.to_string(), "UNSIGNED: manifests/bookings/anything: x");
    }
}
