//! The header of an archive: what made it, when, of which database.

use std::{
    fmt,
    io::{Read, Write},
};

use super::{
    ArchiveError, Format,
    primitive::{INT_BYTES, Input, put_bytes, put_int, put_string},
};

const MAGIC: &[u8; 5] = b"PGDMP";

/// The version of an archive's layout. It is not that of PostgreSQL: 1.14 came with 12, 1.15 with 16, 1.16 with 17.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchiveVersion {
    /// Always 1.
    pub major: u8,
    /// 14 to 16.
    pub minor: u8,
    /// Always 0 so far; kept as it is read.
    pub revision: u8,
}

impl ArchiveVersion {
    /// pg_dump of PostgreSQL 12 to 15: the table access method.
    pub const V1_14: Self = Self { major: 1, minor: 14, revision: 0 };
    /// pg_dump of PostgreSQL 16: the compression algorithm in the header.
    pub const V1_15: Self = Self { major: 1, minor: 15, revision: 0 };
    /// pg_dump of PostgreSQL 17 and 18: several entries of large objects, relkind.
    pub const V1_16: Self = Self { major: 1, minor: 16, revision: 0 };

    const fn check(self) -> Result<Self, ArchiveError> {
        if self.major == 1 && 14 <= self.minor && self.minor <= 16 {
            Ok(self)
        } else {
            Err(ArchiveError::UnsupportedVersion { version: self })
        }
    }
}

impl fmt::Display for ArchiveVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.revision > 0 { write!(f, ".{}", self.revision) } else { Ok(()) }
    }
}

/// How the data of the archive is compressed. Our members are found by `pg_restore` by their names, whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Before 1.15: zlib's level, 0 for none, -1 for its default.
    Level(i32),
    /// From 1.15 on: 0 none, 1 gzip, 2 LZ4, 3 Zstandard.
    Algorithm(u8),
}

/// The header of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The version of the layout.
    pub version: ArchiveVersion,
    /// Bytes of an integer: 4.
    pub int_bytes: u8,
    /// Bytes of an offset in a custom archive: 4 or 8.
    pub offset_bytes: u8,
    /// How the data is compressed.
    pub compression: Compression,
    /// When pg_dump ran, in its local time, as C's `struct tm`: second, minute, hour, day, month from 0, year from 1900,
    /// whether daylight saving applied.
    pub created: [i32; 7],
    /// The name of the database.
    pub database: Option<Vec<u8>>,
    /// The version of the server, as it names itself.
    pub server_version: Option<Vec<u8>>,
    /// The version of pg_dump, as it names itself.
    pub dump_version: Option<Vec<u8>>,
}

impl Header {
    pub(super) fn read(
        input: &mut Input<'_, impl Read>,
        format: Format,
    ) -> Result<Self, ArchiveError> {
        if input.bytes()? != *MAGIC {
            return Err(ArchiveError::NotAnArchive);
        }
        let [major, minor, revision] = input.bytes()?;
        let version = ArchiveVersion { major, minor, revision }.check()?;
        let [int_bytes, offset_bytes] = input.bytes()?;
        check_sizes(int_bytes, offset_bytes)?;
        check_format(input.byte()?, format)?;
        let compression = if version >= ArchiveVersion::V1_15 {
            Compression::Algorithm(input.byte()?)
        } else {
            Compression::Level(input.int()?)
        };
        let mut created = [0; 7];
        for part in &mut created {
            *part = input.int()?;
        }
        let (database, server_version) = (input.string()?, input.string()?);
        let dump_version = input.string()?;
        Ok(Self {
            version,
            int_bytes,
            offset_bytes,
            compression,
            created,
            database,
            server_version,
            dump_version,
        })
    }

    pub(super) fn write(
        &self,
        writer: &mut impl Write,
        format: Format,
    ) -> Result<(), ArchiveError> {
        let ArchiveVersion { major, minor, revision } = self.version.check()?;
        check_sizes(self.int_bytes, self.offset_bytes)?;
        put_bytes(writer, MAGIC)?;
        let fixed = [major, minor, revision, self.int_bytes, self.offset_bytes, format.byte()];
        put_bytes(writer, &fixed)?;
        match (self.compression, self.version >= ArchiveVersion::V1_15) {
            (Compression::Algorithm(byte), true) => put_bytes(writer, &[byte])?,
            (Compression::Level(level), false) => put_int(writer, level)?,
            _ => {
                let what = "the compression is not of the kind that the version has";
                return Err(ArchiveError::Unwritable { what });
            }
        }
        self.created.iter().try_for_each(|part| put_int(writer, *part))?;
        [&self.database, &self.server_version, &self.dump_version]
            .into_iter()
            .try_for_each(|text| put_string(writer, text.as_deref()))
    }
}

const fn check_sizes(int_bytes: u8, offset_bytes: u8) -> Result<(), ArchiveError> {
    if int_bytes == INT_BYTES && matches!(offset_bytes, 4 | 8) {
        Ok(())
    } else {
        Err(ArchiveError::UnsupportedSizes { int_bytes, offset_bytes })
    }
}

fn check_format(found: u8, format: Format) -> Result<(), ArchiveError> {
    if found == format.byte() {
        Ok(())
    } else {
        Err(ArchiveError::WrongFormat { expected: format.name(), found })
    }
}
