//! Whether each database has a snapshot that is young enough and promised for long enough.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use stonekeep_format::{ids::Label, tier::Every};

use super::{Alarm, AlarmKind, LabelLine, NewestLine, WatchPlan, alarm::Alarms};
use crate::{audit::Audit, history::Snapshot, repository::Repository};

/// How much of the time for which the newest snapshot is kept must be left (50 %): then there is as much again to find out why
/// no other came.
const PROMISE_LEFT_PERCENT_MIN: u64 = 50;
const HOUR_SECS: u64 = 3_600;

/// Judges every label that is expected, and every one of which a manifest is there still. That its promises have ended is no
/// reason for silence: they end because nobody takes snapshots. A label that was given up goes when a lifecycle rule takes its
/// last manifest; that there is no label at all is never well.
pub(super) fn judge(
    repository: &Repository,
    plan: &WatchPlan,
    audit: &Audit,
    alarms: &mut Alarms,
) -> Vec<LabelLine> {
    let labels: BTreeSet<&Label> = audit.history.labels.keys().chain(plan.labels.keys()).collect();
    if labels.is_empty() {
        let what = "there is no snapshot of any database".to_owned();
        alarms.raise(Alarm::critical(AlarmKind::Missing, None, what));
    }
    let of_all = plan.age_max.unwrap_or_else(|| age_by_tiers(repository));
    labels
        .into_iter()
        .map(|label| {
            let age_max = plan.labels.get(label).copied().flatten().unwrap_or(of_all);
            let line = line(label, age_max, audit);
            alarms_of(&line, audit).into_iter().for_each(|alarm| alarms.raise(alarm));
            line
        })
        .collect()
}

/// A tier's period is no schedule, but nobody takes snapshots more seldom than the shortest of them.
fn age_by_tiers(repository: &Repository) -> Duration {
    let hours = |every: Every| match every {
        Every::Hour => 1,
        Every::Day => 24,
        Every::Week => 7 * 24,
        Every::Month => 31 * 24,
        Every::Year => 366 * 24,
    };
    let shortest = repository.genesis.tiers.iter().map(|tier| hours(tier.every)).min();
    Duration::from_secs(2 * HOUR_SECS * shortest.unwrap_or(24))
}

fn line(label: &Label, age_max: Duration, audit: &Audit) -> LabelLine {
    let day_ago = audit.at - TimeDelta::days(1);
    let of_day = audit.history.of(label).iter();
    let of_day = of_day.filter(|each| each.manifest.committed_at > day_ago && !each.is_future());
    LabelLine {
        label: label.clone(),
        newest: audit.history.newest_sound(label).map(|newest| newest_line(newest, audit.at)),
        age_max_secs: age_max.as_secs(),
        put_bytes_last_day: of_day
            .map(|each| each.manifest.totals.put_bytes)
            .fold(0, u64::saturating_add),
        drill: None,
    }
}

fn newest_line(newest: &Snapshot, at: DateTime<Utc>) -> NewestLine {
    let manifest = &newest.manifest;
    let left = secs(manifest.promised_until - at);
    NewestLine {
        id: manifest.id.clone(),
        begun_at: manifest.started_at,
        age_secs: secs(at - manifest.started_at),
        promised_until: manifest.promised_until,
        promise_left_percent: left
            .saturating_mul(100)
            .checked_div(manifest.keep.as_secs())
            .unwrap_or(0)
            .min(100),
    }
}

/// Seconds of it; none of what lies on the other side of now.
pub(super) fn secs(time: TimeDelta) -> u64 {
    u64::try_from(time.num_seconds()).unwrap_or(0)
}

/// A newest snapshot that is suspicious does not count, and somebody must look why it is.
fn suspicious(label: &Label, audit: &Audit) -> Option<Alarm> {
    let newest = &audit.history.newest_of(label)?.manifest;
    let why = newest.suspicious.as_ref()?;
    let what = format!("the newest snapshot {} is suspicious: {why}", newest.id);
    Some(Alarm::warning(AlarmKind::Suspicious, Some(label.clone()), what))
}

fn alarms_of(line: &LabelLine, audit: &Audit) -> Vec<Alarm> {
    let label = &line.label;
    let Some(newest) = &line.newest else {
        let what = match audit.history.of(label).len() {
            0 => "there is no snapshot of it".to_owned(),
            found => {
                format!("of {found} snapshots none counts: each is suspicious or claims the future")
            }
        };
        return vec![Alarm::critical(AlarmKind::Missing, Some(label.clone()), what)];
    };
    let mut alarms: Vec<Alarm> = suspicious(label, audit).into_iter().collect();
    if newest.age_secs > line.age_max_secs {
        let (age, age_max) = (hours(newest.age_secs), hours(line.age_max_secs));
        let what = format!("the newest snapshot {} is {age} old, and may be {age_max}", newest.id);
        alarms.push(Alarm::critical(AlarmKind::Stale, Some(label.clone()), what));
    }
    if newest.promise_left_percent < PROMISE_LEFT_PERCENT_MIN {
        let until = newest.promised_until.to_rfc3339_opts(SecondsFormat::Secs, true);
        let (id, left) = (&newest.id, newest.promise_left_percent);
        let what = format!(
            "the newest snapshot {id} is promised until {until}, {left} % of its time: if no other comes soon, run `stonekeep extend`"
        );
        alarms.push(Alarm::warning(AlarmKind::Promise, Some(label.clone()), what));
    }
    alarms
}

/// `3 h 05 min`.
fn hours(secs: u64) -> String {
    format!("{} h {:02} min", secs / HOUR_SECS, secs % HOUR_SECS / 60)
}
