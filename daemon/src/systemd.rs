//! What a service manager is told, by the protocol of `sd_notify(3)`. Without one, nobody is told.

use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager that started this process.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    said: String,
}

impl Manager {
    /// Returns how often [`Manager::alive`] must be called, if the unit has a watchdog.
    pub(crate) fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled()
    }

    /// Says that the service is up, or that a reload is over.
    pub(crate) fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// Says that the configuration is being read again; newer managers want to know since when.
    pub(crate) fn reloading(&self) {
        let mut states = vec![NotifyState::Reloading];
        states.extend(NotifyState::monotonic_usec_now());
        tell(&states);
    }

    /// Says that the service still gets on.
    pub(crate) fn alive(&self) {
        tell(&[NotifyState::Watchdog]);
    }

    /// Says that the service ends.
    pub(crate) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// Says what it is doing, on the line that `systemctl status` shows, if that is news.
    pub(crate) fn status(&mut self, status: String) {
        if status != self.said {
            tell(&[NotifyState::Status(&status)]);
            self.said = status;
        }
    }
}

/// A manager that cannot be told cannot be told that either.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
