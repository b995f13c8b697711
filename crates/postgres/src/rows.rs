//! The rows of a COPY, one message each.

use std::pin::Pin;

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt;
use stonekeep_format::{ErrorKind, archive::RowFormat};
use tokio_postgres::CopyOutStream;

use crate::refusal::Refusal;

/// Why there are no more rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// The server refused or broke off while it sent rows.
    #[error("COPY of {table} was refused or broken off")]
    Refused {
        /// The table.
        table: String,
        /// What it said.
        #[source]
        source: Refusal,
    },
    /// The server sent something that is not one row.
    #[error(
        "COPY of {table} sent a message that is not one row: stop any proxy between, and report this"
    )]
    NotOneRow {
        /// The table.
        table: String,
    },
}

impl RowsError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { source, .. } => source.kind(),
            Self::NotOneRow { .. } => ErrorKind::Corrupt,
        }
    }
}

/// Rows as the server writes them. It ends with `None` only after the server said that COPY is complete: a connection that
/// dies on the way is an error. The driver hides COPY's own count, so rows are counted as messages, each of which must be
/// exactly one row.
pub struct Rows {
    stream: Pin<Box<CopyOutStream>>,
    table: String,
    shape: Shape,
}

/// What a message must be.
#[derive(Debug)]
enum Shape {
    /// A line.
    Line,
    /// The head of the binary format, and what comes with it.
    Head,
    /// A tuple, or the trailer.
    Tuple,
    /// Nothing: the trailer was there.
    Ended,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows({})", self.table)
    }
}

impl Rows {
    /// `table` is its name for messages.
    pub(crate) fn new(stream: CopyOutStream, table: String, format: RowFormat) -> Self {
        let shape = match format {
            RowFormat::Text => Shape::Line,
            RowFormat::Binary => Shape::Head,
        };
        Self { stream: Box::pin(stream), table, shape }
    }

    /// Returns the next row: its line with the newline, or its tuple.
    ///
    /// # Errors
    /// [`RowsError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, RowsError> {
        loop {
            let message = match self.stream.next().await {
                None if matches!(self.shape, Shape::Line | Shape::Ended) => return Ok(None),
                None => return Err(self.not_a_row()),
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    let (table, source) = (self.table.clone(), Refusal::quiet(&error));
                    return Err(RowsError::Refused { table, source });
                }
            };
            let row = self.shape.row(message).ok_or_else(|| self.not_a_row())?;
            if let Some(row) = row {
                return Ok(Some(row));
            }
        }
    }

    fn not_a_row(&self) -> RowsError {
        RowsError::NotOneRow { table: self.table.clone() }
    }
}

impl Shape {
    /// Takes the row out of a message. `Some(None)`: a whole message without one; `None`: no message of this shape.
    #[expect(clippy::option_option, reason = "no message, no row, a row")]
    fn row(&mut self, mut message: Bytes) -> Option<Option<Bytes>> {
        if matches!(self, Self::Head) {
            let head = RowFormat::Binary.head();
            if !message.starts_with(head) {
                return None;
            }
            message.advance(head.len());
            *self = Self::Tuple;
            if message.is_empty() {
                return Some(None);
            }
        }
        match self {
            Self::Line => message.ends_with(b"\n").then_some(Some(message)),
            Self::Tuple if message == RowFormat::Binary.tail() => {
                *self = Self::Ended;
                Some(None)
            }
            Self::Tuple => is_tuple(&message).then_some(Some(message)),
            Self::Head | Self::Ended => None,
        }
    }
}

/// Whether the bytes are one tuple and no more: the number of fields, then of each its length (-1 for a null) and its bytes.
fn is_tuple(bytes: &[u8]) -> bool {
    let walk = || -> Option<bool> {
        let (count, mut rest) = bytes.split_first_chunk::<2>()?;
        for _ in 0..u16::from_be_bytes(*count) {
            let (length, more) = rest.split_first_chunk::<4>()?;
            let length = i32::from_be_bytes(*length);
            rest = if length == -1 { more } else { more.get(usize::try_from(length).ok()?..)? };
        }
        Some(rest.is_empty())
    };
    walk().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] = b"\0\x02\0\0\0\x01x\xff\xff\xff\xff";

    fn rows(messages: &[&[u8]]) -> Option<Vec<Bytes>> {
        let mut shape = Shape::Head;
        let mut rows = Vec::new();
        for message in messages {
            rows.extend(shape.row(Bytes::copy_from_slice(message))?);
        }
        matches!(shape, Shape::Ended).then_some(rows)
    }

    #[test]
    fn tuples_are_taken_out_of_head_and_trailer() {
        let head = RowFormat::Binary.head();
        let first = [head, ROW].concat();
        assert_eq!(rows(&[&first, ROW, b"\xff\xff"]), Some(vec![ROW.into(), ROW.into()]));
        assert_eq!(rows(&[head, b"\xff\xff"]), Some(vec![]));
        assert_eq!(rows(&[&[head, b"\xff\xff"].concat()]), Some(vec![]));
    }

    #[test]
    fn what_is_not_one_whole_tuple_is_none() {
        let head = RowFormat::Binary.head();
        let two = [ROW, ROW].concat();
        for torn in [&ROW[..ROW.len() - 1], &two, b"", b"\0", b"\0\x01\0\0\0\x01"] {
            assert_eq!(rows(&[head, torn, b"\xff\xff"]), None, "{torn:?}");
        }
        assert_eq!(rows(&[ROW, b"\xff\xff"]), None, "no head");
        assert_eq!(rows(&[head, ROW]), None, "no trailer");
        assert_eq!(rows(&[head, b"\xff\xff", ROW]), None, "a row after the trailer");
    }
}
