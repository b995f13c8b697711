//! Whether tables that are there already can take a snapshot's rows: asked before one of them is sent.

use stonekeep_format::{
    archive::{Archive, Entry},
    catalog::Table,
};
use tokio_postgres::Row;

use super::{TargetError, open};
use crate::{connect::ConnectOptions, session::Session, sql::identifier};

/// Returns what is in the way of loading the rows of `tables` into the tables of the same names: sentences of objects, none if
/// nothing is. Changes nothing.
///
/// A table must be there with all columns and hold no row, so that it is comparable afterwards. While rows are loaded no trigger
/// fires and no foreign key is looked at. That is sound for a key that the snapshot has as well, between tables that are both
/// loaded; any other is in the way. `archive` is that of the whole snapshot, `selected` what is restored of it; `replica` says
/// whether the role may turn triggers off.
///
/// # Errors
/// [`TargetError`].
pub async fn not_ready(
    target: &ConnectOptions,
    archive: &Archive,
    selected: &Archive,
    tables: &[Table],
    replica: bool,
) -> Result<Vec<String>, TargetError> {
    let session = open(target).await?;
    // Definitions are to be printed as pg_dump has them printed.
    let printing = "SET search_path TO ''; SET quote_all_identifiers TO off";
    let failed = TargetError::refused("pin a session");
    session.batch_execute(printing).await.map_err(failed)?;
    let mut problems = missing_objects(&session, selected).await?;
    for table in tables {
        let name = format!("{}.{}", table.schema, table.name);
        let (Some(schema), Some(relation)) = (table.schema.as_utf8(), table.name.as_utf8()) else {
            problems.push(format!("the name of table {name} is not UTF-8"));
            continue;
        };
        let row = session.query_opt(LOOK, &[&schema, &relation]).await;
        let row = row.map_err(TargetError::refused("describe a table"))?;
        let Some(row) = row else {
            problems.push(format!("there is no table {name}"));
            continue;
        };
        let there: Vec<String> = row.get("columns");
        let lacks = |column: &&stonekeep_format::catalog::Text| {
            column.as_utf8().is_none_or(|column| !there.iter().any(|each| each == column))
        };
        let missing = table.columns.iter().filter(lacks);
        problems.extend(missing.map(|column| format!("table {name} has no column {column}")));
        if holds_rows(&session, schema, relation).await? {
            problems.push(format!("table {name} is not empty"));
        }
        problems.extend(triggers(&row, &name, replica));
        let keys = session.query(KEYS, &[&row.get::<_, u32>("oid")]).await;
        for key in keys.map_err(TargetError::refused("list foreign keys"))? {
            problems.extend(unsound_key(&key, table, archive, tables));
        }
    }
    let objects = selected.entries.iter().any(Entry::is_large_objects);
    if objects && holds_objects(&session).await? {
        problems.push("it holds large objects".to_owned());
    }
    Ok(problems)
}

const LOOK: &str = "SELECT c.oid, ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 \
      AND NOT a.attisdropped AND a.attgenerated = '') AS columns, \
    (SELECT count(*) FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled <> 'D') AS triggers, \
    (SELECT count(*) FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND t.tgenabled IN ('A', 'R')) AS always \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND n.nspname = $1::text::name AND c.relname = $2::text::name";

/// What triggers of the server's own enforce: foreign keys, and keys that are looked at late. Of a partition, those of the tables
/// above it are its own as well.
const KEYS: &str = "SELECT k.conname::text AS name, pg_catalog.pg_get_constraintdef(k.oid) AS definition, n.nspname::text AS schema, \
    c.relname::text AS relation, coalesce(c.relkind = 'p', true) AS partitioned, k.conparentid <> 0 AS inherited \
    FROM pg_catalog.pg_constraint k LEFT JOIN pg_catalog.pg_class c ON c.oid = k.confrelid \
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE k.conrelid = $1 AND (k.contype = 'f' OR (k.contype IN ('u', 'p', 'x') AND k.condeferrable))";

