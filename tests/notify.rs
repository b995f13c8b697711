//! Whom the daemon tells of what: over HTTP and by mail, from the real program, to real servers; and what it never tells.

use std::{
    fs,
    io::Read as _,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Database, Installation, User, must, run, said, script},
    listener::{Listener, SECRET},
};

const ROW: &str = "canary-in-a-row";
const PASSWORD: &str = "canary-in-the-mail-password";
const SCRIPT: &str = "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, 'canary-in-a-row ' || md5(i::text) FROM generate_series(1, 1000) i";

/// A mail server with STARTTLS and a login.
struct Mail {
    dir: tempfile::TempDir,
}

impl Mail {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        must(Command::new(script("smtp.sh")).arg("up").arg(dir.path()).args(["keeper", PASSWORD]));
        Self { dir }
    }

    fn port(&self) -> String {
        fs::read_to_string(self.dir.path().join("port")).expect("it listens")
    }

    /// The letters that came since the last time, each with its recipients before it.
    fn letters(&self) -> Vec<String> {
        let files = fs::read_dir(self.dir.path().join("letters")).expect("a directory");
        let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
        files.sort();
        let take = |file: &PathBuf| {
            let text = fs::read_to_string(file).expect("a letter");
            fs::remove_file(file).expect("removed");
            text
        };
        files.iter().map(take).collect()
    }
}

impl Drop for Mail {
    fn drop(&mut self) {
        drop(run(Command::new(script("smtp.sh")).arg("down").arg(self.dir.path())));
    }
}

/// An installation whose daemon tells a webhook, two people by mail, and two dead man's switches.
struct Told {
    source: Database,
    installation: Installation,
    mail: Mail,
    webhook: Listener,
    ping: Listener,
    own_ping: Listener,
}

impl Told {
    fn start(hint: &str) -> Self {
        let source = Database::create(hint, SCRIPT);
        let told = Self {
            installation: Installation::create(&source),
            source,
            mail: Mail::start(),
            webhook: Listener::start("webhook"),
            ping: Listener::start("ping"),
            own_ping: Listener::start("own"),
        };
        for (name, text) in [
            ("webhook", told.webhook.url.as_str()),
            ("ping", &told.ping.url),
            ("own", &told.own_ping.url),
            ("mail-password", PASSWORD),
        ] {
            told.installation.write(name, text);
        }
        told.configure(|text| text);
        told
    }

    fn configure(&self, change: impl FnOnce(String) -> String) {
        let mail = self.mail.dir.path().join("ca.pem");
        let notify = format!(
            "ping_url_file = \"own\"\n[notify]\nwebhook_url_file = \"webhook\"\nping_url_file = \"ping\"\n\
             [notify.mail]\nhost = \"127.0.0.1\"\nport = {}\nca_file = {mail:?}\nuser = \"keeper\"\npassword_file = \"mail-password\"\n\
             from = \"Stonekeep <keeper@example.com>\"\nto = [\"day@example.com\", \"Night <night@example.com>\"]\n",
            self.mail.port(),
        );
        self.installation.configure(|text| change(text + &notify));
    }

    /// Lets the database be one that is not there.
    fn break_it(&self) {
        self.configure(|text| text.replace(&format!("/{}\"", self.source.name), "/nowhere\""));
    }

    fn daemon(&self, args: &[&str]) -> Output {
        let output = run(self.installation.daemon(args).env("STONEKEEP_LOG", "trace"));
        let all = format!("{}{}", said(&output), String::from_utf8_lossy(&output.stdout));
        for secret in [SECRET, PASSWORD, ROW] {
            assert!(!all.contains(secret), "{secret} is in what {args:?} prints");
        }
        output
    }

    fn backup(&self, code: i32) -> Heard {
        let output = self.daemon(&["backup"]);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        self.heard()
    }

    /// What everybody has heard since the last time; none of it is a secret or a row.
    fn heard(&self) -> Heard {
        let heard = Heard {
            posted: self.webhook.heard().iter().map(|request| body(request)).collect(),
            letters: self.mail.letters(),
            pings: self.ping.heard().len(),
            own_pings: self.own_ping.heard().len(),
        };
        let all = format!("{:?}{:?}", heard.posted, heard.letters);
        let keys = [User::Writer.keys().1, User::Owner.keys().1];
        for secret in [SECRET, PASSWORD, ROW, &keys[0], &keys[1]] {
            assert!(!all.contains(secret), "{secret} is in a message");
        }
        heard
    }
}

