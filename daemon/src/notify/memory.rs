//! What people were told, so that they hear of changes and not of every run.
//!
//! In memory, and in `state_dir/notified` where that can be written: one small file for each database that is in trouble, so
//! that runs of several databases by several processes do not overwrite each other's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use stonekeep_format::ids::Label;
use stonekeep_process::replace::replace;

use super::{
    notice::Kind,
    run::{Run, Verdict},
};

/// Runs in a row without a snapshot and without a failure after which somebody is told (3): another run may well take longer
/// than one interval.
pub(super) const IDLE_RUNS_MAX: u32 = 3;
/// The longest file that is read (64 KiB): a few hundred causes.
const BYTES_MAX: u64 = 64 << 10;
/// Files that are looked at (10 000): more databases than one daemon has.
const FILES_MAX: usize = 10_000;
/// For how long a database of which nothing was heard counts as in trouble (35 d): longer than a monthly schedule's gap. One
/// that was given up must not keep the ping from being called for ever.
const FORGET_AFTER: TimeDelta = TimeDelta::days(35);

/// What was told of one database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Since when it is not well.
    pub(super) trouble_since: Option<DateTime<Utc>>,
    /// When somebody was told of it last.
    told_at: Option<DateTime<Utc>>,
    /// Which causes were told since then.
    causes: BTreeSet<String>,
    /// Runs in a row that came to nothing.
    pub(super) idle_runs: u32,
    /// When it was heard of last.
    heard_at: Option<DateTime<Utc>>,
}

/// What to tell of a run, and what to remember then.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) notice: Option<Kind>,
    /// What to remember if somebody was told.
    pub(super) told: State,
    /// What to remember if nobody could be.
    pub(super) untold: State,
}

/// Decides whether a run is news: the first failure, and one for another reason, and again after `repeat`; each suspicious
/// snapshot; the first good one after either; and so many runs in a row that come to nothing.
pub(super) fn decide(before: &State, run: &Run, repeat: Duration, idle_runs_max: u32) -> Decision {
    let nothing = |state: State| Decision { notice: None, told: state.clone(), untold: state };
    let heard_at = Some(run.at);
    match run.verdict {
        Verdict::Good if before.told_at.is_some() => Decision {
            notice: Some(Kind::Recovered),
            told: State::default(),
            untold: State { idle_runs: 0, heard_at, ..before.clone() },
        },
        Verdict::Good => nothing(State::default()),
        Verdict::Suspicious => trouble(
            before,
            run,
            Kind::Suspicious,
            true,
            BTreeSet::from([Kind::Suspicious.as_str().to_owned()]),
        ),
        Verdict::Failed => {
            let causes = causes(run);
            let is_news = is_news(before, run, repeat, &causes);
            trouble(before, run, Kind::Failed, is_news, causes)
        }
        Verdict::Idle => {
            let idle_runs = before.idle_runs.saturating_add(1);
            let before = State { idle_runs, heard_at, ..before.clone() };
            if idle_runs < idle_runs_max {
                return nothing(before);
            }
            let causes = BTreeSet::from([Kind::Stuck.as_str().to_owned()]);
            let is_news = is_news(&before, run, repeat, &causes);
            let mut decision = trouble(&before, run, Kind::Stuck, is_news, causes);
            decision.told.idle_runs = idle_runs;
            decision.untold.idle_runs = idle_runs;
            decision
        }
    }
}

fn trouble(
    before: &State,
    run: &Run,
    kind: Kind,
    is_news: bool,
    mut causes: BTreeSet<String>,
) -> Decision {
    let untold = State {
        trouble_since: before.trouble_since.or(Some(run.at)),
        idle_runs: 0,
        heard_at: Some(run.at),
        ..before.clone()
    };
    causes.extend(before.causes.iter().cloned());
    let told = State { told_at: Some(run.at), causes, ..untold.clone() };
    Decision {
        notice: is_news.then_some(kind),
        told: if is_news { told } else { untold.clone() },
        untold,
    }
}

