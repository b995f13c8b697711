//! The rows of a COPY, one line each.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio_postgres::CopyOutStream;

use super::DumpError;
use crate::refusal::Refusal;

/// Rows as the server prints them. It ends with `None` only after the server said that COPY is complete: a connection that
/// dies on the way is an error. The driver hides COPY's own count, so rows are counted as messages, each of which must be
/// exactly one line.
pub struct Rows {
    stream: Pin<Box<CopyOutStream>>,
    table: String,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rows({})", self.table)
    }
}

impl Rows {
    pub(super) fn new(stream: CopyOutStream, table: String) -> Self {
        Self { stream: Box::pin(stream), table }
    }

    /// Returns the next row: its line with the newline.
    ///
    /// # Errors
    /// [`DumpError::Copy`] if the server or the connection fails, [`DumpError::Row`] if a message is not one line.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DumpError> {
        match self.stream.next().await {
            None => Ok(None),
            Some(Ok(line)) if line.last() == Some(&b'\n') => Ok(Some(line)),
            Some(Ok(_)) => Err(DumpError::Row { table: self.table.clone() }),
            Some(Err(error)) => {
                let (table, source) = (self.table.clone(), Refusal::quiet(&error));
                Err(DumpError::Copy { table, source })
            }
        }
    }
}
