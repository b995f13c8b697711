//! What the service knows of its databases and repositories, for whoever asks: the status page, `/metrics`, a probe.
//!
//! The service says what it does, the looker what the buckets say, and readers get a [`View`], in which nothing is called by a
//! name that may not be shown. It is in memory alone, waits for nobody, and decides nothing.

mod database;
#[cfg(test)]
pub(crate) mod fixture;
mod repository;
pub(crate) mod view;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use stonekeep_config::{DaemonConfig, DatabaseConfig};
use stonekeep_engine::events::{Event, Listener};
use stonekeep_format::{Clock, ids::Label};

pub(crate) use self::repository::{Look, Proof, Seen};
use self::{database::Database, repository::Repository, view::View};
use crate::{outcome::Outcome, plan::of_server};

/// Databases that are remembered (1000); others are counted. With [`database::SNAPSHOTS_MAX`] of 80 bytes each this comes to
/// 20 MB for each repository at most, and to some KiB for a few databases. A view is a copy of it, and one is made at a time: so
/// with two repositories it is 80 MB at most, and hundreds of KiB as a rule.
const DATABASES_MAX: usize = 1_000;
/// How long the schedule's loop may be silent (3 min): it beats every 30 s at least, and a machine may be short of time.
const BEAT_MAX: Duration = Duration::from_secs(180);

/// What the configuration says of a database, or of those of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Its label, or what the labels of a server's databases begin with.
    label: Label,
    /// Whether it stands for the databases of a server.
    several: bool,
    /// When it is backed up, as the configuration has it.
    schedule: Option<String>,
    /// The zone of the schedule.
    zone: Tz,
    /// How old its newest good snapshot may be.
    age_max: Option<Duration>,
}

impl Entry {
    /// Returns what `database` says for the year from `today`.
    fn of(database: &DatabaseConfig, today: NaiveDate) -> Self {
        Self {
            label: database.name.clone(),
            several: !database.databases.is_empty(),
            schedule: database.schedule.as_ref().map(ToString::to_string),
            zone: database.time_zone,
            age_max: database.age_max(today),
        }
    }

    fn is_server_of(&self, label: &Label) -> bool {
        self.several && of_server(label, &self.label)
    }
}

/// Where the service writes down what it knows.
#[derive(Debug)]
pub(crate) struct Board {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    started_at: DateTime<Utc>,
    /// By the machine's steady clock: that somebody sets the time of day must not look like a death.
    beat_at: Instant,
    is_planned: bool,
    entries: Vec<Entry>,
    databases: BTreeMap<Label, Database>,
    /// Databases for which there was no room.
    left_out: u64,
    repositories: Vec<Repository>,
    /// Why the page is not served where it should be.
    unserved: Option<String>,
}

