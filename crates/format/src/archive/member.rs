//! The files in which the data of an archive lies: how they are named, and which entry has one.

use super::{ArchiveError, ArchiveVersion, Entry};
use crate::ids::MemberName;

/// The entries that hold the rows of one table.
const TABLE_DATA: &[u8] = b"TABLE DATA";
/// The entries that hold the content of large objects.
const BLOBS: &[u8] = b"BLOBS";
/// The entries that make one large object, up to PostgreSQL 16, or a group of them with one owner and the same rights.
const BLOB: &[u8] = b"BLOB";
const BLOB_METADATA: &[u8] = b"BLOB METADATA";
/// How the definition of a TABLE DATA entry begins that is loaded through the root of its partitions.
const THROUGH_ROOT: &[u8] = b"-- load via partition root ";
/// How pg_dump's COPY statements end.
const FROM_TEXT: &[u8] = b" FROM stdin;\n";
/// How those end whose rows are binary.
const FROM_BINARY: &[u8] = b" FROM stdin WITH (FORMAT binary);\n";

/// How COPY writes the rows of a table: in text, as pg_dump does, or in binary for a table with a value that has no text of
/// less than 1 GB. Its statement in the table of contents says which ([`Entry::row_format`]), so pg_restore reads both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowFormat {
    /// Each row is a line with its newline.
    #[default]
    Text,
    /// Each row is a tuple: the number of fields, and each field's length and bytes.
    Binary,
}

impl RowFormat {
    /// Returns what stands before the first row: nothing, or the signature, flags and extension of COPY's binary format.
    #[must_use]
    pub const fn head(self) -> &'static [u8] {
        match self {
            Self::Text => b"",
            Self::Binary => b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0",
        }
    }

    /// Returns what follows the last row: COPY's end mark and the two empty lines with which pg_dump parts it from the next
    /// statement of a script, or the trailer of COPY's binary format.
    #[must_use]
    pub const fn tail(self) -> &'static [u8] {
        match self {
            Self::Text => b"\\.\n\n\n",
            Self::Binary => b"\xff\xff",
        }
    }

    /// Returns how long a member is whose rows have `bytes` bytes.
    #[must_use]
    pub const fn member_bytes(self, bytes: u64) -> u64 {
        bytes.saturating_add((self.head().len() + self.tail().len()) as u64)
    }
}

/// Which ends of its member a slice has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Whether it is the first.
    pub first: bool,
    /// Whether it is the last.
    pub last: bool,
}

impl Ends {
    /// A whole member.
    pub const BOTH: Self = Self { first: true, last: true };
}

impl Entry {
    /// Returns whether the entry stands for the rows of a table.
    #[must_use]
    pub fn is_table_data(&self) -> bool {
        self.had_dumper && self.desc.as_deref() == Some(TABLE_DATA)
    }

    /// Returns whether the entry stands for the content of large objects.
    #[must_use]
    pub fn is_large_objects(&self) -> bool {
        self.had_dumper && self.desc.as_deref() == Some(BLOBS)
    }

    /// Returns whether its rows are loaded through the root of its partitions: pg_dump says so by a comment in the
    /// definition, since its releases of May 2023.
    #[must_use]
    pub fn loads_through_root(&self) -> bool {
        self.defn.as_deref().is_some_and(|defn| defn.starts_with(THROUGH_ROOT))
    }

    /// Returns how its rows are written, as its COPY statement says.
    #[must_use]
    pub fn row_format(&self) -> RowFormat {
        let statement = self.copy_stmt.as_deref().unwrap_or_default();
        if statement.ends_with(FROM_BINARY) { RowFormat::Binary } else { RowFormat::Text }
    }

