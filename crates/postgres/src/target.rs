//! The server and database a snapshot is restored into.
//!
//! In the flow of a restore it comes first and last: [`inspect`] and [`missing_for`] say whether the restore can work before
//! anything is changed, [`create_database`] makes the database under our mark, [`rename_database`] and
//! [`apply_database_properties`] end it. Nothing of a restore here drops or empties anything, and no statement here touches a row.
//! What a drill made by [`create_drill_database`] is dropped again by [`drop_drill_database`], and by nothing else.

mod drill;
mod mark;
mod needs;
mod ready;
mod roles;

use stonekeep_format::{ErrorKind, archive::Archive, catalog::DatabaseProperties};
use tokio_postgres::Row;

pub use drill::{
    Held, Leftovers, create_drill_database, drill_name, drop_drill_database, hold_database,
    sweep_drill_databases,
};
pub use mark::{Mark, NAME_BYTES_MAX, NoMark, Phase, restoring_name};
pub use needs::Needs;
pub use ready::not_ready;
pub use roles::create_roles;

use crate::{
    connect::{ConnectError, ConnectOptions, connect},
    properties::{PropertyOptions, property_statements},
    refusal::Refusal,
    session::Session,
    sql::{identifier, literal},
};

/// Why the target could not be looked at, made or named.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No session.
    #[error("cannot connect to the target")]
    Connect(#[from] ConnectError),
    /// The server refused.
    #[error("the target did not {what}: {refusal}")]
    Refused {
        /// What it was asked to do.
        what: String,
        /// Its refusal.
        refusal: Refusal,
    },
    /// All databases that one could connect to are the ones to be changed.
    #[error(
        "no database of the target is left to rename {avoided:?} from: `postgres` and `template1` are both needed or absent"
    )]
    NoWayIn {
        /// The databases that must not be connected to.
        avoided: String,
    },
    /// PostgreSQL would cut the name.
    #[error(
        "the database name {name:?} is longer than {NAME_BYTES_MAX} bytes; choose a shorter one"
    )]
    NameTooLong {
        /// The name.
        name: String,
    },
    /// A task of ours broke off.
    #[error("the drill's database was not made to its end")]
    Task(#[source] tokio::task::JoinError),
    /// It has the name of a drill's database and not its comment: nothing but a drill's own database is dropped.
    #[error(
        "database {name:?} does not bear the mark of the drill that its name says: it was not dropped"
    )]
    NotTheDrills {
        /// The name.
        name: String,
    },
}

impl TargetError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect(error) => error.kind(),
            Self::Refused { refusal, .. } => refusal.kind(),
            Self::NoWayIn { .. } => ErrorKind::Config,
            Self::NameTooLong { .. } => ErrorKind::Usage,
            Self::NotTheDrills { .. } => ErrorKind::Conflict,
            Self::Task(_) => ErrorKind::Internal,
        }
    }

    fn refused(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        move |error| Self::Refused { what: what.into(), refusal: Refusal::told(&error) }
    }
}

/// A server, as a restore must know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetInfo {
    /// `server_version_num`.
    pub server_version_num: i32,
    /// `server_version`.
    pub server_version: String,
    /// The cluster's `system_identifier`, if the role may read it: the same as the source's means the same server.
    pub system_identifier: Option<String>,
    /// The role we are.
    pub role: String,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// Whether it may create databases.
    pub creates_databases: bool,
    /// All roles.
    pub roles: Vec<String>,
    /// All tablespaces.
    pub tablespaces: Vec<String>,
    /// Extensions whose files are installed.
    pub extensions_available: Vec<String>,
    /// Collations of `pg_catalog`.
    pub collations: Vec<String>,
    /// The database named in the options.
    pub database: DatabaseState,
}

/// What is where a database shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseState {
    /// Nothing.
    Absent,
    /// A database without a single object of a user. Extensions do not count.
    Empty {
        /// Our mark, if it bears one.
        mark: Option<Mark>,
    },
    /// A database with objects of users.
    Occupied {
        /// Tables, views, sequences and the like.
        relations: u64,
        /// Rows, as the planner's statistics estimate them.
        rows_estimate: u64,
        /// Functions, types, schemas and large objects.
        others: u64,
        /// Our mark, if it bears one.
        mark: Option<Mark>,
    },
}

