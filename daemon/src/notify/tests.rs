//! What is told, once and again, and in which form.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::mpsc as channel,
};

use serde_json::Value;
use stonekeep_format::ids::{Label, SnapshotId};

use super::{
    memory::{IDLE_RUNS_MAX, State, decide},
    notice::Kind,
    run::{Failed, Snapshot},
    *,
};
use crate::log::assert_documented;

const DAY: Duration = Duration::from_secs(86_400);

fn at(hour: u32) -> DateTime<Utc> {
    let start: DateTime<Utc> = "2026-11-21T00:00:00Z".parse().expect("a date");
    start + chrono::TimeDelta::hours(i64::from(hour))
}

fn label() -> Label {
    "bookings".parse().expect("a label")
}

fn run(hour: u32, verdict: Verdict, kinds: &[&'static str]) -> Run {
    let failed = |kind: &&'static str| Failed {
        repository: Some("vault".to_owned()),
        kind,
        message: format!("cannot: {hour}"),
    };
    let snapshot = || Snapshot {
        repository: "vault".to_owned(),
        snapshot: SnapshotId::new(at(hour), 1),
        tier: "hourly".to_owned(),
        promised_until: at(hour + 168),
        suspicious: (verdict == Verdict::Suspicious).then(|| "rows went from 9 to 1".to_owned()),
    };
    Run {
        label: label(),
        at: at(hour),
        next_run_at: Some(at(hour + 1)),
        verdict,
        snapshots: if kinds.is_empty() { vec![snapshot()] } else { Vec::new() },
        failures: kinds.iter().map(failed).collect(),
    }
}

/// What is told of these runs, of which all that is told arrives.
fn told(runs: &[Run]) -> Vec<Option<Kind>> {
    let mut state = State::default();
    let mut one = |run: &Run| {
        let decision = decide(&state, run, DAY, IDLE_RUNS_MAX);
        state = decision.told;
        decision.notice
    };
    runs.iter().map(&mut one).collect()
}

#[test]
fn a_failure_is_told_once_and_its_end() {
    use Verdict::{Failed, Good};
    let denied = |hour| run(hour, Failed, &["denied"]);
    let good = |hour| run(hour, Good, &[]);
    assert_eq!(
        told(&[good(0), denied(1), denied(2), denied(3), good(4), good(5), denied(6)]),
        [None, Some(Kind::Failed), None, None, Some(Kind::Recovered), None, Some(Kind::Failed)]
    );
}

#[test]
fn a_failure_that_lasts_is_told_again_and_one_that_changes_at_once() {
    let failed = |hour, kind| run(hour, Verdict::Failed, &[kind]);
    assert_eq!(
        told(&[
            failed(0, "denied"),
            failed(23, "denied"),
            failed(24, "denied"),
            failed(47, "denied")
        ]),
        [Some(Kind::Failed), None, Some(Kind::Failed), None]
    );
    // Two that take turns are told once each.
    let turns: Vec<Run> =
        (0..6).map(|n| failed(n, if n % 2 == 0 { "unavailable" } else { "unreachable" })).collect();
    assert_eq!(told(&turns).iter().flatten().count(), 2);
    // The host's clock was set back by two days.
    assert_eq!(told(&[failed(48, "denied"), failed(0, "denied")]), [Some(Kind::Failed); 2]);
}

#[test]
fn each_suspicious_snapshot_is_told_and_the_first_good_one() {
    use Verdict::{Good, Suspicious};
    assert_eq!(
        told(&[run(0, Suspicious, &[]), run(1, Suspicious, &[]), run(2, Good, &[])]),
        [Some(Kind::Suspicious), Some(Kind::Suspicious), Some(Kind::Recovered)]
    );
}

#[test]
fn skipped_runs_are_told_when_they_are_many() {
    let idle = |hour| run(hour, Verdict::Idle, &["unavailable"]);
    let good = |hour| run(hour, Verdict::Good, &[]);
    assert_eq!(told(&[idle(0), idle(1), good(2), idle(3), idle(4), good(5)]), [None; 6]);
    assert_eq!(
        told(&[idle(0), idle(1), idle(2), idle(3), idle(27), good(28)]),
        [None, None, Some(Kind::Stuck), None, Some(Kind::Stuck), Some(Kind::Recovered)]
    );
}

