//! A database to dump and to restore, on the server that `./test` starts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use stonekeep_format::{
    archive::{Archive, Ends, Entry},
    ids::SnapshotId,
};
use stonekeep_postgres::{
    connect::ConnectOptions,
    load::{
        ArchiveDir, CopyStatement, LoadError, Loader, Pass, PassMessage, PassOptions, Pins,
        analyze, rows_of_slice, run_pass,
    },
    properties::{PropertyOptions, read_properties},
    target::{self, Mark, Phase, restoring_name},
    tools::ToolDirs,
};
use tokio_postgres::{Client, NoTls};

const ROLES: &str = "DO $$ DECLARE r text; BEGIN PERFORM pg_advisory_xact_lock(4711); \
    FOREACH r IN ARRAY ARRAY['sk_owner', 'sk Odd', 'sk_plain'] LOOP \
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN EXECUTE format('CREATE ROLE %I LOGIN CREATEDB', r); END IF; \
    END LOOP; END $$";

/// A database of its own for one test; it and what is restored from it are dropped at the end.
pub(crate) struct Scratch {
    pub(crate) source: ConnectOptions,
    dir: tempfile::TempDir,
    hostile: AtomicBool,
    twice: AtomicBool,
}

/// What became of it.
pub(crate) struct Restored {
    pub(crate) archive: Archive,
    pub(crate) target: ConnectOptions,
    pub(crate) tolerated: Vec<PassMessage>,
    pub(crate) untold: Vec<String>,
    source: ConnectOptions,
}

#[expect(clippy::disallowed_methods, reason = "the address of the server comes from ./test")]
fn server() -> ConnectOptions {
    let url = std::env::var("STONEKEEP_TEST_PG").expect("STONEKEEP_TEST_PG is not set: run ./test");
    ConnectOptions::parse(&url).expect("STONEKEEP_TEST_PG is a URL")
}

async fn client_of(options: &ConnectOptions) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host(&options.host).port(options.port).user(&options.user).dbname(&options.database);
    // What the test itself reads must not depend on the settings under test.
    config.options(SANE);
    let (client, connection) = config.connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

const SANE: &str = "-c statement_timeout=0 -c default_transaction_read_only=off -c DateStyle=ISO -c IntervalStyle=postgres \
     -c TimeZone=UTC -c extra_float_digits=3 -c bytea_output=hex -c search_path=public -c standard_conforming_strings=on \
     -c array_nulls=on -c xmloption=content -c transform_null_equals=off";

fn tool(name: &str) -> PathBuf {
    ToolDirs::default().find(name, 15).expect("PostgreSQL's tools")
}

