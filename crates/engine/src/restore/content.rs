//! Rows and large objects into the target: opened segments on one side, one connection per worker on the other.
//!
//! Every segment is verified before a byte of it is sent. Each slice is a COPY of its own, so several workers load one large
//! table together and a failure leaves whole slices. A worker that fails stops all others; nothing is retried here, since a
//! slice whose COPY was answered by silence may be in.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{
        Arc, Mutex as Lock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, pin_mut};
use stonekeep_format::{archive::Ends, ids::MemberName, inventory::Segment, pack::read_pack};
use stonekeep_postgres::load::{
    CopyStatement, LARGE_OBJECT_WRITE_BYTES_MAX, LoadError, Loader, rows_of_slice,
};
use tokio::{sync::Mutex, task::JoinSet};

use super::{
    RestoreError,
    plan::{Job, LoadPlan, LoadTable},
};
use crate::{
    Context,
    events::Event,
    segments::{Opened, SegmentError, SegmentReader},
};

/// Rows are handed to the driver in pieces of this size (256 KiB), which it copies into its own buffer.
const PIECE_BYTES: usize = 256 << 10;

type Queue<T> = Arc<Mutex<Pin<Box<dyn Stream<Item = Result<(T, Opened), SegmentError>> + Send>>>>;

/// Large objects that come in slices, each taken by one worker.
type ObjectQueue = Arc<Lock<VecDeque<(u32, Vec<Segment>)>>>;

/// What all workers share.
#[derive(Debug)]
struct Shared {
    tables: Arc<Vec<LoadTable>>,
    progress: Vec<Loaded>,
    context: Context,
}

/// How much of a table is in.
#[derive(Debug, Default)]
struct Loaded {
    parts: AtomicUsize,
    rows: AtomicU64,
}

/// Loads everything the plan holds, and checks each table's rows, as the server counted them, against the catalog.
///
/// # Errors
/// [`RestoreError`]: part of the rows may be in the target.
pub(super) async fn load_content(
    plan: LoadPlan,
    reader: &SegmentReader,
    mut loaders: Vec<Loader>,
    context: &Context,
) -> Result<Arc<Vec<LoadTable>>, RestoreError> {
    let tables = Arc::new(plan.tables);
    let progress = tables.iter().map(|_| Loaded::default()).collect();
    let shared =
        Arc::new(Shared { tables: Arc::clone(&tables), progress, context: context.clone() });
    for step in plan.steps {
        let queue: Queue<Job> = Arc::new(Mutex::new(Box::pin(reader.in_order(step))));
        loaders = side_by_side(loaders, |loader| {
            table_worker(loader, Arc::clone(&queue), Arc::clone(&shared))
        })
        .await?;
    }
    check_rows(&shared)?;
    let packs = plan.object_packs.into_iter().map(|segment| ((), segment)).collect();
    let queue: Queue<()> = Arc::new(Mutex::new(Box::pin(reader.in_order(packs))));
    loaders = side_by_side(loaders, |loader| {
        pack_worker(loader, Arc::clone(&queue), Arc::clone(&shared))
    })
    .await?;
    let sliced = Arc::new(Lock::new(VecDeque::from(plan.sliced_objects)));
    let worker =
        |loader| object_worker(loader, Arc::clone(&sliced), reader.clone(), Arc::clone(&shared));
    side_by_side(loaders, worker).await?;
    Ok(tables)
}

/// Runs one worker per connection; the first error stops the others.
async fn side_by_side<F>(
    loaders: Vec<Loader>,
    work: impl Fn(Loader) -> F,
) -> Result<Vec<Loader>, RestoreError>
where
    F: Future<Output = Result<Loader, RestoreError>> + Send + 'static,
{
    let mut workers = JoinSet::new();
    for loader in loaders {
        workers.spawn(work(loader));
    }
    let mut back = Vec::new();
    while let Some(done) = workers.join_next().await {
        back.push(done.map_err(RestoreError::Task)??);
    }
    Ok(back)
}

fn check_rows(shared: &Shared) -> Result<(), RestoreError> {
    let loaded = shared.tables.iter().zip(&shared.progress);
    for (table, loaded) in loaded.filter(|(table, _)| !table.kept) {
        let (found, wanted) = (loaded.rows.load(Ordering::Relaxed), table.table.digest.rows);
        if found != wanted {
            return Err(RestoreError::RowCount { table: table.name().to_owned(), found, wanted });
        }
        if table.wanted().is_none() {
            let what = format!("the rows of {} are not those in the catalog", table.table.member);
            return Err(RestoreError::Inconsistent { what });
        }
    }
    Ok(())
}

async fn table_worker(
    mut loader: Loader,
    queue: Queue<Job>,
    shared: Arc<Shared>,
) -> Result<Loader, RestoreError> {
    while let Some((job, opened)) = next(&queue).await? {
        match job {
            Job::Slice { table, ends } => {
                load_rows(&mut loader, &shared, table, opened.bytes(), ends).await?;
            }
            Job::Pack { tables } => {
                load_pack(&mut loader, &shared, &tables, opened.bytes()).await?;
            }
        }
    }
    Ok(loader)
}

async fn next<T>(queue: &Queue<T>) -> Result<Option<(T, Opened)>, SegmentError> {
    queue.lock().await.next().await.transpose()
}

