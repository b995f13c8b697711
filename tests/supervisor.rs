//! What systemd does for a service of `Type=notify`, without systemd: starts it with a socket for its notices and a watchdog,
//! and reloads, stops, kills and starts it again.

use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::harness::{must, run};

/// How often is looked whether something has happened.
const LOOK: Duration = Duration::from_millis(20);
/// The unit's `TimeoutStopSec=`: after it a service that was asked to stop is killed.
const STOP_MAX: Duration = Duration::from_secs(90);
/// The unit's `WatchdogSec=`, unless a test is about it.
const WATCHDOG: Duration = Duration::from_secs(180);

/// A line that a service has sent, as `sd_notify(3)` has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// `READY=1`
    Ready,
    /// `RELOADING=1`
    Reloading,
    /// `STOPPING=1`
    Stopping,
    /// `WATCHDOG=1`
    Watchdog,
    /// `STATUS=…`
    Status(String),
    /// Any other.
    Other(String),
}

impl Notice {
    fn parse(line: &str) -> Self {
        match line {
            "READY=1" => Self::Ready,
            "RELOADING=1" => Self::Reloading,
            "STOPPING=1" => Self::Stopping,
            "WATCHDOG=1" => Self::Watchdog,
            _ => match line.strip_prefix("STATUS=") {
                Some(text) => Self::Status(text.to_owned()),
                None => Self::Other(line.to_owned()),
            },
        }
    }
}

/// How a service ended, and how long that took.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) took: Duration,
}

/// A service that runs. Dropped, it is killed.
pub(crate) struct Supervised {
    command: Command,
    watchdog: Duration,
    dir: tempfile::TempDir,
    process: Process,
}

/// One start of it.
struct Process {
    child: Child,
    seen: Arc<Seen>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    notices: Mutex<Vec<Notice>>,
    is_over: AtomicBool,
}

impl Seen {
    fn notices(&self) -> MutexGuard<'_, Vec<Notice>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supervised {
    /// Starts `command` with the watchdog of the unit.
    pub(crate) fn start(command: &Command) -> Self {
        Self::start_watched(command, WATCHDOG)
    }

    /// Starts `command`; `SIGABRT` ends it when it is silent for longer than `watchdog`.
    pub(crate) fn start_watched(command: &Command, watchdog: Duration) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        open_to_all(dir.path());
        let command = told_its_own_id(command);
        let mut service = Self { process: Process::idle(), command, watchdog, dir };
        service.start_again();
        service
    }

    /// Starts it once more after it has ended: what was noticed and said before is forgotten.
    pub(crate) fn start_again(&mut self) {
        self.process.end();
        let path = self.dir.path().join("notify");
        drop(fs::remove_file(&path));
        let socket = UnixDatagram::bind(&path).expect("bound");
        open_to_all(&path);
        let output = |name| File::create(self.dir.path().join(name)).expect("a file");
        let command = self.command.env("NOTIFY_SOCKET", &path);
        command.env("WATCHDOG_USEC", self.watchdog.as_micros().to_string());
        command.stdin(Stdio::null()).stdout(output("stdout")).stderr(output("stderr"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        self.process = Process::listen(child, socket, self.watchdog);
    }

    /// Waits for `READY=1`. One that ends before, or takes longer, fails the test with what it said.
    pub(crate) fn wait_ready(&mut self, timeout: Duration) {
        self.wait_for("READY=1", timeout, |notices| notices.contains(&Notice::Ready));
    }

    /// Waits until the status line holds `text`.
    pub(crate) fn wait_status(&mut self, text: &str, timeout: Duration) {
        let is_last = |notices: &[Notice]| last_status(notices).is_some_and(|it| it.contains(text));
        self.wait_for(&format!("a status with {text:?}"), timeout, is_last);
    }

    /// Waits until the notices of this start are as `wanted`; `what` is said if that does not come.
    pub(crate) fn wait_for(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&[Notice]) -> bool,
    ) {
        let begun = Instant::now();
        while !wanted(&self.notices()) {
            let ended = self.ended();
            let is_late = begun.elapsed() > timeout;
            assert!(
                ended.is_none() && !is_late,
                "{what} did not come ({ended:?}): {:?}\n{}",
                self.notices(),
                self.said()
            );
            thread::sleep(LOOK);
        }
    }

    /// The status line that `systemctl status` would show.
    pub(crate) fn status(&self) -> Option<String> {
        last_status(&self.notices()).map(str::to_owned)
    }

    /// Everything noticed since the start, in order.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        self.process.seen.notices().clone()
    }

    /// Everything on stderr since the start.
    pub(crate) fn said(&self) -> String {
        self.output("stderr")
    }

    /// Everything on stdout since the start.
    pub(crate) fn printed(&self) -> String {
        self.output("stdout")
    }

    fn output(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join(name)).expect("there")).into_owned()
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// What of its resident memory is its own, and not the program's file.
    pub(crate) fn held_bytes(&self) -> u64 {
        let status = PathBuf::from(format!("/proc/{}/status", self.id()));
        let status = fs::read_to_string(status).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }

    /// `systemctl reload`.
    pub(crate) fn reload(&self) {
        self.signal("HUP");
    }

    /// Sends any signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        must(Command::new("kill").args(["-s", name, &self.id().to_string()]));
    }

    /// `systemctl stop`: asks it to end, and kills it when it does not within the unit's time.
    pub(crate) fn terminate(&mut self) -> Ended {
        let begun = Instant::now();
        self.signal("TERM");
        while self.ended().is_none() && begun.elapsed() < STOP_MAX {
            thread::sleep(LOOK);
        }
        self.kill(begun)
    }

    /// Ends it without asking.
    pub(crate) fn kill_now(&mut self) -> Ended {
        self.kill(Instant::now())
    }

    fn kill(&mut self, begun: Instant) -> Ended {
        drop(self.process.child.kill());
        let status = self.process.child.wait().expect("it was started");
        Ended { status, took: begun.elapsed() }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.child.try_wait().expect("it was started")
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait_end(&mut self, timeout: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(begun.elapsed() < timeout, "it still runs: {}", self.said());
            thread::sleep(LOOK);
        }
    }
}