fn run(program: &str, database: &ConnectOptions, args: &[&str], input: Option<&Path>) -> Output {
    let mut command = Command::new(tool(program));
    command.args(args).arg(&database.database).env("PGOPTIONS", SANE);
    command
        .env("PGHOST", &database.host)
        .env("PGPORT", database.port.to_string())
        .env("PGUSER", &database.user);
    if let Some(input) = input {
        command.arg("-f").arg(input);
    }
    let output = command.output().expect("a tool of PostgreSQL");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

impl Scratch {
    pub(crate) async fn new(test: &str) -> Self {
        Self::with_encoding(test, "UTF8").await
    }

    pub(crate) async fn with_encoding(test: &str, encoding: &str) -> Self {
        let server = server();
        let name = format!("sk_load_{test}_{}", std::process::id());
        let client = client_of(&server).await;
        client.batch_execute(ROLES).await.expect("roles");
        let create =
            format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'");
        client.batch_execute(&create).await.expect("a database");
        let dir = tempfile::tempdir().expect("a directory");
        Self {
            source: server.with_database(&name),
            dir,
            hostile: AtomicBool::new(false),
            twice: AtomicBool::new(false),
        }
    }

    pub(crate) fn run_sql(&self, sql: &str) {
        let file = self.dir.path().join("input.sql");
        std::fs::write(&file, sql).expect("a file");
        run(
            "psql",
            &self.source,
            &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"],
            Some(&file),
        );
    }

    /// From now on the source is read and restored as `role`.
    pub(crate) fn become_role(&mut self, role: &str) {
        self.source.user = role.to_owned();
    }

    pub(crate) fn make_target_hostile(&self) {
        self.hostile.store(true, Ordering::Relaxed);
    }

    pub(crate) fn load_rows_twice(&self) {
        self.twice.store(true, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> SnapshotId {
        "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().expect("a ULID")
    }

    fn dump_dir(&self) -> PathBuf {
        self.dir.path().join("dump")
    }

    /// Dumps the source by pg_dump into a directory archive.
    pub(crate) fn dump(&self) -> Archive {
        let encoding = run("psql", &self.source, &["-XAtc", "SELECT getdatabaseencoding()"], None);
        let encoding = format!("--encoding={}", String::from_utf8_lossy(&encoding.stdout).trim());
        let dir = format!("--file={}", self.dump_dir().display());
        run("pg_dump", &self.source, &["-Fd", "-Z0", &encoding, &dir], None);
        let toc = std::fs::read(self.dump_dir().join("toc.dat")).expect("a toc.dat");
        Archive::read_directory(&mut toc.as_slice()).expect("an archive")
    }

    pub(crate) async fn client(&self) -> Client {
        client_of(&self.source).await
    }

    pub(crate) async fn client_of(&self, options: &ConnectOptions) -> Client {
        client_of(options).await
    }

    pub(crate) async fn another_database(&self) -> ConnectOptions {
        let name = format!("{}_b", self.source.database);
        self.client()
            .await
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0 LOCALE 'C'"))
            .await
            .expect("a database");
        self.source.with_database(&name)
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let row =
            self.client().await.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await;
        row.expect("a count").get(0)
    }

    pub(crate) async fn pins(&self) -> Pins {
        let info = target::inspect(&self.source).await.expect("a target");
        Pins {
            replica: false,
            lc_monetary: Some("C".to_owned()),
            superuser: info.superuser,
            server_version_num: info.server_version_num,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let server = server();
        let base = &self.source.database;
        let restored = [
            restoring_name(base, &self.snapshot()),
            format!("{base}_back"),
            format!("{base}_b"),
            base.clone(),
        ];
        let drops: String = restored
            .iter()
            .map(|name| format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)\n"))
            .collect();
        for drop in drops.lines() {
            run("psql", &server, &["-X", "-q", "-c", drop], None);
        }
    }
}

impl Restored {
    pub(crate) async fn client(&self) -> Client {
        client_of(&self.target).await
    }

    /// Definitions in pg_dump's order, with the database's own properties; rows in any order.
    pub(crate) fn assert_same_text(&self) {
        let (ours, theirs) = (&self.target, &self.source);
        for args in [&["--create", "--schema-only", "--encoding=UTF8"][..], &["--encoding=UTF8"]] {
            let text = |database: &ConnectOptions| {
                let output = run("pg_dump", database, args, None);
                let text =
                    String::from_utf8_lossy(&output.stdout).replace(&database.database, "DATABASE");
                let lines = text.lines().filter(|line| {
                    !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict")
                });
                let mut lines: Vec<String> = lines.map(str::to_owned).collect();
                if args.len() == 1 {
                    lines.sort();
                }
                lines
            };
            let (ours, theirs) = (text(ours), text(theirs));
            let first = ours.iter().zip(&theirs).position(|(a, b)| a != b);
            let around = |lines: &[String]| {
                first
                    .and_then(|at| lines.get(at.saturating_sub(3)..))
                    .unwrap_or_default()
                    .iter()
                    .take(8)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert!(ours == theirs, "ours {:#?}\ntheirs {:#?}", around(&ours), around(&theirs));
            assert!(ours.len() > 10);
        }
    }
}

/// The whole of it, as the engine does: under another name first, rows by two connections at once.
pub(crate) async fn restore(
    scratch: &Scratch,
    options: &PassOptions,
) -> Result<Restored, LoadError> {
    let archive = scratch.dump();
    let source = &scratch.source;
    let properties = read_properties(&client_of(source).await).await.expect("properties");
    let info = target::inspect(source).await.expect("a target");
    let missing = target::missing_for(source, &info, &archive, &properties).await.expect("a list");
    assert!(missing.is_empty(), "{missing:?}");
    let name = restoring_name(&source.database, &scratch.snapshot());
    let mark = Mark { snapshot: scratch.snapshot(), phase: Phase::Schema, drill: None };
    target::create_database(source, &name, &properties, &mark).await.expect("a new database");
    let loading = source.with_database(&name);
    if scratch.hostile.load(Ordering::Relaxed) {
        let file = scratch.dir.path().join("hostile.sql");
        std::fs::write(&file, include_str!("../data/hostile.sql")).expect("a file");
        run("psql", &loading, &["-X", "-q", "-v", "ON_ERROR_STOP=1"], Some(&file));
    }
    let options = PassOptions { pins: scratch.pins().await, jobs: 2, ..options.clone() };
    let tools = ToolDirs::default();
    let dir = ArchiveDir::create(scratch.dir.path().join("toc"), &archive)?;
    let pass = async |pass| run_pass(&loading, &tools, dir.path(), &archive, pass, &options).await;
    let mut tolerated = pass(Pass::Schema).await?.tolerated;
    load_content(scratch, &loading, &archive, &options).await?;
    tolerated.extend(pass(Pass::AfterData).await?.tolerated);
    tolerated.extend(pass(Pass::Rest).await?.tolerated);
    analyze(&loading, &options.pins).await?;
    let back = format!("{}_back", source.database);
    target::rename_database(source, &name, &back).await.expect("renamed");
    let give = PropertyOptions { roles: info.roles, ..PropertyOptions::default() };
    let untold = target::apply_database_properties(source, &back, &properties, &give)
        .await
        .expect("properties");
    drop(dir);
    assert!(!scratch.dir.path().join("toc").exists());
    Ok(Restored {
        archive,
        target: source.with_database(&back),
        tolerated,
        untold,
        source: source.clone(),
    })
}

async fn load_content(
    scratch: &Scratch,
    loading: &ConnectOptions,
    archive: &Archive,
    options: &PassOptions,
) -> Result<(), LoadError> {
    let mut one = Loader::connect(loading, archive, &options.pins).await?;
    let mut two = Loader::connect(loading, archive, &options.pins).await?;
    one.make_large_objects(archive, options).await?;
    for entry in &archive.entries {
        if entry.is_table_data() {
            load_table(scratch, entry, [&mut one, &mut two]).await?;
        }
    }
    let toc = std::fs::read_to_string(scratch.dump_dir().join("blobs.toc")).unwrap_or_default();
    let mut small = Vec::new();
    let files: BTreeMap<u32, &str> = toc
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(oid, file)| (oid.parse().expect("an OID"), file))
        .collect();
    for (oid, file) in files {
        let content =
            Bytes::from(std::fs::read(scratch.dump_dir().join(file)).expect("a large object"));
        if content.len() < 1000 {
            small.push((oid, content));
        } else {
            let half = content.len() / 2;
            one.put_large_object(oid, 0, &content[..half]).await?;
            one.put_large_object(oid, half as u64, &content[half..]).await?;
        }
    }
    two.put_large_objects(&small).await
}

async fn load_table(
    scratch: &Scratch,
    entry: &Entry,
    loaders: [&mut Loader; 2],
) -> Result<(), LoadError> {
    let table = CopyStatement::of(entry)?;
    let member = entry.member().expect("a member").expect("a member");
    let bytes = Bytes::from(std::fs::read(scratch.dump_dir().join(member.as_str())).expect("rows"));
    let half =
        bytes[..bytes.len() / 2].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (first, last) = (bytes.slice(..half), bytes.slice(half..));
    let [one, two] = loaders;
    let times = if scratch.twice.load(Ordering::Relaxed) { 2 } else { 1 };
    for _ in 0..times {
        let left = load_slice(
            one,
            &table,
            rows_of_slice(&first, Ends { first: true, last: false }, &table)?,
        );
        let right = load_slice(
            two,
            &table,
            rows_of_slice(&last, Ends { first: false, last: true }, &table)?,
        );
        let (left, right) = tokio::join!(left, right);
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(left? + right? + 3, lines, "{}", table.table());
    }
    Ok(())
}

async fn load_slice(
    loader: &mut Loader,
    table: &CopyStatement,
    rows: Bytes,
) -> Result<u64, LoadError> {
    let mut copy = loader.copy_in(table).await?;
    for at in (0..rows.len()).step_by(10_000) {
        copy.send(rows.slice(at..rows.len().min(at + 10_000))).await?;
    }
    copy.finish().await
}
