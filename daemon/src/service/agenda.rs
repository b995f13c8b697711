//! When one database is due: its slots, the tries within one, and what is left of it after a restart.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use stonekeep_config::schedule::Crontab;
use stonekeep_format::ids::Digest;

/// The pause before the second try (1 min); each one after is twice as long.
const PAUSE_MIN: TimeDelta = TimeDelta::minutes(1);
/// The longest pause between two tries (1 h): six tries in the first hour, and one in each that follows.
const PAUSE_MAX: TimeDelta = TimeDelta::hours(1);
/// How long one slot is tried for (24 h), if the next does not come before: the longest that a run may take.
const TRYING_MAX: TimeDelta = TimeDelta::hours(24);
/// How far ahead of the clock a remembered instant may be (5 min): the skew that is allowed everywhere. More is a clock that
/// was put back.
const AHEAD_MAX: TimeDelta = TimeDelta::minutes(5);

/// What must be known of a database's past to say when it is due. Kept over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Past {
    /// All that was due by then is done, or given up.
    pub(super) handled_at: DateTime<Utc>,
    /// The tries of what is neither.
    pub(super) attempt: Option<Attempt>,
}

/// What was tried in one slot and did not succeed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// When it was due.
    pub(super) slot: DateTime<Utc>,
    /// How often it was tried.
    pub(super) tries: u32,
    /// When the last try began or, if it ended, when that was.
    pub(super) tried_at: DateTime<Utc>,
    /// Whether it has not ended: after a restart that means that it was killed.
    #[serde(default)]
    pub(super) is_open: bool,
    /// Whether it failed in a way that takes a person.
    #[serde(default)]
    pub(super) is_lasting: bool,
}

impl Attempt {
    const fn begun(slot: DateTime<Utc>, tries: u32, tried_at: DateTime<Utc>) -> Self {
        Self { slot, tries, tried_at, is_open: true, is_lasting: false }
    }
}

/// The agenda of one database.
#[derive(Debug)]
pub(super) struct Agenda {
    schedule: Crontab,
    zone: Tz,
    /// How long after its slot a run begins.
    delay: TimeDelta,
    past: Past,
    /// What follows from all that: it is asked for often, and working it out takes a while.
    due_at: Option<DateTime<Utc>>,
}

impl Agenda {
    pub(super) fn new(schedule: Crontab, zone: Tz, delay: TimeDelta, past: Past) -> Self {
        let mut agenda = Self { schedule, zone, delay, past, due_at: None };
        agenda.due_at = agenda.work_out();
        agenda
    }

    /// Returns when the next run or the next try is due; `None` if the schedule says no such time.
    pub(super) const fn due_at(&self) -> Option<DateTime<Utc>> {
        self.due_at
    }

    /// Returns what must be known to say that after a restart.
    pub(super) const fn past(&self) -> Past {
        self.past
    }

    fn work_out(&self) -> Option<DateTime<Utc>> {
        let Some(attempt) = self.past.attempt else {
            return Some(self.slot_after(self.past.handled_at)? + self.delay);
        };
        let pause = if attempt.is_lasting { PAUSE_MAX } else { pause(attempt.tries) };
        let retry = attempt.tried_at + pause;
        let next = self.slot_after(attempt.slot).map(|slot| slot + self.delay);
        // A failure that took longer than there is between two slots is no reason to begin again at once.
        let next = next.map(|next| next.max(attempt.tried_at + PAUSE_MIN));
        let is_given_up = retry - attempt.slot > TRYING_MAX;
        next.into_iter().chain((!is_given_up).then_some(retry)).min()
    }

    /// Begins what is due: the next try within its slot, or the newest slot. However many slots were missed, it is one run.
    pub(super) fn begin(&mut self, now: DateTime<Utc>) -> Attempt {
        let tried = self.past.attempt.filter(|attempt| {
            self.slot_after(attempt.slot).is_none_or(|next| now < next + self.delay)
        });
        let attempt = match tried {
            Some(Attempt { slot, tries, .. }) => Attempt::begun(slot, tries + 1, now),
            None => {
                let from = self.past.attempt.map_or(self.past.handled_at, |attempt| attempt.slot);
                let first = self.slot_after(from).unwrap_or(now);
                let is_newest = self.slot_after(first).is_none_or(|next| next + self.delay > now);
                Attempt::begun(if is_newest { first } else { now - self.delay }, 1, now)
            }
        };
        self.past.attempt = Some(attempt);
        self.due_at = self.work_out();
        attempt
    }

