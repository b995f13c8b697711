//! The status page of the real service, in a real browser: what it says, how it looks, and what it does not tell.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Database, Installation, must, run};

const SCRIPT: &str = "CREATE TABLE secret_customers (a int, b text); INSERT INTO secret_customers SELECT i, md5(i::text) FROM generate_series(1, 1000) i";
/// How long the service may take to look at a bucket.
const READY_MAX: Duration = Duration::from_secs(30);
/// WCAG's level AA for text.
const CONTRAST_MIN: f64 = 4.5;

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

/// How the browser is to prefer colours.
#[derive(Clone, Copy)]
enum Scheme {
    Dark = 0,
    Light = 1,
}

/// Where pictures are left for a person to look at.
fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn chromium(home: &Path, scheme: Scheme) -> Command {
    let mut command = Command::new("chromium");
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
    ]);
    command.args([
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]);
    command.args(["--hide-scrollbars", "--virtual-time-budget=3000"]);
    command.arg(format!("--blink-settings=preferredColorScheme={}", scheme as u8));
    command.arg(format!("--user-data-dir={}", home.join("chromium").display()));
    command.env("HOME", home);
    command
}

/// Puts the page into a frame of this width, in which a script may measure it, as the page itself allows none.
fn framed(installation: &Installation, page: &str, width: u32) -> String {
    let page = page.replace("<meta http-equiv=\"refresh\" content=\"30\">", "");
    let page = Value::from(page).to_string().replace("</", "<\\/");
    let html = format!(
        "<!DOCTYPE html><body style=\"margin:0\"><iframe style=\"border:0;width:{width}px;height:3000px\"></iframe><pre></pre><script>{}</script>",
        include_str!("status.js").replace("PAGE", &page)
    );
    installation.write("frame.html", &html);
    format!("file://{}", installation.path("frame.html").display())
}

/// What the script found: the width that the page takes, and the text with the least contrast.
fn measured(installation: &Installation, page: &str, width: u32, scheme: Scheme) -> Value {
    let url = framed(installation, page, width);
    let dom = must(chromium(&installation.path(""), scheme).arg("--dump-dom").arg(url));
    let found = dom.split_once("<pre>").and_then(|(_, rest)| rest.split_once("</pre>"));
    let found = found.map_or("", |(found, _)| found).replace("&lt;", "<").replace("&gt;", ">");
    serde_json::from_str(&found.replace("&amp;", "&"))
        .unwrap_or_else(|error| panic!("{error}: {dom}"))
}

fn shot(
    installation: &Installation,
    url: &str,
    name: &str,
    size: (u32, u32),
    scheme: Scheme,
) -> Vec<u8> {
    let to = picture(name);
    let mut command = chromium(&installation.path(""), scheme);
    command.arg(format!("--window-size={},{}", size.0, size.1));
    must(command.arg(format!("--screenshot={}", to.display())).arg(url));
    fs::read(to).expect("a picture")
}

#[test]
fn the_page_can_be_read_on_a_desk_and_on_a_phone_by_day_and_by_night() {
    let source = Database::create("shown", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let service = Service::start(&installation, "show_names = true");
    let dom =
        must(chromium(&installation.path(""), Scheme::Light).arg("--dump-dom").arg(&service.url));
    for text in ["bookings", "vault", "good", "1 snapshot", "none known", "nothing is wrong"] {
        assert!(dom.contains(text), "{text} is not in {dom}");
    }
    let page = service.get("/");
    for (width, scheme) in
        [(360, Scheme::Light), (360, Scheme::Dark), (1280, Scheme::Light), (1280, Scheme::Dark)]
    {
        let found = measured(&installation, &page, width, scheme);
        assert_eq!(found["width"], width, "it scrolls sideways: {found}");
        let contrast = found["contrast"].as_f64().expect("a number");
        assert!(contrast >= CONTRAST_MIN, "{found}");
        assert!(found["texts"].as_u64().is_some_and(|texts| texts > 20), "{found}");
    }
    let light = shot(&installation, &service.url, "status-light.png", (1280, 900), Scheme::Light);
    let dark = shot(&installation, &service.url, "status-dark.png", (1280, 900), Scheme::Dark);
    let phone = framed(&installation, &page, 360);
    let phone = shot(&installation, &phone, "status-phone.png", (500, 1600), Scheme::Light);
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
