//! `stonekeepd run`: backs each database up on its schedule, for years.
//!
//! One loop decides, and never waits for a run: it looks at the clock, begins what is due, and hears what became of it. It is
//! awake at least every half minute, since a clock can be put forward or back, and a host can have been asleep. What must be
//! known after a restart is in a [`memory::Memory`]; everything else is in the bucket.

mod agenda;
mod event;
mod job;
mod memory;
mod runner;

use std::{collections::BTreeMap, path::Path, process::ExitCode, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use stonekeep_config::{DaemonConfig, Environment};
use stonekeep_engine::context::SystemClock;
use stonekeep_format::{Clock, ids::Label};
use stonekeep_process::failure::FailureReport;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use self::{
    agenda::{Agenda, Attempt, Past, delay},
    event::ServiceEvent,
    job::{Followup, Job, JobState},
    memory::{Memory, Pasts},
    runner::{Backups, Order, Runner},
};
use crate::{
    board::Board,
    failure::Failure,
    log::Voice,
    notify::Notices,
    outcome::{Outcome, Taken},
    plan::Shared,
    status::{self, Status},
    systemd::Manager,
};

/// How long the loop sleeps at most (30 s): so late it notices that a clock was set or a host woke up.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// From when on a run counts as missed (2 min after it was due): the loop alone is late by 30 s at most.
const LATE_MIN: TimeDelta = TimeDelta::minutes(2);
/// How long runs have to record what they have stored once the service is asked to stop (75 s): less than the unit's
/// `TimeoutStopSec`, and more than the engine allows itself.
const STOP_DURATION_MAX: Duration = Duration::from_secs(75);

/// How long the end of the service waits for what people are not told yet (10 s): what is told is told when a run ends, so
/// there is hardly ever anything, and the unit's `TimeoutStopSec` is near.
const NOTICES_DURATION_MAX: Duration = Duration::from_secs(10);

/// Runs until it is asked to stop.
pub(crate) async fn run(
    named: Option<&Path>,
    config: DaemonConfig,
    environment: &Environment,
    voice: Voice,
    cancel: CancellationToken,
) -> Result<ExitCode, Failure> {
    let load = || DaemonConfig::find(named, environment).map_err(Failure::Config);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let board = Board::new(Arc::clone(&clock));
    let runner =
        Arc::new(Backups::new(environment.clone(), voice, Arc::clone(&clock), Arc::clone(&board)));
    let reloads = reloads().map_err(Failure::Runtime)?;
    let say: Say = Arc::new(move |label, event| voice.say(label, event));
    let surroundings = Surroundings { clock, runner, say, environment: environment.clone() };
    let notices = Notices::load(&config, environment, voice)?;
    let labels: Vec<Label> = config.databases().iter().map(|entry| entry.name.clone()).collect();
    let mut service = match Service::start(config, notices, surroundings) {
        Ok(service) => service,
        Err((failure, notices)) => {
            notices.tell_failure(&labels, &failure);
            notices.finish(NOTICES_DURATION_MAX).await;
            return Err(failure);
        }
    };
    let (config, environment) = (Arc::clone(&service.config), Arc::new(environment.clone()));
    service.shown = Some(status::start(config, environment, board, cancel.clone()).await);
    service.run(load, reloads, cancel).await;
    Ok(ExitCode::SUCCESS)
}

/// Returns what is sent to whenever SIGHUP comes; several that come during one reload are one.
fn reloads() -> std::io::Result<mpsc::Receiver<()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            // Full: a reload is about to happen anyway.
            let _full = sender.try_send(());
        }
    });
    Ok(receiver)
}

/// Where events go, each with the database that it is about.
type Say = Arc<dyn Fn(Option<&Label>, &ServiceEvent) + Send + Sync>;

/// What the service needs besides its configuration.
struct Surroundings {
    clock: Arc<dyn Clock>,
    runner: Arc<dyn Runner>,
    say: Say,
    environment: Environment,
}

/// What became of one run.
type Ended = (Label, Vec<Outcome>);

struct Service {
    surroundings: Surroundings,
    config: Arc<DaemonConfig>,
    jobs: BTreeMap<Label, Job>,
    running: FuturesUnordered<BoxFuture<'static, Ended>>,
    memory: Memory,
    /// Whether the last write failed: it is said once, not each time.
    is_forgetful: bool,
    manager: Manager,
    notices: Notices,
    /// Where it shows how it is; `None` in tests.
    shown: Option<Status>,
    /// What cancels the runs.
    stop: CancellationToken,
}

