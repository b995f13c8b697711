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

use stonekeep_config::{DaemonConfig, Environment};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::board::Board;

/// The two tasks, as the service holds them.
#[derive(Debug)]
pub(crate) struct Status {
    config: watch::Sender<Arc<DaemonConfig>>,
    wanted: looker::Wanted,
}

impl Status {
    /// Hands in another configuration: another address is listened on, other repositories are looked at.
    pub(crate) fn reload(&self, config: Arc<DaemonConfig>) {
        self.config.send_replace(config);
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
    let listener = server::listen(config.status.listen, &board).await;
    let (sender, receiver) = watch::channel(config);
    let serving = server::serve(listener, receiver.clone(), Arc::clone(&board), cancel.clone());
    tokio::spawn(serving);
    let wanted = looker::Wanted::default();
    let looking = looker::run(receiver, environment, board, Arc::clone(&wanted), cancel);
    tokio::spawn(looking);
    Status { config: sender, wanted }
}
