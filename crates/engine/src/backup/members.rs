//! From rows to the pieces of members: slices cut at row ends, small members gathered in packs.

use stonekeep_format::{
    archive::{Ends, RowFormat},
    digest::{RowDigest, RowDigestKey, RowDigester},
    ids::MemberName,
    inventory::SegmentKind,
    pack::{PACK_BYTES_MAX, PackWriter, packed_bytes},
    slicer::{CutRule, Cutter},
};

use super::upload::{Slot, Uploads};
use crate::{
    Context,
    budget::Budget,
    events::Event,
    run::{BackupError, Held, Piece},
};

/// Rows between two progress events: some 10 ms of work.
const PROGRESS_ROWS: u64 = 16_384;

/// Cuts the lines of one read (a range of pages, or a whole table) into slices and hands each to the uploads.
#[derive(Debug)]
pub(super) struct Slicer<'a> {
    target: Target,
    budget: &'a Budget,
    context: &'a Context,
    cutter: Cutter,
    bytes_max: usize,
    digester: RowDigester,
    buffer: Vec<u8>,
    held: Option<Held>,
    cut: u32,
    untold: (u64, u64),
}

/// Whose rows they are.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) table: usize,
    pub(super) member: MemberName,
    pub(super) format: RowFormat,
    /// The first page of the range.
    pub(super) page: u32,
    /// Which ends of the member the range has.
    pub(super) ends: Ends,
}

/// How a read of rows ended.
#[derive(Debug)]
pub(super) struct Sliced {
    pub(super) digest: RowDigest,
    /// What was not handed on: the last slice, and the budget it holds.
    rest: Vec<u8>,
    held: Option<Held>,
    target: Target,
    cut: u32,
}

impl<'a> Slicer<'a> {
    pub(super) fn new(
        target: Target,
        (rule, bytes_max): (CutRule, usize),
        key: &RowDigestKey,
        budget: &'a Budget,
        context: &'a Context,
    ) -> Self {
        let head = target.head();
        Self {
            budget,
            context,
            cutter: Cutter::new(rule, bytes_max - head.len()),
            bytes_max,
            digester: RowDigester::new(key),
            buffer: head.to_vec(),
            target,
            held: None,
            cut: 0,
            untold: (0, 0),
        }
    }

    /// Waits for the budget of the first slice, before the server is asked for rows.
    pub(super) async fn begin(&mut self) {
        self.held = Some(self.budget.hold(room(self.bytes_max)).await);
    }

    /// Takes one row: its line with the newline.
    pub(super) async fn row(
        &mut self,
        line: &[u8],
        uploads: &mut Uploads,
    ) -> Result<(), BackupError> {
        if self.cutter.begins_slice(line) {
            self.hand_on(uploads)?;
        }
        if self.needs_room(line) {
            self.make_room(line).await;
        }
        self.buffer.extend_from_slice(line);
        self.digester.add(line);
        self.count(line);
        Ok(())
    }

    /// Ends the read. What is left over is for [`Sliced::put`].
    pub(super) fn finish(mut self) -> Sliced {
        self.tell();
        if self.target.ends.last {
            self.buffer.extend_from_slice(self.target.format.tail());
        }
        Sliced {
            digest: self.digester.finish(),
            rest: self.buffer,
            held: self.held,
            target: self.target,
            cut: self.cut,
        }
    }

    fn hand_on(&mut self, uploads: &mut Uploads) -> Result<(), BackupError> {
        let plaintext = std::mem::take(&mut self.buffer);
        let slot = self.target.slot(self.cut);
        self.cut += 1;
        uploads.begin(slot, self.target.piece(plaintext, self.held.take()))
    }

    fn needs_room(&self, line: &[u8]) -> bool {
        self.held.is_none() || self.buffer.len() + line.len() > self.bytes_max
    }

    /// Waits for the budget of a slice, or for that of a row that is larger than any slice and so stands alone.
    async fn make_room(&mut self, line: &[u8]) {
        let format = self.target.format;
        let bytes = self.bytes_max.max(format.head().len() + line.len() + format.tail().len());
        if bytes > self.bytes_max {
            let megabytes = line.len() >> 20;
            self.context
                .warn(format!("a row of {megabytes} MiB in {} is taken alone", self.target.member));
        }
        self.held = None;
        self.held = Some(self.budget.hold(room(bytes)).await);
    }

