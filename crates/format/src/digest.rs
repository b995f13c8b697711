//! Digests of what a database holds, for the comparison that a drill and a restore end with.
//!
//! Its one responsibility is to fold rows and large objects into a few numbers that are equal when the content is equal,
//! in whatever order and in however many parts it was read. They are taken from COPY's lines while a snapshot is read, lie in the
//! catalog, and are taken again from the restored database. They find accidents and wrong software. They never stand
//! against somebody who tampers: the BLAKE3 digests of the segments and the signature do that.
//!
//! # Specification
//! `key` is the catalog's 32 bytes; all integers are unsigned and little-endian; `derive_key` is BLAKE3's mode of that name.
//! ```text
//! row secret    = the first 192 bytes of derive_key("stonekeep format 1 row digest", key)
//! row hash      = XXH3-128(line, with the row secret); line is one line of COPY TO in text format, its newline included,
//!                 or one tuple of its binary format
//! row digest    = rows:  the number of lines                                  mod 2^64
//!                 bytes: the sum of the lines' lengths                        mod 2^64
//!                 sum:   the sum of the lines' row hashes as integers         mod 2^128
//!
//! object key    = the first 32 bytes of derive_key("stonekeep format 1 large object digest", key)
//! object hash   = the first 16 bytes of BLAKE3, keyed with the object key, of oid (4 bytes), content, length (8 bytes)
//! object digest = objects: the number of large objects                        mod 2^64
//!                 bytes:   the sum of their lengths                           mod 2^64
//!                 sum:     the sum of their object hashes as integers         mod 2^128
//! ```
//! XXH3-128 mixes the length of its input into every result, so a row hash is one of the line *and its length*. A sum (not
//! exclusive or) counts equal rows as often as they occur. In JSON `sum` is 32 lower-case hexadecimal digits, most significant first.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_128_with_secret;

use crate::ids::Digest;

/// What the row secret is derived for.
const ROW_CONTEXT: &str = "stonekeep format 1 row digest";
/// What the object key is derived for.
const OBJECT_CONTEXT: &str = "stonekeep format 1 large object digest";
/// Bytes of an XXH3 secret: the size of the algorithm's own; the least it takes is 136.
const SECRET_BYTES: usize = 192;

/// The key of a snapshot's digests: 32 random bytes. It lies in the sealed catalog, for whoever had it could try whether a
/// guessed row is in a table. In JSON: 64 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RowDigestKey([u8; 32]);

impl RowDigestKey {
    /// Wraps 32 bytes, which must come from a cryptographic random generator.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn derive<const N: usize>(&self, context: &str) -> [u8; N] {
        let mut out = [0; N];
        blake3::Hasher::new_derive_key(context).update(&self.0).finalize_xof().fill(&mut out);
        out
    }
}

impl From<RowDigestKey> for String {
    fn from(key: RowDigestKey) -> Self {
        Digest::from_bytes(key.0).to_string()
    }
}

impl TryFrom<String> for RowDigestKey {
    type Error = &'static str;
    /// The error does not show the text: it may be a key with a slip in it.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let key = text.parse::<Digest>();
        key.map(|bytes| Self(*bytes.as_bytes()))
            .map_err(|_| "a digest key is 64 lower-case hexadecimal digits")
    }
}

impl fmt::Debug for RowDigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RowDigestKey(…)")
    }
}

/// What a table, or a part of one, holds: how many lines COPY printed, their bytes, and the sum of their hashes.
///
/// The default is the digest of no rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowDigest {
    /// The number of rows.
    pub rows: u64,
    /// The bytes of their lines, newlines included.
    pub bytes: u64,
    /// The sum of the row hashes, mod 2^128.
    #[serde(serialize_with = "put_hex", deserialize_with = "get_hex")]
    pub sum: u128,
}

impl RowDigest {
    /// Returns the digest of these rows and those, in whatever order.
    #[must_use]
    pub const fn merge(self, other: Self) -> Self {
        Self {
            rows: self.rows.wrapping_add(other.rows),
            bytes: self.bytes.wrapping_add(other.bytes),
            sum: self.sum.wrapping_add(other.sum),
        }
    }
}

/// Takes the digest of rows, one line (or tuple) at a time.
#[derive(Clone)]
pub struct RowDigester {
    secret: [u8; SECRET_BYTES],
    digest: RowDigest,
}

