//! The syntax of a five-field crontab line.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use chrono::{DateTime, Datelike as _, NaiveDate, TimeZone as _};
use chrono_tz::Tz;
use serde::Deserialize;

/// A schedule as `crontab(5)` writes it: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday).
///
/// A schedule that restricts both day fields is refused: classic cron runs such a job when *either* matches, others when both
/// do, and a backup that somebody believes in must not depend on which one they had in mind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Crontab(String);

/// What is wrong with a schedule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrontabError {
    /// Not five fields.
    #[error("a schedule has five fields (minute hour day month weekday), and this one has {0}")]
    Fields(usize),
    /// A field cannot be read.
    #[error(
        "{field:?} is no {what}: give *, a number of {min} to {max}, a range, a list, or steps such as */15"
    )]
    Field {
        /// The text.
        field: String,
        /// Which field it is.
        what: &'static str,
        /// The least number.
        min: u32,
        /// The greatest.
        max: u32,
    },
    /// Both day fields are restricted.
    #[error(
        "a schedule that restricts both the day of the month and the weekday is refused: leave one of them *"
    )]
    BothDays,
}

struct Field {
    what: &'static str,
    min: u32,
    max: u32,
    /// The names of `min`, `min + 1`, ….
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { what: "minute", min: 0, max: 59, names: &[] },
    Field { what: "hour", min: 0, max: 23, names: &[] },
    Field { what: "day of the month", min: 1, max: 31, names: &[] },
    Field {
        what: "month",
        min: 1,
        max: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        what: "weekday",
        min: 0,
        max: 7,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

impl Crontab {
    /// Returns the five fields as they were written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Crontab {
    /// Returns the longest time between two runs within a year from `from`, in a time zone; `None` if there are not two.
    #[must_use]
    pub fn longest_gap(&self, from: NaiveDate, zone: Tz) -> Option<Duration> {
        let mut slots = from.iter_days().take(YEAR_DAYS).flat_map(|day| self.slots(day, zone));
        let mut last = slots.next()?;
        let mut longest = None;
        for slot in slots {
            longest = longest.max((slot - last).to_std().ok());
            last = slot;
        }
        longest
    }

    /// The runs of a day. One in the hour that a clock leaves out is left out.
    fn slots(&self, day: NaiveDate, zone: Tz) -> Vec<DateTime<Tz>> {
        let [minutes, hours, days, months, weekdays] = self.numbers();
        // Sunday is 0 and 7.
        let weekday = day.weekday().num_days_from_sunday();
        let is_weekday = weekdays.contains(&weekday) || (weekday == 0 && weekdays.contains(&7));
        if !(is_weekday && days.contains(&day.day()) && months.contains(&day.month())) {
            return Vec::new();
        }
        let times = hours.iter().flat_map(|hour| minutes.iter().map(|minute| (*hour, *minute)));
        let local = times.filter_map(|(hour, minute)| day.and_hms_opt(hour, minute, 0));
        local.filter_map(|local| zone.from_local_datetime(&local).earliest()).collect()
    }

    /// The numbers of each field.
    fn numbers(&self) -> [BTreeSet<u32>; 5] {
        let mut fields = self.0.split_ascii_whitespace();
        FIELDS.each_ref().map(|rule| rule.numbers(fields.next().unwrap_or("*")))
    }
}

/// Two runs of a job that runs on one day of the year are in this many days.
const YEAR_DAYS: usize = 2 * 366;

impl FromStr for Crontab {
    type Err = CrontabError;
    fn from_str(text: &str) -> Result<Self, CrontabError> {
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return Err(CrontabError::Fields(fields.len()));
        }
        if let Some((field, rule)) =
            fields.iter().zip(&FIELDS).find(|(field, rule)| !rule.takes(field))
        {
            let Field { what, min, max, .. } = *rule;
            return Err(CrontabError::Field {
                field: field.chars().take(80).collect(),
                what,
                min,
                max,
            });
        }
        if fields[2] != "*" && fields[4] != "*" {
            return Err(CrontabError::BothDays);
        }
        Ok(Self(fields.join(" ")))
    }
}

impl TryFrom<String> for Crontab {
    type Error = CrontabError;
    fn try_from(text: String) -> Result<Self, CrontabError> {
        text.parse()
    }
}

impl fmt::Display for Crontab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Field {
    fn takes(&self, list: &str) -> bool {
        list.split(',').all(|item| match item.split_once('/') {
            Some((range, step)) => self.takes_range(range) && self.takes_step(step),
            None => self.takes_range(item),
        })
    }

