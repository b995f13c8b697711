//! Every snapshot of a repository that can be believed, and everything that cannot.
//!
//! Whoever may write may fill the bucket with junk that looks like manifests until it is read. So listings are taken a page at a
//! time, what is no manifest of ours is told of only up to a limit, and nothing ends in a refusal to read what is.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
};

use chrono::{DateTime, Utc};
use futures_util::{TryStreamExt as _, pin_mut};
use stonekeep_format::{
    ErrorKind,
    chain::Chains,
    ids::{ChainId, Digest, Label, SnapshotId},
    key::{ObjectKey, Place},
    lock::{RUN_DURATION_MAX, SKEW_MAX},
    manifest::{Link, Manifest},
    signature::{Found, SignatureError, SignedDocument, verify_document},
};
use stonekeep_store::{
    DeleteMarker, KeyVersions, ObjectVersion, ReadStore, StoreError, Verified, list_key, list_keys,
    oldest_verified,
};

use crate::{
    Context,
    finding::{FindingKind, plain},
    repository::{Planted, Repository, RepositoryError},
};

/// Manifests fetched at the same time (16), each of at most [`Manifest::BYTES_MAX`]: 32 MiB.
const FETCHES_MAX: usize = 16;
/// Objects of one kind that are not ours and are told of one by one (1000); of more, only how many. Whoever plants many of one
/// kind does not so hide one of another.
const PLANTED_MAX: usize = 1000;
/// Versions of one manifest's key that a writer looks at (8), the oldest: the key is random, so its own is the first.
const VERSIONS_MAX: usize = 8;
/// Delete markers over snapshots that are told of one by one (100 000): expiry leaves one on each for a day.
const MARKERS_MAX: usize = 100_000;

/// A snapshot that can be believed.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its manifest.
    pub manifest: Manifest,
    /// BLAKE3 of the manifest's object, signature included.
    pub digest: Digest,
    /// The version of the object.
    pub version: ObjectVersion,
}

impl Snapshot {
    /// Returns the latest time at which it says it was made.
    #[must_use]
    pub fn dated_at(&self) -> DateTime<Utc> {
        let Manifest { committed_at, started_at, id, .. } = &self.manifest;
        id.begun_at().max(*committed_at).max(*started_at)
    }

    /// Whether it says that it was made later than the server stored it, by more than clocks may differ ([`SKEW_MAX`]). Only
    /// our signer can have made it so. It would be the newest until that time comes, and hide those that are; so it is believed,
    /// and never the newest. It stays so when its time has come.
    #[must_use]
    pub fn is_future(&self) -> bool {
        let stored_at = self.version.modified_at;
        // A copy does not tell when: there everything is of 1970.
        stored_at > DateTime::<Utc>::UNIX_EPOCH
            && (self.dated_at() - stored_at).to_std().is_ok_and(|ahead| ahead > SKEW_MAX)
    }
}

/// The snapshots of one label.
#[derive(Debug, Clone, Default)]
pub struct LabelHistory {
    /// In the order of their keys; without what they say of each other (`live` is empty), which would be as long as all of them
    /// for each.
    pub snapshots: Vec<Snapshot>,
    /// What they say of each other.
    pub chains: Chains,
}

/// The verified manifests of a repository.
#[derive(Debug, Default)]
pub struct History {
    /// By label.
    pub labels: BTreeMap<Label, LabelHistory>,
    /// Objects under `manifests/` that are not ours, the first of them.
    pub planted: Vec<Planted>,
    /// How many more there are.
    pub more_planted: u64,
    planted_of_kind: BTreeMap<FindingKind, usize>,
    /// Delete markers over snapshots, the first of them: they change nothing.
    pub markers: Vec<DeleteMarker>,
    /// How many more there are.
    pub more_markers: u64,
    /// Why the first object that is denied to this credential was.
    refused: Option<StoreError>,
    /// Whether anything could be read.
    has_read: bool,
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
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The manifests cannot be read.
    #[error(transparent)]
    Repository(#[from] Box<RepositoryError>),
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
    /// All snapshots of the label claim the future.
    #[error(
        "every snapshot of {0:?} is dated later than the server stored it: see `stonekeep list`, and give the id of one"
    )]
    OnlyFuture(String),
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
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Repository(source) => source.kind(),
            Self::Empty | Self::NoLabel(_) => ErrorKind::Config,
            Self::OnlyFuture(_) => ErrorKind::Corrupt,
            _ => ErrorKind::Usage,
        }
    }
}

