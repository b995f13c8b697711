//! The workers: each reads the tables it holds the locks of, in the order of its plan, and stores what it reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use stonekeep_format::{
    archive::{Ends, RowFormat},
    digest::{LargeObjectDigest, RowDigest, RowDigestKey, RowDigester},
    slicer::{CutKey, CutRule, PageRange},
};
use stonekeep_postgres::{
    rows::Rows,
    source::{Dump, DumpError, SourceTable, Unit, Worker},
};
use tokio::task::JoinSet;

use super::{
    large_objects,
    members::{Packer, Slicer, Target},
    upload::{Slot, Uploads},
};
use crate::{
    Context,
    budget::Budget,
    events::Event,
    run::{BackupError, Copies, RUNNING, Run},
};

/// How often what was stored is recorded although it is little (5 min).
const RECORD_INTERVAL: Duration = Duration::from_secs(300);

const CUT_CONTEXT: &str = "stonekeep 2026-11-21 cut points v1";

/// What the workers have stored, and everything of the dump that the catalog needs.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) digest_key: RowDigestKey,
    pub(super) segments: BTreeMap<Slot, Copies>,
    pub(super) rows: BTreeMap<usize, RowDigest>,
    pub(super) large_objects: LargeObjectDigest,
    pub(super) dump: Dump,
}

/// What all workers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) label: stonekeep_format::ids::Label,
    in_recovery: bool,
    pub(super) tables: Vec<SourceTable>,
    pub(super) key: RowDigestKey,
    cut_key: CutKey,
    pub(super) budget: Budget,
    pub(super) context: Context,
    /// The tables that a worker has begun to read in binary, whole, since a row of theirs is too long for text.
    turned: Mutex<BTreeSet<usize>>,
}

/// What one worker has done.
#[derive(Debug, Default)]
struct Done {
    segments: Vec<(Slot, Copies)>,
    rows: Vec<((usize, RowFormat), RowDigest)>,
    large_objects: LargeObjectDigest,
}

/// Runs the dump's workers to their end, and gives production's snapshot and locks back. The first failure ends all. What was
/// stored is recorded on the way.
pub(super) async fn copy(
    run: &Run,
    mut dump: Dump,
    context: &Context,
) -> Result<Copied, BackupError> {
    let plan = run.plan();
    let shared = Arc::new(Shared {
        label: plan.label.clone(),
        in_recovery: dump.info.in_recovery,
        tables: dump.tables.clone(),
        key: RowDigestKey::from_bytes(rand::random()),
        cut_key: CutKey::derive(&plan.signer.derive_secret(CUT_CONTEXT)),
        budget: Budget::new(plan.memory_budget_bytes),
        context: context.clone(),
        turned: Mutex::default(),
    });
    let mut running = JoinSet::new();
    for worker in std::mem::take(&mut dump.workers) {
        running.spawn(work(worker, Arc::clone(&shared), Uploads::new(run.clone())));
    }
    let mut copied = Copied {
        digest_key: shared.key.clone(),
        segments: BTreeMap::new(),
        rows: BTreeMap::new(),
        large_objects: LargeObjectDigest::default(),
        dump,
    };
    let mut rows: BTreeMap<(usize, RowFormat), RowDigest> = BTreeMap::new();
    let recording = async {
        // Never ends.
        loop {
            context.clock.sleep(RECORD_INTERVAL).await;
            run.record(RUNNING).await;
        }
    };
    let all_done = async {
        while let Some(done) = running.join_next().await {
            let done = done.map_err(BackupError::Task)??;
            copied.segments.extend(done.segments);
            for (table, digest) in done.rows {
                let sum = rows.entry(table).or_default();
                *sum = sum.merge(digest);
            }
            copied.large_objects = copied.large_objects.merge(done.large_objects);
        }
        copied.dump.finish().await.map_err(|error| shared.failed(error))
    };
    tokio::select! {
        done = all_done => done?,
        lost = copied.dump.lost() => return Err(shared.failed(lost)),
        never = recording => never,
    }
    for table in shared.turned() {
        copied.dump.tables[table].format = RowFormat::Binary;
    }
    copied.keep_formats(rows)?;
    Ok(copied)
}

impl Copied {
    /// Keeps, of a table that was turned to binary on the way, what was read in binary; and has the table of contents say so
    /// of every table that is in binary.
    fn keep_formats(
        &mut self,
        rows: BTreeMap<(usize, RowFormat), RowDigest>,
    ) -> Result<(), BackupError> {
        let Dump { tables, archive, .. } = &mut self.dump;
        self.segments.retain(|slot, _| match slot {
            Slot::Table { table, format, .. } => *format == tables[*table].format,
            _ => true,
        });
        let kept = rows.into_iter().filter(|((table, format), _)| *format == tables[*table].format);
        self.rows = kept.map(|((table, _), digest)| (table, digest)).collect();
        let is_binary = |table: &&SourceTable| table.format == RowFormat::Binary;
        let binary: BTreeSet<i32> =
            tables.iter().filter(is_binary).map(|table| table.dump_id).collect();
        let failed = |error| BackupError::Internal(format!("cannot write toc.dat: {error}"));
        let entries = archive.entries.iter_mut();
        entries
            .filter(|entry| binary.contains(&entry.dump_id))
            .try_for_each(|entry| entry.load_in_binary().map_err(failed))
    }
}

