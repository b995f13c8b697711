//! Rows and large objects on their way in: one connection each, any number side by side.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::SinkExt as _;
use stonekeep_format::archive::{Archive, Ends, Entry, RowFormat};
use tokio_postgres::CopyInSink;

use super::{ColumnOrder, LoadError, Pins, archive_encoding};
use crate::{
    connect::{ConnectOptions, connect},
    refusal::Refusal,
    session::Session,
    sql::{literal, take_identifier},
    target::Mark,
};

/// The COPY of one TABLE DATA entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyStatement {
    table: String,
    into: Vec<u8>,
    relation: Vec<u8>,
    columns: Vec<u8>,
    format: RowFormat,
}

impl CopyStatement {
    /// Takes the entry's statement apart: `COPY public.t (a, b) FROM stdin;`, or as [`Entry::load_in_binary`] has it.
    ///
    /// # Errors
    /// [`LoadError::Statement`] when it is not of that form.
    pub fn of(entry: &Entry) -> Result<Self, LoadError> {
        let table = display_name(entry);
        Self::parse(entry, table.clone()).ok_or(LoadError::Statement { table })
    }

    fn parse(entry: &Entry, table: String) -> Option<Self> {
        let text = entry.copy_stmt.as_deref()?.trim_ascii().strip_suffix(b";")?;
        let format = entry.row_format();
        let text = match format {
            RowFormat::Text => text,
            RowFormat::Binary => text.strip_suffix(b" WITH (FORMAT binary)")?,
        };
        let body = text.strip_prefix(b"COPY ")?.strip_suffix(b"FROM stdin")?.trim_ascii();
        let (_, rest) = take_identifier(body)?;
        let (_, columns) = take_identifier(rest.strip_prefix(b".")?)?;
        let into = body[..body.len() - columns.len()].to_vec();
        let columns = columns.trim_ascii().to_vec();
        let listed = columns.starts_with(b"(") && columns.ends_with(b")");
        let relation = qualified(entry);
        (columns.is_empty() || listed).then_some(Self { table, into, relation, columns, format })
    }

    /// Returns the table's name for messages, with what is not UTF-8 replaced.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Returns how its rows are written.
    #[must_use]
    pub const fn format(&self) -> RowFormat {
        self.format
    }

    /// Returns the relation that the rows are loaded into, as the archive writes it: the table, or for partitions that pg_dump
    /// loads through their root (a hash of an enum, which depends on OIDs) the root.
    ///
    /// Rows loaded through a root may come back in another partition. So tables of which this is equal are compared by the
    /// sum of their digests, all taken in one order of columns ([`Self::order_to`]), and emptied all or none.
    #[must_use]
    pub fn loaded_into(&self) -> &[u8] {
        &self.into
    }

    /// Returns the statement that loads the same rows through `root`, a table that this one is a partition of.
    #[must_use]
    pub fn through(&self, root: &[u8]) -> Self {
        Self { into: root.to_vec(), ..self.clone() }
    }

    /// Returns how this table's rows become rows in the columns' order of `other`; none if they are in it, or if the columns
    /// are not the same.
    #[must_use]
    pub fn order_to(&self, other: &Self) -> Option<ColumnOrder> {
        ColumnOrder::between(&self.columns, &other.columns)
    }

    /// Returns the same table with its columns in the order of `other`, to be read back so.
    #[must_use]
    pub fn in_order_of(&self, other: &Self) -> Self {
        Self { columns: other.columns.clone(), ..self.clone() }
    }

    /// Returns the statement that loads rows, but for its last words.
    fn load(&self) -> Vec<u8> {
        [b"COPY ", self.into.as_slice(), b" ", self.columns.as_slice()].concat()
    }

    /// Returns the query of the same columns of the same table, without its children, and of an extension's configuration
    /// table only the rows that are dumped.
    pub(crate) fn select(&self, condition: Option<&[u8]>) -> Vec<u8> {
        let columns = self
            .columns
            .strip_prefix(b"(")
            .and_then(|list| list.strip_suffix(b")"))
            .unwrap_or_default();
        let condition = condition.unwrap_or_default();
        [b"SELECT ", columns, b" FROM ONLY ", &self.relation, b" ", condition].concat()
    }
}

fn display_name(entry: &Entry) -> String {
    let text = |bytes: &Option<Vec<u8>>| {
        String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
    };
    format!("{}.{}", text(&entry.namespace), text(&entry.tag))
}

