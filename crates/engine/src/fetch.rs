//! A snapshot as files: a directory that stock `pg_restore -Fd` reads, or the sealed objects as they are.
//!
//! Both are written into `DIR.partial` and renamed when everything is there, checked and on disk, so nothing half looks
//! finished. A directory that exists is never touched. What `fetch` writes is in the clear: the directory is its owner's
//! alone (0700, files 0600).

mod sealed;
mod staging;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, pin_mut};
use serde::Serialize;
use stonekeep_format::{
    ErrorKind,
    archive::{Archive, ArchiveError, RowFormat, large_object_member},
    catalog::Catalog,
    codec::Identities,
    ids::{Label, MemberName, SnapshotId},
    inventory::{Inventory, Segment, SegmentKind},
    pack::{PackError, read_pack},
};

pub use self::sealed::fetch_sealed;
use self::staging::Staging;
use crate::{
    Context,
    events::{Event, Phase},
    history::Snapshot,
    repository::Repository,
    segments::{READ_BUDGET_BYTES, SegmentError, SegmentReader, load_inventory},
};

/// The names of the files that are no members. A member of the same name is refused.
const TOC_FILE: &str = "toc.dat";
const GLOBALS_FILE: &str = "globals.sql";
const CATALOG_FILE: &str = "catalog.json";

/// Why a snapshot is not in the directory that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The directory is there and holds something.
    #[error("{path:?} exists and is not empty: give a new directory")]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// An earlier run left its work behind, or another one is at work.
    #[error(
        "{path:?} exists: another fetch is at work there, or one was killed; if none is running, remove it and start again"
    )]
    Partial {
        /// The directory.
        path: PathBuf,
    },
    /// A part of the snapshot cannot be had.
    #[error("cannot fetch the snapshot; nothing was left in the directory")]
    Segment(#[from] SegmentError),
    /// A file cannot be written.
    #[error("cannot write {path:?}; nothing was left in the directory")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pack is none.
    #[error(
        "a pack of the snapshot cannot be read: made by a broken writer; take another snapshot"
    )]
    Pack(#[from] PackError),
    /// The table of contents is none.
    #[error(
        "the snapshot's table of contents cannot be read: made by a broken writer; take another snapshot"
    )]
    Contents(#[source] ArchiveError),
    /// The parts do not make up a whole.
    #[error("the snapshot does not add up: {what}; made by a broken writer; take another snapshot")]
    Incomplete {
        /// What is missing or too much; names members, never rows.
        what: String,
    },
    /// The list of the copied objects cannot be written.
    #[error("cannot write the list of the copied objects")]
    Versions(#[source] serde_json::Error),
    /// Stopped on request.
    #[error("stopped on request; nothing was left in the directory")]
    Cancelled,
    /// A task of ours panicked.
    #[error("an internal task failed")]
    Task(#[source] tokio::task::JoinError),
}

impl FetchError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Occupied { .. } | Self::Partial { .. } => ErrorKind::Conflict,
            Self::Segment(source) => source.kind(),
            Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::Usage,
                _ => ErrorKind::Unavailable,
            },
            Self::Pack(_) | Self::Contents(_) | Self::Incomplete { .. } => ErrorKind::Corrupt,
            Self::Cancelled => ErrorKind::Unavailable,
            Self::Versions(_) | Self::Task(_) => ErrorKind::Internal,
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FetchReport {
    /// The database's label.
    pub label: Label,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The directory.
    pub directory: PathBuf,
    /// Files in it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes `snapshot` into `out` as a directory archive: `toc.dat`, the members, and beside them `globals.sql` (roles and
/// tablespaces) and `catalog.json`, which pg_restore leaves alone.
///
/// # Errors
/// [`FetchError`]: nothing is under `out`.
pub async fn fetch(
    repository: &Repository,
    snapshot: &Snapshot,
    identities: Arc<Identities>,
    out: &Path,
    context: &Context,
) -> Result<FetchReport, FetchError> {
    let mut staging = Staging::begin(out)?;
    let reader = SegmentReader::new(repository, identities, READ_BUDGET_BYTES);
    let written = write_archive(repository, snapshot, &reader, &mut staging, context).await;
    finish(written, staging, snapshot).await
}

/// Gives the directory its name, or leaves nothing of it.
async fn finish(
    written: Result<(), FetchError>,
    staging: Staging,
    snapshot: &Snapshot,
) -> Result<FetchReport, FetchError> {
    if let Err(error) = written {
        staging.discard();
        return Err(error);
    }
    let (directory, files, bytes) = staging.finish().await?;
    let (label, snapshot) = (snapshot.manifest.label.clone(), snapshot.manifest.id.clone());
    Ok(FetchReport { label, snapshot, directory, files, bytes })
}

async fn write_archive(
    repository: &Repository,
    snapshot: &Snapshot,
    reader: &SegmentReader,
    staging: &mut Staging,
    context: &Context,
) -> Result<(), FetchError> {
    let inventory =
        load_inventory(repository, &snapshot.manifest.inventory, &snapshot.manifest.id).await?;
    // First of all: a wrong identity must show before gigabytes are fetched.
    let catalog = reader.load_catalog(&inventory, &snapshot.manifest).await?;
    let bytes_expected = Some(snapshot.manifest.totals.plain_bytes);
    let rows_expected = Some(snapshot.manifest.totals.rows);
    context.tell(Event::Phase { phase: Phase::Fetching, bytes_expected, rows_expected });
    let mut files = Files { staging, begun: BTreeSet::new(), toc: None };
    let segments: Vec<(Segment, Segment)> =
        inventory.segments.iter().map(|segment| (segment.clone(), segment.clone())).collect();
    let opened = reader.in_order(segments);
    pin_mut!(opened);
    loop {
        let next = tokio::select! {
            next = opened.next() => next,
            () = context.cancel.cancelled() => return Err(FetchError::Cancelled),
        };
        let Some((segment, plaintext)) = next.transpose()? else { break };
        files.take(&segment, plaintext.bytes()).await?;
        context.tell(Event::Progress { bytes: plaintext.bytes().len() as u64, rows: 0 });
    }
    let toc = files.toc.take();
    check_archive(toc.as_ref(), &catalog, &inventory, staging)
}

struct Files<'a> {
    staging: &'a mut Staging,
    /// Members that have at least their first slice.
    begun: BTreeSet<MemberName>,
    toc: Option<Archive>,
}

impl Files<'_> {
    async fn take(&mut self, segment: &Segment, plaintext: &Bytes) -> Result<(), FetchError> {
        match (segment.kind, &segment.member) {
            (SegmentKind::Rows, Some(member)) => {
                let name = member_file(member)?;
                if self.begun.insert(member.clone()) {
                    self.staging.create(name, plaintext.clone()).await
                } else {
                    self.staging.append(name, plaintext.clone()).await
                }
            }
            (SegmentKind::Rows, None) => {
                Err(incomplete(format!("segment {} has no member", segment.id)))
            }
            (SegmentKind::Pack, _) => self.unpack(plaintext).await,
            (SegmentKind::Toc, _) => {
                let archive =
                    Archive::read_directory(&mut &plaintext[..]).map_err(FetchError::Contents)?;
                self.toc = Some(archive);
                self.staging.create(TOC_FILE, plaintext.clone()).await
            }
            (SegmentKind::Catalog, _) => self.staging.create(CATALOG_FILE, plaintext.clone()).await,
            (SegmentKind::Globals, _) => self.staging.create(GLOBALS_FILE, plaintext.clone()).await,
        }
    }

    async fn unpack(&mut self, pack: &Bytes) -> Result<(), FetchError> {
        for (member, content) in read_pack(pack, pack.len() as u64)? {
            if !self.begun.insert(member.clone()) {
                return Err(incomplete(format!("member {member} is there twice")));
            }
            self.staging.create(member_file(&member)?, pack.slice_ref(content)).await?;
        }
        Ok(())
    }
}

