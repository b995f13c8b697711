//! A session that reads: it imported the snapshot and holds the locks of what it was assigned.

use std::pin::Pin;

use futures_util::StreamExt;
use stonekeep_format::slicer::PageRange;
use tokio_postgres::{binary_copy::BinaryCopyOutStream, types::Type};

use super::{
    DumpError, LargeObject, LargeObjectPages, Rows, SourceInfo, SourceOptions, SourceTable, Unit,
    lock, preflight, reading_session,
};
use crate::{connect::Session, sql::literal};

/// A reading session and its plan.
#[derive(Debug)]
pub struct Worker {
    /// What it reads, in order.
    pub units: Vec<Unit>,
    /// Its backend.
    pub(super) pid: i32,
    session: Session,
    large_object_page_bytes: u64,
}

impl Worker {
    pub(super) async fn begin(
        options: &SourceOptions,
        info: &SourceInfo,
        snapshot: &str,
        tables: &[&str],
        units: Vec<Unit>,
    ) -> Result<Self, DumpError> {
        let session = reading_session(&options.connect).await?;
        let import = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            literal(snapshot)
        );
        let failed = |error| DumpError::told(&error);
        session.batch_execute(&import).await.map_err(failed)?;
        lock(&session, tables).await?;
        preflight::same_server(&session, info).await?;
        let row =
            session.query_one("SELECT pg_catalog.pg_backend_pid()", &[]).await.map_err(failed)?;
        let large_object_page_bytes = info.large_object_page_bytes;
        Ok(Self { units, pid: row.get(0), session, large_object_page_bytes })
    }

    /// Begins to read a table, or some pages of it.
    ///
    /// # Errors
    /// [`DumpError::Query`].
    pub async fn copy_rows(
        &mut self,
        table: &SourceTable,
        pages: Option<PageRange>,
    ) -> Result<Rows, DumpError> {
        let failed = |error| DumpError::quiet(&error);
        let stream = self.session.copy_out(table.copy_out(pages).as_str()).await.map_err(failed)?;
        Ok(Rows::new(stream, table.display_name()))
    }

    /// Says more of an error that ended a COPY of this table: if a row is too long, which one. It ends the transaction, which has
    /// failed anyway.
    pub async fn explain(&self, table: &SourceTable, error: DumpError) -> DumpError {
        match &error {
            DumpError::Copy { source, .. } if source.is_too_long() => {}
            _ => return error,
        }
        let row = async {
            self.session.batch_execute("ROLLBACK").await.ok()?;
            let row = self.session.query_opt(table.largest_row().as_str(), &[]).await.ok()??;
            row.try_get::<_, String>(0).ok()
        };
        DumpError::TooLarge { table: table.display_name(), row: row.await }
    }

    /// Begins to read the pages of large objects, in the order of OID and page.
    ///
    /// # Errors
    /// [`DumpError::Query`].
    pub async fn large_object_pages(
        &mut self,
        objects: &[LargeObject],
    ) -> Result<LargeObjectPages, DumpError> {
        let list: Vec<String> = objects.iter().map(|object| object.oid.to_string()).collect();
        let statement = format!(
            "COPY (SELECT loid, pageno, data FROM pg_catalog.pg_largeobject WHERE loid = ANY ('{{{}}}'::oid[]) ORDER BY loid, pageno) \
             TO STDOUT (FORMAT binary)",
            list.join(",")
        );
        let failed = |error| DumpError::quiet(&error);
        let stream = self.session.copy_out(statement.as_str()).await.map_err(failed)?;
        let pages = BinaryCopyOutStream::new(stream, &[Type::OID, Type::INT4, Type::BYTEA]);
        let pages: Pin<Box<BinaryCopyOutStream>> = Box::pin(pages);
        Ok(LargeObjectPages::new(pages.boxed(), self.large_object_page_bytes))
    }

    /// Ends the transaction; that this works shows that the session was healthy to the end.
    ///
    /// # Errors
    /// [`DumpError::Query`].
    pub async fn finish(self) -> Result<(), DumpError> {
        self.session.batch_execute("COMMIT").await.map_err(|error| DumpError::told(&error))
    }
}
