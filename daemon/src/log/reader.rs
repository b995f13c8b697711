//! The engine's events of one run.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use stonekeep_engine::events::{Event, Listener, Phase};
use stonekeep_format::ids::Label;
use stonekeep_process::{lines::Tally, output::bytes};

use super::{About, Level, Voice, print};

/// How often progress is said to a program that shows it (1 s).
const PROGRESS_SHOWN: Duration = Duration::from_secs(1);
/// How often progress is said to people and in a log that is kept (10 s).
const PROGRESS_KEPT: Duration = Duration::from_secs(10);

/// Says the events of one database's run, or of one repository's.
#[derive(Debug)]
pub(crate) struct Reader {
    of: Of,
    voice: Voice,
    tally: Mutex<Tally>,
}

#[derive(Debug)]
enum Of {
    Database(Label),
    Repository(String),
}

impl Of {
    fn name(&self) -> &str {
        match self {
            Self::Database(label) => label.as_str(),
            Self::Repository(name) => name,
        }
    }

    fn about(&self) -> About<'_> {
        match self {
            Self::Database(label) => About { label: Some(label), repository: None },
            Self::Repository(name) => About { label: None, repository: Some(name) },
        }
    }
}

impl Reader {
    pub(crate) fn new(label: &Label, voice: Voice) -> Arc<Self> {
        Self::of(Of::Database(label.clone()), voice)
    }

    /// For what is about a repository and no database.
    pub(crate) fn of_repository(name: &str, voice: Voice) -> Arc<Self> {
        Self::of(Of::Repository(name.to_owned()), voice)
    }

    fn of(of: Of, voice: Voice) -> Arc<Self> {
        let interval = if voice == Voice::Everything { PROGRESS_SHOWN } else { PROGRESS_KEPT };
        Arc::new(Self { of, voice, tally: Mutex::new(Tally::new(interval)) })
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, event: &Event) {
        if self.voice.is_json() {
            return self.voice.write(event.level(), self.of.about(), event);
        }
        if let Some((level, text)) = self.text(event) {
            print(level, format_args!("{}: {text}", self.of.name()));
        }
    }

    /// What people are told; the report and the failure are printed as the result.
    fn text(&self, event: &Event) -> Option<(Level, String)> {
        let text = match event {
            Event::Phase { phase, .. } => doing(*phase).to_owned(),
            Event::Progress { .. } => self.so_far(),
            Event::TableDone { table, rows, bytes: size } => {
                format!("{table}: {rows} rows, {}", bytes(*size))
            }
            Event::Retried { action, reason } => format!("trying again to {action}: {reason}"),
            Event::Warning { message } => message.clone(),
            _ => return Some((Level::Debug, format!("{event:?}"))),
        };
        Some((event.level(), text))
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
                self.tally().begin(*bytes_expected).filter(|_| self.voice.is_json())
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
