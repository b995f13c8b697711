//! The systemd units: sound, hardened alike, and no tighter than what the binaries need. No systemd runs here, so what only
//! process 1 does (users, credentials, mounts) is checked as far as `systemd-analyze` and `confine.sh` go.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use crate::{
    harness::{Database, Installation, User, must, run, said, script},
    supervisor::{Notice, Supervised},
};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd")
}

/// The units of a kind, by name.
fn units(kind: &str) -> Vec<String> {
    let entries = fs::read_dir(directory()).expect("there").map(|entry| entry.expect("read"));
    let names = entries.map(|entry| entry.file_name().into_string().expect("ASCII"));
    let mut names: Vec<_> = names.filter(|name| name.ends_with(kind)).collect();
    names.sort();
    assert!(!names.is_empty(), "no {kind}");
    names
}

fn unit(name: &str) -> String {
    fs::read_to_string(directory().join(name)).expect("there")
}

/// The values of a setting, in order.
fn settings<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

/// A root with this system's own units, ours, and the programs that they start.
fn installed() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a directory");
    let path = |name: &str| root.path().join(name);
    fs::create_dir_all(path("usr/lib/systemd")).expect("created");
    fs::create_dir_all(path("usr/bin")).expect("created");
    symlink("usr/lib", path("lib")).expect("linked");
    symlink("usr/bin", path("bin")).expect("linked");
    must(Command::new("cp").arg("-r").arg("/lib/systemd/system").arg(path("usr/lib/systemd")));
    for kind in [".service", ".timer"] {
        for name in units(kind) {
            fs::write(path("usr/lib/systemd/system").join(&name), unit(&name)).expect("written");
        }
    }
    for program in ["stonekeepd", "stonekeep", "kill"] {
        let program = path("usr/bin").join(program);
        fs::write(&program, "#!/bin/sh\n").expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
    }
    root
}

fn verify(root: &Path, name: &str) -> Output {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["verify", "--man=no", "--recursive-errors=no", "--root"]).arg(root);
    run(analyze.arg(name))
}

#[test]
fn systemd_finds_no_fault_in_any_unit() {
    let root = installed();
    for name in [units(".service"), units(".timer")].concat() {
        let output = verify(root.path(), &name);
        assert!(output.status.success() && said(&output).is_empty(), "{name}: {}", said(&output));
    }
    let wrong = unit("stonekeepd.service").replace("LockPersonality=", "LockPersonalty=");
    let place = root.path().join("usr/lib/systemd/system/stonekeepd.service");
    fs::write(place, wrong).expect("written");
    assert!(said(&verify(root.path(), "stonekeepd.service")).contains("LockPersonalty"));
}

#[test]
fn exposure_of_every_service_is_2_0_at_most() {
    for name in units(".service") {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--no-pager", "--offline=yes", "--threshold=20"]);
        let output = run(analyze.arg(directory().join(&name)));
        let text = String::from_utf8_lossy(&output.stdout);
        let exposure = text.lines().last().unwrap_or_default();
        assert!(output.status.success(), "{exposure}\n{}", said(&output));
        println!("{exposure}");
    }
}

#[test]
fn every_service_is_hardened_alike() {
    let block = |name: &str| {
        let text = unit(name);
        let (_, behind) = text.split_once("\n# Hardening, ").expect("a block");
        behind.split("\n\n").next().unwrap_or_default().trim_end().to_owned()
    };
    let expected = block("stonekeepd.service");
    assert!(expected.lines().count() > 35, "{expected}");
    for name in units(".service") {
        assert_eq!(block(&name), expected, "{name}");
    }
}

#[test]
fn every_secret_comes_from_the_directory_of_its_role() {
    for name in units(".service") {
        let text = unit(&name);
        let directory = match name.as_str() {
            "stonekeep-watch.service" => "stonekeep:/etc/stonekeep/credentials-watch",
            "stonekeep-drill.service" => "stonekeep:/etc/stonekeep/credentials-drill",
            _ => "stonekeep:/etc/stonekeep/credentials",
        };
        assert_eq!(settings(&text, "LoadCredential"), [directory], "{name}");
        assert_eq!(settings(&text, "StateDirectoryMode"), ["0700"], "{name}");
        // One that a role's user owns is no other's: the directory would be given to whoever starts last.
        assert_eq!(settings(&text, "StateDirectory"), settings(&text, "User"), "{name}");
    }
}

