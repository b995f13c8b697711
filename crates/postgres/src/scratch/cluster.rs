//! `initdb` and `postgres` as children.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::ScratchError;
use crate::{
    connect::{ConnectError, ConnectOptions, clear_child_env, connect},
    refusal::one_line,
    tools::ToolDirs,
};

/// How long the server may take until it answers (60 s): what `pg_ctl` waits.
const START_DURATION_MAX: Duration = Duration::from_secs(60);
/// What is waited between two tries to connect (50 ms): a new cluster is up after some 100 ms.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// How long `initdb` may take (5 min): it writes 40 MB, in some seconds.
const INITIALIZE_DURATION_MAX: Duration = Duration::from_secs(300);
/// How long the server may take to end (10 s): it gives its backends 5 s, then kills them.
const STOP_DURATION_MAX: Duration = Duration::from_secs(10);
/// How long a server that is dropped may take (2 s), looked at every 10 ms: a thread of the runtime stands still meanwhile.
const DROP_DURATION_MAX: Duration = Duration::from_secs(2);
const DROP_LOOK: Duration = Duration::from_millis(10);
/// What of a program's words is shown: its last 8 lines, out of 16 KiB.
const SAID_LINES: usize = 8;
const SAID_BYTES: u64 = 16 << 10;

/// What the two programs say, each in a file of the scratch directory.
const INITDB_LOG: &str = "initdb.log";
const LOG: &str = "postgres.log";
/// The data directory in it.
pub(super) const DATA: &str = "data";

/// The server's programs, both of one installation.
#[derive(Debug)]
pub(super) struct Programs {
    initdb: PathBuf,
    postgres: PathBuf,
}

impl Programs {
    /// Finds them as every program of PostgreSQL's is found.
    pub(super) fn find(tools: &ToolDirs, major: u32) -> Result<Self, ScratchError> {
        let missing = |program| ScratchError::NoServer {
            program,
            major,
            looked_in: tools.pattern().to_owned(),
        };
        let postgres = tools.find("postgres", major).map_err(|_| missing("postgres"))?;
        let initdb = postgres.with_file_name("initdb");
        if initdb.is_file() { Ok(Self { initdb, postgres }) } else { Err(missing("initdb")) }
    }
}

/// Makes the cluster in `place`: superuser `postgres`, UTF-8, locale C, so that it needs no locale of the system's; databases bring
/// their own. Whoever may open the socket is let in, which is the directory's owner alone.
pub(super) async fn initialize(programs: &Programs, place: &Path) -> Result<(), ScratchError> {
    let mut command = Command::new(&programs.initdb);
    command.arg("-D").arg(place.join(DATA));
    command.args(["--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    command.args(["--auth-local=trust", "--auth-host=reject"]);
    let mut child = Guarded(spawn(command, &programs.initdb, &place.join(INITDB_LOG))?);
    let ended = timeout(INITIALIZE_DURATION_MAX, child.0.wait()).await;
    let failed = |status: String| ScratchError::Failed {
        program: "initdb",
        status,
        said: last_words(&place.join(INITDB_LOG)),
    };
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(words(status))),
        Ok(Err(source)) => Err(ScratchError::Run { program: programs.initdb.clone(), source }),
        Err(_) => Err(failed(format!("no end after {} s", INITIALIZE_DURATION_MAX.as_secs()))),
    }
}

/// Returns the major of the cluster in `place`, which `initdb` has written down.
pub(super) fn major_of(place: &Path) -> Result<u32, ScratchError> {
    let path = place.join(DATA).join("PG_VERSION");
    let text = super::record::read_bounded(&path).map_err(ScratchError::file("read", &path))?;
    let major = text.trim().parse();
    major.map_err(|error| ScratchError::file("understand", &path)(std::io::Error::other(error)))
}

/// Starts a program with nothing to read, our short environment, a process group of its own (a terminal's ^C is for us to answer,
/// not for the server), and its words in the log.
fn spawn(mut command: Command, program: &Path, log: &Path) -> Result<Child, ScratchError> {
    let file = || File::options().create(true).append(true).open(log);
    let open = || file().map_err(ScratchError::file("write", log));
    clear_child_env(&mut command);
    command.env("LC_ALL", "C").current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
    let run = |source| ScratchError::Run { program: program.to_owned(), source };
    command.spawn().map_err(run)
}

/// A child that is killed when dropped, with the children it has in its group.
#[derive(Debug)]
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(pid) = pid_of(&self.0) {
            // An error says that it has ended.
            _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// The number of a child that nobody has waited for, and that is so nobody else's.
fn pid_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?))
}

/// The server, which ends when dropped.
#[derive(Debug)]
pub(super) struct Postmaster {
    child: Child,
}

impl Postmaster {
    /// Starts the server of the cluster in `place`.
    pub(super) fn spawn(
        programs: &Programs,
        place: &Path,
        settings: &[String],
    ) -> Result<Self, ScratchError> {
        let mut command = Command::new(&programs.postgres);
        command.arg("-D").arg(place.join(DATA));
        settings.iter().for_each(|setting| {
            command.arg("-c").arg(setting);
        });
        Ok(Self { child: spawn(command, &programs.postgres, &place.join(LOG))? })
    }

