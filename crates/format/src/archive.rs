//! The table of contents of a pg_dump archive: what is in a database, and in which order it comes back.
//!
//! Its one responsibility is to turn the table of contents (TOC) that pg_dump writes at the head of a custom archive into
//! the `toc.dat` of a directory archive, and to read either. In the flow of a backup: pg_dump's pipe is read by
//! [`Archive::read_custom`] up to the last entry, [`Archive::assign_members`] names the files in which the rows will lie,
//! and [`Archive::write_directory`] makes the segment of kind `toc`. A restore reads that back by
//! [`Archive::read_directory`]. Byte strings stay bytes, for names in a dump are in the encoding of the database.
//!
//! It never reads or writes rows, never asks a server, and never reserves memory because a length in the input says so.
//!
//! # Layout
//! ```text
//! header   "PGDMP", version (major, minor, revision: 1 byte each), bytes of an integer (4), bytes of an offset (4 or 8),
//!          format (1 byte: 1 custom, 3 directory), compression (from 1.15: 1 byte; before: integer),
//!          7 integers of time (second, minute, hour, day, month from 0, year from 1900, is daylight saving),
//!          3 strings: database, version of the server, version of pg_dump
//! count    integer
//! entry    dump id: integer; had dumper: integer 0 or 1; table oid, oid: strings of decimal digits; tag, desc: strings;
//!          section: integer; defn, drop, copy, namespace, tablespace, table access method: strings;
//!          from 1.16 relkind: integer; owner, "false": strings; dependencies: strings of decimal digits, then a null;
//!          custom: 1 byte of state and an offset. directory: string with the name of the data file, empty if none
//! integer  1 byte of sign (0 or 1), 4 bytes of magnitude, least significant first
//! string   integer of length (-1: null), then so many bytes, none of them zero
//! ```
//! Source: `WriteHead` and `WriteToc` in `pg_backup_archiver.c`, `_WriteExtraToc` in `pg_backup_custom.c` and
//! `pg_backup_directory.c` of PostgreSQL. Format 3 is tar's; pg_dump writes it into the `toc.dat` of a directory too.

mod entry;
mod header;
mod member;
mod primitive;

use std::{
    collections::HashSet,
    io::{self, Read, Write},
};

pub use entry::{Entry, Section};
pub use header::{ArchiveVersion, Compression, Header};
pub use member::{
    Ends, RowFormat, large_object_member, large_objects_toc_line, large_objects_toc_member,
    table_member,
};
use primitive::{Input, put_int};

use crate::{ErrorKind, ids::MemberName};

/// The longest string read, in bytes: 64 MiB. The longest in practice are the bodies of functions and views.
pub const STRING_BYTES_MAX: usize = 64 << 20;

/// The longest TOC read, in bytes: 512 MiB. 20,000 tables were measured to take 8 MiB.
///
/// With [`ENTRIES_MAX`] it bounds the memory of an archive: each entry takes at most 512 bytes beside its strings, so all
/// of it stays below 4 GiB, and only if somebody really supplies that many bytes.
pub const TOC_BYTES_MAX: u64 = 512 << 20;

/// The most entries read: four million. A table makes about five (itself, data, key, comment, rights).
pub const ENTRIES_MAX: usize = 4_000_000;

/// A header and a table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// What made the archive, when, of which database.
    pub header: Header,
    /// The entries in the order in which they stand in the TOC, which is the order in which they are restored.
    pub entries: Vec<Entry>,
}

/// Which of the two layouts ends an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// One file or pipe: TOC, then data.
    Custom,
    /// `toc.dat`, with the data in files beside it.
    Directory,
}

impl Format {
    const fn byte(self) -> u8 {
        match self {
            Self::Custom => 1,
            Self::Directory => 3,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::Directory => "directory",
        }
    }
}

/// Why a table of contents could not be read, written or completed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The input does not begin as an archive does.
    #[error(
        "not an archive of pg_dump: it does not begin with \"PGDMP\"; check what was read instead"
    )]
    NotAnArchive,
    /// The archive's version is none that this program knows.
    #[error(
        "cannot read an archive of version {version}: versions 1.14 to 1.16 (pg_dump of PostgreSQL 12 to 18) are known; \
         use such a pg_dump, or a newer stonekeep if the archive is newer"
    )]
    UnsupportedVersion {
        /// The version in the header.
        version: ArchiveVersion,
    },
    /// The archive comes from a machine whose integers or offsets have another size.
    #[error(
        "cannot read an archive with integers of {int_bytes} and offsets of {offset_bytes} bytes: \
         4 and 4 or 8 are known; run pg_dump on another platform"
    )]
    UnsupportedSizes {
        /// Bytes of an integer.
        int_bytes: u8,
        /// Bytes of an offset.
        offset_bytes: u8,
    },
    /// The archive is in another format than the one asked for.
    #[error("not an archive in {expected} format: its header names format {found}")]
    WrongFormat {
        /// The format asked for.
        expected: &'static str,
        /// The format byte in the header.
        found: u8,
    },
    /// The input ends within the header or the TOC.
    #[error("the archive ends after {offset} bytes, within its table of contents; read it again")]
    Truncated {
        /// Bytes read before the end.
        offset: u64,
    },
    /// Bytes follow the last entry of a `toc.dat`.
    #[error("bytes follow the last entry of the table of contents, at byte {offset}")]
    Trailing {
        /// Where the TOC ended.
        offset: u64,
    },
    /// A field holds what pg_dump never writes.
    #[error("the archive is damaged before byte {offset}: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Bytes read so far.
        offset: u64,
    },
    /// A field, or the whole, is longer than this program accepts.
    #[error("the archive has {what} beyond the limit of {limit}")]
    TooLarge {
        /// What is too long or too many.
        what: &'static str,
        /// [`STRING_BYTES_MAX`], [`TOC_BYTES_MAX`] or [`ENTRIES_MAX`].
        limit: u64,
    },
    /// The values cannot be expressed in the version of the archive. A bug of the caller.
    #[error("cannot write the table of contents: {what}")]
    Unwritable {
        /// What cannot be expressed.
        what: &'static str,
    },
    /// An entry has data, but of a kind of which this program does not know how to get it.
    #[error(
        "the archive has data of an unknown kind: {desc:?} ({tag:?}); a backup without it would be incomplete, \
         so use a newer stonekeep, or a pg_dump of PostgreSQL 12 to 18"
    )]
    UnknownData {
        /// The kind.
        desc: String,
        /// The name of the object.
        tag: String,
    },
    /// Two entries would have their data in the same file.
    #[error("two entries of the archive have their data in {member}; run pg_dump again")]
    DuplicateMember {
        /// The file.
        member: MemberName,
    },
    /// The name of an entry's data file could lead out of the archive's directory.
    #[error("the data file of entry {dump_id} has a name that is not allowed: {name:?}")]
    UnsafeMember {
        /// The entry.
        dump_id: i32,
        /// The name, with what is not ASCII replaced.
        name: String,
    },
    /// The list of a group of large objects is none.
    #[error("entry {dump_id} of the archive does not say which large objects it makes")]
    LargeObjects {
        /// The entry.
        dump_id: i32,
    },
    /// The input could not be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The output could not be written.
    #[error("cannot write the table of contents")]
    Write(#[source] io::Error),
}

