//! Reading a restored database back, to compare it with what the snapshot's catalog says.
//!
//! Rows are printed by COPY under the same rules as when they were dumped and folded into the same digests; sequences,
//! indexes, constraints and materialized views are listed. The comparison itself is the engine's. This only reads.

use std::collections::BTreeSet;

use stonekeep_format::{
    ErrorKind,
    archive::{Archive, RowFormat},
    catalog::{SequenceValue, Text},
    digest::{ContentDigester, LargeObjectDigest, RowDigest, RowDigestKey, RowDigester},
};
use tokio_postgres::Client;

use crate::{
    connect::{ConnectError, ConnectOptions, connect},
    load::{CopyStatement, LoadError, Pins, archive_encoding, utf8_statement},
    objects::{self, Found},
    refusal::Refusal,
    rows::{Rows, RowsError},
    session::Session,
    sql::literal,
};

/// Why a database could not be read back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// No session.
    #[error("cannot connect to the restored database")]
    Connect(#[from] ConnectError),
    /// The server refused, or the connection was lost.
    #[error("cannot read {what} back for comparison: {refusal}")]
    Refused {
        /// A table, or large objects, or a list.
        what: String,
        /// The server's refusal.
        refusal: Refusal,
    },
    /// Rows did not come.
    #[error("cannot read rows back for comparison")]
    Rows(#[from] RowsError),
    /// A table's name or statement cannot be used.
    #[error("cannot say which rows to compare")]
    Statement(#[source] LoadError),
}

impl CompareError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(error) => error.kind(),
            Self::Refused { refusal, .. } => refusal.kind(),
            Self::Rows(error) => error.kind(),
            Self::Statement(error) => error.kind(),
        }
    }

    /// Whether what was to be read is not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        // undefined_table, invalid_schema_name
        matches!(self, Self::Refused { refusal, .. } if matches!(refusal.sqlstate(), Some("42P01" | "3F000")))
    }

    fn refused(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |error| Self::Refused { what: what.into(), refusal: Refusal::quiet(&error) }
    }
}

/// How values are printed, whatever the database's, the role's or the server's settings are. The same as when dumping.
pub(crate) const PRINTING: &str = "SET client_encoding TO 'UTF8'; SET DateStyle TO 'ISO'; SET IntervalStyle TO 'postgres'; \
     SET TimeZone TO 'UTC'; SET extra_float_digits TO 3; SET bytea_output TO 'hex'; SET row_security TO off; \
     SET synchronize_seqscans TO off";
/// Names are written with their schemas.
const NAMING: &str = "SET search_path TO ''";

/// Bytes of a large object read at once: 256 KiB.
const CONTENT_BYTES: i32 = 256 << 10;
/// Large objects read by one query. With [`CONTENT_BYTES`]: at most 16 MiB in memory.
const OBJECTS_AT_ONCE: i64 = 64;
/// Sequences read by one query.
const SEQUENCES_AT_ONCE: usize = 200;

/// A session that reads back.
#[derive(Debug)]
pub struct Comparer {
    session: Session,
    encoding: String,
}

impl Comparer {
    /// Connects to the restored database. `archive` says in which encoding rows were printed.
    ///
    /// # Errors
    /// [`CompareError`].
    pub async fn connect(
        target: &ConnectOptions,
        archive: &Archive,
        pins: &Pins,
    ) -> Result<Self, CompareError> {
        let session = connect(target).await?;
        for rules in [pins.as_sql().as_str(), PRINTING, NAMING] {
            session.batch_execute(rules).await.map_err(CompareError::refused("settings"))?;
        }
        Ok(Self { session, encoding: archive_encoding(archive) })
    }

    /// Returns the digest of a table's rows (of an extension's configuration table those that meet `condition`), without
    /// those of its children.
    ///
    /// # Errors
    /// [`CompareError`].
    pub async fn digest_table(
        &mut self,
        table: &CopyStatement,
        condition: Option<&[u8]>,
        key: &RowDigestKey,
    ) -> Result<RowDigest, CompareError> {
        let select =
            utf8_statement(&self.session, table.select(condition), &self.encoding, table.table())
                .await;
        let select = select.map_err(CompareError::Statement)?;
        let refused = || CompareError::refused(format!("table {}", table.table()));
        let format = table.format();
        let encoding = literal(&self.encoding);
        let options = match format {
            RowFormat::Text => format!("ENCODING {encoding}"),
            // Their texts are in the client's encoding, whatever COPY is told.
            RowFormat::Binary => {
                let set = format!("SET client_encoding TO {encoding}");
                self.session.batch_execute(&set).await.map_err(refused())?;
                "FORMAT binary".to_owned()
            }
        };
        let sql = format!("COPY ({select}) TO STDOUT WITH ({options})");
        let stream = self.session.copy_out(&sql).await.map_err(refused())?;
        let mut rows = Rows::new(stream, table.table().to_owned(), format);
        let mut digester = RowDigester::new(key);
        while let Some(row) = rows.next().await? {
            digester.add(&row);
        }
        if format == RowFormat::Binary {
            self.session.batch_execute("SET client_encoding TO 'UTF8'").await.map_err(refused())?;
        }
        Ok(digester.finish())
    }

