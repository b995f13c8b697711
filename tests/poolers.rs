//! A connection pooler between the daemon and the server: seen before anything is written, and said.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::harness::{Database, Installation, run, said, server, unique};

/// A PgBouncer before the source's server, ended when dropped.
struct Pooler {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Pooler {
    fn start(mode: &str) -> Self {
        let dir =
            tempfile::Builder::new().prefix(&unique("pooler")).tempdir().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let url = server("STONEKEEP_TEST_PG");
        let upstream = url.rsplit_once('@').and_then(|(_, rest)| rest.split_once('/'));
        let upstream = upstream.and_then(|(address, _)| address.rsplit_once(':'));
        let (_, upstream_port) = upstream.expect("a URL with a port");
        let config = dir.path().join("pgbouncer.ini");
        let users = dir.path().join("users");
        fs::write(&users, "\"postgres\" \"\"\n").expect("written");
        fs::write(
            &config,
            format!(
                "[databases]\n* = host=127.0.0.1 port={upstream_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = trust\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = 4\nignore_startup_parameters = extra_float_digits,options\n",
                users.display()
            ),
        )
        .expect("written");
        for path in [dir.path(), &config, &users] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("mode");
        }
        let child = Self::command(&config).spawn().expect("pgbouncer runs");
        let pooler = Self { child, port, _dir: dir };
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return pooler;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("pgbouncer does not listen")
    }

    /// PgBouncer refuses to run as root.
    fn command(config: &Path) -> Command {
        let is_root = run(Command::new("id").arg("-u")).stdout.starts_with(b"0\n");
        let mut command = Command::new("/usr/sbin/pgbouncer");
        if is_root {
            command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
            command.arg("/usr/sbin/pgbouncer");
        }
        command.arg("-q").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // A pooler that has ended already is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_pooler_in_transaction_mode_is_refused_before_anything_is_written() {
    let source = Database::create("pooled", "CREATE TABLE t (a int)");
    let installation = Installation::create(&source);
    let before = installation.versions();
    let pooler = Pooler::start("transaction");
    let (base, name) = source.url.rsplit_once(':').expect("a URL with a port");
    let (_, name) = name.split_once('/').expect("a URL with a database");
    let pooled = format!("{base}:{}/{name}", pooler.port);
    installation.configure(|text| text.replace(&source.url, &pooled));
    for command in ["check", "backup"] {
        let output = run(&mut installation.daemon(&[command]));
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        assert!(said(&output).contains("connection pooler"), "{}", said(&output));
    }
    assert_eq!(installation.versions(), before);
}
