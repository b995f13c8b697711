//! A PostgreSQL cluster that a drill makes for itself from the installed PostgreSQL, and removes again.
//!
//! Everything of it is in one directory of mode 0700 below the one that is given: the data, the log, the socket, and a record of
//! the processes, by which [`sweep()`] ends and removes what a killed drill has left. The server listens on that socket alone; who
//! may open the directory is its superuser. It promises nothing about the data after a crash, which makes it quick. It never
//! touches another cluster, and what it removes is nothing but its own directory.

mod cluster;
mod record;
mod room;
mod settings;
mod sweep;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use stonekeep_format::ErrorKind;

pub use room::{Room, room};
pub use settings::WAL_BYTES_MAX;
pub use sweep::{Swept, sweep};

use self::{cluster::Postmaster, record::Record};
use crate::{
    connect::{ConnectError, ConnectOptions},
    tools::ToolDirs,
};

/// What the names of scratch directories begin with.
const PREFIX: &str = "stonekeep-scratch-";
/// How many random characters follow: as many as `mktemp` takes. A name that is taken is tried again.
const RANDOM_CHARS: usize = 10;
/// The socket's name, which PostgreSQL makes from the port.
const SOCKET: &str = ".s.PGSQL.5432";
/// The longest path of a socket in bytes: `sun_path` has 108, one of them NUL (`unix(7)`).
const SOCKET_BYTES_MAX: usize = 107;

/// How a scratch cluster is made.
#[derive(Debug, Clone)]
pub struct ScratchOptions {
    /// Where PostgreSQL's programs are.
    pub tools: ToolDirs,
    /// The major of the server that the snapshot came from. That of the cluster is the same, or the next higher one installed.
    pub major: u32,
    /// The directory below which the cluster gets one of its own. It must exist.
    pub dir: PathBuf,
    /// How many connections load at a time.
    pub jobs: usize,
    /// The operator's server settings, on top of ours.
    pub settings: BTreeMap<String, String>,
}

/// Why there is no scratch cluster, or why it is not gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScratchError {
    /// PostgreSQL does not run as root.
    #[error(
        "PostgreSQL refuses to run as root: run it as an unprivileged user, such as `sudo -u postgres stonekeep drill …`, or give --server"
    )]
    Root,
    /// No server programs.
    #[error(
        "cannot find {program} of PostgreSQL {major} or newer in {looked_in}: install the server package (postgresql-{major}), set pg_bindir, or give --server"
    )]
    NoServer {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// The major that is needed.
        major: u32,
        /// Where they would be.
        looked_in: String,
    },
    /// The programs are of an older major.
    #[error("the server programs are of PostgreSQL {found}; the snapshot needs {major} or newer")]
    TooOld {
        /// Their major.
        found: u32,
        /// The major that is needed.
        major: u32,
    },
    /// The path would be too long for a socket, or is no text.
    #[error(
        "the directory {path:?} cannot hold a socket: its path must be UTF-8 of at most {bytes_max} bytes; give another one"
    )]
    Path {
        /// The directory that was given.
        path: PathBuf,
        /// How long it may be.
        bytes_max: usize,
    },
    /// A setting that an operator cannot give.
    #[error("the scratch server's setting {name:?} {why}")]
    Setting {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file or directory of the cluster's.
    #[error("cannot {what} {path:?}")]
    File {
        /// What was to be done with it.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A program could not be started.
    #[error("cannot run {program:?}")]
    Run {
        /// Its path.
        program: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A program ended with an error. It had seen no row yet.
    #[error("{program} failed ({status}): {said}")]
    Failed {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The last lines of what it said.
        said: String,
    },
    /// The server does not answer.
    #[error("the scratch server does not answer within {seconds} s; its log ends with: {said}")]
    Silent {
        /// How long was waited.
        seconds: u64,
        /// The last lines of its log.
        said: String,
    },
    /// The server does not let us in.
    #[error("cannot use the scratch server")]
    Connect(#[from] ConnectError),
    /// A server that a killed drill left does not end.
    #[error("the server that a killed drill left in {path:?} (process {pid}) does not end")]
    Stubborn {
        /// Its directory.
        path: PathBuf,
        /// Its process.
        pid: i32,
    },
}

impl ScratchError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Root
            | Self::NoServer { .. }
            | Self::TooOld { .. }
            | Self::Path { .. }
            | Self::Setting { .. }
            | Self::Run { .. } => ErrorKind::Config,
            Self::File { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull
                | std::io::ErrorKind::QuotaExceeded
                | std::io::ErrorKind::OutOfMemory => ErrorKind::Unavailable,
                _ => ErrorKind::Config,
            },
            Self::Failed { said, .. } => kind_of(said),
            Self::Silent { .. } | Self::Stubborn { .. } => ErrorKind::Unavailable,
            Self::Connect(error) => error.kind(),
        }
    }

    fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }
}

/// What a program died of: room that may be there later, or something that a person must set right. The words are those of
/// `strerror`, for the programs speak English here.
fn kind_of(said: &str) -> ErrorKind {
    let passing = ["No space left on device", "Cannot allocate memory", "Disk quota exceeded"];
    if passing.iter().any(|words| said.contains(words)) {
        ErrorKind::Unavailable
    } else {
        ErrorKind::Config
    }
}

/// A cluster that is at work. Dropped, it is killed and removed as well as that goes; [`Scratch::stop`] tells whether it went.
#[derive(Debug)]
pub struct Scratch {
    // The server ends before its directory goes.
    postmaster: Postmaster,
    place: Place,
    server: ConnectOptions,
    major: u32,
}

