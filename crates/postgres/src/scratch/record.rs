//! The record in a scratch directory: which drill made it and which server runs in it, so that nobody ever ends a process that
//! merely has the same number.
//!
//! Text lines in the file `owner`, which the drill keeps locked for as long as it lives:
//!
//! ```text
//! boot <boot_id of the kernel, where it may be read>
//! drill <process id> <its start, field 22 of /proc/PID/stat>
//! server <process id> <its start>
//! ```

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Write as _},
    path::Path,
};

use rustix::process::Pid;

/// The file's name.
const FILE: &str = "owner";
/// Its name until it is whole and locked: a sweep that looks meanwhile finds none, and the directory young.
const NEW_FILE: &str = "owner.new";
/// The most that is read of it or of a file in /proc (4 KiB): three short lines, and the line of `stat`.
const BYTES_MAX: u64 = 4 << 10;

/// A process, told from any other that had or will have its number by when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    /// Clock ticks from the boot to its start.
    started: u64,
}

impl Process {
    /// The process that has this number now, unless it has ended.
    pub(super) fn of(pid: Pid) -> Option<Self> {
        let stat = read_bounded(Path::new(&format!("/proc/{}/stat", pid.as_raw_nonzero()))).ok()?;
        Some(Self { pid, started: started(&stat)? })
    }

    /// Whether it still lives.
    pub(super) fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    fn parse(text: &str) -> Option<Self> {
        let (pid, started) = text.split_once(' ')?;
        Some(Self { pid: Pid::from_raw(pid.parse().ok()?)?, started: started.parse().ok()? })
    }
}

/// Field 22 of `/proc/PID/stat` (`proc(5)`) of a process that has not ended. The name, field 2, may hold anything, also `)`.
fn started(stat: &str) -> Option<u64> {
    let (_, behind) = stat.rsplit_once(") ")?;
    let mut fields = behind.split(' ');
    let state = fields.next()?;
    // A zombie is not there any more but for its parent.
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// A record that this process writes and keeps locked.
#[derive(Debug)]
pub(super) struct Record(File);

impl Record {
    /// Writes the record of this process into a new directory.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        let file = File::create_new(dir.join(NEW_FILE))?;
        file.try_lock()?;
        let mut text = boot().map(|boot| format!("boot {boot}\n")).unwrap_or_default();
        text.extend(Process::of(rustix::process::getpid()).map(|own| line("drill", own)));
        (&file).write_all(text.as_bytes())?;
        fs::rename(dir.join(NEW_FILE), dir.join(FILE))?;
        Ok(Self(file))
    }

    /// Adds the server.
    pub(super) fn add_server(&self, pid: Option<Pid>) -> io::Result<()> {
        // One that has ended already says so otherwise.
        let Some(server) = pid.and_then(Process::of) else { return Ok(()) };
        (&self.0).write_all(line("server", server).as_bytes())
    }
}

fn line(what: &str, process: Process) -> String {
    format!("{what} {} {}\n", process.pid.as_raw_nonzero(), process.started)
}

/// The running kernel's id; a unit's `ProcSubset=pid` hides it.
fn boot() -> Option<String> {
    let id = read_bounded(Path::new("/proc/sys/kernel/random/boot_id")).ok()?;
    Some(id.trim().to_owned())
}

/// What a record says that somebody has left.
#[derive(Debug)]
pub(super) enum Found {
    /// Its drill is at work.
    Owned,
    /// Its drill has ended. The file stays locked, so that of two sweeps one removes the directory.
    Left { server: Option<Process>, lock: File },
    /// None, or none that can be read.
    Nothing,
}

/// Reads the record in `dir`.
pub(super) fn find(dir: &Path) -> io::Result<Found> {
    let file = match File::options().read(true).write(true).open(dir.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Found::Owned),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut text = String::new();
    // What is not UTF-8 is no record.
    if (&file).take(BYTES_MAX).read_to_string(&mut text).is_err() {
        return Ok(Found::Nothing);
    }
    Ok(judge(&text, boot().as_deref(), file))
}

fn judge(text: &str, boot: Option<&str>, lock: File) -> Found {
    let value =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let process = |name| value(name).and_then(Process::parse);
    let Some(drill) = process("drill") else { return Found::Nothing };
    // Numbers and times are those of one boot.
    let is_other_boot = value("boot").zip(boot).is_some_and(|(then, now)| then != now);
    match (is_other_boot, drill.lives()) {
        (true, _) => Found::Left { server: None, lock },
        (false, true) => Found::Owned,
        (false, false) => Found::Left { server: process("server"), lock },
    }
}

/// Reads a small file.
pub(super) fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str, boot: &str) -> Found {
        judge(text, Some(boot), tempfile::tempfile().expect("a file"))
    }

    fn own() -> Process {
        Process::of(rustix::process::getpid()).expect("this process")
    }

    #[test]
    fn start_is_read_behind_any_name_and_a_zombie_has_none() {
        let fields = |state: &str| {
            format!("7 (a) b ) c) {state} 1 7 7 0 -1 4194304 1 0 0 0 3 1 0 0 20 0 1 0 98765 4096 1")
        };
        assert_eq!(started(&fields("S")), Some(98765));
        assert_eq!(started(&fields("Z")), None);
        assert_eq!(started("7 (postgres) S 1"), None);
        assert!(own().lives());
    }

    #[test]
    fn a_process_that_began_at_another_time_is_another() {
        let other = Process { started: own().started + 1, ..own() };
        assert!(!other.lives());
        let text = format!("boot here\n{}{}", line("drill", other), line("server", own()));
        assert!(
            matches!(judged(&text, "here"), Found::Left { server: Some(server), .. } if server == own())
        );
    }

    #[test]
    fn a_drill_that_lives_owns_its_directory() {
        let text = format!("boot here\n{}", line("drill", own()));
        assert!(matches!(judged(&text, "here"), Found::Owned));
    }

    #[test]
    fn processes_of_another_boot_are_nobody() {
        let text = format!("boot then\n{}{}", line("drill", own()), line("server", own()));
        assert!(matches!(judged(&text, "now"), Found::Left { server: None, .. }));
    }

    #[test]
    fn a_torn_record_is_none() {
        for text in
            ["", "boot here\n", "boot here\ndrill 12", "boot here\ndrill x y\n", "drill 0 1\n"]
        {
            assert!(matches!(judged(text, "here"), Found::Nothing), "{text:?}");
        }
    }

    #[test]
    fn sweeps_that_look_all_the_time_never_take_a_record_from_the_drill_that_writes_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(!matches!(find(path), Ok(Found::Left { .. }) | Err(_)));
                }
            });
            let written = (0..200).all(|_| {
                Record::create(path).is_ok_and(|_record| fs::remove_file(path.join(FILE)).is_ok())
            });
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(written);
        });
    }

    #[test]
    fn a_record_is_locked_while_it_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(matches!(find(dir.path()), Ok(Found::Nothing)));
        let record = Record::create(dir.path()).expect("a record");
        record.add_server(Some(own().pid)).expect("added");
        assert!(matches!(find(dir.path()), Ok(Found::Owned)));
        drop(record);
        // This process still lives, which the record says.
        assert!(matches!(find(dir.path()), Ok(Found::Owned)));
        let text = fs::read_to_string(dir.path().join(FILE)).expect("read");
        assert!(text.contains("\nserver ") && text.ends_with('\n'), "{text}");
    }
}