    fn takes_range(&self, range: &str) -> bool {
        match range.split_once('-') {
            _ if range == "*" => true,
            Some((from, to)) => {
                matches!((self.number(from), self.number(to)), (Some(from), Some(to)) if from <= to)
            }
            None => self.number(range).is_some(),
        }
    }

    fn takes_step(&self, step: &str) -> bool {
        digits(step).is_some_and(|step| (1..=self.max).contains(&step))
    }

    /// The numbers that a list, which was taken, stands for.
    fn numbers(&self, list: &str) -> BTreeSet<u32> {
        let of_item = |item: &str| {
            let (range, step) = item.split_once('/').unwrap_or((item, "1"));
            let alone = self.number(range);
            let (from, to) = match range.split_once('-') {
                Some((from, to)) => (self.number(from), self.number(to)),
                // With steps a number alone goes on to the end.
                None if range == "*" || item != range => (alone.or(Some(self.min)), Some(self.max)),
                None => (alone, alone),
            };
            let step = digits(step).and_then(|step| usize::try_from(step).ok()).unwrap_or(1);
            let range = from.zip(to).map(|(from, to)| (from..=to).step_by(step.max(1)));
            range.into_iter().flatten()
        };
        list.split(',').flat_map(of_item).collect()
    }

    fn number(&self, text: &str) -> Option<u32> {
        let named = (self.min..).zip(self.names).find(|(_, name)| name.eq_ignore_ascii_case(text));
        let number = named.map(|(number, _)| number).or_else(|| digits(text))?;
        (self.min..=self.max).contains(&number).then_some(number)
    }
}

/// `u32::from_str` takes a sign, crontab does not.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_schedules_are_taken() {
        for good in [
            "15 * * * *",
            "*/15 0-23/2 * * *",
            "0 3 1,15 * *",
            "0 3 * jan-dec Mon-Fri",
            "  5  4  *  *  7 ",
        ] {
            assert!(good.parse::<Crontab>().is_ok(), "{good}");
        }
        assert_eq!(
            " 5  4 * * 7 ".parse::<Crontab>().map(|crontab| crontab.to_string()),
            Ok("5 4 * * 7".to_owned())
        );
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        assert_eq!("@hourly".parse::<Crontab>(), Err(CrontabError::Fields(1)));
        assert_eq!("0 15 * * * *".parse::<Crontab>(), Err(CrontabError::Fields(6)));
        for bad in [
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "x * * * *",
            "+1 * * * *",
            "1, * * * *",
            "* * L * *",
        ] {
            assert!(matches!(bad.parse::<Crontab>(), Err(CrontabError::Field { .. })), "{bad}");
        }
    }

    #[test]
    fn the_longest_gap_is_the_one_over_the_weekend_or_the_change_of_clocks() {
        let from = NaiveDate::from_ymd_opt(2026, 11, 21).expect("a day");
        let gap = |text: &str| {
            let crontab: Crontab = text.parse().expect("a schedule");
            let gap = crontab.longest_gap(from, chrono_tz::Europe::Berlin);
            gap.map(|gap| gap.as_secs() / 60)
        };
        assert_eq!(gap("*/15 * * * *"), Some(75), "the hour that comes twice runs once");
        assert_eq!(gap("15 * * * *"), Some(60 * 2));
        assert_eq!(gap("0 3 * * *"), Some(60 * 25));
        assert_eq!(gap("0 3 * * mon-fri"), Some(60 * 72 + 60));
        assert_eq!(gap("0 3 * * 7"), Some(60 * (7 * 24 + 1)));
        assert_eq!(gap("30 2,14 * * *"), Some(60 * 24 - 60), "there is no 02:30 one day in March");
        assert_eq!(gap("0 3 1 * *"), Some(60 * (31 * 24 + 1)));
        assert_eq!(gap("0 3 24 12 *"), Some(60 * 365 * 24));
        assert_eq!(gap("0 3 30 2 *"), None);
        assert_eq!(gap("10/20 9-17/4 * * *"), Some(60 * 16 + 60 - 40));
    }

    #[test]
    fn both_day_fields_are_refused() {
        assert_eq!("0 3 1 * 1".parse::<Crontab>(), Err(CrontabError::BothDays));
        assert_eq!("0 3 */2 * 1-5".parse::<Crontab>(), Err(CrontabError::BothDays));
    }

    proptest! {
        #[test]
        fn any_text_is_a_schedule_or_an_error(text in "[*0-9a-z,/ -]{0,30}|\\PC{0,30}") {
            if let Ok(crontab) = text.parse::<Crontab>() {
                prop_assert_eq!(crontab.as_str().parse::<Crontab>(), Ok(crontab.clone()));
            }
        }
    }
}