    /// Returns its process, unless it has ended.
    pub(super) fn pid(&self) -> Option<Pid> {
        pid_of(&self.child)
    }

    /// Waits until a session can be had.
    pub(super) async fn wait_until_it_answers(
        &mut self,
        server: &ConnectOptions,
        place: &Path,
    ) -> Result<(), ScratchError> {
        match timeout(START_DURATION_MAX, self.answers(server, place)).await {
            Ok(result) => result,
            Err(_) => Err(ScratchError::Silent {
                seconds: START_DURATION_MAX.as_secs(),
                said: last_words(&place.join(LOG)),
            }),
        }
    }

    async fn answers(&mut self, server: &ConnectOptions, place: &Path) -> Result<(), ScratchError> {
        loop {
            match connect(server).await {
                Ok(_) => return Ok(()),
                // Not there yet, or not ready.
                Err(ConnectError::Unreachable { .. } | ConnectError::Busy { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            if let Ok(Ok(status)) = timeout(RETRY_AFTER, self.child.wait()).await {
                let (status, said) = (words(status), last_words(&place.join(LOG)));
                return Err(ScratchError::Failed { program: "postgres", status, said });
            }
        }
    }

    /// Ends the server. It need not write anything down, so it is told to leave at once; if it does not, it is killed.
    pub(super) async fn stop(mut self) {
        self.signal(Signal::QUIT);
        if timeout(STOP_DURATION_MAX, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            // It cannot refuse that.
            drop(self.child.wait().await);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // An error says that it has ended.
            _ = kill_process(pid, signal);
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        self.signal(Signal::QUIT);
        let looks = DROP_DURATION_MAX.as_millis() / DROP_LOOK.as_millis();
        for _ in 0..looks {
            if self.has_ended() {
                return;
            }
            std::thread::sleep(DROP_LOOK);
        }
        self.signal(Signal::KILL);
    }
}

fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The end of the log. Shown only of a program that has seen no row: one that could not start.
fn last_words(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(SAID_BYTES)))?;
        let mut end = Vec::new();
        file.take(SAID_BYTES).read_to_end(&mut end)?;
        std::io::Result::Ok(end)
    };
    let Ok(end) = read() else { return "it said nothing that can be read".to_owned() };
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(SAID_LINES)..];
    last.iter().map(|line| one_line(line)).collect::<Vec<_>>().join("; ")
}

/// Returns the process that the server in `place` has written down itself, first of all (`postmaster.pid`). One that serves
/// nobody, as `initdb` starts them, writes its number with a minus.
pub(super) fn written_pid(place: &Path) -> Option<Pid> {
    let text = super::record::read_bounded(&place.join(DATA).join("postmaster.pid")).ok()?;
    let written: i32 = text.lines().next()?.trim().parse().ok()?;
    Pid::from_raw(written.checked_abs()?)
}

/// Returns whether a process is at work in the data directory of `place`, where every server of PostgreSQL's is.
pub(super) fn is_in(place: &Path, pid: Pid) -> bool {
    let cwd = fs::read_link(format!("/proc/{}/cwd", pid.as_raw_nonzero()));
    let data = fs::canonicalize(place.join(DATA));
    matches!((cwd, data), (Ok(cwd), Ok(data)) if cwd == data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_lines_of_a_log_are_shown() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join(LOG);
        assert_eq!(last_words(&log), "it said nothing that can be read");
        let lines: String = (0..5000).map(|line| format!("line {line}\n\n")).collect();
        fs::write(&log, lines).expect("written");
        let said = last_words(&log);
        assert!(said.starts_with("line 4992; ") && said.ends_with("; line 4999"), "{said}");
    }

    #[test]
    fn programs_of_one_installation_are_taken_or_the_package_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let pattern = dir.path().join("%v").display().to_string();
        let tools = ToolDirs { pattern: Some(pattern) };
        let found = Programs::find(&tools, 15).map_err(|error| error.to_string());
        assert!(found.is_err_and(|said| said.contains("postgresql-15")));
        fs::create_dir(dir.path().join("16")).expect("made");
        fs::write(dir.path().join("16/postgres"), "").expect("written");
        let missing = Programs::find(&tools, 15);
        assert!(matches!(missing, Err(ScratchError::NoServer { program: "initdb", .. })));
        fs::write(dir.path().join("16/initdb"), "").expect("written");
        let found = Programs::find(&tools, 15).expect("both");
        assert_eq!(found.initdb, dir.path().join("16/initdb"));
        assert!(Programs::find(&tools, 17).is_err());
    }

    #[test]
    fn a_process_elsewhere_is_not_the_server() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join(DATA)).expect("made");
        let own = rustix::process::getpid();
        assert!(!is_in(dir.path(), own));
        let pid = format!("{}\n/somewhere\n", own.as_raw_nonzero());
        for sign in ["", "-"] {
            let path = dir.path().join(DATA).join("postmaster.pid");
            fs::write(path, format!("{sign}{pid}")).expect("written");
            assert_eq!(written_pid(dir.path()), Some(own), "{sign}");
        }
    }
}
