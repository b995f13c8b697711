//! Taking a consistent dump: what to read, by whom, under which locks and snapshot.
//!
//! TRUNCATE and rewriting ALTER are not MVCC: committed between a snapshot and the lock on a table, they make it read as
//! empty. So the tables are listed, then locked, and only then is the snapshot exported; the list is checked again within it.
//! Each worker locks the tables it was assigned before pg_dump starts, since one that came later could queue behind a waiting
//! ALTER for ever. Our waits are short and give way to the user's DDL; a run that cannot get its locks says so.

mod assign;
mod error;
mod large_objects;
mod preflight;
mod rows;
mod tables;
mod toc;
mod worker;

use std::time::Duration;

use chrono::{DateTime, Utc};
use stonekeep_format::{archive::Archive, catalog::DatabaseProperties};
use tokio_util::sync::CancellationToken;

pub use self::{
    assign::Unit,
    error::DumpError,
    large_objects::{LargeObject, LargeObjectPages, PAGE_BYTES},
    preflight::{SourceInfo, preflight},
    rows::Rows,
    tables::SourceTable,
    toc::check_readable,
    worker::Worker,
};
use crate::{
    connect::{ConnectOptions, Session, connect},
    properties::read_properties,
    refusal::Refusal,
    session,
    tools::ToolDirs,
};

/// How often the coordinator looks whether its session lives and whether someone waits for our locks (5 s).
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// The pause between two tries to get all locks (500 ms).
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Tables named by one LOCK statement (500): some 50 KB of text.
const LOCK_BATCH: usize = 500;

/// What to dump, and how.
#[derive(Debug, Clone)]
pub struct SourceOptions {
    /// The database.
    pub connect: ConnectOptions,
    /// PostgreSQL's programs.
    pub tools: ToolDirs,
    /// Sessions that read rows at the same time; at least one.
    pub jobs: usize,
    /// How long to try to get all locks, and how long others may wait behind ours.
    pub ddl_wait_max: Duration,
}

/// A dump that is under way: its snapshot is exported, its locks are held, its table of contents is known.
#[derive(Debug)]
pub struct Dump {
    /// The server.
    pub info: SourceInfo,
    /// The database's own properties.
    pub database: DatabaseProperties,
    /// pg_dump's table of contents, members assigned.
    pub archive: Archive,
    /// The tables with data, in the order of the table of contents.
    pub tables: Vec<SourceTable>,
    /// The large objects.
    pub large_objects: Vec<LargeObject>,
    /// Who reads what; take them out and run them.
    pub workers: Vec<Worker>,
    /// The server's clock when the snapshot was exported.
    pub snapshot_at: DateTime<Utc>,
    /// The write-ahead log position then.
    pub wal_lsn: Option<String>,
    /// Roles and tablespaces, from `pg_dumpall -g`.
    pub globals: Vec<u8>,
    /// What pg_dump and pg_dumpall warned of.
    pub warnings: Vec<String>,
    coordinator: Coordinator,
}

impl Dump {
    /// Returns only when the dump is lost: the coordinator's session ended, or someone waited for our locks too long.
    pub async fn lost(&self) -> DumpError {
        self.coordinator.lost().await
    }
}

/// Locks, exports, reads the table of contents. Nothing was written anywhere when it returns.
///
/// # Errors
/// [`DumpError`].
pub async fn begin(options: &SourceOptions, cancel: CancellationToken) -> Result<Dump, DumpError> {
    tokio::select! {
        dump = begin_uncancelled(options) => dump,
        () = cancel.cancelled() => Err(DumpError::Cancelled),
    }
}

async fn begin_uncancelled(options: &SourceOptions) -> Result<Dump, DumpError> {
    let free = reading_session(&options.connect).await?;
    let info = preflight::examine(options, &free).await?;
    let deadline = tokio::time::Instant::now() + options.ddl_wait_max;
    loop {
        let error = match try_begin(options, &free, &info).await {
            Ok(dump) => return Ok(dump),
            Err(error) => error,
        };
        // Everything was let go, so that the DDL in the way can go first.
        let Some(reason) = error.ddl() else { return Err(error) };
        if tokio::time::Instant::now() >= deadline {
            let waited_secs = options.ddl_wait_max.as_secs();
            return Err(DumpError::DdlInTheWay { waited_secs, reason });
        }
        pause(LOCK_RETRY_PAUSE).await;
    }
}