impl Service {
    /// Reads what is remembered, and everything that can be wrong with the configuration.
    fn start(
        config: DaemonConfig,
        notices: Notices,
        surroundings: Surroundings,
    ) -> Result<Self, (Failure, Notices)> {
        let host_key = match check(&config, &surroundings.environment) {
            Ok(host_key) => host_key,
            Err(failure) => return Err((failure, notices)),
        };
        let mut service = Self {
            notices,
            memory: Memory::new(&config.state_dir),
            config: Arc::new(config),
            surroundings,
            jobs: BTreeMap::new(),
            running: FuturesUnordered::new(),
            is_forgetful: false,
            manager: Manager::default(),
            shown: None,
            stop: CancellationToken::new(),
        };
        let pasts = service.memory.load().unwrap_or_else(|error| {
            let path = service.memory.path().display();
            let message =
                format!("cannot read {path} ({error}): what was missed is not made up for");
            service.say(None, &ServiceEvent::StateFailed { message });
            Pasts::new()
        });
        service.schedule(&pasts, &host_key);
        service.tell_of_kills();
        Ok(service)
    }

    /// A run that was killed has left nobody to tell of it. Once, that may be a host that was restarted.
    fn tell_of_kills(&self) {
        for (label, job) in &self.jobs {
            let open = job.agenda.past().attempt.filter(|attempt| attempt.is_open);
            if let Some(Attempt { tries, .. }) = open.filter(|attempt| attempt.tries > 1) {
                let failure = Failure::Killed { label: label.clone(), tries };
                let FailureReport { message, kind, .. } = failure.to_report();
                self.say(Some(label), &ServiceEvent::RunFailed { repository: None, message, kind });
                self.notices.tell_failure([label], &failure);
            }
        }
    }