#[derive(Debug)]
struct Heard {
    posted: Vec<Value>,
    letters: Vec<String>,
    pings: usize,
    own_pings: usize,
}

impl Heard {
    fn is_silence(&self) -> bool {
        self.posted.is_empty() && self.letters.is_empty() && self.pings + self.own_pings == 0
    }

    /// One message of this kind, posted and by mail, and no ping; returns what was posted.
    fn is_told(&self, notice: &str, subject: &str) -> &Value {
        assert_eq!((self.posted.len(), self.letters.len()), (1, 1), "{self:?}");
        let (posted, letter) = (&self.posted[0], &self.letters[0]);
        assert_eq!(posted["notice"], notice, "{posted}");
        assert!(posted["text"].as_str().is_some_and(|text| text.starts_with(subject)), "{posted}");
        let (to, letter) = letter.split_once("\n\n").expect("recipients");
        assert_eq!(to, "day@example.com\nnight@example.com");
        assert!(letter.contains(&format!("Subject: {subject}")), "{letter}");
        posted
    }
}

fn body(request: &str) -> Value {
    let (head, body) = request.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("POST ") && head.contains("content-type: application/json"), "{head}");
    serde_json::from_str(body).expect("JSON")
}

#[test]
fn what_fails_shrinks_and_recovers_is_told_once_and_pings_only_when_all_is_well() {
    let told = Told::start("told");
    let good = told.backup(0);
    assert_eq!((good.pings, good.own_pings), (1, 1), "{good:?}");
    assert!(good.posted.is_empty() && good.letters.is_empty(), "{good:?}");
    let named = told.daemon(&["backup", "bookings"]);
    assert!(named.status.success(), "{}", said(&named));
    let named = told.heard();
    assert_eq!((named.pings, named.own_pings), (0, 1), "of all it says nothing: {named:?}");

    told.break_it();
    let failed = told.backup(78);
    let posted = failed.is_told("failed", "stonekeep: bookings: backup FAILED (config)");
    assert_eq!(
        (&posted["label"], &posted["failures"][0]["kind"]),
        (&"bookings".into(), &"config".into())
    );
    assert!(posted["failures"][0]["message"].as_str().is_some_and(|text| text.contains("nowhere")));
    assert_eq!((failed.pings, failed.own_pings), (0, 0), "{failed:?}");
    assert!(told.backup(78).is_silence(), "it was told by another process");
    let state = told.installation.path("state/notified/bookings.json");
    assert!(state.exists());

    told.configure(|text| text);
    let good = told.backup(0);
    let posted = good.is_told("recovered", "stonekeep: bookings: good again");
    assert_eq!(posted["snapshots"][0]["repository"], "vault", "{posted}");
    assert_eq!((good.pings, good.own_pings, state.exists()), (1, 1, false), "{good:?}");

    told.source.query("DELETE FROM t WHERE a > 10");
    for _ in 0..2 {
        let shrunk = told.backup(0);
        let posted = shrunk.is_told("suspicious", "stonekeep: bookings: SUSPICIOUS snapshot");
        assert!(posted["snapshots"][0]["suspicious"].is_string(), "{posted}");
        assert_eq!((shrunk.pings, shrunk.own_pings), (0, 0), "{shrunk:?}");
    }
    let output = told.daemon(&["backup", "--accept-shrink"]);
    assert!(output.status.success(), "{}", said(&output));
    let good = told.heard();
    good.is_told("recovered", "stonekeep: bookings: good again");
    assert_eq!((good.pings, good.own_pings), (1, 1), "{good:?}");
}

