//! A server whose table of locks is too small for all tables: a server of the test's own.

use std::process::Command;

use crate::{
    harness::{Database, Installation, must, run, said},
    own_server::Server,
};

#[test]
fn too_many_tables_for_the_servers_locks_are_told_with_what_to_set() {
    let elsewhere = Database::create("elsewhere", "SELECT 1");
    let mut installation = Installation::create(&elsewhere);
    // 21 sessions in all.
    let room_for_210 = "max_locks_per_transaction = 10\nmax_connections = 20\nautovacuum_max_workers = 1\n\
        max_worker_processes = 0\nmax_wal_senders = 0\nwal_level = minimal";
    let server = Server::start(room_for_210);
    installation.database_url.clone_from(&server.url);
    installation.configure(|text| text);
    let make = |from: u32, to: u32| {
        let each = |n| ["-c".to_owned(), format!("CREATE TABLE t{n} (a int)")];
        let commands = (from..to).flat_map(each);
        must(Command::new("psql").args(["-X", "-q"]).args(commands).arg(&server.url));
    };
    make(0, 80);
    must(&mut installation.daemon(&["backup"]));
    make(80, 200);
    for command in ["check", "backup"] {
        let output = run(&mut installation.daemon(&[command]));
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        assert!(said(&output).contains("max_locks_per_transaction to 18"), "{}", said(&output));
    }
}