/// The name of the file of a member, which may not be one of ours.
fn member_file(member: &MemberName) -> Result<&str, FetchError> {
    match member.as_str() {
        name @ (TOC_FILE | GLOBALS_FILE | CATALOG_FILE) => {
            Err(incomplete(format!("a member bears the name {name}")))
        }
        name => Ok(name),
    }
}

fn incomplete(what: String) -> FetchError {
    FetchError::Incomplete { what }
}

/// Checks that each member the table of contents names is there, each table's as long as the catalog says, and no other.
fn check_archive(
    toc: Option<&Archive>,
    catalog: &Catalog,
    inventory: &Inventory,
    staging: &Staging,
) -> Result<(), FetchError> {
    let toc =
        toc.ok_or_else(|| incomplete("the inventory lists no table of contents".to_owned()))?;
    let mut wanted = BTreeSet::from([TOC_FILE.to_owned(), CATALOG_FILE.to_owned()]);
    for entry in &toc.entries {
        if let Some(member) = entry.member().map_err(FetchError::Contents)? {
            wanted.insert(member.to_string());
        }
    }
    let formats: BTreeMap<i32, RowFormat> =
        toc.entries.iter().map(|entry| (entry.dump_id, entry.row_format())).collect();
    for table in &catalog.tables {
        let format = formats.get(&table.dump_id).copied().unwrap_or_default();
        let bytes = format.member_bytes(table.digest.bytes);
        match staging.bytes_of(table.member.as_str()) {
            Some(found) if found == bytes => {}
            Some(found) => {
                return Err(incomplete(format!("{} has {found} bytes, not {bytes}", table.member)));
            }
            None => return Err(incomplete(format!("{} is missing", table.member))),
        }
    }
    if inventory.segments.iter().any(|segment| segment.kind == SegmentKind::Globals) {
        wanted.insert(GLOBALS_FILE.to_owned());
    }
    for object in &catalog.large_objects.sliced {
        wanted.insert(large_object_member(object.oid).to_string());
    }
    if let Some(missing) = wanted.iter().find(|name| staging.bytes_of(name).is_none()) {
        return Err(incomplete(format!("{missing} is missing")));
    }
    check_count(catalog, staging)
}

