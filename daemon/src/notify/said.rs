//! What the log says of telling.

use std::error::Error;

use serde::Serialize;
use stonekeep_format::{ErrorKind, ids::Label};
use stonekeep_process::failure::FailureReport;

use super::notice::Kind;
use crate::log::{Level, Said};

/// What became of a notice. One that does not arrive is a warning: the backup is what it is.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Told {
    /// Somebody was told.
    NoticeSent { to: &'static str, notice: Kind },
    /// Somebody was not.
    NoticeLost { to: &'static str, notice: Kind, message: String },
    /// More was to be told than fits the queue.
    NoticesDropped,
    /// The process ends, and somebody does not answer.
    NoticesUnfinished,
    /// What was told cannot be kept beyond this process.
    NoticesNotRemembered { message: String },
    /// A ping arrived.
    PingSent,
    /// A ping did not.
    PingLost { message: String },
    /// What was told of was well, and not all was.
    PingUnsure,
    /// This was well, and another database is not.
    PingHeld { trouble: Label },
}

impl Said for Told {
    fn level(&self) -> Level {
        match self {
            Self::NoticeSent { .. } | Self::NoticesNotRemembered { .. } => Level::Info,
            Self::PingSent => Level::Debug,
            _ => Level::Warn,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::NoticeSent { to, notice } => format!("told the {to}: {}", notice.as_str()),
            Self::NoticeLost { to, notice, message } => {
                format!("the {to} was not told ({}): {message}", notice.as_str())
            }
            Self::NoticesDropped => "too much is to be told: a notice was left out".to_owned(),
            Self::NoticesUnfinished => {
                "not all that was to be told was: somebody does not answer".to_owned()
            }
            Self::NoticesNotRemembered { message } => {
                format!("what was told is remembered by this process only: {message}")
            }
            Self::PingSent => "called the ping".to_owned(),
            Self::PingLost { message } => format!("the ping did not arrive: {message}"),
            Self::PingUnsure => {
                "the ping is not called: too much was to be told to know that all is well"
                    .to_owned()
            }
            Self::PingHeld { trouble } => {
                format!("the ping is not called: {trouble} is in trouble")
            }
        }
    }
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn Error) -> String {
    FailureReport::new(error, ErrorKind::Unavailable).message
}
