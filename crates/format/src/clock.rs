//! Time as a parameter.

use std::{future::Future, pin::Pin, time::Duration};

use chrono::{DateTime, Utc};

/// The time of day and the passing of time, handed in by the binaries so that tests can own both.
pub trait Clock: std::fmt::Debug + Send + Sync {
    /// Returns the host's idea of the present instant. Lock arithmetic never uses it; see [`crate::lock`].
    fn now(&self) -> DateTime<Utc>;

    /// Returns a future that is ready after `duration` of this clock's time.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
