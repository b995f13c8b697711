//! The tables of a database: which there are, how they are read, and whether they stayed the same while locks were taken.

use std::collections::{BTreeMap, BTreeSet};

use stonekeep_format::{
    archive::{Archive, Entry, RowFormat},
    ids::MemberName,
    slicer::{self, PageRange, page_ranges},
};
use tokio_postgres::Row;

use super::DumpError;
use crate::connect::Session;

/// A table with rows of its own.
#[derive(Debug, Clone)]
pub struct SourceTable {
    /// Its OID.
    pub oid: u32,
    /// Its TABLE DATA entry.
    pub dump_id: i32,
    /// Its schema, in the database's encoding.
    pub schema: Vec<u8>,
    /// Its name, in the database's encoding.
    pub name: Vec<u8>,
    /// The columns that COPY names, in the database's encoding.
    pub columns: Vec<Vec<u8>>,
    /// For an extension's configuration table: which of its rows are dumped.
    pub condition: Option<String>,
    /// Its file in the archive.
    pub member: MemberName,
    /// How its rows are read.
    pub format: RowFormat,
    /// The pages of its slices, if it is read by pages.
    pub slice_pages: u32,
    /// Schema and name, quoted.
    pub(super) sql_name: String,
    sql_columns: String,
    pub(super) pages: u32,
    pub(super) bytes: u64,
    pub(super) is_heap: bool,
    pub(super) encoding: String,
    file: u32,
    has_rows: bool,
    /// Whether pg_dump loads it through the root of its partitions.
    through_root: bool,
}

/// What is kept from a table's last snapshot.
#[derive(Debug, Clone, Copy)]
pub struct PreviousTable {
    /// The pages of its slices.
    pub slice_pages: u32,
    /// How its rows were read.
    pub format: RowFormat,
}

impl SourceTable {
    /// Returns schema and name for people.
    #[must_use]
    pub fn display_name(&self) -> String {
        format!("{}.{}", String::from_utf8_lossy(&self.schema), String::from_utf8_lossy(&self.name))
    }

    /// Returns how long a slice of it may be, in bytes of plaintext.
    #[must_use]
    pub const fn slice_bytes_max(&self) -> usize {
        slicer::slice_bytes_max(self.slice_pages)
    }

    /// Returns the ranges in which the whole table is read.
    #[must_use]
    pub fn ranges(&self) -> Vec<PageRange> {
        page_ranges(PageRange { start: 0, end: None }, self.pages, self.slice_pages).collect()
    }

    /// Keeps the slices that the table had in the last snapshot, unless its size is far from what it was, and the format of
    /// its rows: what was too long for text then is so as a rule again.
    pub(super) fn keep(&mut self, previous: Option<PreviousTable>) {
        let pages = previous.map(|previous| previous.slice_pages);
        self.slice_pages = slicer::slice_pages_kept(self.pages, pages);
        self.format = previous.map_or(RowFormat::Text, |previous| previous.format);
    }

    /// Returns why the rows cannot be had in binary, as far as the table itself tells.
    fn refuses_binary(&self) -> Option<String> {
        if self.through_root {
            return Some("it is a partition that is loaded through its root".to_owned());
        }
        let is_spoken = matches!(self.encoding.as_str(), "UTF8" | "SQL_ASCII");
        let is_ascii = self.sql_name.is_ascii() && self.sql_columns.is_ascii();
        if !is_spoken && !is_ascii {
            let encoding = &self.encoding;
            return Some(format!(
                "its names are not all ASCII in a database of encoding {encoding}"
            ));
        }
        None
    }

    /// Returns the statement that finds the `ctid` of its longest row, by the bytes that are stored of it.
    pub(super) fn largest_row(&self) -> String {
        let size = |column: &Vec<u8>| {
            let quoted = String::from_utf8_lossy(column).replace('"', "\"\"");
            format!("coalesce(pg_catalog.pg_column_size(\"{quoted}\"), 0)::int8")
        };
        let sizes: Vec<String> = self.columns.iter().map(size).collect();
        format!(
            "SELECT ctid::text FROM ONLY {} ORDER BY {} DESC LIMIT 1",
            self.sql_name,
            sizes.join(" + ")
        )
    }

