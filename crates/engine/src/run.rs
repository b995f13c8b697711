//! One run of one database: pieces of a dump come in, and a snapshot in each repository comes out.
//!
//! A piece is digested first and sealed only if some repository lacks it, once for all of them. A repository that fails or lags
//! leaves the run and takes nobody with it. What was stored is recorded on the way, so that the next run need not store it
//! again. The run knows nothing of where the pieces come from: `backup` takes them from PostgreSQL, a simulator from a model.

mod attempt;
mod commit;
mod destination;
mod error;
mod known;
mod locks;
mod past;
mod prepare;
mod state;
mod suspicion;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use serde::Serialize;
use stonekeep_format::{
    archive::RowFormat,
    codec::{Recipients, SegmentKeyer, seal},
    ids::{ChainId, Label, MemberName, Nonce, SegmentId, Seq, SnapshotId},
    inventory::{Segment, SegmentKind, TableTotals},
    manifest::Totals,
    signature::{Signer, Trust},
    slicer::HEAP_SLICE_PAGES,
    tier::Tier,
};
use stonekeep_postgres::source::PreviousTable;
use stonekeep_store::AppendStore;

pub(crate) use self::attempt::{RUNNING, chain_of};
use self::destination::{Destination, LAG_MAX, Name, Ready};
pub(crate) use self::prepare::{MARGIN, prepare};
pub use self::{commit::Contents, error::BackupError};
use crate::Context;
pub use crate::budget::Held;

/// What to back up, and under which rules.
#[derive(Debug, Clone)]
pub struct BackupPlan {
    /// The database's label.
    pub label: Label,
    /// The retention tiers, in any order; at least one.
    pub tiers: Vec<Tier>,
    /// The time zone in which the tiers' periods are counted.
    pub zone: Tz,
    /// zstd's level, 1 to 19.
    pub compression_level: i32,
    /// Bytes of plaintext and ciphertext in memory at the same time.
    pub memory_budget_bytes: u64,
    /// The host's signing key.
    pub signer: Signer,
    /// The age recipients; the same as in the genesis.
    pub recipients: Vec<String>,
    /// The owner's key, which signs the genesis.
    pub owner: Trust,
    /// Segments that are stored again although they seem to be there.
    pub distrusted: BTreeSet<SegmentId>,
    /// Whether to reuse nothing.
    pub fresh: bool,
    /// By how many percent a database may shrink before a snapshot of it is suspicious; 100: by any.
    pub shrink_percent_max: u8,
}

/// A snapshot that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupReport {
    /// The name of the repository in the configuration.
    pub repository: String,
    /// The database's label.
    pub label: Label,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its position.
    pub seq: Seq,
    /// Its chain.
    pub chain: ChainId,
    /// Its tier.
    pub tier: String,
    /// Why it is suspicious, if it is.
    pub suspicious: Option<String>,
    /// When it was committed, by the storage server's clock.
    pub committed_at: DateTime<Utc>,
    /// Until when it is promised.
    pub promised_until: DateTime<Utc>,
    /// What it holds.
    pub totals: Totals,
    /// Wall time of the run, in milliseconds.
    pub duration_ms: u64,
    /// What pg_dump warned of.
    pub warnings: Vec<String>,
}

/// A repository to write to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name in the configuration.
    pub name: String,
    /// Its bucket.
    pub store: Arc<dyn AppendStore>,
    /// If buckets name the locks: the bucket of each tier, by the tier's name. Else empty.
    pub tiers: BTreeMap<String, Arc<dyn AppendStore>>,
    /// The genesis as the owner signed it, for a writer that may not read it in the bucket.
    pub genesis: Option<Vec<u8>>,
    /// Where a writer that may not read the bucket keeps its memory of this label in this repository.
    pub state_dir: Option<PathBuf>,
}

/// What became of one repository in a run.
#[derive(Debug)]
pub struct Outcome {
    /// Its name in the configuration.
    pub repository: String,
    /// The snapshot, or why there is none.
    pub result: Result<BackupReport, BackupError>,
}

