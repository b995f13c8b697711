//! The service in a time of its own: days pass in no time, runs are made up, and everything that decides is real.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use stonekeep_engine::backup::{BackupError, BackupReport};
use stonekeep_format::{
    ids::{Seq, SnapshotId},
    manifest::Totals,
    signature::Signer,
};
use tokio::time::Instant;

use super::*;

const SIGNER: &str = include_str!("../../../crates/format/tests/data/signer");
const RECIPIENTS: [&str; 2] = [
    "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg",
    "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa",
];
const MINUTE: Duration = Duration::from_secs(60);

/// Tokio's time, from a date on; it can be set as a host's clock can.
#[derive(Debug)]
struct SetClock {
    from: DateTime<Utc>,
    begun: Instant,
    set_by: Mutex<TimeDelta>,
}

impl SetClock {
    fn new(from: &str) -> Arc<Self> {
        let from = from.parse().expect("an instant");
        Arc::new(Self { from, begun: Instant::now(), set_by: Mutex::default() })
    }

    fn set_by(&self, minutes: i64) {
        *self.set_by.lock().unwrap_or_else(PoisonError::into_inner) += TimeDelta::minutes(minutes);
    }
}

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        let set_by = *self.set_by.lock().unwrap_or_else(PoisonError::into_inner);
        self.from + TimeDelta::from_std(self.begun.elapsed()).expect("short") + set_by
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// How a run goes.
#[derive(Debug, Clone, Copy)]
enum Course {
    Good(Duration),
    /// Fails, and may not the next time.
    Passing(Duration),
    /// Fails until somebody does something.
    Lasting,
    /// Stands still until it is ended.
    Stalls(Duration),
    /// Waits for a server that never answers; only a stop ends it.
    Hangs,
    Panics,
}

type Script = dyn Fn(&Label, usize) -> Course + Send + Sync;

/// Makes runs up.
struct Actor {
    clock: Arc<SetClock>,
    script: Box<Script>,
    runs: Mutex<BTreeMap<Label, usize>>,
    at_work: Mutex<(usize, usize)>,
}

impl std::fmt::Debug for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Actor")
    }
}

impl Runner for Actor {
    fn run(self: Arc<Self>, order: Order) -> BoxFuture<'static, Vec<Outcome>> {
        let label = order.entry.name.clone();
        let count = {
            let mut runs = self.runs.lock().expect("sound");
            let count = runs.entry(label.clone()).or_default();
            *count += 1;
            *count
        };
        let course = (self.script)(&label, count);
        {
            let mut at_work = self.at_work.lock().expect("sound");
            at_work.0 += 1;
            at_work.1 = at_work.1.max(at_work.0);
        }
        Box::pin(async move {
            let result = self.play(course, &label, &order.cancel).await;
            self.at_work.lock().expect("sound").0 -= 1;
            let repository = Some("vault".to_owned());
            vec![Outcome { label, repository, result }]
        })
    }
}

impl Actor {
    async fn play(&self, course: Course, label: &Label, cancel: &CancellationToken) -> Taken {
        let took = match course {
            Course::Good(took) | Course::Passing(took) | Course::Stalls(took) => took,
            Course::Lasting => Duration::ZERO,
            Course::Hangs => Duration::MAX,
            Course::Panics => panic!("a bug"),
        };
        let is_stopped = tokio::select! {
            () = self.clock.sleep(took) => false,
            () = cancel.cancelled() => true,
        };
        let label = label.clone();
        match course {
            Course::Good(_) if !is_stopped => Taken::Snapshot(Box::new(self.report(label))),
            Course::Lasting => Taken::Failed(Failure::NoDatabase { label }),
            Course::Stalls(_) if !is_stopped => {
                Taken::Failed(Failure::Stalled { label, minutes: 1 })
            }
            _ => {
                let source = Box::new(BackupError::Cancelled);
                Taken::Failed(Failure::Backup { label, source })
            }
        }
    }

