//! Standard error: log lines and the engine's events, in plain lines or, with `--json`, as JSON lines.

use std::{
    io::{self, IsTerminal},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stonekeep_config::defaults;
use stonekeep_engine::{
    context::SystemClock,
    events::{Event, Listener, Phase},
};
use stonekeep_format::{Clock, ids::Label};
use stonekeep_process::{
    lines::{self, Tally},
    output::bytes,
};
use tracing_subscriber::EnvFilter;

use crate::failure::Failure;

/// How often progress is said in JSON (1 s): often enough for a display, seldom enough for a log that is kept.
const PROGRESS_JSON: Duration = Duration::from_secs(1);
/// How often progress is said to people (10 s).
const PROGRESS_TEXT: Duration = Duration::from_secs(10);

/// How events are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// As log lines.
    Text,
    /// As JSON lines: what `--json` asks for.
    Json,
}

/// Starts logging.
pub(crate) fn start(json: bool, filter: Option<&str>) -> Result<Voice, Failure> {
    let filter =
        EnvFilter::try_new(filter.unwrap_or(defaults::LOG_FILTER)).map_err(Failure::LogFilter)?;
    let voice = if json { Voice::Json } else { Voice::Text };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match voice {
        Voice::Text => lines.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        Voice::Json => lines.json().flatten_event(true).with_ansi(false).init(),
    }
    Ok(voice)
}

/// Says the events of one database's run.
#[derive(Debug)]
pub(crate) struct Reader {
    name: String,
    label: Option<Label>,
    voice: Voice,
    tally: Mutex<Tally>,
}

impl Reader {
    pub(crate) fn new(label: &Label, voice: Voice) -> Arc<Self> {
        let interval = if voice == Voice::Json { PROGRESS_JSON } else { PROGRESS_TEXT };
        let (name, label) = (label.to_string(), Some(label.clone()));
        Arc::new(Self { name, label, voice, tally: Mutex::new(Tally::new(interval)) })
    }

    /// For what is about a repository and no database.
    pub(crate) fn of_repository(name: &str, voice: Voice) -> Arc<Self> {
        let tally = Mutex::new(Tally::new(PROGRESS_TEXT));
        Arc::new(Self { name: name.to_owned(), label: None, voice, tally })
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, event: &Event) {
        match self.voice {
            Voice::Json => lines::write(event, SystemClock.now(), self.label.as_ref()),
            Voice::Text => self.say_text(event),
        }
    }

    fn say_text(&self, event: &Event) {
        let label = &self.name;
        match event {
            Event::Phase { phase, .. } => tracing::info!("{label}: {}", doing(*phase)),
            Event::Progress { .. } => tracing::info!("{label}: {}", self.so_far()),
            Event::TableDone { table, rows, bytes: size } => {
                tracing::debug!("{label}: {table}: {rows} rows, {}", bytes(*size));
            }
            Event::Retried { action, reason } => {
                tracing::warn!("{label}: trying again to {action}: {reason}");
            }
            Event::Warning { message } => tracing::warn!("{label}: {message}"),
            // The report and the failure are printed as the result.
            _ => tracing::debug!("{label}: {event:?}"),
        }
    }

    fn so_far(&self) -> String {
        let tally = self.tally();
        let done = bytes(tally.bytes());
        tally
            .bytes_expected()
            .map_or_else(|| done.clone(), |all| format!("{done} of about {}", bytes(all)))
    }
}

impl Listener for Reader {
    fn hear(&self, event: &Event) {
        let due = match event {
            Event::Progress { bytes, rows } => self.tally().add(*bytes, *rows),
            // At the end of a phase a program needs the sums to be right; people need no more numbers.
            Event::Phase { bytes_expected, .. } => {
                self.tally().begin(*bytes_expected).filter(|_| self.voice == Voice::Json)
            }
            _ => None,
        };
        if let Some(progress) = due {
            self.say(&progress);
        }
        if !matches!(event, Event::Progress { .. }) {
            self.say(event);
        }
    }
}

const fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "reading the repository",
        Phase::Snapshot => "locking tables and exporting the snapshot",
        Phase::Copying => "copying",
        Phase::Committing => "checking and committing",
        _ => "working",
    }
}
