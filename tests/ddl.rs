//! Schema changes while a backup starts: the backup gives way to them, and is of one instant.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
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

fn wait_for(flag: &AtomicBool) {
    let begun = Instant::now();
    while !flag.load(Ordering::Acquire) && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
}