impl History {
    /// Lists and verifies every manifest. Of each key the oldest version that verifies counts.
    ///
    /// # Errors
    /// [`RepositoryError::Store`] if the bucket cannot be listed, or nothing in it read. Objects that do not verify are no
    /// error: they are returned as planted.
    pub async fn load(repository: &Repository, context: &Context) -> Result<Self, RepositoryError> {
        Self::load_under(repository, "manifests/", context).await
    }

    /// The same of one label.
    ///
    /// # Errors
    /// As [`History::load`].
    pub(crate) async fn load_label(
        repository: &Repository,
        label: &Label,
        context: &Context,
    ) -> Result<Self, RepositoryError> {
        Self::load_under(repository, &format!("manifests/{label}/"), context).await
    }

    async fn load_under(
        repository: &Repository,
        prefix: &str,
        context: &Context,
    ) -> Result<Self, RepositoryError> {
        let failed = store_failed(repository);
        let mut history = Self::default();
        for store in repository.stores.all() {
            let store = &**store;
            let looked_at = list_keys(store, prefix)
                .map_ok(|(key, found)| async move {
                    let verified = verify_key(repository, store, &key, &found.versions).await?;
                    let resent = sent_again(store, &found.versions, &verified).await?;
                    Ok((key, found, verified, resent))
                })
                .try_buffered(FETCHES_MAX);
            pin_mut!(looked_at);
            while let Some((key, found, verified, resent)) =
                looked_at.try_next().await.map_err(&failed)?
            {
                if let Some((snapshot, _)) = &verified.value {
                    history.mark(&found, snapshot.manifest.promised_until);
                }
                history.tell_overwrites(&key, &found, &verified, &resent);
                history.take(&key, verified);
            }
        }
        history.check_rights().map_err(failed)?;
        history.warn(context);
        Ok(history)
    }

    /// Reads of a label's manifests only the newest, and each that no newer one vouches for: those that a writer needs. All
    /// others are known by their links in these, so that the work does not grow with their number.
    ///
    /// A run sees every manifest that is there when it begins, and one of its chain that it does not see was begun no more than
    /// [`RUN_DURATION_MAX`] before. So what is older than that, and not vouched for, has expired. Another chain was begun by a
    /// writer that saw nothing, and says nothing of this one.
    ///
    /// # Errors
    /// As [`History::load`].
    pub(crate) async fn load_newest(
        repository: &Repository,
        label: &Label,
    ) -> Result<Self, RepositoryError> {
        let failed = store_failed(repository);
        let prefix = format!("manifests/{label}/");
        // The place of a bucket among them keeps apart what bears the same key.
        let mut newest_first: BTreeMap<(Reverse<SnapshotId>, ObjectKey, usize), _> =
            BTreeMap::new();
        for (at, store) in repository.stores.all().enumerate() {
            let keys = list_keys(&**store, &prefix);
            pin_mut!(keys);
            while let Some((key, mut found)) = keys.try_next().await.map_err(&failed)? {
                if let Some(Place::Manifest(.., id)) = Place::of(&key)
                    && !found.versions.is_empty()
                {
                    found.versions.truncate(VERSIONS_MAX);
                    newest_first.insert((Reverse(id), key, at), (store, found.versions));
                }
            }
        }
        let mut history = Self::default();
        let mut vouched: BTreeSet<ObjectKey> = BTreeSet::new();
        let mut horizons: BTreeMap<ChainId, SnapshotId> = BTreeMap::new();
        for ((Reverse(id), key, _), (store, versions)) in newest_first {
            let Some(Place::Manifest(_, _, chain, _)) = Place::of(&key) else { continue };
            let is_expired = horizons.get(&chain).is_some_and(|horizon| id < *horizon);
            if is_expired || vouched.contains(&key) {
                continue;
            }
            let verified = verify_key(repository, &**store, &key, &versions).await;
            let verified = verified.map_err(&failed)?;
            // What claims the future neither vouches for others nor says which have expired.
            if let Some((snapshot, _)) = verified.value.as_ref().filter(|it| !it.0.is_future()) {
                let Manifest { live, previous, started_at, .. } = &snapshot.manifest;
                vouched.extend(live.iter().chain(previous).map(|link| link.key(label)));
                horizons
                    .entry(chain)
                    .or_insert_with(|| SnapshotId::new(*started_at - RUN_DURATION_MAX, 0));
            }
            history.take(&key, verified);
        }
        history.check_rights().map_err(failed)?;
        Ok(history)
    }