    fn count(&mut self, line: &[u8]) {
        self.untold.0 += line.len() as u64;
        self.untold.1 += 1;
        if self.untold.1 >= PROGRESS_ROWS {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let (bytes, rows) = std::mem::take(&mut self.untold);
        if rows > 0 {
            self.context.tell(Event::Progress { bytes, rows });
        }
    }
}

/// What cannot be compressed is as long sealed as open, and both are in memory while it is sealed.
pub(super) const fn room(plain_bytes: usize) -> u64 {
    2 * plain_bytes as u64
}

impl Target {
    const fn slot(&self, cut: u32) -> Slot {
        Slot::Table { table: self.table, format: self.format, page: self.page, cut }
    }

    const fn head(&self) -> &'static [u8] {
        if self.ends.first { self.format.head() } else { b"" }
    }

    fn piece(&self, plaintext: Vec<u8>, mut held: Option<Held>) -> Piece {
        if let Some(held) = &mut held {
            held.shrink(room(plaintext.len()));
        }
        Piece { kind: SegmentKind::Rows, member: Some(self.member.clone()), plaintext, held }
    }
}

impl Sliced {
    /// Hands on the last slice; an empty one, of pages without rows, is none.
    pub(super) fn put(self, uploads: &mut Uploads) -> Result<RowDigest, BackupError> {
        if !self.rest.is_empty() {
            let piece = self.target.piece(self.rest, self.held);
            uploads.begin(self.target.slot(self.cut), piece)?;
        }
        Ok(self.digest)
    }
}

/// Gathers whole small members of one group into a pack. It holds budget for the pack and for what sealing makes of it,
/// which also covers the member that is being read, for that is never larger than the room that is left.
#[derive(Debug)]
pub(super) struct Packer {
    writer: PackWriter<Vec<u8>>,
    bytes: u64,
    held: Held,
    tables: Vec<usize>,
}

impl Packer {
    pub(super) async fn begin(budget: &Budget) -> Self {
        let held = budget.hold(2 * PACK_BYTES_MAX).await;
        Self {
            writer: PackWriter::new(Vec::new()),
            bytes: PACK_END_BYTES,
            held,
            tables: Vec::new(),
        }
    }

    /// Returns how long a member may be that is still to go in.
    pub(super) const fn room(&self) -> u64 {
        PACK_BYTES_MAX.saturating_sub(self.bytes + packed_bytes(0) + PACK_END_BYTES)
    }

    /// Whether there is nothing in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes == PACK_END_BYTES
    }

    /// Appends the whole member of a table.
    pub(super) fn append_table(
        &mut self,
        table: usize,
        member: &MemberName,
        content: &[u8],
    ) -> Result<(), BackupError> {
        self.tables.push(table);
        self.append(member, content)
    }

    /// Appends a whole member.
    pub(super) fn append(
        &mut self,
        member: &MemberName,
        content: &[u8],
    ) -> Result<(), BackupError> {
        self.bytes += packed_bytes(content.len() as u64);
        let failed = |error| BackupError::Internal(format!("cannot pack {member}: {error}"));
        self.writer.append(member, content).map_err(failed)
    }

    /// Hands the pack on; an empty one is none. `slot` gets the tables that are in it.
    pub(super) fn put(
        self,
        slot: impl FnOnce(Vec<usize>) -> Slot,
        uploads: &mut Uploads,
    ) -> Result<(), BackupError> {
        if self.is_empty() {
            return Ok(());
        }
        let failed = |error| BackupError::Internal(format!("cannot end a pack: {error}"));
        let plaintext = self.writer.finish().map_err(failed)?;
        let mut held = self.held;
        held.shrink(room(plaintext.len()));
        let piece = Piece { kind: SegmentKind::Pack, member: None, plaintext, held: Some(held) };
        uploads.begin(slot(self.tables), piece)
    }
}

/// The two empty blocks that end a tar.
const PACK_END_BYTES: u64 = 1024;
