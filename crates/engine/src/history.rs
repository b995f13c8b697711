//! Every snapshot of a repository that can be believed, and everything that cannot.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use stonekeep_format::{
    ErrorKind,
    chain::Verified as Snapshot,
    ids::{Digest, Label, SnapshotId},
    key::{ObjectKey, Place},
    lock::RUN_DURATION_MAX,
    manifest::{Link, Manifest},
    signature::{Found, SignatureError, SignedDocument, verify_document},
};
use stonekeep_store::{
    DeleteMarker, ObjectVersion, StoreError, Verified, list_all, oldest_verified,
};

use crate::{
    Context,
    repository::{Planted, Repository, RepositoryError, by_key},
};

/// How many versions under `manifests/` are looked at (1 000 000): a century of hourly snapshots. More is junk.
const MANIFEST_VERSIONS_MAX: usize = 1_000_000;
/// Manifests fetched at the same time (16), each of at most [`Manifest::BYTES_MAX`]: 32 MiB.
const FETCHES_MAX: usize = 16;

/// The verified manifests of a repository.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// By label, oldest first.
    pub labels: BTreeMap<Label, Vec<Snapshot>>,
    /// The version of each manifest's object.
    pub versions: BTreeMap<SnapshotId, ObjectVersion>,
    /// Objects under `manifests/` that are not ours.
    pub planted: Vec<Planted>,
    /// Delete markers under `manifests/`: they change nothing.
    pub markers: Vec<DeleteMarker>,
}

/// Which snapshot is meant: `latest`, `latest:LABEL`, an id, or an unambiguous prefix of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The newest snapshot of the only label.
    Latest,
    /// The newest snapshot of a label.
    LatestOf(Label),
    /// The snapshot whose id begins so.
    Id(String),
}

impl std::str::FromStr for Selector {
    type Err = FindError;
    fn from_str(text: &str) -> Result<Self, FindError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Some(label) = text.strip_prefix("latest:") {
            return label
                .parse()
                .map(Self::LatestOf)
                .map_err(|_| FindError::Selector(text.to_owned()));
        }
        let upper = text.to_ascii_uppercase();
        let valid = (1..=26).contains(&upper.len())
            && upper.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if valid { Ok(Self::Id(upper)) } else { Err(FindError::Selector(text.to_owned())) }
    }
}

/// Why no snapshot is meant.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FindError {
    /// The text is no selector.
    #[error(
        "{0:?} names no snapshot: give latest, latest:LABEL, or the beginning of a snapshot id (see `stonekeep list`)"
    )]
    Selector(String),
    /// `latest` of a repository with several labels.
    #[error("the repository holds several databases: say which one, as in latest:{}", .0.join(" or latest:"))]
    WhichLabel(Vec<String>),
    /// The label has no snapshot.
    #[error("there is no snapshot of {0:?}; see `stonekeep list`")]
    NoLabel(String),
    /// The repository has no snapshot at all.
    #[error("the repository holds no snapshot yet")]
    Empty,
    /// No id begins so.
    #[error("no snapshot's id begins with {0}; see `stonekeep list`")]
    NoSuchId(String),
    /// Several ids begin so.
    #[error("several snapshots' ids begin with {prefix}: {}", .ids.join(", "))]
    Ambiguous {
        /// The prefix.
        prefix: String,
        /// Some of the ids.
        ids: Vec<String>,
    },
}

impl FindError {
    /// Returns what to do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Empty | Self::NoLabel(_) => ErrorKind::Config,
            _ => ErrorKind::Usage,
        }
    }
}