/// Sequences to be set and materialized views to be filled that are not there.
async fn missing_objects(
    session: &Session,
    selected: &Archive,
) -> Result<Vec<String>, TargetError> {
    let mut missing = Vec::new();
    for entry in &selected.entries {
        let kind = match entry.desc.as_deref() {
            Some(b"SEQUENCE SET") => "sequence",
            Some(b"MATERIALIZED VIEW DATA") => "materialized view",
            _ => continue,
        };
        let text = |bytes: &Option<Vec<u8>>| {
            String::from_utf8_lossy(bytes.as_deref().unwrap_or_default()).into_owned()
        };
        let (schema, name) = (text(&entry.namespace), text(&entry.tag));
        let qualified = format!("{}.{}", identifier(&schema), identifier(&name));
        let there = "SELECT pg_catalog.to_regclass($1) IS NOT NULL";
        let row = session.query_one(there, &[&qualified]).await;
        if !row.map_err(TargetError::refused("look for a relation"))?.get::<_, bool>(0) {
            missing.push(format!("there is no {kind} {schema}.{name}"));
        }
    }
    Ok(missing)
}

async fn holds_rows(session: &Session, schema: &str, relation: &str) -> Result<bool, TargetError> {
    let (schema, relation) = (identifier(schema), identifier(relation));
    let query = format!("SELECT EXISTS (SELECT FROM ONLY {schema}.{relation})");
    let row = session.query_one(&query, &[]).await;
    Ok(row.map_err(TargetError::refused("look into a table"))?.get(0))
}

async fn holds_objects(session: &Session) -> Result<bool, TargetError> {
    let query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)";
    let row = session.query_one(query, &[]).await;
    Ok(row.map_err(TargetError::refused("look for large objects"))?.get(0))
}

fn triggers(row: &Row, name: &str, replica: bool) -> Option<String> {
    if row.get::<_, i64>("always") > 0 {
        return Some(format!(
            "a trigger of {name} fires always (ENABLE ALWAYS or REPLICA): disable it"
        ));
    }
    (row.get::<_, i64>("triggers") > 0 && !replica).then(|| {
        format!("table {name} has triggers or foreign keys, which only a superuser can load past")
    })
}

/// A key whose other side is not loaded with it, or that the snapshot has not.
fn unsound_key(key: &Row, of: &Table, archive: &Archive, tables: &[Table]) -> Option<String> {
    let (constraint, definition) = (key.get::<_, &str>("name"), key.get::<_, &str>("definition"));
    let other = (key.get::<_, Option<&str>>("schema"), key.get::<_, Option<&str>>("relation"));
    let name = format!("{}.{}", of.schema, of.name);
    let is_loaded = |table: &Table| (table.schema.as_utf8(), table.name.as_utf8()) == other;
    // The rows of a partitioned table are in its partitions, which come with it.
    if !key.get::<_, bool>("partitioned") && !tables.iter().any(is_loaded) {
        let (schema, relation) = (other.0.unwrap_or_default(), other.1.unwrap_or_default());
        return Some(format!(
            "{constraint} of {name} references {schema}.{relation}, which is not loaded with it"
        ));
    }
    let has_it = |entry: &Entry| {
        // Of a partition's inherited key the entry is that of a table above it.
        let tag = entry.tag.as_deref().unwrap_or_default();
        let tag_of = [of.name.0.as_slice(), b" "].concat();
        let is_own = entry.namespace.as_deref() == Some(&of.schema.0) && tag.starts_with(&tag_of);
        let defn = String::from_utf8_lossy(entry.defn.as_deref().unwrap_or_default()).into_owned();
        let defn = defn.trim_end().trim_end_matches(';');
        // A key that the snapshot has not validated says nothing of its rows.
        (is_own || key.get::<_, bool>("inherited"))
            && (defn.ends_with(definition)
                || defn.ends_with(definition.trim_end_matches(" NOT VALID")))
    };
    let is_key =
        |entry: &&Entry| matches!(entry.desc.as_deref(), Some(b"FK CONSTRAINT" | b"CONSTRAINT"));
    let known = archive.entries.iter().filter(is_key).any(has_it);
    (!known).then(|| format!("{constraint} of {name} is a key that the snapshot has not, and is not looked at while rows are loaded"))
}
