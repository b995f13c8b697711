//! Telling people what became of runs: a webhook, mail, and pings that fall silent when something is wrong.
//!
//! Telling never delays a backup and never makes one fail. Outcomes go into a bounded queue, which one task empties; what does
//! not fit or does not arrive is a warning in the log. What was told is remembered ([`memory`]), so that people hear of
//! changes and not of every run.

mod channels;
mod memory;
mod notice;
mod run;
mod said;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use stonekeep_config::{DaemonConfig, Environment};
use stonekeep_engine::context::SystemClock;
use stonekeep_format::{Clock, ids::Label, prove::ProbeLine};
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, error::TrySendError},
    },
    task::JoinHandle,
    time::timeout,
};

pub(crate) use self::channels::Checked;
use self::{
    channels::Channels,
    memory::{Decision, Memory},
    notice::Notice,
    run::{Run, Verdict},
    said::Told,
};
use crate::{failure::Failure, log::Voice, outcome::Outcome};

/// What waits to be told at most (256): runs of entries, of which each may have many databases.
const QUEUE_MAX: usize = 256;
/// How long the end of a run by hand or by a timer waits for what is not told yet (60 s): a webhook and a mail that are each
/// tried three times take half a minute.
pub(crate) const FINISH_DURATION_MAX: Duration = Duration::from_secs(60);

/// Whom to tell, and what they were told.
pub(crate) struct Notices {
    told: Arc<Mutex<Memory>>,
    channels: Arc<Channels>,
    voice: Voice,
    queue: mpsc::Sender<Job>,
    /// Whether a run found no place in the queue: nobody knows then whether all is well.
    has_dropped: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

enum Job {
    /// What became of the databases of one run.
    Runs(Vec<Run>),
    /// A server's databases could be listed.
    Listed(Run),
    /// What a proof has found.
    Notice(Box<Notice>),
    /// All databases that were to be backed up have been.
    End,
}

impl Notices {
    /// Reads whom to tell. What cannot be used shows now, and not on the day on which it is needed. Must be called within a
    /// runtime.
    pub(crate) fn load(
        config: &DaemonConfig,
        environment: &Environment,
        voice: Voice,
    ) -> Result<Self, Failure> {
        let told = Arc::new(Mutex::new(Memory::new(&config.state_dir)));
        Self::begin(config, environment, voice, told)
    }

    /// As [`Notices::load`], for a process that ends with this run. Where it cannot remember the ones before, one that comes
    /// to nothing is told at once: no later one could count it.
    pub(crate) fn load_for_one_run(
        config: &DaemonConfig,
        environment: &Environment,
        voice: Voice,
    ) -> Result<Self, Failure> {
        let told = Arc::new(Mutex::new(Memory::of_one_run(&config.state_dir)));
        Self::begin(config, environment, voice, told)
    }

    /// Reads anew whom to tell, and keeps what was told. What is in the old one's queue is told as it was to be.
    pub(crate) fn reload(
        &self,
        config: &DaemonConfig,
        environment: &Environment,
    ) -> Result<Self, Failure> {
        Self::begin(config, environment, self.voice, Arc::clone(&self.told))
    }

    fn begin(
        config: &DaemonConfig,
        environment: &Environment,
        voice: Voice,
        told: Arc<Mutex<Memory>>,
    ) -> Result<Self, Failure> {
        let channels = Arc::new(Channels::load(config, environment)?);
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let has_dropped = Arc::new(AtomicBool::new(false));
        let teller = Teller {
            told: Arc::clone(&told),
            channels: Arc::clone(&channels),
            repeat: config.notify.repeat,
            voice,
            clock: Arc::new(SystemClock),
            is_good: None,
            has_dropped: Arc::clone(&has_dropped),
        };
        let task = tokio::spawn(teller.work(jobs));
        Ok(Self { told, channels, voice, queue, has_dropped, task })
    }

    /// Tells what became of a run of one database or of several, if it is news. Returns at once.
    pub(crate) fn tell(&self, outcomes: &[Outcome], next_run_at: Option<DateTime<Utc>>) {
        self.put(Job::Runs(Run::each(outcomes, SystemClock.now(), next_run_at).collect()));
    }

    /// Tells that nothing could be begun, which is a failure of each of these databases.
    pub(crate) fn tell_failure<'l>(
        &self,
        labels: impl IntoIterator<Item = &'l Label>,
        failure: &Failure,
    ) {
        let now = SystemClock.now();
        let failed = |label: &Label| Run::failed(label.clone(), failure, now);
        self.put(Job::Runs(labels.into_iter().map(failed).collect()));
    }

    /// Takes note that the databases of a server could be listed: that they could not be is told of its entry, and is over.
    pub(crate) fn listed(&self, entry: &Label) {
        self.put(Job::Listed(Run::good(entry.clone(), SystemClock.now())));
    }

    /// Says that all databases that were to be backed up have been: the ping of `[notify]` is called now if all is well.
    pub(crate) fn end_of_run(&self) {
        self.put(Job::End);
    }