    /// Returns the digest of all large objects.
    ///
    /// # Errors
    /// [`CompareError`].
    pub async fn digest_large_objects(
        &mut self,
        key: &RowDigestKey,
    ) -> Result<LargeObjectDigest, CompareError> {
        let query = "SELECT m.oid, pg_catalog.lo_get(m.oid, 0, $3) FROM \
                     (SELECT oid FROM pg_catalog.pg_largeobject_metadata WHERE oid > $1 ORDER BY oid LIMIT $2) m";
        let refused = || CompareError::refused("large objects");
        let (mut total, mut last) = (LargeObjectDigest::default(), 0_u32);
        loop {
            let args: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&last, &OBJECTS_AT_ONCE, &CONTENT_BYTES];
            let rows = self.session.query(query, &args).await.map_err(refused())?;
            for row in &rows {
                let (oid, head) = (row.get::<_, u32>(0), row.get::<_, &[u8]>(1));
                last = last.max(oid);
                total = total.merge(self.digest_large_object(oid, head, key).await?);
            }
            if rows.is_empty() {
                return Ok(total);
            }
        }
    }

    async fn digest_large_object(
        &self,
        oid: u32,
        head: &[u8],
        key: &RowDigestKey,
    ) -> Result<LargeObjectDigest, CompareError> {
        let mut digester = ContentDigester::new(key, oid);
        digester.add(head);
        let (mut full, mut offset) = (is_full(head), i64::from(CONTENT_BYTES));
        while full {
            let more = "SELECT pg_catalog.lo_get($1::oid, $2::int8, $3::int4)";
            let row = self.session.query_one(more, &[&oid, &offset, &CONTENT_BYTES]).await;
            let row = row.map_err(CompareError::refused(format!("large object {oid}")))?;
            let content: &[u8] = row.get(0);
            digester.add(content);
            full = is_full(content);
            offset += i64::from(CONTENT_BYTES);
        }
        Ok(digester.finish())
    }

    /// Returns the value of every sequence that is not an extension's own, in no order.
    ///
    /// # Errors
    /// [`CompareError`].
    pub async fn sequence_values(&mut self) -> Result<Vec<SequenceValue>, CompareError> {
        let refused = || CompareError::refused("sequences");
        let rows = self.session.query(SEQUENCES, &[&self.encoding]).await.map_err(refused())?;
        let mut values = Vec::with_capacity(rows.len());
        for some in rows.chunks(SEQUENCES_AT_ONCE) {
            let read = |(at, row): (usize, &tokio_postgres::Row)| {
                format!("SELECT {at}::int8, last_value, is_called FROM {}", row.get::<_, &str>(2))
            };
            let union: Vec<String> = some.iter().enumerate().map(read).collect();
            for value in
                self.session.query(&union.join(" UNION ALL "), &[]).await.map_err(refused())?
            {
                let named =
                    usize::try_from(value.get::<_, i64>(0)).ok().and_then(|at| some.get(at));
                values.extend(named.map(|row| SequenceValue {
                    schema: Text(row.get(0)),
                    name: Text(row.get(1)),
                    last_value: value.get(1),
                    is_called: value.get(2),
                }));
            }
        }
        Ok(values)
    }

    /// Returns what is not as it should be; see [`object_states`].
    ///
    /// # Errors
    /// [`CompareError`].
    pub async fn object_states(&mut self) -> Result<ObjectStates, CompareError> {
        object_states(&self.session).await.map_err(lists)
    }
}

impl Comparer {
    /// Lists the database's objects; see [`objects::found`].
    ///
    /// # Errors
    /// [`CompareError`].
    pub async fn objects(&mut self) -> Result<Vec<Found>, CompareError> {
        objects::found(&self.session, &self.encoding).await.map_err(lists)
    }

    /// Returns those of the roles that the server has; see [`objects::roles_of`].
    ///
    /// # Errors
    /// [`CompareError`].
    pub async fn roles(&mut self, names: &[&Text]) -> Result<BTreeSet<Text>, CompareError> {
        objects::roles_of(&self.session, names).await.map_err(lists)
    }

    /// Returns the version that the database's own collation has in the operating system or ICU, if that tells one
    /// (PostgreSQL 15 and later).
    ///
    /// # Errors
    /// [`CompareError`].
    pub async fn collation_version(&mut self) -> Result<Option<String>, CompareError> {
        let row = self.session.query_one(COLLATION_VERSION, &[]).await;
        Ok(row.map_err(|error| lists(Refusal::told(&error)))?.get(0))
    }
}

