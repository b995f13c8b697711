//! Listening, and what a connection may take of us.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use stonekeep_config::DaemonConfig;
use stonekeep_engine::context::SystemClock;
use stonekeep_format::Clock as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_util::sync::CancellationToken;

use super::routes;
use crate::board::Board;

/// Connections at once (32): a few people, Prometheus and a probe; others wait for their turn.
const CONNECTIONS_MAX: usize = 32;
/// How long the head of a request may take to come (5 s).
const HEAD_DURATION_MAX: Duration = Duration::from_secs(5);
/// How long a connection may last (20 s): it is for one request, and the longest page takes a slow line some seconds.
const CONNECTION_DURATION_MAX: Duration = Duration::from_secs(20);
/// The longest head of a request, in bytes (16 KiB): what browsers send has 1 or 2.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most headers of a request (64): what browsers send has 20.
const HEADERS_MAX: usize = 64;
/// How long until an address that cannot be listened on is tried again (30 s).
const LISTEN_PAUSE: Duration = Duration::from_secs(30);
/// How long until another connection is taken when one could not be (100 ms): there are too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens there; says why if that cannot be.
pub(super) async fn listen(at: Option<SocketAddr>, board: &Board) -> Option<TcpListener> {
    let Some(at) = at else {
        board.serve(None);
        return None;
    };
    match TcpListener::bind(at).await {
        Ok(listener) => {
            if board.unserved().is_some() {
                tracing::info!("the status page is served at http://{at}/ now");
            }
            board.serve(None);
            Some(listener)
        }
        Err(error) => {
            let why = format!("the status page cannot be served at {at}: {error}");
            if board.unserved().as_ref() != Some(&why) {
                tracing::warn!("{why}; backups go on, and it is tried again");
            }
            board.serve(Some(why));
            None
        }
    }
}

/// Serves until `cancel`, at the address of the configuration of the day.
pub(super) async fn serve(
    mut listener: Option<TcpListener>,
    mut config: watch::Receiver<Arc<DaemonConfig>>,
    board: Arc<Board>,
    cancel: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let status = config.borrow_and_update().status.clone();
        if let Some(listener) = &listener {
            let app = routes::app(Arc::clone(&board), &status, listener.local_addr().ok());
            tokio::select! {
                () = accept_all(listener, &app, &room) => {}
                () = changed(&mut config) => {}
                () = cancel.cancelled() => return,
            }
        } else {
            tokio::select! {
                () = pause(status.listen.is_some()) => {}
                () = changed(&mut config) => {}
                () = cancel.cancelled() => return,
            }
        }
        let wanted = config.borrow().status.listen;
        if listener.is_none() || wanted != status.listen {
            // The old address first: it may be the same port.
            drop(listener.take());
            listener = listen(wanted, &board).await;
        }
    }
}

/// Another configuration came. That none can come any more is the end of the service.
async fn changed(config: &mut watch::Receiver<Arc<DaemonConfig>>) {
    if config.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn pause(is_tried_again: bool) {
    if is_tried_again {
        SystemClock.sleep(LISTEN_PAUSE).await;
    } else {
        std::future::pending::<()>().await;
    }
}

async fn accept_all(listener: &TcpListener, app: &Router, room: &Arc<Semaphore>) {
    loop {
        // Closed by nobody.
        let Ok(permit) = Arc::clone(room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(one(stream, app.clone(), permit))),
            Err(error) => refused(&error).await,
        }
    }
}

async fn refused(error: &io::Error) {
    tracing::debug!("a connection to the status page was not taken: {error}");
    SystemClock.sleep(ACCEPT_PAUSE).await;
}

/// Answers one request. Whoever is slow is cut off.
async fn one(stream: TcpStream, app: Router, permit: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DURATION_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let outcome = tokio::time::timeout(CONNECTION_DURATION_MAX, connection).await;
    if let Ok(Err(error)) = outcome {
        tracing::debug!("a connection to the status page ended: {error}");
    }
    drop(permit);
}

#[cfg(test)]
mod tests;
