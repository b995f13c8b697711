//! A server whose table of locks is too small for all tables: a server of the test's own.

use std::process::Command;

use crate::harness::{Database, Installation, must, run, said, script};

struct Server {
    dir: tempfile::TempDir,
    url: String,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // The server's user goes through it.
        must(Command::new("chmod").arg("755").arg(dir.path()));
        let port = must(&mut Command::new(script("ports.sh"))).trim().to_owned();
        let mut command = Command::new(script("postgres.sh"));
        command.arg("up").arg(dir.path().join("pg")).arg(&port);
        // 21 sessions in all.
        let room_for_210 = "max_locks_per_transaction = 10\nmax_connections = 20\nautovacuum_max_workers = 1\n\
            max_worker_processes = 0\nmax_wal_senders = 0\nwal_level = minimal";
        must(command.env("PG_CONF", room_for_210).env_remove("PG_BIN"));
        Self { dir, url: format!("postgres://postgres@127.0.0.1:{port}/postgres") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut command = Command::new(script("postgres.sh"));
        drop(run(command.arg("down").arg(self.dir.path().join("pg")).env_remove("PG_BIN")));
    }
}

#[test]
fn too_many_tables_for_the_servers_locks_are_told_with_what_to_set() {
    let elsewhere = Database::create("elsewhere", "SELECT 1");
    let mut installation = Installation::create(&elsewhere);
    let server = Server::start();
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