impl Process {
    /// One that is over.
    fn idle() -> Self {
        let child = Command::new("true").spawn().expect("started");
        Self { child, seen: Arc::default(), listener: None }
    }

    fn listen(child: Child, socket: UnixDatagram, watchdog: Duration) -> Self {
        let (seen, id) = (Arc::<Seen>::default(), child.id());
        let shared = Arc::clone(&seen);
        let listener = thread::spawn(move || listen(&socket, &shared, id, watchdog));
        Self { child, seen, listener: Some(listener) }
    }

    fn end(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        self.seen.is_over.store(true, Ordering::Relaxed);
        drop(self.listener.take().map(JoinHandle::join));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Takes notices until nobody wants them, and aborts a service that is silent for too long.
fn listen(socket: &UnixDatagram, seen: &Seen, id: u32, watchdog: Duration) {
    socket.set_read_timeout(Some(LOOK)).expect("set");
    let mut buffer = vec![0; 1 << 16];
    let mut sign_of_life = Instant::now();
    let mut is_hung = false;
    while !seen.is_over.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let notices: Vec<_> = text.lines().map(Notice::parse).collect();
                if notices.iter().any(|it| matches!(it, Notice::Watchdog | Notice::Ready)) {
                    sign_of_life = Instant::now();
                }
                seen.notices().extend(notices);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("the socket for notices: {error}"),
        }
        if !is_hung && sign_of_life.elapsed() > watchdog {
            is_hung = true;
            drop(run(Command::new("kill").args(["-s", "ABRT", &id.to_string()])));
        }
    }
}

fn last_status(notices: &[Notice]) -> Option<&str> {
    notices.iter().rev().find_map(|notice| match notice {
        Notice::Status(text) => Some(text.as_str()),
        _ => None,
    })
}

/// The service may run as another user.
fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("set");
}

/// The same command by a shell that first says its own process id in `WATCHDOG_PID`, which nobody knows earlier.
fn told_its_own_id(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\""]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    shell
}

/// A service in the shell: `systemd-notify` speaks for it.
fn stand_in(script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", script]);
    command
}

#[test]
fn a_service_is_started_reloaded_and_stopped_as_by_systemd() {
    let mut service = Supervised::start(&stand_in(
        "trap 'systemd-notify RELOADING=1; systemd-notify --ready --status=again' HUP
         trap 'systemd-notify STOPPING=1; exit 0' TERM
         echo \"$WATCHDOG_PID $$ $WATCHDOG_USEC\"; echo words >&2
         systemd-notify --ready --status=waiting
         while :; do sleep 0.05; done",
    ));
    service.wait_ready(Duration::from_secs(10));
    assert_eq!(service.status().as_deref(), Some("waiting"));
    let id = service.id();
    assert_eq!(service.printed(), format!("{id} {id} 180000000\n"));
    assert_eq!(service.said(), "words\n");
    assert!(service.held_bytes() > 100_000);
    service.reload();
    service.wait_status("again", Duration::from_secs(10));
    assert!(service.notices().contains(&Notice::Reloading));
    let ended = service.terminate();
    assert!(ended.status.success() && ended.took < Duration::from_secs(10), "{ended:?}");
    assert!(service.notices().contains(&Notice::Stopping));
    service.start_again();
    service.wait_ready(Duration::from_secs(10));
    assert_eq!(service.kill_now().status.signal(), Some(9));
}

#[test]
fn a_silent_service_is_aborted_and_one_that_speaks_is_not() {
    let silent = stand_in("systemd-notify --ready; sleep 60");
    let mut service = Supervised::start_watched(&silent, Duration::from_millis(500));
    assert_eq!(service.wait_end(Duration::from_secs(10)).signal(), Some(6));
    let speaks = stand_in(
        "systemd-notify --ready
         for i in 1 2 3 4 5 6 7 8; do sleep 0.1; systemd-notify WATCHDOG=1; done",
    );
    let mut service = Supervised::start_watched(&speaks, Duration::from_millis(500));
    assert!(service.wait_end(Duration::from_secs(10)).success());
}