    fn report(&self, label: Label) -> BackupReport {
        let now = self.clock.now();
        BackupReport {
            repository: "vault".to_owned(),
            label,
            snapshot: SnapshotId::new(now, 1),
            seq: Seq(1),
            chain: "0102030405060708".parse().expect("a chain"),
            tier: "hourly".to_owned(),
            suspicious: None,
            committed_at: now,
            promised_until: now + TimeDelta::days(7),
            totals: Totals::default(),
            duration_ms: 0,
            warnings: Vec::new(),
        }
    }
}

/// A host: its files and its clock stay when the service is started again.
struct Host {
    dir: tempfile::TempDir,
    clock: Arc<SetClock>,
    said: Arc<Mutex<Vec<String>>>,
}

/// A service that runs.
struct Started {
    reloads: mpsc::Sender<()>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    actor: Arc<Actor>,
}

impl Host {
    fn new(from: &str, databases: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let host = Self { dir, clock: SetClock::new(from), said: Arc::default() };
        let signer = host.dir.path().join("signer");
        fs::write(&signer, SIGNER).expect("written");
        fs::set_permissions(&signer, fs::Permissions::from_mode(0o600)).expect("set");
        let public = Signer::from_openssh(SIGNER).and_then(|key| key.public_line()).expect("a key");
        let owner = host.dir.path().join("allowed_signers");
        fs::write(owner, format!("owner {public}\n")).expect("written");
        host.configure("", databases);
        host
    }

    /// Writes the configuration.
    fn configure(&self, service: &str, databases: &[(&str, &str)]) {
        let dir = self.dir.path().display();
        let mut text = format!(
            "signer_file = '{dir}/signer'\nallowed_signers_file = '{dir}/allowed_signers'\nstate_dir = '{dir}/state'\n\
            [service]\n{service}\n[encryption]\nrecipients = {RECIPIENTS:?}\n\
            [[repository]]\nname = 'vault'\nbucket = 'vault'\nregion = 'x'\n\
            [[tier]]\nname = 'hourly'\nevery = 'hour'\nkeep = '7d'\n"
        );
        for (name, schedule) in databases {
            text += &format!(
                "[[database]]\nname = '{name}'\nurl = 'postgres://u@localhost/{name}'\ntime_zone = 'Europe/Berlin'\n"
            );
            if !schedule.is_empty() {
                text += &format!("schedule = '{schedule}'\n");
            }
        }
        fs::write(self.path(), text).expect("written");
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("stonekeepd.toml")
    }

    fn start(&self, script: impl Fn(&Label, usize) -> Course + Send + Sync + 'static) -> Started {
        let actor = Arc::new(Actor {
            clock: Arc::clone(&self.clock),
            script: Box::new(script),
            runs: Mutex::default(),
            at_work: Mutex::default(),
        });
        let (said, clock) = (Arc::clone(&self.said), Arc::clone(&self.clock));
        let surroundings = Surroundings {
            clock: Arc::<SetClock>::clone(&self.clock),
            runner: Arc::<Actor>::clone(&actor),
            say: Arc::new(move |label, event| {
                let json = serde_json::to_value(event).expect("an object");
                let label = label.map_or("-", Label::as_str);
                let line = format!(
                    "{} {label} {}",
                    clock.now().format("%d %H:%M"),
                    json["event"].as_str().expect("a name")
                );
                said.lock().expect("sound").push(line);
            }),
            environment: Environment::default(),
        };
        let path = self.path();
        let config = DaemonConfig::load(&path).expect("a configuration");
        let environment = Environment::default();
        let notices = Notices::load(&config, &environment, Voice::Text).expect("nobody to tell");
        let started = Service::start(config, notices, surroundings);
        let service = started.map_err(|(failure, _)| failure).expect("started");
        let (reloads, receiver) = mpsc::channel(1);
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let task = tokio::spawn(async move {
            let load = || DaemonConfig::load(&path).map_err(Failure::Config);
            service.run(load, receiver, stop).await;
        });
        Started { reloads, cancel, task, actor }
    }

    /// Lets time pass.
    async fn pass(&self, minutes: u32) {
        self.clock.sleep(MINUTE * minutes).await;
    }