impl RowDigester {
    /// Begins with no rows. Deriving the secret takes about a microsecond, so make one for each slice rather than share one.
    #[must_use]
    pub fn new(key: &RowDigestKey) -> Self {
        Self { secret: key.derive(ROW_CONTEXT), digest: RowDigest::default() }
    }

    /// Adds one line as COPY printed it, with its newline.
    pub fn add(&mut self, line: &[u8]) {
        let sum = xxh3_128_with_secret(line, &self.secret);
        self.digest = self.digest.merge(RowDigest { rows: 1, bytes: line.len() as u64, sum });
    }

    /// Returns the digest of all lines added.
    #[must_use]
    pub const fn finish(self) -> RowDigest {
        self.digest
    }
}

impl fmt::Debug for RowDigester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowDigester").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// What the large objects of a database, or some of them, hold.
///
/// The default is the digest of no large objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjectDigest {
    /// The number of large objects.
    pub objects: u64,
    /// The bytes of their content.
    pub bytes: u64,
    /// The sum of the object hashes, mod 2^128.
    #[serde(serialize_with = "put_hex", deserialize_with = "get_hex")]
    pub sum: u128,
}

impl LargeObjectDigest {
    /// Returns the digest of these large objects and those, in whatever order.
    #[must_use]
    pub const fn merge(self, other: Self) -> Self {
        Self {
            objects: self.objects.wrapping_add(other.objects),
            bytes: self.bytes.wrapping_add(other.bytes),
            sum: self.sum.wrapping_add(other.sum),
        }
    }
}

/// Takes the digest of one large object, read from its beginning to its end in parts of any size.
#[derive(Clone)]
pub struct ContentDigester {
    hasher: blake3::Hasher,
    bytes: u64,
}

impl ContentDigester {
    /// Begins with the large object `oid`, of which nothing was read yet.
    #[must_use]
    pub fn new(key: &RowDigestKey, oid: u32) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&key.derive(OBJECT_CONTEXT));
        hasher.update(&oid.to_le_bytes());
        Self { hasher, bytes: 0 }
    }

    /// Adds the next bytes of its content.
    pub fn add(&mut self, content: &[u8]) {
        self.hasher.update(content);
        self.bytes = self.bytes.wrapping_add(content.len() as u64);
    }

    /// Returns the digest of this one large object, to be merged with those of others.
    #[must_use]
    pub fn finish(mut self) -> LargeObjectDigest {
        self.hasher.update(&self.bytes.to_le_bytes());
        let mut half = [0; 16];
        self.hasher.finalize_xof().fill(&mut half);
        LargeObjectDigest { objects: 1, bytes: self.bytes, sum: u128::from_le_bytes(half) }
    }
}

impl fmt::Debug for ContentDigester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentDigester").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

fn put_hex<S: Serializer>(sum: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{sum:032x}"))
}