    /// Takes note that the run is done, or that trying again within the slot is no use. Returns whether other slots have
    /// passed meanwhile: they are left out, for what they would have taken was just taken.
    pub(super) fn finish(&mut self, now: DateTime<Utc>) -> bool {
        let slot = self.past.attempt.take().map_or(now, |attempt| attempt.slot);
        let has_passed = self.slot_after(slot).is_some_and(|next| next + self.delay <= now);
        // A slot whose delay is not over is still to come.
        self.past.handled_at = slot.max(now - self.delay);
        self.due_at = self.work_out();
        has_passed
    }

    /// Takes note that the try failed: in a way that may pass by itself, or `is_lasting`, until somebody does something.
    pub(super) fn fail(&mut self, now: DateTime<Utc>, is_lasting: bool) {
        if let Some(attempt) = &mut self.past.attempt {
            *attempt = Attempt { tried_at: now, is_open: false, is_lasting, ..*attempt };
        }
        self.due_at = self.work_out();
    }

    /// Corrects what lies in a future that a wrong clock had shown, or nothing would be due until then. Returns whether
    /// anything did.
    pub(super) fn settle(&mut self, now: DateTime<Utc>) -> bool {
        let attempt = self.past.attempt;
        let latest = attempt.map_or(self.past.handled_at, |attempt| {
            self.past.handled_at.max(attempt.tried_at).max(attempt.slot)
        });
        let is_ahead = latest > now + AHEAD_MAX;
        if is_ahead {
            self.past.handled_at = self.past.handled_at.min(now);
            self.past.attempt = attempt.map(|attempt| Attempt {
                slot: attempt.slot.min(now),
                tried_at: attempt.tried_at.min(now),
                ..attempt
            });
            self.due_at = self.work_out();
        }
        is_ahead
    }

    fn slot_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.schedule.next_after(instant, self.zone)
    }
}

/// The pause after so many tries.
fn pause(tries: u32) -> TimeDelta {
    // Six doublings are more than the longest.
    let doublings = tries.saturating_sub(1).min(6);
    (PAUSE_MIN * (1 << doublings)).min(PAUSE_MAX)
}

