//! `stonekeepd run` as a service manager sees it: it gets on with its schedules whatever else breaks.

use std::{
    fs,
    process::{Command, Stdio},
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    harness::{Database, Installation, must, run, said},
    proxy::{self, Fate},
    supervisor::{Notice, Supervised},
};

const SOON: Duration = Duration::from_secs(60);
/// What a snapshot takes some seconds for.
const ROWS: &str = "CREATE TABLE t (id int PRIMARY KEY, pad text); INSERT INTO t SELECT i, md5(i::text) || repeat('x', 90) FROM generate_series(1, 200000) i;";

/// Has the service find that every database was due long ago: it begins with that.
fn overdue(installation: &Installation, labels: &[&str]) {
    fs::create_dir_all(installation.path("state")).expect("created");
    let past = |label: &&str| {
        format!(r#""{label}": {{"handled_at": "2025-06-01T00:00:00Z", "attempt": null}}"#)
    };
    let pasts: Vec<String> = labels.iter().map(past).collect();
    installation.write("state/schedule.json", &format!("{{{}}}", pasts.join(",")));
}

/// What is remembered of the schedule of `bookings`.
fn remembered(installation: &Installation) -> serde_json::Value {
    let text = fs::read_to_string(installation.path("state/schedule.json")).expect("written");
    let pasts: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    pasts["bookings"].clone()
}

/// Once a year, so that nothing is due while a test runs; and a page on a port that nobody else has.
fn quiet(text: &str) -> String {
    let text = text.replace("15 * * * *", "0 0 1 1 *");
    text.replace("[encryption]", "[status]\nlisten = \"off\"\n[encryption]")
}

fn snapshots(installation: &Installation) -> usize {
    let list = must(&mut installation.reader(&["list", "--json"]));
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    list["snapshots"].as_array().expect("a list").len()
}

fn service(installation: &Installation) -> Supervised {
    let mut service = Supervised::start(&installation.daemon(&["run"]));
    service.wait_ready(SOON);
    service
}

fn wait_until(what: &str, service: &Supervised, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        // A hung one is ended after 75 s and then has a minute to end: twice that, on a machine that is short of time.
        assert!(begun.elapsed() < SOON * 4, "{what} did not come: {}", service.said());
        thread::sleep(Duration::from_millis(100));
    }
}