    /// Returns the statement that prints its rows, or those of some pages. `ONLY`, or the rows of inheritance children would
    /// come twice; columns by name, since their order may differ when restored.
    pub(super) fn copy_out(&self, pages: Option<PageRange>, format: RowFormat) -> String {
        let options = match format {
            RowFormat::Text => format!("TO STDOUT (ENCODING '{}')", self.encoding),
            RowFormat::Binary => "TO STDOUT (FORMAT binary)".to_owned(),
        };
        let columns = if self.sql_columns.is_empty() { "" } else { &self.sql_columns };
        let filter = match (pages, &self.condition) {
            (None, None) if columns.is_empty() => {
                return format!("COPY {} {options}", self.sql_name);
            }
            (None, None) => return format!("COPY {} ({columns}) {options}", self.sql_name),
            (None, Some(condition)) => condition.clone(),
            (Some(range), _) => {
                let end = range
                    .end
                    .map_or_else(String::new, |end| format!(" AND ctid < '({end},0)'::tid"));
                format!("WHERE ctid >= '({},0)'::tid{end}", range.start)
            }
        };
        format!("COPY (SELECT {columns} FROM ONLY {} {filter}) {options}", self.sql_name)
    }
}

/// A column whose binary form holds OIDs, which are others in another database, or that has no binary form. Arrays and
/// composites hold those of their elements' types; below 10000 they are assigned by hand and the same everywhere.
const UNSAFE_COLUMN: &str = "WITH RECURSIVE part (attnum, name, type, depth) AS (\
      SELECT a.attnum, a.attname::text, a.atttypid, 0 FROM pg_catalog.pg_attribute a \
      WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
    UNION ALL SELECT p.attnum, p.name, inner_type.oid, p.depth + 1 FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.type, \
      LATERAL (SELECT t.typbasetype WHERE t.typtype = 'd' UNION ALL SELECT t.typelem WHERE t.typelem <> 0 AND t.typlen = -1 AND t.typtype = 'b' \
        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid) AS inner_type (oid) WHERE p.depth < 16) \
    SELECT p.name, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.type \
      JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = p.attnum \
    WHERE t.typtype IN ('c', 'p', 'm') OR t.typsend = 0 OR t.typreceive = 0 \
      OR (t.typnamespace = 'pg_catalog'::regnamespace AND t.typname LIKE 'reg%') \
      OR (t.typelem >= 10000 AND t.typlen = -1 AND t.typtype = 'b') ORDER BY p.attnum LIMIT 1";

/// Returns why the rows of a table cannot be had in binary, or not be restored from it.
pub(super) async fn refuses_binary(
    session: &Session,
    table: &SourceTable,
) -> Result<Option<String>, DumpError> {
    if let Some(why) = table.refuses_binary() {
        return Ok(Some(why));
    }
    let column = session.query_opt(UNSAFE_COLUMN, &[&table.oid]).await;
    Ok(column.map_err(|error| DumpError::told(&error))?.map(|row| {
        let (column, of_type) = (row.get::<_, &str>(0), row.get::<_, &str>(1));
        format!("column {column} is of type {of_type}, whose binary form holds numbers of this server's own")
    }))
}

