//! How long and how often somebody is called: one rule for all.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};

/// How long one try may take (10 s): a service that is slower is down.
pub(super) const TRY_MAX: Duration = Duration::from_secs(10);
/// How often it is tried again (2 times): what does not work in half a minute is not for us to repair.
const RETRIES: usize = 2;
/// The first pause before it is (1 s); the next is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// Calls until it works, or fails for good, or was tried three times.
pub(super) async fn retry<E, F: Future<Output = Result<(), E>>>(
    once: impl FnMut() -> F,
    is_passing: impl FnMut(&E) -> bool,
) -> Result<(), E> {
    let pauses = ExponentialBuilder::new().with_min_delay(PAUSE).with_max_times(RETRIES);
    once.retry(pauses).when(is_passing).await
}
