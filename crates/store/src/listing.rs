//! Reading what others may have written over: every version, the oldest first, until one verifies.

use std::collections::{BTreeMap, VecDeque};

use futures_util::{Stream, TryStreamExt as _, stream};
use stonekeep_format::key::ObjectKey;

use crate::{DeleteMarker, ListCursor, ObjectVersion, ReadStore, StoreError, VersionPage};

/// How many versions, and how many delete markers, of one key are kept (1000 each), the oldest: one that counts is the first
/// under its key, or close behind what was planted before it, for keys are random but for the genesis'.
const KEPT_MAX: usize = 1000;

/// What lies under one key. Never quite empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyVersions {
    /// The oldest first; of very many, the oldest 1000.
    pub versions: Vec<ObjectVersion>,
    /// The same. They change nothing; that they are there may be news.
    pub markers: Vec<DeleteMarker>,
    /// How many younger versions and markers were left out.
    pub left_out: u64,
}

impl KeyVersions {
    /// Takes in what an earlier page had of the same key: younger entries.
    fn append(&mut self, younger: Self) {
        self.versions.extend(younger.versions);
        self.markers.extend(younger.markers);
        self.left_out += younger.left_out;
        let surplus = self.versions.len().saturating_sub(KEPT_MAX)
            + self.markers.len().saturating_sub(KEPT_MAX);
        self.left_out += surplus as u64;
        self.versions.truncate(KEPT_MAX);
        self.markers.truncate(KEPT_MAX);
    }
}

/// Lists what lies under `prefix`, key by key in the order of the keys (as bytes). Of each, the oldest come first, although
/// object stores list the newest first: the oldest is the one that counts, and the order is the server's alone, so nobody who
/// writes can choose it.
///
/// Whoever may write may put any number of keys and versions there. So it is a stream, a page at a time, and surplus under a
/// key is left out, never an error.
///
/// # Errors
/// What a page answers; [`StoreError::BadAnswer`] if pages do not advance.
pub fn list_keys<'a>(
    store: &'a dyn ReadStore,
    prefix: &'a str,
) -> impl Stream<Item = Result<(ObjectKey, KeyVersions), StoreError>> + Send + 'a {
    let pages =
        Pages { store, prefix, after: None, ended: false, last: None, whole: VecDeque::new() };
    stream::try_unfold(pages, |mut pages| async move {
        let next = pages.next().await?;
        Ok(next.map(|next| (next, pages)))
    })
}

/// Lists what lies under one key.
///
/// # Errors
/// As [`list_keys`].
pub async fn list_key(store: &dyn ReadStore, key: &ObjectKey) -> Result<KeyVersions, StoreError> {
    let keys = list_keys(store, key.as_str());
    let found = keys
        .try_filter_map(|(found, versions)| async move { Ok((found == *key).then_some(versions)) });
    // The key itself comes before all that it is a prefix of.
    let mut found = std::pin::pin!(found);
    Ok(found.try_next().await?.unwrap_or_default())
}

/// A listing under way.
struct Pages<'a> {
    store: &'a dyn ReadStore,
    prefix: &'a str,
    after: Option<ListCursor>,
    ended: bool,
    /// The last key of the pages so far, which may go on in the next.
    last: Option<(ObjectKey, KeyVersions)>,
    whole: VecDeque<(ObjectKey, KeyVersions)>,
}

impl Pages<'_> {
    async fn next(&mut self) -> Result<Option<(ObjectKey, KeyVersions)>, StoreError> {
        while self.whole.is_empty() && !self.ended {
            let page = self.store.list_versions(self.prefix, self.after.clone()).await?;
            self.check_advance(page.next.as_ref())?;
            self.after.clone_from(&page.next);
            self.ended = page.next.is_none();
            self.take(page);
        }
        Ok(self.whole.pop_front())
    }

    fn check_advance(&self, next: Option<&ListCursor>) -> Result<(), StoreError> {
        let stands_still = next.zip(self.after.as_ref()).is_some_and(|(next, after)| {
            next.key < after.key || (next.key == after.key && next.version_id == after.version_id)
        });
        if !stands_still {
            return Ok(());
        }
        let source = "a page that does not advance".into();
        Err(StoreError::BadAnswer { action: "list object versions", source })
    }

    fn take(&mut self, page: VersionPage) {
        let mut keys: BTreeMap<ObjectKey, KeyVersions> = BTreeMap::new();
        for version in page.versions {
            keys.entry(version.key.clone()).or_default().versions.push(version);
        }
        for marker in page.markers {
            keys.entry(marker.key.clone()).or_default().markers.push(marker);
        }
        for (key, mut versions) in keys {
            match self.last.take() {
                Some((last, younger)) if last == key => versions.append(younger),
                last => self.whole.extend(last),
            }
            self.last = Some((key, versions));
        }
        if self.ended {
            self.whole.extend(self.last.take());
        }
    }
}

/// What was found under one key.
#[derive(Debug)]
pub struct Verified<T, E> {
    /// The oldest version that verified, and what it says; versions younger than it were not looked at.
    pub value: Option<(T, ObjectVersion)>,
    /// Older versions that did not verify, and why.
    pub planted: Vec<(ObjectVersion, E)>,
    /// Older versions that are longer than such an object can be. They were not read.
    pub too_long: Vec<ObjectVersion>,
    /// Older versions that the server would not give out, and what it said: under somebody's own encryption key, say.
    pub unreadable: Vec<(ObjectVersion, StoreError)>,
}

