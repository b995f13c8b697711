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
mod tables;
mod toc;
mod turn;
mod worker;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use stonekeep_format::{
    archive::{Archive, RowFormat},
    catalog::{DatabaseProperties, Objects},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::{
    assign::Unit,
    error::DumpError,
    large_objects::{LargeObject, LargeObjectPages},
    preflight::{SourceInfo, databases, preflight},
    tables::{PreviousTable, SourceTable},
    toc::check_readable,
    turn::{Holder, Turn},
    worker::Worker,
};
use crate::{
    connect::{ConnectOptions, Session, connect},
    objects,
    properties::read_properties,
    session,
    tools::ToolDirs,
};

/// How often the coordinator looks whether its session lives and whether someone waits for our locks (5 s).
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// The pause between two tries to get all locks (500 ms).
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long a session that does nothing else may take to answer (60 s): the coordinator's, and those that ask for little.
const ANSWER_DURATION_MAX: Duration = Duration::from_secs(60);
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
    /// What there is beside rows, as the server lists it.
    pub objects: Objects,
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

    /// Gives back the snapshot and all locks; that this works shows that they were held to the end.
    ///
    /// # Errors
    /// [`DumpError::Query`], [`DumpError::Silent`].
    pub async fn finish(&self) -> Result<(), DumpError> {
        let commit = self.coordinator.session.batch_execute("COMMIT");
        let answer = tokio::time::timeout(ANSWER_DURATION_MAX, commit).await;
        answer.map_err(|_| DumpError::Silent)?.map_err(|error| DumpError::told(&error))
    }
}

/// Returns what is kept from a table's last snapshot, by schema and name.
pub type PreviousTables<'p> = dyn Fn(&[u8], &[u8]) -> Option<PreviousTable> + Sync + 'p;

/// Locks, exports, reads the table of contents. Nothing was written anywhere when it returns.
///
/// # Errors
/// [`DumpError`].
pub async fn begin(
    options: &SourceOptions,
    previous: &PreviousTables<'_>,
    cancel: CancellationToken,
) -> Result<Dump, DumpError> {
    tokio::select! {
        dump = begin_uncancelled(options, previous) => dump,
        () = cancel.cancelled() => Err(DumpError::Cancelled),
    }
}

async fn begin_uncancelled(
    options: &SourceOptions,
    previous: &PreviousTables<'_>,
) -> Result<Dump, DumpError> {
    let free = reading_session(&options.connect).await?;
    let info = preflight::examine(options, &free).await?;
    let deadline = Instant::now() + options.ddl_wait_max;
    loop {
        let error = match try_begin(options, previous, &free, &info).await {
            Ok(dump) => return Ok(dump),
            Err(error) if info.in_recovery => error.on_standby(),
            Err(error) => error,
        };
        // Everything was let go, so that the DDL in the way can go first.
        let Some(reason) = error.ddl() else { return Err(error) };
        if Instant::now() >= deadline {
            let waited_secs = options.ddl_wait_max.as_secs();
            return Err(DumpError::DdlInTheWay { waited_secs, reason });
        }
        pause(LOCK_RETRY_PAUSE).await;
    }
}

/// One try: all locks, the snapshot, the workers, the table of contents.
async fn try_begin(
    options: &SourceOptions,
    previous: &PreviousTables<'_>,
    free: &Session,
    info: &SourceInfo,
) -> Result<Dump, DumpError> {
    let (coordinator, mut listed) = lock_and_export(options, free, info).await?;
    for table in &mut listed {
        table.keep(previous(&table.schema, &table.name));
    }
    // From here on somebody may wait for our locks.
    let contents = tokio::select! {
        contents = describe(options, info, &coordinator, &listed) => contents?,
        lost = coordinator.lost() => return Err(lost),
    };
    let Described { database, archive, tables, large_objects, objects, workers, globals, warnings } =
        contents;
    Ok(Dump {
        info: info.clone(),
        database,
        archive,
        tables,
        large_objects,
        objects,
        workers,
        snapshot_at: coordinator.exported_at,
        wal_lsn: coordinator.wal_lsn.clone(),
        globals,
        warnings,
        coordinator,
    })
}

/// What there is to read under a snapshot, and who reads it.
struct Described {
    database: DatabaseProperties,
    archive: Archive,
    tables: Vec<SourceTable>,
    large_objects: Vec<LargeObject>,
    objects: Objects,
    workers: Vec<Worker>,
    globals: Vec<u8>,
    warnings: Vec<String>,
}