/// The entry's own table: of a partition that is loaded through its root, the COPY names the root.
pub(super) fn qualified(entry: &Entry) -> Vec<u8> {
    let quoted = |bytes: &Option<Vec<u8>>| quoted(bytes.as_deref().unwrap_or_default());
    [quoted(&entry.namespace), quoted(&entry.tag)].join(&b'.')
}

/// A quoted identifier in whatever encoding the name is.
pub(super) fn quoted(name: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for byte in name {
        out.push(*byte);
        if *byte == b'"' {
            out.push(b'"');
        }
    }
    out.push(b'"');
    out
}

/// Returns the rows of a slice: of the first one of a member without [`RowFormat::head`], of the last without
/// [`RowFormat::tail`], which must be there.
///
/// # Errors
/// [`LoadError::Torn`] when they are not; its member is cut short or is no table's.
pub fn rows_of_slice(slice: &Bytes, ends: Ends, table: &CopyStatement) -> Result<Bytes, LoadError> {
    let (head, tail) = (table.format.head(), table.format.tail());
    let (head, tail) = (if ends.first { head } else { b"" }, if ends.last { tail } else { b"" });
    let rows = slice.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
    let rows = rows.filter(|rows| {
        table.format == RowFormat::Binary || rows.is_empty() || rows.ends_with(b"\n")
    });
    let rows = rows.ok_or_else(|| LoadError::Torn { table: table.table.clone() })?;
    Ok(slice.slice_ref(rows))
}

/// One connection to the database being restored.
#[derive(Debug)]
pub struct Loader {
    pub(super) session: Session,
    encoding: String,
    /// The session's own encoding: UTF-8, but the archive's while binary rows are loaded.
    spoken: String,
}

const UTF8: &str = "UTF8";

impl Loader {
    /// Connects and pins the session. `archive` says in which encoding names and rows are.
    ///
    /// # Errors
    /// [`LoadError::Connect`]; [`LoadError::Refused`] when a setting cannot be pinned.
    pub async fn connect(
        target: &ConnectOptions,
        archive: &Archive,
        pins: &Pins,
    ) -> Result<Self, LoadError> {
        let session = connect(target).await?;
        // Statements are always sent in UTF-8; COPY itself is told the encoding of its rows.
        let pins = format!(
            "SET client_encoding TO 'UTF8';\nSET synchronous_commit TO off;\n{}",
            pins.as_sql()
        );
        session
            .batch_execute(&pins)
            .await
            .map_err(|e| LoadError::refused("the pinned settings", Refusal::told(&e)))?;
        Ok(Self { session, encoding: archive_encoding(archive), spoken: UTF8.to_owned() })
    }

    /// Makes `encoding` the session's own.
    async fn speak(&mut self, encoding: &str) -> Result<(), LoadError> {
        if self.spoken != encoding {
            let refused = |e| LoadError::refused("the session's encoding", Refusal::told(&e));
            let set = format!("SET client_encoding TO {}", literal(encoding));
            self.session.batch_execute(&set).await.map_err(refused)?;
            encoding.clone_into(&mut self.spoken);
        }
        Ok(())
    }

    /// Begins to load rows. Several loaders may load slices of one table at the same time.
    ///
    /// Each COPY is a transaction of its own. The server says what it thinks of the rows only at its end, so end one after
    /// a bounded number of bytes rather than stream a whole large table through it.
    ///
    /// # Errors
    /// [`LoadError::Refused`] when the table is not there or may not be written; [`LoadError::Name`].
    pub async fn copy_in<'a>(
        &'a mut self,
        table: &'a CopyStatement,
    ) -> Result<CopyIn<'a>, LoadError> {
        self.speak(UTF8).await?;
        let statement = self.statement(table.load(), &table.table).await?;
        let options = match table.format {
            RowFormat::Text => format!("ENCODING {}", literal(&self.encoding)),
            // Their texts are in the client's encoding, whatever COPY is told.
            RowFormat::Binary => {
                self.speak(&self.encoding.clone()).await?;
                "FORMAT binary".to_owned()
            }
        };
        let sql = format!("{statement} FROM STDIN WITH ({options})");
        let sink = self.session.copy_in(&sql).await.map_err(|e| refused_rows(table, &e))?;
        let mut copy = CopyIn { sink: Box::pin(sink), table };
        copy.send(Bytes::from_static(table.format.head())).await?;
        Ok(copy)
    }

    /// Empties a table of a database that bears our mark: for the re-run of a restore that broke off in it.
    ///
    /// # Errors
    /// [`LoadError::NotOurs`] when the database bears no mark of ours; [`LoadError::Refused`].
    pub async fn empty(&mut self, table: &CopyStatement) -> Result<(), LoadError> {
        self.speak(UTF8).await?;
        let comment = "SELECT pg_catalog.current_database()::text, pg_catalog.shobj_description(oid, 'pg_database') \
                       FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()";
        let row =
            self.session.query_one(comment, &[]).await.map_err(|e| refused_rows(table, &e))?;
        if row.get::<_, Option<&str>>(1).and_then(|text| text.parse::<Mark>().ok()).is_none() {
            return Err(LoadError::NotOurs { database: row.get(0) });
        }
        let statement = [b"TRUNCATE ONLY ", table.relation.as_slice()].concat();
        let sql = self.statement(statement, &table.table).await?;
        self.session.batch_execute(&sql).await.map_err(|e| refused_rows(table, &e))
    }

    /// Returns a statement in UTF-8; the server converts it if it is in another encoding and not plain ASCII.
    pub(super) async fn statement(&self, bytes: Vec<u8>, of: &str) -> Result<String, LoadError> {
        utf8_statement(&self.session, bytes, &self.encoding, of).await
    }
}

