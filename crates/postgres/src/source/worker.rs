//! A session that reads: it imported the snapshot and holds the locks of what it was assigned.

use std::pin::Pin;

use futures_util::StreamExt;
use stonekeep_format::{archive::RowFormat, slicer::PageRange};
use tokio_postgres::{binary_copy::BinaryCopyOutStream, types::Type};

use super::{
    DumpError, LargeObject, LargeObjectPages, SourceInfo, SourceOptions, SourceTable, Unit, lock,
    preflight, reading_session, tables,
};
use crate::{
    connect::Session,
    rows::{Rows, RowsError},
    sql::literal,
};

/// A reading session and its plan.
#[derive(Debug)]
pub struct Worker {
    /// What it reads, in order.
    pub units: Vec<Unit>,
    /// Its backend.
    pub(super) pid: i32,
    session: Session,
    /// The format of the rows that were read last: it goes with the session's encoding.
    format: RowFormat,
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
        session.batch_execute("SAVEPOINT rows").await.map_err(failed)?;
        let large_object_page_bytes = info.large_object_page_bytes;
        let (pid, format) = (row.get(0), RowFormat::Text);
        Ok(Self { units, pid, session, format, large_object_page_bytes })
    }

    /// Begins to read a table, or some pages of it.
    ///
    /// # Errors
    /// [`DumpError::Query`].
    pub async fn copy_rows(
        &mut self,
        table: &SourceTable,
        pages: Option<PageRange>,
        format: RowFormat,
    ) -> Result<Rows, DumpError> {
        let failed = |error| DumpError::quiet(&error);
        // In binary, texts are in the client's encoding, whatever COPY is told: the database's own, as in text, so that
        // pg_restore reads both alike. Nothing else that is asked for here has a name in it.
        let encoding = match format {
            RowFormat::Text => "UTF8",
            RowFormat::Binary => &table.encoding,
        };
        let set = format!("SET LOCAL client_encoding TO {}", literal(encoding));
        if format != self.format {
            self.session.batch_execute(&set).await.map_err(failed)?;
            self.format = format;
        }
        let statement = table.copy_out(pages, format);
        let stream = self.session.copy_out(statement.as_str()).await.map_err(failed)?;
        Ok(Rows::new(stream, table.display_name(), format))
    }

    /// Makes the session usable again after a COPY in text was refused for the length of a row, and says whether the table may
    /// be read in binary. The snapshot and all locks are held on.
    ///
    /// # Errors
    /// [`DumpError::TooLarge`]: neither is possible. [`DumpError::Query`].
    pub async fn turn_to_binary(
        &mut self,
        table: &SourceTable,
        refused: DumpError,
    ) -> Result<(), DumpError> {
        let failed = |error| DumpError::told(&error);
        self.session.batch_execute("ROLLBACK TO SAVEPOINT rows").await.map_err(failed)?;
        self.format = RowFormat::Text;
        let why = tables::refuses_binary(&self.session, table).await?;
        match why {
            None => Ok(()),
            Some(why) => Err(self.too_large(table, refused, why).await),
        }
    }

    /// Says of a COPY that failed for the length of a row which row it is. It ends the transaction.
    pub async fn too_large(
        &mut self,
        table: &SourceTable,
        refused: DumpError,
        why: String,
    ) -> DumpError {
        let DumpError::Rows(RowsError::Refused { source, .. }) = refused else { return refused };
        let row = async {
            self.session.batch_execute("ROLLBACK").await.ok()?;
            let row = self.session.query_opt(table.largest_row().as_str(), &[]).await.ok()??;
            row.try_get::<_, String>(0).ok()
        };
        DumpError::TooLarge { table: table.display_name(), row: row.await, why, source }
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