    /// A credential to which everything is denied has no right to read. One object that the server does not give out says
    /// nothing: anybody who may write can have put it under a key of his own.
    fn check_rights(&mut self) -> Result<(), StoreError> {
        match self.refused.take() {
            Some(error) if !self.has_read => Err(error),
            _ => Ok(()),
        }
    }

    fn take(&mut self, key: &ObjectKey, found: Verified<Snapshot, SignatureError>) {
        let Verified { value, planted, too_long, unreadable } = found;
        for version in too_long {
            let bytes_max = Manifest::BYTES_MAX;
            self.plant(FindingKind::Unreadable, key, &version, || {
                format!("longer than a manifest may be ({bytes_max} bytes)")
            });
        }
        self.has_read |= value.is_some() || !planted.is_empty();
        for (version, why) in planted {
            self.plant(FindingKind::from(&why), key, &version, || why.to_string());
        }
        for (version, error) in unreadable {
            self.plant(FindingKind::Unreadable, key, &version, || {
                format!("the server does not give it out: {error}")
            });
            if matches!(error, StoreError::Denied { .. }) {
                self.refused.get_or_insert(error);
            }
        }
        let Some((mut snapshot, _)) = value else { return };
        let of_label = self.labels.entry(snapshot.manifest.label.clone()).or_default();
        of_label.chains.take(&snapshot.manifest, snapshot.digest);
        snapshot.manifest.live = Vec::new();
        of_label.snapshots.push(snapshot);
    }

    /// What came later under the key of a snapshot is an overwrite, unless it is the snapshot, sent again.
    fn tell_overwrites(
        &mut self,
        key: &ObjectKey,
        found: &KeyVersions,
        verified: &Verified<Snapshot, SignatureError>,
        resent: &BTreeSet<usize>,
    ) {
        self.more_planted += found.left_out;
        let Some((snapshot, _)) = &verified.value else { return };
        for (at, later) in younger(&found.versions, snapshot) {
            if !resent.contains(&at) {
                self.plant(FindingKind::Overwrite, key, later, || {
                    "an overwrite: an older version of this key is the snapshot".to_owned()
                });
            }
        }
    }

    /// Keeps the markers over a snapshot that were set while it was promised; a lifecycle rule sets others later.
    fn mark(&mut self, found: &KeyVersions, promised_until: DateTime<Utc>) {
        let markers = found.markers.iter().filter(|marker| marker.modified_at < promised_until);
        for marker in markers {
            if self.markers.len() < MARKERS_MAX {
                self.markers.push(marker.clone());
            } else {
                self.more_markers += 1;
            }
        }
    }

    fn plant(
        &mut self,
        kind: FindingKind,
        key: &ObjectKey,
        version: &ObjectVersion,
        why: impl FnOnce() -> String,
    ) {
        let of_kind = self.planted_of_kind.entry(kind).or_default();
        if *of_kind == PLANTED_MAX {
            self.more_planted += 1;
            return;
        }
        *of_kind += 1;
        self.planted.push(Planted {
            kind,
            key: key.clone(),
            version_id: version.version_id.clone(),
            why: why(),
        });
    }

    fn warn(&self, context: &Context) {
        for planted in &self.planted {
            let Planted { version_id, key, why, .. } = planted;
            context.warn(plain(&format!("ignored version {version_id} of {key}: {why}")));
        }
        if self.more_markers > 0 {
            context.warn(format!("there are {} more delete markers", self.more_markers));
        }
        if self.more_planted > 0 {
            context.warn(format!("ignored {} more such versions", self.more_planted));
        }
    }