#[test]
fn what_did_not_arrive_is_told_by_the_next_run() {
    let failed =
        decide(&State::default(), &run(0, Verdict::Failed, &["denied"]), DAY, IDLE_RUNS_MAX);
    assert_eq!(failed.untold.trouble_since, Some(at(0)));
    let again = decide(&failed.untold, &run(1, Verdict::Failed, &["denied"]), DAY, IDLE_RUNS_MAX);
    assert_eq!(again.notice, Some(Kind::Failed));
    // Of a failure that nobody heard of, nobody need hear the end.
    assert_eq!(
        decide(&failed.untold, &run(1, Verdict::Good, &[]), DAY, IDLE_RUNS_MAX).notice,
        None
    );
    let good = decide(&again.told, &run(2, Verdict::Good, &[]), DAY, IDLE_RUNS_MAX);
    assert_eq!(
        decide(&good.untold, &run(3, Verdict::Good, &[]), DAY, IDLE_RUNS_MAX).notice,
        Some(Kind::Recovered)
    );
}

#[test]
fn what_was_told_outlives_the_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let state_dir = dir.path().join("state");
    let failed =
        decide(&State::default(), &run(0, Verdict::Failed, &["denied"]), DAY, IDLE_RUNS_MAX).told;
    let mut memory = Memory::new(&state_dir);
    assert_eq!(memory.remember(&label(), failed.clone()), None);
    let other = Memory::new(&state_dir);
    assert_eq!(other.state(&label()), failed);
    assert_eq!(other.trouble(at(1), |_| true), Some(label()));
    assert_eq!(other.trouble(at(1), |_| false), None, "it is no longer configured");
    assert_eq!(other.trouble(at(36 * 24), |_| true), None, "nothing was heard of it for long");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let file = state_dir.join("notified/bookings.json");
    assert_eq!((mode(&state_dir.join("notified")), mode(&file)), (0o700, 0o600));
    fs::write(&file, "{").expect("written");
    assert_eq!(Memory::new(&state_dir).state(&label()), State::default(), "a damaged file");
    assert_eq!(memory.remember(&label(), State::default()), None);
    assert!(!file.exists(), "of a database that is well nothing is kept");
}

#[test]
fn without_a_state_directory_it_is_remembered_until_the_end_and_said_once() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("state"), "a file").expect("written");
    let mut memory = Memory::new(&dir.path().join("state"));
    let failed =
        decide(&State::default(), &run(0, Verdict::Failed, &["denied"]), DAY, IDLE_RUNS_MAX).told;
    assert!(memory.remember(&label(), failed.clone()).is_some());
    assert_eq!(memory.remember(&label(), failed.clone()), None);
    assert_eq!(memory.state(&label()), failed);
}

#[test]
fn a_run_that_came_to_nothing_is_told_at_once_where_runs_cannot_be_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("file"), "a file").expect("written");
    let idle = run(0, Verdict::Idle, &["unavailable"]);
    let notice = |memory: &Memory| {
        let (before, max) = (State::default(), memory.idle_runs_max(&idle, &State::default()));
        let notice = decide(&before, &idle, DAY, max).notice;
        notice.map(|kind| Notice::of_run(kind, &idle, &before).subject().to_owned())
    };
    let (kept, unkept) = (dir.path().join("state"), dir.path().join("file"));
    assert_eq!(notice(&Memory::of_one_run(&kept)), None);
    assert_eq!(notice(&Memory::new(&unkept)), None, "a service counts them itself");
    let told = notice(&Memory::of_one_run(&unkept)).unwrap_or_default();
    assert_eq!(told, "stonekeep: bookings: no snapshot in this run: skipped or stopped");
}

#[test]
fn a_message_says_what_is_known_in_every_form() {
    let before =
        decide(&State::default(), &run(0, Verdict::Failed, &["denied"]), DAY, IDLE_RUNS_MAX).told;
    let notice = Notice::of_run(Kind::Failed, &run(3, Verdict::Failed, &["denied"]), &before);
    assert_eq!(notice.subject(), "stonekeep: bookings: backup FAILED (denied)");
    let json = serde_json::to_value(&notice).expect("JSON");
    assert_eq!(
        json,
        serde_json::json!({
            "text": "stonekeep: bookings: backup FAILED (denied)", "notice": "failed", "at": at(3),
            "label": "bookings", "since": at(0), "next_run_at": at(4), "snapshots": [],
            "failures": [{ "repository": "vault", "kind": "denied", "message": "cannot: 3" }],
        })
    );
    let letter = notice.letter();
    for line in [
        "vault: denied: cannot: 3",
        "Not well since 2026-11-21T00:00:00Z",
        "Next run at 2026-11-21T04:00:00Z",
    ] {
        assert!(letter.contains(line), "{letter}");
    }
    let good = Notice::of_run(Kind::Recovered, &run(3, Verdict::Good, &[]), &before);
    assert_eq!(good.subject(), "stonekeep: bookings: good again after 3 hours");
    let shrunk = Notice::of_run(Kind::Suspicious, &run(3, Verdict::Suspicious, &[]), &before);
    assert_eq!(shrunk.subject(), "stonekeep: bookings: SUSPICIOUS snapshot: rows went from 9 to 1");
}

