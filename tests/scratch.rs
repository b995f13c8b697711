//! A drill's own server: reached by its socket alone, gone afterwards, and swept if its drill was killed. And the databases that
//! drills make on a server they are given.
//!
//! PostgreSQL does not run as root, and CI is root: what needs a cluster is run by this program once more, as another user.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use stonekeep_format::{ErrorKind, catalog::DatabaseProperties, ids::SnapshotId};
use stonekeep_postgres::{
    connect::ConnectOptions,
    scratch::{Scratch, ScratchError, ScratchOptions, sweep},
    target::{
        Leftovers, Mark, Phase, TargetError, create_drill_database, drill_name,
        drop_drill_database, hold_database, mark_database, sweep_drill_databases,
    },
    tools::ToolDirs,
};

use crate::{
    harness::{must, run, said, server, unprivileged},
    own_server::Server,
};

/// How long anything here may take that takes a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// Run by the others as another user: does what `STONEKEEP_TEST_SCRATCH` says, and tells on lines of its own.
#[tokio::test]
#[ignore = "it is a part of the others"]
async fn as_another_user() {
    let dir = PathBuf::from(server("STONEKEEP_TEST_SCRATCH_DIR"));
    match server("STONEKEEP_TEST_SCRATCH").as_str() {
        "start" => hold_one(&options(&dir, &[])).await,
        "sweep" => {
            for swept in sweep(&dir).await.expect("swept") {
                println!("\nswept {} {}", swept.path.display(), swept.server_ran);
            }
        }
        "cancel" => cancel(&options(&dir, &[])).await,
        setting => {
            let settings = [setting.split_once('=').expect("NAME=VALUE")];
            let error = Scratch::start(&options(&dir, &settings)).await.expect_err("refused");
            println!("\nrefused {:?} {error}", error.kind());
        }
    }
}

fn options(dir: &Path, settings: &[(&str, &str)]) -> ScratchOptions {
    let bindir = server("STONEKEEP_TEST_PG_BINDIR");
    let version = must(Command::new(format!("{bindir}/postgres")).arg("--version"));
    let major = version.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty());
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    ScratchOptions {
        tools: ToolDirs { pattern: Some(bindir.clone()) },
        major: major.and_then(|major| major.parse().ok()).expect("a major"),
        dir: dir.to_owned(),
        jobs: 2,
        settings: settings.collect::<BTreeMap<_, _>>(),
    }
}

/// Starts a cluster and keeps it until told what to do with it.
async fn hold_one(options: &ScratchOptions) {
    let scratch = Scratch::start(options).await.expect("started");
    assert_eq!(scratch.major(), options.major);
    println!("\nserver {}", scratch.server().host);
    let read = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
    match read.await.expect("read") {
        Some(Ok(word)) if word == "stop" => scratch.stop().await.expect("stopped"),
        _ => drop(scratch),
    }
    println!("\ndone");
}

/// Gives a start up at every stage of it.
async fn cancel(options: &ScratchOptions) {
    let mut after = Duration::from_millis(1);
    let mut cancelled = 0;
    while tokio::time::timeout(after, Scratch::start(options)).await.is_err() {
        cancelled += 1;
        let left = fs::read_dir(&options.dir).expect("listed").count();
        assert_eq!(left, 0, "after {after:?}");
        wait_until("its programs end", || !is_at_work_in(&options.dir));
        after = 2 * after + Duration::from_millis(1);
    }
    println!("\ncancelled {cancelled}");
}

/// Whether a program was started for a cluster below a directory.
fn is_at_work_in(dir: &Path) -> bool {
    let words = dir.to_str().expect("UTF-8");
    let processes = fs::read_dir("/proc").expect("listed").filter_map(Result::ok);
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(words))
}

/// A directory for scratch clusters, and what is run in it.
struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    fn command(&self, what: &str) -> Command {
        fs::create_dir_all(self.scratch()).expect("made");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "scratch::as_another_user", "--ignored", "--nocapture"]);
        command.env("STONEKEEP_TEST_SCRATCH", what);
        command.env("STONEKEEP_TEST_SCRATCH_DIR", self.scratch());
        command
    }

    fn run(&self, what: &str) -> Output {
        run(&mut unprivileged(&self.command(what), self.dir.path()))
    }

    /// Lines that begin with a word, of a run that must go well.
    fn lines(&self, what: &str, word: &str) -> Vec<String> {
        let output = self.run(what);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", said(&output));
        text.lines().filter_map(|line| Some(line.strip_prefix(word)?.to_owned())).collect()
    }

    fn start(&self) -> Running {
        let mut command = unprivileged(&self.command("start"), self.dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let host = line(&mut lines, "server ");
        Running { child, lines, host: host.into() }
    }

    /// What is left of all clusters.
    fn left(&self) -> usize {
        fs::read_dir(self.scratch()).expect("listed").count()
    }
}

