//! Bad input and broken parts: each its own clear error and documented exit code, and no snapshot.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Output};

use crate::harness::{Database, Installation, User, run, said, server};

const SCRIPT: &str = "CREATE TABLE t (a int, b text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i";

fn assert_refused(output: &Output, code: i32, words: &str) {
    let text = said(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "{words:?} is not in: {text}");
}

fn no_snapshot(installation: &Installation) {
    assert!(
        installation.versions().iter().all(|(key, _)| !key.contains("/manifests/")),
        "a manifest was put"
    );
}

#[test]
fn a_database_that_cannot_be_read_is_named_with_its_exit_code() {
    let source = Database::create("unreadable", SCRIPT);
    let installation = Installation::create(&source);
    let role = format!("{}_role", source.name);
    source.admin(&format!("CREATE ROLE {role} LOGIN PASSWORD 'right' IN ROLE by_password"));
    let with_role = source.url.replace("postgres@", &format!("{role}@"));
    let url = |text: String, url: &str| text.replace(&source.url, url);

    installation.configure(|text| url(text, &with_role));
    assert_refused(
        &run(installation.daemon(&["backup"]).env("PGPASSWORD", "wrong-canary")),
        77,
        "does not let",
    );
    assert!(
        !said(&run(installation.daemon(&["backup"]).env("PGPASSWORD", "wrong-canary")))
            .contains("wrong-canary")
    );
    assert_refused(&run(&mut installation.daemon(&["backup"])), 77, "asks for a password");
    assert_refused(
        &run(installation.daemon(&["backup"]).env("PGPASSWORD", "right")),
        77,
        "pg_read_all_data",
    );
    installation.configure(|text| url(text, &source.url.replace(&source.name, "no_such_database")));
    assert_refused(&run(&mut installation.daemon(&["backup"])), 78, "no_such_database");
    installation.configure(|text| url(text, "postgres://postgres@127.0.0.1:9/x"));
    assert_refused(&run(&mut installation.daemon(&["backup"])), 69, "cannot reach PostgreSQL");
    no_snapshot(&installation);
    source.admin(&format!("DROP ROLE {role}"));
}

#[test]
fn a_bucket_that_cannot_be_used_is_named_with_its_exit_code() {
    let source = Database::create("unusable", SCRIPT);
    let installation = Installation::create(&source);
    installation.configure(|text| text.replace(&installation.bucket, "no-such-bucket"));
    assert_refused(&run(&mut installation.daemon(&["backup"])), 78, "no-such-bucket");
    installation.configure(|text| text);
    let wrong_key = installation.daemon(&["backup"]).env("AWS_SECRET_ACCESS_KEY", "wrong").output();
    assert_refused(&wrong_key.expect("it runs"), 77, "key");
    installation.configure(|text| text.replace("prefix = \"stonekeep\"", "prefix = \"elsewhere\""));
    let elsewhere = run(&mut installation.daemon(&["backup"]));
    assert_refused(&elsewhere, 78, "no genesis under this prefix");
    no_snapshot(&installation);
    installation.configure(|text| {
        text.replace(&server("STONEKEEP_TEST_S3_ENDPOINT"), "http://127.0.0.1:9")
    });
    assert_refused(&run(&mut installation.daemon(&["backup"])), 69, "127.0.0.1:9");
}

#[test]
fn a_bucket_without_object_lock_is_refused_by_init_daemon_and_check() {
    let source = Database::create("unlocked", SCRIPT);
    let installation = Installation::prepare(&source);
    let (status, answer) = installation.s3(User::Owner, "PUT", "", &[], "");
    assert!(status < 300, "{status} {answer}");
    assert_refused(&installation.init(), 78, "Object Lock");
    // The rest of an installation, from a repository elsewhere.
    let other = Installation::create(&source);
    fs::copy(other.path("allowed_signers"), installation.path("allowed_signers")).expect("copied");
    installation.put_policy(&installation.policy());
    for command in ["check", "backup"] {
        assert_refused(&run(&mut installation.daemon(&[command])), 78, "has no Object Lock");
    }
    no_snapshot(&installation);
}

#[test]
fn check_says_what_is_in_order_and_writes_nothing() {
    let source = Database::create("checked", SCRIPT);
    let installation = Installation::create(&source);
    let before = installation.versions();
    let output = run(&mut installation.daemon(&["check"]));
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    for what in ["bucket", "genesis", "signer", "recipients", "clock", "database", "pg_dump"] {
        assert!(text.contains(what), "{what} is not in: {text}");
    }
    assert_eq!(installation.versions(), before);
}

#[test]
fn a_genesis_of_another_owner_is_foreign_to_daemon_and_readers() {
    let source = Database::create("foreign", SCRIPT);
    let installation = Installation::create(&source);
    let other = Installation::prepare(&source);
    let stranger = fs::read_to_string(other.path("owner.pub")).expect("a key");
    installation
        .write("allowed_signers", &format!("owner namespaces=\"stonekeep-genesis\" {stranger}"));
    assert_refused(&run(&mut installation.daemon(&["backup"])), 65, "not signed by the owner");
    assert_refused(&run(&mut installation.reader(&["list"])), 65, "not signed by the owner");
    no_snapshot(&installation);
}

