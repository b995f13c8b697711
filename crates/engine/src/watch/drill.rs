//! When each database was last restored for trial, and what came of it.
//!
//! Told by the records that drills leave in the bucket, where somebody asked for them: signed by a report key, which is none of the
//! writer's. Whoever may put there can put junk; that none of what was looked at is ours is an alarm, for he may hide a record
//! of a drill that failed.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use stonekeep_format::{
    drill::{DrillRecord, DrillVerdict},
    ids::{Label, SnapshotId},
};

use super::{Alarm, AlarmKind, LabelLine, WatchError, WatchPlan, alarm::Alarms, fresh::secs};
use crate::{
    drill::{LabelDrills, last_records},
    repository::Repository,
};

/// How old the newest drill may be where nobody says otherwise (35 d): one a month, and a few days late.
pub const DRILL_AGE_MAX: TimeDelta = TimeDelta::days(35);
/// Databases that a note names (5); it tells how many more there are.
const NAMED_MAX: usize = 5;

/// A drill of a database, as its record in the bucket has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrillLine {
    /// Its id.
    pub id: SnapshotId,
    /// The snapshot that was restored.
    pub snapshot: SnapshotId,
    /// When it was over, by the storage server's clock.
    pub at: DateTime<Utc>,
    /// How long ago that was, in seconds.
    pub age_secs: u64,
    /// What it came to.
    pub verdict: DrillVerdict,
    /// How long the restore took, in milliseconds; absent if it did not come to its end.
    pub rto_ms: Option<u64>,
    /// How long it may take, if somebody said so, in milliseconds.
    pub rto_max_ms: Option<u64>,
}

impl DrillLine {
    fn of(record: &DrillRecord, now: DateTime<Utc>) -> Self {
        Self {
            id: record.id.clone(),
            snapshot: record.snapshot.clone(),
            at: record.written_at,
            age_secs: secs(now - record.written_at),
            verdict: record.verdict,
            rto_ms: record.rto_ms,
            rto_max_ms: record.rto_max_ms,
        }
    }
}

/// Judges the last drill of each of these databases. Of those of which there is none, and none is asked for, there is a note.
pub(super) async fn judge(
    repository: &Repository,
    plan: &WatchPlan,
    at: DateTime<Utc>,
    labels: &mut [LabelLine],
    (alarms, notes): (&mut Alarms, &mut Vec<String>),
) -> Result<(), WatchError> {
    let asked = plan.drill_age_max.map(|age| TimeDelta::from_std(age).unwrap_or(TimeDelta::MAX));
    if plan.reporters.is_empty() {
        let what = "no report key is believed, so nothing is known of drills: allowed_signers needs a line for the principal \"reporter\"";
        match asked {
            None => notes.push(what.to_owned()),
            Some(_) => alarms.raise(Alarm::warning(AlarmKind::Drill, None, what.to_owned())),
        }
        return Ok(());
    }
    let names: BTreeSet<Label> = labels.iter().map(|line| line.label.clone()).collect();
    let records = last_records(repository, &names, &plan.reporters).await?;
    let mut silent = Vec::new();
    for line in labels {
        let drills = records.labels.get(&line.label).cloned().unwrap_or_default();
        if let Some(record) = drills.last() {
            judge_last(record, at, asked.unwrap_or(DRILL_AGE_MAX), alarms);
            line.drill = Some(DrillLine::of(record, at));
        } else if !is_wrong(&drills, &line.label, asked.is_some(), alarms) {
            silent.push(&line.label);
        }
    }
    notes.extend(never(&silent));
    Ok(())
}

fn judge_last(record: &DrillRecord, at: DateTime<Utc>, age_max: TimeDelta, alarms: &mut Alarms) {
    let label = || Some(record.label.clone());
    let (id, snapshot) = (&record.id, &record.snapshot);
    if record.verdict == DrillVerdict::Fail {
        let problems = record.problems;
        let what = format!(
            "the last drill ({id}, of snapshot {snapshot}) failed; number of problems: {problems}; its report names them"
        );
        alarms.raise(Alarm::critical(AlarmKind::Drill, label(), what));
    }
    if let (true, Some(took), Some(max)) = (record.is_slow(), record.rto_ms, record.rto_max_ms) {
        let (took, max) = (took.div_ceil(1000), max / 1000);
        let what = format!(
            "the last drill ({id}) took {took} s to restore snapshot {snapshot}, and rto_max is {max} s"
        );
        alarms.raise(Alarm::warning(AlarmKind::Drill, label(), what));
    }
    let age = at - record.written_at;
    if age > age_max {
        let [age, age_max] = [age, age_max].map(spelled);
        let what = format!("the last drill ({id}) was {age} ago, and may be {age_max} old");
        alarms.raise(Alarm::warning(AlarmKind::Drill, label(), what));
    }
}

fn spelled(age: TimeDelta) -> String {
    match (age.num_days(), age.num_hours()) {
        (days, _) if days > 1 => format!("{days} days"),
        (_, hours) if hours > 1 => format!("{hours} hours"),
        _ => format!("{} minutes", age.num_minutes()),
    }
}

/// Whether that nothing is known of drills of a database is wrong.
fn is_wrong(drills: &LabelDrills, label: &Label, is_asked: bool, alarms: &mut Alarms) -> bool {
    let label = || Some(label.clone());
    let warning = |what: &str| Alarm::warning(AlarmKind::Drill, label(), what.to_owned());
    if drills.others > 0 {
        let what = format!(
            "{} objects lie where records of drills do, and none that was looked at is signed by a report key that is believed: somebody may hide one of a drill that failed",
            drills.others
        );
        alarms.raise(Alarm::critical(AlarmKind::Drill, label(), what));
    } else if is_asked && drills.denied > 0 {
        alarms.raise(warning("the records of drills may not be read"));
    } else if is_asked {
        alarms.raise(warning("there is no record of any drill"));
    }
    drills.others > 0 || is_asked
}

/// Says of which databases there is no record that may be read.
fn never(labels: &[&Label]) -> Option<String> {
    let named: Vec<&str> = labels.iter().take(NAMED_MAX).map(|label| label.as_str()).collect();
    let more = match labels.len() - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!named.is_empty()).then(|| {
        format!(
            "there is no record of a drill of {}{more}: run `stonekeep drill`, with record = true",
            named.join(", ")
        )
    })
}