    async fn run(
        mut self,
        load: impl Fn() -> Result<DaemonConfig, Failure>,
        mut reloads: mpsc::Receiver<()>,
        cancel: CancellationToken,
    ) {
        let (scheduled, unscheduled) = self.counts();
        let version = env!("CARGO_PKG_VERSION");
        self.say(None, &ServiceEvent::ServiceStarted { version, scheduled, unscheduled });
        self.say_when();
        self.remember();
        self.manager.ready();
        let sleep_max =
            Manager::watchdog().map_or(SLEEP_MAX, |watchdog| SLEEP_MAX.min(watchdog / 2));
        loop {
            self.manager.alive();
            self.begin_due();
            self.show();
            self.manager.status(job::status(&self.jobs));
            let pause = self.surroundings.clock.sleep(self.until_next().min(sleep_max));
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some((label, outcomes)) = self.running.next() => self.end(&label, outcomes),
                Some(()) = reloads.recv() => self.reload(&load),
                () = pause => {}
            }
        }
        self.leave().await;
    }

    /// Shows that the loop lives, and what is due when.
    fn show(&self) {
        if let Some(shown) = &self.shown {
            shown.beat(self.jobs.iter().map(|(label, job)| (label, job.agenda.due_at())));
        }
    }

    /// How long nothing is due.
    fn until_next(&self) -> Duration {
        if self.has_room() && self.jobs.values().any(|job| job.state == JobState::Due) {
            return Duration::ZERO;
        }
        let idle = self.jobs.values().filter(|job| job.state == JobState::Idle);
        let next = idle.filter_map(|job| job.agenda.due_at()).min();
        let now = self.now();
        next.map_or(SLEEP_MAX, |next| (next - now).to_std().unwrap_or_default())
    }

    fn has_room(&self) -> bool {
        self.running.len() < self.config.service.parallel
    }

    /// Begins what is due, the longest due first, as far as there is room.
    fn begin_due(&mut self) {
        let now = self.now();
        let mut events = Vec::new();
        for (label, job) in &mut self.jobs {
            if job.state != JobState::Running && job.agenda.settle(now) {
                events.push((label.clone(), ServiceEvent::ClockSetBack));
            }
            if job.state == JobState::Idle
                && let Some(due_at) = job.agenda.due_at().filter(|due| *due <= now)
            {
                job.state = JobState::Due;
                if now - due_at > LATE_MIN {
                    events.push((label.clone(), ServiceEvent::SlotMissed { due_at }));
                }
            }
        }
        for (label, event) in events {
            self.say(Some(&label), &event);
        }
        let due = self.jobs.iter().filter(|(_, job)| job.state == JobState::Due);
        let mut due: Vec<_> =
            due.map(|(label, job)| (job.agenda.due_at(), label.clone())).collect();
        due.sort();
        for (_, label) in due {
            if self.has_room() {
                self.begin(&label, now);
            }
        }
    }

    fn begin(&mut self, label: &Label, now: DateTime<Utc>) {
        let Some(job) = self.jobs.get_mut(label) else { return };
        let attempt = job.begin(now);
        let order = Order {
            config: Arc::clone(&self.config),
            entry: job.entry.clone(),
            only: job.unfinished.clone(),
            cancel: self.stop.clone(),
        };
        self.say(
            Some(label),
            &ServiceEvent::RunBegun { slot_at: attempt.slot, tries: attempt.tries },
        );
        self.remember();
        let runner = Arc::clone(&self.surroundings.runner);
        let label = label.clone();
        // A task of its own, so that a bug in it does not end the service.
        let task = tokio::spawn(runner.run(order));
        self.running.push(Box::pin(async move {
            let outcomes = task.await.unwrap_or_else(|source| {
                let label = label.clone();
                vec![Outcome::failed(label.clone(), Failure::Task { label, source })]
            });
            (label, outcomes)
        }));
    }

    fn end(&mut self, label: &Label, outcomes: Vec<Outcome>) {
        self.say_outcomes(label, &outcomes);
        let now = self.now();
        if let Some(shown) = &self.shown {
            shown.look();
        }
        let Some(job) = self.jobs.get_mut(label) else { return };
        let is_leaving = job.state == JobState::Leaving;
        // The databases of a server bear other names than its entry, of which only the list of them can fail.
        let is_listed =
            job.entry.patterns().is_some() && !outcomes.iter().any(|each| each.label == *label);
        if is_listed {
            self.notices.listed(label);
        }
        let Followup { event, news, waits } = job.end(outcomes, now);
        // That a run was stopped, whoever stopped it knows.
        if event.is_none() || !self.stop.is_cancelled() {
            job.tell(&news, &self.notices);
            if !waits {
                self.notices.end_of_run();
            }
        }
        if is_leaving {
            self.jobs.remove(label);
        } else if let Some(event) = event.filter(|_| !self.stop.is_cancelled()) {
            self.say(Some(label), &event);
        }
        self.remember();
    }

    /// Takes the configuration anew, if it can be used. Runs that are at work end under the old one.
    fn reload(&mut self, load: impl Fn() -> Result<DaemonConfig, Failure>) {
        self.manager.reloading();
        match self.try_reload(load) {
            Ok(()) => {
                let (scheduled, _) = self.counts();
                self.say(None, &ServiceEvent::Reloaded { scheduled });
                self.say_when();
            }
            Err(failure) => {
                let message = failure.to_report().message;
                self.say(None, &ServiceEvent::ReloadRefused { message });
            }
        }
        self.manager.ready();
    }

    fn try_reload(
        &mut self,
        load: impl Fn() -> Result<DaemonConfig, Failure>,
    ) -> Result<(), Failure> {
        let config = load()?;
        let host_key = check(&config, &self.surroundings.environment)?;
        self.notices = self.notices.reload(&config, &self.surroundings.environment)?;
        // From here on nothing can fail: it is taken whole or not at all.
        self.memory = Memory::new(&config.state_dir);
        self.config = Arc::new(config);
        let pasts = self.pasts();
        self.schedule(&pasts, &host_key);
        if let Some(shown) = &self.shown {
            shown.reload(&self.config);
        }
        self.remember();
        Ok(())
    }

    /// Makes the jobs those of the configuration. One that is new counts from now, or from what is remembered of it.
    fn schedule(&mut self, pasts: &Pasts, host_key: &str) {
        let config = Arc::clone(&self.config);
        let now = self.now();
        let mut old = std::mem::take(&mut self.jobs);
        for entry in config.databases() {
            let Some(schedule) = entry.schedule.clone() else { continue };
            let label = entry.name.clone();
            let past = pasts.get(&label).copied();
            let past = past.unwrap_or(Past { handled_at: now, attempt: None });
            let delay = delay(config.service.jitter, host_key, label.as_str());
            let agenda = Agenda::new(schedule, entry.time_zone, delay, past);
            let is_due = agenda.due_at().is_some_and(|due_at| due_at <= now);
            let old = old.remove(&label);
            let state = old.as_ref().map_or(JobState::Idle, |job| job.state.kept(is_due));
            // Repositories may be others now: a try after a reload is of everything.
            let job = Job {
                entry: entry.clone(),
                agenda,
                state,
                outcomes: Vec::new(),
                unfinished: None,
                last: old.and_then(|job| job.last),
            };
            self.jobs.insert(label, job);
        }
        let leaving = old.into_iter().filter(|(_, job)| job.state.is_at_work());
        self.jobs
            .extend(leaving.map(|(label, job)| (label, Job { state: JobState::Leaving, ..job })));
    }

    /// Ends: what runs records what it has stored, and is tried again after the next start.
    async fn leave(mut self) {
        self.manager.stopping();
        self.say(None, &ServiceEvent::Stopping { running: self.running.len() });
        self.manager
            .status(format!("Stopping; runs that record what they stored: {}", self.running.len()));
        self.stop.cancel();
        let mut time_is_up = self.surroundings.clock.sleep(STOP_DURATION_MAX);
        while !self.running.is_empty() {
            tokio::select! {
                Some((label, outcomes)) = self.running.next() => self.end(&label, outcomes),
                () = &mut time_is_up => break,
            }
        }
        let Self { notices, surroundings, .. } = self;
        notices.finish(NOTICES_DURATION_MAX).await;
        (surroundings.say)(None, &ServiceEvent::Stopped);
    }

    fn pasts(&self) -> Pasts {
        self.jobs.iter().map(|(label, job)| (label.clone(), job.agenda.past())).collect()
    }

    /// Writes down how far the schedules are done. That this fails keeps nobody from being backed up.
    fn remember(&mut self) {
        let saved = self.memory.save(&self.pasts());
        if let Err(error) = &saved
            && !self.is_forgetful
        {
            let path = self.memory.path().display();
            let message = format!(
                "cannot write {path} ({error}): backups go on, but after a restart what was missed is not made up for"
            );
            self.say(None, &ServiceEvent::StateFailed { message });
        }
        self.is_forgetful = saved.is_err();
    }

    fn counts(&self) -> (usize, usize) {
        let scheduled =
            self.config.databases().iter().filter(|each| each.schedule.is_some()).count();
        (scheduled, self.config.databases().len() - scheduled)
    }

    fn now(&self) -> DateTime<Utc> {
        self.surroundings.clock.now()
    }

    fn say(&self, label: Option<&Label>, event: &ServiceEvent) {
        (self.surroundings.say)(label, event);
    }

    fn say_outcomes(&self, label: &Label, outcomes: &[Outcome]) {
        let (mut snapshots, mut failures) = (0, 0);
        for Outcome { label, repository, result } in outcomes {
            match result {
                Taken::Snapshot(_) => snapshots += 1,
                Taken::Skipped(_) => {}
                Taken::Failed(failure) if failure.is_stop() && self.stop.is_cancelled() => {
                    self.say(Some(label), &ServiceEvent::RunStopped);
                }
                Taken::Failed(failure) => {
                    failures += 1;
                    let FailureReport { message, kind, .. } = failure.to_report();
                    let repository = repository.clone();
                    let event = ServiceEvent::RunFailed { repository, message, kind };
                    self.say(Some(label), &event);
                }
            }
        }
        if snapshots + failures > 0 || !self.stop.is_cancelled() {
            self.say(Some(label), &ServiceEvent::RunEnded { snapshots, failures });
        }
    }

    /// Says what is due when, and what would fail then: nobody should learn that in the night.
    fn say_when(&self) {
        if let Ok(shared) = Shared::read(&self.config, &self.surroundings.environment) {
            for (label, job) in &self.jobs {
                if let Err(failure) = shared.source(&job.entry) {
                    let message = failure.to_report().message;
                    self.say(Some(label), &ServiceEvent::NotReady { message });
                }
            }
        }
        for (label, job) in &self.jobs {
            if let Some(next_at) = job.agenda.due_at() {
                let tries = job.agenda.past().attempt.map_or(1, |attempt| attempt.tries + 1);
                self.say(Some(label), &ServiceEvent::Scheduled { next_at, tries });
            }
        }
    }
}

/// What can be told to be wrong before anything runs. Returns what the host's key is known by.
fn check(config: &DaemonConfig, environment: &Environment) -> Result<String, Failure> {
    let host_key = Shared::read(config, environment)?.signer.fingerprint();
    let schedules =
        config.databases().iter().filter_map(|entry| Some((entry, entry.schedule.as_ref()?)));
    let mut schedules = schedules.peekable();
    if schedules.peek().is_none() {
        return Err(Failure::NoSchedule);
    }
    let epoch = DateTime::UNIX_EPOCH;
    let never =
        schedules.find(|(entry, schedule)| schedule.next_after(epoch, entry.time_zone).is_none());
    never.map_or(Ok(host_key), |(entry, _)| Err(Failure::Never { label: entry.name.clone() }))
}

#[cfg(test)]
mod tests;
