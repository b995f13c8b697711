//! The sealed map from tables to segments, with what each table held: for restore, comparison and drill.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    digest::{LargeObjectDigest, RowDigest, RowDigestKey},
    ids::{Label, MemberName, RepositoryId, SnapshotId},
};

/// What a snapshot holds. Stored as the plaintext of the `catalog` segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// [`Catalog::FORMAT`].
    pub format: String,
    /// The repository.
    pub repository: RepositoryId,
    /// The database's label.
    pub label: Label,
    /// The snapshot.
    pub id: SnapshotId,
    /// The key of the row digests: secret, or a digest could be used to guess a row.
    pub digest_key: RowDigestKey,
    /// The instant of the exported snapshot, by the database server's clock.
    pub snapshot_at: DateTime<Utc>,
    /// The write-ahead log position then, if the server tells it.
    pub wal_lsn: Option<String>,
    /// The server.
    pub server: Server,
    /// The database's own properties, which an archive carries only for `pg_restore -C`.
    pub database: DatabaseProperties,
    /// Every table with data, in the order of the archive's table of contents.
    pub tables: Vec<Table>,
    /// Large objects, if there are any.
    pub large_objects: LargeObjects,
    /// The sequences' values, as the archive's table of contents has them.
    pub sequences: Vec<SequenceValue>,
    /// What there was beside rows, as the server listed it and not pg_dump. Absent: taken by a version that did not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Objects>,
    /// What pg_dump warned of.
    pub warnings: Vec<String>,
}

impl Catalog {
    /// The value of the `format` field.
    pub const FORMAT: &'static str = "stonekeep/catalog/1";
}

/// The server that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `server_version_num`.
    pub version_num: i32,
    /// `server_version`.
    pub version: String,
    /// `system_identifier` of the cluster, if the role may read it: to know the source again when restoring.
    pub system_identifier: Option<String>,
    /// Settings under which the rows were printed, and those that change how they are read back.
    pub settings: Vec<(String, String)>,
}

/// What `CREATE DATABASE` and `ALTER DATABASE` said of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseProperties {
    /// Its name.
    pub name: Text,
    /// Its owner.
    pub owner: Text,
    /// Its encoding, as `pg_encoding_to_char` spells it.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The locale provider: `c`, `i` or `b`; absent before PostgreSQL 15.
    pub provider: Option<String>,
    /// The ICU or builtin locale.
    pub locale: Option<String>,
    /// The ICU rules.
    pub icu_rules: Option<String>,
    /// The collation version the server had.
    pub collation_version: Option<String>,
    /// The connection limit; -1 is none.
    pub connection_limit: i32,
    /// Whether it is a template.
    pub is_template: bool,
    /// Its comment.
    pub comment: Option<Text>,
    /// Its access list, one `aclitem` each; absent means the default.
    pub acl: Option<Vec<Text>>,
    /// `ALTER DATABASE … SET`, per role (absent: all roles), as `name=value`.
    pub settings: Vec<(Option<Text>, Vec<Text>)>,
}

/// A table with data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its OID in the source.
    pub oid: u32,
    /// Its TABLE DATA entry in the archive.
    pub dump_id: i32,
    /// Its schema.
    pub schema: Text,
    /// Its name.
    pub name: Text,
    /// The columns of its COPY, in order.
    pub columns: Vec<Text>,
    /// For an extension's configuration table: which of its rows are dumped.
    pub condition: Option<Text>,
    /// Its member.
    pub member: MemberName,
    /// Rows, bytes and digest, as COPY printed them in the snapshot.
    pub digest: RowDigest,
    /// Its segments: positions in the inventory's list. One `pack`, or any number of `rows` in order.
    pub segments: Vec<u32>,
}

/// The large objects of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargeObjects {
    /// How many, their bytes, and their digest.
    pub digest: LargeObjectDigest,
    /// The `pack` segments that hold whole ones: positions in the inventory's list.
    pub packs: Vec<u32>,
    /// The large objects that have `rows` segments of their own.
    pub sliced: Vec<SlicedObject>,
}

/// A large object too large for a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicedObject {
    /// Its OID.
    pub oid: u32,
    /// Its slices, in order.
    pub segments: Vec<u32>,
}

/// A sequence as `SEQUENCE SET` restores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceValue {
    /// Its schema.
    pub schema: Text,
    /// Its name.
    pub name: Text,
    /// `last_value`.
    pub last_value: i64,
    /// Whether the next value is the one after it.
    pub is_called: bool,
}

/// The objects of a database that a restore must bring back, by kind: `table`, `index`, `constraint`. An open set: a reader
/// leaves alone a kind that it does not know, and a kind that is not here was not listed, or there was none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Objects(pub BTreeMap<String, Vec<CatalogObject>>);

impl Objects {
    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

/// An object. Its definition is not here: servers of different versions print the same one in other words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogObject {
    /// Its name, with that of its schema and of what it is on; never quoted, and not to be taken apart.
    pub name: Text,
    /// Its owner, of those that pg_restore gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Text>,
    /// Of an extension, or of a collation if the library tells it: its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Whether an index was not valid, a constraint not validated, a materialized view without content.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
}

/// Bytes of the source's encoding that are nearly always UTF-8: in JSON, `%` and every byte that is not part of valid UTF-8
/// are written `%XX`, so that any bytes survive and ordinary names stay readable.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(pub Vec<u8>);

impl Text {
    /// Returns the bytes if they are UTF-8.
    #[must_use]
    pub fn as_utf8(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        let mut out = Self::new();
        for chunk in text.0.utf8_chunks() {
            out.push_str(&chunk.valid().replace('%', "%25"));
            chunk.invalid().iter().for_each(|byte| out.push_str(&format!("%{byte:02X}")));
        }
        out
    }
}

impl TryFrom<String> for Text {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut parts = text.split('%');
        let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            let digits = part.get(..2).ok_or("a % is not followed by two hexadecimal digits")?;
            out.push(
                u8::from_str_radix(digits, 16)
                    .map_err(|_| "a % is not followed by two hexadecimal digits")?,
            );
            out.extend_from_slice(&part.as_bytes()[2..]);
        }
        Ok(Self(out))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_stay_readable() {
        assert_eq!(String::from(Text::from("Zähler 100%")), "Zähler 100%25");
        assert_eq!(String::from(Text(b"caf\xe9".to_vec())), "caf%E9");
    }

    #[test]
    fn an_ordinary_object_is_its_name_alone() {
        let object =
            CatalogObject { name: Text::from("shop.orders_at_idx"), ..CatalogObject::default() };
        let mut objects = Objects::default();
        objects.0.entry("index".to_owned()).or_default().push(object);
        let json = serde_json::to_string(&objects).expect("objects are JSON");
        assert_eq!(json, r#"{"index":[{"name":"shop.orders_at_idx"}]}"#);
        assert_eq!(serde_json::from_str::<Objects>(&json).expect("and back"), objects);
    }

    proptest! {
        #[test]
        fn any_bytes_survive_json(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let json = serde_json::to_string(&Text(bytes.clone())).expect("text is JSON");
            let back: Text = serde_json::from_str(&json).expect("and back");
            prop_assert_eq!(back.0, bytes);
        }
    }
}