#[test]
fn a_configuration_that_cannot_be_used_says_where() {
    let source = Database::create("config", SCRIPT);
    let installation = Installation::prepare(&source);
    installation.configure(|text| text.replace("[encryption]", "[encryption"));
    assert_refused(&run(&mut installation.daemon(&["check"])), 78, "stonekeepd.toml:5:12");
    installation.configure(|text| {
        let (head, tail) = text.split_once(", \"age1").expect("two recipients");
        format!("{head}]{}", &tail[tail.find(']').map_or(0, |at| at + 1)..])
    });
    assert_refused(&run(&mut installation.daemon(&["check"])), 78, "two");
    installation.configure(|text| text);
    fs::set_permissions(installation.path("signer"), fs::Permissions::from_mode(0o644))
        .expect("mode");
    assert_refused(&run(&mut installation.daemon(&["check"])), 78, "chmod 600");
}

#[test]
fn a_restore_refuses_strangers_and_occupied_targets() {
    let source = Database::create("guarded", SCRIPT);
    let installation = Installation::create(&source);
    installation.backup();
    let target = Database::to_restore("guarded_back");
    let stranger = run(&mut installation.reader(&[
        "restore",
        "latest",
        "--identity",
        "stranger",
        "--target",
        &target.url,
    ]));
    assert_refused(&stranger, 77, "identit");
    target.admin(&format!("CREATE DATABASE {}", target.name));
    target.query("CREATE TABLE mine (i int); INSERT INTO mine VALUES (42)");
    let occupied = run(&mut installation.reader(&[
        "restore",
        "latest",
        "--identity",
        "identity1",
        "--target",
        &target.url,
    ]));
    assert_eq!(occupied.status.code(), Some(73), "{}", said(&occupied));
    assert_eq!(target.query("SELECT i FROM mine").trim(), "42");
}

#[test]
fn a_pg_dump_that_fails_makes_no_snapshot_and_is_quoted() {
    let source = Database::create("pg_dump_fails", SCRIPT);
    let installation = Installation::create(&source);
    let dir = installation.path("bin");
    fs::create_dir(&dir).expect("a directory");
    for (tool, script) in [
        (
            "pg_dump",
            "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'pg_dump (PostgreSQL) 15.0'; exit 0; }\necho 'pg_dump: error: out of luck' >&2\nexit 1\n",
        ),
        ("pg_dumpall", "#!/bin/sh\nexit 0\n"),
    ] {
        fs::write(dir.join(tool), script).expect("written");
        fs::set_permissions(dir.join(tool), fs::Permissions::from_mode(0o755)).expect("mode");
    }
    installation.configure(|text| {
        text.replace(&server("STONEKEEP_TEST_PG_BINDIR"), &dir.display().to_string())
    });
    assert_refused(&run(&mut installation.daemon(&["backup"])), 75, "out of luck");
    no_snapshot(&installation);
}

#[test]
fn a_lock_held_by_ddl_ends_the_backup_loudly() {
    let source = Database::create("ddl", SCRIPT);
    let installation = Installation::create(&source);
    let mut holder = std::process::Command::new("psql");
    holder.args([
        "-X",
        "-q",
        "-c",
        "BEGIN; ALTER TABLE t ADD c int; SELECT pg_sleep(15)",
        &source.url,
    ]);
    let mut holder = holder.stdout(std::process::Stdio::null()).spawn().expect("psql runs");
    while source.query("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 't'::regclass").trim() == "0" {
        std::thread::yield_now();
    }
    assert_refused(&run(&mut installation.daemon(&["backup"])), 75, "DDL is in the way");
    holder.kill().expect("ended");
    holder.wait().expect("reaped");
    no_snapshot(&installation);
}

#[test]
fn a_login_without_a_superusers_rights_is_complete_or_says_what_it_lacks() {
    let source = Database::create(
        "managed",
        "CREATE TABLE plain (a int); INSERT INTO plain SELECT generate_series(1, 100);
         CREATE TABLE guarded (a int); INSERT INTO guarded SELECT generate_series(1, 50);
         ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON guarded USING (a < 5);
         SELECT lo_from_bytea(5, 'large');",
    );
    let role = format!("{}_role", source.name);
    source.admin(&format!("CREATE ROLE {role} LOGIN IN ROLE pg_read_all_data"));
    let mut installation = Installation::create(&source);
    installation.database_url = source.url.replace("postgres@", &format!("{role}@"));
    installation.configure(|text| text);
    assert_refused(&run(&mut installation.daemon(&["check"])), 77, "BYPASSRLS");
    assert_refused(&run(&mut installation.daemon(&["backup"])), 77, "public.guarded");
    source.admin(&format!("ALTER ROLE {role} BYPASSRLS"));
    installation.backup();
    let target = Database::to_restore("managed");
    installation.restore(&target);
    assert_eq!(source.rows(), target.rows());
    source.admin(&format!("DROP ROLE {role}"));
}

#[test]
fn a_row_that_cannot_be_had_in_text_nor_in_binary_is_named() {
    let source = Database::create(
        "too_long",
        "CREATE TABLE files (id int, content bytea, more bytea); INSERT INTO files VALUES (1, 'small');
         INSERT INTO files VALUES (2, convert_to(repeat('x', 540000000), 'UTF8')); UPDATE files SET more = content",
    );
    let installation = Installation::create(&source);
    let output = run(&mut installation.daemon(&["backup"]));
    assert_refused(&output, 78, "table public.files holds a row");
    assert!(said(&output).contains("ctid (0,4)"), "{}", said(&output));

    no_snapshot(&installation);

    // What was in binary once is not for ever: its columns are looked at each time.
    source.query("ALTER TABLE files DROP COLUMN more");
    assert!(installation.backup().contains("is stored in binary"));
    source.query("CREATE TYPE mood AS ENUM ('calm'); ALTER TABLE files ADD moods mood[]");
    let output = run(&mut installation.daemon(&["backup"]));
    assert_refused(&output, 78, "column moods is of type public.mood[]");
}
