//! Standard error: one line for each thing that happens, for people at a terminal and as JSON elsewhere.
//!
//! What the engine says comes through a [`Reader`], what the daemon itself has to say through [`Voice::say`], what libraries
//! say through `tracing`; all have one shape. Names of fields are an interface: docs/operations.md lists them.

mod libraries;
mod reader;

use std::{
    fmt::Display,
    io::{self, IsTerminal},
};

use serde::Serialize;
use stonekeep_config::{Environment, defaults};
use stonekeep_engine::context::SystemClock;
use stonekeep_format::{Clock as _, ids::Label};
pub(crate) use stonekeep_process::lines::{About, Level};
use stonekeep_process::{lines, output::printable};
use tracing_subscriber::EnvFilter;

pub(crate) use self::reader::Reader;
use crate::failure::Failure;

/// How things are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// As lines for people.
    Text,
    /// As JSON lines, those that the filter lets through: a log that is kept.
    Json,
    /// As JSON lines, every event and progress each second: what `--json` asks for.
    Everything,
}

/// Something to be said. Serialized it is an object with its name, in snake case, in `event`.
pub(crate) trait Said: Serialize {
    /// How bad it is.
    fn level(&self) -> Level;
    /// What it means, in one line for people, without the label.
    fn text(&self) -> String;
}

impl Voice {
    /// Chooses: what `--json` or `STONEKEEP_LOG_FORMAT` asks for; else text at a terminal, and JSON where nobody sits.
    pub(crate) fn choose(json: bool, environment: &Environment) -> Self {
        match environment.log_format.as_deref() {
            _ if json => Self::Everything,
            Some("json") => Self::Json,
            Some("text") => Self::Text,
            _ if io::stderr().is_terminal() => Self::Text,
            _ => Self::Json,
        }
    }

    /// Whether lines are JSON.
    pub(crate) fn is_json(self) -> bool {
        self != Self::Text
    }

    /// Says what the daemon has to say, of a database or of none.
    pub(crate) fn say(self, label: Option<&Label>, said: &impl Said) {
        match self {
            Self::Text => {
                let text = said.text();
                match label {
                    Some(label) => print(said.level(), format_args!("{label}: {text}")),
                    None => print(said.level(), text),
                }
            }
            _ => self.write(said.level(), About { label, repository: None }, said),
        }
    }

    fn write(self, level: Level, about: About<'_>, said: &impl Serialize) {
        if self == Self::Everything || is_shown(level) {
            lines::write(SystemClock.now(), level, about, said);
        }
    }
}

/// Starts logging.
pub(crate) fn start(voice: Voice, environment: &Environment) -> Result<(), Failure> {
    let filter = environment.log_filter.as_deref().unwrap_or(defaults::LOG_FILTER);
    let filter = EnvFilter::try_new(filter).map_err(Failure::LogFilter)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if voice.is_json() {
        lines.with_ansi(false).event_format(libraries::Lines).init();
    } else {
        lines.with_ansi(io::stderr().is_terminal()).with_target(false).init();
    }
    match environment.log_format.as_deref() {
        None | Some("text" | "json") => Ok(()),
        Some(_) => Err(Failure::LogFormat),
    }
}

/// Prints a line for people; what servers have said in it must not confuse a terminal.
fn print(level: Level, text: impl Display) {
    let text = printable(&text.to_string());
    match level {
        Level::Error => tracing::error!("{text}"),
        Level::Warn => tracing::warn!("{text}"),
        Level::Info => tracing::info!("{text}"),
        Level::Debug => tracing::debug!("{text}"),
    }
}

/// Whether `STONEKEEP_LOG` lets our own lines of this level through.
fn is_shown(level: Level) -> bool {
    match level {
        Level::Error => tracing::enabled!(tracing::Level::ERROR),
        Level::Warn => tracing::enabled!(tracing::Level::WARN),
        Level::Info => tracing::enabled!(tracing::Level::INFO),
        Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
    }
}

/// Checks that docs/operations.md names what is said, its level and its fields.
#[cfg(test)]
pub(crate) fn assert_documented(said: &impl Said) {
    const DOCS: &str = include_str!("../../docs/operations.md");
    let value = serde_json::to_value(said).expect("JSON");
    let object = value.as_object().expect("an object");
    let name = object["event"].as_str().expect("a name");
    let (_, logs) = DOCS.split_once("\n## Logs\n").expect("a section");
    let row = logs.lines().find(|line| line.starts_with(&format!("| `{name}` | ")));
    let row = row.unwrap_or_else(|| panic!("the docs do not name {name}"));
    let cells: Vec<&str> = row.split(" | ").collect();
    let level = serde_json::to_value(said.level()).expect("JSON");
    assert_eq!(cells[1], level, "{name}");
    let fields: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
    for field in object.keys().filter(|field| *field != "event") {
        assert!(fields.contains(&field.as_str()), "{name}: {field} is not in the docs");
    }
    let text = said.text();
    assert!(!text.is_empty() && !text.contains('\n'), "{name} is one line for people");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_asked_for_or_nobody_sits_there() {
        let format = |text: &str| Environment {
            log_format: Some(text.to_owned()),
            ..Environment::default()
        };
        assert_eq!(Voice::choose(false, &format("text")), Voice::Text);
        assert_eq!(Voice::choose(false, &format("json")), Voice::Json);
        assert_eq!(Voice::choose(true, &format("text")), Voice::Everything);
    }
}