    /// Returns the snapshots of a label, in the order of their keys.
    #[must_use]
    pub fn of(&self, label: &Label) -> &[Snapshot] {
        self.labels.get(label).map_or(&[], |of_label| &of_label.snapshots)
    }

    /// Returns the keys of the snapshots that are promised still.
    pub(crate) fn promised_keys(&self, at: DateTime<Utc>) -> BTreeSet<ObjectKey> {
        let all = self.labels.values().flat_map(|of_label| &of_label.snapshots);
        let promised = all.filter(|each| each.manifest.promised_until > at);
        promised.map(|each| each.manifest.key.clone()).collect()
    }

    /// Returns the newest snapshot of a label that is not suspicious and claims no future.
    #[must_use]
    pub fn newest_sound(&self, label: &Label) -> Option<&Snapshot> {
        let is_sound = |each: &&Snapshot| each.manifest.suspicious.is_none() && !each.is_future();
        let sound = self.of(label).iter().filter(is_sound);
        sound.max_by_key(|each| (each.manifest.committed_at, each.manifest.seq))
    }

    /// Returns the newest snapshot of a label: the one committed last, of whichever chain, but none that claims the future.
    #[must_use]
    pub fn newest_of(&self, label: &Label) -> Option<&Snapshot> {
        let made = self.of(label).iter().filter(|each| !each.is_future());
        made.max_by_key(|each| (each.manifest.committed_at, each.manifest.seq))
    }
}

/// Reads the snapshot that a link names, if it is there.
///
/// # Errors
/// As [`History::load`].
pub(crate) async fn follow(
    repository: &Repository,
    label: &Label,
    link: &Link,
) -> Result<Option<Snapshot>, RepositoryError> {
    let found = read_key(repository, &link.key(label)).await?;
    Ok(found.filter(|snapshot| snapshot.digest == link.digest))
}

/// Finds the snapshot that `selector` means, without reading more of the others than that takes. The latest is never one that
/// claims the future; that there is such a one, and that one is meant by its id, is a warning.
///
/// # Errors
/// [`FindError`]: none, more than one, or the manifests cannot be read.
pub async fn find(
    repository: &Repository,
    selector: &Selector,
    context: &Context,
) -> Result<Snapshot, FindError> {
    match selector {
        Selector::Latest => latest(repository, context).await,
        Selector::LatestOf(label) => {
            let newest = newest(repository, label, context).await?;
            newest.ok_or_else(|| FindError::NoLabel(label.to_string()))
        }
        Selector::Id(prefix) => {
            let found = by_prefix(repository, prefix).await?;
            if found.is_future() {
                context.warn(claims_the_future(&found));
            }
            Ok(found)
        }
    }
}

fn claims_the_future(snapshot: &Snapshot) -> String {
    let (id, dated_at) = (&snapshot.manifest.id, snapshot.dated_at());
    let stored_at = snapshot.version.modified_at;
    format!("snapshot {id} is dated {dated_at}, and the server stored it {stored_at}")
}

async fn newest(
    repository: &Repository,
    label: &Label,
    context: &Context,
) -> Result<Option<Snapshot>, FindError> {
    let history = History::load_newest(repository, label).await.map_err(Box::new)?;
    let ahead: Vec<_> = history.of(label).iter().filter(|each| each.is_future()).collect();
    for snapshot in ahead.iter().take(TOLD_MAX) {
        context.warn(format!("{}: passed over", claims_the_future(snapshot)));
    }
    let Some(newest) = history.newest_of(label) else {
        let none = if ahead.is_empty() { None } else { Some(label.to_string()) };
        return none.map_or(Ok(None), |label| Err(FindError::OnlyFuture(label)));
    };
    if let Some(why) = &newest.manifest.suspicious {
        let id = &newest.manifest.id;
        context.warn(format!(
            "the newest snapshot of {label}, {id}, is SUSPICIOUS ({why}): `stonekeep list` shows those before it"
        ));
    }
    // The history keeps it without its links.
    Ok(read_key(repository, &newest.manifest.key).await.map_err(Box::new)?)
}

