//! What both binaries say: help, and the errors that need no server. Everything else that they say is in the promise it
//! belongs to.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Two recipients whose identities nobody needs.
const RECIPIENTS: [&str; 2] = [
    "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg",
    "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa",
];

/// A directory with the example configuration of the daemon, filled in, and its keys.
struct Installation {
    dir: tempfile::TempDir,
}

impl Installation {
    fn new() -> Self {
        let installation = Self { dir: tempfile::tempdir().expect("a directory") };
        for key in ["signer", "owner"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                .arg(installation.path(key))
                .status();
            assert!(made.expect("ssh-keygen runs").success());
        }
        let public = fs::read_to_string(installation.path("owner.pub")).expect("a public key");
        installation.write("allowed_signers", &format!("owner {public}"));
        let example = include_str!("../config/stonekeepd.example.toml");
        let example = example.replace("age1-REPLACE-THIS-FIRST", RECIPIENTS[0]);
        let example = example.replace("age1-REPLACE-THIS-SECOND", RECIPIENTS[1]);
        installation
            .write("stonekeepd.toml", &example.replace("/etc/stonekeep", &installation.root()));
        let example = include_str!("../config/stonekeep.example.toml");
        installation
            .write("stonekeep.toml", &example.replace("/etc/stonekeep", &installation.root()));
        installation
    }

    fn root(&self) -> String {
        self.dir.path().display().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    /// Replaces a text in a file, in which it must stand.
    fn change(&self, name: &str, from: &str, to: &str) -> &Self {
        let text = fs::read_to_string(self.path(name)).expect("there");
        assert!(text.contains(from), "{name} holds {from:?}");
        self.write(name, &text.replacen(from, to, 1));
        self
    }

    fn chmod(&self, name: &str, mode: u32) -> &Self {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("set");
        self
    }

    /// Runs a binary with its configuration of this directory, and returns what it says with the directory's name taken out.
    fn transcript(&self, binary: &str, args: &[&str]) -> String {
        let config = self.path(&format!("{binary}.toml"));
        let output = run(
            binary,
            &[&["--config", &config.display().to_string()], args].concat(),
            self.dir.path(),
        );
        transcript(&output).replace(&self.root(), "[DIR]")
    }
}

/// Runs a binary with an environment of its own: nothing of the machine may show in what it says.
fn run(binary: &str, args: &[&str], home: &Path) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin(binary));
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.args(args).env_clear().env("PATH", path).env("HOME", home);
    command
        .env("STONEKEEP_LOG_FORMAT", "text")
        .output()
        .expect("the binary runs; ./test builds it first")
}

fn transcript(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    let code = output.status.code().expect("no signal");
    let (stdout, stderr) = (text(&output.stdout), without_times(&text(&output.stderr)));
    format!("exit code {code}\n--- stdout\n{stdout}--- stderr\n{stderr}")
}

/// What happened when is another time in each run.
fn without_times(text: &str) -> String {
    let mut parts = text.split("\"at\":\"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (_, rest) = part.split_once('"').expect("a time ends");
        format!("{text}\"at\":\"[time]\"{rest}")
    })
}

fn said(binary: &str, args: &[&str]) -> String {
    transcript(&run(binary, args, Path::new("/nonexistent")))
}

#[test]
fn help_of_the_daemon_is_as_it_was() {
    insta::assert_snapshot!("stonekeepd", said("stonekeepd", &["--help"]));
    for command in ["run", "backup", "check"] {
        insta::assert_snapshot!(
            format!("stonekeepd_{command}"),
            said("stonekeepd", &[command, "--help"])
        );
    }
}

#[test]
fn help_of_the_tool_is_as_it_was() {
    insta::assert_snapshot!("stonekeep", said("stonekeep", &["--help"]));
    for command in
        ["init", "policy", "list", "show", "verify", "watch", "extend", "restore", "fetch"]
    {
        insta::assert_snapshot!(
            format!("stonekeep_{command}"),
            said("stonekeep", &[command, "--help"])
        );
    }
}

#[test]
fn wrong_usage_is_64() {
    for (binary, args) in [
        ("stonekeepd", &[][..]),
        ("stonekeepd", &["run", "bookings"]),
        ("stonekeepd", &["backup", "No/Label"]),
        ("stonekeep", &["show"]),
        ("stonekeep", &["drill", "--random", "0"]),
        ("stonekeep", &["restore", "latest"]),
        ("stonekeep", &["fetch", "latest", "--out", "x", "--sealed", "--identity", "y"]),
    ] {
        let said = said(binary, args);
        assert!(
            said.starts_with("exit code 64\n--- stdout\n--- stderr\n"),
            "{binary} {args:?}: {said}"
        );
    }
    assert!(said("stonekeepd", &["--version"]).starts_with("exit code 0\n--- stdout\nstonekeepd "));
}

#[test]
fn an_absent_configuration_is_named() {
    insta::assert_snapshot!(
        "absent_daemon",
        said("stonekeepd", &["--config", "/nonexistent/x.toml", "check"])
    );
    insta::assert_snapshot!(
        "absent_tool",
        said("stonekeep", &["--config", "/nonexistent/x.toml", "--json", "list"])
    );
}

