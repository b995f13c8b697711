//! A copy of a repository in a directory, as `fetch --sealed` writes it: the objects under their keys, and a list of what
//! they were in the bucket.
//!
//! It can be read like a bucket, so every reading command takes it as a repository. A directory locks nothing: what is told of
//! locks is what the bucket said when the copy was made. The list is not signed and needs not be: whatever it says, the digests
//! in the signed objects decide what is believed.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stonekeep_format::{
    Clock, ErrorKind,
    ids::{BucketName, VersionId},
    key::{ObjectKey, Place},
    lock::Lock,
};

use crate::{
    BucketFacts, BucketLock, ListCursor, ObjectHead, ObjectVersion, ReadStore, StoreError,
    VersionPage,
};

/// The name of the list, in the copy's topmost directory.
pub const VERSIONS_FILE: &str = "versions.json";
/// The longest list a reader takes: 512 MiB, at some 300 bytes an object more than a million objects.
const VERSIONS_BYTES_MAX: u64 = 512 << 20;

/// What the objects of a copy were in their bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedObjects {
    /// [`CopiedObjects::FORMAT`].
    pub format: String,
    /// The bucket.
    pub bucket: BucketName,
    /// The objects, one version of each key.
    pub objects: Vec<CopiedObject>,
}

impl CopiedObjects {
    /// The value of the `format` field.
    pub const FORMAT: &'static str = "stonekeep/copy/1";

    /// Begins a list without objects.
    #[must_use]
    pub fn new(bucket: BucketName) -> Self {
        Self { format: Self::FORMAT.to_owned(), bucket, objects: Vec::new() }
    }
}

/// One object of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedObject {
    /// Its key, and its path below the directory.
    pub key: ObjectKey,
    /// The version that was copied.
    pub version_id: VersionId,
    /// Its length, in bytes.
    pub bytes: u64,
    /// Its lock when it was copied.
    pub lock: Option<Lock>,
}

/// Why a directory cannot be read as a repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// There is no list, or it cannot be read.
    #[error(
        "{path:?} is no copy of a repository: its list of objects cannot be read; give a directory made by `stonekeep fetch --sealed`"
    )]
    List {
        /// The list.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The list is none.
    #[error("{path:?} is no list of copied objects")]
    Document {
        /// The list.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The list is of another format.
    #[error("{path:?} is of format {found:?}, not {wanted:?}: a newer stonekeep may be needed")]
    Format {
        /// The list.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What was expected.
        wanted: &'static str,
    },
}

impl DirectoryError {
    /// Returns what to do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::List { .. } => ErrorKind::Config,
            Self::Document { .. } | Self::Format { .. } => ErrorKind::Corrupt,
        }
    }
}

/// A copy of a repository in a directory.
#[derive(Debug)]
pub struct DirectoryStore {
    root: PathBuf,
    bucket: BucketName,
    objects: BTreeMap<ObjectKey, CopiedObject>,
    clock: Arc<dyn Clock>,
}

impl DirectoryStore {
    /// Reads the list of the copy at `root`. `clock` stands in for the storage server's.
    ///
    /// Objects under keys that are none of ours are left out: nothing asks for them, and no foreign text becomes a path.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn open(root: &Path, clock: Arc<dyn Clock>) -> Result<Self, DirectoryError> {
        let path = root.join(VERSIONS_FILE);
        let failed = |source| DirectoryError::List { path: path.clone(), source };
        let bytes = read_at_most(&path, VERSIONS_BYTES_MAX).map_err(failed)?;
        let list: CopiedObjects = serde_json::from_slice(&bytes)
            .map_err(|source| DirectoryError::Document { path: path.clone(), source })?;
        if list.format != CopiedObjects::FORMAT {
            return Err(DirectoryError::Format {
                path,
                found: list.format,
                wanted: CopiedObjects::FORMAT,
            });
        }
        let ours = list.objects.into_iter().filter(|object| Place::of(&object.key).is_some());
        let objects = ours.map(|object| (object.key.clone(), object)).collect();
        Ok(Self { root: root.to_owned(), bucket: list.bucket, objects, clock })
    }

    fn named(&self, key: &ObjectKey, version: &VersionId) -> Result<&CopiedObject, StoreError> {
        let object = self.objects.get(key).filter(|object| object.version_id == *version);
        object.ok_or_else(|| StoreError::NotFound { key: key.clone() })
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn failed(key: &ObjectKey, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound { key: key.clone() },
            _ => {
                StoreError::Unavailable { action: "read a file of the copy", source: source.into() }
            }
        }
    }
}

fn read_at_most(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is longer than allowed"));
    }
    Ok(bytes)
}

#[async_trait]
impl ReadStore for DirectoryStore {
    fn bucket(&self) -> &BucketName {
        &self.bucket
    }