impl History {
    /// Lists and verifies the manifests of `label`, or of all labels. Of each key the oldest version that verifies counts.
    ///
    /// # Errors
    /// [`RepositoryError::Store`] if the bucket cannot be listed or read. Objects that do not verify are no error: they are
    /// returned as planted.
    pub async fn load(
        repository: &Repository,
        label: Option<&Label>,
        context: &Context,
    ) -> Result<Self, RepositoryError> {
        let failed = |source| RepositoryError::Store {
            bucket: repository.store.bucket().to_string(),
            source,
        };
        let prefix =
            label.map_or_else(|| "manifests/".to_owned(), |label| format!("manifests/{label}/"));
        let listing =
            list_all(&*repository.store, &prefix, MANIFEST_VERSIONS_MAX).await.map_err(failed)?;
        let verified: Vec<_> = stream::iter(by_key(&listing))
            .map(|(key, versions)| async move {
                let found = verify_key(repository, &key, &versions).await?;
                Ok((key, versions, found))
            })
            .buffered(FETCHES_MAX)
            .try_collect()
            .await
            .map_err(failed)?;
        let mut history = Self { markers: listing.markers, ..Self::default() };
        for (key, versions, found) in verified {
            history.take(&key, &versions, found);
        }
        for planted in &history.planted {
            context.warn(format!(
                "ignored version {} of {}: {}",
                planted.version_id, planted.key, planted.why
            ));
        }
        Ok(history)
    }

    /// Reads of a label's manifests only those that a writer needs: the newest, and each that no newer one vouches for. All
    /// others are known by their links in these, so that the work does not grow with their number.
    ///
    /// A run sees every manifest that is there when it begins, and one that it does not see was begun no more than
    /// [`RUN_DURATION_MAX`] before. So what is older than that, and not vouched for, has expired.
    ///
    /// # Errors
    /// As [`History::load`].
    pub(crate) async fn load_newest(
        repository: &Repository,
        label: &Label,
    ) -> Result<Self, RepositoryError> {
        let failed = |source| RepositoryError::Store {
            bucket: repository.store.bucket().to_string(),
            source,
        };
        let prefix = format!("manifests/{label}/");
        let listing =
            list_all(&*repository.store, &prefix, MANIFEST_VERSIONS_MAX).await.map_err(failed)?;
        let mut newest_first: BTreeMap<(Reverse<SnapshotId>, ObjectKey), Vec<ObjectVersion>> =
            BTreeMap::new();
        for (key, versions) in by_key(&listing) {
            if let Some(Place::Manifest(.., id)) = Place::of(&key) {
                newest_first.insert((Reverse(id), key), versions);
            }
        }
        let mut history = Self::default();
        let mut vouched: BTreeSet<ObjectKey> = BTreeSet::new();
        let mut horizon: Option<SnapshotId> = None;
        for ((Reverse(id), key), versions) in newest_first {
            let is_expired = horizon.as_ref().is_some_and(|horizon| id < *horizon);
            if is_expired || vouched.contains(&key) {
                continue;
            }
            let found = verify_key(repository, &key, &versions).await.map_err(failed)?;
            if let Some((snapshot, _)) = &found.value {
                let Manifest { live, previous, started_at, .. } = &snapshot.manifest;
                vouched.extend(live.iter().chain(previous).map(|link| link.key(label)));
                horizon.get_or_insert_with(|| SnapshotId::new(*started_at - RUN_DURATION_MAX, 0));
            }
            history.take(&key, &versions, found);
        }
        for snapshots in history.labels.values_mut() {
            snapshots.reverse();
        }
        Ok(history)
    }

    /// Reads the snapshot that a link names, if it is there.
    ///
    /// # Errors
    /// As [`History::load`].
    pub(crate) async fn follow(
        repository: &Repository,
        label: &Label,
        link: &Link,
    ) -> Result<Option<(Snapshot, ObjectVersion)>, RepositoryError> {
        let failed = |source| RepositoryError::Store {
            bucket: repository.store.bucket().to_string(),
            source,
        };
        let key = link.key(label);
        let listing = list_all(&*repository.store, key.as_str(), MANIFEST_VERSIONS_MAX)
            .await
            .map_err(failed)?;
        let versions: Vec<_> =
            listing.versions.into_iter().filter(|each| each.key == key).collect();
        let found = verify_key(repository, &key, &versions).await.map_err(failed)?;
        Ok(found.value.filter(|(snapshot, _)| snapshot.digest == link.digest))
    }

