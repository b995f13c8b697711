//! The status page of the real service, in a real browser: what it says, how it looks, and what it does not tell.

use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    browser::{Browser, Scheme},
    harness::{Database, Installation, run},
};

const SCRIPT: &str = "CREATE TABLE secret_customers (a int, b text); INSERT INTO secret_customers SELECT i, md5(i::text) FROM generate_series(1, 1000) i";
/// How long the service may take to look at a bucket.
const READY_MAX: Duration = Duration::from_secs(30);

/// `stonekeepd run`, killed at the end.
pub(crate) struct Service {
    child: Child,
    url: String,
}

impl Service {
    /// Starts it with these lines in `[status]`, and waits until it is ready.
    pub(crate) fn start(installation: &Installation, status: &str) -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let config = fs::read_to_string(installation.path("stonekeepd.toml")).expect("written");
        let section = format!("[status]\nlisten = \"{port}\"\n{status}\n[encryption]\n");
        installation.write("stonekeepd.toml", &config.replace("[encryption]\n", &section));
        let mut command = installation.daemon(&["run"]);
        let log = File::create(installation.path("run.log")).expect("a file");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let service = Self { child: child.expect("started"), url: format!("http://{port}") };
        let begun_at = Instant::now();
        while service.try_get("/readyz").as_deref() != Some("ready\n") {
            let log = || fs::read_to_string(installation.path("run.log")).unwrap_or_default();
            assert!(begun_at.elapsed() < READY_MAX, "not ready: {}", log());
            thread::sleep(Duration::from_millis(100));
        }
        service
    }

    fn try_get(&self, path: &str) -> Option<String> {
        let mut curl = Command::new("curl");
        let output = run(curl.args(["-s", "--max-time", "10"]).arg(format!("{}{path}", self.url)));
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(crate) fn get(&self, path: &str) -> String {
        self.try_get(path).expect("an answer")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_page_can_be_read_on_a_desk_and_on_a_phone_by_day_and_by_night() {
    let source = Database::create("shown", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let service = Service::start(&installation, "show_names = true");
    let home = installation.path("");
    let browser = Browser { home: &home };
    let dom = browser.dom(&service.url);
    for text in ["bookings", "vault", "good", "1 snapshot", "none known", "nothing is wrong"] {
        assert!(dom.contains(text), "{text} is not in {dom}");
    }
    // A frame of a page that loads itself again would be empty after that.
    let page = service.get("/").replace("<meta http-equiv=\"refresh\" content=\"30\">", "");
    browser.must_be_readable(&page);
    let light = browser.shot(&service.url, "status-light.png", (1280, 900), Scheme::Light);
    let dark = browser.shot(&service.url, "status-dark.png", (1280, 900), Scheme::Dark);
    let phone = browser.framed(&page, 360);
    let phone = browser.shot(&phone, "status-phone.png", (500, 1600), Scheme::Light);
    assert!(light.len() > 10_000 && dark.len() > 10_000 && phone.len() > 10_000);
    assert_ne!(light, dark, "the night is dark");
}

#[test]
fn without_leave_neither_page_nor_figures_name_a_database_or_a_table() {
    let source = Database::create("hidden", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let service = Service::start(&installation, "");
    for path in ["/", "/metrics", "/healthz", "/readyz"] {
        let answer = service.get(path);
        for name in ["bookings", "vault", "secret_customers", &*source.name, &*installation.bucket]
        {
            assert!(!answer.contains(name), "{path} names {name}: {answer}");
        }
    }
    assert!(service.get("/").contains("database 1"));
    assert!(service.get("/metrics").contains(
        "stonekeep_snapshot_suspicious{database=\"database 1\",repository=\"repository 1\"} 0"
    ));
}
