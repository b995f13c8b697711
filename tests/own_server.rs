//! A PostgreSQL of a test's own, beside those of the run.

use std::process::Command;

use crate::harness::{must, run, script};

/// Ended when dropped.
pub(crate) struct Server {
    dir: tempfile::TempDir,
    port: String,
    pub(crate) url: String,
    _locales: Option<tempfile::TempDir>,
}

impl Server {
    /// Starts one of PostgreSQL 15 with these lines in its `postgresql.conf`.
    pub(crate) fn start(conf: &str) -> Self {
        Self::begin("up", conf, None, None)
    }

    /// The same with the locale `de_DE.UTF-8` beside that of C.
    pub(crate) fn start_in_german(conf: &str) -> Self {
        let locales = tempfile::tempdir().expect("a directory");
        must(Command::new("chmod").arg("755").arg(locales.path()));
        let german = locales.path().join("de_DE.utf8");
        must(Command::new("localedef").args(["-i", "de_DE", "-f", "UTF-8"]).arg(german));
        Self::begin("up", conf, None, Some(locales))
    }

    /// Starts one that follows this one.
    pub(crate) fn standby(&self, conf: &str) -> Self {
        Self::begin("standby", conf, Some(&self.port), None)
    }

    fn begin(
        how: &str,
        conf: &str,
        primary: Option<&str>,
        locales: Option<tempfile::TempDir>,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        // The server's user goes through it.
        must(Command::new("chmod").arg("755").arg(dir.path()));
        let port = must(&mut Command::new(script("ports.sh"))).trim().to_owned();
        let mut command = Command::new(script("postgres.sh"));
        command.arg(how).arg(dir.path().join("pg")).arg(&port).args(primary);
        command.env("PG_CONF", conf).env_remove("PG_BIN");
        must(command.envs(locales.iter().map(|dir| ("LOCPATH", dir.path()))));
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        Self { dir, port, url, _locales: locales }
    }

    /// Runs a statement, and returns what it prints.
    pub(crate) fn query(&self, statement: &str) -> String {
        let psql = ["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-c", statement, &self.url];
        must(Command::new("psql").args(psql))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut command = Command::new(script("postgres.sh"));
        drop(run(command.arg("down").arg(self.dir.path().join("pg")).env_remove("PG_BIN")));
    }
}
