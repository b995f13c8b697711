//! What the service itself has to say; what happens within a run is the engine's.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::log::{Level, Said};

/// Something that happened to the service or to one database's schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum ServiceEvent {
    /// The service runs.
    ServiceStarted {
        /// Its version.
        version: &'static str,
        /// How many entries have a schedule.
        scheduled: usize,
        /// How many have none: only `stonekeepd backup` takes them.
        unscheduled: usize,
    },
    /// The configuration was read again and holds from now on.
    Reloaded {
        /// How many entries have a schedule.
        scheduled: usize,
    },
    /// It was read again and cannot be used; the old one holds.
    ReloadRefused {
        /// Why.
        message: String,
    },
    /// When a database is due next.
    Scheduled {
        /// When.
        next_at: DateTime<Utc>,
        /// Which try in its slot that is.
        tries: u32,
    },
    /// As things are, its next run will fail.
    NotReady {
        /// Why.
        message: String,
    },
    /// The service was not there, or the host asleep, when it was due; this is made up for now, once.
    SlotMissed {
        /// When it was due.
        due_at: DateTime<Utc>,
    },
    /// Slots came and went while a run was still at work; they are left out.
    SlotsPassed {
        /// When the run was due.
        slot_at: DateTime<Utc>,
    },
    /// The clock was put back; schedules count from now.
    ClockSetBack,
    /// A run begins.
    RunBegun {
        /// When it was due.
        slot_at: DateTime<Utc>,
        /// Which try in its slot this is.
        tries: u32,
    },
    /// A run ended.
    RunEnded {
        /// How many snapshots it made.
        snapshots: usize,
        /// How many it did not.
        failures: usize,
    },
    /// One database failed, in one repository or in all.
    RunFailed {
        /// The repository.
        repository: Option<String>,
        /// Why.
        message: String,
        /// What to do about it, as one word.
        kind: &'static str,
    },
    /// A run was stopped, as the whole service is; it is taken up again after the next start.
    RunStopped,
    /// It is tried again within its slot.
    RetryScheduled {
        /// When.
        retry_at: DateTime<Utc>,
        /// How often it was tried.
        tries: u32,
    },
    /// What must survive a restart cannot be read or written.
    StateFailed {
        /// Why.
        message: String,
    },
    /// Asked to stop: what runs records what it has stored.
    Stopping {
        /// How many runs.
        running: usize,
    },
    /// The service ends.
    Stopped,
}

impl Said for ServiceEvent {
    fn text(&self) -> String {
        self.to_string()
    }

    fn level(&self) -> Level {
        match self {
            Self::RunFailed { .. } | Self::ReloadRefused { .. } => Level::Error,
            Self::SlotMissed { .. }
            | Self::SlotsPassed { .. }
            | Self::ClockSetBack
            | Self::RetryScheduled { .. }
            | Self::NotReady { .. }
            | Self::StateFailed { .. } => Level::Warn,
            _ => Level::Info,
        }
    }
}

impl fmt::Display for ServiceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: &DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        match self {
            Self::ServiceStarted { version, scheduled, unscheduled: 0 } => {
                write!(f, "stonekeepd {version} runs; on a schedule: {scheduled}")
            }
            Self::ServiceStarted { version, scheduled, unscheduled } => write!(
                f,
                "stonekeepd {version} runs; on a schedule: {scheduled}, without one, so never backed up by this service: {unscheduled}"
            ),
            Self::Reloaded { scheduled } => {
                write!(f, "the configuration was read again; on a schedule: {scheduled}")
            }
            Self::ReloadRefused { message } => {
                write!(f, "the new configuration cannot be used, the old one holds: {message}")
            }
            Self::Scheduled { next_at, tries: 1 } => write!(f, "next at {}", time(next_at)),
            Self::Scheduled { next_at, tries } => {
                write!(f, "next at {}, try {tries} of what was begun before", time(next_at))
            }
            Self::NotReady { message } => write!(f, "its next run will fail: {message}"),
            Self::SlotMissed { due_at } => {
                write!(f, "was due at {}; this is made up for now, once", time(due_at))
            }
            Self::SlotsPassed { slot_at } => write!(
                f,
                "the run of {} took so long that others were due meanwhile; they are left out",
                time(slot_at)
            ),
            Self::ClockSetBack => f.write_str("the clock was put back; schedules count from now"),
            Self::RunBegun { slot_at, tries: 1 } => write!(f, "the run of {}", time(slot_at)),
            Self::RunBegun { slot_at, tries } => {
                write!(f, "the run of {}, try {tries}", time(slot_at))
            }
            Self::RunEnded { snapshots, failures: 0 } => {
                write!(f, "ended well; snapshots: {snapshots}")
            }
            Self::RunEnded { snapshots, failures } => {
                write!(f, "ended; snapshots: {snapshots}, failures: {failures}")
            }
            Self::RunFailed { message, .. } | Self::StateFailed { message } => f.write_str(message),
            Self::RunStopped => f.write_str(
                "stopped; what it has stored is recorded, and the next start takes it up again",
            ),
            Self::RetryScheduled { retry_at, tries } => {
                write!(f, "try {tries} failed; again at {}", time(retry_at))
            }
            Self::Stopping { running } => {
                write!(f, "stopping; runs that record what they have stored: {running}")
            }
            Self::Stopped => f.write_str("stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::assert_documented;

    #[test]
    fn the_docs_name_all_that_the_service_says() {
        let at = DateTime::UNIX_EPOCH;
        let message = || "x".to_owned();
        for event in [
            ServiceEvent::ServiceStarted { version: "1", scheduled: 1, unscheduled: 1 },
            ServiceEvent::Reloaded { scheduled: 1 },
            ServiceEvent::ReloadRefused { message: message() },
            ServiceEvent::Scheduled { next_at: at, tries: 1 },
            ServiceEvent::NotReady { message: message() },
            ServiceEvent::RunStopped,
            ServiceEvent::SlotMissed { due_at: at },
            ServiceEvent::SlotsPassed { slot_at: at },
            ServiceEvent::ClockSetBack,
            ServiceEvent::RunBegun { slot_at: at, tries: 2 },
            ServiceEvent::RunEnded { snapshots: 1, failures: 1 },
            ServiceEvent::RunFailed { repository: None, message: message(), kind: "denied" },
            ServiceEvent::RetryScheduled { retry_at: at, tries: 1 },
            ServiceEvent::StateFailed { message: message() },
            ServiceEvent::Stopping { running: 1 },
            ServiceEvent::Stopped,
        ] {
            assert_documented(&event);
        }
    }
}
