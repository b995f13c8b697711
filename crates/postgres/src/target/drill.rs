//! The databases that drills make on a server they are given, and drop again.
//!
//! This is the only place in the product where `DROP DATABASE` stands. It is said of a database whose name and whose comment
//! both carry the id of one drill, looked up in the session that says it. Never with FORCE: what others use stays.

use std::time::Duration;

use chrono::TimeDelta;
use stonekeep_format::{catalog::DatabaseProperties, ids::SnapshotId};
use tokio::{sync::Mutex, time::timeout};
use tokio_postgres::Row;

use super::{Mark, TargetError, comment, create_unmarked, maintenance, open};
use crate::{connect::ConnectOptions, refusal::Refusal, session::Session, sql::identifier};

/// What the names of drills' databases begin with.
const PREFIX: &str = "stonekeep_drill_";

/// Returns the name of the database that a drill makes: `stonekeep_drill_<drill's id in lower case>`.
#[must_use]
pub fn drill_name(drill: &SnapshotId) -> String {
    format!("{PREFIX}{}", drill.as_str().to_ascii_lowercase())
}

/// Held while a drill's database is being made, which goes on when nobody waits for it any more. Who drops it waits for that:
/// what is not there yet cannot be dropped.
static MAKING: Mutex<()> = Mutex::const_new(());

/// How long is waited for that (60 s): the copy of an empty database takes a second or some.
const MAKE_DURATION_MAX: Duration = Duration::from_secs(60);

/// Creates the database of the drill that `mark` names as [`super::create_database`] does, and holds it.
///
/// It is held before it is marked, so that no sweep finds it with a mark and without a session. And once begun it is made to its
/// end, also when the returned future is dropped: one without a mark would never be dropped.
///
/// # Errors
/// [`TargetError`], as [`super::create_database`].
pub async fn create_drill_database(
    target: &ConnectOptions,
    name: &str,
    like: &DatabaseProperties,
    mark: &Mark,
) -> Result<Held, TargetError> {
    let making = MAKING.lock().await;
    let (target, name, like, mark) = (target.clone(), name.to_owned(), like.clone(), mark.clone());
    let made = tokio::spawn(async move {
        let _making = making;
        let session = create_unmarked(&target, &name, &like).await?;
        let held = hold_database(&target.with_database(&name)).await;
        // It is marked in any case, to be dropped.
        comment(&session, &name, &mark).await?;
        held
    });
    made.await.map_err(TargetError::Task)?
}

/// How often is looked whether the drill's own sessions have ended (600 times, 50 ms apart, by the server's clock: 30 s): a backend
/// that sorts for an index looks up within a second, one that waits for its disk later.
const LOOKS_MAX: u32 = 600;
const LOOK_AGAIN: &str = "SELECT pg_catalog.pg_sleep(0.05)";

/// Drops the database of a drill, and returns whether there was one. Sessions of our own role in it are ended first: a backend
/// goes on with its statement after its client is gone. Nobody else may be connected to it; PostgreSQL waits five seconds for
/// sessions to end.
///
/// # Errors
/// [`TargetError::NotTheDrills`] when its comment is not the drill's; a database in use is a refusal of kind Conflict.
pub async fn drop_drill_database(
    server: &ConnectOptions,
    drill: &SnapshotId,
) -> Result<bool, TargetError> {
    let name = drill_name(drill);
    // A server that does not come to an end with it will not drop it either, and says so.
    let _made = timeout(MAKE_DURATION_MAX, MAKING.lock()).await;
    let session = maintenance(server, &[&name]).await?;
    let query = "SELECT datname::text, pg_catalog.shobj_description(oid, 'pg_database') \
                 FROM pg_catalog.pg_database WHERE datname = $1::text::name";
    let row = session.query_opt(query, &[&name]).await;
    let Some(row) = row.map_err(TargetError::refused("look for the drill's database"))? else {
        return Ok(false);
    };
    if drill_of(&row).as_ref() != Some(drill) {
        return Err(TargetError::NotTheDrills { name });
    }
    end_own_sessions(&session, &name).await?;
    match drop_database(&session, &name).await {
        Ok(()) => Ok(true),
        // The sweep of another drill was first.
        Err(refusal) if refusal.sqlstate() == Some("3D000") => Ok(false),
        Err(refusal) => Err(refused(&name, refusal)),
    }
}

