//! What killed drills have left: their servers are ended, their directories removed.
//!
//! Nothing is touched but directories of our name that belong to this user, nothing whose drill is at work, and no process but the
//! one that the directory's record names: told by its start, at work in that directory, and held by a descriptor of itself, so that
//! one which merely got the same number is never hit.

use std::{
    fs::{self, Metadata},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{
    PREFIX, ScratchError,
    cluster::{is_in, written_pid},
    record::{Found, Process, find},
    remove_tree,
};

/// How old a directory without a record must be (10 min): a drill writes its record at once, but may stand still before it does.
const UNRECORDED_AGE_MIN: Duration = Duration::from_secs(600);

/// How long a server may take to end after each signal (10 s), as in [`super::cluster`].
const STOP_SECONDS: i64 = 10;

/// What a killed drill had left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// The directory.
    pub path: PathBuf,
    /// Whether its server still ran and was ended.
    pub server_ran: bool,
    /// Why it is still there; absent: it is removed.
    pub failure: Option<String>,
}

/// Ends and removes what killed drills have left in `dir`, and says what. The directories of drills at work are left. One that
/// cannot be removed, or whose server does not end, keeps no other from being removed.
///
/// # Errors
/// [`ScratchError::File`] when the directory cannot be listed.
pub async fn sweep(dir: &Path) -> Result<Vec<Swept>, ScratchError> {
    let path = dir.to_owned();
    let swept = tokio::task::spawn_blocking(move || sweep_all(&path)).await;
    swept
        .unwrap_or_else(|error| Err(ScratchError::file("sweep", dir)(std::io::Error::other(error))))
}

fn sweep_all(dir: &Path) -> Result<Vec<Swept>, ScratchError> {
    let entries = fs::read_dir(dir).map_err(ScratchError::file("list", dir))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| is_named(path));
    paths.sort();
    Ok(paths.iter().filter_map(|path| sweep_one(path)).collect())
}

fn is_named(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(PREFIX))
}

/// Sweeps a directory; none if it is nobody's leftover.
fn sweep_one(path: &Path) -> Option<Swept> {
    let mut swept = Swept { path: path.to_owned(), server_ran: false, failure: None };
    match clear(path, &mut swept.server_ran) {
        Ok(true) => Some(swept),
        Ok(false) => None,
        Err(error) => {
            swept.failure = Some(told(&error));
            Some(swept)
        }
    }
}

/// Ends the server in `path` and removes it, and returns whether it was left by a killed drill.
fn clear(path: &Path, server_ran: &mut bool) -> Result<bool, ScratchError> {
    // Of a link, of itself.
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(false) };
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Ok(false);
    }
    let (recorded, _lock) =
        match find(path).map_err(ScratchError::file("read the record in", path))? {
            Found::Owned => return Ok(false),
            Found::Nothing if !is_old(&metadata) => return Ok(false),
            Found::Nothing => (None, None),
            Found::Left { server, lock } => (server, Some(lock)),
        };
    *server_ran = end_server(path, recorded)?;
    remove_tree(path).map_err(ScratchError::file("remove", path))?;
    Ok(true)
}

/// The error with its source, which is the operating system's.
fn told(error: &ScratchError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn is_old(metadata: &Metadata) -> bool {
    let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok());
    age.is_some_and(|age| age >= UNRECORDED_AGE_MIN)
}

/// Ends the server in `path` if one is at work there, and returns whether one was.
fn end_server(path: &Path, recorded: Option<Process>) -> Result<bool, ScratchError> {
    // A drill that was killed between starting its server and recording it leaves the server's own word.
    let Some(pid) = recorded.map(|server| server.pid).or_else(|| written_pid(path)) else {
        return Ok(false);
    };
    // From here on the descriptor is of one process, whatever becomes of its number.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(false) };
    if !recorded.is_none_or(Process::lives) || !is_in(path, pid) {
        return Ok(false);
    }
    for signal in [Signal::QUIT, Signal::KILL] {
        // An error says that it has ended.
        _ = pidfd_send_signal(&process, signal);
        if has_ended(&process).map_err(ScratchError::file("end the server in", path))? {
            return Ok(true);
        }
    }
    Err(ScratchError::Stubborn { path: path.to_owned(), pid: raw(pid) })
}