/// A statement in the archive's encoding, as the driver needs it; `of` is the table for messages.
pub(crate) async fn utf8_statement(
    session: &Session,
    bytes: Vec<u8>,
    encoding: &str,
    of: &str,
) -> Result<String, LoadError> {
    let no_text = || LoadError::Name { table: of.to_owned() };
    let as_is = bytes.is_ascii() || encoding == "UTF8" || encoding == "SQL_ASCII";
    if as_is {
        return String::from_utf8(bytes).map_err(|_| no_text());
    }
    let convert = "SELECT pg_catalog.convert_from($1::bytea, $2::name)";
    let row = session
        .query_one(convert, &[&bytes, &encoding])
        .await
        .map_err(|e| LoadError::refused(format!("table {of}"), Refusal::quiet(&e)))?;
    row.try_get(0).map_err(|_| no_text())
}

fn refused_rows(table: &CopyStatement, error: &tokio_postgres::Error) -> LoadError {
    LoadError::refused(format!("table {}", table.table), Refusal::quiet(error))
}

/// Rows on their way into one table. Dropped without [`CopyIn::finish`], all of them are rolled back.
#[must_use = "rows are kept only by finish()"]
pub struct CopyIn<'a> {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    table: &'a CopyStatement,
}

impl CopyIn<'_> {
    /// Sends rows, and waits while the server is behind: at most a few buffers are in flight. The bytes may end anywhere,
    /// also within a row, and are not copied before the socket's buffer.
    ///
    /// # Errors
    /// [`LoadError::Refused`] when the connection is lost; a refusal of the rows themselves comes with `finish`.
    pub async fn send(&mut self, rows: Bytes) -> Result<(), LoadError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.sink.send(rows).await.map_err(|e| refused_rows(self.table, &e))
    }

    /// Ends the COPY and returns the number of rows by the server's own count; then they are committed.
    ///
    /// # Errors
    /// [`LoadError::Refused`]: none of the rows is kept.
    pub async fn finish(mut self) -> Result<u64, LoadError> {
        if self.table.format == RowFormat::Binary {
            self.send(Bytes::from_static(RowFormat::Binary.tail())).await?;
        }
        self.sink.as_mut().finish().await.map_err(|e| refused_rows(self.table, &e))
    }
}

impl std::fmt::Debug for CopyIn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyIn").field("table", &self.table.table).finish_non_exhaustive()
    }
}

/// Gathers the planner's statistics, which no archive before PostgreSQL 18 holds; and, since it commits synchronously,
/// makes everything loaded before it durable. Tables with foreign partitions are left out: their servers need not be there, and
/// must not be asked by a rehearsal. Returns which tables refused, and why: they are whole all the same.
///
/// # Errors
/// [`LoadError::Connect`], [`LoadError::Refused`] if the tables cannot be listed.
pub async fn analyze(target: &ConnectOptions, pins: &Pins) -> Result<Vec<String>, LoadError> {
    let session = connect(target).await?;
    let refused = |e: tokio_postgres::Error| LoadError::refused("ANALYZE", Refusal::quiet(&e));
    session.batch_execute(&pins.as_sql()).await.map_err(refused)?;
    session.batch_execute("SET synchronous_commit TO on").await.map_err(refused)?;
    let mut left = Vec::new();
    for row in session.query(ANALYZED, &[]).await.map_err(refused)? {
        let table: String = row.get(0);
        match session.batch_execute(&format!("ANALYZE {table}")).await {
            Ok(()) => {}
            Err(error) if error.as_db_error().is_some() => {
                left.push(format!("{table} has no statistics: {}", Refusal::quiet(&error)));
            }
            Err(error) => return Err(refused(error)),
        }
    }
    Ok(left)
}