/// A piece of plaintext on its way into the repositories.
#[derive(Debug)]
pub struct Piece {
    /// What it is.
    pub kind: SegmentKind,
    /// For `rows`: the member it is a slice of.
    pub member: Option<MemberName>,
    /// The bytes.
    pub plaintext: Vec<u8>,
    /// The budget it holds: room for the plaintext and for what sealing makes of it. `None` for the few small pieces that
    /// are put after the copying, one at a time.
    pub held: Option<Held>,
}

/// The segment that a piece became, in each repository that is still in the run.
#[derive(Debug, Clone, Default)]
pub struct Copies(Vec<Option<Segment>>);

/// A run that was begun. Cheap to clone; workers share it.
#[derive(Debug, Clone)]
pub struct Run(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    plan: BackupPlan,
    id: SnapshotId,
    recipients: Arc<Recipients>,
    keyer: SegmentKeyer,
    destinations: Vec<Destination>,
    context: Context,
}

/// Begins a run: looks at every repository. Returns it if at least one can be written to, with what became of the others.
///
/// # Errors
/// What became of each repository, if none can be written to.
pub async fn begin(
    plan: &BackupPlan,
    targets: &[Target],
    context: &Context,
) -> Result<(Run, Vec<Outcome>), Vec<Outcome>> {
    let mut failed = Vec::new();
    let mut destinations = Vec::new();
    let all = join_all(targets.iter().map(|target| prepare(plan, target, context))).await;
    for (target, prepared) in targets.iter().zip(all) {
        let repository = target.name.clone();
        match prepared {
            Ok(prepared) => destinations.push(Destination::new(repository, prepared)),
            Err(error) => failed.push(Outcome { repository, result: Err(error) }),
        }
    }
    let (Some(first), Ok(recipients)) = (destinations.first(), Recipients::parse(&plan.recipients))
    else {
        return Err(failed);
    };
    let id = SnapshotId::new(first.prepared.locks.started_at, rand::random());
    let run = Run(Arc::new(Inner {
        keyer: SegmentKeyer::new(&plan.signer, plan.label.clone(), &recipients),
        recipients: Arc::new(recipients),
        plan: plan.clone(),
        id,
        destinations,
        context: context.clone(),
    }));
    Ok((run, failed))
}

impl Run {
    /// Returns the id that the snapshot will have in every repository.
    #[must_use]
    pub fn id(&self) -> &SnapshotId {
        &self.0.id
    }

    /// Returns the rules of the run.
    #[must_use]
    pub fn plan(&self) -> &BackupPlan {
        &self.0.plan
    }

    /// Returns what names tables so that nobody else can tell them.
    #[must_use]
    pub fn keyer(&self) -> &SegmentKeyer {
        &self.0.keyer
    }

    /// Returns what each table's last snapshot keeps for this one, by its keyed name. A fresh run keeps no format: it tries
    /// text again.
    #[must_use]
    pub fn previous_tables(&self) -> BTreeMap<Nonce, PreviousTable> {
        let baseline = self.0.destinations.iter().find_map(|each| each.prepared.baseline.as_ref());
        let tables = baseline.map_or(&[][..], |(_, tables)| tables);
        let is_binary = |table: &TableTotals| table.binary && !self.plan().fresh;
        let previous = |table: &TableTotals| PreviousTable {
            slice_pages: table.slice_pages.unwrap_or(HEAP_SLICE_PAGES),
            format: if is_binary(table) { RowFormat::Binary } else { RowFormat::Text },
        };
        tables.iter().map(|table| (table.name, previous(table))).collect()
    }

    fn alive(&self) -> impl Iterator<Item = &Destination> {
        self.0.destinations.iter().filter(|each| each.is_alive())
    }