#[test]
fn a_failure_that_a_person_must_mend_is_not_tried_again() {
    for name in units(".service").iter().filter(|name| name.starts_with("stonekeepd")) {
        let text = unit(name);
        assert_eq!(settings(&text, "Restart"), ["on-failure"], "{name}");
        let codes = settings(&text, "RestartPreventExitStatus").concat();
        let codes: BTreeSet<_> = codes.split(' ').collect();
        assert!(codes.contains("64") && codes.contains("78"), "{name}");
        assert!(!codes.contains("69") && !codes.contains("75"), "{name}");
    }
}

#[test]
fn no_turn_of_a_timer_is_refused_for_those_before_it() {
    // The limit counts starts that went well, too.
    for name in ["stonekeepd.service", "stonekeepd-backup@.service"] {
        assert_eq!(settings(&unit(name), "StartLimitIntervalSec"), ["0"], "{name}");
    }
    let prove = (unit("stonekeepd-prove.service"), unit("stonekeepd-prove.timer"));
    assert_eq!(settings(&prove.0, "StartLimitIntervalSec"), ["1h"]);
    assert_eq!(settings(&prove.1, "OnCalendar"), ["daily"]);
}

#[test]
fn the_services_times_fit_into_those_that_its_unit_allows() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/src/service.rs");
    let source = fs::read_to_string(source).expect("there");
    let allowed = |name: &str| -> u64 {
        let text = unit("stonekeepd.service");
        settings(&text, name).concat().trim_end_matches("s").parse().expect("seconds")
    };
    let own = |name: &str| -> u64 {
        let (_, behind) = source.split_once(&format!("const {name}: Duration = ")).expect(name);
        let number = behind.strip_prefix("Duration::from_secs(").expect("seconds");
        number.split(')').next().unwrap_or_default().parse().expect("a number")
    };
    let stopping = own("STOP_DURATION_MAX") + own("NOTICES_DURATION_MAX");
    assert!(stopping < allowed("TimeoutStopSec"), "{stopping}");
    assert!(2 * own("SLEEP_MAX") < allowed("WatchdogSec"));
}

#[test]
fn every_timer_makes_up_for_a_missed_turn() {
    for name in units(".timer") {
        let text = unit(&name);
        assert_eq!(settings(&text, "Persistent"), ["true"], "{name}");
        let calendar = settings(&text, "OnCalendar");
        must(Command::new("systemd-analyze").arg("calendar").args(&calendar));
        let service = name.replace(".timer", ".service");
        assert!(units(".service").contains(&service), "{service}");
    }
}

/// Runs `command` as `unit` would be confined, `dir` being all that it may write to.
fn confined(unit: &str, dir: &Path, command: &Command) -> Command {
    let mut confined = Command::new(script("confine.sh"));
    confined.arg(directory().join(unit)).arg(dir);
    confined.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => confined.env(name, value),
            None => confined.env_remove(name),
        };
    }
    confined
}

/// Has the daemon's secrets handed over as systemd does it, by `LoadCredential=stonekeep:DIRECTORY`, and takes them from
/// everywhere else. Returns where they are.
fn hand_over(installation: &Installation) -> PathBuf {
    let directory = installation.path("credentials");
    fs::create_dir(&directory).expect("created");
    let (id, secret) = User::Writer.keys();
    let key = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    fs::write(directory.join("stonekeep_s3"), key).expect("written");
    let signer = installation.path("signer");
    fs::rename(&signer, directory.join("stonekeep_signer")).expect("moved");
    for name in ["stonekeep_s3", "stonekeep_signer"] {
        let mode = fs::Permissions::from_mode(0o440);
        fs::set_permissions(directory.join(name), mode).expect("set");
    }
    installation.configure(|text| {
        let place = format!("path_style = true\ncredentials_file = {:?}\n", "credential:s3");
        text.replace(&signer.display().to_string(), "credential:signer")
            .replace("path_style = true\n", &place)
    });
    directory
}

