//! `[service]`: how `stonekeepd run` goes about its schedules.

use std::time::Duration;

use serde::Deserialize;

use crate::{defaults, value};

/// How the service runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// Databases that are backed up at the same time; they share the memory budget.
    #[serde(deserialize_with = "value::parallel")]
    pub parallel: usize,
    /// How long after its time a run may begin: each database has a delay of its own, always the same.
    #[serde(deserialize_with = "value::jitter")]
    pub jitter: Duration,
    /// How long a run may go without getting on before it is ended.
    #[serde(deserialize_with = "value::stall_max")]
    pub stall_max: Duration,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            parallel: defaults::PARALLEL,
            jitter: Duration::ZERO,
            stall_max: defaults::STALL_MAX,
        }
    }
}