/// Every file is a table's, a large object's, a list of large objects, or one of ours.
fn check_count(catalog: &Catalog, staging: &Staging) -> Result<(), FetchError> {
    let objects = staging.names().filter(|name| name.starts_with("blob_")).count() as u64;
    if objects != catalog.large_objects.digest.objects {
        let wanted = catalog.large_objects.digest.objects;
        return Err(incomplete(format!("there are {objects} large objects, not {wanted}")));
    }
    let tables: BTreeSet<&str> = catalog.tables.iter().map(|table| table.member.as_str()).collect();
    let ours = [TOC_FILE, GLOBALS_FILE, CATALOG_FILE];
    let foreign =
        |name: &&str| !name.starts_with("blob") && !ours.contains(name) && !tables.contains(*name);
    match staging.names().find(foreign) {
        Some(name) => Err(incomplete(format!("{name} belongs to no table"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use stonekeep_store::DirectoryStore;

    use super::*;
    use crate::{
        context::SystemClock,
        list::list,
        segments::fixture::{Broken, Fixture},
        verify::verify,
    };

    #[tokio::test]
    async fn fetched_directory_holds_every_member() {
        let fixture = Fixture::new();
        let (repository, snapshot) = fixture.open(Arc::new(fixture.store())).await;
        let here = tempfile::tempdir().expect("a directory");
        let out = here.path().join("out");
        let report = fetch(&repository, &snapshot, fixture.identities(), &out, &fixture.context);
        let report = report.await.expect("fetched");
        for (member, content) in &fixture.members {
            assert_eq!(&fs::read(out.join(member.as_str())).expect("there"), content, "{member}");
        }
        assert_eq!(report.files, fixture.members.len() as u64 + 3);
        assert_eq!(fs::read_dir(&out).expect("listed").count() as u64, report.files);
        let mut toc = io::BufReader::new(fs::File::open(out.join(TOC_FILE)).expect("there"));
        assert_eq!(Archive::read_directory(&mut toc).expect("an archive"), fixture.archive);
    }

    #[tokio::test]
    async fn nothing_is_left_of_a_fetch_that_fails() {
        let fixture = Fixture::new();
        let here = tempfile::tempdir().expect("a directory");
        let out = here.path().join("out");
        let (repository, snapshot) = fixture.open(Arc::new(fixture.store())).await;
        let stranger = fetch(&repository, &snapshot, fixture.strangers(), &out, &fixture.context);
        assert_eq!(stranger.await.expect_err("a stranger").kind(), ErrorKind::Denied);
        let mut store = Broken::new(fixture.store());
        store.damaged = Some(fixture.inventory.segments[2].key.clone());
        let (repository, snapshot) = fixture.open(Arc::new(store)).await;
        let damaged = fetch(&repository, &snapshot, fixture.identities(), &out, &fixture.context);
        assert_eq!(damaged.await.expect_err("damage").kind(), ErrorKind::Corrupt);
        assert_eq!(fs::read_dir(here.path()).expect("listed").count(), 0);
    }

    #[tokio::test]
    async fn cancelled_fetch_leaves_nothing() {
        let fixture = Fixture::new();
        let (repository, snapshot) = fixture.open(Arc::new(fixture.store())).await;
        fixture.context.cancel.cancel();
        let here = tempfile::tempdir().expect("a directory");
        let out = here.path().join("out");
        let sealed = fetch_sealed(&repository, &snapshot, &out, &fixture.context).await;
        if sealed.is_err() {
            assert_eq!(fs::read_dir(here.path()).expect("listed").count(), 0);
        }
    }

    #[tokio::test]
    async fn sealed_copy_is_a_repository() {
        let fixture = Fixture::new();
        let (repository, snapshot) = fixture.open(Arc::new(fixture.store())).await;
        let here = tempfile::tempdir().expect("a directory");
        let drawer = here.path().join("drawer");
        let report = fetch_sealed(&repository, &snapshot, &drawer, &fixture.context).await;
        // Genesis, manifest, inventory, and the list.
        let files = fixture.inventory.segments.len() as u64 + 4;
        assert_eq!(report.expect("copied").files, files);
        let copy = DirectoryStore::open(&drawer, Arc::new(SystemClock)).expect("a copy");
        let (repository, snapshot) = fixture.open(Arc::new(copy)).await;
        let verified = verify(&repository, &snapshot, true, &fixture.context).await;
        assert_eq!(verified.expect("verified").problems, []);
        assert_eq!(list(&repository, &fixture.context).await.expect("listed").snapshots.len(), 1);
        let out = here.path().join("out");
        let fetched = fetch(&repository, &snapshot, fixture.identities(), &out, &fixture.context);
        assert_eq!(fetched.await.expect("fetched").files, fixture.members.len() as u64 + 3);
    }
}