fn lists(refusal: Refusal) -> CompareError {
    CompareError::Refused { what: "lists".to_owned(), refusal }
}

fn is_full(content: &[u8]) -> bool {
    i32::try_from(content.len()).is_ok_and(|bytes| bytes == CONTENT_BYTES)
}

/// Through JSON, since a column that is not there could not be named.
const COLLATION_VERSION: &str = "SELECT pg_catalog.to_jsonb(d) ->> 'datcollversion' FROM pg_catalog.pg_database d \
     WHERE d.datname = pg_catalog.current_database()";

const SEQUENCES: &str = "SELECT pg_catalog.convert_to(n.nspname::text, $1::text::name), \
     pg_catalog.convert_to(c.relname::text, $1::text::name), pg_catalog.format('%I.%I', n.nspname, c.relname) \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// Returns the values that the archive's SEQUENCE SET entries give: `SELECT pg_catalog.setval('s', 5, true);`. An entry
/// that cannot be understood is left out.
#[must_use]
pub fn archive_sequences(archive: &Archive) -> Vec<SequenceValue> {
    let set = archive.entries.iter().filter(|entry| entry.desc.as_deref() == Some(b"SEQUENCE SET"));
    set.filter_map(|entry| {
        let (last_value, is_called) = set_value(entry.defn.as_deref()?)?;
        let text = |bytes: &Option<Vec<u8>>| Text(bytes.clone().unwrap_or_default());
        Some(SequenceValue {
            schema: text(&entry.namespace),
            name: text(&entry.tag),
            last_value,
            is_called,
        })
    })
    .collect()
}

/// The two arguments after the name, which may hold anything: so from the end.
fn set_value(defn: &[u8]) -> Option<(i64, bool)> {
    let text = String::from_utf8_lossy(defn);
    let body = text.trim_end().strip_suffix(");")?;
    let (rest, called) = body.rsplit_once(", ")?;
    let (_, value) = rest.rsplit_once(", ")?;
    Some((value.parse().ok()?, called.parse().ok()?))
}

/// What a comparison finds unfinished. A source may have such as well, so it is compared with the source's, not with none.
/// Names are `schema.name` as PostgreSQL quotes them, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectStates {
    /// Indexes that are not valid. pg_dump leaves such out.
    pub invalid_indexes: Vec<String>,
    /// Constraints, of tables or domains, that are not validated: `name ON table`.
    pub unvalidated_constraints: Vec<String>,
    /// Materialized views without content.
    pub unpopulated_views: Vec<String>,
}

/// Lists what is not valid, not validated or not populated in the database of `client`.
///
/// # Errors
/// The server's refusal; it can hold no row.
pub async fn object_states(client: &Client) -> Result<ObjectStates, Refusal> {
    Ok(ObjectStates {
        invalid_indexes: listed(client, INVALID_INDEXES).await?,
        unvalidated_constraints: listed(client, UNVALIDATED).await?,
        unpopulated_views: listed(client, UNPOPULATED).await?,
    })
}

async fn listed(client: &Client, query: &str) -> Result<Vec<String>, Refusal> {
    // As bytes of UTF-8, whatever the session's encoding.
    let encoding =
        "CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END";
    let query = format!(
        "SELECT pg_catalog.convert_to(q.name, {encoding}) FROM ({query}) AS q(name) ORDER BY 1"
    );
    let rows = client.query(&query, &[]).await.map_err(|error| Refusal::told(&error))?;
    Ok(rows.iter().map(|row| String::from_utf8_lossy(row.get(0)).into_owned()).collect())
}

const INVALID_INDEXES: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_index i \
     JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE NOT (i.indisvalid AND i.indisready) AND n.nspname !~ '^pg_'";
const UNVALIDATED: &str = "SELECT pg_catalog.format('%I ON %s', k.conname, \
     CASE WHEN k.conrelid <> 0 THEN pg_catalog.format('%I.%I', n.nspname, c.relname) \
     ELSE pg_catalog.format('%I.%I', m.nspname, t.typname) END) FROM pg_catalog.pg_constraint k \
     LEFT JOIN pg_catalog.pg_class c ON c.oid = k.conrelid LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     LEFT JOIN pg_catalog.pg_type t ON t.oid = k.contypid LEFT JOIN pg_catalog.pg_namespace m ON m.oid = t.typnamespace \
     WHERE NOT k.convalidated";
const UNPOPULATED: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND NOT c.relispopulated";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_values_are_read_from_the_end_of_setval() {
        assert_eq!(set_value(b"SELECT pg_catalog.setval('public.s', 5, true);\n"), Some((5, true)));
        assert_eq!(
            set_value(b"SELECT pg_catalog.setval('public.\"a, 1, b\"', -7, false);\n"),
            Some((-7, false))
        );
        assert_eq!(set_value(b"SELECT 1;"), None);
    }
}
