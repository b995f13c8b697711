//! The status page of `stonekeepd run`, `/metrics`, `/healthz` and `/readyz`: read-only, from the board alone.
//!
//! Two tasks beside the service: one serves, one looks at the buckets. Neither can stop a backup: what fails is said, shown,
//! and tried again.

mod figures;
mod looker;
mod page;
mod plot;
mod routes;
mod server;
mod timeline;
mod words;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use stonekeep_config::{DaemonConfig, Environment};
use stonekeep_format::ids::Label;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::board::Board;

/// The two tasks, as the service holds them.
#[derive(Debug)]
pub(crate) struct Status {
    board: Arc<Board>,
    config: watch::Sender<Arc<DaemonConfig>>,
    wanted: looker::Wanted,
}

impl Status {
    /// Says that the loop of the schedules lives, and when each database is backed up next.
    pub(crate) fn beat<'l>(&self, next: impl Iterator<Item = (&'l Label, Option<DateTime<Utc>>)>) {
        next.for_each(|(label, at)| self.board.next(label, at));
        self.board.beat();
    }

    /// Hands in another configuration: another address is listened on, other repositories are looked at.
    pub(crate) fn reload(&self, config: &Arc<DaemonConfig>) {
        self.board.plan(config);
        self.config.send_replace(Arc::clone(config));
        self.look();
    }

    /// Asks for a look at the buckets: a run has ended.
    pub(crate) fn look(&self) {
        self.wanted.notify_one();
    }
}

/// Begins to serve and to look, until `cancel`. When it returns, the address is listened on, or why not is said and on the board.
pub(crate) async fn start(
    config: Arc<DaemonConfig>,
    environment: Arc<Environment>,
    board: Arc<Board>,
    cancel: CancellationToken,
) -> Status {
    board.plan(&config);
    let listener = server::listen(config.status.listen, &board).await;
    let (sender, receiver) = watch::channel(config);
    let serving = server::serve(listener, receiver.clone(), Arc::clone(&board), cancel.clone());
    tokio::spawn(serving);
    let wanted = looker::Wanted::default();
    let looking =
        looker::run(receiver, environment, Arc::clone(&board), Arc::clone(&wanted), cancel);
    tokio::spawn(looking);
    Status { board, config: sender, wanted }
}
