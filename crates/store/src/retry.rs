//! Repeating what may succeed a moment later: the one place where calls to the store are repeated.
//!
//! The SDK's own retries are off, so tries do not multiply. Only errors that are [`StoreError::is_transient`] are repeated, and
//! only calls for which that is safe: reads, and puts under a fresh key each time.

use std::{future::Future, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use chrono::TimeDelta;
use stonekeep_format::Clock;

use crate::StoreError;

/// How often and how long a call is repeated. Delays double from `delay_min` to `delay_max`, with jitter, so that many clients
/// of one server that failed do not come back in step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The most tries, the first one included.
    pub tries_max: usize,
    /// The first delay, without jitter.
    pub delay_min: Duration,
    /// The longest delay, without jitter.
    pub delay_max: Duration,
    /// No new try begins later than this after the first.
    pub total_max: Duration,
}

impl RetryPolicy {
    /// For reads: five tries within a minute, about 3 s of waiting. A person or a check may be waiting for the answer.
    pub const READS: Self = Self {
        tries_max: 5,
        delay_min: Duration::from_millis(200),
        delay_max: Duration::from_secs(5),
        total_max: Duration::from_secs(60),
    };
    /// For puts: eight tries within five minutes, about a minute of waiting. What is lost by giving up is a run; what is lost by
    /// waiting is the time that production's snapshot stays open.
    pub const PUTS: Self = Self {
        tries_max: 8,
        delay_min: Duration::from_millis(500),
        delay_max: Duration::from_secs(20),
        total_max: Duration::from_secs(300),
    };

    fn delays(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        ExponentialBuilder::new()
            .with_jitter()
            .with_jitter_seed(rand::random())
            .with_min_delay(self.delay_min)
            .with_max_delay(self.delay_max)
            .with_max_times(self.tries_max.saturating_sub(1))
            .build()
    }
}

/// Calls `attempt` until it succeeds, fails for good, or the policy is used up; then returns the last error.
///
/// # Errors
/// The error of the last attempt.
pub async fn retry<T, F, Fut>(
    clock: &dyn Clock,
    policy: &RetryPolicy,
    mut attempt: F,
) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let begun_at = clock.now();
    let limit = TimeDelta::from_std(policy.total_max).unwrap_or(TimeDelta::MAX);
    let mut delays = policy.delays();
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let Some(delay) = delays.next().filter(|_| error.is_transient()) else {
            return Err(error);
        };
        let delayed = TimeDelta::from_std(delay).unwrap_or(TimeDelta::MAX);
        if clock.now() - begun_at + delayed > limit {
            return Err(error);
        }
        tracing::debug!(%error, delay_ms = delay.as_millis(), "trying again");
        clock.sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::memory::tests::still_clock;

    fn transient() -> StoreError {
        StoreError::Unavailable { action: "read", source: "503".into() }
    }

    #[tokio::test]
    async fn a_transient_error_is_tried_again_and_no_more_often_than_allowed() {
        let tries = AtomicUsize::new(0);
        let failing = || async {
            tries.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(transient())
        };
        let clock = still_clock();
        let outcome = retry(&*clock, &RetryPolicy::READS, failing).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable { .. })));
        assert_eq!(tries.load(Ordering::Relaxed), RetryPolicy::READS.tries_max);
    }

    #[tokio::test]
    async fn a_final_error_is_not_repeated() {
        let tries = AtomicUsize::new(0);
        let failing = || async {
            tries.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(StoreError::NotFound { key: "a".parse().unwrap() })
        };
        let clock = still_clock();
        assert!(retry(&*clock, &RetryPolicy::READS, failing).await.is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn the_time_of_slow_attempts_counts_too() {
        let tries = AtomicUsize::new(0);
        let clock = still_clock();
        let slow = || async {
            tries.fetch_add(1, Ordering::Relaxed);
            clock.sleep(Duration::from_secs(40)).await;
            Err::<(), _>(transient())
        };
        assert!(retry(&*clock, &RetryPolicy::READS, slow).await.is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    }
}
