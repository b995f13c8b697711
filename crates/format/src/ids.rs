//! Names that cross a module: parsed into their type once, valid ever after.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What is wrong with a text that should have been an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a valid {what}: {text:?} ({rule})")]
pub struct IdError {
    what: &'static str,
    rule: &'static str,
    text: String,
}

impl IdError {
    pub(crate) fn new(what: &'static str, rule: &'static str, text: &str) -> Self {
        // A hostile text may be long; an error must not be.
        Self { what, rule, text: text.chars().take(80).collect() }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(IdError::new($what, $rule, text)) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// Wraps the bytes of the id.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }
            /// Returns the bytes of the id.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $bytes];
                match unhex(text, &mut bytes) {
                    Some(()) => Ok(Self(bytes)),
                    None => Err(IdError::new($what, $rule, text)),
                }
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

fn unhex(text: &str, out: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != out.len() * 2 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(())
}

/// Lower case only, so that one id has one spelling and can be compared as text by a shell.
const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')
        })
}

text_id!(
    /// The name a database has in the configuration and in the bucket: 1 to 63 of `a-z 0-9 - _ .`, starting with a letter
    /// or digit. It is one component of an object key, so it holds no slash.
    Label, "label", "1 to 63 of a-z 0-9 - _ . beginning with a letter or a digit", is_label
);
text_id!(
    /// The name of an S3 bucket: 3 to 255 printable ASCII characters without a slash (providers differ in what else they
    /// refuse; the server has the last word).
    BucketName, "bucket name", "3 to 255 of A-Z a-z 0-9 - _ .",
    |text| (3..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
);
text_id!(
    /// A version of an object as the server named it: opaque, 1 to 1024 printable ASCII characters (the limit of S3).
    VersionId, "version id", "1 to 1024 printable ASCII characters",
    |text| (1..=1024).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);
text_id!(
    /// The name of a file inside a pg_dump directory archive: what a segment's plaintext belongs to. It never holds a slash
    /// and never begins with a dot, so appending to it cannot leave the directory.
    MemberName, "member name", "1 to 100 of A-Z a-z 0-9 - _ . not beginning with a dot",
    |text| (1..=100).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
);
text_id!(
    /// A snapshot, attempt or inventory: a ULID (26 characters of Crockford's base 32, upper case), so that names sort by
    /// the time at which they were begun.
    SnapshotId, "snapshot id", "a ULID: 26 characters of 0-9 A-Z without I L O U",
    |text| text.len() == 26
        && text.as_bytes()[0] <= b'7'
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'H' | b'J' | b'K' | b'M' | b'N' | b'P'..=b'T' | b'V'..=b'Z'))
);

impl SnapshotId {
    /// Makes an id of the instant (milliseconds since 1970) and 80 random bits.
    #[must_use]
    pub fn new(at: chrono::DateTime<chrono::Utc>, random: u128) -> Self {
        let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0);
        Self(ulid::Ulid::from_parts(millis, random).to_string())
    }

    /// Returns the instant that it was made of, in whole milliseconds.
    #[must_use]
    pub fn begun_at(&self) -> chrono::DateTime<chrono::Utc> {
        let millis = ulid::Ulid::from_string(&self.0).map_or(0, |ulid| ulid.timestamp_ms());
        let millis = i64::try_from(millis).unwrap_or(i64::MAX);
        chrono::DateTime::from_timestamp_millis(millis)
            .unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC)
    }
}

hex_id!(
    /// A repository: 128 random bits, made by `init`, contained in every signed object.
    RepositoryId, 16, "repository id", "32 lower-case hexadecimal digits"
);
hex_id!(
    /// A chain of snapshots of one label: 64 random bits, new whenever a writer begins without readable history.
    ChainId, 8, "chain id", "16 lower-case hexadecimal digits"
);
hex_id!(
    /// The keyed BLAKE3 of a segment's label, recipients, kind and plaintext; see [`crate::codec::SegmentKeyer`].
    SegmentId, 32, "segment id", "64 lower-case hexadecimal digits"
);
hex_id!(
    /// What makes the key of a segment unique however often the same content is written: 128 random bits.
    Nonce, 16, "nonce", "32 lower-case hexadecimal digits"
);
hex_id!(
    /// A BLAKE3 digest (32 bytes) of an object as it is stored.
    Digest, 32, "BLAKE3 digest", "64 lower-case hexadecimal digits"
);

impl Digest {
    /// Returns the BLAKE3 digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// A position in a label's chain. Consumed before the manifest's PUT, never used again, counted across all tiers, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_hold_no_slash_and_no_upper_case() {
        assert!("bookings".parse::<Label>().is_ok());
        for bad in ["", "-a", "a/b", "A", "é", &"a".repeat(64)] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }

    #[test]
    fn member_names_cannot_leave_their_directory() {
        for bad in ["..", "../x", "/etc/passwd", ".hidden", "a/b", "a\0b", ""] {
            assert!(bad.parse::<MemberName>().is_err(), "{bad}");
        }
        assert!("t16384.dat".parse::<MemberName>().is_ok());
    }

    #[test]
    fn hexadecimal_ids_have_one_spelling() {
        let id = ChainId::from_bytes([0xab, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(id.to_string(), "ab01020304050607");
        assert_eq!("ab01020304050607".parse(), Ok(id));
        assert!("AB01020304050607".parse::<ChainId>().is_err());
        assert!("ab0102030405060".parse::<ChainId>().is_err());
    }

    #[test]
    fn snapshot_ids_sort_by_time() {
        let at = |secs| {
            chrono::DateTime::from_timestamp(secs, 0)
                .expect("a small number of seconds is an instant")
        };
        let (early, late) = (SnapshotId::new(at(1_000), u128::MAX), SnapshotId::new(at(1_001), 0));
        assert!(early < late);
        assert_eq!(early.as_str().parse(), Ok(early.clone()));
    }
}