#[test]
fn whoever_reads_the_output_may_be_gone() {
    let told = Told::start("unread");
    let metrics = told.installation.path("stonekeep-%l.prom");
    told.configure(|text| {
        let (url, metrics) = (&told.source.url, metrics.display());
        let second = "[[database]]\nname = \"second\"";
        format!(
            "metrics_file = \"{metrics}\"\n{text}{second}\nurl = \"{url}\"\ntls = \"disable\"\n"
        )
    });
    let mut backup = told.installation.daemon(&["backup"]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("there");
    let output = run(backup.stdout(full));
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    let heard = told.heard();
    assert!(heard.posted.is_empty() && heard.letters.is_empty(), "{heard:?}");
    assert_eq!(heard.pings, 1, "both have their snapshots: {heard:?}");
    for label in ["bookings", "second"] {
        let file = told.installation.path(&format!("stonekeep-{label}.prom"));
        let figures = fs::read_to_string(file).expect("written");
        let good =
            format!("stonekeep_backup_success{{database=\"{label}\",repository=\"vault\"}} 1");
        assert!(figures.contains(&good), "{figures}");
    }

    // Nothing can be begun: what the last run wrote is no more.
    fs::remove_file(told.installation.path("signer")).expect("removed");
    let output = told.daemon(&["backup", "second"]);
    assert!(!output.status.success());
    for (label, success) in [("bookings", 1), ("second", 0)] {
        let file = told.installation.path(&format!("stonekeep-{label}.prom"));
        let figures = fs::read_to_string(file).expect("written");
        let line = format!(
            "stonekeep_backup_success{{database=\"{label}\",repository=\"vault\"}} {success}"
        );
        assert!(figures.contains(&line), "{figures}");
    }
}

#[test]
fn an_attack_that_succeeds_is_told_and_a_test_when_asked_for() {
    let told = Told::start("attacked");
    let (id, secret) = User::Owner.keys();
    let mut prove = told.installation.daemon(&["prove"]);
    let output = run(prove.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secret));
    assert_eq!(output.status.code(), Some(65), "{}", said(&output));
    let heard = told.heard();
    let posted = heard.is_told("attacked", "stonekeep: vault: AN ATTACK SUCCEEDED");
    assert!(posted["failures"].as_array().is_some_and(|failures| !failures.is_empty()));
    assert_eq!((heard.pings, heard.own_pings), (0, 0), "{heard:?}");

    let checked = told.daemon(&["check"]);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(text.contains("ok    notify: webhook (json): can be used"), "{text}");
    assert!(told.heard().is_silence());
    told.configure(|text| text.replace("[notify]", "[notify]\nwebhook_format = \"slack\""));
    let checked = told.daemon(&["check", "--notify"]);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success() && text.contains("took a test"), "{text}");
    let heard = told.heard();
    let Heard { posted, letters, pings: 0, own_pings: 0 } = &heard else { panic!("{heard:?}") };
    assert!(letters[0].contains("Subject: stonekeep: this is a test"), "{letters:?}");
    assert!(posted[0]["text"].as_str().is_some_and(|text| text.contains("this is a test")));
    assert_eq!(posted[0]["blocks"][0]["text"]["type"], "mrkdwn", "{posted:?}");
}

#[test]
fn who_does_not_take_it_changes_no_exit_code_and_is_named() {
    let told = Told::start("untold");
    told.installation.write("mail-password", "another");
    told.break_it();
    let output = told.daemon(&["backup"]);
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    let log = said(&output);
    assert!(log.contains("the mail was not told (failed)") && log.contains("535"), "{log}");
    let heard = told.heard();
    assert_eq!((heard.posted.len(), heard.letters.len()), (1, 0), "{heard:?}");
    // A test says so, and a certificate that nobody vouches for is not talked to.
    let checked = told.daemon(&["check", "--notify"]);
    assert_eq!(checked.status.code(), Some(78));
    told.configure(|text| {
        let lines = text.lines().filter(|line| !line.starts_with("ca_file"));
        lines.collect::<Vec<_>>().join("\n")
    });
    let checked = told.daemon(&["check", "--notify"]);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(text.contains("FAIL  notify: mail") && text.contains("certificate"), "{text}");
    assert!(told.mail.letters().is_empty());
    // What can never work shows before anything is backed up.
    for (name, wrong) in [("ping", "http://example.com/"), ("webhook", "nonsense")] {
        let installation = &told.installation;
        let right = fs::read_to_string(installation.path(name)).expect("written");
        installation.write(name, wrong);
        for args in [["check"], ["backup"]] {
            let output = told.daemon(&args);
            assert_eq!(output.status.code(), Some(78), "{name} {args:?}");
            assert!(said(&output).contains(&format!("{name}_url_file")), "{}", said(&output));
        }
        installation.write(name, &right);
    }
}

#[test]
fn a_webhook_that_hangs_does_not_keep_a_run_from_ending() {
    let source = Database::create("hanging", SCRIPT);
    let installation = Installation::create(&source);
    let hanging = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", hanging.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in hanging.incoming() {
            let mut stream = stream.expect("a call");
            let _read = stream.read(&mut [0; 1024]);
            held.push(stream);
        }
    });
    installation.write("webhook", &url);
    installation.configure(|text| {
        let text = text.replace(&format!("/{}\"", source.name), "/nowhere\"");
        format!("{text}[notify]\nwebhook_url_file = \"webhook\"\n")
    });
    let begun = Instant::now();
    let output = run(&mut installation.daemon(&["backup"]));
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert!(said(&output).contains("the webhook was not told"), "{}", said(&output));
}