/// What the target lacks for a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Owners and grantees.
    pub roles: Vec<String>,
    /// Extensions whose files are not installed.
    pub extensions: Vec<String>,
    /// Tablespaces.
    pub tablespaces: Vec<String>,
    /// Locales of the operating system, or a locale provider the server was built without.
    pub locales: Vec<String>,
    /// Collations of `pg_catalog`.
    pub collations: Vec<String>,
    /// Providers of security labels that are not loaded.
    pub label_providers: Vec<String>,
}

impl Missing {
    /// Returns whether nothing is missing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.roles.is_empty()
            && self.extensions.is_empty()
            && self.tablespaces.is_empty()
            && self.locales.is_empty()
            && self.collations.is_empty()
            && self.label_providers.is_empty()
    }
}

/// Looks at the server and at the database named in `target`, which need not exist. Changes nothing.
///
/// # Errors
/// [`TargetError`].
pub async fn inspect(target: &ConnectOptions) -> Result<TargetInfo, TargetError> {
    let session = maintenance(target, &[]).await?;
    let row =
        session.query_one(SERVER, &[]).await.map_err(TargetError::refused("describe itself"))?;
    Ok(TargetInfo {
        server_version_num: row.get(0),
        server_version: row.get(1),
        role: row.get(2),
        superuser: row.get(3),
        creates_databases: row.get(4),
        // A managed service may keep it to itself; then nobody can tell whether it is the source's server.
        system_identifier: session.query_one(IDENTIFIER, &[]).await.ok().map(|row| row.get(0)),
        roles: names(&session, "SELECT rolname::text FROM pg_catalog.pg_roles").await?,
        tablespaces: names(&session, "SELECT spcname::text FROM pg_catalog.pg_tablespace").await?,
        extensions_available: names(
            &session,
            "SELECT name::text FROM pg_catalog.pg_available_extensions",
        )
        .await?,
        collations: names(&session, COLLATIONS).await?,
        database: database_state(target).await?,
    })
}

const SERVER: &str = "SELECT pg_catalog.current_setting('server_version_num')::int4, \
     pg_catalog.current_setting('server_version'), r.rolname::text, r.rolsuper, r.rolcreatedb OR r.rolsuper \
     FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";
const IDENTIFIER: &str = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
const COLLATIONS: &str = "SELECT DISTINCT collname::text FROM pg_catalog.pg_collation \
     WHERE collnamespace = 'pg_catalog'::regnamespace";

