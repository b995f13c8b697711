//! A file that a command writes for a person, and that overwrites nothing.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::failure::Failure;

/// A file that is written beside its place and not there yet.
#[derive(Debug)]
pub(crate) struct Staged {
    path: PathBuf,
    /// Written, and waiting for its name; `None` if the same file is there already.
    new: Option<NamedTempFile>,
}

impl Staged {
    /// Writes the text beside `path`. What can go wrong is found out here.
    pub(crate) fn prepare(path: PathBuf, text: impl AsRef<[u8]>) -> Result<Self, Failure> {
        let text = text.as_ref();
        match fs::read(&path) {
            Ok(there) if there == text => Ok(Self { path, new: None }),
            Ok(_) => Err(Failure::InTheWay { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match stage(&path, text) {
                Ok(new) => Ok(Self { path, new: Some(new) }),
                Err(source) => Err(Failure::Write { path, source }),
            },
            Err(source) => Err(Failure::Write { path, source }),
        }
    }

    /// Gives the file its name, and returns it.
    pub(crate) fn write(self) -> Result<PathBuf, Failure> {
        let Self { path, new } = self;
        match new.map(|new| new.persist_noclobber(&path)) {
            Some(Err(error)) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Failure::InTheWay { path })
            }
            Some(Err(error)) => Err(Failure::Write { path, source: error.error }),
            Some(Ok(_)) | None => Ok(path),
        }
    }
}

/// Writes `text` beside `path`. No such file holds a secret, and others than the one who runs this read them.
fn stage(path: &Path, text: &[u8]) -> io::Result<NamedTempFile> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut new =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o644)).tempfile_in(dir)?;
    new.write_all(text)?;
    new.as_file().sync_all()?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) -> Result<PathBuf, Failure> {
        Staged::prepare(path.to_owned(), text).and_then(Staged::write)
    }

    #[test]
    fn a_file_that_says_something_else_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("allowed_signers");
        for _ in 0..2 {
            assert_eq!(write(&path, "one\n").expect("written or the same"), path);
        }
        assert!(matches!(write(&path, "two\n"), Err(Failure::InTheWay { .. })));
        assert_eq!(fs::read_to_string(&path).expect("there"), "one\n");
        let later = dir.path().join("stonekeep.toml");
        let staged = Staged::prepare(later.clone(), "a").expect("staged");
        fs::write(&later, "b").expect("somebody was faster");
        assert!(matches!(staged.write(), Err(Failure::InTheWay { .. })));
    }

    #[test]
    fn nothing_is_left_of_what_was_not_written() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(Staged::prepare(dir.path().join("stonekeep.toml"), "a").expect("staged"));
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
        assert!(matches!(write(&dir.path().join("absent/file"), "a"), Err(Failure::Write { .. })));
    }
}