    /// Returns since the last call, in order, what was said of these names.
    fn said(&self, events: &[&str]) -> Vec<String> {
        let all = std::mem::take(&mut *self.said.lock().expect("sound"));
        let is_asked =
            |line: &String| events.iter().any(|event| line.ends_with(&format!(" {event}")));
        all.into_iter().filter(is_asked).collect()
    }
}

impl Started {
    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.expect("ended");
    }

    /// As `kill -9` does it.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.expect_err("killed").is_cancelled());
    }
}

const fn good(_: &Label, _: usize) -> Course {
    Course::Good(MINUTE)
}

#[tokio::test(start_paused = true)]
async fn a_night_in_which_the_clock_springs_forward_lacks_no_run() {
    let host =
        Host::new("2026-03-28T23:00:00Z", &[("hourly", "15 * * * *"), ("nightly", "30 2 * * *")]);
    let service = host.start(good);
    host.pass(6 * 60).await;
    service.stop().await;
    // 02:15 and 02:30 are not shown that night: both run at 03:00 CEST, which is 01:00 UTC, one after the other.
    assert_eq!(
        host.said(&["run_begun"]),
        [
            "28 23:15 hourly run_begun",
            "29 00:15 hourly run_begun",
            "29 01:00 hourly run_begun",
            "29 01:01 nightly run_begun",
            "29 01:15 hourly run_begun",
            "29 02:15 hourly run_begun",
            "29 03:15 hourly run_begun",
            "29 04:15 hourly run_begun",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_night_in_which_the_clock_falls_back_has_each_run_once() {
    let host =
        Host::new("2026-10-24T22:00:00Z", &[("hourly", "15 * * * *"), ("nightly", "30 2 * * *")]);
    let service = host.start(good);
    host.pass(5 * 60).await;
    service.stop().await;
    // 02:15 and 02:30 are shown at 00:15 and 00:30 UTC, and again an hour later.
    assert_eq!(
        host.said(&["run_begun"]),
        [
            "24 22:15 hourly run_begun",
            "24 23:15 hourly run_begun",
            "25 00:15 hourly run_begun",
            "25 00:30 nightly run_begun",
            "25 02:15 hourly run_begun",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_while_the_service_was_away_is_made_up_for_once() {
    let host = Host::new("2026-11-20T08:00:00Z", &[("hourly", "15 * * * *"), ("new", "0 0 1 1 *")]);
    let service = host.start(good);
    host.pass(60).await;
    service.stop().await;
    host.pass(5 * 60 + 10).await;
    let service = host.start(good);
    host.pass(60).await;
    service.stop().await;
    // One that never ran has missed nothing.
    assert_eq!(
        host.said(&["run_begun", "slot_missed"]),
        [
            "20 08:15 hourly run_begun",
            "20 14:10 hourly slot_missed",
            "20 14:10 hourly run_begun",
            "20 14:15 hourly run_begun",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_may_pass_is_tried_again_within_minutes_and_another_is_not() {
    let host =
        Host::new("2026-11-20T08:00:00Z", &[("away", "0 10 * * *"), ("wrong", "0 10 * * *")]);
    let service = host.start(|label, run| match (label.as_str(), run) {
        ("wrong", _) => Course::Lasting,
        (_, ..4) => Course::Passing(Duration::ZERO),
        _ => Course::Good(MINUTE),
    });
    host.pass(60 + 20).await;
    service.stop().await;
    // What takes a person is not tried within minutes, but each hour.
    assert_eq!(
        host.said(&["run_begun", "run_failed", "retry_scheduled"]),
        [
            "20 09:00 away run_begun",
            "20 09:00 away run_failed",
            "20 09:00 away retry_scheduled",
            "20 09:00 wrong run_begun",
            "20 09:00 wrong run_failed",
            "20 09:00 wrong retry_scheduled",
            "20 09:01 away run_begun",
            "20 09:01 away run_failed",
            "20 09:01 away retry_scheduled",
            "20 09:03 away run_begun",
            "20 09:03 away run_failed",
            "20 09:03 away retry_scheduled",
            "20 09:07 away run_begun",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn no_database_overlaps_itself_and_no_more_run_than_may() {
    let databases = [("a", "*/10 * * * *"), ("b", "*/10 * * * *"), ("c", "*/10 * * * *")];
    let host = Host::new("2026-11-20T08:05:00Z", &databases);
    host.configure("parallel = 2", &databases);
    let service = host.start(|label, _| {
        Course::Good(if label.as_str() == "a" { MINUTE * 25 } else { MINUTE * 4 })
    });
    host.pass(45).await;
    assert_eq!(service.actor.at_work.lock().expect("sound").1, 2);
    service.stop().await;
    assert_eq!(
        host.said(&["a run_begun", "c run_begun", "slots_passed"]),
        [
            "20 08:10 a run_begun",
            "20 08:14 c run_begun",
            "20 08:24 c run_begun",
            "20 08:34 c run_begun",
            "20 08:35 a slots_passed",
            "20 08:40 a run_begun",
            "20 08:44 c run_begun",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_hung_database_and_a_bug_hold_up_nobody_else() {
    let databases = [("bug", "0 * * * *"), ("hung", "0 * * * *"), ("sound", "30 * * * *")];
    let host = Host::new("2026-11-20T08:50:00Z", &databases);
    host.configure("parallel = 2", &databases);
    let service = host.start(|label, _| match label.as_str() {
        "hung" => Course::Hangs,
        "bug" => Course::Panics,
        _ => Course::Good(MINUTE),
    });
    host.pass(120).await;
    let stopping = Instant::now();
    service.stop().await;
    assert!(stopping.elapsed() < MINUTE, "a stop ends what hangs");
    assert_eq!(
        host.said(&["run_begun", "stopping", "stopped"]),
        [
            "20 09:00 bug run_begun",
            "20 09:00 hung run_begun",
            "20 09:30 sound run_begun",
            "20 10:00 bug run_begun",
            "20 10:30 sound run_begun",
            "20 10:50 - stopping",
            "20 10:50 - stopped",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_stop_or_a_kill_interrupts_is_taken_up_after_the_next_start() {
    let host = Host::new("2026-11-20T08:00:00Z", &[("nightly", "30 10 * * *")]);
    let slow = |_: &Label, _| Course::Good(MINUTE * 30);
    for is_killed in [false, true] {
        let service = host.start(slow);
        host.pass(40).await;
        if is_killed { service.kill().await } else { service.stop().await }
    }
    assert_eq!(host.said(&["run_begun"]), [""; 0], "not due yet");
    for is_killed in [false, true] {
        let service = host.start(slow);
        host.pass(20).await;
        if is_killed { service.kill().await } else { service.stop().await }
    }
    let service = host.start(slow);
    host.pass(60).await;
    service.stop().await;
    assert_eq!(
        host.said(&["run_begun", "run_ended"]),
        [
            "20 09:30 nightly run_begun",
            "20 09:41 nightly run_begun",
            "20 10:00 nightly run_begun",
            "20 10:30 nightly run_ended",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_reload_takes_what_is_new_and_refuses_what_is_wrong() {
    let host = Host::new("2026-11-20T08:00:00Z", &[("kept", "15 * * * *"), ("gone", "15 * * * *")]);
    let service = host.start(|_, _| Course::Good(MINUTE * 20));
    host.pass(20).await;
    // Both are due at 08:15; the second waits for the first.
    host.configure("", &[("kept", "50 * * * *"), ("added", "0 10 * * *")]);
    service.reloads.send(()).await.expect("taken");
    host.pass(60).await;
    fs::write(host.path(), "schedule = nonsense").expect("written");
    service.reloads.send(()).await.expect("taken");
    host.pass(60).await;
    host.configure("", &[("kept", "0 0 30 2 *")]);
    service.reloads.send(()).await.expect("taken");
    host.configure("", &[("kept", "")]);
    host.pass(1).await;
    service.reloads.send(()).await.expect("taken");
    host.pass(1).await;
    service.stop().await;
    assert_eq!(
        host.said(&["run_begun", "run_ended", "reloaded", "reload_refused"]),
        [
            "20 08:15 gone run_begun",
            "20 08:20 - reloaded",
            "20 08:35 gone run_ended",
            "20 08:50 kept run_begun",
            "20 09:10 kept run_ended",
            "20 09:10 added run_begun",
            "20 09:20 - reload_refused",
            "20 09:30 added run_ended",
            "20 09:50 kept run_begun",
            "20 10:10 kept run_ended",
            "20 10:20 - reload_refused",
            "20 10:21 - reload_refused",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_costs_no_run_and_makes_none_too_many() {
    let host = Host::new("2026-11-20T08:00:00Z", &[("hourly", "15 * * * *")]);
    let service = host.start(good);
    host.pass(30).await;
    host.clock.set_by(24 * 60);
    host.pass(30).await;
    host.clock.set_by(-24 * 60);
    host.pass(30).await;
    service.stop().await;
    assert_eq!(
        host.said(&["run_begun", "slot_missed", "clock_set_back"]),
        [
            "20 08:15 hourly run_begun",
            "21 08:30 hourly slot_missed",
            "21 08:30 hourly run_begun",
            "20 09:00 hourly clock_set_back",
            "20 09:15 hourly run_begun",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_state_directory_that_cannot_be_written_stops_no_backup() {
    let host = Host::new("2026-11-20T08:00:00Z", &[("hourly", "15 * * * *")]);
    fs::write(host.dir.path().join("state"), "in the way").expect("written");
    let service = host.start(good);
    host.pass(3 * 60).await;
    service.stop().await;
    let said = host.said(&["state_failed", "run_ended"]);
    assert_eq!(said.iter().filter(|line| line.ends_with("run_ended")).count(), 3);
    // Once that it cannot be read, once that it cannot be written.
    assert_eq!(said.iter().filter(|line| line.ends_with("state_failed")).count(), 2, "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_would_do_nothing_is_refused() {
    for (schedule, is_never) in [("", false), ("0 0 30 2 *", true)] {
        let host = Host::new("2026-11-20T08:00:00Z", &[("hourly", schedule)]);
        let config = DaemonConfig::load(&host.path()).expect("a configuration");
        let refused = check(&config, &Environment::default()).expect_err("refused");
        assert_eq!(matches!(refused, Failure::Never { .. }), is_never, "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_always_fails_after_the_next_slot_has_come_is_told() {
    let hourly = [("bookings", "0 * * * *")];
    let host = Host::new("2026-11-20T08:00:00Z", &hourly);
    let hook = host.dir.path().join("hook");
    fs::write(&hook, "http://127.0.0.1:1/").expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o600)).expect("set");
    host.configure(&format!("[notify]\nwebhook_url_file = '{}'", hook.display()), &hourly);
    let service = host.start(|_, _| Course::Stalls(MINUTE * 70));
    // Nobody takes it, so what is known of the database shows that it was to be told.
    let trouble = host.dir.path().join("state/notified/bookings.json");
    host.pass(60 + 80).await;
    assert!(!trouble.exists(), "it failed once, at 10:10");
    host.pass(75).await;
    assert!(trouble.exists(), "and again at 11:21");
    service.stop().await;
}

/// A job of an entry that stands for several databases, due.
fn job(host: &Host) -> Job {
    let config = DaemonConfig::load(&host.path()).expect("a configuration");
    let entry = config.databases()[0].clone();
    let schedule = entry.schedule.clone().expect("a schedule");
    let handled_at = host.clock.now() - TimeDelta::hours(2);
    let past = Past { handled_at, attempt: None };
    let agenda = Agenda::new(schedule, entry.time_zone, TimeDelta::zero(), past);
    let state = JobState::Due;
    Job { entry, agenda, state, outcomes: Vec::new(), unfinished: None, last: None }
}

fn outcome(label: &str, repository: &str, result: Taken) -> Outcome {
    let label: Label = label.parse().expect("a label");
    Outcome { label, repository: Some(repository.to_owned()), result }
}

fn away(label: &str) -> Taken {
    let label: Label = label.parse().expect("a label");
    Taken::Failed(Failure::Backup { label, source: Box::new(BackupError::Cancelled) })
}

fn denied(label: &str) -> Taken {
    Taken::Failed(Failure::NoDatabase { label: label.parse().expect("a label") })
}

fn taken(host: &Host, label: &str) -> Taken {
    let actor = Actor {
        clock: Arc::clone(&host.clock),
        script: Box::new(good),
        runs: Mutex::default(),
        at_work: Mutex::default(),
    };
    Taken::Snapshot(Box::new(actor.report(label.parse().expect("a label"))))
}

fn names(news: &std::collections::BTreeSet<Label>) -> Vec<&str> {
    news.iter().map(Label::as_str).collect()
}

#[tokio::test(start_paused = true)]
async fn of_several_databases_each_is_told_when_its_own_is_known() {
    let host = Host::new("2026-11-20T08:00:00Z", &[("shop", "15 * * * *")]);
    let (mut job, now) = (job(&host), host.clock.now());
    job.begin(now);
    let first = job.end(
        vec![
            outcome("shop-a", "x", taken(&host, "shop-a")),
            outcome("shop-b", "x", away("shop-b")),
            outcome("shop-c", "x", denied("shop-c")),
        ],
        now,
    );
    assert_eq!(names(&first.news), ["shop-a", "shop-c"], "what may pass in a minute waits");
    assert!(first.waits);
    assert!(matches!(first.event, Some(ServiceEvent::RetryScheduled { tries: 1, .. })));
    job.begin(now);
    let second = job.end(
        vec![
            outcome("shop-b", "x", taken(&host, "shop-b")),
            outcome("shop-c", "x", denied("shop-c")),
        ],
        now,
    );
    assert_eq!(names(&second.news), ["shop-b", "shop-c"], "what was told well is not told again");
    assert!(!second.waits);
    assert_eq!(job.last.map(|(is_good, _)| is_good), Some(false));
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_is_lacking_is_not_forgotten_when_another_succeeds() {
    let host = Host::new("2026-11-20T08:00:00Z", &[("shop", "15 * * * *")]);
    let (mut job, now) = (job(&host), host.clock.now());
    job.begin(now);
    job.end(
        vec![outcome("shop", "a", taken(&host, "shop")), outcome("shop", "b", away("shop"))],
        now,
    );
    job.begin(now);
    let second = job.end(vec![outcome("shop", "b", taken(&host, "shop"))], now);
    assert_eq!(names(&second.news), ["shop"]);
    let repositories: Vec<_> = job.outcomes.iter().map(|each| each.repository.as_deref()).collect();
    assert_eq!(repositories, [Some("a"), Some("b")], "both snapshots are told");
    assert!(job.unfinished.is_none() && job.last.is_some_and(|(is_good, _)| is_good));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_skipped_after_a_failure_of_its_own_is_tried_again() {
    let host = Host::new("2026-11-20T08:00:00Z", &[("shop", "15 * * * *")]);
    let now = host.clock.now();
    let skipped = || {
        let label: Label = "shop".parse().expect("a label");
        let failure = Failure::Stopped { label: label.clone() };
        vec![Outcome { label, repository: None, result: Taken::Skipped(failure) }]
    };
    let mut job = job(&host);
    job.begin(now);
    assert!(job.end(skipped(), now).event.is_none(), "the other run takes the snapshot");
    let mut job = self::job(&host);
    job.begin(now);
    job.end(vec![outcome("shop", "x", away("shop"))], now);
    job.begin(now);
    let event = job.end(skipped(), now).event;
    assert!(matches!(event, Some(ServiceEvent::RetryScheduled { tries: 2, .. })), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn runs_that_are_killed_again_and_again_are_said() {
    let host = Host::new("2026-11-20T08:00:00Z", &[("nightly", "30 10 * * *")]);
    let slow = |_: &Label, _| Course::Good(MINUTE * 50);
    for _ in 0..4 {
        let service = host.start(slow);
        host.pass(40).await;
        service.kill().await;
    }
    assert_eq!(
        host.said(&["run_begun", "run_failed"]),
        ["20 09:30 nightly run_begun", "20 10:00 nightly run_begun",]
    );
    let service = host.start(slow);
    host.pass(40).await;
    service.kill().await;
    assert_eq!(host.said(&["run_failed"]), ["20 10:40 nightly run_failed"]);
}