#[test]
fn what_the_daemon_does_needs_no_more_than_its_units_let_it() {
    let source = Database::create("confined", "CREATE TABLE t AS SELECT generate_series(1, 9999)");
    let installation = Installation::create(&source);
    let (dir, credentials) = (installation.path(""), hand_over(&installation));
    for (unit, args) in [
        ("stonekeepd.service", &["check"][..]),
        ("stonekeepd-backup@.service", &["backup", "bookings"]),
        ("stonekeepd-prove.service", &["prove"]),
    ] {
        let mut command = installation.daemon(args);
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.env("CREDENTIALS_DIRECTORY", &credentials);
        let output = run(&mut confined(unit, &dir, &command));
        assert!(output.status.success(), "{unit}: {}", said(&output));
    }
    let watched = installation.reader(&["watch"]);
    let output = run(&mut confined("stonekeep-watch.service", &dir, &watched));
    assert!(output.status.success(), "watch: {}", said(&output));
}

#[test]
fn a_drill_with_a_server_of_its_own_needs_no_more_than_its_unit_lets_it() {
    let source = Database::create("drilled", "CREATE TABLE t AS SELECT generate_series(1, 9999)");
    let installation = Installation::create(&source);
    installation.backup();
    let (reports, scratch) = (installation.path("reports"), installation.path("scratch"));
    fs::create_dir(&scratch).expect("created");
    let mut drill = installation.reader(&["drill", "--identity", "identity1"]);
    drill.arg("--report").arg(&reports).arg("--scratch-dir").arg(&scratch);
    let output = run(&mut confined("stonekeep-drill.service", &installation.path(""), &drill));
    assert!(output.status.success(), "drill: {}", said(&output));
    assert!(fs::read_dir(&reports).expect("written").count() > 0);
    assert_eq!(fs::read_dir(&scratch).expect("listed").count(), 0, "it is removed again");
}

#[test]
fn a_drill_alone_is_told_to_stop_and_its_directories_are_those_of_the_unit() {
    let text = unit("stonekeep-drill.service");
    assert_eq!(settings(&text, "KillMode"), ["mixed"]);
    let command = settings(&text, "ExecStart").concat();
    let state = format!("/var/lib/{}", settings(&text, "StateDirectory").concat());
    for option in [format!("--report {state}/reports"), format!("--scratch-dir {state}")] {
        assert!(command.contains(&option), "{command}");
    }
    let users = fs::read_to_string(directory().join("stonekeep.sysusers")).expect("there");
    let user = settings(&text, "User").concat();
    assert!(users.contains(&format!("u {user} - ")), "{users}");
}

#[test]
fn the_service_comes_up_reloads_and_ends_as_its_unit_lets_it() {
    let source = Database::create("serving", "CREATE TABLE t AS SELECT generate_series(1, 99)");
    let installation = Installation::create(&source);
    let daemon = installation.daemon(&["run"]);
    let mut service =
        Supervised::start(&confined("stonekeepd.service", &installation.path(""), &daemon));
    service.wait_ready(Duration::from_secs(30));
    service.reload();
    let twice = |notices: &[Notice]| notices.iter().filter(|it| **it == Notice::Ready).count() > 1;
    service.wait_for("the end of the reload", Duration::from_secs(30), twice);
    let ended = service.terminate();
    assert!(ended.status.success(), "{ended:?}: {}", service.said());
    let notices = service.notices();
    assert!(notices.contains(&Notice::Reloading) && notices.contains(&Notice::Stopping));
}

#[test]
fn confinement_of_the_tests_confines() {
    let dir = tempfile::tempdir().expect("a directory");
    let tries = "import mmap, os, socket
def refused(what, number):
    try:
        what()
    except OSError as error:
        assert error.errno == number, error
    else:
        raise SystemExit('not refused')
refused(lambda: open('/etc/stonekeep-test', 'w'), 30)
refused(lambda: open('/proc/meminfo'), 2)
refused(lambda: mmap.mmap(-1, 4096, prot=7), 1)
refused(lambda: socket.socket(socket.AF_NETLINK), 97)
refused(lambda: os.chroot('/'), 1)
refused(lambda: os.setpriority(0, 0, 3), 1)
open('own', 'w').close()
assert os.getuid() != 0";
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", tries]);
    must(&mut confined("stonekeepd.service", dir.path(), &python));
}
