//! Reading what the buckets say, with the writer's own credential: at the start, after each run, and now and then.
//!
//! Where the writer may not list, the page says so and shows what this process has seen.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use stonekeep_config::{DaemonConfig, Environment, RepositoryConfig};
use stonekeep_engine::{
    Context,
    context::SystemClock,
    drill::last_records,
    events::Silence,
    list::{ListError, list},
    repository::Repository,
    watch::proofs,
};
use stonekeep_format::{Clock as _, ErrorKind, ids::Label};
use stonekeep_process::failure::FailureReport;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    board::{Board, Look, Proof, Seen},
    failure::Failure,
    plan::Shared,
};

/// How long until all is looked at again (15 min): nothing here changes what is kept, and a watcher looks from elsewhere.
const PAUSE: Duration = Duration::from_secs(900);
/// How long a wish for a look is kept for others to join it (10 s): databases often end one after another.
const JOIN: Duration = Duration::from_secs(10);
/// How many times as long as a look takes there is none (20): a repository of thousands of snapshots is read by as many calls, and
/// this keeps them to a twentieth of the time.
const SHARE: u32 = 20;
/// How long a look at one repository may take (10 min).
const LOOK_DURATION_MAX: Duration = Duration::from_secs(600);

/// Somebody's wish for a look.
pub(super) type Wanted = Arc<Notify>;

/// Looks until `cancel`.
pub(super) async fn run(
    mut config: watch::Receiver<Arc<DaemonConfig>>,
    environment: Arc<Environment>,
    board: Arc<Board>,
    wanted: Wanted,
    cancel: CancellationToken,
) {
    loop {
        let now = Arc::clone(&config.borrow_and_update());
        let begun_at = Instant::now();
        if now.status.listen.is_some() {
            tokio::select! {
                () = look(&now, &environment, &board, &cancel) => {}
                () = cancel.cancelled() => return,
            }
        }
        let rest = begun_at.elapsed() * SHARE;
        tokio::select! {
            () = due(&wanted, rest) => {}
            outcome = config.changed() => if outcome.is_err() { return },
            () = cancel.cancelled() => return,
        }
    }
}

/// Returns when the time for another look has come: once somebody wants it, or after a while, but not before `rest` is over.
async fn due(wanted: &Notify, rest: Duration) {
    SystemClock.sleep(rest).await;
    tokio::select! {
        () = async { wanted.notified().await; SystemClock.sleep(JOIN).await } => {}
        () = SystemClock.sleep(PAUSE.saturating_sub(rest)) => {}
    }
}

async fn look(
    config: &DaemonConfig,
    environment: &Environment,
    board: &Board,
    cancel: &CancellationToken,
) {
    let clock = Arc::new(SystemClock);
    let context = Context { clock, listener: Arc::new(Silence), cancel: cancel.clone() };
    let shared = Shared::read(config, environment);
    for of in config.repositories() {
        let found = match &shared {
            Ok(shared) => {
                let read = read(shared, of, &context);
                tokio::time::timeout(LOOK_DURATION_MAX, read).await.unwrap_or_else(|_| slow())
            }
            Err(failure) => failed(failure),
        };
        board.looked(&of.name, found);
    }
}

async fn read(shared: &Shared<'_>, of: &RepositoryConfig, context: &Context) -> Look {
    let begun_at = context.clock.now();
    let repository = match open(shared, of, context).await {
        Ok(repository) => repository,
        Err(failure) if failure.kind() == ErrorKind::Denied => return Look::Denied,
        Err(failure) => return failed(&failure),
    };
    let mut seen = match list(&repository, context).await {
        Ok(report) => Seen::of(&report, begun_at),
        Err(error) if error.kind() == ErrorKind::Denied => return Look::Denied,
        Err(error) => return unlisted(&error),
    };
    // Proofs and drills are beside the point of a list: that they cannot be read hides no snapshot.
    match proofs(&repository).await {
        Ok(proofs) => {
            seen.proof = proofs.conclusive.as_ref().map(Proof::from);
            seen.is_unsure = proofs.inconclusive.is_some();
        }
        Err(error) => unread("prove", &error, error.kind()),
    }
    let labels: BTreeSet<Label> = seen.snapshots.keys().cloned().collect();
    match last_records(&repository, &labels, &shared.reporters).await {
        Ok(drills) => seen.take_drills(&drills),
        Err(error) => unread("drills", &error, error.kind()),
    }
    Look::Seen(seen)
}

fn unread(of: &str, error: &dyn std::error::Error, kind: ErrorKind) {
    tracing::debug!("the records of {of} cannot be read: {}", report(error, kind));
}

async fn open(
    shared: &Shared<'_>,
    of: &RepositoryConfig,
    context: &Context,
) -> Result<Repository, Failure> {
    let (stores, genesis) = shared.open(of).await?.into_read();
    let opened = match genesis {
        Some(copy) => Repository::pinned(&copy, stores, &shared.owner),
        None => Repository::open(stores, &shared.owner, context).await,
    };
    opened.map_err(|source| Failure::Repository {
        repository: of.name.clone(),
        source: Box::new(source),
    })
}

fn failed(failure: &Failure) -> Look {
    Look::Failed { kind: failure.kind(), message: failure.to_report().message }
}

fn unlisted(error: &ListError) -> Look {
    Look::Failed { kind: error.kind(), message: report(error, error.kind()) }
}

fn slow() -> Look {
    let minutes = LOOK_DURATION_MAX.as_secs() / 60;
    let message = format!("reading the repository took longer than {minutes} min");
    Look::Failed { kind: ErrorKind::Unavailable, message }
}

fn report(error: &dyn std::error::Error, kind: ErrorKind) -> String {
    FailureReport::new(error, kind).message
}