    fn take(
        &mut self,
        key: &ObjectKey,
        versions: &[ObjectVersion],
        found: Verified<Snapshot, SignatureError>,
    ) {
        let Verified { value, planted, too_long } = found;
        for (version, why) in planted {
            self.plant(key, &version, why.to_string());
        }
        for version in too_long {
            self.plant(
                key,
                &version,
                format!("longer than a manifest may be ({} bytes)", Manifest::BYTES_MAX),
            );
        }
        let Some((snapshot, version)) = value else { return };
        // What came later under the same key, signed or not, is an overwrite.
        let overwrites =
            versions.iter().skip_while(|each| each.version_id != version.version_id).skip(1);
        for later in overwrites {
            self.plant(
                key,
                later,
                "an overwrite: an older version of this key is the snapshot".to_owned(),
            );
        }
        self.versions.insert(snapshot.manifest.id.clone(), version);
        self.labels.entry(snapshot.manifest.label.clone()).or_default().push(snapshot);
    }

    fn plant(&mut self, key: &ObjectKey, version: &ObjectVersion, why: String) {
        self.planted.push(Planted {
            key: key.clone(),
            version_id: version.version_id.clone(),
            why,
        });
    }

    /// Returns the snapshots of a label, oldest first.
    #[must_use]
    pub fn of(&self, label: &Label) -> &[Snapshot] {
        self.labels.get(label).map_or(&[], Vec::as_slice)
    }

    /// Returns the snapshot that `selector` means.
    ///
    /// # Errors
    /// [`FindError`]: none, or more than one.
    pub fn find(&self, selector: &Selector) -> Result<&Snapshot, FindError> {
        match selector {
            Selector::Latest => self.latest(),
            Selector::LatestOf(label) => {
                self.newest_of(label).ok_or_else(|| FindError::NoLabel(label.to_string()))
            }
            Selector::Id(prefix) => self.by_prefix(prefix),
        }
    }

    fn latest(&self) -> Result<&Snapshot, FindError> {
        let labels: Vec<_> = self.labels.keys().collect();
        match labels[..] {
            [] => Err(FindError::Empty),
            [label] => self.newest_of(label).ok_or(FindError::Empty),
            _ => Err(FindError::WhichLabel(labels.iter().map(ToString::to_string).collect())),
        }
    }

    /// The newest is the one committed last, of whichever chain.
    fn newest_of(&self, label: &Label) -> Option<&Snapshot> {
        self.of(label).iter().max_by_key(|each| (each.manifest.committed_at, each.manifest.seq))
    }

    fn by_prefix(&self, prefix: &str) -> Result<&Snapshot, FindError> {
        let all = self.labels.values().flatten();
        let matching: Vec<_> =
            all.filter(|each| each.manifest.id.as_str().starts_with(prefix)).collect();
        match matching[..] {
            [] => Err(FindError::NoSuchId(prefix.to_owned())),
            [one] => Ok(one),
            _ => Err(FindError::Ambiguous {
                prefix: prefix.to_owned(),
                ids: matching.iter().take(5).map(|each| each.manifest.id.to_string()).collect(),
            }),
        }
    }
}

async fn verify_key(
    repository: &Repository,
    key: &ObjectKey,
    versions: &[ObjectVersion],
) -> Result<Verified<Snapshot, SignatureError>, StoreError> {
    let verify = |bytes: &[u8]| {
        let found = Found { key, repository: Some(repository.genesis.repository) };
        let manifest = verify_document::<Manifest>(bytes, found, &repository.trust)?;
        check_key(key, &manifest)?;
        Ok(Snapshot { manifest, digest: Digest::of(bytes) })
    };
    oldest_verified(&*repository.store, versions, Manifest::BYTES_MAX, verify).await
}

/// The key repeats the manifest's position, chain and id; a signed manifest that says otherwise is not one we made.
fn check_key(key: &ObjectKey, manifest: &Manifest) -> Result<(), SignatureError> {
    let said =
        Place::Manifest(manifest.label.clone(), manifest.seq, manifest.chain, manifest.id.clone());
    if Place::of(key).as_ref() == Some(&said) {
        return Ok(());
    }
    Err(SignatureError::Foreign {
        what: "place",
        found: format!("{said:?}"),
        wanted: key.to_string(),
    })
}