impl Scratch {
    /// Makes a cluster and starts its server; returns when it answers. Dropped half way, it leaves nothing.
    ///
    /// # Errors
    /// [`ScratchError`].
    pub async fn start(options: &ScratchOptions) -> Result<Self, ScratchError> {
        if rustix::process::geteuid().is_root() {
            return Err(ScratchError::Root);
        }
        let programs = cluster::Programs::find(&options.tools, options.major)?;
        let place = Place::create(&options.dir)?;
        let settings = settings::settings(&place.path, options)?;
        cluster::initialize(&programs, &place.path).await?;
        let major = cluster::major_of(&place.path)?;
        if major < options.major {
            return Err(ScratchError::TooOld { found: major, major: options.major });
        }
        let server = ConnectOptions::by_socket(&place.host);
        let mut postmaster = Postmaster::spawn(&programs, &place.path, &settings)?;
        place.record_server(&postmaster)?;
        postmaster.wait_until_it_answers(&server, &place.path).await?;
        Ok(Self { postmaster, place, server, major })
    }

    /// Returns how to connect: as the superuser, to the database `postgres`, by the socket.
    #[must_use]
    pub fn server(&self) -> ConnectOptions {
        self.server.clone()
    }

    /// Returns the server's major.
    #[must_use]
    pub const fn major(&self) -> u32 {
        self.major
    }

    /// Ends the server and removes everything.
    ///
    /// # Errors
    /// [`ScratchError::File`] when something is left; the next [`sweep()`] tries again.
    pub async fn stop(self) -> Result<(), ScratchError> {
        let Self { postmaster, place, .. } = self;
        postmaster.stop().await;
        place.remove().await
    }
}

/// The directory of a cluster, removed when dropped.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    host: String,
    record: Record,
}

impl Place {
    fn create(parent: &Path) -> Result<Self, ScratchError> {
        use std::os::unix::fs::PermissionsExt as _;
        // PostgreSQL goes to its data directory, from where a relative path leads elsewhere.
        let parent = std::path::absolute(parent).map_err(ScratchError::file("find", parent))?;
        check_length(&parent)?;
        let made = tempfile::Builder::new()
            .prefix(PREFIX)
            .rand_bytes(RANDOM_CHARS)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent);
        let made = made.map_err(ScratchError::file("make a scratch directory in", &parent))?;
        let record = Record::create(made.path());
        let record = record.map_err(ScratchError::file("write the record in", made.path()))?;
        let path = made.keep();
        Ok(Self { host: path.to_string_lossy().into_owned(), path, record })
    }

    fn record_server(&self, postmaster: &Postmaster) -> Result<(), ScratchError> {
        let recorded = self.record.add_server(postmaster.pid());
        recorded.map_err(ScratchError::file("write the record in", &self.path))
    }

    async fn remove(self) -> Result<(), ScratchError> {
        let path = self.path.clone();
        let removed = tokio::task::spawn_blocking(move || remove_tree(&path)).await;
        // A panic of ours is none of the file system's.
        let removed = removed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        removed.map_err(ScratchError::file("remove", &self.path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a scratch cluster; the next drill tries again");
        }
    }
}

fn check_length(parent: &Path) -> Result<(), ScratchError> {
    let behind = "/".len() + PREFIX.len() + RANDOM_CHARS + "/".len() + SOCKET.len();
    let bytes_max = SOCKET_BYTES_MAX - behind;
    if parent.to_str().is_some_and(|text| text.len() <= bytes_max) {
        Ok(())
    } else {
        Err(ScratchError::Path { path: parent.to_owned(), bytes_max })
    }
}

/// How often a directory is tried to be removed, and what is waited between: a backend that outlives its server by a moment may
/// make a file in it.
const REMOVE_TRIES: u32 = 5;
const REMOVE_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Removes a directory, following no link; one that is gone is none that failed. Blocks.
fn remove_tree(path: &Path) -> std::io::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.exists() => {
                return Ok(());
            }
            Err(_) if tries < REMOVE_TRIES => std::thread::sleep(REMOVE_PAUSE),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_path_that_no_socket_fits_into_is_refused_with_its_limit() {
        let long = PathBuf::from(format!("/{}", "x".repeat(80)));
        assert!(matches!(check_length(&long), Err(ScratchError::Path { bytes_max: 64, .. })));
        let longest = PathBuf::from(format!("/{}", "x".repeat(63)));
        assert!(check_length(&longest).is_ok());
    }

    #[test]
    fn a_full_disk_is_tried_again_and_a_wrong_setting_is_not() {
        let failed = |said: &str| {
            let (status, said) = (String::new(), said.to_owned());
            ScratchError::Failed { program: "postgres", status, said }.kind()
        };
        assert_eq!(failed("could not write: No space left on device"), ErrorKind::Unavailable);
        assert_eq!(failed("FATAL:  unrecognized parameter"), ErrorKind::Config);
        let file =
            |number: Errno| ScratchError::file("write", Path::new("owner"))(number.into()).kind();
        for passing in [Errno::NOSPC, Errno::DQUOT, Errno::NOMEM] {
            assert_eq!(file(passing), ErrorKind::Unavailable, "{passing}");
        }
        assert_eq!(file(Errno::ACCESS), ErrorKind::Config);
    }

    #[test]
    fn what_is_gone_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("a/b")).expect("made");
        assert!(remove_tree(&dir.path().join("a")).is_ok());
        assert!(remove_tree(&dir.path().join("a")).is_ok());
    }
}
