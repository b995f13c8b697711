//! One run of one database, and what became of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use stonekeep_config::DatabaseConfig;
use stonekeep_engine::{
    Context,
    backup::{BackupError, BackupReport, backup},
    events::{Event, Listener},
};
use stonekeep_format::ids::Label;

use crate::{
    failure::Failure,
    plan::{Once, Shared, Stores},
};

/// How long a run that is stopped may take to record what it has stored (60 s): twice what the engine allows itself.
const END_DURATION_MAX: Duration = Duration::from_secs(60);
/// A run that does not get on is looked at so many times before it is ended (4).
const LOOKS: u32 = 4;

/// What became of one database in one repository.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The database.
    pub(crate) label: Label,
    /// The repository's name; `None`: the database itself failed or was skipped, in all of them.
    pub(crate) repository: Option<String>,
    pub(crate) result: Taken,
}

/// A snapshot, or why there is none.
#[derive(Debug)]
pub(crate) enum Taken {
    /// There is one.
    Snapshot(Box<BackupReport>),
    /// Another run of the database is at work.
    Skipped(Failure),
    /// There is none.
    Failed(Failure),
}

impl Outcome {
    /// Says that a database could not be read for this reason.
    pub(crate) const fn failed(label: Label, failure: Failure) -> Self {
        Self { label, repository: None, result: Taken::Failed(failure) }
    }

    /// Returns the exit code that goes with it.
    pub(crate) fn exit_code(&self) -> u8 {
        match &self.result {
            Taken::Snapshot(_) | Taken::Skipped(_) => 0,
            Taken::Failed(failure) => failure.kind().exit_code(),
        }
    }

    /// Whether it is about this repository: a database that failed by itself failed in every one.
    pub(crate) fn is_of(&self, repository: &str) -> bool {
        self.repository.as_deref().is_none_or(|name| name == repository)
    }
}

/// Takes one snapshot of a database into every repository. One that does not get on is ended.
pub(crate) async fn take(
    shared: &Shared<'_>,
    database: &DatabaseConfig,
    stores: &Stores,
    once: Once,
    context: &Context,
) -> Vec<Outcome> {
    let label = database.name.clone();
    if context.cancel.is_cancelled() {
        return vec![Outcome::failed(label.clone(), Failure::Stopped { label })];
    }
    let source = match shared.source(database) {
        Ok(source) => source,
        Err(failure) => return vec![Outcome::failed(label, failure)],
    };
    let targets = shared.targets(stores, database);
    let plan = shared.plan(database, once);
    let pulse =
        Arc::new(Pulse { count: AtomicU64::new(0), listener: Arc::clone(&context.listener) });
    let inner = Context {
        clock: Arc::clone(&context.clock),
        listener: Arc::<Pulse>::clone(&pulse),
        cancel: context.cancel.child_token(),
    };
    // Somebody's DDL may hold a run up for so long, and no event comes of it.
    let stall_max = shared.config.service.stall_max + database.ddl_wait_max;
    let running = backup(&plan, &source, &targets, &inner);
    tokio::pin!(running);
    let stalled =
        Failure::Stalled { label: label.clone(), minutes: stall_max.as_secs().div_ceil(60) };
    let outcomes = tokio::select! {
        outcomes = &mut running => outcomes,
        () = pulse.stops(stall_max, context) => {
            inner.cancel.cancel();
            let ended = tokio::time::timeout(END_DURATION_MAX, running).await;
            // One that came to its end after all is as good as any.
            match ended {
                Ok(Ok(outcomes)) => Ok(outcomes),
                _ => return vec![Outcome::failed(label, stalled)],
            }
        }
    };
    match outcomes {
        Ok(outcomes) => {
            outcomes.into_iter().map(|outcome| of_repository(&label, outcome)).collect()
        }
        Err(error) => vec![of_database(label, error)],
    }
}

fn of_repository(label: &Label, outcome: stonekeep_engine::backup::Outcome) -> Outcome {
    let (repository, label) = (outcome.repository, label.clone());
    let result = match outcome.result {
        Ok(report) => Taken::Snapshot(Box::new(report)),
        Err(error) => Taken::Failed(Failure::BackupInto {
            label: label.clone(),
            repository: repository.clone(),
            source: Box::new(error),
        }),
    };
    Outcome { label, repository: Some(repository), result }
}

fn of_database(label: Label, error: BackupError) -> Outcome {
    let is_taken = matches!(error, BackupError::Taken(_));
    let (of, source) = (label.clone(), Box::new(error));
    let result = if is_taken {
        Taken::Skipped(Failure::Skipped { label: of, source })
    } else {
        Taken::Failed(Failure::Backup { label: of, source })
    };
    Outcome { label, repository: None, result }
}

/// Hears that a run gets on.
#[derive(Debug)]
struct Pulse {
    count: AtomicU64,
    listener: Arc<dyn Listener>,
}

impl Listener for Pulse {
    fn hear(&self, event: &Event) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.listener.hear(event);
    }
}

impl Pulse {
    /// Returns when nothing was heard for so long.
    async fn stops(&self, stall_max: Duration, context: &Context) {
        let (mut heard, mut idle) = (self.count.load(Ordering::Relaxed), 0);
        while idle < LOOKS {
            context.clock.sleep(stall_max / LOOKS).await;
            let now = self.count.load(Ordering::Relaxed);
            idle = if now == heard { idle + 1 } else { 0 };
            heard = now;
        }
    }
}