    /// Sees to it that every repository has a piece: one that has it already, locked for long enough, is left alone; for the
    /// others it is sealed once, and stored. The segments that are returned are there, and their locks were read back.
    ///
    /// # Errors
    /// [`BackupError::NoRepositoryLeft`] if the last repository has left the run; [`BackupError::Seal`], [`BackupError::Task`].
    pub async fn keep(&self, piece: Piece) -> Result<Copies, BackupError> {
        let Piece { kind, member, plaintext, mut held } = piece;
        let plain_bytes = plaintext.len() as u64;
        let keyer = self.0.keyer.clone();
        let (id, plaintext) = blocking(move || (keyer.id(kind, &plaintext), plaintext)).await?;
        let name = Name { kind, member, id, plain_bytes };
        let mut copies = self.find(&name).await;
        if copies.iter().any(Result::is_err) {
            let (recipients, level) =
                (Arc::clone(&self.0.recipients), self.0.plan.compression_level);
            let sealed = blocking(move || seal(plaintext, level, &recipients)).await?;
            let ready = Ready::from(sealed.map_err(BackupError::Seal)?);
            if let Some(held) = &mut held {
                held.shrink(ready.body.len() as u64);
            }
            self.put_missing(&name, &ready, &mut copies).await;
            drop(held);
            self.record_if_many().await;
        }
        if self.alive().next().is_none() {
            return Err(BackupError::NoRepositoryLeft);
        }
        Ok(Copies(copies.into_iter().map(|copy| copy.unwrap_or_default()).collect()))
    }

    /// Sees to it that one repository has a piece that is for it alone.
    async fn keep_in(&self, at: &Destination, piece: Piece) -> Result<Segment, BackupError> {
        let Piece { kind, member, plaintext, .. } = piece;
        let plain_bytes = plaintext.len() as u64;
        let id = self.0.keyer.id(kind, &plaintext);
        let name = Name { kind, member, id, plain_bytes };
        let (recipients, level) = (Arc::clone(&self.0.recipients), self.0.plan.compression_level);
        let sealed = blocking(move || seal(plaintext, level, &recipients)).await?;
        let ready = Ready::from(sealed.map_err(BackupError::Seal)?);
        at.put_now(&name, ready, None, &self.0.context).await
    }

    /// Of each repository: the segment that is there, nothing if it has left the run, or since when the content that it lacks
    /// has stood.
    async fn find(&self, name: &Name) -> Vec<Copy> {
        join_all(self.0.destinations.iter().map(|each| self.find_in(each, name))).await
    }

    async fn find_in(&self, destination: &Destination, name: &Name) -> Copy {
        if !destination.is_alive() {
            return Ok(None);
        }
        match destination.find(name, &self.0.context).await {
            Ok(found) => found.map(Some),
            Err(error) => {
                destination.fail(error, &self.0.context);
                Ok(None)
            }
        }
    }

    /// Puts a sealed piece wherever it is missing. Once one repository has it, the others have [`LAG_MAX`] left.
    async fn put_missing(&self, name: &Name, ready: &Ready, copies: &mut [Copy]) {
        let context = &self.0.context;
        let destinations = &self.0.destinations;
        let mut someone_has_it = copies.iter().any(|copy| matches!(copy, Ok(Some(_))));
        let put = |at: usize, since| async move {
            (at, destinations[at].put(name, ready.clone(), since, context).await)
        };
        let missing =
            copies.iter().enumerate().filter_map(|(at, copy)| Some((at, *copy.as_ref().err()?)));
        let mut puts: FuturesUnordered<_> = missing.map(|(at, since)| put(at, since)).collect();
        loop {
            let next = if someone_has_it && destinations.len() > 1 {
                tokio::select! {
                    biased;
                    next = puts.next() => next,
                    () = context.clock.sleep(LAG_MAX) => break,
                }
            } else {
                puts.next().await
            };
            let Some((at, segment)) = next else { break };
            someone_has_it |= segment.is_some();
            copies[at] = Ok(segment);
            self.check_lag();
        }
        drop(puts);
        for (destination, copy) in destinations.iter().zip(copies) {
            if copy.is_err() {
                destination.fail(BackupError::Behind { secs: LAG_MAX.as_secs() }, context);
            }
        }
    }

    fn check_lag(&self) {
        let destinations: Vec<&Destination> = self.0.destinations.iter().collect();
        if destinations.len() > 1 {
            for destination in self.alive() {
                destination.check_lag(
                    &destinations,
                    self.0.plan.memory_budget_bytes,
                    &self.0.context,
                );
            }
        }
    }
}

/// A segment in one repository, none if it has left the run, or since when the content that it lacks has stood.
type Copy = Result<Option<Segment>, Option<DateTime<Utc>>>;

/// Runs what would keep a thread busy for long on one that may be.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackupError> {
    tokio::task::spawn_blocking(work).await.map_err(BackupError::Task)
}

#[cfg(test)]
pub(crate) mod tests;
