//! Integers and strings of an archive, and the limits on what a stranger's bytes may make us keep.

use std::{
    fmt::Display,
    io::{self, Read, Write},
    str::FromStr,
};

use super::{ArchiveError, STRING_BYTES_MAX, TOC_BYTES_MAX};

/// The only size of an integer that pg_dump has ever written: that of a C `int`.
pub(super) const INT_BYTES: u8 = 4;

/// A reader that counts what it takes and takes no more than [`TOC_BYTES_MAX`].
pub(super) struct Input<'a, R> {
    reader: &'a mut R,
    taken: u64,
}

impl<'a, R: Read> Input<'a, R> {
    pub(super) const fn new(reader: &'a mut R) -> Self {
        Self { reader, taken: 0 }
    }

    /// Returns the error for a field that was just read.
    pub(super) const fn malformed(&self, what: &'static str) -> ArchiveError {
        ArchiveError::Malformed { what, offset: self.taken }
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, ArchiveError> {
        Ok(self.bytes::<1>()?[0])
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        self.count(bytes.len())?;
        self.reader.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::Truncated { offset: self.taken },
            _ => ArchiveError::Read(error),
        })
    }

    /// Counts bytes about to be read, so that the limit holds before memory is spent on them.
    fn count(&mut self, bytes: usize) -> Result<(), ArchiveError> {
        self.taken = self.taken.saturating_add(bytes as u64);
        if self.taken > TOC_BYTES_MAX {
            return Err(ArchiveError::TooLarge { what: "more bytes", limit: TOC_BYTES_MAX });
        }
        Ok(())
    }

    /// Reads a sign byte and a magnitude. Only the spelling that pg_dump writes is taken, so that what was read is written
    /// again with the same bytes.
    pub(super) fn int(&mut self) -> Result<i32, ArchiveError> {
        let [sign, magnitude @ ..] = self.bytes::<5>()?;
        let magnitude = i64::from(u32::from_le_bytes(magnitude));
        let value = match sign {
            0 => Some(magnitude),
            1 if magnitude != 0 => Some(-magnitude),
            _ => None,
        };
        value
            .and_then(|value| i32::try_from(value).ok())
            .ok_or_else(|| self.malformed("an integer that no C int can be"))
    }

    /// Reads a string, or the null that a length of -1 stands for.
    pub(super) fn string(&mut self) -> Result<Option<Vec<u8>>, ArchiveError> {
        let length = match self.int()? {
            -1 => return Ok(None),
            length => usize::try_from(length)
                .map_err(|_| self.malformed("a string of negative length"))?,
        };
        if length > STRING_BYTES_MAX {
            let limit = STRING_BYTES_MAX as u64;
            return Err(ArchiveError::TooLarge { what: "a string", limit });
        }
        let bytes = self.exactly(length)?;
        if bytes.contains(&0) {
            return Err(self.malformed("a string with a zero byte"));
        }
        Ok(Some(bytes))
    }

    /// Reads `length` bytes into memory that grows only as they arrive.
    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, ArchiveError> {
        self.count(length)?;
        let mut bytes = Vec::with_capacity(length.min(4096));
        let mut part = Read::take(&mut *self.reader, length as u64);
        let read = part.read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
        if read < length {
            return Err(ArchiveError::Truncated { offset: self.taken - (length - read) as u64 });
        }
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    /// Reads a number that the archive holds as a string, or the null that ends a list of them.
    pub(super) fn decimal<T: FromStr + Display>(&mut self) -> Result<Option<T>, ArchiveError> {
        let Some(bytes) = self.string()? else { return Ok(None) };
        let number =
            str::from_utf8(&bytes).ok().and_then(|text| Some((text, text.parse::<T>().ok()?)));
        match number {
            Some((text, number)) if number.to_string() == text => Ok(Some(number)),
            _ => Err(self.malformed("a string that should have been a number")),
        }
    }

    /// Checks that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), ArchiveError> {
        let mut rest = Vec::new();
        Read::take(&mut *self.reader, 1).read_to_end(&mut rest).map_err(ArchiveError::Read)?;
        if rest.is_empty() { Ok(()) } else { Err(ArchiveError::Trailing { offset: self.taken }) }
    }
}

pub(super) fn put_bytes(writer: &mut impl Write, bytes: &[u8]) -> Result<(), ArchiveError> {
    writer.write_all(bytes).map_err(ArchiveError::Write)
}

pub(super) fn put_int(writer: &mut impl Write, value: i32) -> Result<(), ArchiveError> {
    let [a, b, c, d] = value.unsigned_abs().to_le_bytes();
    put_bytes(writer, &[u8::from(value < 0), a, b, c, d])
}

pub(super) fn put_string(
    writer: &mut impl Write,
    string: Option<&[u8]>,
) -> Result<(), ArchiveError> {
    let Some(bytes) = string else { return put_int(writer, -1) };
    let too_large = || ArchiveError::TooLarge { what: "a string", limit: STRING_BYTES_MAX as u64 };
    if bytes.len() > STRING_BYTES_MAX {
        return Err(too_large());
    }
    if bytes.contains(&0) {
        return Err(ArchiveError::Unwritable { what: "a string has a zero byte" });
    }
    put_int(writer, i32::try_from(bytes.len()).map_err(|_| too_large())?)?;
    put_bytes(writer, bytes)
}

pub(super) fn put_decimal(
    writer: &mut impl Write,
    number: impl Display,
) -> Result<(), ArchiveError> {
    put_string(writer, Some(number.to_string().as_bytes()))
}