const ANALYZED: &str = "WITH RECURSIVE above (oid) AS (SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
      WHERE c.relkind = 'f' UNION SELECT i.inhparent FROM above JOIN pg_catalog.pg_inherits i ON i.inhrelid = above.oid) \
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND c.oid NOT IN (SELECT oid FROM above) AND (c.relkind <> 'm' OR c.relispopulated) ORDER BY c.oid";

#[cfg(test)]
mod tests {
    use stonekeep_format::archive::Section;

    use super::*;

    fn entry(copy: &str) -> Entry {
        Entry {
            dump_id: 1,
            had_dumper: true,
            table_oid: 0,
            oid: 5,
            tag: Some(b"t\"x".to_vec()),
            desc: Some(b"TABLE DATA".to_vec()),
            section: Section::Data,
            defn: None,
            drop_stmt: None,
            copy_stmt: Some(copy.as_bytes().to_vec()),
            namespace: Some(b"public".to_vec()),
            tablespace: None,
            table_am: None,
            relkind: None,
            owner: None,
            with_oids: None,
            dependencies: vec![],
            file_name: None,
        }
    }

    fn statement(copy: &str) -> Result<CopyStatement, LoadError> {
        CopyStatement::of(&entry(copy))
    }

    #[test]
    fn statement_is_taken_apart_and_put_together_again() {
        let table = statement("COPY public.\"t\"\"x\" (a, \"b c\", \"FROM stdin;\") FROM stdin;\n")
            .expect("a COPY");
        assert_eq!(table.load(), br#"COPY public."t""x" (a, "b c", "FROM stdin;")"#);
        assert_eq!(
            table.select(None),
            br#"SELECT a, "b c", "FROM stdin;" FROM ONLY "public"."t""x" "#
        );
        let bare = statement("COPY public.t  FROM stdin;\n").expect("a COPY without columns");
        assert_eq!(bare.load(), b"COPY public.t ");
        assert_eq!(bare.select(Some(b"WHERE x")), br#"SELECT  FROM ONLY "public"."t""x" WHERE x"#);
    }

    #[test]
    fn strange_statements_are_refused() {
        for bad in [
            "",
            "COPY t (a) FROM stdin;",
            "COPY a.b FROM PROGRAM 'x';",
            "COPY a.b (c) x FROM stdin;",
            "DROP TABLE x;",
        ] {
            assert!(matches!(statement(bad), Err(LoadError::Statement { .. })), "{bad}");
        }
    }

    #[test]
    fn ends_are_taken_where_they_belong_and_must_be_whole() {
        let cut = |copy: &str, bytes: &'static [u8], first, last| {
            let table = statement(copy).expect("a COPY");
            let rows = rows_of_slice(&Bytes::from_static(bytes), Ends { first, last }, &table);
            rows.ok().map(|rows| rows.to_vec())
        };
        let text = |bytes, last| cut("COPY public.t (a) FROM stdin;\n", bytes, true, last);
        assert_eq!(text(b"1\n2\n\\.\n\n\n", true), Some(b"1\n2\n".to_vec()));
        assert_eq!(text(b"\\.\n\n\n", true), Some(vec![]));
        assert_eq!(text(b"1\n", false), Some(b"1\n".to_vec()));
        for torn in [&b""[..], b"1\n", b"1\n\\.\n\n", b"1\\.\n\n\n"] {
            assert_eq!(text(torn, true), None, "{torn:?}");
        }
        let binary = |bytes, first, last| {
            cut("COPY public.t (a) FROM stdin WITH (FORMAT binary);\n", bytes, first, last)
        };
        let whole = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\xff\xff";
        assert_eq!(binary(whole, true, true), Some(whole[19..25].to_vec()));
        assert_eq!(binary(&whole[..25], true, false), Some(whole[19..25].to_vec()));
        assert_eq!(binary(&whole[19..], false, true), Some(whole[19..25].to_vec()));
        assert_eq!(binary(&whole[1..], true, true), None);
        assert_eq!(binary(&whole[..25], true, true), None);
    }
}