/// Returns the oldest version of a key that `verify` accepts. An overwrite, which any writer can place, is younger than what it
/// overwrites; a planted older one is not signed.
///
/// `versions` are those of one key, the oldest first, as [`list_keys`] returns them. A version that vanished since is skipped,
/// and so is one that the server refuses to give out, which any writer can bring about: a caller to whom everything was
/// refused has no right to read.
///
/// # Errors
/// Whatever else reading a version answers: it might be the one that counts.
pub async fn oldest_verified<T, E>(
    store: &dyn ReadStore,
    versions: &[ObjectVersion],
    bytes_max: u64,
    verify: impl Fn(&[u8]) -> Result<T, E>,
) -> Result<Verified<T, E>, StoreError> {
    let (planted, too_long, unreadable) = (Vec::new(), Vec::new(), Vec::new());
    let mut found = Verified { value: None, planted, too_long, unreadable };
    for version in versions {
        if version.bytes > bytes_max {
            found.too_long.push(version.clone());
            continue;
        }
        let bytes = match store.get(&version.key, &version.version_id, bytes_max).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => continue,
            Err(error @ (StoreError::Denied { .. } | StoreError::Rejected { .. })) => {
                found.unreadable.push((version.clone(), error));
                continue;
            }
            Err(error) => return Err(error),
        };
        match verify(&bytes) {
            Ok(value) => {
                found.value = Some((value, version.clone()));
                break;
            }
            Err(why) => found.planted.push((version.clone(), why)),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{MemoryStore, contract::list_all, memory::tests::still_clock};

    fn store() -> MemoryStore {
        MemoryStore::new("vault".parse().unwrap(), still_clock())
    }
    fn signed(bytes: &[u8]) -> Result<String, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "no text")?;
        text.strip_prefix("signed ").map(str::to_owned).ok_or("not signed")
    }

    #[tokio::test]
    async fn the_oldest_signed_version_wins_over_overwrites_and_planted_ones() {
        let store = store();
        let key: ObjectKey = "manifests/x".parse().unwrap();
        for body in ["junk", "signed first", "signed later", "more junk"] {
            store.plant(&key, Bytes::from_static(body.as_bytes()));
        }
        store.plant_marker(&key);
        let all = list_key(&store, &key).await.unwrap();
        assert_eq!((all.versions.len(), all.markers.len()), (4, 1));
        let found = oldest_verified(&store, &all.versions, 100, signed).await.unwrap();
        assert_eq!(found.value.map(|(text, _)| text).as_deref(), Some("first"));
        assert_eq!(found.planted.len(), 1);
    }

    #[tokio::test]
    async fn a_version_that_is_too_long_or_cannot_be_read_is_passed_over() {
        let store = store();
        let key: ObjectKey = "genesis/1".parse().unwrap();
        store.plant(&key, Bytes::from(vec![b'x'; 101]));
        let sealed = store.plant(&key, Bytes::from_static(b"under a key of somebody's own"));
        store.seal_away(&key, &sealed);
        store.plant(&key, Bytes::from_static(b"signed genesis"));
        let all = list_key(&store, &key).await.unwrap();
        let found = oldest_verified(&store, &all.versions, 100, signed).await.unwrap();
        assert_eq!((found.too_long.len(), found.unreadable.len()), (1, 1));
        assert_eq!(found.value.map(|(text, _)| text).as_deref(), Some("genesis"));
    }

    #[tokio::test]
    async fn a_key_is_not_its_prefix() {
        let store = store();
        for key in ["genesis/1", "genesis/10", "genesis/1x"] {
            store.plant(&key.parse().unwrap(), Bytes::from_static(key.as_bytes()));
        }
        let found = list_key(&store, &ObjectKey::genesis(1)).await.unwrap();
        assert_eq!(found.versions.len(), 1);
        assert_eq!(list_key(&store, &ObjectKey::genesis(2)).await.unwrap(), KeyVersions::default());
    }

    #[tokio::test]
    async fn a_key_full_of_junk_keeps_its_oldest_versions() {
        let store = store();
        let key = ObjectKey::genesis(1);
        let first = store.plant(&key, Bytes::from_static(b"first"));
        for _ in 0..1500 {
            store.plant(&key, Bytes::new());
            store.plant_marker(&key);
        }
        store.plant(&ObjectKey::genesis(2), Bytes::new());
        let all: Vec<_> = list_keys(&store, "genesis/").try_collect().await.unwrap();
        assert_eq!(all.len(), 2);
        let (versions, markers) = (&all[0].1.versions, &all[0].1.markers);
        assert_eq!((versions.len(), markers.len(), all[0].1.left_out), (1000, 1000, 1001));
        assert_eq!(versions[0].version_id, first);
        assert!(
            versions.is_sorted_by_key(|each| each.version_id.as_str()[1..].parse::<u64>().unwrap())
        );
    }

    #[tokio::test]
    async fn every_key_is_listed_once_wherever_pages_end() {
        let store = store();
        for n in 0..40_u32 {
            for _ in 0..n % 11 {
                store.plant(&ObjectKey::genesis(n), Bytes::new());
            }
        }
        let all = list_all(&store, "genesis/").await;
        let mut wanted: Vec<ObjectKey> =
            (0..40_u32).filter(|n| n % 11 > 0).map(ObjectKey::genesis).collect();
        wanted.sort();
        let keys: Vec<ObjectKey> =
            all.versions.chunk_by(|a, b| a.key == b.key).map(|of| of[0].key.clone()).collect();
        assert_eq!(keys, wanted);
        let versions: u32 = (0..40).map(|n| n % 11).sum();
        assert_eq!(all.versions.len(), versions as usize);
    }
}
