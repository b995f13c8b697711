//! What every use case is given besides its plan.

use std::sync::Arc;

use stonekeep_format::Clock;
use tokio_util::sync::CancellationToken;

use crate::events::{Event, Listener};

/// Time, voice and the wish to stop.
#[derive(Debug, Clone)]
pub struct Context {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Who hears the events.
    pub listener: Arc<dyn Listener>,
    /// Cancelled when the user or the service manager asks to stop.
    pub cancel: CancellationToken,
}

impl Context {
    /// Tells the listener.
    #[expect(clippy::needless_pass_by_value, reason = "an event is made to be told, once")]
    pub fn tell(&self, event: Event) {
        self.listener.hear(&event);
    }

    /// Tells the listener of something that is not an error but must be seen.
    pub fn warn(&self, message: impl Into<String>) {
        self.tell(Event::Warning { message: message.into() });
    }
}

/// The time of the host and of tokio: the clock of both binaries.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the host's clock is read")]
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        chrono::Utc::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where time is waited for")]
    fn sleep(
        &self,
        duration: std::time::Duration,
    ) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
