//! The workers: each reads the tables it holds the locks of, in the order of its plan, and stores what it reads.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use stonekeep_format::{
    archive::COPY_TAIL,
    digest::{LargeObjectDigest, RowDigest, RowDigestKey, RowDigester},
    slicer::{CutKey, CutRule, PageRange},
};
use stonekeep_postgres::source::{Dump, DumpError, SourceTable, Unit, Worker};
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
    pub(super) tables: Vec<SourceTable>,
    pub(super) key: RowDigestKey,
    cut_key: CutKey,
    pub(super) budget: Budget,
    pub(super) context: Context,
}

/// What one worker has done.
#[derive(Debug, Default)]
struct Done {
    segments: Vec<(Slot, Copies)>,
    rows: Vec<(usize, RowDigest)>,
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
        tables: dump.tables.clone(),
        key: RowDigestKey::from_bytes(rand::random()),
        cut_key: CutKey::derive(&plan.signer.derive_secret(CUT_CONTEXT)),
        budget: Budget::new(plan.memory_budget_bytes),
        context: context.clone(),
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
                let rows = copied.rows.entry(table).or_default();
                *rows = rows.merge(digest);
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
    Ok(copied)
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
        let Part { table: index, pages, last } = part;
        let table = &self.tables[index];
        self.context.tell(Event::TableStarted { table: table.display_name() });
        let reads: Vec<Option<PageRange>> =
            pages.map_or_else(|| vec![None], |pages| pages.into_iter().map(Some).collect());
        let last_read = reads.len().saturating_sub(1);
        let mut total = RowDigest::default();
        for (at, read) in reads.into_iter().enumerate() {
            let ends_member = last && at == last_read;
            total = total.merge(self.slices(worker, index, read, ends_member, uploads).await?);
        }
        done.rows.push((index, total));
        let event =
            Event::TableDone { table: table.display_name(), rows: total.rows, bytes: total.bytes };
        self.context.tell(event);
        Ok(())
    }

    /// One COPY, cut into slices.
    async fn slices(
        &self,
        worker: &mut Worker,
        index: usize,
        read: Option<PageRange>,
        ends_member: bool,
        uploads: &mut Uploads,
    ) -> Result<RowDigest, BackupError> {
        let table = &self.tables[index];
        let page = read.map_or(0, |range| range.start);
        let target = Target { table: index, member: table.member.clone(), page };
        let rule = match read {
            Some(_) => CutRule::AtMost,
            None => CutRule::ByContent(self.cut_key.clone()),
        };
        let bytes_max = table.slice_bytes_max();
        let mut slicer =
            Slicer::new(target, (rule, bytes_max), &self.key, &self.budget, &self.context);
        slicer.begin().await;
        let mut rows = worker.copy_rows(table, read).await.map_err(|error| self.failed(error))?;
        loop {
            match rows.next().await {
                Ok(Some(line)) => slicer.row(&line, uploads).await?,
                Ok(None) => break,
                Err(error) => return Err(self.failed(worker.explain(table, error).await)),
            }
        }
        let mut sliced = slicer.finish();
        if ends_member {
            sliced.end_member();
        }
        sliced.put(uploads)
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
            loop {
                if let Some((content, digest)) = self.whole(worker, table, packer.room()).await? {
                    packer.append_table(index, &table.member, &content)?;
                    self.note(table, index, digest, done);
                    break;
                }
                let was_empty = packer.is_empty();
                packer.put(Slot::Tables, uploads)?;
                if was_empty {
                    let digest = self.slices(worker, index, None, true, uploads).await?;
                    self.note(table, index, digest, done);
                    packer = Packer::begin(&self.budget).await;
                    break;
                }
                packer = Packer::begin(&self.budget).await;
            }
        }
        packer.put(Slot::Tables, uploads)
    }

    fn note(&self, table: &SourceTable, index: usize, digest: RowDigest, done: &mut Done) {
        done.rows.push((index, digest));
        let RowDigest { rows, bytes, .. } = digest;
        self.context.tell(Event::Progress { bytes, rows });
        self.context.tell(Event::TableDone { table: table.display_name(), rows, bytes });
    }

    /// Reads a whole table, tail included, if it is at most `room` bytes long. A longer one is read to its end and forgotten,
    /// so that the connection is free again.
    async fn whole(
        &self,
        worker: &mut Worker,
        table: &SourceTable,
        room: u64,
    ) -> Result<Option<(Vec<u8>, RowDigest)>, BackupError> {
        let mut digester = RowDigester::new(&self.key);
        let mut content = Vec::new();
        let mut fits = true;
        let mut rows = worker.copy_rows(table, None).await.map_err(|error| self.failed(error))?;
        loop {
            let line = match rows.next().await {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => return Err(self.failed(worker.explain(table, error).await)),
            };
            fits = fits && (content.len() + line.len() + COPY_TAIL.len()) as u64 <= room;
            if fits {
                content.extend_from_slice(&line);
                digester.add(&line);
            }
        }
        content.extend_from_slice(COPY_TAIL);
        Ok(fits.then(|| (content, digester.finish())))
    }
}