fn line(lines: &mut BufReader<ChildStdout>, word: &str) -> String {
    loop {
        let mut line = String::new();
        let read = lines.read_line(&mut line).expect("read");
        assert!(read > 0, "it ended without {word:?}");
        if let Some(rest) = line.strip_prefix(word) {
            return rest.trim_end().to_owned();
        }
    }
}

/// A process that has a cluster.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
    host: PathBuf,
}

impl Running {
    fn query(&self, statement: &str) -> String {
        let mut psql = Command::new("psql");
        psql.arg("-h").arg(&self.host).args(["-U", "postgres", "-X", "-q", "-At", "-c", statement]);
        must(psql.arg("postgres").env_remove("PGPORT")).trim().to_owned()
    }

    fn postmaster(&self) -> PathBuf {
        let file = fs::read_to_string(self.host.join("data/postmaster.pid")).expect("it runs");
        Path::new("/proc").join(file.lines().next().expect("a number"))
    }

    fn end(mut self, word: &str) {
        self.child.stdin.take().expect("a pipe").write_all(word.as_bytes()).expect("written");
        line(&mut self.lines, "done");
        assert!(self.child.wait().expect("ended").success());
    }
}

/// A test that fails leaves no server.
impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        let file = fs::read_to_string(self.host.join("data/postmaster.pid")).unwrap_or_default();
        if let Some(postmaster) = file.lines().next() {
            drop(run(Command::new("kill").args(["-QUIT", postmaster])));
        }
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Sockets on which anybody listens for TCP, by inode.
fn listening() -> BTreeSet<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).ok());
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(3) == Some(&"0A")).then(|| format!("socket:[{}]", fields[9]))
    };
    tables.iter().flatten().flat_map(|table| table.lines().filter_map(of_line)).collect()
}

/// The sockets of a process.
fn sockets(process: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(process.join("fd")).expect("listed");
    let links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    links.map(|link| link.display().to_string()).filter(|link| link.starts_with("socket")).collect()
}

#[test]
fn a_scratch_server_is_reached_by_its_socket_alone_and_gone_afterwards() {
    let ground = Ground::new();
    let running = ground.start();
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&running.host), 0o700);
    assert_eq!(mode(&running.host.join("data")), 0o700);
    let name = running.host.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(name.starts_with("stonekeep-scratch-"), "{name}");
    let settings = "SELECT string_agg(setting, ',' ORDER BY name) FROM pg_settings WHERE name IN \
                    ('fsync', 'listen_addresses', 'jit', 'wal_level', 'server_encoding')";
    assert_eq!(running.query(settings), "off,off,,UTF8,minimal");
    assert_eq!(running.query("SELECT pg_jit_available()"), "f");
    let postmaster = running.postmaster();
    let mine = sockets(&postmaster);
    assert!(!mine.is_empty() && mine.is_disjoint(&listening()), "{mine:?}");
    running.end("stop\n");
    assert_eq!(ground.left(), 0);
    assert!(!postmaster.exists());
}

#[test]
fn a_scratch_server_that_is_dropped_is_gone_as_well() {
    let ground = Ground::new();
    let running = ground.start();
    let postmaster = running.postmaster();
    running.end("drop\n");
    assert_eq!(ground.left(), 0);
    assert!(!postmaster.exists());
}

#[test]
fn a_start_that_is_given_up_half_way_leaves_nothing() {
    let ground = Ground::new();
    let cancelled = ground.lines("cancel", "cancelled ").concat();
    assert!(cancelled.parse::<u32>().expect("a number") > 5, "{cancelled}");
    assert_eq!(ground.left(), 0);
}

#[test]
fn what_a_killed_drill_left_is_swept_and_a_drill_at_work_is_not() {
    let ground = Ground::new();
    let (mut killed, working) = (ground.start(), ground.start());
    let (postmaster, other) = (killed.postmaster(), working.postmaster());
    assert!(ground.lines("sweep", "swept ").is_empty(), "both are at work");
    killed.child.kill().expect("killed");
    killed.child.wait().expect("ended");
    assert!(postmaster.exists(), "nobody ends a server whose drill was killed");
    let swept = ground.lines("sweep", "swept ");
    assert_eq!(swept, [format!("{} true", killed.host.display())]);
    wait_until("the server ends", || !postmaster.exists());
    assert!(!killed.host.exists() && other.exists());
    assert_eq!(working.query("SELECT 1"), "1");
    working.end("stop\n");
    assert_eq!(ground.left(), 0);
}

