//! Reading what others may have written over: every version, the oldest first, until one verifies.

use stonekeep_format::key::ObjectKey;

use crate::{DeleteMarker, ObjectVersion, ReadStore, StoreError, VersionPage};

/// All versions under a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// In the order of the keys (as bytes); of one key, the oldest first.
    pub versions: Vec<ObjectVersion>,
    /// In the same order. They change nothing; that they are there may be news.
    pub markers: Vec<DeleteMarker>,
}

impl Listing {
    /// Yields the versions key by key, the oldest first; never an empty slice.
    pub fn by_key(&self) -> impl Iterator<Item = (&ObjectKey, &[ObjectVersion])> {
        self.versions.chunk_by(|a, b| a.key == b.key).map(|versions| (&versions[0].key, versions))
    }
}

/// Lists every version whose key begins with `prefix`, page by page.
///
/// Object stores list the newest version of a key first; the oldest is the one that counts, so their order is turned. It is
/// theirs alone: nobody who writes can choose it.
///
/// # Errors
/// [`StoreError::TooMany`] beyond `versions_max` versions and markers: an attacker may have put millions, and memory is
/// bounded. [`StoreError::BadAnswer`] if the server's pages do not advance.
pub async fn list_all(
    store: &dyn ReadStore,
    prefix: &str,
    versions_max: usize,
) -> Result<Listing, StoreError> {
    let mut pages: Vec<VersionPage> = Vec::new();
    let mut listed = 0;
    loop {
        let after = pages.last().and_then(|page| page.next.clone());
        let page = store.list_versions(prefix, after.clone()).await?;
        let entries = page.versions.len() + page.markers.len();
        listed += entries;
        if listed > versions_max {
            return Err(StoreError::TooMany { prefix: prefix.to_owned(), versions_max });
        }
        let next = page.next.clone();
        pages.push(page);
        match next {
            None => return Ok(join(pages)),
            next if entries == 0 || next == after => {
                return Err(StoreError::BadAnswer {
                    action: "list object versions",
                    source: "a page that does not advance".into(),
                });
            }
            _ => {}
        }
    }
}

/// Of a key whose versions go on in the next page, the older ones are there: so the last page comes first, and the sorts are
/// stable.
fn join(pages: Vec<VersionPage>) -> Listing {
    let mut all = Listing::default();
    for page in pages.into_iter().rev() {
        all.versions.extend(page.versions);
        all.markers.extend(page.markers);
    }
    all.versions.sort_by(|a, b| a.key.cmp(&b.key));
    all.markers.sort_by(|a, b| a.key.cmp(&b.key));
    all
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
}

/// Returns the oldest version of a key that `verify` accepts. An overwrite, which any writer can place, is younger than what it
/// overwrites; a planted older one is not signed.
///
/// `versions` are those of one key, the oldest first, as [`list_all`] returns them. A version that vanished since is skipped.
///
/// # Errors
/// Whatever reading a version answers: one that cannot be read is not passed over, it might be the one that counts.
pub async fn oldest_verified<T, E>(
    store: &dyn ReadStore,
    versions: &[ObjectVersion],
    bytes_max: u64,
    verify: impl Fn(&[u8]) -> Result<T, E>,
) -> Result<Verified<T, E>, StoreError> {
    let mut found = Verified { value: None, planted: Vec::new(), too_long: Vec::new() };
    for version in versions {
        if version.bytes > bytes_max {
            found.too_long.push(version.clone());
            continue;
        }
        let bytes = match store.get(&version.key, &version.version_id, bytes_max).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => continue,
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
    use crate::{MemoryStore, memory::tests::still_clock};

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
        let all = list_all(&store, "manifests/", 10).await.unwrap();
        assert_eq!((all.versions.len(), all.markers.len()), (4, 1));
        let found = oldest_verified(&store, &all.versions, 100, signed).await.unwrap();
        assert_eq!(found.value.map(|(text, _)| text).as_deref(), Some("first"));
        assert_eq!(found.planted.len(), 1);
    }

    #[tokio::test]
    async fn a_version_that_is_too_long_is_passed_over_unread() {
        let store = store();
        let key: ObjectKey = "genesis/1".parse().unwrap();
        store.plant(&key, Bytes::from(vec![b'x'; 101]));
        store.plant(&key, Bytes::from_static(b"signed genesis"));
        let all = list_all(&store, "", 10).await.unwrap();
        let found = oldest_verified(&store, &all.versions, 100, signed).await.unwrap();
        assert_eq!(found.too_long.len(), 1);
        assert_eq!(found.value.map(|(text, _)| text).as_deref(), Some("genesis"));
    }

    #[tokio::test]
    async fn a_bucket_full_of_junk_does_not_fill_memory() {
        let store = store();
        for n in 0..20_u32 {
            store.plant(&ObjectKey::genesis(n), Bytes::new());
        }
        let outcome = list_all(&store, "genesis/", 10).await;
        assert!(matches!(outcome, Err(StoreError::TooMany { versions_max: 10, .. })));
    }
}
