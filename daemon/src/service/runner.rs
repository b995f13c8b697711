//! What the service does when a database is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use stonekeep_config::{DaemonConfig, DatabaseConfig, Environment};
use stonekeep_engine::Context;
use stonekeep_format::{Clock, ErrorKind, ids::Label};
use tokio::{runtime::Handle, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::{
    board::Board,
    failure::Failure,
    log::{Reader, Voice},
    outcome::{Outcome, Taken, take},
    plan::{Once, Shared},
};

/// One run to be made.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// The configuration as it was when the run was due.
    pub(super) config: Arc<DaemonConfig>,
    /// The entry: one database, or those of a server that match.
    pub(super) entry: DatabaseConfig,
    /// What an earlier try within the slot left undone; `None`: everything is to be done.
    pub(super) only: Option<Unfinished>,
    /// Cancelled when the service is asked to stop.
    pub(super) cancel: CancellationToken,
}

/// Which databases are to be tried again, each in which repositories; without a repository: in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unfinished(BTreeMap<Label, BTreeSet<Option<String>>>);

impl Unfinished {
    /// Returns what is left to be done after a try; `None` if nothing is.
    pub(super) fn of(outcomes: &[Outcome], tries: u32) -> Option<Self> {
        let mut unfinished = Self::default();
        for outcome in outcomes.iter().filter(|outcome| is_unfinished(outcome, tries)) {
            let repositories = unfinished.0.entry(outcome.label.clone()).or_default();
            repositories.insert(outcome.repository.clone());
        }
        (!unfinished.0.is_empty()).then_some(unfinished)
    }

    /// Whether a database is to be tried again: itself, or its whole entry, whose databases could not be listed.
    fn has(&self, label: &Label, entry: &Label) -> bool {
        self.0.contains_key(label) || self.0.contains_key(entry)
    }

    /// Returns the repositories of a database that are to be tried again; `None`: all.
    fn repositories(&self, label: &Label) -> Option<BTreeSet<&str>> {
        let repositories = self.0.get(label)?;
        repositories.iter().map(Option::as_deref).collect()
    }
}

/// Whether a try leaves this to be done. A skipped run leaves it to the other one, which is at work; but after a try of our own
/// that failed the other may be what is left of that, until the server finds out.
pub(super) fn is_unfinished(outcome: &Outcome, tries: u32) -> bool {
    match outcome.result {
        Taken::Snapshot(_) => false,
        Taken::Skipped(_) => tries > 1,
        Taken::Failed(_) => true,
    }
}

/// Whether it failed in a way that takes a person: the same run does not succeed a little later by itself.
pub(super) fn is_lasting(outcome: &Outcome) -> bool {
    let Taken::Failed(failure) = &outcome.result else { return false };
    !matches!(failure.kind(), ErrorKind::Unavailable | ErrorKind::Unreachable)
}

/// Makes runs.
pub(super) trait Runner: fmt::Debug + Send + Sync {
    /// Makes one; says what becomes of each database in each repository. Ends soon after the order is cancelled.
    fn run(self: Arc<Self>, order: Order) -> BoxFuture<'static, Vec<Outcome>>;
}

/// Makes real ones. Keys, certificates and lists of databases are read for each run: what was replaced since the last counts.
#[derive(Debug)]
pub(super) struct Backups {
    environment: Environment,
    voice: Voice,
    clock: Arc<dyn Clock>,
    board: Arc<Board>,
    /// Which entry has which label: a database that somebody makes must not take the label of another.
    owners: Mutex<BTreeMap<Label, Label>>,
}

impl Backups {
    pub(super) fn new(
        environment: Environment,
        voice: Voice,
        clock: Arc<dyn Clock>,
        board: Arc<Board>,
    ) -> Self {
        Self { environment, voice, clock, board, owners: Mutex::default() }
    }

    async fn try_run(&self, order: &Order) -> Result<Vec<Outcome>, Failure> {
        let Order { config, entry, only, cancel } = order;
        let shared = Shared::read(config, &self.environment)?;
        let opened = async {
            let databases = shared.of_entry(entry).await?;
            self.board.listed(&entry.name);
            Ok::<_, Failure>((databases, shared.stores().await?))
        };
        let (databases, stores) = tokio::select! {
            opened = opened => opened?,
            () = cancel.cancelled() => return Err(Failure::Stopped { label: entry.name.clone() }),
        };
        let mut outcomes = Vec::new();
        for database in databases {
            let label = &database.name;
            if only.as_ref().is_some_and(|only| !only.has(label, &entry.name)) {
                continue;
            }
            if !self.owns(config, &entry.name, label) {
                let label = label.clone();
                let failure = Failure::TwoOfALabel { label: label.clone() };
                outcomes.push(Outcome::failed(label, failure));
                continue;
            }
            let context = Context {
                clock: Arc::clone(&self.clock),
                listener: self.board.listener(label, Reader::new(label, self.voice)),
                cancel: cancel.clone(),
            };
            let left = only.as_ref().and_then(|only| only.repositories(label));
            let stores = stores.of(left.as_ref());
            let budget = Some(config.run_budget_bytes());
            let once = Once { memory_budget_bytes: budget, ..Once::default() };
            self.board.begun(label);
            let taken = take(&shared, &database, &stores, once, &context).await;
            self.board.ended(label, &taken);
            outcomes.extend(taken);
        }
        Ok(outcomes)
    }

    fn owns(&self, config: &DaemonConfig, entry: &Label, label: &Label) -> bool {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        // What the configuration does not name any more owns nothing, and what it names owns its label.
        let is_named = |name: &Label| config.databases().iter().any(|each| each.name == *name);
        owners.retain(|label, owner| is_named(owner) && (owner == label || !is_named(label)));
        owners.entry(label.clone()).or_insert_with(|| entry.clone()) == entry
    }
}

impl Runner for Backups {
    /// Each on a thread of its own: whatever it does there, the loop gets on.
    fn run(self: Arc<Self>, order: Order) -> BoxFuture<'static, Vec<Outcome>> {
        let label = order.entry.name.clone();
        let board = Arc::clone(&self.board);
        let runtime = Handle::current();
        let running = spawn_blocking(move || runtime.block_on(self.try_run(&order)));
        Box::pin(async move {
            let ended = running.await;
            let ended =
                ended.unwrap_or_else(|source| Err(Failure::Task { label: label.clone(), source }));
            ended.unwrap_or_else(|failure| {
                let failed = vec![Outcome::failed(label.clone(), failure)];
                board.ended(&label, &failed);
                failed
            })
        })
    }
}
