//! `[[tier]]`: how many snapshots are kept, and how long.

use std::time::Duration;

use serde::Deserialize;
use stonekeep_format::tier::{Every, Tier};

use crate::value;

/// A retention tier: of each period, one snapshot is kept this long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierConfig {
    /// Its name, shown by `stonekeep list`.
    pub name: String,
    /// Its period: `hour`, `day`, `week`, `month` or `year`.
    pub every: Every,
    /// How long its snapshots are promised: `"12h"`, `"7d"`, `"4w"` or `"10y"` (a year has 365 days).
    #[serde(deserialize_with = "value::keep")]
    pub keep: Duration,
}

impl From<&TierConfig> for Tier {
    fn from(tier: &TierConfig) -> Self {
        Self { name: tier.name.clone(), every: tier.every, keep: tier.keep }
    }
}
