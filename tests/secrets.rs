//! What nobody may read in a log, an error, a report, a list of processes, or the bucket.

use std::{
    fs,
    process::{Command, Output, Stdio},
    time::Duration,
};

use crate::harness::{Database, Installation, User, run};

const ROW: &str = "canary-in-a-row";
const PASSWORD: &str = "canary-in-a-password-file";

/// The secrets of this installation, each with a name to fail by.
fn secrets(installation: &Installation) -> Vec<(&'static str, String)> {
    let mut secrets = vec![("a row", ROW.to_owned()), ("the password", PASSWORD.to_owned())];
    for (user, name) in [(User::Writer, "the writer's S3 secret"), (User::Reader, "the reader's")] {
        secrets.push((name, user.keys().1));
    }
    let read = |name| fs::read_to_string(installation.path(name)).expect("a key");
    let identity = read("identity1");
    let identity = identity.lines().find(|line| line.starts_with("AGE-SECRET-KEY"));
    secrets.push(("the identity", identity.expect("an identity").to_owned()));
    let signer = read("signer");
    secrets.push(("the signing key", signer.lines().nth(1).expect("a key's text").to_owned()));
    secrets
}

fn assert_silent(installation: &Installation, what: &str, output: &Output) {
    for (name, secret) in secrets(installation) {
        for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains(&secret), "{what} tells {name} on {stream}");
        }
    }
}

/// An installation whose daemon comes with a password from a file.
fn with_password(hint: &str, rows: u32) -> (Database, Installation) {
    let script = format!(
        "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, '{ROW} ' || md5(i::text) FROM generate_series(1, {rows}) i;"
    );
    let source = Database::create(hint, &script);
    let installation = Installation::create(&source);
    installation.write("password", &format!("{PASSWORD}\n"));
    let line = format!("password_file = \"{}\"\ntls", installation.path("password").display());
    installation.configure(|text| text.replacen("tls", &line, 1));
    (source, installation)
}

#[test]
fn nothing_that_is_printed_tells_a_secret_even_when_everything_is_logged() {
    let (source, installation) = with_password("secret", 1000);
    let all = |command: &mut Command| run(command.env("STONEKEEP_LOG", "trace"));
    for args in [&["check"][..], &["backup"], &["--json", "backup"]] {
        let output = all(&mut installation.daemon(args));
        assert!(output.status.success(), "{args:?}");
        assert!(output.stderr.len() > 50_000, "{args:?}: the log is not at its fullest");
        assert_silent(&installation, &format!("stonekeepd {args:?}"), &output);
    }
    let target = Database::to_restore("secret");
    let url = target.url.replace("postgres@", &format!("postgres:{PASSWORD}@"));
    let restore = ["restore", "latest", "--identity", "identity1", "--target", &target.url];
    let refused = ["restore", "latest", "--identity", "identity1", "--target", &url];
    let fetch = ["fetch", "latest", "--identity", "identity1", "--out", "fetched"];
    let verify = ["verify", "latest", "--read-data"];
    for args in [&["list"][..], &["show", "latest"], &verify, &fetch, &restore, &refused] {
        let output = all(&mut installation.reader(args));
        assert_silent(&installation, &format!("stonekeep {args:?}"), &output);
        assert_eq!(output.status.success(), args != refused, "{args:?}");
    }

    // A failure of each side: S3 refuses, the rows break off.
    installation.configure(|text| text.replace(&installation.bucket, "no-such-bucket"));
    let output = all(&mut installation.daemon(&["backup"]));
    assert!(!output.status.success());
    assert_silent(&installation, "a backup to nowhere", &output);
    drop(source);
}

#[test]
fn a_connection_cut_in_a_copy_tells_no_row_and_no_process_shows_a_secret() {
    let (source, installation) = with_password("shown", 400_000);
    let mut daemon = installation.daemon(&["--json", "backup"]);
    // Into a file, for a pipe that nobody reads would hold it up.
    let log = fs::File::create(installation.path("log")).expect("a file");
    daemon.env("STONEKEEP_LOG", "trace").stdout(Stdio::piped()).stderr(log);
    let daemon = daemon.spawn().expect("started");
    let (group, own) = (secrets(&installation), daemon.id().to_string());
    let seen = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..400 {
            for (arguments, pid) in processes().filter(|(_, pid)| is_of(pid, &own)) {
                let told = group.iter().find(|(_, secret)| arguments.contains(secret.as_str()));
                if let Some((name, _)) = told {
                    seen.push(format!("process {pid} shows {name}"));
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        seen
    });
    let cut = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND query LIKE 'COPY (SELECT%'",
        source.name
    );
    let cut_one = (0..1000).any(|_| source.admin(&cut).trim() != "0");
    assert!(cut_one, "no COPY was running to be cut");
    let mut output = daemon.wait_with_output().expect("ended");
    output.stderr = fs::read(installation.path("log")).expect("the log");
    assert!(!output.status.success());
    assert_silent(&installation, "a backup that was cut", &output);
    assert_eq!(seen.join().expect("watched"), Vec::<String>::new());
}

/// Whether a process is `ancestor`, or was started by it: other tests show their own keys to curl.
fn is_of(pid: &str, ancestor: &str) -> bool {
    let mut pid = pid.to_owned();
    while pid != ancestor {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        match parent.map(str::trim) {
            Some(parent) if parent != "0" => pid = parent.to_owned(),
            _ => return false,
        }
    }
    true
}

/// The arguments of every process of this machine that can be read.
fn processes() -> impl Iterator<Item = (String, String)> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_string_lossy().into_owned();
        pid.parse::<u32>().ok()?;
        let arguments = fs::read(entry.path().join("cmdline")).ok()?;
        Some((String::from_utf8_lossy(&arguments).into_owned(), pid))
    })
}

#[test]
fn no_object_in_the_bucket_holds_a_row_or_a_name_of_a_table() {
    let source = Database::create(
        "opaque",
        "CREATE TABLE canary_name (canary_column text); INSERT INTO canary_name SELECT 'canary-in-a-row ' || i FROM generate_series(1, 5000) i",
    );
    let installation = Installation::create(&source);
    installation.backup();
    let versions = installation.versions();
    assert!(versions.len() >= 4, "{versions:?}");
    for (key, version) in versions {
        let path = format!("/{key}?versionId={version}");
        let (status, body) = installation.s3(User::Reader, "GET", &path, &[], "");
        assert_eq!(status, 200, "{key}");
        for word in [ROW, "canary_name", "canary_column"] {
            assert!(!body.contains(word) && !key.contains(word), "{key} holds {word:?}");
        }
    }
}