async fn names(session: &Session, query: &str) -> Result<Vec<String>, TargetError> {
    let rows = session.query(query, &[]).await.map_err(TargetError::refused("list its names"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Looks at the database named in `target` alone. Changes nothing.
///
/// # Errors
/// [`TargetError`].
pub async fn database_state(target: &ConnectOptions) -> Result<DatabaseState, TargetError> {
    let session = match open(target).await {
        Ok(session) => session,
        Err(TargetError::Connect(ConnectError::NoSuchDatabase { .. })) => {
            return Ok(DatabaseState::Absent);
        }
        Err(error) => return Err(error),
    };
    let row = session
        .query_one(OBJECTS, &[])
        .await
        .map_err(TargetError::refused("count what is in the database"))?;
    Ok(state_of(&row))
}

fn state_of(row: &Row) -> DatabaseState {
    let count = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    let mark = row.get::<_, Option<&str>>(3).and_then(|text| text.parse().ok());
    match (count(0), count(2)) {
        (0, 0) => DatabaseState::Empty { mark },
        (relations, others) => {
            DatabaseState::Occupied { relations, rows_estimate: count(1), others, mark }
        }
    }
}

/// What a user made: not the system's schemas, not what belongs to an extension, not a table's own types.
const OBJECTS: &str = "\
WITH spaces AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'), \
extended AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'), \
relations AS (SELECT c.reltuples FROM pg_catalog.pg_class c WHERE c.relkind IN ('r','p','v','m','S','f') \
  AND c.relnamespace IN (SELECT oid FROM spaces) \
  AND ('pg_catalog.pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM extended)), \
others AS ( \
  SELECT 1 FROM pg_catalog.pg_proc p WHERE p.pronamespace IN (SELECT oid FROM spaces) \
    AND ('pg_catalog.pg_proc'::regclass, p.oid) NOT IN (SELECT classid, objid FROM extended) \
  UNION ALL SELECT 1 FROM pg_catalog.pg_type t WHERE t.typnamespace IN (SELECT oid FROM spaces) \
    AND t.typtype IN ('d','e','r') AND ('pg_catalog.pg_type'::regclass, t.oid) NOT IN (SELECT classid, objid FROM extended) \
  UNION ALL SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.oid IN (SELECT oid FROM spaces) AND n.nspname <> 'public' \
    AND ('pg_catalog.pg_namespace'::regclass, n.oid) NOT IN (SELECT classid, objid FROM extended) \
  UNION ALL SELECT 1 FROM pg_catalog.pg_largeobject_metadata) \
SELECT (SELECT count(*) FROM relations), (SELECT coalesce(sum(greatest(reltuples, 0)), 0)::int8 FROM relations), \
  (SELECT count(*) FROM others), \
  (SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = current_database())";

/// Returns what the server lacks for this archive: to be told before anything is changed.
///
/// A locale is missing when the server's operating system does not know it, which is tried by setting `lc_time` to it for
/// one statement; that needs no right and leaves nothing behind.
///
/// # Errors
/// [`TargetError`].
pub async fn missing_for(
    target: &ConnectOptions,
    info: &TargetInfo,
    archive: &Archive,
    properties: &DatabaseProperties,
) -> Result<Missing, TargetError> {
    let needs = Needs::of(archive, properties);
    let lacks = |needed: &std::collections::BTreeSet<String>, there: &[String]| {
        let there: std::collections::HashSet<&String> = there.iter().collect();
        needed.iter().filter(|name| !there.contains(name)).cloned().collect::<Vec<_>>()
    };
    let session = maintenance(target, &[]).await?;
    let mut locales = Vec::new();
    for locale in &needs.locales {
        if !session_knows_locale(&session, locale).await? {
            locales.push(locale.clone());
        }
    }
    locales.extend(missing_provider(&session, info, properties).await?);
    let mut label_providers = Vec::new();
    for provider in &needs.label_providers {
        if !knows_provider(&session, provider).await? {
            label_providers.push(provider.clone());
        }
    }
    Ok(Missing {
        label_providers,
        roles: lacks(&needs.roles, &info.roles),
        extensions: lacks(&needs.extensions, &info.extensions_available),
        tablespaces: lacks(&needs.tablespaces, &info.tablespaces),
        locales,
        collations: lacks(&needs.collations, &info.collations),
    })
}

/// Returns whether the server's operating system knows a locale: before one is named in [`crate::load::Pins`].
///
/// # Errors
/// [`TargetError`].
pub async fn knows_locale(target: &ConnectOptions, locale: &str) -> Result<bool, TargetError> {
    session_knows_locale(&maintenance(target, &[]).await?, locale).await
}

async fn session_knows_locale(session: &Session, locale: &str) -> Result<bool, TargetError> {
    let tried =
        session.query_one("SELECT pg_catalog.set_config('lc_time', $1, true)", &[&locale]).await;
    match tried {
        Ok(_) => Ok(true),
        // invalid_parameter_value is the answer to our question; anything else is not.
        Err(error) if error.code().is_some_and(|code| code.code() == "22023") => Ok(false),
        Err(error) => Err(TargetError::refused("try a locale")(error)),
    }
}

/// Whether a provider of security labels is loaded. No catalog tells; so a label is taken away in a transaction that is rolled
/// back. The provider is looked for before any right is.
async fn knows_provider(session: &Session, provider: &str) -> Result<bool, TargetError> {
    let failed = || TargetError::refused("try a security label");
    session.batch_execute("BEGIN").await.map_err(failed())?;
    let ask = format!("SECURITY LABEL FOR {} ON SCHEMA pg_catalog IS NULL", identifier(provider));
    let tried = session.batch_execute(&ask).await;
    session.batch_execute("ROLLBACK").await.map_err(failed())?;
    match tried {
        Ok(()) => Ok(true),
        Err(error) if error.as_db_error().is_none() => Err(failed()(error)),
        // invalid_parameter_value: it is not loaded. What it says itself against this label is no matter.
        Err(error) => Ok(error.code().is_none_or(|code| code.code() != "22023")),
    }
}

async fn missing_provider(
    session: &Session,
    info: &TargetInfo,
    properties: &DatabaseProperties,
) -> Result<Option<String>, TargetError> {
    let locale = properties.locale.as_deref().unwrap_or_default();
    match properties.provider.as_deref() {
        Some("i") => {
            let query =
                "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_collation WHERE collprovider = 'i')";
            let row = session
                .query_one(query, &[])
                .await
                .map_err(TargetError::refused("list its collations"))?;
            let there = row.get::<_, bool>(0) && info.server_version_num >= 150_000;
            Ok((!there).then(|| format!("{locale} (provider icu, PostgreSQL 15 or later)")))
        }
        Some("b") if info.server_version_num < 170_000 => {
            Ok(Some(format!("{locale} (provider builtin, PostgreSQL 17 or later)")))
        }
        _ => Ok(None),
    }
}

/// Creates database `name` from template0, with the encoding and locale of the source, and marks it as ours.
///
/// # Errors
/// [`TargetError`]; one that exists is a refusal of kind Conflict.
pub async fn create_database(
    target: &ConnectOptions,
    name: &str,
    like: &DatabaseProperties,
    mark: &Mark,
) -> Result<(), TargetError> {
    let session = create_unmarked(target, name, like).await?;
    comment(&session, name, mark).await
}

/// Creates the database, and returns the session to mark it in.
async fn create_unmarked(
    target: &ConnectOptions,
    name: &str,
    like: &DatabaseProperties,
) -> Result<Session, TargetError> {
    check_name(name)?;
    let session = maintenance(target, &[name]).await?;
    let version =
        session.query_one(SERVER, &[]).await.map_err(TargetError::refused("describe itself"))?;
    let sql = creation(name, like, version.get(0));
    session
        .batch_execute(&sql)
        .await
        .map_err(TargetError::refused(format!("create database {name:?}")))?;
    Ok(session)
}

fn check_name(name: &str) -> Result<(), TargetError> {
    if name.len() > NAME_BYTES_MAX {
        Err(TargetError::NameTooLong { name: name.to_owned() })
    } else {
        Ok(())
    }
}

fn creation(name: &str, like: &DatabaseProperties, version: i32) -> String {
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", identifier(name));
    let mut add = |option: &str, value: &str| {
        if !value.is_empty() {
            sql.push_str(&format!(" {option} {}", literal(value)));
        }
    };
    let locale = like.locale.as_deref().unwrap_or_default();
    add("ENCODING", &like.encoding);
    match like.provider.as_deref() {
        Some("i") if version >= 150_000 => {
            add("LOCALE_PROVIDER", "icu");
            add("ICU_LOCALE", locale);
            if version >= 160_000 {
                add("ICU_RULES", like.icu_rules.as_deref().unwrap_or_default());
            }
        }
        Some("b") if version >= 170_000 => {
            add("LOCALE_PROVIDER", "builtin");
            add("BUILTIN_LOCALE", locale);
        }
        _ if version >= 150_000 => add("LOCALE_PROVIDER", "libc"),
        _ => {}
    }
    add("LC_COLLATE", &like.collate);
    add("LC_CTYPE", &like.ctype);
    sql
}

/// Marks database `name` as being restored.
///
/// # Errors
/// [`TargetError`].
pub async fn mark_database(
    target: &ConnectOptions,
    name: &str,
    mark: &Mark,
) -> Result<(), TargetError> {
    comment(&maintenance(target, &[]).await?, name, mark).await
}

async fn comment(session: &Session, name: &str, mark: &Mark) -> Result<(), TargetError> {
    let sql = format!("COMMENT ON DATABASE {} IS {}", identifier(name), literal(&mark.to_string()));
    session
        .batch_execute(&sql)
        .await
        .map_err(TargetError::refused(format!("mark database {name:?}")))
}

/// Gives database `from` the name `to`. Nobody may be connected to it; PostgreSQL waits five seconds for sessions to end.
///
/// # Errors
/// [`TargetError`]; a name that is taken or a database in use is a refusal of kind Conflict.
pub async fn rename_database(
    target: &ConnectOptions,
    from: &str,
    to: &str,
) -> Result<(), TargetError> {
    check_name(to)?;
    let session = maintenance(target, &[from, to]).await?;
    let sql = format!("ALTER DATABASE {} RENAME TO {}", identifier(from), identifier(to));
    session
        .batch_execute(&sql)
        .await
        .map_err(TargetError::refused(format!("rename database {from:?} to {to:?}")))
}

/// Gives database `name` its owner, limit, settings, rights and comment (in place of our mark), and returns what could not
/// be given: told to the operator, but no reason to throw the rows away.
///
/// # Errors
/// [`TargetError`] when nothing could be tried.
pub async fn apply_database_properties(
    target: &ConnectOptions,
    name: &str,
    properties: &DatabaseProperties,
    options: &PropertyOptions,
) -> Result<Vec<String>, TargetError> {
    let session = maintenance(target, &[]).await?;
    let (statements, mut untold) = property_statements(name, properties, options);
    for statement in statements {
        match session.batch_execute(&statement.sql).await {
            Ok(()) => {}
            Err(error) if error.is_closed() => {
                return Err(TargetError::refused("take the database's properties")(error));
            }
            Err(error) => untold.push(format!("{}: {}", statement.what, Refusal::told(&error))),
        }
    }
    Ok(untold)
}

/// A session from which databases can be made: in `postgres` or `template1` if the one named is absent or one of `avoid`.
async fn maintenance(target: &ConnectOptions, avoid: &[&str]) -> Result<Session, TargetError> {
    let mut last = None;
    for name in [target.database.as_str(), "postgres", "template1"] {
        if avoid.contains(&name) {
            continue;
        }
        match open(&target.with_database(name)).await {
            Err(TargetError::Connect(error @ ConnectError::NoSuchDatabase { .. })) => {
                last = Some(error);
            }
            result => return result,
        }
    }
    Err(last
        .map_or_else(|| TargetError::NoWayIn { avoided: avoid.join(", ") }, TargetError::Connect))
}

/// A session whose texts are UTF-8 and that nothing of the database's own settings stops.
async fn open(target: &ConnectOptions) -> Result<Session, TargetError> {
    let session = connect(target).await?;
    let rules = "SET client_encoding TO 'UTF8'; SET statement_timeout TO 0; SET default_transaction_read_only TO off";
    session
        .batch_execute(rules)
        .await
        .map_err(TargetError::refused("take the session's settings"))?;
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(provider: Option<&str>) -> DatabaseProperties {
        DatabaseProperties {
            encoding: "UTF8".to_owned(),
            collate: "C.UTF-8".to_owned(),
            ctype: "C.UTF-8".to_owned(),
            provider: provider.map(str::to_owned),
            locale: Some("de-AT".to_owned()),
            ..DatabaseProperties::default()
        }
    }

    #[test]
    fn creation_names_the_provider_the_server_knows() {
        let icu = creation("a\"b", &like(Some("i")), 150_000);
        assert_eq!(
            icu,
            "CREATE DATABASE \"a\"\"b\" TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER 'icu' ICU_LOCALE 'de-AT' \
             LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
        );
        assert!(!creation("d", &like(None), 140_000).contains("PROVIDER"));
        assert!(creation("d", &like(Some("c")), 150_000).contains("LOCALE_PROVIDER 'libc'"));
        assert!(creation("d", &like(Some("b")), 170_000).contains("BUILTIN_LOCALE 'de-AT'"));
    }

    #[test]
    fn long_names_are_refused_rather_than_cut() {
        assert!(matches!(check_name(&"x".repeat(64)), Err(TargetError::NameTooLong { .. })));
        assert!(check_name(&"x".repeat(63)).is_ok());
    }
}
