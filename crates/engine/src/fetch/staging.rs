//! A directory in the making: `DIR.partial` until everything in it is complete and on disk.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::FetchError;

/// The files of a fetch on their way.
#[derive(Debug)]
pub(super) struct Staging {
    out: PathBuf,
    partial: PathBuf,
    files: BTreeMap<String, u64>,
}

impl Staging {
    /// Makes `DIR.partial`, which only its owner can enter. `out` must not exist, or be an empty directory.
    pub(super) fn begin(out: &Path) -> Result<Self, FetchError> {
        let occupied = || FetchError::Occupied { path: out.to_owned() };
        match fs::read_dir(out).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(occupied()),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && out.symlink_metadata().is_err() => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory && out.exists() => {
                return Err(occupied());
            }
            Err(source) => return Err(FetchError::Write { path: out.to_owned(), source }),
        }
        let partial = partial_of(out)?;
        DirBuilder::new().mode(0o700).create(&partial).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => FetchError::Partial { path: partial.clone() },
            _ => FetchError::Write { path: partial.clone(), source },
        })?;
        Ok(Self { out: out.to_owned(), partial, files: BTreeMap::new() })
    }

    /// Writes a new file. `name` is a relative path of ordinary components; its directories are made.
    pub(super) async fn create(&mut self, name: &str, content: Bytes) -> Result<(), FetchError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        self.write(name, content, options).await
    }

    /// Writes on at the end of a file that was created before.
    pub(super) async fn append(&mut self, name: &str, content: Bytes) -> Result<(), FetchError> {
        let mut options = OpenOptions::new();
        options.append(true);
        self.write(name, content, options).await
    }

    async fn write(
        &mut self,
        name: &str,
        content: Bytes,
        options: OpenOptions,
    ) -> Result<(), FetchError> {
        *self.files.entry(name.to_owned()).or_default() += content.len() as u64;
        let path = self.partial.join(name);
        let failed_path = path.clone();
        let write = move || -> io::Result<()> {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            options.open(&path)?.write_all(&content)
        };
        let written = tokio::task::spawn_blocking(write).await.map_err(FetchError::Task)?;
        written.map_err(|source| FetchError::Write { path: failed_path, source })
    }

    /// Returns the length of a file that was written.
    pub(super) fn bytes_of(&self, name: &str) -> Option<u64> {
        self.files.get(name).copied()
    }

    /// Yields the names of all files.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Brings every file to the disk and gives the directory its name; returns it, its files and their bytes.
    pub(super) async fn finish(self) -> Result<(PathBuf, u64, u64), FetchError> {
        let (files, bytes) = (self.files.len() as u64, self.files.values().sum());
        let out = self.out.clone();
        let finish = move || {
            let done = self.sync().and_then(|()| fs::rename(&self.partial, &self.out));
            done.map_err(|source| {
                let path = self.out.clone();
                self.discard();
                FetchError::Write { path, source }
            })
        };
        tokio::task::spawn_blocking(finish).await.map_err(FetchError::Task)??;
        Ok((out, files, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        for name in self.files.keys() {
            File::open(self.partial.join(name))?.sync_all()?;
        }
        File::open(&self.partial)?.sync_all()
    }

    /// Removes all that was written. Only what this run made is touched; what cannot be removed stays under its partial
    /// name, which nothing takes for a finished directory.
    pub(super) fn discard(&self) {
        if let Err(error) = fs::remove_dir_all(&self.partial) {
            tracing::warn!(path = %self.partial.display(), %error, "cannot remove an unfinished directory");
        }
    }
}

/// `DIR.partial`, beside the directory, so that the rename stays within one file system.
fn partial_of(out: &Path) -> Result<PathBuf, FetchError> {
    let no_name = || FetchError::Write {
        path: out.to_owned(),
        source: io::Error::new(io::ErrorKind::NotADirectory, "the path does not end in a name"),
    };
    let mut name: OsString = out.file_name().ok_or_else(no_name)?.to_owned();
    name.push(".partial");
    Ok(out.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn here() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    #[tokio::test]
    async fn a_directory_appears_only_when_it_is_complete() {
        let here = here();
        let out = here.path().join("out");
        let mut staging = Staging::begin(&out).expect("begun");
        staging.create("a", Bytes::from_static(b"one\n")).await.expect("written");
        staging.append("a", Bytes::from_static(b"two\n")).await.expect("written");
        assert!(!out.exists());
        let (path, files, bytes) = staging.finish().await.expect("finished");
        assert_eq!((path.as_path(), files, bytes), (out.as_path(), 1, 8));
        assert_eq!(fs::read(out.join("a")).expect("there"), b"one\ntwo\n");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&out), mode(&out.join("a"))), (0o700, 0o600));
    }

    #[tokio::test]
    async fn what_is_there_is_never_touched() {
        let here = here();
        let out = here.path().join("out");
        fs::create_dir(&out).expect("made");
        fs::write(out.join("mine"), "x").expect("written");
        assert!(matches!(Staging::begin(&out), Err(FetchError::Occupied { .. })));
        assert!(matches!(Staging::begin(&out.join("mine")), Err(FetchError::Occupied { .. })));
        fs::create_dir(here.path().join("new.partial")).expect("made");
        assert!(matches!(
            Staging::begin(&here.path().join("new")),
            Err(FetchError::Partial { .. })
        ));
        assert_eq!(fs::read(out.join("mine")).expect("there"), b"x");
    }

    #[tokio::test]
    async fn an_empty_directory_is_taken_and_a_discarded_one_leaves_nothing() {
        let here = here();
        let out = here.path().join("out");
        fs::create_dir(&out).expect("made");
        let mut staging = Staging::begin(&out).expect("begun");
        staging.create("deep/er/a", Bytes::from_static(b"x")).await.expect("written");
        staging.discard();
        assert_eq!(fs::read_dir(here.path()).expect("listed").count(), 1);
        let staging = Staging::begin(&out).expect("begun again");
        staging.finish().await.expect("finished");
    }

    #[tokio::test]
    async fn a_file_is_not_written_twice() {
        let here = here();
        let mut staging = Staging::begin(&here.path().join("out")).expect("begun");
        staging.create("a", Bytes::from_static(b"x")).await.expect("written");
        assert!(staging.create("a", Bytes::from_static(b"y")).await.is_err());
    }
}
