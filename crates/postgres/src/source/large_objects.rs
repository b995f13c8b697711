//! Large objects: read as the pages they are stored in, which takes a fiftieth of the time of asking for each.

use futures_util::{StreamExt, stream::BoxStream};
use stonekeep_format::archive::Archive;
use tokio_postgres::{Error, binary_copy::BinaryCopyOutRow};

use super::DumpError;
use crate::connect::Session;

/// A large object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LargeObject {
    /// Its OID; any of 32 bits.
    pub oid: u32,
    /// Its length.
    pub bytes: u64,
}

const LIST: &str = "SELECT m.oid, coalesce((SELECT l.pageno::int8 * (current_setting('block_size')::int8 / 4) + pg_catalog.length(l.data) \
    FROM pg_catalog.pg_largeobject l WHERE l.loid = m.oid ORDER BY l.pageno DESC LIMIT 1), 0)::int8 AS bytes \
    FROM pg_catalog.pg_largeobject_metadata m ORDER BY m.oid";

/// Lists them within the snapshot, if the archive has any.
pub(super) async fn list(
    session: &Session,
    archive: &Archive,
) -> Result<Vec<LargeObject>, DumpError> {
    if !archive.entries.iter().any(stonekeep_format::archive::Entry::is_large_objects) {
        return Ok(Vec::new());
    }
    let rows = session.query(LIST, &[]).await.map_err(|error| DumpError::told(&error))?;
    let object = |row: &tokio_postgres::Row| LargeObject {
        oid: row.get("oid"),
        bytes: u64::try_from(row.get::<_, i64>("bytes")).unwrap_or(0),
    };
    Ok(rows.iter().map(object).collect())
}

/// Pages of large objects, in order; pages that were never written are missing and read as zeros.
pub struct LargeObjectPages {
    stream: BoxStream<'static, Result<BinaryCopyOutRow, Error>>,
    page_bytes: u64,
}

impl std::fmt::Debug for LargeObjectPages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LargeObjectPages")
    }
}

impl LargeObjectPages {
    /// `page_bytes` is [`SourceInfo::large_object_page_bytes`](super::SourceInfo::large_object_page_bytes).
    pub(super) fn new(
        stream: BoxStream<'static, Result<BinaryCopyOutRow, Error>>,
        page_bytes: u64,
    ) -> Self {
        Self { stream, page_bytes }
    }

    /// Returns the next page: its object's OID, where it begins, and its bytes.
    ///
    /// # Errors
    /// [`DumpError::Query`].
    pub async fn next(&mut self) -> Result<Option<(u32, u64, Vec<u8>)>, DumpError> {
        let failed = |error: Error| DumpError::quiet(&error);
        let Some(row) = self.stream.next().await.transpose().map_err(failed)? else {
            return Ok(None);
        };
        let page = u64::try_from(row.try_get::<i32>(1).map_err(failed)?).unwrap_or(0);
        let data = row.try_get::<&[u8]>(2).map_err(failed)?.to_vec();
        Ok(Some((row.try_get(0).map_err(failed)?, page * self.page_bytes, data)))
    }
}
