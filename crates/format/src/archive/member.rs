//! The files in which the data of an archive lies: how they are named, and which entry has one.

use super::{ArchiveError, ArchiveVersion, Entry};
use crate::ids::MemberName;

/// The entries that hold the rows of one table.
const TABLE_DATA: &[u8] = b"TABLE DATA";
/// The entries that hold the content of large objects.
const BLOBS: &[u8] = b"BLOBS";

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
