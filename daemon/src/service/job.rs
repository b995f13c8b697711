//! One entry of the configuration that has a schedule: where it stands, and what follows from how its runs end.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use stonekeep_config::DatabaseConfig;
use stonekeep_format::ids::Label;

use super::{
    agenda::{Agenda, Attempt},
    event::ServiceEvent,
    runner::{Unfinished, is_lasting, is_unfinished},
};
use crate::{
    notify::Notices,
    outcome::{Outcome, Taken},
};

/// One entry of the configuration that has a schedule.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) entry: DatabaseConfig,
    pub(super) agenda: Agenda,
    pub(super) state: JobState,
    /// What became of the tries within the slot.
    pub(super) outcomes: Vec<Outcome>,
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

/// What follows from a try.
#[derive(Debug)]
pub(super) struct Followup {
    /// What is to be said, if it is more than that the next slot is waited for.
    pub(super) event: Option<ServiceEvent>,
    /// The databases of which people are to be told.
    pub(super) news: BTreeSet<Label>,
    /// Whether something that failed is not told yet: it may have passed in a minute.
    pub(super) waits: bool,
}

impl Job {
    /// Begins what is due.
    pub(super) fn begin(&mut self, now: DateTime<Utc>) -> Attempt {
        let attempt = self.agenda.begin(now);
        if attempt.tries == 1 {
            self.unfinished = None;
            self.outcomes.clear();
        }
        self.state = JobState::Running;
        attempt
    }

    /// Takes note of what became of a try.
    pub(super) fn end(&mut self, outcomes: Vec<Outcome>, now: DateTime<Utc>) -> Followup {
        let attempt = self.agenda.past().attempt;
        let tries = attempt.map_or(0, |attempt| attempt.tries);
        self.state = JobState::Idle;
        let is_new: BTreeSet<Label> = outcomes.iter().map(|each| each.label.clone()).collect();
        // What this try was to mend is as this try has left it.
        self.outcomes.retain(|each| !is_unfinished(each, tries));
        self.outcomes.extend(outcomes);
        self.unfinished = Unfinished::of(&self.outcomes, tries);
        let is_good = !self.outcomes.iter().any(|each| matches!(each.result, Taken::Failed(_)));
        let was_good = self.last.is_none_or(|(is_good, _)| is_good);
        self.last = Some((is_good, now));
        let event = match self.unfinished {
            Some(_) => {
                let is_lasting = !self
                    .outcomes
                    .iter()
                    .any(|each| is_unfinished(each, tries) && !is_lasting(each));
                self.agenda.fail(now, is_lasting);
                let retry = |retry_at| ServiceEvent::RetryScheduled { retry_at, tries };
                self.agenda.due_at().map(retry)
            }
            None => {
                let slot_at = attempt.map_or(now, |attempt| attempt.slot);
                self.agenda.finish(now).then_some(ServiceEvent::SlotsPassed { slot_at })
            }
        };
        let (mut news, is_first) = (is_new, was_good && tries == 1);
        // What passes by itself within minutes is nothing to call people for. Where a run fails only after the next slot has
        // come, each is the first of its own: so the one before counts, too.
        let waiting = if is_first { self.passing() } else { BTreeSet::new() };
        news.retain(|label| !waiting.contains(label));
        Followup { event, news, waits: !waiting.is_empty() }
    }

    /// The databases that failed in no way that takes a person.
    fn passing(&self) -> BTreeSet<Label> {
        let those = |is_meant: fn(&Outcome) -> bool| {
            let meant = self.outcomes.iter().filter(move |each| is_meant(each));
            meant.map(|each| each.label.clone()).collect::<BTreeSet<_>>()
        };
        &those(|each| is_unfinished(each, 1)) - &those(is_lasting)
    }

    /// Hands over all that the slot has brought for these databases.
    pub(super) fn tell(&mut self, news: &BTreeSet<Label>, to: &Notices) {
        let all = std::mem::take(&mut self.outcomes);
        let (told, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|each| news.contains(&each.label));
        to.tell(&told, self.agenda.due_at());
        self.outcomes = told.into_iter().chain(rest).collect();
    }
}

impl JobState {
    pub(super) const fn is_at_work(self) -> bool {
        matches!(self, Self::Running | Self::Leaving)
    }

    /// What it is after a reload in which it is still there.
    pub(super) const fn kept(self, is_due: bool) -> Self {
        match self {
            Self::Running | Self::Leaving => Self::Running,
            // It waits for its turn still.
            Self::Due if is_due => Self::Due,
            Self::Due | Self::Idle => Self::Idle,
        }
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