    /// One page with everything: the list is in memory.
    async fn list_versions(
        &self,
        prefix: &str,
        _after: Option<ListCursor>,
    ) -> Result<VersionPage, StoreError> {
        let fitting =
            self.objects.values().filter(|object| object.key.as_str().starts_with(prefix));
        let versions = fitting.map(|object| ObjectVersion {
            key: object.key.clone(),
            version_id: object.version_id.clone(),
            bytes: object.bytes,
            modified_at: DateTime::<Utc>::UNIX_EPOCH,
            is_latest: true,
        });
        Ok(VersionPage { versions: versions.collect(), ..VersionPage::default() })
    }

    async fn get(
        &self,
        key: &ObjectKey,
        version: &VersionId,
        bytes_max: u64,
    ) -> Result<Bytes, StoreError> {
        self.named(key, version)?;
        let path = self.path(key);
        let read = tokio::task::spawn_blocking(move || read_at_most(&path, bytes_max)).await;
        match read.map_err(io::Error::other).and_then(|read| read) {
            Ok(bytes) => Ok(Bytes::from(bytes)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(StoreError::TooLong { key: key.clone(), bytes_max })
            }
            Err(error) => Err(Self::failed(key, error)),
        }
    }

    async fn head(&self, key: &ObjectKey, version: &VersionId) -> Result<ObjectHead, StoreError> {
        self.named(key, version)?;
        let found = fs::metadata(self.path(key)).map_err(|error| Self::failed(key, error))?;
        Ok(ObjectHead { bytes: found.len() })
    }

    async fn retention(
        &self,
        key: &ObjectKey,
        version: &VersionId,
    ) -> Result<Option<Lock>, StoreError> {
        Ok(self.named(key, version)?.lock)
    }

    async fn bucket_lock(&self) -> Result<BucketLock, StoreError> {
        Ok(BucketLock { enabled: false, default: None })
    }

    async fn bucket_facts(&self) -> Result<BucketFacts, StoreError> {
        Ok(BucketFacts::default())
    }

    async fn server_time(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(self.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::Pin, time::Duration};

    use super::*;

    #[derive(Debug)]
    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> DateTime<Utc> {
            "2026-11-21T12:00:00Z".parse().expect("the test's own date")
        }
        fn sleep(&self, _duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(std::future::ready(()))
        }
    }

    fn copy(objects: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let mut list = CopiedObjects::new("acme-vault".parse().expect("a bucket"));
        for (key, content) in objects {
            if let Some(parent) = Path::new(key).parent().filter(|_| !key.contains("..")) {
                fs::create_dir_all(dir.path().join(parent)).expect("made");
                fs::write(dir.path().join(key), content).expect("written");
            }
            list.objects.push(CopiedObject {
                key: key.parse().expect("a key"),
                version_id: "v1".parse().expect("a version"),
                bytes: content.len() as u64,
                lock: None,
            });
        }
        let json = serde_json::to_vec(&list).expect("a list is JSON");
        fs::write(dir.path().join(VERSIONS_FILE), json).expect("written");
        dir
    }

    fn open(dir: &tempfile::TempDir) -> Result<DirectoryStore, DirectoryError> {
        DirectoryStore::open(dir.path(), Arc::new(Noon))
    }

    #[tokio::test]
    async fn an_object_is_read_by_the_version_it_had_and_no_other() {
        let dir = copy(&[("genesis/1", b"one")]);
        let store = open(&dir).expect("a copy");
        let key = ObjectKey::genesis(1);
        let [v1, v2] = ["v1", "v2"].map(|text| text.parse::<VersionId>().expect("a version"));
        assert_eq!(store.get(&key, &v1, 3).await.expect("there"), "one");
        assert!(matches!(store.get(&key, &v1, 2).await, Err(StoreError::TooLong { .. })));
        assert!(matches!(store.get(&key, &v2, 3).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.head(&key, &v2).await, Err(StoreError::NotFound { .. })));
        fs::remove_file(dir.path().join("genesis/1")).expect("removed");
        assert!(matches!(store.get(&key, &v1, 3).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.head(&key, &v1).await, Err(StoreError::NotFound { .. })));
    }

    #[tokio::test]
    async fn a_foreign_key_never_becomes_a_path() {
        let dir = copy(&[("genesis/1", b"one"), ("../secret", b""), ("segments/1/../../x", b"")]);
        let store = open(&dir).expect("a copy");
        let page = store.list_versions("", None).await.expect("listed");
        assert_eq!(page.versions.len(), 1);
        let key: ObjectKey = "../secret".parse().expect("a key");
        let version = "v1".parse().expect("a version");
        assert!(matches!(store.get(&key, &version, 9).await, Err(StoreError::NotFound { .. })));
    }

    #[test]
    fn a_directory_that_is_no_copy_says_so() {
        let empty = tempfile::tempdir().expect("a directory");
        assert!(matches!(open(&empty), Err(DirectoryError::List { .. })));
        fs::write(empty.path().join(VERSIONS_FILE), "{}").expect("written");
        assert!(matches!(open(&empty), Err(DirectoryError::Document { .. })));
        let other = r#"{"format":"x","bucket":"acme-vault","objects":[]}"#;
        fs::write(empty.path().join(VERSIONS_FILE), other).expect("written");
        assert!(matches!(open(&empty), Err(DirectoryError::Format { .. })));
    }
}
