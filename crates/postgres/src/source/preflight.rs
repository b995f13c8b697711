//! What can be seen before anything is locked or written: version, pooler, rights.

use serde::Serialize;
use tokio_postgres::{Row, SimpleQueryMessage};

use super::{ANSWER_DURATION_MAX, DumpError, SourceOptions, reading_session};
use crate::connect::{ConnectOptions, Session};

/// The server, as far as a dump depends on it.
#[derive(Debug, Clone, Serialize)]
pub struct SourceInfo {
    /// `server_version_num`.
    pub server_version_num: i32,
    /// `server_version`.
    pub server_version: String,
    /// The cluster's `system_identifier`, if the role may read it.
    pub system_identifier: Option<String>,
    /// The database.
    pub database: String,
    /// Its encoding.
    pub encoding: String,
    /// Its size.
    pub database_bytes: u64,
    /// Bytes in a page of a large object (`LOBLKSIZE`): 2048 as a rule, a quarter of a block of any server.
    pub large_object_page_bytes: u64,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// Whether the role may read the roles' passwords.
    pub reads_passwords: bool,
    /// Settings that change how values are printed or read back.
    pub settings: Vec<(String, String)>,
    /// What a snapshot of it will lack, or what may end one: for people.
    pub remarks: Vec<String>,
    /// What `pg_dump --version` says.
    pub pg_dump_version: String,
    /// Tells this server process from others.
    #[serde(skip)]
    postmaster: String,
}

impl SourceInfo {
    /// The server's major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        u32::try_from(self.server_version_num / 10_000).unwrap_or(0)
    }
}

/// Connects and looks, without locking or writing anything.
///
/// # Errors
/// [`DumpError`]: why a dump would fail.
pub async fn preflight(options: &SourceOptions) -> Result<SourceInfo, DumpError> {
    let session = reading_session(&options.connect).await?;
    examine(options, &session).await
}

/// Lists the databases of a server that take connections and are no templates, whose names match one of `include` and none of
/// `exclude`, which are patterns of LIKE.
///
/// # Errors
/// [`DumpError`].
pub async fn databases(
    connect: &ConnectOptions,
    include: &[String],
    exclude: &[String],
) -> Result<Vec<String>, DumpError> {
    const LIST: &str = "SELECT datname::text FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate \
        AND datname::text LIKE ANY ($1::text[]) AND NOT (datname::text LIKE ANY ($2::text[])) ORDER BY 1";
    let listing = async {
        let session = reading_session(connect).await?;
        let rows = session.query(LIST, &[&include, &exclude]).await;
        let rows = rows.map_err(|error| DumpError::told(&error))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    };
    tokio::time::timeout(ANSWER_DURATION_MAX, listing).await.map_err(|_| DumpError::Silent)?
}

pub(super) async fn examine(
    options: &SourceOptions,
    session: &Session,
) -> Result<SourceInfo, DumpError> {
    check_no_pooler(&options.connect, session).await?;
    let mut info = read_info(session).await?;
    if !(13..=18).contains(&info.major()) {
        return Err(DumpError::Version { version: info.server_version });
    }
    info.system_identifier = system_identifier(session).await;
    info.pg_dump_version = super::toc::version(options, &info).await?;
    check_rights(session, &options.connect.user).await?;
    check_lock_table(session).await?;
    if info.encoding == "SQL_ASCII" {
        check_names(session).await?;
    }
    info.remarks = remarks(session, info.in_recovery).await?;
    Ok(info)
}

async fn query_one(session: &Session, sql: &str) -> Result<Row, DumpError> {
    session.query_one(sql, &[]).await.map_err(|error| DumpError::told(&error))
}

const SETTINGS: &str = "SELECT pg_catalog.pg_backend_pid() AS pid, current_setting('search_path') = '' AND current_setting('row_security') = 'off' \
    AND current_setting('TimeZone') = 'UTC' AND current_setting('extra_float_digits') = '3' AS kept";

/// How often the sessions are looked at (4): another client of the pooler may come between once.
const POOLER_LOOKS: usize = 4;

/// A pooler in transaction mode gives each transaction the server session that was used last, and one that is alone gets the
/// same each time. So a second connection takes it away.
pub(super) async fn check_no_pooler(
    options: &ConnectOptions,
    session: &Session,
) -> Result<(), DumpError> {
    check_settings_kept(session).await?;
    let other = reading_session(options).await?;
    let failed = |error| DumpError::told(&error);
    for _ in 0..POOLER_LOOKS {
        let before = backend(session).await?;
        other.batch_execute("BEGIN").await.map_err(failed)?;
        let taken = backend(&other).await?;
        check_settings_kept(session).await?;
        let after = backend(session).await?;
        other.batch_execute("COMMIT").await.map_err(failed)?;
        if before != after || before == taken {
            return Err(DumpError::Pooler { sign: "two connections share server sessions" });
        }
    }
    Ok(())
}

