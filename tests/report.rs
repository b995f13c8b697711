//! The report of a drill: the page in a real browser, and who is believed about it.
//!
//! The pages are those that the tests beside the code hold to what it writes, each signed with a key of the tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    browser::{Browser, Scheme},
    harness::{Database, Installation, must, run, said, server},
};

/// A passed drill after 100 others, a failed one after one, whose names are hostile, and a first one that came to no end.
const PAGES: [&str; 3] = ["passed", "failed", "broken"];

/// Pages as files, and a browser for them.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().expect("a directory"));
        PAGES.iter().for_each(|name| fs::write(desk.page(name), text(name)).expect("written"));
        desk
    }

    fn page(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.html"))
    }

    fn url(&self, name: &str) -> String {
        format!("file://{}", self.page(name).display())
    }

    fn browser(&self) -> Browser<'_> {
        Browser { home: self.0.path() }
    }
}

/// The page, without what insta writes before it, and with the newline that it leaves out.
fn text(name: &str) -> String {
    let snapshots =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../restore-cli/src/drill/signed/snapshots");
    let file = format!("stonekeep__drill__signed__tests__{name}.snap");
    let text = fs::read_to_string(snapshots.join(file)).expect("a snapshot");
    let (_, page) = text.split_once("\n---\n").expect("a page");
    format!("{}\n", page.trim_end())
}

fn reporter() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../restore-cli/tests/data/reporter.pub")
}

fn fingerprint() -> String {
    let said = must(Command::new("ssh-keygen").arg("-lf").arg(reporter()));
    said.split(' ').nth(1).expect("a fingerprint").to_owned()
}

fn verify(file: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(Path::new(&server("STONEKEEP_TEST_BIN")).join("stonekeep"));
    run(command.env_clear().arg("verify-report").arg(file).args(options))
}

#[test]
fn the_page_can_be_read_on_a_desk_and_on_a_phone_by_day_and_by_night_and_does_nothing() {
    let desk = Desk::new();
    let browser = desk.browser();
    for name in PAGES {
        let text = text(name);
        browser.must_be_readable(&text);
        let shot = |scheme, suffix: &str| {
            browser.shot(
                &desk.url(name),
                &format!("report-{name}-{suffix}.png"),
                (1100, 1400),
                scheme,
            )
        };
        let (light, dark) = (shot(Scheme::Light, "light"), shot(Scheme::Dark, "dark"));
        let phone = browser.framed(&text, 360);
        browser.shot(&phone, &format!("report-{name}-phone.png"), (500, 3000), Scheme::Light);
        assert!(light.len() > 10_000 && light != dark, "the style is not in force");
    }
}

#[test]
fn a_browser_reads_the_document_in_the_page_whatever_its_names_are() {
    let desk = Desk::new();
    let browser = desk.browser();
    let found = browser.measured(&text("failed"), 1280, Scheme::Light);
    let report = &found["report"];
    assert_eq!(report["verdict"], "fail");
    assert_eq!(report["tables"][0]["name"], "public.</script><img src=x onerror=alert(1)>");
    assert_eq!(report["tables"].as_array().map(Vec::len), Some(64));
    let dom = browser.dom(&desk.url("failed"));
    for bad in ["<img", "onerror=\"", "<script>"] {
        assert!(!dom.contains(bad), "{bad} became an element");
    }
}