#[test]
fn what_the_daemon_says_of_a_wrong_configuration() {
    let cases: [(&str, &str, &str); 8] = [
        ("two_equal_signs", "signer_file =", "signer_file = ="),
        ("unknown_name", "allowed_signers_file", "allowed_signer_file"),
        ("wrong_keep", "keep = \"7d\"", "keep = \"7 days\""),
        ("password_in_url", "stonekeep@db.internal", "stonekeep:hunter2@db.internal"),
        ("bucket_default", "# lock = \"per-object\"", "lock = \"bucket-default\""),
        ("both_days", "15 * * * *", "15 3 1 * 1"),
        (
            "one_name_twice",
            "[[repository]]",
            "[[repository]]\nname = \"vault\"\nbucket = \"abc\"\nregion = \"r\"\n[[repository]]",
        ),
        ("same_tier_twice", "name = \"daily\"", "name = \"hourly\""),
    ];
    for (name, from, to) in cases {
        let installation = Installation::new();
        installation.change("stonekeepd.toml", from, to);
        let said = installation.transcript("stonekeepd", &["backup"]);
        assert!(!said.contains("hunter2"), "{said}");
        insta::assert_snapshot!(name, said);
    }
}

#[test]
fn one_recipient_is_too_few() {
    let installation = Installation::new();
    installation.change("stonekeepd.toml", &format!(", \"{}\"", RECIPIENTS[1]), "");
    insta::assert_snapshot!("one_recipient", installation.transcript("stonekeepd", &["backup"]));
    insta::assert_snapshot!(
        "one_recipient_json",
        installation.transcript("stonekeepd", &["--json", "check"])
    );
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    let said = |change: &dyn Fn(&Installation)| {
        let installation = Installation::new();
        change(&installation);
        installation.transcript("stonekeepd", &["backup"])
    };
    insta::assert_snapshot!(
        "open_signer",
        said(&|installation| {
            installation.chmod("signer", 0o640);
        })
    );
    insta::assert_snapshot!(
        "broken_signer",
        said(&|installation| installation.write("signer", "hunter2\n"))
    );
    insta::assert_snapshot!(
        "no_owner",
        said(&|installation| {
            installation.change("allowed_signers", "owner ", "somebody ");
        })
    );
    insta::assert_snapshot!(
        "broken_allowed_signers",
        said(&|installation| {
            installation.write("allowed_signers", "# nobody\nowner ssh-ed25519 x\n");
        })
    );
}

#[test]
fn a_label_that_is_not_configured_is_wrong_usage() {
    insta::assert_snapshot!(
        "unknown_label",
        Installation::new().transcript("stonekeepd", &["backup", "billing"])
    );
}

#[test]
fn a_target_with_a_password_is_refused_and_not_repeated() {
    let target = "postgres://postgres:hunter2@db/bookings";
    let said =
        Installation::new().transcript("stonekeep", &["restore", "latest", "--target", target]);
    assert!(!said.contains("hunter2"), "{said}");
    insta::assert_snapshot!("password_in_target", said);
}

#[test]
fn identities_that_cannot_be_used_are_named() {
    let installation = Installation::new();
    let fetch = |args: &[&str]| {
        installation.transcript("stonekeep", &[&["fetch", "latest", "--out", "x"], args].concat())
    };
    insta::assert_snapshot!("no_identity", fetch(&[]));
    let path = installation.path("identity").display().to_string();
    insta::assert_snapshot!("absent_identity", fetch(&["--identity", &path]));
    installation.write("identity", "hunter2\n");
    installation.chmod("identity", 0o644);
    insta::assert_snapshot!("open_identity", fetch(&["--identity", &path]));
    installation.chmod("identity", 0o600);
    let said = fetch(&["--identity", &path]);
    assert!(!said.contains("hunter2"), "{said}");
    insta::assert_snapshot!("broken_identity", said);
}

#[test]
fn init_overwrites_nothing_and_asks_for_what_it_needs() {
    let installation = Installation::new();
    let init = |owner: &str| {
        let daemon = installation.path("stonekeepd.toml").display().to_string();
        let owner = installation.path(owner).display().to_string();
        installation
            .transcript("stonekeep", &["init", "--daemon-config", &daemon, "--owner-key", &owner])
    };
    insta::assert_snapshot!("init_in_the_way", init("owner"));
    insta::assert_snapshot!("init_no_owner_key", init("absent"));
    installation.write("broken", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    installation.chmod("broken", 0o600);
    assert!(init("broken").contains("ssh-keygen says"));
    for key in ["signer", "signer.pub"] {
        fs::remove_file(installation.path(key)).expect("removed");
    }
    insta::assert_snapshot!("init_no_signer", init("owner"));
}

#[test]
fn policy_overwrites_nothing_and_takes_no_wildcard() {
    let installation = Installation::new();
    let policy = |provider: &str, args: &[&str]| {
        let daemon = installation.path("stonekeepd.toml").display().to_string();
        let own = ["policy", "--daemon-config", &daemon, "--provider", provider];
        installation.transcript("stonekeep", &[&own, args].concat())
    };
    let out = installation.path("policies").display().to_string();
    let written = policy("ceph", &["--out", &out]);
    insta::assert_snapshot!("policy_written", written);
    assert_eq!(policy("ceph", &["--out", &out]), written, "the same may be there");
    insta::assert_snapshot!(
        "policy_in_the_way",
        policy("ceph", &["--out", &out, "--writer", "daemon"])
    );
    insta::assert_snapshot!("policy_wildcard", policy("aws", &["--writer", "*"]));
    insta::assert_snapshot!("policy_b2", policy("b2", &["--write-only"]));
    let json = policy("aws", &["--json"]);
    let json =
        json.trim_start_matches("exit code 0\n--- stdout\n").trim_end_matches("--- stderr\n");
    let json: serde_json::Value = serde_json::from_str(json).expect("one JSON document");
    assert_eq!(json["files"].as_array().map(Vec::len), Some(7), "{json}");
}