/// Returns the newest snapshot of each label, in the order of labels; none that claims the future.
///
/// # Errors
/// [`FindError`]: the manifests cannot be read.
pub async fn newest_of_each(
    repository: &Repository,
    context: &Context,
) -> Result<Vec<Snapshot>, FindError> {
    newest_by_label(repository, context).await?.into_values().collect()
}

/// Returns the newest snapshot of each label; of one whose history cannot be used, why.
///
/// # Errors
/// [`FindError`]: the manifests cannot be listed, or the server does not answer.
pub(crate) async fn newest_by_label(
    repository: &Repository,
    context: &Context,
) -> Result<BTreeMap<Label, Result<Snapshot, FindError>>, FindError> {
    let mut found = BTreeMap::new();
    let named = keys_that(repository, |place| match place {
        Place::Manifest(label, ..) => Some(label),
        _ => None,
    });
    for label in named.await?.into_values().collect::<BTreeSet<Label>>() {
        let newest = newest(repository, &label, context).await;
        match newest.transpose() {
            None => {}
            // So it would be with every other.
            Some(Err(error)) if is_of_the_server(&error) => return Err(error),
            Some(newest) => {
                found.insert(label, newest);
            }
        }
    }
    Ok(found)
}

fn is_of_the_server(error: &FindError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unreachable)
}

async fn latest(repository: &Repository, context: &Context) -> Result<Snapshot, FindError> {
    let mut found = newest_of_each(repository, context).await?;
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(FindError::Empty),
        (Some(snapshot), true) => Ok(snapshot),
        (Some(snapshot), false) => {
            found.push(snapshot);
            Err(FindError::WhichLabel(
                found.iter().map(|each| each.manifest.label.to_string()).collect(),
            ))
        }
    }
}

async fn by_prefix(repository: &Repository, prefix: &str) -> Result<Snapshot, FindError> {
    let named = keys_that(repository, |place| match place {
        Place::Manifest(.., id) if id.as_str().starts_with(prefix) => Some(()),
        _ => None,
    });
    let mut found: BTreeMap<SnapshotId, Snapshot> = BTreeMap::new();
    let mut refused = None;
    for key in named.await?.into_keys() {
        match read_key(repository, &key).await {
            Ok(snapshot) => snapshot.into_iter().for_each(|each| keep_first(&mut found, each)),
            Err(error) if is_about_one_object(&error) => refused = Some(error),
            Err(error) => return Err(Box::new(error).into()),
        }
        if found.len() > TOLD_MAX {
            break;
        }
    }
    let ids: Vec<String> = found.keys().take(TOLD_MAX).map(ToString::to_string).collect();
    match (found.pop_first(), found.is_empty()) {
        (None, _) => Err(refused.map_or_else(
            || FindError::NoSuchId(prefix.to_owned()),
            |error| FindError::Repository(Box::new(error)),
        )),
        (Some((_, snapshot)), true) => Ok(snapshot),
        (Some(_), false) => Err(FindError::Ambiguous { prefix: prefix.to_owned(), ids }),
    }
}

/// Of two snapshots with one id the one that the server stored first is meant. Only our signer can have made the other, below
/// another label or at another position, and nobody could know the id before the first was there.
fn keep_first(found: &mut BTreeMap<SnapshotId, Snapshot>, snapshot: Snapshot) {
    match found.entry(snapshot.manifest.id.clone()) {
        Entry::Vacant(place) => {
            place.insert(snapshot);
        }
        Entry::Occupied(mut first) => {
            if snapshot.version.modified_at < first.get().version.modified_at {
                first.insert(snapshot);
            }
        }
    }
}

/// Whether the server answered, and would not give out what it was asked for.
const fn is_about_one_object(error: &RepositoryError) -> bool {
    matches!(
        error,
        RepositoryError::Store {
            source: StoreError::Denied { .. } | StoreError::Rejected { .. },
            ..
        }
    )
}

/// Snapshots that an ambiguous prefix, or a warning, is told with (5).
const TOLD_MAX: usize = 5;