impl ArchiveError {
    /// Returns what to do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::UnsupportedVersion { .. }
            | Self::UnsupportedSizes { .. }
            | Self::UnknownData { .. } => ErrorKind::Config,
            Self::Unwritable { .. } => ErrorKind::Internal,
            Self::Read(_) | Self::Write(_) => ErrorKind::Unavailable,
            _ => ErrorKind::Corrupt,
        }
    }
}

impl Archive {
    /// Reads header and TOC of a custom archive (`pg_dump -Fc`), and not one byte more.
    ///
    /// The offsets of the data, which pg_dump cannot know when it writes to a pipe, are skipped. Reads are small: give it a
    /// `BufReader` when nothing else wants the rest of the stream.
    ///
    /// # Errors
    /// Any but `Write`, `Trailing`, `Unwritable`, `UnknownData` and those of members. An end of the input is
    /// [`ArchiveError::Truncated`].
    pub fn read_custom(reader: &mut impl Read) -> Result<Self, ArchiveError> {
        Self::read(&mut Input::new(reader), Format::Custom)
    }

    /// Reads the `toc.dat` of a directory archive (`pg_dump -Fd`), to the end of the input.
    ///
    /// # Errors
    /// As [`Archive::read_custom`], and [`ArchiveError::Trailing`] when anything follows the last entry.
    pub fn read_directory(reader: &mut impl Read) -> Result<Self, ArchiveError> {
        let mut input = Input::new(reader);
        let archive = Self::read(&mut input, Format::Directory)?;
        input.end()?;
        Ok(archive)
    }

    fn read(input: &mut Input<'_, impl Read>, format: Format) -> Result<Self, ArchiveError> {
        let header = Header::read(input, format)?;
        let count = input.int()?;
        let count = usize::try_from(count)
            .map_err(|_| input.malformed("the number of entries is negative"))?;
        if count > ENTRIES_MAX {
            return Err(ArchiveError::TooLarge { what: "entries", limit: ENTRIES_MAX as u64 });
        }
        // Not `with_capacity(count)`: the count may lie. The vector grows as entries arrive.
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(Entry::read(input, &header, format)?);
        }
        Ok(Self { header, entries })
    }

    /// Writes the `toc.dat` of a directory archive: what [`Archive::read_directory`] reads back, byte for byte.
    ///
    /// In a version before 1.16 an entry's `relkind` has no place and is left out.
    ///
    /// # Errors
    /// [`ArchiveError::Write`] when the writer fails; [`ArchiveError::Unwritable`] or [`ArchiveError::TooLarge`] when the
    /// values do not fit the format.
    pub fn write_directory(&self, writer: &mut impl Write) -> Result<(), ArchiveError> {
        let too_many = ArchiveError::TooLarge { what: "entries", limit: ENTRIES_MAX as u64 };
        if self.entries.len() > ENTRIES_MAX {
            return Err(too_many);
        }
        self.header.write(writer, Format::Directory)?;
        put_int(writer, i32::try_from(self.entries.len()).map_err(|_| too_many)?)?;
        self.entries.iter().try_for_each(|entry| entry.write_directory(writer, &self.header))
    }

    /// Names the data file of each entry that has data, and takes the name from every other.
    ///
    /// Rows of a table lie in [`table_member`]; the list of large objects in `blobs.toc`, or from version 1.16 on, where
    /// there may be several, in `blobs_<dump id>.toc`. pg_dump names a table's file by its dump id, which changes whenever
    /// any object is added; the OID does not, so the same table keeps its member from run to run.
    ///
    /// # Errors
    /// [`ArchiveError::UnknownData`] when an entry has data of another kind, so that nothing is left out in silence;
    /// [`ArchiveError::DuplicateMember`] when two entries would share a file.
    pub fn assign_members(&mut self) -> Result<(), ArchiveError> {
        let version = self.header.version;
        let mut taken = HashSet::new();
        for entry in &mut self.entries {
            let member = entry.member_for(version)?;
            entry.file_name = member.as_ref().map(|name| name.as_str().as_bytes().to_vec());
            if let Some(member) = member
                && !taken.insert(member.clone())
            {
                return Err(ArchiveError::DuplicateMember { member });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
