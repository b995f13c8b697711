//! Schema changes while a backup starts: the backup gives way to them, and is of one instant.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::harness::{Database, Installation, run, said, server};

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
    installation.configure(|text| format!("pg_bindir = \"{}\"\n{text}", dir.display()));
    let output = run(&mut installation.daemon(&["backup"]));
    assert!(output.status.success(), "{}", said(&output));
    assert!(dir.join("once").exists(), "pg_dump was not the one of this test");
    let target = Database::to_restore("ddl_first");
    installation.restore(&target);
    assert_eq!(target.query("SELECT count(*), sum(a), sum(b) FROM t").trim(), "1000|500500|7000");
}