/// Returns the keys under `manifests/` of which `wanted` makes something.
async fn keys_that<T>(
    repository: &Repository,
    wanted: impl Fn(Place) -> Option<T>,
) -> Result<BTreeMap<ObjectKey, T>, FindError> {
    let mut found = BTreeMap::new();
    for store in repository.stores.all() {
        let keys = list_keys(&**store, "manifests/");
        pin_mut!(keys);
        while let Some((key, versions)) =
            keys.try_next().await.map_err(store_failed(repository)).map_err(Box::new)?
        {
            if let Some(made) = Place::of(&key).and_then(&wanted)
                && !versions.versions.is_empty()
            {
                found.insert(key, made);
            }
        }
    }
    Ok(found)
}

/// Reads the snapshot under a key, if there is one.
async fn read_key(
    repository: &Repository,
    key: &ObjectKey,
) -> Result<Option<Snapshot>, RepositoryError> {
    let failed = store_failed(repository);
    let mut refused = None;
    for store in repository.stores.all() {
        let found = list_key(&**store, key).await.map_err(&failed)?;
        let verified = verify_key(repository, &**store, key, &found.versions).await;
        let mut verified = verified.map_err(&failed)?;
        if let Some((snapshot, _)) = verified.value {
            return Ok(Some(snapshot));
        }
        if verified.planted.is_empty() {
            refused = refused.or(verified.unreadable.pop());
        }
    }
    refused.map_or(Ok(None), |(_, error)| Err(failed(error)))
}

fn store_failed(repository: &Repository) -> impl Fn(StoreError) -> RepositoryError {
    let bucket = repository.stores.main().bucket().to_string();
    move |source| RepositoryError::Store { bucket: bucket.clone(), source }
}

async fn verify_key(
    repository: &Repository,
    store: &dyn ReadStore,
    key: &ObjectKey,
    versions: &[ObjectVersion],
) -> Result<Verified<Snapshot, SignatureError>, StoreError> {
    let verify = |bytes: &[u8]| {
        let found = Found { key, repository: Some(repository.genesis.repository) };
        let manifest = verify_document::<Manifest>(bytes, found, &repository.trust)?;
        check_key(key, &manifest)?;
        // It lies beside its inventory: in another bucket it is a copy that somebody has made.
        let bucket = &manifest.inventory.bucket;
        if !repository.stores.is_at(bucket, store) {
            let (found, wanted) = (bucket.to_string(), store.bucket().to_string());
            return Err(SignatureError::Foreign { what: "bucket", found, wanted });
        }
        Ok((manifest, Digest::of(bytes)))
    };
    let found = oldest_verified(store, versions, Manifest::BYTES_MAX, verify).await?;
    let Verified { value, planted, too_long, unreadable } = found;
    let value = value.map(|((manifest, digest), version)| {
        (Snapshot { manifest, digest, version: version.clone() }, version)
    });
    Ok(Verified { value, planted, too_long, unreadable })
}

/// The versions that are younger than the snapshot's, by their places.
fn younger<'v>(
    versions: &'v [ObjectVersion],
    snapshot: &Snapshot,
) -> impl Iterator<Item = (usize, &'v ObjectVersion)> {
    let own = snapshot.version.version_id.clone();
    versions.iter().enumerate().skip_while(move |(_, each)| each.version_id != own).skip(1)
}

/// Returns which versions hold the same bytes as the snapshot's: its writer sent it again after an answer was lost.
async fn sent_again(
    store: &dyn ReadStore,
    versions: &[ObjectVersion],
    found: &Verified<Snapshot, SignatureError>,
) -> Result<BTreeSet<usize>, StoreError> {
    let mut same = BTreeSet::new();
    let Some((snapshot, _)) = &found.value else { return Ok(same) };
    let of_a_length =
        younger(versions, snapshot).filter(|(_, each)| each.bytes == snapshot.version.bytes);
    for (at, version) in of_a_length.take(RESENT_MAX) {
        match store.get(&version.key, &version.version_id, version.bytes).await {
            Ok(bytes) if Digest::of(&bytes) == snapshot.digest => drop(same.insert(at)),
            Ok(_)
            | Err(
                StoreError::NotFound { .. }
                | StoreError::Denied { .. }
                | StoreError::Rejected { .. },
            ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(same)
}

/// Younger versions of a manifest's key that are read to see whether they are the same (8): its writer sends it three times.
const RESENT_MAX: usize = 8;

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