#[test]
fn a_process_that_got_the_number_of_a_dead_server_is_not_harmed() {
    let ground = Ground::new();
    let mut killed = ground.start();
    let postmaster = killed.postmaster();
    killed.child.kill().expect("killed");
    killed.child.wait().expect("ended");
    let number =
        |path: &Path| path.file_name().expect("a number").to_str().expect("a number").to_owned();
    must(Command::new("kill").args(["-KILL", &number(&postmaster)]));
    wait_until("the server is dead", || !postmaster.exists());
    // As if its number had been given to another process of the same user since.
    let mut sleep = unprivileged(Command::new("sleep").arg("60"), ground.dir.path());
    let mut innocent = sleep.spawn().expect("runs");
    for file in ["owner", "data/postmaster.pid"] {
        let path = killed.host.join(file);
        let text = fs::read_to_string(&path).expect("read");
        let forged = text.replace(&number(&postmaster), &innocent.id().to_string());
        assert_ne!(text, forged, "{file}");
        fs::write(&path, forged).expect("written");
    }
    let swept = ground.lines("sweep", "swept ");
    assert_eq!(swept, [format!("{} false", killed.host.display())]);
    assert!(innocent.try_wait().expect("asked").is_none(), "it was ended");
    innocent.kill().expect("killed");
    innocent.wait().expect("ended");
}

#[test]
fn a_setting_that_the_server_does_not_take_is_told_in_its_own_words() {
    let ground = Ground::new();
    let refused = ground.lines("work_mem=much", "refused ").concat();
    assert!(refused.contains("Config") && refused.contains("work_mem"), "{refused}");
    assert!(!refused.contains("Success"), "initdb's words are no reason: {refused}");
    let refused = ground.lines("listen_addresses=*", "refused ").concat();
    assert!(refused.contains("listen_addresses"), "{refused}");
    assert_eq!(ground.left(), 0);
}

#[tokio::test]
async fn root_is_told_to_be_somebody_else() {
    let dir = tempfile::tempdir().expect("a directory");
    if must(Command::new("id").arg("-u")).trim() == "0" {
        let error = Scratch::start(&options(dir.path(), &[])).await.expect_err("refused");
        assert!(matches!(error, ScratchError::Root) && error.kind() == ErrorKind::Config);
        assert!(error.to_string().contains("--server"));
    }
}

const SNAPSHOT: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn id(text: &str) -> SnapshotId {
    text.parse().expect("a ULID")
}

/// Makes the database of a drill as a drill does, and lets go of it.
async fn make(server: &ConnectOptions, drill: &SnapshotId) -> ConnectOptions {
    let (like, mark) = (like(), mark(drill));
    let name = drill_name(drill);
    drop(create_drill_database(server, &name, &like, &mark).await.expect("made"));
    server.with_database(&name)
}

fn like() -> DatabaseProperties {
    DatabaseProperties { encoding: "UTF8".to_owned(), ..DatabaseProperties::default() }
}

fn mark(drill: &SnapshotId) -> Mark {
    Mark { snapshot: id(SNAPSHOT), phase: Phase::Schema, drill: Some(drill.clone()) }
}