async fn load_pack(
    loader: &mut Loader,
    shared: &Shared,
    tables: &[usize],
    pack: &Bytes,
) -> Result<(), RestoreError> {
    let members = read_pack(pack, pack.len() as u64).map_err(RestoreError::Pack)?;
    let members: HashMap<MemberName, &[u8]> = members.into_iter().collect();
    for at in tables {
        let member = &shared.tables[*at].table.member;
        let content = members.get(member);
        let content = content.ok_or_else(|| RestoreError::Inconsistent {
            what: format!("{member} is not in its pack"),
        })?;
        load_rows(loader, shared, *at, &pack.slice_ref(content), Ends::BOTH).await?;
    }
    Ok(())
}

async fn load_rows(
    loader: &mut Loader,
    shared: &Shared,
    at: usize,
    slice: &Bytes,
    ends: Ends,
) -> Result<(), RestoreError> {
    let (table, progress, context) = (&shared.tables[at], &shared.progress[at], &shared.context);
    let rows = rows_of_slice(slice, ends, &table.statement)?;
    let bytes = rows.len() as u64;
    if progress.parts.fetch_add(1, Ordering::Relaxed) == 0 {
        context.tell(Event::TableStarted { table: table.name().to_owned() });
    }
    if let Some(reordered) = &table.reordered {
        reordered.take(rows.clone()).await.map_err(RestoreError::Task)?;
    }
    let count = match &table.through_root {
        Some(through_root) if table.is_rerouted() => send_rows(loader, through_root, rows).await?,
        Some(through_root) => match send_rows(loader, &table.statement, rows.clone()).await {
            // None of them is kept.
            Err(error) if error.is_check_violation() => {
                let count = send_rows(loader, through_root, rows).await?;
                if table.reroute() {
                    context.warn(format!(
                        "rows of {} belong to other partitions here, as with another encoding or collation: they are loaded through the table it is a partition of",
                        table.name()
                    ));
                }
                count
            }
            sent => sent?,
        },
        None => send_rows(loader, &table.statement, rows).await?,
    };
    let rows = progress.rows.fetch_add(count, Ordering::Relaxed) + count;
    context.tell(Event::Progress { bytes, rows: count });
    if rows == table.table.digest.rows && progress.parts.load(Ordering::Relaxed) == table.parts {
        let (table, bytes) = (table.name().to_owned(), table.table.digest.bytes);
        context.tell(Event::TableDone { table, rows, bytes });
    }
    Ok(())
}

/// One COPY. Returns the number of rows by the server's own count.
async fn send_rows(
    loader: &mut Loader,
    statement: &CopyStatement,
    mut rows: Bytes,
) -> Result<u64, LoadError> {
    let mut copy = loader.copy_in(statement).await?;
    while !rows.is_empty() {
        copy.send(rows.split_to(rows.len().min(PIECE_BYTES))).await?;
    }
    copy.finish().await
}

async fn pack_worker(
    mut loader: Loader,
    queue: Queue<()>,
    shared: Arc<Shared>,
) -> Result<Loader, RestoreError> {
    while let Some(((), opened)) = next(&queue).await? {
        let pack = opened.bytes();
        let members = read_pack(pack, pack.len() as u64).map_err(RestoreError::Pack)?;
        let objects = members
            .into_iter()
            .filter_map(|(member, content)| Some((object_of(&member)?, content)));
        let mut batch: Vec<(u32, Bytes)> = Vec::new();
        let mut batched = 0;
        for (oid, content) in objects {
            if batched + content.len() > LARGE_OBJECT_WRITE_BYTES_MAX && !batch.is_empty() {
                loader.put_large_objects(&std::mem::take(&mut batch)).await?;
                batched = 0;
            }
            shared.context.tell(Event::Progress { bytes: content.len() as u64, rows: 0 });
            if content.len() > LARGE_OBJECT_WRITE_BYTES_MAX {
                put_parts(&mut loader, oid, 0, content).await?;
            } else {
                batched += content.len();
                batch.push((oid, pack.slice_ref(content)));
            }
        }
        if !batch.is_empty() {
            loader.put_large_objects(&batch).await?;
        }
    }
    Ok(loader)
}

/// The OID of `blob_<oid>.dat`; none of any other member.
fn object_of(member: &MemberName) -> Option<u32> {
    member.as_str().strip_prefix("blob_")?.strip_suffix(".dat")?.parse().ok()
}

/// The slices of one large object are written one after the other: two writers could meet in one page.
async fn object_worker(
    mut loader: Loader,
    objects: ObjectQueue,
    reader: SegmentReader,
    shared: Arc<Shared>,
) -> Result<Loader, RestoreError> {
    let take = || objects.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    while let Some((oid, slices)) = take() {
        shared.context.tell(Event::TableStarted { table: format!("large object {oid}") });
        let slices = reader.in_order(slices.into_iter().map(|slice| ((), slice)).collect());
        pin_mut!(slices);
        let mut offset = 0;
        while let Some(((), opened)) = slices.next().await.transpose()? {
            put_parts(&mut loader, oid, offset, opened.bytes()).await?;
            offset += opened.bytes().len() as u64;
            shared.context.tell(Event::Progress { bytes: opened.bytes().len() as u64, rows: 0 });
        }
        shared.context.tell(Event::TableDone {
            table: format!("large object {oid}"),
            rows: 0,
            bytes: offset,
        });
    }
    Ok(loader)
}

async fn put_parts(
    loader: &mut Loader,
    oid: u32,
    offset: u64,
    content: &[u8],
) -> Result<(), RestoreError> {
    let mut at = offset;
    for part in content.chunks(LARGE_OBJECT_WRITE_BYTES_MAX) {
        loader.put_large_object(oid, at, part).await?;
        at += part.len() as u64;
    }
    Ok(())
}
