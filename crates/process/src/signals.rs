//! SIGINT and SIGTERM: the first asks the work to stop, the second does not ask.

use std::io;

use stonekeep_format::ErrorKind;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Returns the token that the first signal cancels. Must be called within a runtime. The second signal ends the process at
/// once with the exit code of [`ErrorKind::Unavailable`].
///
/// # Errors
/// The operating system's.
pub fn listen() -> io::Result<CancellationToken> {
    let interrupt = signal(SignalKind::interrupt())?;
    let terminate = signal(SignalKind::terminate())?;
    let cancel = CancellationToken::new();
    tokio::spawn(wait(interrupt, terminate, cancel.clone()));
    Ok(cancel)
}

async fn wait(mut interrupt: Signal, mut terminate: Signal, cancel: CancellationToken) {
    either(&mut interrupt, &mut terminate).await;
    cancel.cancel();
    either(&mut interrupt, &mut terminate).await;
    stop_at_once();
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[expect(
    clippy::exit,
    reason = "whoever sends a second signal wants exactly this; nothing unfinished looks finished"
)]
fn stop_at_once() {
    std::process::exit(i32::from(ErrorKind::Unavailable.exit_code()));
}
