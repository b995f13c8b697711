//! The bound on memory: a semaphore over plaintext and ciphertext on their way, of a backup or of a restore.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit stands for this many bytes (64 KiB), so that a budget of any size fits the semaphore's count.
const GRAIN_BYTES: u64 = 64 << 10;

/// The bytes that may be held at the same time.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    semaphore: Arc<Semaphore>,
    total: u32,
}

/// Bytes that are held; given back when dropped.
#[derive(Debug)]
pub struct Held(OwnedSemaphorePermit);

impl Budget {
    /// Allows `bytes` at a time.
    pub(crate) fn new(bytes: u64) -> Self {
        let total = grains(bytes).max(1);
        Self { semaphore: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits until `bytes` may be held, or, if that is more than there is, until nothing else is: a row larger than the
    /// budget is taken alone. Whoever calls this holds nothing, so no two can wait for each other.
    pub(crate) async fn hold(&self, bytes: u64) -> Held {
        let count = grains(bytes).min(self.total);
        let permit = Arc::clone(&self.semaphore).acquire_many_owned(count).await;
        Held(permit.expect("the semaphore is never closed"))
    }
}

impl Held {
    /// Gives back what is held beyond `bytes`.
    pub fn shrink(&mut self, bytes: u64) {
        let surplus = self.0.num_permits().saturating_sub(grains(bytes) as usize);
        drop(self.0.split(surplus));
    }
}

/// Permits for `bytes`; 2²⁸ of them are 16 TiB, and within what a semaphore counts.
fn grains(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(GRAIN_BYTES)).unwrap_or(u32::MAX).min(1 << 28)
}