impl Board {
    /// Returns an empty one.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let state = State {
            started_at: clock.now(),
            beat_at: Instant::now(),
            is_planned: false,
            entries: Vec::new(),
            databases: BTreeMap::new(),
            left_out: 0,
            repositories: Vec::new(),
            unserved: None,
        };
        Arc::new(Self { clock, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what the configuration says. What is known of databases and repositories that are still in it stays.
    pub(crate) fn plan(&self, config: &DaemonConfig) {
        let today = self.clock.now().date_naive();
        self.enter(config.databases().iter().map(|each| Entry::of(each, today)).collect());
        self.expect(config.repositories().iter().map(|repository| repository.name.as_str()));
    }

    fn enter(&self, entries: Vec<Entry>) {
        let mut state = self.state();
        state.entries = entries;
        state.is_planned = true;
        state.left_out = 0;
        let mut before = std::mem::take(&mut state.databases);
        for index in 0..state.entries.len() {
            let entry = &state.entries[index];
            let of_server: Vec<Label> =
                before.keys().filter(|label| entry.is_server_of(label)).cloned().collect();
            for label in [entry.label.clone()].into_iter().chain(of_server) {
                let database = before.remove(&label).unwrap_or_default();
                state.insert(label, Database { entry: Some(index), ..database });
            }
        }
        let running = before.into_iter().filter(|(_, database)| database.running.is_some());
        for (label, database) in running {
            state.insert(label, Database { entry: None, ..database });
        }
    }

    /// Takes note of the repositories, in their order.
    fn expect<'n>(&self, names: impl Iterator<Item = &'n str>) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.repositories);
        state.repositories = names
            .map(|name| match before.iter().position(|repository| repository.name == name) {
                Some(at) => before.swap_remove(at),
                None => Repository::new(name),
            })
            .collect();
        let names: Vec<String> =
            state.repositories.iter().map(|repository| repository.name.clone()).collect();
        for database in state.databases.values_mut() {
            database.histories.retain(|name, _| names.contains(name));
        }
    }

    /// Takes note of when a database is backed up next.
    pub(crate) fn next(&self, label: &Label, at: Option<DateTime<Utc>>) {
        if let Some(database) = self.state().database(label) {
            database.next_at = at;
        }
    }

    /// Takes note that a run began.
    pub(crate) fn begun(&self, label: &Label) {
        let now = self.clock.now();
        if let Some(database) = self.state().database(label) {
            database.begin(now);
        }
    }

    /// Takes note of what a run says.
    fn heard(&self, label: &Label, event: &Event) {
        if let Some(database) = self.state().databases.get_mut(label) {
            database.hear(event);
        }
    }

    /// Takes note of what became of a run. What it left alone stays as the one before it left it.
    pub(crate) fn ended(&self, label: &Label, outcomes: &[Outcome]) {
        let now = self.clock.now();
        if let Some(database) = self.state().database(label) {
            database.end(now, outcomes);
        }
    }

    /// Takes note that a server's databases could be listed, if that had failed before.
    pub(crate) fn listed(&self, entry: &Label) {
        let mut state = self.state();
        let is_server = state.entries.iter().any(|each| each.several && each.label == *entry);
        if let Some(database) = state.databases.get_mut(entry).filter(|_| is_server) {
            database.forgive();
        }
    }

    /// Returns a listener that writes down what a run of this database says, and passes it on.
    pub(crate) fn listener(
        self: &Arc<Self>,
        label: &Label,
        inner: Arc<dyn Listener>,
    ) -> Arc<dyn Listener> {
        Arc::new(Scribe { board: Arc::clone(self), label: label.clone(), inner })
    }

    /// Takes note of what the bucket of a repository says.
    pub(crate) fn looked(&self, repository: &str, look: Look) {
        let now = self.clock.now();
        let mut state = self.state();
        let look = match look {
            Look::Seen(seen) => Look::Seen(state.take(repository, seen)),
            other => other,
        };
        if let Some(known) = state.repositories.iter_mut().find(|it| it.name == repository) {
            known.look(now, look);
        }
    }

    /// Takes note that the loop of the schedules lives.
    pub(crate) fn beat(&self) {
        self.state().beat_at = Instant::now();
    }

    /// Says whether it lives: how long it has been silent if that is too long.
    pub(crate) fn alive(&self) -> Result<(), Duration> {
        let silent = self.state().beat_at.elapsed();
        if silent > BEAT_MAX { Err(silent) } else { Ok(()) }
    }

    /// Whether the configuration is loaded and every repository was looked at, or tried.
    pub(crate) fn ready(&self) -> bool {
        let state = self.state();
        state.is_planned && state.repositories.iter().all(Repository::is_tried)
    }

    /// Takes note of why the page is not served, or that it is.
    pub(crate) fn serve(&self, unserved: Option<String>) {
        self.state().unserved = unserved;
    }

    /// Returns why the page is not served where it should be.
    pub(crate) fn unserved(&self) -> Option<String> {
        self.state().unserved.clone()
    }

    /// Returns what may be shown, with names or with numbers instead.
    pub(crate) fn view(&self, show_names: bool) -> View {
        let now = self.clock.now();
        self.state().view(now, show_names)
    }

    /// Lets the last beat be longer ago.
    #[cfg(test)]
    pub(crate) fn be_silent_for(&self, time: Duration) {
        let mut state = self.state();
        state.beat_at = state.beat_at.checked_sub(time).expect("the machine runs for longer");
    }
}

impl State {
    /// One that nobody has heard of is of a server's databases, or of a configuration that was.
    fn database(&mut self, label: &Label) -> Option<&mut Database> {
        if !self.databases.contains_key(label) {
            let entry = self.server_of(label);
            self.insert(label.clone(), Database { entry, ..Database::default() });
        }
        self.databases.get_mut(label)
    }

    /// The entry whose databases' labels begin as this one does; of several, the one that says most of it.
    fn server_of(&self, label: &Label) -> Option<usize> {
        let entries = self.entries.iter().enumerate();
        let servers = entries.filter(|(_, entry)| entry.is_server_of(label));
        servers.max_by_key(|(_, entry)| entry.label.as_str().len()).map(|(index, _)| index)
    }

    fn insert(&mut self, label: Label, database: Database) {
        if self.databases.len() < DATABASES_MAX || self.databases.contains_key(&label) {
            self.databases.insert(label, database);
        } else {
            self.left_out += 1;
        }
    }

    /// Takes the snapshots of known databases, and of those of known servers; returns the rest.
    fn take(&mut self, repository: &str, mut seen: Seen) -> Seen {
        for database in self.databases.values_mut() {
            database.histories.entry(repository.to_owned()).or_default().forget(seen.begun_at);
        }
        seen.others = 0;
        for (label, snapshots) in std::mem::take(&mut seen.snapshots) {
            if !self.databases.contains_key(&label) && self.server_of(&label).is_none() {
                seen.others += 1;
            } else if let Some(database) = self.database(&label) {
                let history = database.histories.entry(repository.to_owned()).or_default();
                history.forget(seen.begun_at);
                history.fill(snapshots);
            }
        }
        seen
    }
}

/// Writes down what it hears, and passes it on.
#[derive(Debug)]
struct Scribe {
    board: Arc<Board>,
    label: Label,
    inner: Arc<dyn Listener>,
}

impl Listener for Scribe {
    fn hear(&self, event: &Event) {
        self.board.heard(&self.label, event);
        self.inner.hear(event);
    }
}

#[cfg(test)]
mod tests;