fn is_news(before: &State, run: &Run, repeat: Duration, causes: &BTreeSet<String>) -> bool {
    let repeat = TimeDelta::from_std(repeat).unwrap_or(TimeDelta::MAX);
    let is_due = before.told_at.is_none_or(|told_at| {
        // A clock that was set back must not silence it.
        let since = run.at - told_at;
        since >= repeat || since < TimeDelta::zero()
    });
    is_due || !causes.is_subset(&before.causes)
}

/// In which repository, and of what kind: not how it is worded, which differs from run to run.
fn causes(run: &Run) -> BTreeSet<String> {
    let name = |repository: &Option<String>| repository.clone().unwrap_or_else(|| "*".to_owned());
    run.failures
        .iter()
        .map(|failed| format!("{} {}", failed.kind, name(&failed.repository)))
        .collect()
}

/// The states of all databases that are in trouble.
#[derive(Debug)]
pub(super) struct Memory {
    directory: PathBuf,
    states: BTreeMap<Label, State>,
    is_unkept_said: bool,
    /// Whether the process ends with this run.
    is_of_one_run: bool,
}

impl Memory {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            directory: state_dir.join("notified"),
            states: BTreeMap::new(),
            is_unkept_said: false,
            is_of_one_run: false,
        }
    }

    /// One of a process that ends with its run, so that only what is on disk is remembered.
    pub(super) fn of_one_run(state_dir: &Path) -> Self {
        Self { is_of_one_run: true, ..Self::new(state_dir) }
    }

    /// How many runs in a row may come to nothing before somebody is told: none where they cannot be counted.
    pub(super) fn idle_runs_max(&self, run: &Run, before: &State) -> u32 {
        let is_asked = self.is_of_one_run && run.verdict == Verdict::Idle;
        let is_uncounted = is_asked && self.write(&self.file(&run.label), before).is_err();
        if is_uncounted { 1 } else { IDLE_RUNS_MAX }
    }

    /// Returns what was told of a database. Another process may have told it.
    pub(super) fn state(&self, label: &Label) -> State {
        let known = || self.states.get(label).cloned();
        load(&self.file(label)).or_else(known).unwrap_or_default()
    }

    /// Keeps it. Returns, once, why it will be forgotten with this process.
    pub(super) fn remember(&mut self, label: &Label, state: State) -> Option<String> {
        let kept = self.keep(label, &state);
        if state == State::default() {
            self.states.remove(label);
        } else {
            self.states.insert(label.clone(), state);
        }
        let error = kept.err()?;
        let is_said = std::mem::replace(&mut self.is_unkept_said, true);
        (!is_said).then(|| format!("{}: {error}", self.directory.display()))
    }

    fn keep(&self, label: &Label, state: &State) -> io::Result<()> {
        let file = self.file(label);
        if *state == State::default() {
            return fs::remove_file(file).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            });
        }
        self.write(&file, state)
    }

    fn write(&self, file: &Path, state: &State) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        replace(file, &serde_json::to_vec(state)?, 0o600)
    }

    fn file(&self, label: &Label) -> PathBuf {
        self.directory.join(format!("{label}.json"))
    }

    /// Returns a database that is in trouble, if one is.
    pub(super) fn trouble(
        &self,
        now: DateTime<Utc>,
        is_meant: impl Fn(&Label) -> bool,
    ) -> Option<Label> {
        let labels = self.states.keys().cloned().chain(self.on_disk());
        let is_in_trouble = |label: &Label| {
            let state = self.state(label);
            let is_recent = state.heard_at.is_some_and(|at| now - at < FORGET_AFTER);
            is_recent && state.trouble_since.is_some()
        };
        labels.into_iter().find(|label| is_meant(label) && is_in_trouble(label))
    }

    fn on_disk(&self) -> Vec<Label> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let label = |name: &str| name.strip_suffix(".json")?.parse().ok();
        let names = entries.flatten().take(FILES_MAX).map(|entry| entry.file_name());
        names.filter_map(|name| label(&name.to_string_lossy())).collect()
    }
}

/// What cannot be read was not told: it is told once more.
fn load(path: &Path) -> Option<State> {
    let is_short = fs::metadata(path).is_ok_and(|file| file.len() <= BYTES_MAX);
    let text = is_short.then(|| fs::read(path).ok())??;
    serde_json::from_slice(&text).ok()
}