#[test]
fn a_page_is_believed_by_its_reporters_fingerprint_alone() {
    let desk = Desk::new();
    for (name, verdict) in
        [("passed", "The drill PASSED."), ("failed", "The drill FAILED: 7 problems.")]
    {
        let output = verify(&desk.page(name), &["--reporter", &fingerprint()]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", said(&output));
        for text in ["is genuine", verdict, "bookings", &fingerprint()] {
            assert!(told.contains(text), "{text} is not in {told}");
        }
    }
    let output = verify(&desk.page("failed"), &["--json", "--reporter", &fingerprint()]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!((&document["genuine"], &document["verdict"]), (&true.into(), &"fail".into()));
    assert_eq!(document["signed_by"], *fingerprint());
}

#[test]
fn a_changed_page_one_of_somebody_else_and_none_at_all_are_not_believed() {
    let desk = Desk::new();
    let changed = desk.page("changed");
    let text = text("failed");
    let ends = |file: &Path, options: &[&str], code: i32, why: &str| {
        let output = verify(file, options);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(why), "{why} is not in {}", said(&output));
        assert!(output.stdout.is_empty());
    };
    let ours = ["--reporter", &*fingerprint()];
    for (from, to, why) in [
        ("FAIL", "PASS", "does not fit"),
        ("\"verdict\":\"fail\"", "\"verdict\":\"pass\"", "does not fit"),
        ("-->\n", "", "bears no signature"),
        ("-----BEGIN SSH SIGNATURE-----", "-----BEGIN SSH SIGNATURE----", "bears no signature"),
    ] {
        fs::write(&changed, text.replace(from, to)).expect("written");
        ends(&changed, &ours, 65, why);
    }
    let other = format!("SHA256:{}", "A".repeat(43));
    ends(&desk.page("failed"), &["--reporter", &other], 65, "may not sign stonekeep-report");
    ends(&desk.page("failed"), &["--reporter", "SHA256:short"], 64, "no fingerprint");
    ends(&desk.page("absent"), &ours, 64, "cannot read the report");
    fs::write(&changed, "{}\n").expect("written");
    ends(&changed, &ours, 65, "no signature of it");
}

#[test]
fn the_configuration_says_whose_reports_are_believed() {
    let desk = Desk::new();
    let path = |name: &str| desk.0.path().join(name);
    let allowed = path("allowed_signers");
    let config = format!(
        "allowed_signers_file = \"{}\"\n[[repository]]\nname = \"vault\"\nbucket = \"b\"\nregion = \"r\"\n",
        allowed.display()
    );
    fs::write(path("stonekeep.toml"), config).expect("written");
    let key = fs::read_to_string(reporter()).expect("a key");
    let config = path("stonekeep.toml");
    let config = ["--config", config.to_str().expect("UTF-8")];
    for (line, code) in [
        (format!("reporter namespaces=\"stonekeep-report\" {key}"), 0),
        (format!("reporter {key}"), 0),
        (format!("reporter valid-before=\"20261121Z\" {key}"), 65),
        (format!("reporter namespaces=\"stonekeep-prove\" {key}"), 78),
        (format!("owner {key}"), 78),
        (String::new(), 78),
    ] {
        fs::write(&allowed, &line).expect("written");
        let output = verify(&desk.page("passed"), &config);
        assert_eq!(output.status.code(), Some(code), "{line}: {}", said(&output));
    }
}

#[test]
fn a_drill_leaves_a_report_that_its_key_signed_and_that_the_next_drill_knows() {
    let source = Database::create(
        "reported",
        "CREATE TABLE secret_customers (name text); INSERT INTO secret_customers VALUES ('Rosalind Canary')",
    );
    let installation = Installation::create(&source);
    installation.backup();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(installation.path("report"));
    must(&mut keygen);
    let said = must(Command::new("ssh-keygen").arg("-lf").arg(installation.path("report.pub")));
    let reporter = said.split(' ').nth(1).expect("a fingerprint");
    let server = server("STONEKEEP_TEST_PG2");
    let drill = || {
        let args = ["--json", "drill", "latest", "--server", &server, "--identity", "identity1"];
        let mut command = installation.reader(&args);
        let said = must(command.args(["--report", "reports", "--report-key", "report"]));
        let document: Value = serde_json::from_str(&said).expect("one JSON document");
        document["drills"][0].clone()
    };
    let (first, second) = (drill(), drill());
    assert_eq!(second["earlier"].as_array().map(Vec::len), Some(1), "{second}");
    assert_eq!(second["earlier"][0]["id"], first["id"]);
    let desk = Desk::new();
    for drill in [first, second] {
        let files = drill["files"].as_array().expect("files").clone();
        let files: Vec<PathBuf> =
            files.iter().filter_map(|file| Some(installation.path(file.as_str()?))).collect();
        let [page, json, _signature] = &files[..] else { panic!("{files:?}") };
        for path in [page, json] {
            let output = verify(path, &["--reporter", reporter]);
            assert!(output.status.success(), "{}", crate::harness::said(&output));
            let text = fs::read_to_string(path).expect("there");
            assert!(text.contains("secret_customers") && !text.contains("Rosalind"));
        }
        desk.browser().must_be_readable(&fs::read_to_string(page).expect("there"));
    }
}
