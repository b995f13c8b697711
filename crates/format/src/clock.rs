//! Time as a parameter.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};

/// The time of day and the passing of time, handed in by the binaries so that tests can own both.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// Returns the host's idea of the present instant. Lock arithmetic never uses it; see [`crate::lock`].
    fn now(&self) -> DateTime<Utc>;

    /// Returns a future that is ready after `duration` of this clock's time.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A clock for tests and simulations: it stands still until somebody sets it, or sleeps, which takes no time but that.
#[derive(Debug)]
pub struct StillClock(Mutex<DateTime<Utc>>);

impl StillClock {
    /// Returns a clock that shows `at`.
    #[must_use]
    pub const fn new(at: DateTime<Utc>) -> Self {
        Self(Mutex::new(at))
    }

    /// Sets it.
    pub fn set(&self, at: DateTime<Utc>) {
        *self.time() = at;
    }

    fn time(&self) -> MutexGuard<'_, DateTime<Utc>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for StillClock {
    fn now(&self) -> DateTime<Utc> {
        *self.time()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        *self.time() += duration;
        Box::pin(std::future::ready(()))
    }
}
