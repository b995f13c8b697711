//! The databases that drills make on a server they are given, and drop again.
//!
//! This is the only place in the product where `DROP DATABASE` stands. It is said of a database whose name and whose comment
//! both carry the id of one drill, looked up in the session that says it. Never with FORCE: what is in use stays.

use stonekeep_format::ids::SnapshotId;
use tokio_postgres::Row;

use super::{Mark, TargetError, maintenance, open};
use crate::{connect::ConnectOptions, refusal::Refusal, session::Session, sql::identifier};

/// What the names of drills' databases begin with.
const PREFIX: &str = "stonekeep_drill_";

/// Returns the name of the database that a drill makes: `stonekeep_drill_<drill's id in lower case>`.
#[must_use]
pub fn drill_name(drill: &SnapshotId) -> String {
    format!("{PREFIX}{}", drill.as_str().to_ascii_lowercase())
}

/// Drops the database of a drill, and returns whether there was one. Nobody may be connected to it; PostgreSQL waits five
/// seconds for sessions to end.
///
/// # Errors
/// [`TargetError::NotTheDrills`] when its comment is not the drill's; a database in use is a refusal of kind Conflict.
pub async fn drop_drill_database(
    server: &ConnectOptions,
    drill: &SnapshotId,
) -> Result<bool, TargetError> {
    let name = drill_name(drill);
    let session = maintenance(server, &[&name]).await?;
    let query = "SELECT datname::text, pg_catalog.shobj_description(oid, 'pg_database') \
                 FROM pg_catalog.pg_database WHERE datname = $1::text::name";
    let row = session.query_opt(query, &[&name]).await;
    match row.map_err(TargetError::refused("look for the drill's database"))? {
        None => Ok(false),
        Some(row) if drill_of(&row).as_ref() == Some(drill) => {
            let dropped = drop_database(&session, &name).await;
            dropped.map(|()| true).map_err(|refusal| refused(&name, refusal))
        }
        Some(_) => Err(TargetError::NotTheDrills { name }),
    }
}

/// Drops what drills that began before `older_than` (it may be this drill's own id) have left on the server, and returns the
/// names. A database in which a session is belongs to a drill at work elsewhere, and is left; so is one of another role's.
///
/// # Errors
/// [`TargetError`].
pub async fn sweep_drill_databases(
    server: &ConnectOptions,
    older_than: &SnapshotId,
) -> Result<Vec<String>, TargetError> {
    let session = maintenance(server, &[]).await?;
    let rows = session.query(LEFT, &[]).await;
    let mut dropped = Vec::new();
    for row in rows.map_err(TargetError::refused("list what drills have left"))? {
        // Ids are in the order of time.
        let Some(drill) = drill_of(&row).filter(|drill| drill < older_than) else { continue };
        let name = drill_name(&drill);
        match drop_database(&session, &name).await {
            Ok(()) => dropped.push(name),
            // Somebody has connected, or another sweep was first.
            Err(refusal) if matches!(refusal.sqlstate(), Some("55006" | "3D000")) => {}
            Err(refusal) => return Err(refused(&name, refusal)),
        }
    }
    Ok(dropped)
}

/// Databases that may be a drill's, that nobody uses, and that we may drop.
const LEFT: &str = "SELECT d.datname::text, pg_catalog.shobj_description(d.oid, 'pg_database') FROM pg_catalog.pg_database d \
    WHERE pg_catalog.starts_with(d.datname::text, 'stonekeep_drill_') AND pg_catalog.pg_has_role(d.datdba, 'USAGE') \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid) ORDER BY 1";

/// The drill whose database it is, if name and comment agree on it.
fn drill_of(row: &Row) -> Option<SnapshotId> {
    named(row.get(0), row.get(1))
}

fn named(name: &str, comment: Option<&str>) -> Option<SnapshotId> {
    let drill = comment?.parse::<Mark>().ok()?.drill?;
    (drill_name(&drill) == name).then_some(drill)
}

async fn drop_database(session: &Session, name: &str) -> Result<(), Refusal> {
    let dropped = session.batch_execute(&format!("DROP DATABASE {}", identifier(name))).await;
    dropped.map_err(|error| Refusal::told(&error))
}

fn refused(name: &str, refusal: Refusal) -> TargetError {
    TargetError::Refused { what: format!("drop database {name:?}"), refusal }
}

/// A session that does nothing in a drill's database, so that a sweep from elsewhere leaves it. It ends when dropped; the server
/// takes a moment to notice, for which [`drop_drill_database`] waits.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "it is there to be open")] Session);

/// Holds the database named in `target` until the value is dropped.
///
/// # Errors
/// [`TargetError`].
pub async fn hold_database(target: &ConnectOptions) -> Result<Held, TargetError> {
    let session = open(target).await?;
    // PostgreSQL 14 and later can end sessions that do nothing.
    let stay = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'idle_session_timeout'";
    session.batch_execute(stay).await.map_err(TargetError::refused("keep a session open"))?;
    Ok(Held(session))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRILL: &str = "01BRZ3NDEKTSV4RRFFQ69G5FAV";
    const SNAPSHOT: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    #[test]
    fn only_a_name_and_a_comment_of_one_drill_make_it_a_drills_database() {
        let name = drill_name(&DRILL.parse().expect("a ULID"));
        assert_eq!(name, "stonekeep_drill_01brz3ndektsv4rrffq69g5fav");
        let mark = format!("stonekeep drill {DRILL} {SNAPSHOT} rows");
        assert_eq!(named(&name, Some(&mark)).map(String::from).as_deref(), Some(DRILL));
        assert_eq!(named("shop", Some(&mark)), None, "renamed by somebody");
        assert_eq!(named(&name, None), None);
        assert_eq!(named(&name, Some("our drills")), None);
        let other = format!("stonekeep drill {SNAPSHOT} {SNAPSHOT} rows");
        assert_eq!(named(&name, Some(&other)), None, "of another drill");
        let restore = format!("stonekeep restore {DRILL} rows");
        assert_eq!(named(&name, Some(&restore)), None, "a person's restore");
    }
}