/// Which server session answers. One message and no more: a prepared statement is closed a moment after its answer, and in that
/// moment a pooler gives others another session.
async fn backend(session: &Session) -> Result<String, DumpError> {
    let answer = session.simple_query("SELECT pg_catalog.pg_backend_pid()").await;
    let messages = answer.map_err(|error| DumpError::told(&error))?;
    let pid = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(pid.unwrap_or_default())
}

async fn check_settings_kept(session: &Session) -> Result<(), DumpError> {
    let first = query_one(session, SETTINGS).await?;
    let second = query_one(session, SETTINGS).await?;
    if first.get::<_, i32>("pid") != second.get::<_, i32>("pid") {
        return Err(DumpError::Pooler {
            sign: "two statements of one connection ran in two server sessions",
        });
    }
    if !first.get::<_, bool>("kept") || !second.get::<_, bool>("kept") {
        return Err(DumpError::Pooler { sign: "the session's settings were lost" });
    }
    Ok(())
}

const POSTMASTER: &str = "SELECT pg_catalog.pg_postmaster_start_time()::text || ' ' || pg_catalog.pg_is_in_recovery()::text \
    || ' ' || current_setting('server_version_num') AS postmaster";

/// Fails if `session` is of another server than the one that was examined, or lost its settings.
pub(super) async fn same_server(session: &Session, info: &SourceInfo) -> Result<(), DumpError> {
    check_settings_kept(session).await?;
    let row = query_one(session, POSTMASTER).await?;
    if row.get::<_, String>("postmaster") == info.postmaster {
        Ok(())
    } else {
        Err(DumpError::TwoServers)
    }
}

const INFO: &str = "SELECT current_setting('server_version_num')::int AS version_num, current_setting('server_version') AS version, \
    current_database()::text AS database, current_setting('server_encoding') AS encoding, \
    pg_catalog.pg_database_size(current_database()) AS bytes, pg_catalog.pg_is_in_recovery() AS in_recovery, \
    current_setting('block_size')::int8 / 4 AS page_bytes, \
    pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS reads_passwords";

async fn read_info(session: &Session) -> Result<SourceInfo, DumpError> {
    let row = query_one(session, INFO).await?;
    let postmaster = query_one(session, POSTMASTER).await?.get("postmaster");
    let settings = session
        .query(
            "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY ($1) ORDER BY name",
            &[&KEPT_SETTINGS.as_slice()],
        )
        .await
        .map_err(|error| DumpError::told(&error))?;
    Ok(SourceInfo {
        server_version_num: row.get("version_num"),
        server_version: row.get("version"),
        system_identifier: None,
        database: row.get("database"),
        encoding: row.get("encoding"),
        database_bytes: u64::try_from(row.get::<_, i64>("bytes")).unwrap_or(0),
        large_object_page_bytes: u64::try_from(row.get::<_, i64>("page_bytes")).unwrap_or(2048),
        in_recovery: row.get("in_recovery"),
        reads_passwords: row.get("reads_passwords"),
        settings: settings.iter().map(|row| (row.get(0), row.get(1))).collect(),
        remarks: Vec::new(),
        pg_dump_version: String::new(),
        postmaster,
    })
}

/// Under these the rows were printed, or they change how the text is read back.
const KEPT_SETTINGS: [&str; 10] = [
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "array_nulls",
    "bytea_output",
    "default_toast_compression",
    "extra_float_digits",
    "lc_monetary",
    "server_encoding",
    "xmloption",
];

/// Superusers and members of `pg_monitor` may read it; others dump all the same.
async fn system_identifier(session: &Session) -> Option<String> {
    let sql = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
    session.query_one(sql, &[]).await.ok().map(|row| row.get(0))
}

/// Up to ten objects of each kind, so that a message stays one.
const UNREADABLE: &str = "SELECT c.oid::regclass::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')) \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
    UNION ALL SELECT 'large objects' WHERE EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata) \
    AND NOT pg_catalog.has_table_privilege('pg_catalog.pg_largeobject', 'SELECT') LIMIT 10";
