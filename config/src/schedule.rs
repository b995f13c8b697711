//! The syntax of a five-field crontab line.

use std::{fmt, str::FromStr};

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