fn get_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    let text = String::deserialize(deserializer)?;
    // Written again and compared, so that one sum has one spelling.
    let sum = u128::from_str_radix(&text, 16).ok().filter(|sum| format!("{sum:032x}") == text);
    sum.ok_or_else(|| serde::de::Error::custom("a sum is 32 lower-case hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use xxhash_rust::xxh3::Xxh3;

    use super::*;

    fn key() -> RowDigestKey {
        RowDigestKey::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()))
    }

    fn digest<'a>(lines: impl IntoIterator<Item = &'a Vec<u8>>) -> RowDigest {
        let mut digester = RowDigester::new(&key());
        lines.into_iter().for_each(|line| digester.add(line));
        digester.finish()
    }

    fn object(oid: u32, content: &[u8]) -> LargeObjectDigest {
        let mut digester = ContentDigester::new(&key(), oid);
        digester.add(content);
        digester.finish()
    }

    proptest! {
        #[test]
        fn order_and_parts_do_not_matter(
            mut lines in vec(vec(any::<u8>(), 1..300), 0..20), at in any::<prop::sample::Index>(),
        ) {
            let whole = digest(&lines);
            let (left, right) = lines.split_at(at.index(lines.len() + 1));
            prop_assert_eq!(digest(left).merge(digest(right)), whole);
            lines.reverse();
            prop_assert_eq!(digest(&lines), whole);
        }

        #[test]
        fn any_change_of_one_byte_shows(
            line in vec(any::<u8>(), 1..600), at in any::<prop::sample::Index>(), change in 1..=u8::MAX,
        ) {
            let mut other = line.clone();
            other[at.index(line.len())] ^= change;
            prop_assert_ne!(digest([&line]), digest([&other]));
        }

        #[test]
        fn row_hash_is_xxh3_of_the_line_with_the_derived_secret(line in vec(any::<u8>(), 1..2000)) {
            let mut streaming = Xxh3::with_secret(key().derive(ROW_CONTEXT));
            streaming.update(&line);
            prop_assert_eq!(digest([&line]).sum, streaming.digest128());
        }

        #[test]
        fn parts_of_a_large_object_do_not_matter(
            content in vec(any::<u8>(), 0..500), at in any::<prop::sample::Index>(),
        ) {
            let (left, right) = content.split_at(at.index(content.len() + 1));
            let mut parts = ContentDigester::new(&key(), 7);
            parts.add(left);
            parts.add(right);
            prop_assert_eq!(parts.finish(), object(7, &content));
        }

        #[test]
        fn digests_survive_json(rows in any::<u64>(), bytes in any::<u64>(), sum in any::<u128>()) {
            let digest = RowDigest { rows, bytes, sum };
            let json = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<RowDigest>(&json).unwrap(), digest);
        }
    }

    #[test]
    fn rows_that_moved_between_lines_or_doubled_show() {
        let row = |text: &str| text.as_bytes().to_vec();
        assert_ne!(digest(&[row("a\n"), row("bc\n")]), digest(&[row("ab\n"), row("c\n")]));
        let (once, thrice) = (row("a\n"), vec![row("a\n"); 3]);
        assert_ne!(digest([&once]).sum, digest(&thrice).sum);
        assert_eq!(digest([&once]).sum.wrapping_mul(3), digest(&thrice).sum);
    }

    #[test]
    fn another_key_gives_another_sum() {
        let mut digester = RowDigester::new(&RowDigestKey::from_bytes([0xff; 32]));
        digester.add(b"a\n");
        assert_ne!(digester.finish().sum, digest([&b"a\n".to_vec()]).sum);
    }

    #[test]
    fn large_objects_that_changed_places_show() {
        assert_ne!(object(1, b"a").merge(object(2, b"b")), object(1, b"b").merge(object(2, b"a")));
        assert_eq!(object(1, b"a").merge(object(2, b"b")), object(2, b"b").merge(object(1, b"a")));
        assert_ne!(object(1, b"").sum, object(2, b"").sum);
    }

    #[test]
    fn object_hash_is_blake3_of_oid_content_and_length() {
        let object_key = key().derive(OBJECT_CONTEXT);
        let hash = blake3::keyed_hash(&object_key, b"\x01\x02\x00\x00content\x07\0\0\0\0\0\0\0");
        let half = hash.as_bytes()[..16].try_into().unwrap();
        assert_eq!(object(0x0201, b"content").sum, u128::from_le_bytes(half));
    }

    /// The digests of format 1 may never change: an old catalog is compared with a database restored today.
    #[test]
    fn digests_are_those_of_format_1() {
        let rows = digest(&[b"1\tone\n".to_vec(), vec![b'x'; 1000]]);
        assert_eq!(
            serde_json::to_string(&rows).unwrap(),
            r#"{"rows":2,"bytes":1006,"sum":"c183f84e6db67f4afeea9500e2f1dd98"}"#
        );
        let objects = object(90_001, b"\x00\xff\x00\xff");
        assert_eq!(
            serde_json::to_string(&objects).unwrap(),
            r#"{"objects":1,"bytes":4,"sum":"aa7cc2aefb680046f5c81ac822d58748"}"#
        );
    }

    #[test]
    fn keys_are_hexadecimal_and_never_shown() {
        let json = serde_json::to_string(&key()).unwrap();
        assert_eq!(json, "\"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\"");
        assert_eq!(serde_json::from_str::<RowDigestKey>(&json).unwrap(), key());
        let error = serde_json::from_str::<RowDigestKey>("\"0001020304\"").unwrap_err();
        assert!(!error.to_string().contains("000102"), "{error}");
        assert!(!format!("{:?} {:?}", key(), RowDigester::new(&key())).contains("0001"));
    }

    #[test]
    fn sums_have_one_spelling() {
        for sum in ["0", "+0000000000000000000000000000001", "ABCDEF00000000000000000000000000"] {
            let json = format!("{{\"rows\":0,\"bytes\":0,\"sum\":\"{sum}\"}}");
            assert!(serde_json::from_str::<RowDigest>(&json).is_err(), "{sum}");
        }
    }
}