#[test]
fn a_chat_calls_nobody_and_takes_no_more_than_it_can() {
    let mut hostile = run(0, Verdict::Failed, &["denied"; 20]);
    for failed in &mut hostile.failures {
        failed.message = format!("<!channel> @everyone\r\nSubject: x & {}", "ü".repeat(5_000));
    }
    let notice = Notice::of_run(Kind::Failed, &hostile, &State::default());
    let slack = notice.slack();
    let text = slack["text"].as_str().expect("text");
    assert!(text.contains("&lt;!channel&gt;") && !text.contains("@everyone"), "{text}");
    assert!(text.starts_with("stonekeep: bookings: backup FAILED (denied)\n"), "{text}");
    assert!(text.chars().count() <= 2_000);
    let blocks = slack["blocks"].as_array().expect("blocks");
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        assert_eq!((&block["type"], &block["text"]["type"]), (&"section".into(), &"mrkdwn".into()));
    }
    assert!(!notice.letter().contains('\r') && notice.letter().len() < 12_000);
    assert!(!notice.subject().contains(['\r', '\n']));
}

#[test]
fn no_label_can_begin_another_line() {
    for bad in ["a\nb", "a\r\nBcc: x", "a b", "a\u{2028}b", "a@b", "<a>"] {
        assert!(bad.parse::<Label>().is_err(), "{bad:?}");
    }
}

#[test]
fn the_docs_name_all_that_is_said_of_telling() {
    let (to, notice, message) = ("webhook", Kind::Failed, "x".to_owned());
    for said in [
        Told::NoticeSent { to, notice },
        Told::NoticeLost { to, notice, message: message.clone() },
        Told::NoticesDropped,
        Told::NoticesUnfinished,
        Told::NoticesNotRemembered { message: message.clone() },
        Told::PingSent,
        Told::PingLost { message },
        Told::PingUnsure,
        Told::PingHeld { trouble: label() },
    ] {
        assert_documented(&said);
    }
}

/// Somebody who is called and answers with what is configured: each path that is called, with its body.
fn listener(answer: &'static str) -> (String, channel::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (heard, calls) = channel::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a call");
            let (mut text, mut bytes) = (String::new(), [0; 65_536]);
            let body = loop {
                let length = stream.read(&mut bytes).expect("a request");
                text.push_str(&String::from_utf8_lossy(&bytes[..length]));
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
                    break body.to_owned();
                }
            };
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let head = "content-length: 0\r\nconnection: close\r\n\r\n";
            let _gone = write!(stream, "HTTP/1.1 {answer}\r\n{head}");
            let _gone = heard.send((path, body));
        }
    });
    (url, calls)
}

/// Channels to `url`: a webhook, a ping of all, and one of `bookings`.
fn channels(dir: &Path, url: &str) -> Channels {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
        path.display().to_string()
    };
    let (hook, ping, own) = (
        write("hook", &format!("{url}/hook")),
        write("ping", &format!("{url}/ping")),
        write("own", &format!("{url}/own")),
    );
    let recipients = [
        "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg",
        "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa",
    ];
    let file = write(
        "stonekeepd.toml",
        &format!(
            "signer_file = \"x\"\nallowed_signers_file = \"x\"\n[encryption]\nrecipients = {recipients:?}\n\
             [[repository]]\nname = \"vault\"\nbucket = \"acme-vault\"\nregion = \"r\"\n\
             [[tier]]\nname = \"hourly\"\nevery = \"hour\"\nkeep = \"7d\"\n\
             [[database]]\nname = \"bookings\"\nurl = \"postgres://u@db/x\"\nping_url_file = {own:?}\n\
             [[database]]\nname = \"shop\"\nurl = \"postgres://u@db/y\"\n\
             [notify]\nwebhook_url_file = {hook:?}\nping_url_file = {ping:?}\n"
        ),
    );
    let config = DaemonConfig::load(Path::new(&file)).expect("a configuration");
    Channels::load(&config, &Environment::default()).expect("channels")
}

fn teller(dir: &Path, url: &str) -> Teller {
    Teller {
        told: Arc::new(Mutex::new(Memory::new(dir))),
        channels: Arc::new(channels(dir, url)),
        repeat: DAY,
        voice: Voice::Text,
        clock: Arc::new(SystemClock),
        is_good: None,
        has_dropped: Arc::new(AtomicBool::new(false)),
    }
}

async fn work(teller: Teller, jobs: Vec<Job>) {
    let (queue, waiting) = mpsc::channel(QUEUE_MAX);
    for job in jobs {
        queue.try_send(job).unwrap_or_else(|_| panic!("room"));
    }
    drop(queue);
    teller.work(waiting).await;
}