/// Ends the sessions of our own role in a database, and nobody else's, and waits a while for that. One that comes meanwhile, of a
/// program that is about to end, is ended as well.
async fn end_own_sessions(session: &Session, name: &str) -> Result<(), TargetError> {
    let query = "SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity \
                 WHERE datname = $1::text::name AND usename = current_user AND pid <> pg_catalog.pg_backend_pid()";
    let failed = || TargetError::refused("end the drill's own sessions");
    for _ in 0..LOOKS_MAX {
        let row = session.query_one(query, &[&name]).await.map_err(failed())?;
        if row.get::<_, i64>(0) == 0 {
            break;
        }
        session.batch_execute(LOOK_AGAIN).await.map_err(failed())?;
    }
    // What is left makes the DROP fail, which says so.
    Ok(())
}

/// What a sweep found of earlier drills.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Databases that it dropped.
    pub dropped: Vec<String>,
    /// Databases that are called as a drill's and bear no comment at all, so that nothing proves whose they are: left for a
    /// person to drop.
    pub unmarked: Vec<String>,
}

/// How old a drill must be that its database without a mark is told of (10 min): a younger one may be about to mark it.
const UNMARKED_AGE_MIN: TimeDelta = TimeDelta::minutes(10);

/// Drops what drills that began before `older_than` (it may be this drill's own id) have left on the server, and returns what it
/// found. A database in which a session is belongs to a drill at work elsewhere, which holds it for as long as it bears the mark,
/// and is left; so is one of another role's. No session is ended.
///
/// # Errors
/// [`TargetError`].
pub async fn sweep_drill_databases(
    server: &ConnectOptions,
    older_than: &SnapshotId,
) -> Result<Leftovers, TargetError> {
    let session = maintenance(server, &[]).await?;
    let rows = session.query(LEFT, &[]).await;
    let mut leftovers = Leftovers::default();
    for row in rows.map_err(TargetError::refused("list what drills have left"))? {
        let (name, comment) = (row.get::<_, &str>(0), row.get::<_, Option<&str>>(1));
        if is_unmarked(name, comment, older_than) {
            leftovers.unmarked.push(name.to_owned());
        }
        // Ids are in the order of time.
        let Some(drill) = drill_of(&row).filter(|drill| drill < older_than) else { continue };
        let name = drill_name(&drill);
        match drop_database(&session, &name).await {
            Ok(()) => leftovers.dropped.push(name),
            // Somebody has connected, or another sweep was first.
            Err(refusal) if matches!(refusal.sqlstate(), Some("55006" | "3D000")) => {}
            Err(refusal) => return Err(refused(&name, refusal)),
        }
    }
    Ok(leftovers)
}

/// Whether a drill that began some time before `than` may have made it and never came to mark it.
fn is_unmarked(name: &str, comment: Option<&str>, than: &SnapshotId) -> bool {
    let id = name.strip_prefix(PREFIX).map(str::to_ascii_uppercase);
    let drill = id.and_then(|id| id.parse::<SnapshotId>().ok());
    let is_old = |drill: SnapshotId| than.begun_at() - drill.begun_at() >= UNMARKED_AGE_MIN;
    comment.is_none() && drill.is_some_and(is_old)
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

/// A session that does nothing in a drill's database, so that a sweep from elsewhere leaves it. It ends when dropped.
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
    fn a_database_without_a_mark_is_told_when_its_drill_is_over() {
        let (early, late) = ("01BRZ3NDEKTSV4RRFFQ69G5FAV", "01BRZ3NDFXTSV4RRFFQ69G5FAV");
        let [early, late] = [early, late].map(|id| id.parse::<SnapshotId>().expect("a ULID"));
        assert!(late.begun_at() - early.begun_at() < UNMARKED_AGE_MIN);
        let much_later = "01CRZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("a ULID");
        let name = drill_name(&early);
        assert!(is_unmarked(&name, None, &much_later));
        assert!(!is_unmarked(&name, None, &late), "it may be about to be marked");
        assert!(!is_unmarked(&name, Some("kept for the auditors"), &much_later));
        assert!(!is_unmarked("stonekeep_drill_of_ours", None, &much_later));
    }

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