async fn work(
    mut worker: Worker,
    shared: Arc<Shared>,
    mut uploads: Uploads,
) -> Result<Done, BackupError> {
    let mut done = Done::default();
    for unit in std::mem::take(&mut worker.units) {
        match unit {
            Unit::Table { table, pages, last } => {
                let part = Part { table, pages, last };
                shared.table(&mut worker, part, &mut uploads, &mut done).await?;
            }
            Unit::Pack { tables } => {
                shared.pack(&mut worker, &tables, &mut uploads, &mut done).await?;
            }
            Unit::LargeObjects { objects } => {
                let digest =
                    large_objects::pack(&shared, &mut worker, &objects, &mut uploads).await?;
                done.large_objects = done.large_objects.merge(digest);
            }
            Unit::LargeObject { object } => {
                let digest =
                    large_objects::slice(&shared, &mut worker, object, &mut uploads).await?;
                done.large_objects = done.large_objects.merge(digest);
            }
        }
    }
    worker.finish().await.map_err(|error| shared.failed(error))?;
    done.segments = uploads.finish().await?;
    Ok(done)
}

/// A table, or the region of it that one worker reads.
#[derive(Debug)]
struct Part {
    table: usize,
    pages: Option<Vec<PageRange>>,
    last: bool,
}

impl Shared {
    pub(super) fn failed(&self, source: DumpError) -> BackupError {
        let source = if self.in_recovery { source.on_standby() } else { source };
        BackupError::Source { label: self.label.clone(), source }
    }

    /// Stores a table, or the part of it that this worker was given, as slices.
    async fn table(
        &self,
        worker: &mut Worker,
        part: Part,
        uploads: &mut Uploads,
        done: &mut Done,
    ) -> Result<(), BackupError> {
        let index = part.table;
        let table = &self.tables[index];
        self.context.tell(Event::TableStarted { table: table.display_name() });
        let (format, digest) = match self.part(worker, &part, table.format, uploads).await {
            Ok(digest) => (table.format, digest),
            Err(error) => {
                let pages = part.pages.map(|_| table.ranges());
                let whole = Part { table: index, pages, last: true };
                match self.in_binary(worker, &whole, error, uploads).await? {
                    Some(digest) => (RowFormat::Binary, digest),
                    None => return Ok(()),
                }
            }
        };
        self.note((index, format), digest, done);
        Ok(())
    }

    /// Reads the ranges of a part, one COPY each.
    async fn part(
        &self,
        worker: &mut Worker,
        part: &Part,
        format: RowFormat,
        uploads: &mut Uploads,
    ) -> Result<RowDigest, BackupError> {
        let reads: Vec<Option<PageRange>> = match &part.pages {
            None => vec![None],
            Some(pages) => pages.iter().copied().map(Some).collect(),
        };
        let last_read = reads.len().saturating_sub(1);
        let mut total = RowDigest::default();
        for (at, read) in reads.into_iter().enumerate() {
            let page = read.map_or(0, |range| range.start);
            let ends = Ends { first: page == 0, last: part.last && at == last_read };
            let member = self.tables[part.table].member.clone();
            let target = Target { table: part.table, member, format, page, ends };
            total = total.merge(self.slices(worker, target, read, uploads).await?);
        }
        Ok(total)
    }

    /// After a COPY of a table in text was refused for the length of a row: reads the whole table in binary, which is half as
    /// long. None if another worker, which has met such a row in its own part of the table, does so.
    async fn in_binary(
        &self,
        worker: &mut Worker,
        whole: &Part,
        refused: BackupError,
        uploads: &mut Uploads,
    ) -> Result<Option<RowDigest>, BackupError> {
        let table = &self.tables[whole.table];
        let source = match refused {
            BackupError::Source { source, .. } if source.is_too_long() => source,
            other => return Err(other),
        };
        worker.turn_to_binary(table, source).await.map_err(|error| self.failed(error))?;
        let is_first =
            self.turned.lock().unwrap_or_else(PoisonError::into_inner).insert(whole.table);
        if !is_first {
            return Ok(None);
        }
        let name = table.display_name();
        self.context.warn(format!(
            "a row of {name} has no text of less than 1 GB: the table is stored in binary"
        ));
        self.part(worker, whole, RowFormat::Binary, uploads).await.map(Some)
    }

