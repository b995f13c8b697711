//! The memory of a writer that may not read the bucket: copies of its own manifests, inventories and attempt records.
//!
//! The directory has the form of a copy of a repository, so it is read by the same code as the bucket, and believed as little:
//! what is not signed by our own key counts for nothing. Losing it costs a full snapshot and a new chain, never a wrong one.

use std::{
    fs::{self, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use stonekeep_format::{
    Clock,
    ids::BucketName,
    key::{ObjectKey, Place},
};
use stonekeep_store::{
    CopiedObject, CopiedObjects, DirectoryError, DirectoryStore, PutReceipt, ReadStore,
    VERSIONS_FILE,
};

use super::{BackupError, destination::locked};
use crate::Context;

/// The key of a manifest that was sent and not answered.
const PENDING_FILE: &str = "pending";

/// Whoever has it locked may write here.
const LOCK_FILE: &str = "lock";

/// The state of one label in one repository.
#[derive(Debug)]
pub(super) struct State {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    list: Mutex<CopiedObjects>,
    /// Locked while the run lasts; the system lets it go whatever ends the process.
    _turn: fs::File,
}

impl State {
    /// Opens the state, or begins it in an empty directory.
    ///
    /// # Errors
    /// [`BackupError::Busy`] if another run has it; [`BackupError::State`].
    pub(super) fn open(
        dir: &Path,
        bucket: &BucketName,
        context: &Context,
    ) -> Result<Self, BackupError> {
        let turn = take_turn(dir)?;
        let path = dir.join(VERSIONS_FILE);
        let list = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| {
                failed(&path)(io::Error::new(io::ErrorKind::InvalidData, source))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                CopiedObjects::new(bucket.clone())
            }
            Err(error) => return Err(failed(&path)(error)),
        };
        let state = Self {
            dir: dir.to_owned(),
            clock: Arc::clone(&context.clock),
            list: Mutex::new(list),
            _turn: turn,
        };
        state.save()?;
        Ok(state)
    }

    /// Returns the state as a repository to read.
    pub(super) fn store(&self) -> Result<Arc<dyn ReadStore>, BackupError> {
        match DirectoryStore::open(&self.dir, Arc::clone(&self.clock)) {
            Ok(store) => Ok(Arc::new(store)),
            Err(DirectoryError::List { path, source }) => Err(failed(&path)(source)),
            Err(error) => Err(failed(&self.dir)(io::Error::other(error))),
        }
    }

    /// Keeps a copy of an object that is in the bucket.
    pub(super) fn keep(&self, receipt: &PutReceipt, bytes: &[u8]) -> Result<(), BackupError> {
        let path = self.dir.join(receipt.key.as_str());
        write(&path, bytes).map_err(failed(&path))?;
        let object = CopiedObject {
            key: receipt.key.clone(),
            version_id: receipt.version_id.clone(),
            bytes: bytes.len() as u64,
            lock: Some(receipt.lock),
        };
        locked(&self.list).objects.push(object);
        self.save()
    }

    /// Forgets what the bucket need not hold any more.
    pub(super) fn prune(&self) -> Result<(), BackupError> {
        let now = self.clock.now();
        let ended = |object: &CopiedObject| {
            let is_genesis = matches!(Place::of(&object.key), Some(Place::Genesis(_)));
            !is_genesis && object.lock.is_some_and(|lock| lock.retain_until < now)
        };
        let gone: Vec<CopiedObject> =
            locked(&self.list).objects.extract_if(.., |object| ended(object)).collect();
        self.save()?;
        for object in gone.iter().filter(|object| Place::of(&object.key).is_some()) {
            let path = self.dir.join(object.key.as_str());
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes that a manifest is about to be sent: its number is used up, whatever comes of it.
    pub(super) fn begin(&self, manifest: &ObjectKey) -> Result<(), BackupError> {
        let path = self.dir.join(PENDING_FILE);
        write(&path, manifest.as_str().as_bytes()).map_err(failed(&path))
    }

    /// Returns the manifest that was sent last and is not known to be there.
    pub(super) fn pending(&self) -> Result<Option<ObjectKey>, BackupError> {
        let path = self.dir.join(PENDING_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path)(error)),
        };
        let key: Option<ObjectKey> = text.trim().parse().ok();
        let kept = |key: &ObjectKey| locked(&self.list).objects.iter().any(|each| each.key == *key);
        Ok(key.filter(|key| !kept(key)))
    }

    fn save(&self) -> Result<(), BackupError> {
        let path = self.dir.join(VERSIONS_FILE);
        let bytes = serde_json::to_vec(&*locked(&self.list))
            .map_err(|error| failed(&path)(io::Error::other(error)))?;
        write(&path, &bytes).map_err(failed(&path))
    }
}

fn take_turn(dir: &Path) -> Result<fs::File, BackupError> {
    let path = dir.join(LOCK_FILE);
    let open = || {
        fs::create_dir_all(dir)?;
        fs::File::create(&path)
    };
    let file = open().map_err(failed(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BackupError::Busy { path }),
        Err(TryLockError::Error(source)) => Err(failed(&path)(source)),
    }
}

/// Writes a file whole or not at all, and through to the disk.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir)?;
    let partial = path.with_extension("partial");
    let mut file = fs::File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    fs::File::open(dir)?.sync_all()
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::State { path, source }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use stonekeep_format::{
        clock::StillClock,
        ids::SnapshotId,
        lock::{Lock, LockMode},
    };

    use super::*;
    use crate::segments::fixture::context;

    fn key(n: u128) -> ObjectKey {
        let id = SnapshotId::new("2026-11-01T00:00:00Z".parse().expect("a date"), n);
        ObjectKey::attempt(&"bookings".parse().expect("a label"), &id)
    }

    fn receipt(n: u128, until: &str) -> PutReceipt {
        PutReceipt {
            key: key(n),
            version_id: "v".parse().expect("a version"),
            lock: Lock { mode: LockMode::Compliance, retain_until: until.parse().expect("a date") },
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_read_again_until_its_lock_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let now: DateTime<Utc> = "2026-11-21T00:00:00Z".parse().expect("a date");
        let context = Context { clock: Arc::new(StillClock::new(now)), ..context() };
        let bucket = "vault".parse().expect("a bucket");
        let state = State::open(dir.path(), &bucket, &context).expect("begun");
        let busy = State::open(dir.path(), &bucket, &context);
        assert!(matches!(busy, Err(BackupError::Busy { .. })), "{busy:?}");
        state.keep(&receipt(1, "2026-11-20T00:00:00Z"), b"old").expect("kept");
        state.keep(&receipt(2, "2026-11-22T00:00:00Z"), b"new").expect("kept");
        drop(state);
        let state = State::open(dir.path(), &bucket, &context).expect("opened");
        let read = |n: u128| {
            let store = state.store().expect("a store");
            async move { store.get(&key(n), &"v".parse().expect("a version"), 10).await }
        };
        assert_eq!(read(1).await.expect("is there"), "old");
        state.prune().expect("pruned");
        assert!(read(1).await.is_err() && !dir.path().join(key(1).as_str()).exists());
        assert_eq!(read(2).await.expect("is there"), "new");
    }

    #[test]
    fn a_manifest_is_pending_until_it_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let context = context();
        let state = State::open(dir.path(), &"vault".parse().expect("a bucket"), &context);
        let state = state.expect("begun");
        assert_eq!(state.pending().expect("read"), None);
        let sent = receipt(1, "2026-11-22T00:00:00Z");
        state.begin(&sent.key).expect("noted");
        assert_eq!(state.pending().expect("read"), Some(sent.key.clone()));
        state.keep(&sent, b"x").expect("kept");
        assert_eq!(state.pending().expect("read"), None);
    }
}