const HIDDEN: &str = "SELECT c.oid::regclass::text FROM pg_catalog.pg_class c, pg_catalog.pg_roles r WHERE r.rolname = current_user \
    AND c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls \
    AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')) LIMIT 10";

const LOCKS: &str = "SELECT (SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace \
      WHERE relkind IN ('r', 'p') AND relpersistence <> 't' AND nspname !~ '^pg_' AND nspname <> 'information_schema') AS tables, \
    current_setting('max_locks_per_transaction')::int8 AS each, \
    current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8 + current_setting('autovacuum_max_workers')::int8 \
    + current_setting('max_worker_processes')::int8 + current_setting('max_wal_senders')::int8 AS sessions";

/// What is locked besides tables (64): catalogs, and indexes of the tables that are read.
const OTHER_LOCKS: u64 = 64;

/// Each table is locked three times: by the coordinator, by pg_dump, and by the worker that reads it. The server has room for so
/// many locked things, and for twice as many holders of them.
async fn check_lock_table(session: &Session) -> Result<(), DumpError> {
    let row = query_one(session, LOCKS).await?;
    let count = |column: &str| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    let (tables, sessions) = (count("tables"), count("sessions").max(1));
    let slots = count("each").saturating_mul(sessions);
    let needed = (tables * 3).div_ceil(2) + OTHER_LOCKS;
    if needed <= slots {
        return Ok(());
    }
    Err(DumpError::LockTable { tables, slots, wanted: needed.div_ceil(sessions) })
}

const NAMES: &str = "SELECT c.oid, pg_catalog.convert_to(pg_catalog.concat_ws(' ', n.nspname, c.relname, pg_catalog.string_agg(a.attname, ' ')), 'SQL_ASCII') \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
    WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' GROUP BY c.oid, n.nspname, c.relname ORDER BY c.oid";

/// In SQL_ASCII a name can be any bytes, and a statement that names a table must be text.
async fn check_names(session: &Session) -> Result<(), DumpError> {
    let rows = session.query(NAMES, &[]).await.map_err(|error| DumpError::told(&error))?;
    let is_no_text = |row: &&Row| std::str::from_utf8(row.get(1)).is_err();
    match rows.iter().find(is_no_text) {
        None => Ok(()),
        Some(row) => Err(DumpError::Name { oid: row.get(0) }),
    }
}

const REMARKS: &str = "SELECT (SELECT count(*) FROM pg_catalog.pg_class WHERE relkind = 'r' AND relpersistence = 'u') AS unlogged, \
    (SELECT count(*) FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid \
      WHERE d.datname = current_database() AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)) AS subscriptions, \
    current_setting('hot_standby_feedback') = 'on' AS feedback, current_setting('max_standby_streaming_delay') AS delay";

async fn remarks(session: &Session, in_recovery: bool) -> Result<Vec<String>, DumpError> {
    let row = query_one(session, REMARKS).await?;
    let mut remarks = Vec::new();
    let subscriptions = row.get::<_, i64>("subscriptions");
    if subscriptions > 0 {
        remarks.push(format!(
            "{subscriptions} subscriptions are left out: only a superuser may read them"
        ));
    }
    if in_recovery {
        let unlogged = row.get::<_, i64>("unlogged");
        if unlogged > 0 {
            remarks.push(format!(
                "{unlogged} unlogged tables come without rows: a standby has none of them, back up the primary if they matter"
            ));
        }
        let (has_feedback, delay) = (row.get::<_, bool>("feedback"), row.get::<_, &str>("delay"));
        if !has_feedback || delay != "-1" {
            remarks.push(format!(
                "a standby ends what reads for longer than its replay may wait: hot_standby_feedback is {}, max_standby_streaming_delay is {delay}",
                if has_feedback { "on" } else { "off" }
            ));
        }
    }
    Ok(remarks)
}

async fn check_rights(session: &Session, role: &str) -> Result<(), DumpError> {
    let objects = |sql: &'static str| async move {
        let rows = session.query(sql, &[]).await.map_err(|error| DumpError::told(&error))?;
        Ok::<Vec<String>, DumpError>(rows.iter().map(|row| row.get(0)).collect())
    };
    let role = || role.to_owned();
    let unreadable = objects(UNREADABLE).await?;
    if !unreadable.is_empty() {
        return Err(DumpError::Rights { role: role(), objects: unreadable });
    }
    let hidden = objects(HIDDEN).await?;
    if hidden.is_empty() {
        Ok(())
    } else {
        Err(DumpError::RowSecurity { role: role(), objects: hidden })
    }
}
