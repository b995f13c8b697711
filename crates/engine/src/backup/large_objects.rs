//! Large objects: small ones in packs, large ones in slices of their own.

use stonekeep_format::{
    archive::{
        Archive, Entry, large_object_member, large_objects_toc_line, large_objects_toc_member,
    },
    digest::{ContentDigester, LargeObjectDigest},
    ids::MemberName,
    inventory::SegmentKind,
    slicer::SLICE_BYTES_MAX,
};
use stonekeep_postgres::source::{LargeObject, LargeObjectPages, Worker};

use super::{
    copy::Shared,
    members::{Packer, room},
    upload::{Slot, Uploads},
};
use crate::{
    events::Event,
    run::{BackupError, Held, Piece},
};

/// Stores a group of small large objects as a pack.
pub(super) async fn pack(
    shared: &Shared,
    worker: &mut Worker,
    objects: &[LargeObject],
    uploads: &mut Uploads,
) -> Result<LargeObjectDigest, BackupError> {
    let Some(&LargeObject { oid: first_oid, .. }) = objects.first() else {
        return Ok(LargeObjectDigest::default());
    };
    let mut packer = Packer::begin(&shared.budget).await;
    let mut pages =
        worker.large_object_pages(objects).await.map_err(|error| shared.failed(error))?;
    let mut page = pages.next().await.map_err(|error| shared.failed(error))?;
    let mut total = LargeObjectDigest::default();
    for &LargeObject { oid, bytes } in objects {
        let mut content = Vec::new();
        while let Some((_, at, data)) = page.take_if(|(of, ..)| *of == oid) {
            place(&mut content, at, &data, bytes).ok_or_else(|| not_as_said(oid))?;
            page = pages.next().await.map_err(|error| shared.failed(error))?;
        }
        check_length(oid, bytes, content.len() as u64)?;
        let mut digester = ContentDigester::new(&shared.key, oid);
        digester.add(&content);
        total = total.merge(digester.finish());
        packer.append(&large_object_member(oid), &content)?;
    }
    if page.is_some() {
        return Err(BackupError::Internal("large objects came that were not asked for".to_owned()));
    }
    shared.context.tell(Event::Progress { bytes: total.bytes, rows: 0 });
    packer.put(|_| Slot::LargeObjects { first_oid }, uploads)?;
    Ok(total)
}

/// Pages that were never written read as zeros.
fn place(content: &mut Vec<u8>, at: u64, data: &[u8], bytes: u64) -> Option<()> {
    let end = at.checked_add(data.len() as u64).filter(|end| *end <= bytes)?;
    content.resize(usize::try_from(at).ok()?, 0);
    content.extend_from_slice(data);
    (content.len() as u64 == end).then_some(())
}

fn check_length(oid: u32, wanted: u64, found: u64) -> Result<(), BackupError> {
    if found == wanted { Ok(()) } else { Err(not_as_said(oid)) }
}

fn not_as_said(oid: u32) -> BackupError {
    let what = format!("the pages of large object {oid} are not as long as the snapshot said");
    BackupError::Incomplete { what }
}

/// Stores one large object as slices.
pub(super) async fn slice(
    shared: &Shared,
    worker: &mut Worker,
    object: LargeObject,
    uploads: &mut Uploads,
) -> Result<LargeObjectDigest, BackupError> {
    let oid = object.oid;
    shared.context.tell(Event::TableStarted { table: format!("large object {oid}") });
    let mut slices = Slices {
        oid,
        cut: 0,
        buffer: Vec::new(),
        digester: ContentDigester::new(&shared.key, oid),
    };
    let mut held = Some(shared.budget.hold(room(SLICE_BYTES_MAX)).await);
    let mut pages: LargeObjectPages =
        worker.large_object_pages(&[object]).await.map_err(|error| shared.failed(error))?;
    let mut length = 0;
    while let Some((_, at, data)) = pages.next().await.map_err(|error| shared.failed(error))? {
        let end = at + data.len() as u64;
        while length < end {
            let from_hole = length < at;
            let room_left = (SLICE_BYTES_MAX - slices.buffer.len()) as u64;
            let step = room_left.min(if from_hole { at - length } else { end - length });
            let count = usize::try_from(step).unwrap_or(SLICE_BYTES_MAX);
            if from_hole {
                slices.buffer.resize(slices.buffer.len() + count, 0);
            } else {
                let from = usize::try_from(length - at).unwrap_or(0);
                slices.buffer.extend_from_slice(&data[from..from + count]);
            }
            length += step;
            if slices.buffer.len() == SLICE_BYTES_MAX {
                slices.put(held.take(), uploads)?;
                held = Some(shared.budget.hold(room(SLICE_BYTES_MAX)).await);
            }
        }
    }
    if !slices.buffer.is_empty() || slices.cut == 0 {
        slices.put(held.take(), uploads)?;
    }
    check_length(oid, object.bytes, length)?;
    shared.context.tell(Event::Progress { bytes: length, rows: 0 });
    Ok(slices.digester.finish())
}

struct Slices {
    oid: u32,
    cut: u32,
    buffer: Vec<u8>,
    digester: ContentDigester,
}

impl Slices {
    fn put(&mut self, held: Option<Held>, uploads: &mut Uploads) -> Result<(), BackupError> {
        let plaintext = std::mem::take(&mut self.buffer);
        self.digester.add(&plaintext);
        let slot = Slot::LargeObject { oid: self.oid, cut: self.cut };
        self.cut += 1;
        let member = Some(large_object_member(self.oid));
        uploads.begin(slot, Piece { kind: SegmentKind::Rows, member, plaintext, held })
    }
}

/// Returns the archive's lists of large objects, which pg_restore opens them by: one `blobs.toc`, or from archive 1.16 on one
/// for each BLOBS entry, with the objects of the BLOB METADATA entry that it depends on.
pub(super) fn lists(
    archive: &Archive,
    objects: &[LargeObject],
) -> Result<Vec<(MemberName, Vec<u8>)>, BackupError> {
    let entries: Vec<&Entry> =
        archive.entries.iter().filter(|entry| entry.is_large_objects()).collect();
    let all: Vec<u32> = objects.iter().map(|object| object.oid).collect();
    let several = entries.len() > 1;
    let list = |entry: &&Entry| {
        let oids = if several { oids_of(archive, entry)? } else { all.clone() };
        let lines: String = oids.into_iter().map(large_objects_toc_line).collect();
        let member = large_objects_toc_member(archive.header.version, entry.dump_id);
        Ok((member, lines.into_bytes()))
    };
    entries.iter().map(list).collect()
}

fn oids_of(archive: &Archive, entry: &Entry) -> Result<Vec<u32>, BackupError> {
    let mut needed =
        archive.entries.iter().filter(|other| entry.dependencies.contains(&other.dump_id));
    let listed = needed.find_map(|other| other.large_objects().transpose());
    match listed {
        Some(Ok(oids)) => Ok(oids),
        Some(Err(error)) => Err(BackupError::Incomplete { what: error.to_string() }),
        None => Err(BackupError::Incomplete {
            what: format!("entry {} does not say which large objects it holds", entry.dump_id),
        }),
    }
}