/// Waits for the end of a process; a descriptor of one can be read from then on.
fn has_ended(process: &OwnedFd) -> std::io::Result<bool> {
    let limit = Timespec { tv_sec: STOP_SECONDS, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit))?;
    Ok(ready > 0)
}

fn raw(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A scratch directory with this record, and a data directory.
    fn left(dir: &Path, name: &str, record: &str) -> PathBuf {
        let path = dir.join(format!("{PREFIX}{name}"));
        fs::create_dir_all(path.join("data")).expect("made");
        fs::write(path.join("owner"), record).expect("written");
        path
    }

    #[test]
    fn what_a_dead_drill_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let elsewhere = tempfile::tempdir().expect("a directory");
        fs::write(elsewhere.path().join("kept"), "").expect("written");
        let dead = left(dir.path(), "dead", "drill 1 1\n");
        symlink(elsewhere.path(), dead.join("data/link")).expect("linked");
        // A young directory may be that of a drill that has not written its record yet.
        let young = left(dir.path(), "young", "");
        let link = dir.path().join(format!("{PREFIX}link"));
        symlink(elsewhere.path(), &link).expect("linked");
        let other = dir.path().join("stonekeep-other");
        fs::create_dir(&other).expect("made");
        let swept = sweep_all(dir.path()).expect("swept");
        assert_eq!(swept, [Swept { path: dead.clone(), server_ran: false, failure: None }]);
        assert!(!dead.exists() && young.exists() && other.exists());
        assert!(link.is_symlink() && elsewhere.path().join("kept").exists());
    }

    #[test]
    fn one_that_cannot_be_removed_is_told_and_keeps_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let odd = left(dir.path(), "a", "drill 1 1\n");
        // No record can be read of it, for it is no file.
        fs::remove_file(odd.join("owner")).expect("removed");
        fs::create_dir(odd.join("owner")).expect("made");
        let dead = left(dir.path(), "b", "drill 1 1\n");
        let swept = sweep_all(dir.path()).expect("swept");
        let told: Vec<_> = swept.iter().map(|each| (&each.path, each.failure.is_some())).collect();
        assert_eq!(told, [(&odd, true), (&dead, false)]);
        assert!(odd.exists() && !dead.exists());
    }

    #[tokio::test]
    async fn a_server_that_is_recorded_is_ended_and_one_that_has_its_number_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = left(dir.path(), "dead", "");
        let sleep = |at: &Path| {
            let mut command = tokio::process::Command::new("sleep");
            command.arg("60").current_dir(at).kill_on_drop(true).spawn().expect("runs")
        };
        let pid = |child: &tokio::process::Child| {
            Pid::from_raw(child.id().and_then(|id| id.try_into().ok()).expect("runs"))
                .expect("runs")
        };
        let (mut server, mut elsewhere) = (sleep(&path.join("data")), sleep(dir.path()));
        let recorded = Process::of(pid(&elsewhere));
        assert!(matches!(end_server(&path, recorded), Ok(false)), "it is elsewhere");
        let record = format!("{} \n", pid(&server).as_raw_nonzero());
        fs::write(path.join("data/postmaster.pid"), record).expect("written");
        assert!(matches!(end_server(&path, None), Ok(true)), "by its own word");
        assert!(!server.wait().await.expect("ended").success());
        assert!(elsewhere.try_wait().expect("asked").is_none(), "it lives");
        assert!(matches!(end_server(&path, Process::of(pid(&elsewhere))), Ok(false)));
    }
}