/// Lets `count` segments in, and then refuses every further one until it is opened.
fn gate(count: u64) -> (String, Arc<AtomicBool>, Arc<AtomicU64>) {
    let (is_open, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (open, counted) = (Arc::clone(&is_open), Arc::clone(&seen));
    let url = proxy::start(move |line| {
        if !line.starts_with("PUT") || !line.contains("/segments/") || open.load(Ordering::SeqCst) {
            return Fate::Served;
        }
        if counted.fetch_add(1, Ordering::SeqCst) < count { Fate::Served } else { Fate::Refused }
    });
    (url, is_open, seen)
}

#[test]
fn a_service_that_is_stopped_or_killed_in_a_run_takes_it_up_again() {
    let database = Database::create("stopped", ROWS);
    let (url, is_open, seen) = gate(2);
    let installation = Installation::prepare_at(&database, url);
    installation.configure(|text| quiet(&text));
    assert!(installation.init().status.success());
    overdue(&installation, &["bookings"]);
    let mut service = service(&installation);
    service.wait_status("Backing up bookings", SOON);
    // While some are refused again and again, those that were let in have come to their end.
    wait_until("refusals", &service, || seen.load(Ordering::SeqCst) > 7);
    let ended = service.terminate();
    assert!(ended.status.success() && ended.took < Duration::from_secs(40), "{ended:?}");
    assert!(service.notices().contains(&Notice::Stopping));
    assert!(
        service.said().contains("bookings: stopped; what it has stored is recorded"),
        "{}",
        service.said()
    );
    let attempts =
        installation.versions().into_iter().filter(|(key, _)| key.contains("/attempts/"));
    assert_eq!(attempts.count(), 1, "what was stored is recorded");
    let attempt = &remembered(&installation)["attempt"];
    assert_eq!(attempt["tries"], 1, "{attempt}");

    overdue(&installation, &["bookings"]);
    let before = seen.load(Ordering::SeqCst);
    service.start_again();
    wait_until("a refusal", &service, || seen.load(Ordering::SeqCst) > before);
    service.kill_now();
    assert_eq!(remembered(&installation)["attempt"]["tries"], 1);
    assert_eq!(snapshots(&installation), 0);

    is_open.store(true, Ordering::SeqCst);
    overdue(&installation, &["bookings"]);
    service.start_again();
    wait_until("an end", &service, || service.said().contains("ended well"));
    assert_eq!(snapshots(&installation), 1);
    assert_eq!(remembered(&installation)["attempt"], serde_json::Value::Null);
    assert!(service.terminate().status.success());
}

#[test]
fn a_hung_database_is_given_up_and_holds_up_no_other() {
    let (hung, sound) = (
        Database::create("hung", ROWS),
        Database::create("sound", "CREATE TABLE t (id int); INSERT INTO t VALUES (1);"),
    );
    let installation = Installation::create(&hung);
    installation.configure(|text| {
        let text = quiet(&text).replace("[encryption]", "[service]\nstall_max = \"60s\"\n[encryption]").replace("\"4s\"", "\"1s\"");
        format!(
            "{text}[[database]]\nname = \"sound\"\nurl = \"{}\"\ntls = \"disable\"\nschedule = \"0 0 1 1 *\"\n",
            sound.url
        )
    });
    overdue(&installation, &["bookings", "sound"]);
    let mut service = service(&installation);
    let freeze = Freeze::of(&hung);
    // One at a time: the other one waits for the hung one.
    wait_until("the end of the hung one", &service, || {
        service.said().contains("nothing moved for 2 minutes")
    });
    wait_until("the sound one", &service, || service.said().contains("sound: ended well"));
    assert!(service.said().contains("bookings: try 1 failed; again at"), "{}", service.said());
    drop(freeze);
    let ended = service.terminate();
    assert!(ended.status.success(), "{ended:?}");
}

/// The server's processes for one database stand still, as on a machine whose disk is gone.
struct Freeze(Vec<String>);

impl Freeze {
    /// Waits for them, and stops them.
    fn of(database: &Database) -> Self {
        let begun = Instant::now();
        let mut stopped: Vec<String> = Vec::new();
        // A copying worker, and then whatever else there is.
        while stopped.len() < 2 {
            assert!(begun.elapsed() < SOON, "nobody connects");
            let found = database.admin(&format!(
                "SELECT pid FROM pg_stat_activity WHERE datname = '{}' AND backend_type = 'client backend' AND query LIKE 'COPY%'",
                database.name
            ));
            for pid in found.lines().map(str::trim).filter(|pid| !pid.is_empty()) {
                if !stopped.iter().any(|known| known == pid) {
                    must(Command::new("kill").args(["-s", "STOP", pid]));
                    stopped.push(pid.to_owned());
                }
            }
        }
        Self(stopped)
    }
}

impl Drop for Freeze {
    fn drop(&mut self) {
        for pid in &self.0 {
            drop(run(Command::new("kill").args(["-s", "CONT", pid])));
        }
    }
}

#[test]
fn of_two_runs_at_once_one_backs_up_and_the_other_says_so() {
    let database = Database::create("race", ROWS);
    let (url, is_open, seen) = gate(0);
    let installation = Installation::prepare_at(&database, url);
    let metrics = installation.path("skipped.prom");
    installation.configure(|text| format!("metrics_file = {metrics:?}\n{text}"));
    assert!(installation.init().status.success());
    let mut first = installation.daemon(&["backup"]);
    let first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let begun = Instant::now();
    while seen.load(Ordering::SeqCst) == 0 {
        assert!(begun.elapsed() < SOON, "the first did not come so far");
        thread::sleep(Duration::from_millis(20));
    }
    let second = run(&mut installation.daemon(&["--json", "backup"]));
    assert_eq!(second.status.code(), Some(0), "{}", said(&second));
    let document: serde_json::Value = serde_json::from_slice(&second.stdout).expect("JSON");
    let skipped = document["databases"][0]["skipped"].as_str().expect("a reason");
    assert!(skipped.contains("another run of this database is at work (backend "), "{skipped}");
    let events = String::from_utf8_lossy(&second.stderr);
    assert!(events.lines().any(|line| line.contains(r#""event":"skipped""#)), "{events}");
    let figures = fs::read_to_string(&metrics).expect("written");
    let figure = r#"stonekeep_backup_skipped{database="bookings",repository="vault"} 1"#;
    assert!(figures.contains(figure), "{figures}");
    is_open.store(true, Ordering::SeqCst);
    let first = first.wait_with_output().expect("ended");
    assert!(first.status.success(), "{}", said(&first));
    assert_eq!(snapshots(&installation), 1);
    // A turn ends with its run.
    installation.backup();
    let figures = fs::read_to_string(&metrics).expect("written");
    assert!(figures.contains(&figure.replace("} 1", "} 0")), "{figures}");
}

#[test]
fn a_state_disk_that_is_full_stops_no_backup() {
    let database = Database::create("full", "CREATE TABLE t (id int); INSERT INTO t VALUES (1);");
    let installation = Installation::create(&database);
    installation.configure(|text| quiet(&text));
    overdue(&installation, &["bookings"]);
    let state = Full::mount(&installation);
    let mut service = service(&installation);
    wait_until("an end", &service, || service.said().contains("ended well"));
    assert!(service.said().contains("No space left on device"), "{}", service.said());
    assert_eq!(snapshots(&installation), 1);
    assert!(service.terminate().status.success());
    drop(state);
}

/// A file system of 64 KiB over the state directory, with what was in it and no byte free.
struct Full(std::path::PathBuf);

impl Full {
    fn mount(installation: &Installation) -> Self {
        let dir = installation.path("state");
        let past = fs::read(dir.join("schedule.json")).expect("there");
        must(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none"]).arg(&dir));
        let full = Self(dir.clone());
        fs::write(dir.join("schedule.json"), past).expect("room still");
        let filled = fs::write(dir.join("filler"), vec![0; 1 << 20]);
        assert!(filled.is_err(), "it is full");
        full
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        drop(run(Command::new("umount").arg("-l").arg(&self.0)));
    }
}

#[test]
fn a_reload_takes_what_can_be_used_and_says_what_cannot() {
    let database = Database::create("reload", "CREATE TABLE t (id int);");
    let installation = Installation::create(&database);
    installation.configure(|text| quiet(&text));
    let mut service = service(&installation);
    let good = fs::read_to_string(installation.path("stonekeepd.toml")).expect("there");
    installation.write("stonekeepd.toml", &good.replace("0 0 1 1 *", "99 0 1 1 *"));
    service.reload();
    wait_until("a refusal", &service, || service.said().contains("the old one holds"));
    installation.write("stonekeepd.toml", &good.replace("0 0 1 1 *", "0 0 2 1 *"));
    service.reload();
    wait_until("a reload", &service, || service.said().contains("was read again"));
    let readies = service.notices().into_iter().filter(|notice| *notice == Notice::Ready).count();
    assert_eq!(readies, 3, "one for the start and one for each reload");
    let status = service.status().expect("a status");
    assert!(
        status.starts_with("Waiting; next bookings at 20")
            && status.contains("-01-02 00:00:00 UTC"),
        "{status}"
    );
    assert!(service.terminate().status.success());
    // One that cannot even start says what is wrong with it.
    installation.write("stonekeepd.toml", &good.replace("schedule = ", "# "));
    let output = run(&mut installation.daemon(&["run"]));
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("has a schedule"), "{}", said(&output));
}

/// What a service that waits may hold (15 MiB), also after it has backed up, with its page and its look at the bucket: half of the
/// 30 MiB that it may take. The other half is the program itself, which is several times as large unoptimised.
const HELD_BYTES_MAX: u64 = 15 << 20;

#[test]
fn a_service_that_waits_takes_little_memory() {
    let database = Database::create("idle", ROWS);
    let installation = Installation::create(&database);
    installation
        .configure(|text| quiet(&text).replace("listen = \"off\"", "listen = \"127.0.0.1:0\""));
    overdue(&installation, &["bookings"]);
    let service = service(&installation);
    wait_until("an end", &service, || service.said().contains("ended well"));
    let begun = Instant::now();
    // What was freed is given back after some seconds.
    while service.held_bytes() > HELD_BYTES_MAX && begun.elapsed() < SOON {
        thread::sleep(Duration::from_millis(500));
    }
    let idle = service.held_bytes();
    assert!(idle <= HELD_BYTES_MAX, "{idle} bytes");
}
