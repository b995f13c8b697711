//! The objects of a database, as its server lists them: what a dump is to bring back, asked of somebody else than pg_dump.
//!
//! The same question is asked in the snapshot of a backup and of a restored database, so that what is missing from pg_dump's
//! table of contents is missed. Only what is there is listed, never how it is defined. The comparison is the engine's.

use std::collections::BTreeSet;

use stonekeep_format::catalog::{CatalogObject, Objects, Text};
use tokio_postgres::{Client, Row};

use crate::refusal::Refusal;

/// Some 20 000 objects take 0.3 s.
const OBJECTS: &str = include_str!("objects.sql");

/// The kind under which roles stand that own something or were granted something.
pub const ROLE: &str = "role";

/// Every other kind that is listed.
pub const KINDS: [&str; 38] = [
    "access method",
    "aggregate",
    "cast",
    "collation",
    "constraint",
    "conversion",
    "default",
    "domain",
    "event trigger",
    "extension",
    "foreign data wrapper",
    "foreign server",
    "foreign table",
    "function",
    "index",
    "inheritance",
    "language",
    "materialized view",
    "operator",
    "operator class",
    "operator family",
    "partitioned table",
    "policy",
    "procedure",
    "publication",
    "row security",
    "rule",
    "schema",
    "sequence",
    "statistics",
    "table",
    "text search configuration",
    "text search dictionary",
    "text search parser",
    "text search template",
    "trigger",
    "type",
    "view",
];

/// Kinds whose owner is compared: pg_restore gives it to them as it was.
const OWNED: [&str; 12] = [
    "schema",
    "table",
    "partitioned table",
    "foreign table",
    "view",
    "materialized view",
    "sequence",
    "function",
    "procedure",
    "aggregate",
    "type",
    "domain",
];

/// Lists the objects that a restore of the database must bring back, with names in `encoding`.
///
/// Left out: what is PostgreSQL's own, what an extension's script makes, the schema `public` (every database begins with it, or
/// its owner has dropped it), temporary objects, indexes that are not valid, what comes by itself with something else.
///
/// # Errors
/// The server's refusal; it can hold no row.
pub async fn wanted(client: &Client, encoding: &str) -> Result<Objects, Refusal> {
    let mut objects = Objects::default();
    for found in list(client, encoding, true).await? {
        objects.0.entry(found.kind).or_default().push(found.object);
    }
    Ok(objects)
}

/// An object of a restored database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its kind.
    pub kind: String,
    /// The object.
    pub object: CatalogObject,
    /// Whether a backup of this database would list it.
    pub wanted: bool,
}

/// Lists the objects of a restored database: more than [`wanted`], since what was made by a statement of its own may have come
/// by itself there.
///
/// # Errors
/// The server's refusal; it can hold no row.
pub async fn found(client: &Client, encoding: &str) -> Result<Vec<Found>, Refusal> {
    list(client, encoding, false).await
}

/// Returns which of the roles the server has, whatever they own. Asked for are those with names in ASCII alone: such a name has
/// the same bytes in every encoding.
///
/// # Errors
/// The server's refusal; it can hold no row.
pub async fn roles_of(client: &Client, names: &[&Text]) -> Result<BTreeSet<Text>, Refusal> {
    let ascii = names.iter().filter(|name| name.0.is_ascii()).filter_map(|name| name.as_utf8());
    let query = "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname::text = ANY ($1)";
    let rows = client.query(query, &[&ascii.collect::<Vec<&str>>()]).await;
    let rows = rows.map_err(|error| Refusal::told(&error))?;
    Ok(rows.iter().map(|row| Text::from(row.get::<_, &str>(0))).collect())
}

async fn list(client: &Client, encoding: &str, only_wanted: bool) -> Result<Vec<Found>, Refusal> {
    let rows = client.query(OBJECTS, &[&encoding, &only_wanted]).await;
    let rows = rows.map_err(|error| Refusal::told(&error))?;
    Ok(rows.iter().map(of_row).collect())
}

fn of_row(row: &Row) -> Found {
    let kind: String = row.get(0);
    let owner: Option<Vec<u8>> = row.get(2);
    let object = CatalogObject {
        name: Text(row.get(1)),
        owner: owner.filter(|_| OWNED.contains(&kind.as_str())).map(Text),
        version: row.get(3),
        unfinished: row.get(4),
    };
    Found { kind, object, wanted: row.get(5) }
}