    /// Makes its COPY statement say that its rows are binary. pg_restore sends the statement and then the data file as they
    /// are, so it loads such a table as any other.
    ///
    /// # Errors
    /// [`ArchiveError::Unwritable`] if pg_dump's statement has another form than is known.
    pub fn load_in_binary(&mut self) -> Result<(), ArchiveError> {
        if self.row_format() == RowFormat::Binary {
            return Ok(());
        }
        let statement = self.copy_stmt.as_deref().and_then(|text| text.strip_suffix(FROM_TEXT));
        let statement = statement.ok_or(ArchiveError::Unwritable {
            what: "a COPY statement of another form than pg_dump's",
        })?;
        self.copy_stmt = Some([statement, FROM_BINARY].concat());
        Ok(())
    }

    /// Returns the large objects that the entry makes, empty and with an owner; none if it is of another kind.
    ///
    /// # Errors
    /// [`ArchiveError::LargeObjects`].
    pub fn large_objects(&self) -> Result<Option<Vec<u32>>, ArchiveError> {
        match self.desc.as_deref() {
            Some(BLOB) => Ok(Some(vec![self.oid])),
            Some(BLOB_METADATA) => {
                let list = self.defn.as_deref().and_then(|defn| std::str::from_utf8(defn).ok());
                let oids = list.map(|list| list.split_whitespace().map(str::parse).collect());
                let none = ArchiveError::LargeObjects { dump_id: self.dump_id };
                oids.and_then(Result::ok).map(Some).ok_or(none)
            }
            _ => Ok(None),
        }
    }

    pub(super) fn member_for(
        &self,
        version: ArchiveVersion,
    ) -> Result<Option<MemberName>, ArchiveError> {
        if !self.had_dumper {
            Ok(None)
        } else if self.is_table_data() {
            Ok(Some(table_member(self.oid)))
        } else if self.is_large_objects() {
            Ok(Some(large_objects_toc_member(version, self.dump_id)))
        } else {
            let text = |bytes: &Option<Vec<u8>>| {
                String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
            };
            Err(ArchiveError::UnknownData { desc: text(&self.desc), tag: text(&self.tag) })
        }
    }

    /// Returns the name of the entry's data file, if it has one.
    ///
    /// # Errors
    /// [`ArchiveError::UnsafeMember`] when the name in the archive is not a [`MemberName`], as in one made by a stranger.
    pub fn member(&self) -> Result<Option<MemberName>, ArchiveError> {
        let Some(bytes) = &self.file_name else { return Ok(None) };
        let name = String::from_utf8_lossy(bytes);
        let unsafe_name = || ArchiveError::UnsafeMember {
            dump_id: self.dump_id,
            name: name.chars().take(80).collect(),
        };
        name.parse().map(Some).map_err(|_| unsafe_name())
    }
}

/// Returns the name of the file with the rows of the table: `t<oid>.dat`.
#[must_use]
pub fn table_member(oid: u32) -> MemberName {
    member_name(format!("t{oid}.dat"))
}

/// Returns the name of the file with the content of the large object: `blob_<oid>.dat`.
#[must_use]
pub fn large_object_member(oid: u32) -> MemberName {
    member_name(format!("blob_{oid}.dat"))
}

/// Returns the name of the file that lists the large objects of an entry: `blobs.toc`, or `blobs_<dump id>.toc` from archive
/// version 1.16 on.
#[must_use]
pub fn large_objects_toc_member(version: ArchiveVersion, dump_id: i32) -> MemberName {
    if version >= ArchiveVersion::V1_16 {
        member_name(format!("blobs_{dump_id}.toc"))
    } else {
        member_name("blobs.toc".to_owned())
    }
}

/// Returns the line by which the file of [`large_objects_toc_member`] names a large object: `<oid> blob_<oid>.dat\n`.
#[must_use]
pub fn large_objects_toc_line(oid: u32) -> String {
    format!("{oid} {}\n", large_object_member(oid))
}

fn member_name(text: String) -> MemberName {
    MemberName::try_from(text).expect("a few ASCII letters, digits, _ and . are a member name")
}
