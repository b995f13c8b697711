//! One entry of the configuration that has a schedule: where it stands, and what follows from how its runs end.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use stonekeep_config::DatabaseConfig;
use stonekeep_format::ids::Label;

use super::{agenda::Agenda, event::ServiceEvent, runner::Unfinished};
use crate::outcome::{Outcome, Taken};

/// One entry of the configuration that has a schedule.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: DatabaseConfig,
    pub(super) agenda: Agenda,
    pub(super) state: JobState,
    /// What the last try left undone.
    pub(super) unfinished: Option<Unfinished>,
    /// How the last run ended, and when.
    pub(super) last: Option<(bool, DateTime<Utc>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobState {
    /// Waits for its time.
    Idle,
    /// Is due, and waits for its turn.
    Due,
    /// Is at work.
    Running,
    /// Is at work, and no longer in the configuration.
    Leaving,
}

impl Job {
    /// Takes note of what became of a run, and says what follows if that is more than the next slot.
    pub(super) fn end(&mut self, outcomes: &[Outcome], now: DateTime<Utc>) -> Option<ServiceEvent> {
        let is_good = !outcomes.iter().any(|each| matches!(each.result, Taken::Failed(_)));
        self.last = Some((is_good, now));
        self.state = JobState::Idle;
        self.unfinished = Unfinished::of(outcomes);
        let attempt = self.agenda.past().attempt;
        if self.unfinished.is_some() {
            self.agenda.fail(now);
            let tries = attempt.map_or(0, |attempt| attempt.tries);
            return self
                .agenda
                .due_at()
                .map(|retry_at| ServiceEvent::RetryScheduled { retry_at, tries });
        }
        let slot_at = attempt.map_or(now, |attempt| attempt.slot);
        self.agenda.finish(now).then_some(ServiceEvent::SlotsPassed { slot_at })
    }
}

impl JobState {
    pub(super) const fn is_at_work(self) -> bool {
        matches!(self, Self::Running | Self::Leaving)
    }

    /// What it is after a reload in which it is still there.
    pub(super) const fn kept(self) -> Self {
        if self.is_at_work() { Self::Running } else { Self::Idle }
    }
}

/// Says how all of them are, in one line for `systemctl status`.
pub(super) fn status(jobs: &BTreeMap<Label, Job>) -> String {
    let those = |is_meant: fn(&Job) -> bool| {
        let meant = jobs.iter().filter(|(_, job)| is_meant(job)).map(|(label, _)| label.as_str());
        meant.collect::<Vec<_>>().join(", ")
    };
    let at_work = those(|job| job.state.is_at_work());
    if !at_work.is_empty() {
        return format!("Backing up {at_work}");
    }
    let next = jobs.iter().filter_map(|(label, job)| Some((job.agenda.due_at()?, label)));
    let Some((next_at, label)) = next.min() else {
        return "Nothing is on a schedule".to_owned();
    };
    let next = format!("next {label} at {}", next_at.format("%Y-%m-%d %H:%M:%S UTC"));
    let failed = those(|job| job.last.is_some_and(|(is_good, _)| !is_good));
    if failed.is_empty() { format!("Waiting; {next}") } else { format!("FAILED: {failed}; {next}") }
}
