//! What the service remembers over a restart: how far each database's schedule is done.
//!
//! Losing it costs at most one run that is not made up for; so a disk that is full stops no backup.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use stonekeep_format::ids::Label;
use stonekeep_process::replace::replace;

use super::agenda::Past;

/// Its name in the state directory.
const FILE: &str = "schedule.json";
/// The longest file that is read (1 MiB): thousands of databases, of some 200 bytes each.
const BYTES_MAX: u64 = 1 << 20;

/// The past of each database.
pub(super) type Pasts = BTreeMap<Label, Past>;

/// Where the pasts are kept.
#[derive(Debug)]
pub(super) struct Memory(PathBuf);

impl Memory {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Reads them; none if there is no file yet.
    pub(super) fn load(&self) -> io::Result<Pasts> {
        let file = match File::open(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pasts::new()),
            file => file?,
        };
        let mut text = String::new();
        file.take(BYTES_MAX).read_to_string(&mut text)?;
        serde_json::from_str(&text).map_err(io::Error::other)
    }

    /// Writes them, whole or not at all.
    pub(super) fn save(&self, pasts: &Pasts) -> io::Result<()> {
        let dir = self.0.parent().unwrap_or(Path::new("/"));
        if !fs::exists(dir)? {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        replace(&self.0, &serde_json::to_vec_pretty(pasts)?, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_what_is_broken_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let memory = Memory::new(&dir.path().join("state"));
        assert_eq!(memory.load().expect("none yet"), Pasts::new());
        let handled_at = "2026-11-21T12:00:00Z".parse().expect("an instant");
        let past = Past { handled_at, attempt: None };
        let pasts = Pasts::from([("bookings".parse().expect("a label"), past)]);
        memory.save(&pasts).expect("saved");
        assert_eq!(memory.load().expect("loaded"), pasts);
        fs::write(memory.path(), "{").expect("written");
        assert!(memory.load().is_err());
    }
}
