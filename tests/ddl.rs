//! Schema changes while a backup starts: the backup gives way to them, and is of one instant.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    harness::{Database, Installation, must, run, said, server},
    proxy::{self, Fate},
};

#[test]
fn ddl_that_comes_while_pg_dump_starts_goes_first_and_the_backup_succeeds() {
    let source = Database::create(
        "ddl_first",
        "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)",
    );
    let installation = Installation::create(&source);
    // The first real call of this pg_dump finds an ALTER waiting behind the locks that the backup holds already.
    let (bin, dir) = (server("STONEKEEP_TEST_PG_BINDIR"), installation.path("bin"));
    let url = &source.url;
    fs::create_dir(&dir).expect("a directory");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE t%'";
    let pg_dump = format!(
        "#!/bin/sh\n\
         if [ \"$1\" != --version ] && mkdir '{0}/once' 2>/dev/null; then\n\
         env -i '{bin}/psql' -X -q -c 'ALTER TABLE t ADD COLUMN b int DEFAULT 7' '{url}' >/dev/null 2>&1 &\n\
         until [ \"$(env -i '{bin}/psql' -X -At -c \"{waiting}\" '{url}')\" = 1 ]; do :; done\n\
         fi\n\
         exec '{bin}/pg_dump' \"$@\"\n",
        dir.display()
    );
    fs::write(dir.join("pg_dump"), pg_dump).expect("written");
    fs::set_permissions(dir.join("pg_dump"), fs::Permissions::from_mode(0o755)).expect("mode");
    for tool in ["pg_dumpall", "pg_restore"] {
        std::os::unix::fs::symlink(format!("{bin}/{tool}"), dir.join(tool)).expect("linked");
    }
    installation.configure(|text| {
        text.replace(&server("STONEKEEP_TEST_PG_BINDIR"), &dir.display().to_string())
    });
    let output = run(&mut installation.daemon(&["backup"]));
    assert!(output.status.success(), "{}", said(&output));
    assert!(dir.join("once").exists(), "pg_dump was not the one of this test");
    let target = Database::to_restore("ddl_first");
    installation.restore(&target);
    assert_eq!(target.query("SELECT count(*), sum(a), sum(b) FROM t").trim(), "1000|500500|7000");
}

#[test]
fn ddl_that_waits_while_rows_are_copied_is_given_way_to_by_a_role_that_only_reads() {
    let source = Database::create(
        "ddl_later",
        "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)",
    );
    let role = format!("{}_role", source.name);
    // PostgreSQL 13 has no role that reads everything.
    source.admin(&format!("CREATE ROLE {role} LOGIN"));
    if source.major() < 14 {
        source.query(&format!("GRANT SELECT ON t TO {role}"));
    } else {
        source.admin(&format!("GRANT pg_read_all_data TO {role}"));
    }
    let mut installation = Installation::create(&source);
    installation.database_url = source.url.replace("postgres@", &format!("{role}@"));
    installation.configure(|text| text);
    // Until the ALTER went through, no segment does, and so the locks stay.
    let (altered, copying) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (gate, begun) = (Arc::clone(&altered), Arc::clone(&copying));
    let held_back = proxy::start(move |line| {
        if line.starts_with("PUT ") && line.contains("/segments/") {
            begun.store(true, Ordering::Release);
            wait_for(&gate);
        }
        Fate::Served
    });
    let direct = server("STONEKEEP_TEST_S3_ENDPOINT");
    installation.configure(|text| text.replace(&direct, &held_back));
    let mut daemon = installation.daemon(&["backup"]);
    let daemon = daemon.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
    wait_for(&copying);
    // ddl_wait_max is 4 s here, and the backup looks every 5 s.
    source.query("SET lock_timeout = '30s'; ALTER TABLE t ADD COLUMN b int DEFAULT 7");
    altered.store(true, Ordering::Release);
    let output = daemon.wait_with_output().expect("ended");
    assert!(output.status.success(), "{}", said(&output));
    installation.configure(|text| text);
    let target = Database::to_restore("ddl_later");
    // The role that reads is on the source's server only.
    let restore = ["restore", "latest", "--identity", "identity1", "--no-owner", "--target"];
    must(installation.reader(&restore).arg(&target.url));
    assert_eq!(target.query("SELECT count(*), sum(a), sum(b) FROM t").trim(), "1000|500500|7000");
    source.query(&format!("REVOKE ALL ON t FROM {role}"));
    source.admin(&format!("DROP ROLE {role}"));
}

/// In one transaction each, so that at any instant all hold 1000 rows of one generation.
fn churn(generation: u32) -> String {
    let kind = if generation.is_multiple_of(2) { "bigint" } else { "int" };
    let fill = |table: &str| {
        format!("INSERT INTO {table} SELECT {generation}, i FROM generate_series(1, 1000) i;")
    };
    format!(
        "BEGIN; TRUNCATE a; {} TRUNCATE b; {} DROP TABLE c; CREATE TABLE c (generation int, i int); {} \
         ALTER TABLE a ALTER i TYPE {kind}; COMMIT;",
        fill("a"),
        fill("b"),
        fill("c")
    )
}

#[test]
fn ten_backups_under_ddl_three_times_a_second_are_of_one_instant_or_loud() {
    let make = "CREATE TABLE a (generation int, i int); CREATE TABLE b (generation int, i int); CREATE TABLE c (generation int, i int);";
    let source = Database::create("churned", &format!("{make} {}", churn(0)));
    let installation = Installation::create(&source);
    let over = Arc::new(AtomicBool::new(false));
    let (stop, url) = (Arc::clone(&over), source.url.clone());
    let churning = std::thread::spawn(move || {
        let mut generation = 0;
        while !stop.load(Ordering::Acquire) {
            let begun = Instant::now();
            generation += 1;
            let mut psql = Command::new("psql");
            psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", &churn(generation), &url]);
            must(&mut psql);
            std::thread::sleep(Duration::from_millis(333).saturating_sub(begun.elapsed()));
        }
        generation
    });
    let mut taken = 0;
    for n in 0..10 {
        let output = run(&mut installation.daemon(&["backup"]));
        if !output.status.success() {
            assert_eq!(output.status.code(), Some(75), "{}", said(&output));
            continue;
        }
        taken += 1;
        let target = Database::to_restore(&format!("churned_{n}"));
        installation.restore(&target);
        let all = "SELECT * FROM a UNION ALL SELECT * FROM b UNION ALL SELECT * FROM c";
        let found = target
            .query(&format!("SELECT count(*), min(generation) = max(generation) FROM ({all}) s"));
        assert_eq!(found.trim(), "3000|t", "snapshot {n}");
    }
    over.store(true, Ordering::Release);
    let generations = churning.join().expect("every change went through");
    println!("{taken} of 10 backups under {generations} changes");
    assert!(taken > 5, "{taken} of 10");
}

pub(crate) fn wait_for(flag: &AtomicBool) {
    let begun = Instant::now();
    while !flag.load(Ordering::Acquire) && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
}
