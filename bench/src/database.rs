//! What changes between two snapshots: slices of one table, each known by how often it has changed.

use rand::{Rng, rngs::StdRng};

/// A table of equal slices. What stands in a slice is its number and its age in changes, which is all that reuse can see.
#[derive(Debug, Clone)]
pub struct Database {
    versions: Vec<u64>,
    changes: u64,
}

impl Database {
    /// Returns a table of `slices` slices.
    #[must_use]
    pub fn new(slices: usize) -> Self {
        Self { versions: vec![0; slices.max(1)], changes: 0 }
    }

    /// Changes single rows: `rows` of them, each in a slice chosen at random among the newest `locality` (0 to 1) of the
    /// table.
    pub fn change(&mut self, rows: u64, locality: f64, random: &mut StdRng) {
        let count = self.versions.len();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a few thousand slices"
        )]
        let hot = ((count as f64 * locality).ceil() as usize).clamp(1, count);
        // Beyond this many rows every slice has changed for certain, near enough.
        for _ in 0..rows.min(50 * hot as u64) {
            let at = random.random_range(count - hot..count);
            self.changes += 1;
            self.versions[at] = self.changes;
        }
    }

    /// Returns the contents of the slices.
    pub fn slices(&self) -> impl Iterator<Item = String> {
        self.versions.iter().enumerate().map(|(at, version)| format!("{at} {version}"))
    }

    /// Returns how many slices there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.versions.len()
    }

    /// Whether there is none, which [`Database::new`] does not make.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }
}