/// The delay of a label within the jitter: a share of it that its name and the host's key decide, so that it is the same each
/// time and another one for each database and host.
pub(super) fn delay(jitter: Duration, host_key: &str, label: &str) -> TimeDelta {
    let digest = Digest::of(format!("{host_key} {label}").as_bytes()).to_string();
    let number = u64::from_str_radix(&digest[..15], 16).unwrap_or_default();
    let secs = number % jitter.as_secs().saturating_add(1);
    TimeDelta::seconds(i64::try_from(secs).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-{text}Z").parse().expect("an instant")
    }

    fn agenda(schedule: &str, handled: &str) -> Agenda {
        let past = Past { handled_at: at(handled), attempt: None };
        Agenda::new(schedule.parse().expect("a schedule"), Tz::UTC, TimeDelta::zero(), past)
    }

    #[test]
    fn one_run_makes_up_for_all_that_were_missed() {
        let mut agenda = agenda("15 * * * *", "20T07:15:00");
        assert_eq!(agenda.due_at(), Some(at("20T08:15:00")));
        let now = at("21T12:00:07");
        let attempt = agenda.begin(now);
        assert_eq!((attempt.slot, attempt.tries), (now, 1));
        assert!(!agenda.finish(at("21T12:03:00")));
        assert_eq!(agenda.due_at(), Some(at("21T12:15:00")));
    }

    #[test]
    fn tries_are_farther_and_farther_apart_until_the_next_slot() {
        let mut agenda = agenda("0 */4 * * *", "20T08:00:00");
        let mut begun = Vec::new();
        while begun.len() < 12 {
            let due = agenda.due_at().expect("due");
            let attempt = agenda.begin(due);
            begun.push((due - at("20T12:00:00"), attempt.tries));
            agenda.fail(due, false);
        }
        let minutes: Vec<_> =
            begun.iter().map(|(after, tries)| (after.num_minutes(), *tries)).collect();
        assert_eq!(
            minutes,
            [
                (0, 1),
                (1, 2),
                (3, 3),
                (7, 4),
                (15, 5),
                (31, 6),
                (63, 7),
                (123, 8),
                (183, 9),
                (240, 1),
                (241, 2),
                (243, 3)
            ]
        );
    }

    #[test]
    fn a_slot_is_not_tried_for_longer_than_a_day() {
        let mut agenda = agenda("0 0 1 * *", "01T00:00:00");
        let mut last = at("01T00:00:00");
        loop {
            let due = agenda.due_at().expect("due");
            if agenda.past.attempt.is_some_and(|attempt| due - attempt.slot > TRYING_MAX) {
                break assert_eq!(due.to_string(), "2027-01-01 00:00:00 UTC");
            }
            assert!(due > last, "{due}");
            last = due;
            agenda.begin(due);
            agenda.fail(due, false);
        }
    }

    #[test]
    fn slots_that_pass_during_a_run_are_left_out() {
        let mut agenda = agenda("*/10 * * * *", "20T08:00:00");
        agenda.begin(at("20T08:10:00"));
        assert!(agenda.finish(at("20T08:34:00")));
        assert_eq!(agenda.due_at(), Some(at("20T08:40:00")));
    }

    #[test]
    fn a_delay_leaves_no_slot_out() {
        for (delay, took) in [(50, 15), (59, 1), (30, 59), (1, 58)] {
            let mut agenda = agenda("0 * * * *", "20T08:00:00");
            agenda = Agenda::new(agenda.schedule, Tz::UTC, TimeDelta::minutes(delay), agenda.past);
            for hour in 9..20 {
                let due = at(&format!("20T{hour:02}:00:00")) + TimeDelta::minutes(delay);
                assert_eq!(agenda.due_at(), Some(due), "{delay} min late, {took} min long");
                agenda.begin(due);
                assert!(!agenda.finish(due + TimeDelta::minutes(took)));
            }
        }
    }

    #[test]
    fn what_takes_a_person_is_tried_each_hour() {
        let mut agenda = agenda("0 3 * * *", "19T03:00:00");
        for hour in 3..9 {
            let due = at(&format!("20T{hour:02}:00:00"));
            assert_eq!(agenda.due_at(), Some(due));
            agenda.begin(due);
            agenda.fail(due, true);
        }
    }

    #[test]
    fn a_failure_that_takes_longer_than_a_slot_is_followed_by_a_pause() {
        let mut agenda = agenda("*/10 * * * *", "20T08:00:00");
        agenda.begin(at("20T08:10:00"));
        agenda.fail(at("20T08:34:00"), false);
        assert_eq!(agenda.due_at(), Some(at("20T08:35:00")));
        let attempt = agenda.begin(at("20T08:35:00"));
        assert_eq!((attempt.slot, attempt.tries), (at("20T08:35:00"), 1));
    }

    #[test]
    fn what_was_begun_before_a_restart_is_tried_again_and_not_for_ever_at_once() {
        let mut agenda = agenda("0 3 * * *", "19T03:00:00");
        for (kill, again) in [("20T03:00:00", "20T03:01:00"), ("20T03:01:00", "20T03:03:00")] {
            agenda.begin(at(kill));
            // Killed here: what is kept is all there is.
            assert_eq!(agenda.due_at(), Some(at(again)));
        }
    }

    #[test]
    fn a_clock_that_was_put_back_does_not_stop_the_backups() {
        let mut agenda = agenda("15 * * * *", "20T08:15:00");
        agenda.begin(at("29T12:15:00"));
        agenda.fail(at("29T12:15:30"), false);
        assert!(agenda.settle(at("20T08:20:00")));
        assert_eq!(agenda.due_at(), Some(at("20T08:21:00")));
        agenda.begin(at("20T08:21:00"));
        agenda.finish(at("20T08:22:00"));
        assert!(!agenda.settle(at("20T08:20:00")), "two minutes are what time servers correct");
        assert_eq!(agenda.due_at(), Some(at("20T09:15:00")));
    }

    #[test]
    fn a_delay_is_within_the_jitter_and_always_the_same() {
        let jitter = Duration::from_secs(300);
        let delays: Vec<_> =
            (0..50).map(|n| delay(jitter, "host", &format!("db{n}")).num_seconds()).collect();
        assert!(delays.iter().all(|delay| (0..=300).contains(delay)));
        let distinct: std::collections::BTreeSet<_> = delays.iter().collect();
        assert!(distinct.len() > 25, "{delays:?}");
        assert_eq!(delay(jitter, "host", "db7").num_seconds(), delays[7]);
        assert_eq!(delay(Duration::ZERO, "host", "db7"), TimeDelta::zero());
    }
}