/// Tables with rows (and partitioned ones, to be locked like pg_dump does), without an extension's own except its
/// configuration tables. The size of a table that is dropped meanwhile is unknown: the list is made again then.
const LIST: &str = "SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, pg_catalog.format('%I.%I', n.nspname, c.relname) AS sql_name, \
    c.relkind = 'r' AS has_rows, coalesce(am.amname = 'heap', false) AS is_heap, coalesce(pg_catalog.pg_relation_filenode(c.oid), 0) AS file, \
    CASE WHEN c.relkind = 'r' THEN coalesce(pg_catalog.pg_relation_size(c.oid), 0) ELSE 0 END AS heap, \
    CASE WHEN c.relkind = 'r' AND c.reltoastrelid <> 0 THEN coalesce(pg_catalog.pg_relation_size(c.reltoastrelid), 0) ELSE 0 END AS toast, \
    current_setting('block_size')::bigint AS block, current_setting('server_encoding') AS encoding, \
    coalesce((SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a \
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''), '') AS sql_columns, \
    ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
      AND a.attgenerated = '' ORDER BY a.attnum) AS columns, \
    e.condition \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam \
    LEFT JOIN (SELECT u.tbl, u.condition FROM pg_catalog.pg_extension x, LATERAL unnest(x.extconfig, x.extcondition) u(tbl, condition)) e ON e.tbl = c.oid \
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND (e.tbl IS NOT NULL OR NOT EXISTS (SELECT FROM pg_catalog.pg_depend d \
      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')) ORDER BY c.oid";

/// Lists the tables that `session` sees.
pub(super) async fn list(session: &Session) -> Result<Vec<SourceTable>, DumpError> {
    let rows = session.query(LIST, &[]).await.map_err(|error| DumpError::told(&error))?;
    rows.iter().map(table).collect()
}

fn table(row: &Row) -> Result<SourceTable, DumpError> {
    let oid: u32 = row.get("oid");
    let bad_name = |_| DumpError::Name { oid };
    let text = |column: &str| row.try_get::<_, String>(column).map_err(bad_name);
    let size = |column: &str| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    let columns: Vec<String> = row.try_get("columns").map_err(bad_name)?;
    let condition: Option<String> = row.try_get("condition").map_err(bad_name)?;
    let pages = u32::try_from(size("heap") / size("block").max(1)).unwrap_or(u32::MAX);
    Ok(SourceTable {
        oid,
        dump_id: 0,
        schema: text("schema")?.into_bytes(),
        name: text("name")?.into_bytes(),
        columns: columns.into_iter().map(String::into_bytes).collect(),
        condition: condition.filter(|condition| !condition.is_empty()),
        member: stonekeep_format::archive::table_member(oid),
        format: RowFormat::Text,
        slice_pages: slicer::slice_pages(pages),
        sql_name: text("sql_name")?,
        sql_columns: text("sql_columns")?,
        pages,
        bytes: size("heap") + size("toast"),
        is_heap: row.get("is_heap"),
        file: row.get("file"),
        encoding: row.get("encoding"),
        has_rows: row.get("has_rows"),
        through_root: false,
    })
}

impl SourceTable {
    /// Whether it has rows of its own: a partitioned table is only locked.
    pub(super) const fn has_rows(&self) -> bool {
        self.has_rows
    }
}

/// Compares what was locked with what the snapshot sees, and with the files there are now.
pub(super) fn check_unchanged(
    locked: &[SourceTable],
    seen: &[SourceTable],
    now: &[SourceTable],
) -> Result<(), DumpError> {
    let names = |tables: &[SourceTable]| -> BTreeSet<(u32, String)> {
        tables.iter().map(|table| (table.oid, table.sql_name.clone())).collect()
    };
    let files = |tables: &[SourceTable]| -> BTreeMap<u32, u32> {
        tables.iter().map(|table| (table.oid, table.file)).collect()
    };
    if names(locked) != names(seen) {
        return Err(DumpError::Changed {
            what: "tables were created, renamed or dropped while locks were taken".to_owned(),
        });
    }
    let (before, after) = (files(seen), files(now));
    if before.iter().any(|(oid, file)| after.get(oid) != Some(file)) {
        return Err(DumpError::Changed {
            what: "a table was truncated or rewritten while locks were taken".to_owned(),
        });
    }
    Ok(())
}

/// Keeps the tables that pg_dump wants data of, in its order, and says where each was in the list.
pub(super) fn with_entries(
    listed: &[SourceTable],
    archive: &Archive,
) -> Result<(Vec<SourceTable>, BTreeMap<usize, usize>), DumpError> {
    let at: BTreeMap<u32, usize> =
        listed.iter().enumerate().map(|(at, table)| (table.oid, at)).collect();
    let mut tables = Vec::new();
    let mut kept = BTreeMap::new();
    for entry in archive.entries.iter().filter(|entry| entry.is_table_data()) {
        let index = *at.get(&entry.oid).ok_or_else(|| not_locked(entry))?;
        let mut table = listed[index].clone();
        table.dump_id = entry.dump_id;
        table.schema = entry.namespace.clone().unwrap_or_default();
        table.name = entry.tag.clone().unwrap_or_default();
        table.through_root = entry.loads_through_root();
        kept.insert(index, tables.len());
        tables.push(table);
    }
    Ok((tables, kept))
}

fn not_locked(entry: &Entry) -> DumpError {
    let tag = String::from_utf8_lossy(entry.tag.as_deref().unwrap_or_default()).into_owned();
    DumpError::NotLocked { tag, oid: entry.oid }
}