    fn turned(&self) -> BTreeSet<usize> {
        self.turned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One COPY, cut into slices.
    async fn slices(
        &self,
        worker: &mut Worker,
        target: Target,
        read: Option<PageRange>,
        uploads: &mut Uploads,
    ) -> Result<RowDigest, BackupError> {
        let table = &self.tables[target.table];
        let format = target.format;
        let rule = match read {
            Some(_) => CutRule::AtMost,
            None => CutRule::ByContent(self.cut_key.clone()),
        };
        let bytes_max = table.slice_bytes_max();
        let mut slicer =
            Slicer::new(target, (rule, bytes_max), &self.key, &self.budget, &self.context);
        slicer.begin().await;
        let mut rows = self.rows(worker, table, read, format).await?;
        while let Some(row) = self.next(worker, table, format, &mut rows).await? {
            slicer.row(&row, uploads).await?;
        }
        slicer.finish().put(uploads)
    }

    async fn rows(
        &self,
        worker: &mut Worker,
        table: &SourceTable,
        read: Option<PageRange>,
        format: RowFormat,
    ) -> Result<Rows, BackupError> {
        worker.copy_rows(table, read, format).await.map_err(|error| self.failed(error))
    }

    /// Returns the next row. One that is too long even in binary is named.
    async fn next(
        &self,
        worker: &mut Worker,
        table: &SourceTable,
        format: RowFormat,
        rows: &mut Rows,
    ) -> Result<Option<Bytes>, BackupError> {
        let error = match rows.next().await {
            Ok(row) => return Ok(row),
            Err(error) => DumpError::from(error),
        };
        if format == RowFormat::Binary && error.is_too_long() {
            let why = "there, too, the row is longer than 1 GB".to_owned();
            return Err(self.failed(worker.too_large(table, error, why).await));
        }
        Err(self.failed(error))
    }

    /// Stores a group of small tables as one pack, as a rule; a table that turns out larger than its pages promised is read
    /// again, into the next pack or into slices.
    async fn pack(
        &self,
        worker: &mut Worker,
        tables: &[usize],
        uploads: &mut Uploads,
        done: &mut Done,
    ) -> Result<(), BackupError> {
        let mut packer = Packer::begin(&self.budget).await;
        for &index in tables {
            let table = &self.tables[index];
            self.context.tell(Event::TableStarted { table: table.display_name() });
            let whole = Part { table: index, pages: None, last: true };
            loop {
                let read = match self.whole(worker, table, packer.room()).await {
                    Ok(read) => read,
                    Err(error) => {
                        // What is large as text may be small as it is stored. The pack gives its budget back first.
                        packer.put(Slot::Tables, uploads)?;
                        let digest = self.in_binary(worker, &whole, error, uploads).await?;
                        let read = digest.map(|digest| ((index, RowFormat::Binary), digest));
                        read.into_iter().for_each(|(table, digest)| self.note(table, digest, done));
                        packer = Packer::begin(&self.budget).await;
                        break;
                    }
                };
                if let Some((content, digest)) = read {
                    packer.append_table(index, &table.member, &content)?;
                    let RowDigest { rows, bytes, .. } = digest;
                    self.context.tell(Event::Progress { bytes, rows });
                    self.note((index, table.format), digest, done);
                    break;
                }
                let was_empty = packer.is_empty();
                packer.put(Slot::Tables, uploads)?;
                if was_empty {
                    let digest = self.part(worker, &whole, table.format, uploads).await?;
                    self.note((index, table.format), digest, done);
                    packer = Packer::begin(&self.budget).await;
                    break;
                }
                packer = Packer::begin(&self.budget).await;
            }
        }
        packer.put(Slot::Tables, uploads)
    }

    fn note(&self, table: (usize, RowFormat), digest: RowDigest, done: &mut Done) {
        done.rows.push((table, digest));
        let (table, RowDigest { rows, bytes, .. }) = (self.tables[table.0].display_name(), digest);
        self.context.tell(Event::TableDone { table, rows, bytes });
    }

    /// Reads a whole table, both ends of its member included, if it is at most `room` bytes long. A longer one is read to its
    /// end and forgotten, so that the connection is free again.
    async fn whole(
        &self,
        worker: &mut Worker,
        table: &SourceTable,
        room: u64,
    ) -> Result<Option<(Vec<u8>, RowDigest)>, BackupError> {
        let format = table.format;
        let mut digester = RowDigester::new(&self.key);
        let mut content = format.head().to_vec();
        let mut fits = true;
        let mut rows = self.rows(worker, table, None, format).await?;
        while let Some(row) = self.next(worker, table, format, &mut rows).await? {
            fits = fits && (content.len() + row.len() + format.tail().len()) as u64 <= room;
            if fits {
                content.extend_from_slice(&row);
                digester.add(&row);
            }
        }
        content.extend_from_slice(format.tail());
        Ok(fits.then(|| (content, digester.finish())))
    }
}