// Waiting here blocks a thread, and another must end the sessions meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_drills_own_database_is_dropped_and_only_when_nobody_uses_it() {
    let own = Server::start("");
    let server = ConnectOptions::parse(&own.url).expect("a URL");
    let databases = || {
        let names = own.query("SELECT datname FROM pg_database WHERE datname ~ 'drill' ORDER BY 1");
        names.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let ids =
        ["01BRZ3NDEKTSV4RRFFQ69G5FAV", "01CRZ3NDEKTSV4RRFFQ69G5FAV", "01DRZ3NDEKTSV4RRFFQ69G5FAV"]
            .map(id);
    let [first, second, third] = &ids;
    assert!(!drop_drill_database(&server, first).await.expect("looked"), "there is none");
    make(&server, first).await;
    // The server takes a moment to see that the session of who made it has ended.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname ~ 'drill'";
    wait_until("it is let go", || own.query(sessions).trim() == "0");
    let held = hold_database(&make(&server, second).await).await.expect("held");
    make(&server, third).await;
    // One that is held, one that is younger, and what looks like a drill's and is not.
    own.query("CREATE DATABASE stonekeep_drill_of_ours");
    own.query(&format!("CREATE DATABASE {}", drill_name(&id(SNAPSHOT))));
    let swept = sweep_drill_databases(&server, third).await.expect("swept");
    let unmarked = vec![drill_name(&id(SNAPSHOT))];
    assert_eq!(swept, Leftovers { dropped: vec![drill_name(first)], unmarked });
    // Of another role: nobody else's session is ended.
    own.query("CREATE ROLE auditor LOGIN SUPERUSER");
    let auditor = ConnectOptions::parse(&own.url.replace("postgres@", "auditor@")).expect("a URL");
    let theirs = hold_database(&auditor.with_database(&drill_name(second))).await.expect("held");
    let in_use = drop_drill_database(&server, second).await.expect_err("in use");
    assert_eq!(in_use.kind(), ErrorKind::Conflict);
    drop((theirs, held));
    assert!(drop_drill_database(&server, second).await.expect("dropped"));
    let not_ours = drop_drill_database(&server, &id(SNAPSHOT)).await;
    assert!(matches!(not_ours, Err(TargetError::NotTheDrills { .. })), "{not_ours:?}");
    // A person who gives it another comment takes it over.
    let restore = Mark { snapshot: id(SNAPSHOT), phase: Phase::Rows, drill: None };
    mark_database(&server, &drill_name(third), &restore).await.expect("marked");
    assert!(drop_drill_database(&server, third).await.is_err());
    let swept = sweep_drill_databases(&server, &id("7ZZZZZZZZZZZZZZZZZZZZZZZZZ")).await;
    assert!(swept.expect("swept").dropped.is_empty());
    let left = [drill_name(&id(SNAPSHOT)), drill_name(third), "stonekeep_drill_of_ours".to_owned()];
    assert_eq!(databases(), left);
}

#[tokio::test]
async fn a_statement_that_goes_on_without_its_client_does_not_keep_the_database() {
    let own = Server::start("");
    let server = ConnectOptions::parse(&own.url).expect("a URL");
    let drill = id("01BRZ3NDEKTSV4RRFFQ69G5FAV");
    make(&server, &drill).await;
    let (address, _) = own.url.rsplit_once('/').expect("a database");
    let database = format!("{address}/{}", drill_name(&drill));
    let mut psql = Command::new("psql");
    let mut client =
        psql.args(["-X", "-c", "SELECT pg_sleep(300)", &database]).spawn().expect("runs");
    let at_work =
        "SELECT count(*) FROM pg_stat_activity WHERE datname ~ 'drill' AND query ~ 'pg_sleep'";
    wait_until("it sleeps", || own.query(at_work).trim() == "1");
    client.kill().expect("killed");
    client.wait().expect("ended");
    assert_eq!(own.query(at_work).trim(), "1", "it goes on");
    assert!(drop_drill_database(&server, &drill).await.expect("dropped"));
}

#[tokio::test]
async fn a_database_that_is_given_up_while_it_is_made_is_dropped_as_well() {
    let own = Server::start("");
    let server = ConnectOptions::parse(&own.url).expect("a URL");
    let drill = id("01BRZ3NDEKTSV4RRFFQ69G5FAV");
    for after in [0, 5, 10, 20, 40, 80] {
        let (name, like, mark) = (drill_name(&drill), like(), mark(&drill));
        let making = create_drill_database(&server, &name, &like, &mark);
        drop(tokio::time::timeout(Duration::from_millis(after), making).await);
        assert!(drop_drill_database(&server, &drill).await.expect("dropped"), "after {after} ms");
    }
    let left = own.query("SELECT count(*) FROM pg_database WHERE datname ~ 'drill'");
    assert_eq!(left.trim(), "0");
}

#[test]
fn one_file_of_the_product_can_say_drop_database() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut grep = Command::new("grep");
    grep.args(["-rlE", r#"DROP DATABASE \{|"DROP DATABASE |WITH \(FORCE\)"#, "--include=*.rs"]);
    grep.args(["crates", "config/src", "daemon/src", "restore-cli/src"]).current_dir(root);
    let found = must(&mut grep);
    let product: Vec<&str> = found.lines().filter(|file| !file.contains("/tests/")).collect();
    assert_eq!(product, ["crates/postgres/src/target/drill.rs"]);
}