    /// Tells that attacks on a repository succeeded.
    pub(crate) fn attacked(&self, repository: &str, probes: &[ProbeLine]) {
        let notice = Notice::attacked(repository, probes, SystemClock.now());
        self.put(Job::Notice(Box::new(notice)));
    }

    fn put(&self, job: Job) {
        if self.channels.is_nobody() {
            return;
        }
        if let Err(error) = self.queue.try_send(job) {
            let (TrySendError::Full(job) | TrySendError::Closed(job)) = error;
            if matches!(job, Job::Runs(_)) {
                self.has_dropped.store(true, Ordering::Release);
            }
            self.voice.say(None, &Told::NoticesDropped);
        }
    }

    /// Waits until all is told, or so much time has passed.
    pub(crate) async fn finish(self, duration_max: Duration) {
        drop(self.queue);
        let task = self.task.abort_handle();
        if timeout(duration_max, self.task).await.is_err() {
            task.abort();
            self.voice.say(None, &Told::NoticesUnfinished);
        }
    }

    /// Says of each who is told whether it can be used; with `send`, webhook and mail are sent a test.
    pub(crate) async fn check(&self, send: bool) -> Vec<Checked> {
        self.channels.check(send.then(|| Notice::test(SystemClock.now()))).await
    }
}

/// The task that empties the queue.
struct Teller {
    told: Arc<Mutex<Memory>>,
    channels: Arc<Channels>,
    repeat: Duration,
    voice: Voice,
    clock: Arc<dyn Clock>,
    /// Whether every run since the last end was good; `None`: there was none.
    is_good: Option<bool>,
    has_dropped: Arc<AtomicBool>,
}

impl Teller {
    async fn work(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            match job {
                Job::Runs(runs) => {
                    for run in &runs {
                        self.run(run).await;
                    }
                }
                Job::Listed(entry) => self.note(&entry).await,
                Job::Notice(notice) => {
                    self.deliver(&notice).await;
                }
                Job::End => self.end().await,
            }
        }
    }

    async fn run(&mut self, run: &Run) {
        let is_good = matches!(run.verdict, Verdict::Good);
        self.is_good = Some(self.is_good.unwrap_or(true) && is_good);
        self.note(run).await;
        if is_good {
            self.ping_of_database(run).await;
        }
    }

    /// Tells of a run if it is news, and remembers that.
    async fn note(&self, run: &Run) {
        // Held all the while: after a reload two tasks share it.
        let memory = Arc::clone(&self.told);
        let mut memory = memory.lock().await;
        let before = memory.state(&run.label);
        let idle_runs_max = memory.idle_runs_max(run, &before);
        let Decision { notice, told, untold } =
            memory::decide(&before, run, self.repeat, idle_runs_max);
        let is_told = match notice {
            None => true,
            Some(kind) => self.deliver(&Notice::of_run(kind, run, &before)).await,
        };
        let after = if is_told { told } else { untold };
        if after != before
            && let Some(why) = memory.remember(&run.label, after)
        {
            self.voice.say(None, &Told::NoticesNotRemembered { message: why });
        }
    }

    /// Returns whether anybody was told. Where there is nobody but pings, everybody was.
    async fn deliver(&self, notice: &Notice) -> bool {
        let mut delivered = self.channels.deliver(notice).await.into_iter().peekable();
        let mut is_told = delivered.peek().is_none();
        for (to, result) in delivered {
            let notice_of = notice.kind();
            let said = match result {
                Ok(()) => Told::NoticeSent { to, notice: notice_of },
                Err(message) => Told::NoticeLost { to, notice: notice_of, message },
            };
            is_told |= matches!(said, Told::NoticeSent { .. });
            self.voice.say(notice.label(), &said);
        }
        is_told
    }

    /// Of several databases under one entry, none may be in trouble.
    async fn ping_of_database(&self, run: &Run) {
        let Some((ping, is_of)) = self.channels.ping_of(&run.label) else { return };
        let trouble = self.told.lock().await.trouble(self.clock.now(), is_of);
        match trouble {
            Some(trouble) => self.voice.say(Some(&run.label), &Told::PingHeld { trouble }),
            None => self.say_pinged(Some(run), ping.ping().await),
        }
    }

    async fn end(&mut self) {
        let has_dropped = self.has_dropped.swap(false, Ordering::AcqRel);
        let (Some(ping), Some(true)) = (self.channels.ping(), self.is_good.take()) else { return };
        if has_dropped {
            self.voice.say(None, &Told::PingUnsure);
            return;
        }
        let is_configured = |label: &_| self.channels.is_configured(label);
        let trouble = self.told.lock().await.trouble(self.clock.now(), is_configured);
        match trouble {
            Some(trouble) => self.voice.say(None, &Told::PingHeld { trouble }),
            None => self.say_pinged(None, ping.ping().await),
        }
    }

    fn say_pinged(
        &self,
        run: Option<&Run>,
        result: Result<(), stonekeep_process::notify::NotifyError>,
    ) {
        let said = match result {
            Ok(()) => Told::PingSent,
            Err(error) => Told::PingLost { message: said::chain(&error) },
        };
        self.voice.say(run.map(|run| &run.label), &said);
    }
}

#[cfg(test)]
mod tests;