fn of(name: &str, verdict: Verdict, kinds: &[&'static str]) -> Job {
    let label = name.parse().expect("a label");
    Job::Runs(vec![Run { label, at: SystemClock.now(), ..run(0, verdict, kinds) }])
}

#[tokio::test]
async fn pings_are_called_only_when_all_is_well() {
    use Verdict::{Failed, Good, Idle, Suspicious};
    let dir = tempfile::tempdir().expect("a directory");
    let (url, calls) = listener("200 OK");
    let called = async |jobs: Vec<Job>| {
        work(teller(dir.path(), &url), jobs).await;
        let mut count = BTreeMap::new();
        for (path, body) in calls.try_iter() {
            let notice = serde_json::from_str::<Value>(&body).ok();
            let notice = notice.and_then(|body| Some(body["notice"].as_str()?.to_owned()));
            *count.entry(notice.unwrap_or(path)).or_insert(0) += 1;
        }
        count.into_iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>()
    };
    let good = |name| of(name, Good, &[]);
    assert_eq!(called(vec![good("bookings"), good("shop"), Job::End]).await, ["/own 1", "/ping 1"]);
    assert_eq!(called(vec![Job::End]).await, [""; 0], "nothing was run");
    let shop = of("shop", Failed, &["denied"]);
    assert_eq!(called(vec![good("bookings"), shop, Job::End]).await, ["/own 1", "failed 1"]);
    // Another run, in which the one that failed was not due.
    assert_eq!(called(vec![good("bookings"), Job::End]).await, ["/own 1"]);
    assert_eq!(called(vec![good("shop"), Job::End]).await, ["/ping 1", "recovered 1"]);
    for verdict in [Suspicious, Idle] {
        let calls = called(vec![of("bookings", verdict, &[]), good("shop"), Job::End]).await;
        assert!(calls.iter().all(|call| !call.starts_with('/')), "{verdict:?}: {calls:?}");
    }
}

#[tokio::test]
async fn a_run_that_found_no_place_in_the_queue_holds_the_next_ping() {
    let dir = tempfile::tempdir().expect("a directory");
    let (url, calls) = listener("200 OK");
    let (queue, mut jobs) = mpsc::channel(1);
    let mut teller = teller(dir.path(), &url);
    let notices = Notices {
        told: Arc::clone(&teller.told),
        channels: Arc::clone(&teller.channels),
        voice: Voice::Text,
        queue,
        has_dropped: Arc::clone(&teller.has_dropped),
        task: tokio::spawn(async {}),
    };
    let failed = |number: u32| {
        let label: Label = format!("server-{number}").parse().expect("a label");
        Outcome::failed(label.clone(), Failure::Stopped { label })
    };
    notices.tell(&(0..1_000).map(failed).collect::<Vec<_>>(), None);
    assert!(!teller.has_dropped.load(Ordering::Acquire), "one run takes one place");
    assert!(matches!(jobs.try_recv(), Ok(Job::Runs(runs)) if runs.len() == 1_000));
    notices.put(of("shop", Verdict::Good, &[]));
    notices.put(of("shop", Verdict::Failed, &["denied"]));
    for _ in 0..2 {
        teller.is_good = Some(true);
        teller.end().await;
    }
    assert_eq!(calls.try_iter().count(), 1, "the second end knows of all");
}

#[tokio::test]
async fn what_nobody_took_is_told_by_the_next_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let failed = || vec![of("shop", Verdict::Failed, &["denied"])];
    let (refusing, calls) = listener("404 Not Found");
    work(teller(dir.path(), &refusing), failed()).await;
    assert_eq!(calls.try_iter().count(), 1);
    let (taking, calls) = listener("200 OK");
    work(teller(dir.path(), &taking), failed()).await;
    work(teller(dir.path(), &taking), failed()).await;
    assert_eq!(calls.try_iter().count(), 1, "once, by the first that arrived");
}

#[tokio::test]
async fn a_server_whose_databases_can_be_listed_again_is_in_no_trouble() {
    let dir = tempfile::tempdir().expect("a directory");
    let (url, calls) = listener("200 OK");
    let listed = || {
        let shop = "shop".parse().expect("a label");
        vec![
            Job::Listed(Run::good(shop, SystemClock.now())),
            of("shop-eu", Verdict::Good, &[]),
            Job::End,
        ]
    };
    work(teller(dir.path(), &url), vec![of("shop", Verdict::Failed, &["unreachable"])]).await;
    work(teller(dir.path(), &url), listed()).await;
    work(teller(dir.path(), &url), listed()).await;
    let told = calls.try_iter().map(|(path, body)| {
        let notice = serde_json::from_str::<Value>(&body).ok();
        notice.and_then(|body| Some(body["notice"].as_str()?.to_owned())).unwrap_or(path)
    });
    assert_eq!(told.collect::<Vec<_>>(), ["failed", "recovered", "/ping", "/ping"]);
}
