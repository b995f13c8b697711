//! What a restore does only for a person at a terminal: on the server that the snapshot came from, and into a database that is
//! not empty. A pseudo-terminal stands for the person.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use crate::harness::{Database, Installation, run, said};

const SCRIPT: &str = "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 500)";

/// Runs the command on a pseudo-terminal, types `answer` when it is asked, and returns its exit code and what it showed.
pub(crate) fn at_a_terminal(command: &Command, answer: &str) -> (Option<i32>, String) {
    let quote = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().expect("UTF-8"));
    let words: Vec<String> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(quote).collect();
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-f", "-c", &words.join(" "), "/dev/null"]);
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script.current_dir(command.get_current_dir().expect("a directory"));
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    let (mut keyboard, mut screen) =
        (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut shown = Vec::new();
    let mut typed = false;
    let mut some = [0; 4096];
    while let Ok(count) = screen.read(&mut some) {
        if count == 0 {
            break;
        }
        shown.extend_from_slice(&some[..count]);
        if !typed && String::from_utf8_lossy(&shown).contains("to go on: ") {
            keyboard.write_all(format!("{answer}\n").as_bytes()).expect("typed");
            typed = true;
        }
    }
    let status = child.wait().expect("ended");
    (status.code(), String::from_utf8_lossy(&shown).into_owned())
}

fn restore_to(installation: &Installation, url: &str) -> Command {
    installation.reader(&["restore", "latest", "--identity", "identity1", "--target", url])
}

fn exists(database: &Database, name: &str) -> bool {
    database.admin(&format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{name}%'")).trim()
        != "0"
}

#[test]
fn on_the_source_s_server_only_a_person_makes_a_new_database() {
    let source = Database::create("guarded", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let name = format!("{}_then", source.name);
    let url = source.url.replace(&source.name, &name);
    // No flag and no variable that a script could think of, and no answer on its input.
    for flag in
        ["--yes", "--force", "-y", "-f", "--no-confirm", "--assume-yes", "--clean", "--create"]
    {
        let output = run(restore_to(&installation, &url).arg(flag));
        assert_eq!(output.status.code(), Some(64), "{flag}: {}", said(&output));
    }
    let mut quiet = restore_to(&installation, &url);
    for variable in [
        "STONEKEEP_YES",
        "STONEKEEP_FORCE",
        "STONEKEEP_CONFIRM",
        "STONEKEEP_ASSUME_YES",
        "CI",
        "DEBIAN_FRONTEND",
    ] {
        quiet.env(variable, "1");
    }
    // A session of its own has no terminal.
    let mut yes = Command::new("setsid");
    yes.args(["--wait", "sh", "-c", "yes \"$0\" | \"$@\"", &name])
        .arg(quiet.get_program())
        .args(quiet.get_args());
    yes.envs(quiet.get_envs().filter_map(|(name, value)| Some((name, value?))));
    yes.current_dir(quiet.get_current_dir().expect("a directory"));
    let output = run(&mut yes);
    assert_eq!(output.status.code(), Some(73), "{}", said(&output));
    assert!(!exists(&source, &name));

    let (code, shown) = at_a_terminal(&restore_to(&installation, &url), "yes");
    assert_eq!(code, Some(73), "{shown}");
    assert!(shown.contains("is the server that the snapshot came from"), "{shown}");
    assert!(!exists(&source, &name));
    let (code, shown) = at_a_terminal(&restore_to(&installation, &url), &name);
    assert_eq!(code, Some(0), "{shown}");
    let restored = source.url.replace(&source.name, &name);
    let count = Command::new("psql").args(["-XAtc", "SELECT count(*) FROM t", &restored]).output();
    assert_eq!(String::from_utf8_lossy(&count.expect("psql").stdout).trim(), "500");
    // Over the source itself nobody restores, whatever he types.
    let (code, shown) = at_a_terminal(&restore_to(&installation, &source.url), &source.name);
    assert_eq!(code, Some(73), "{shown}");
    source.admin(&format!("DROP DATABASE {name}"));
}

#[test]
fn into_a_database_with_tables_only_a_person_loads_who_saw_what_is_there() {
    let source = Database::create("beside", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let target = Database::to_restore("beside");
    target.admin(&format!("CREATE DATABASE {}", target.name));
    target.query("CREATE TABLE theirs (a int); INSERT INTO theirs SELECT generate_series(1, 42); ANALYZE theirs");
    let (code, shown) = at_a_terminal(&restore_to(&installation, &target.url), "no");
    assert_eq!(code, Some(73), "{shown}");
    for words in
        ["127.0.0.1:", target.name.as_str(), "1 tables, views and sequences", "about 42 rows"]
    {
        assert!(shown.contains(words), "{words:?} is not in {shown}");
    }
    assert_eq!(target.query("SELECT count(*) FROM pg_class WHERE relname = 't'").trim(), "0");
    let (code, shown) = at_a_terminal(&restore_to(&installation, &target.url), &target.name);
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(
        target.query("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM theirs)").trim(),
        "500|42"
    );
}
