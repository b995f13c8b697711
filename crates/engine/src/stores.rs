//! The buckets of a repository: one, or one for each tier if buckets name the locks.

use std::sync::Arc;

use stonekeep_format::ids::BucketName;
use stonekeep_store::ReadStore;

/// Where a repository lies.
#[derive(Debug, Clone)]
pub struct Stores {
    main: Arc<dyn ReadStore>,
    others: Vec<Arc<dyn ReadStore>>,
    is_copy: bool,
}

impl Stores {
    /// Returns a repository in `main`, which holds the genesis, and in the buckets of tiers, which may be the same.
    #[must_use]
    pub fn new(main: Arc<dyn ReadStore>, of_tiers: Vec<Arc<dyn ReadStore>>) -> Self {
        let mut others: Vec<Arc<dyn ReadStore>> = Vec::new();
        for store in of_tiers {
            if !others.iter().chain([&main]).any(|other| other.bucket() == store.bucket()) {
                others.push(store);
            }
        }
        Self { main, others, is_copy: false }
    }

    /// Returns a repository of which everything lies in one place now, whatever buckets it came from.
    #[must_use]
    pub fn copy(store: Arc<dyn ReadStore>) -> Self {
        Self { main: store, others: Vec::new(), is_copy: true }
    }

    /// Returns the one that holds the genesis.
    #[must_use]
    pub fn main(&self) -> &Arc<dyn ReadStore> {
        &self.main
    }

    /// Returns all of them, each once.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn ReadStore>> {
        [&self.main].into_iter().chain(&self.others)
    }

    /// Returns the one of this name. Of a name that is none of theirs the main one: a bucket that was copied, whole, bears
    /// another name than the one in its documents.
    #[must_use]
    pub fn of(&self, bucket: &BucketName) -> &Arc<dyn ReadStore> {
        self.others.iter().find(|store| store.bucket() == bucket).unwrap_or(&self.main)
    }

    /// Whether what a document says lies in `bucket` is to be looked for in `store`.
    #[must_use]
    pub fn is_at(&self, bucket: &BucketName, store: &dyn ReadStore) -> bool {
        self.of(bucket).bucket() == store.bucket()
    }

    /// Whether this is a copy, in which what a manifest names need not be.
    #[must_use]
    pub const fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Whether the bucket is one of them, or everything that was in it is here.
    #[must_use]
    pub fn has(&self, bucket: &BucketName) -> bool {
        self.is_copy || self.all().any(|store| store.bucket() == bucket)
    }
}