/// One try: all locks, the snapshot, the workers, the table of contents.
async fn try_begin(
    options: &SourceOptions,
    free: &Session,
    info: &SourceInfo,
) -> Result<Dump, DumpError> {
    let (mut coordinator, listed) = lock_and_export(options, free, info).await?;
    let assigned = assign::assign(&listed, options.jobs, info.server_version_num);
    let mut workers = Vec::new();
    for units in assigned {
        let locks = assign::tables_of(&units);
        let names: Vec<&str> = locks.iter().map(|at| listed[*at].sql_name.as_str()).collect();
        workers.push(Worker::begin(options, info, &coordinator.snapshot, &names, units).await?);
    }
    let toc = toc::read(options, info, &coordinator.snapshot).await?;
    let mut archive = toc.archive;
    archive.assign_members().map_err(DumpError::Archive)?;
    let (tables, kept) = tables::with_entries(&listed, &archive)?;
    assign::renumber(&mut workers, &kept);
    let large_objects = large_objects::list(&coordinator.session, &archive).await?;
    assign::assign_large_objects(&mut workers, &large_objects);
    let database = read_properties(&coordinator.session).await.map_err(DumpError::Query)?;
    let (globals, more_warnings) = toc::globals(options, info).await?;
    let mut warnings = toc.warnings;
    warnings.extend(more_warnings);
    coordinator.pids.extend(workers.iter().map(|worker| worker.pid));
    Ok(Dump {
        info: info.clone(),
        database,
        archive,
        tables,
        large_objects,
        workers,
        snapshot_at: coordinator.exported_at,
        wal_lsn: coordinator.wal_lsn.clone(),
        globals,
        warnings,
        coordinator,
    })
}

/// Opens a session under the settings of a reading one.
pub(crate) async fn reading_session(options: &ConnectOptions) -> Result<Session, DumpError> {
    let opened = connect(options).await?;
    session::pin(&opened).await.map_err(DumpError::Query)?;
    Ok(opened)
}

/// The session that exported the snapshot and holds locks on all tables until the dump ends.
#[derive(Debug)]
struct Coordinator {
    session: Session,
    snapshot: String,
    exported_at: DateTime<Utc>,
    wal_lsn: Option<String>,
    pids: Vec<i32>,
    ddl_wait_max: Duration,
}

/// Lists, locks, exports, and lists again: both lists must agree.
async fn lock_and_export(
    options: &SourceOptions,
    free: &Session,
    info: &SourceInfo,
) -> Result<(Coordinator, Vec<SourceTable>), DumpError> {
    let listed = tables::list(free).await?;
    let session = reading_session(&options.connect).await?;
    let failed = |error| DumpError::Query(Refusal::told(&error));
    session
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .map_err(failed)?;
    let names: Vec<&str> = listed.iter().map(|table| table.sql_name.as_str()).collect();
    lock(&session, &names).await?;
    let row = session.query_one(EXPORT, &[]).await.map_err(failed)?;
    let pid: i32 = row.get("pid");
    preflight::same_server(&session, info).await?;
    let again = tables::list(&session).await?;
    let files = tables::list(free).await?;
    tables::check_unchanged(&listed, &again, &files)?;
    let coordinator = Coordinator {
        snapshot: row.get("snapshot"),
        exported_at: DateTime::from_timestamp_micros(row.get("exported_at")).unwrap_or_default(),
        wal_lsn: row.get("wal_lsn"),
        pids: vec![pid],
        ddl_wait_max: options.ddl_wait_max,
        session,
    };
    Ok((coordinator, again))
}

/// A standby has no current write position; `pg_last_wal_replay_lsn` is what it has read so far.
const EXPORT: &str = "SELECT pg_catalog.pg_export_snapshot() AS snapshot, (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::int8 AS exported_at, \
    pg_catalog.pg_backend_pid() AS pid, \
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END::text AS wal_lsn";

/// Locks tables in ACCESS SHARE mode; as a transaction's first statement this takes no snapshot.
pub(crate) async fn lock(session: &Session, names: &[&str]) -> Result<(), DumpError> {
    for batch in names.chunks(LOCK_BATCH) {
        let statement = format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE", batch.join(", ONLY "));
        session
            .batch_execute(&statement)
            .await
            .map_err(|error| DumpError::Query(Refusal::told(&error)))?;
    }
    Ok(())
}

impl Coordinator {
    async fn lost(&self) -> DumpError {
        loop {
            pause(WATCH_INTERVAL).await;
            match self.longest_wait().await {
                Err(error) => return error,
                Ok(waited) if waited > self.ddl_wait_max => {
                    return DumpError::DdlInTheWay {
                        waited_secs: waited.as_secs(),
                        reason: "another session waits for a lock that this backup holds"
                            .to_owned(),
                    };
                }
                Ok(_) => {}
            }
        }
    }

    /// Asks how long the longest wait for one of our locks is; that the session answers shows that it lives.
    async fn longest_wait(&self) -> Result<Duration, DumpError> {
        let failed = |error| DumpError::Query(Refusal::told(&error));
        let answer = async {
            self.session
                .batch_execute("SELECT pg_catalog.pg_stat_clear_snapshot()")
                .await
                .map_err(failed)?;
            self.session.query_one(LONGEST_WAIT, &[&self.pids]).await.map_err(failed)
        };
        let row = tokio::time::timeout(Duration::from_secs(60), answer)
            .await
            .map_err(|_| DumpError::Silent)??;
        Ok(Duration::from_secs_f64(row.get::<_, f64>(0).max(0.0)))
    }
}

const LONGEST_WAIT: &str = "SELECT coalesce(max(extract(epoch FROM pg_catalog.clock_timestamp() - query_start)), 0)::float8 \
    FROM pg_catalog.pg_stat_activity WHERE wait_event_type = 'Lock' AND pg_catalog.pg_blocking_pids(pid) && $1";

#[expect(clippy::disallowed_methods, reason = "waits for a server, not for a schedule")]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