async fn describe(
    options: &SourceOptions,
    info: &SourceInfo,
    coordinator: &Coordinator,
    listed: &[SourceTable],
) -> Result<Described, DumpError> {
    let assigned = assign::assign(listed, options.jobs, info.server_version_num);
    let mut workers = Vec::new();
    for units in assigned {
        let locks = assign::tables_of(&units);
        let names: Vec<&str> = locks.iter().map(|at| listed[*at].sql_name.as_str()).collect();
        let worker = Worker::begin(options, info, &coordinator.snapshot, &names, units).await?;
        coordinator.pids.lock().unwrap_or_else(PoisonError::into_inner).push(worker.pid);
        workers.push(worker);
    }
    let toc = toc::read(options, info, &coordinator.snapshot).await?;
    let mut archive = toc.archive;
    archive.assign_members().map_err(DumpError::Archive)?;
    let (mut tables, kept) = tables::with_entries(listed, &archive)?;
    for table in tables.iter_mut().filter(|table| table.format == RowFormat::Binary) {
        // It may have got other columns since.
        if tables::refuses_binary(&coordinator.session, table).await?.is_some() {
            table.format = RowFormat::Text;
        }
    }
    assign::renumber(&mut workers, &kept);
    let large_objects = large_objects::list(&coordinator.session, &archive).await?;
    assign::assign_large_objects(&mut workers, &large_objects);
    let database = read_properties(&coordinator.session).await.map_err(DumpError::from)?;
    let objects = objects::wanted(&coordinator.session, &info.encoding).await;
    let objects = objects.map_err(DumpError::from)?;
    let (globals, more_warnings) = toc::globals(options, info).await?;
    let mut warnings = toc.warnings;
    warnings.extend(more_warnings);
    Ok(Described { database, archive, tables, large_objects, objects, workers, globals, warnings })
}

/// Opens a session under the settings of a reading one.
pub(crate) async fn reading_session(options: &ConnectOptions) -> Result<Session, DumpError> {
    let opened = connect(options).await?;
    session::pin(&opened).await.map_err(DumpError::from)?;
    Ok(opened)
}

/// The session that exported the snapshot and holds locks on all tables until the dump ends.
#[derive(Debug)]
struct Coordinator {
    session: Session,
    snapshot: String,
    exported_at: DateTime<Utc>,
    wal_lsn: Option<String>,
    /// Its backend. It holds a lock on every table; for a worker's transaction somebody may wait all the same (CREATE INDEX
    /// CONCURRENTLY), so the workers' are added.
    pids: Mutex<Vec<i32>>,
    ddl_wait_max: Duration,
    /// Since when each backend that waits for our locks has been seen to.
    waiting_since: Mutex<BTreeMap<i32, Instant>>,
}

/// Lists, locks, exports, and lists again: both lists must agree.
async fn lock_and_export(
    options: &SourceOptions,
    free: &Session,
    info: &SourceInfo,
) -> Result<(Coordinator, Vec<SourceTable>), DumpError> {
    let listed = tables::list(free).await?;
    let session = reading_session(&options.connect).await?;
    let failed = |error| DumpError::told(&error);
    session
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .map_err(failed)?;
    let names: Vec<&str> = listed.iter().map(|table| table.sql_name.as_str()).collect();
    lock(&session, &names).await?;
    let row = session.query_one(EXPORT, &[]).await.map_err(failed)?;
    preflight::same_server(&session, info).await?;
    let again = tables::list(&session).await?;
    let files = tables::list(free).await?;
    tables::check_unchanged(&listed, &again, &files)?;
    let coordinator = Coordinator {
        snapshot: row.get("snapshot"),
        exported_at: DateTime::from_timestamp_micros(row.get("exported_at")).unwrap_or_default(),
        wal_lsn: row.get("wal_lsn"),
        pids: Mutex::new(vec![row.get("pid")]),
        ddl_wait_max: options.ddl_wait_max,
        waiting_since: Mutex::default(),
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
        session.batch_execute(&statement).await.map_err(|error| DumpError::told(&error))?;
    }
    Ok(())
}

impl Coordinator {
    async fn lost(&self) -> DumpError {
        loop {
            let longest = match self.waiting().await {
                Err(error) => return error,
                Ok(waiting) => self.longest_wait(&waiting),
            };
            if let Some(waited) = longest.filter(|waited| *waited > self.ddl_wait_max) {
                return DumpError::DdlInTheWay {
                    waited_secs: waited.as_secs(),
                    reason: "another session waits for a lock that this backup holds".to_owned(),
                };
            }
            pause(WATCH_INTERVAL).await;
        }
    }

    /// Notes who waits now, and returns for how long the longest has been seen to.
    fn longest_wait(&self, waiting: &[i32]) -> Option<Duration> {
        let mut since = self.waiting_since.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        since.retain(|pid, _| waiting.contains(pid));
        for pid in waiting {
            since.entry(*pid).or_insert(now);
        }
        since.values().map(|since| now - *since).max()
    }

    /// Asks who waits for our locks; that the session answers shows that it lives.
    async fn waiting(&self) -> Result<Vec<i32>, DumpError> {
        let pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let rows = tokio::time::timeout(ANSWER_DURATION_MAX, self.session.query(WAITING, &[&pids]))
            .await
            .map_err(|_| DumpError::Silent)?
            .map_err(|error| DumpError::told(&error))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

/// Locks can be seen by every role; what others do (`pg_stat_activity`), only with `pg_read_all_stats`.
const WAITING: &str = "SELECT DISTINCT pid FROM pg_catalog.pg_locks WHERE NOT granted AND pg_catalog.pg_blocking_pids(pid) && $1";

#[expect(clippy::disallowed_methods, reason = "waits for a server, not for a schedule")]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}
