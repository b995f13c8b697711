//! The syntax of a five-field crontab line.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Utc};
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
    /// A nickname, as some crons have them.
    #[error(
        "{0:?} is no schedule here: write its five fields, such as \"0 * * * *\" for each hour or \"0 3 * * *\" for each night"
    )]
    Nickname(String),
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
    /// Returns the first run after an instant; `None` if there is none within some hundred years, as on a 30 February.
    ///
    /// The fields say what a clock in `zone` shows. A time that the clock leaves out in spring is run once, at the end of the
    /// gap; one that it shows twice in autumn is run the first time.
    #[must_use]
    pub fn next_after(&self, instant: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let shown = instant.with_timezone(&zone).naive_local();
        // The clock's face is all that the schedule knows, so it is given as if it were UTC.
        let faces = self.rules()?;
        let mut runs = faces.after_owned(shown.and_utc()).map(|face| first(face.naive_utc(), zone));
        runs.find(|run| *run > instant)
    }

    /// Returns the longest time between two runs within a year from `from`, in a time zone; `None` if there are not two.
    #[must_use]
    pub fn longest_gap(&self, from: NaiveDate, zone: Tz) -> Option<Duration> {
        let times = self.times();
        let (begin, end) = times.first().zip(times.last())?;
        let of_day = times.windows(2).filter_map(|two| (two[1] - two[0]).to_std().ok()).max();
        let mut gaps = Gaps::default();
        for day in self.days(from)? {
            // Of most days the first and the last run tell enough: so no schedule is dense enough to take long.
            if is_usual(day, zone) {
                gaps.run(first(day.and_time(*begin), zone));
                gaps.pass(of_day, first(day.and_time(*end), zone));
            } else {
                times.iter().for_each(|time| gaps.run(first(day.and_time(*time), zone)));
            }
        }
        gaps.longest
    }

    /// The numbers of each field.
    fn numbers(&self) -> [BTreeSet<u32>; 5] {
        let mut fields = self.0.split_ascii_whitespace();
        FIELDS.each_ref().map(|rule| rule.numbers(fields.next().unwrap_or("*")))
    }

    /// What a clock shows at the runs of one day, in order.
    fn times(&self) -> Vec<NaiveTime> {
        let [minutes, hours, ..] = self.numbers();
        let of_hour =
            |hour| minutes.iter().filter_map(move |m| NaiveTime::from_hms_opt(hour, *m, 0));
        hours.iter().flat_map(|hour| of_hour(*hour)).collect()
    }

    /// The days of two years that have runs.
    fn days(&self, from: NaiveDate) -> Option<impl Iterator<Item = NaiveDate>> {
        let [.., day, month, weekday] = self.numbers();
        let midnight = || BTreeSet::from([0]);
        let start = from.and_time(NaiveTime::MIN).and_utc();
        let end = start + TimeDelta::days(YEAR_DAYS);
        let rules = rules([midnight(), midnight(), day, month, weekday])?;
        let days = rules.after_owned(start - TimeDelta::seconds(1));
        Some(days.take_while(move |day| *day < end).map(|day| day.date_naive()))
    }

    fn rules(&self) -> Option<cron::Schedule> {
        rules(self.numbers())
    }
}

/// The fields as the `cron` crate takes them: seconds first, every number by itself, and weekdays from Sunday = 1.
fn rules([minute, hour, day, month, weekday]: [BTreeSet<u32>; 5]) -> Option<cron::Schedule> {
    let weekday = weekday.into_iter().map(|day| day % 7 + 1).collect();
    let fields = [minute, hour, day, month, weekday].map(|numbers| listed(&numbers));
    format!("0 {}", fields.join(" ")).parse().ok()
}

/// The longest time between runs, which come in order.
#[derive(Default)]
struct Gaps {
    last: Option<DateTime<Utc>>,
    longest: Option<Duration>,
}

impl Gaps {
    fn run(&mut self, at: DateTime<Utc>) {
        let gap = self.last.and_then(|last| (at - last).to_std().ok());
        self.pass(gap, at);
    }

    /// Goes on to a later run, between which and the last one no gap is longer.
    fn pass(&mut self, longest: Option<Duration>, at: DateTime<Utc>) {
        self.longest = self.longest.max(longest);
        self.last = Some(at);
    }
}

/// Whether the clock is not set on this day, so that it has 24 h.
fn is_usual(day: NaiveDate, zone: Tz) -> bool {
    let begin = |day: NaiveDate| first(day.and_time(NaiveTime::MIN), zone);
    day.succ_opt().is_some_and(|next| begin(next) - begin(day) == TimeDelta::days(1))
}

fn listed(numbers: &BTreeSet<u32>) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The first instant at which a clock in `zone` shows this time, or a later one if it leaves this one out.
fn first(face: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    let minutes = (0..=GAP_MINUTES_MAX).map(|minutes| face + TimeDelta::minutes(minutes));
    let mut shown = minutes.filter_map(|face| zone.from_local_datetime(&face).earliest());
    shown.next().map_or_else(|| face.and_utc(), |instant| instant.to_utc())
}

/// The longest gap of a clock, in minutes (a day and an hour): Samoa left out a whole day in 2011.
const GAP_MINUTES_MAX: i64 = 25 * 60;
/// Two runs of a job that runs on one day of the year are in this many days.
const YEAR_DAYS: i64 = 2 * 366;

impl FromStr for Crontab {
    type Err = CrontabError;
    fn from_str(text: &str) -> Result<Self, CrontabError> {
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        if let [nickname] = fields[..]
            && nickname.starts_with('@')
        {
            return Err(CrontabError::Nickname(nickname.chars().take(80).collect()));
        }
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
    use chrono::Timelike as _;
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
        let nickname = "@hourly".parse::<Crontab>();
        assert_eq!(nickname, Err(CrontabError::Nickname("@hourly".to_owned())));
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
        assert_eq!(gap("30 2,14 * * *"), Some(60 * 13), "02:30 is shown twice one day in October");
        assert_eq!(gap("0 3 1 * *"), Some(60 * (31 * 24 + 1)));
        assert_eq!(gap("0 3 24 12 *"), Some(60 * 365 * 24));
        assert_eq!(gap("0 3 30 2 *"), None);
        assert_eq!(gap("10/20 9-17/4 * * *"), Some(60 * 16 + 60 - 40));
    }

    /// The longest gap as every single run has it.
    fn longest_of_all(crontab: &Crontab, from: NaiveDate, zone: Tz) -> Option<Duration> {
        let start = from.and_time(NaiveTime::MIN).and_utc();
        let end = start + TimeDelta::days(YEAR_DAYS);
        let faces = crontab.rules()?.after_owned(start - TimeDelta::seconds(1));
        let faces = faces.take_while(|face| *face < end);
        let mut gaps = Gaps::default();
        faces.for_each(|face| gaps.run(first(face.naive_utc(), zone)));
        gaps.longest
    }

    #[test]
    fn the_longest_gap_of_the_densest_schedule_is_known_at_once() {
        let from = NaiveDate::from_ymd_opt(2026, 11, 21).expect("a day");
        let crontab: Crontab = "* * * * *".parse().expect("a schedule");
        let begun = std::time::Instant::now();
        let gap = crontab.longest_gap(from, chrono_tz::Europe::Berlin);
        assert_eq!(gap, Some(Duration::from_secs(61 * 60)));
        // Each single run of two years takes many seconds, unoptimised.
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    /// The runs of a schedule in Berlin from an instant on, as a clock there shows them.
    fn runs(text: &str, from: &str, count: usize) -> Vec<String> {
        let crontab: Crontab = text.parse().expect("a schedule");
        let zone = chrono_tz::Europe::Berlin;
        let from: DateTime<Utc> = from.parse().expect("an instant");
        let next = |last: &DateTime<Utc>| crontab.next_after(*last, zone);
        let runs = std::iter::successors(Some(from), next).skip(1).take(count);
        runs.map(|run| run.with_timezone(&zone).format("%a %d %H:%M %Z").to_string()).collect()
    }

    #[test]
    fn a_run_in_the_hour_that_is_left_out_is_just_after_it_and_once() {
        let night = "2026-03-29T00:00:00Z";
        assert_eq!(runs("30 2 * * *", night, 2), ["Sun 29 03:00 CEST", "Mon 30 02:30 CEST"]);
        assert_eq!(
            runs("*/15 1-3 * * *", night, 6),
            [
                "Sun 29 01:15 CET",
                "Sun 29 01:30 CET",
                "Sun 29 01:45 CET",
                "Sun 29 03:00 CEST",
                "Sun 29 03:15 CEST",
                "Sun 29 03:30 CEST"
            ]
        );
        assert_eq!(runs("0 3 * * *", night, 1), ["Sun 29 03:00 CEST"]);
    }

    #[test]
    fn a_run_in_the_hour_that_comes_twice_is_once() {
        let night = "2026-10-24T22:00:00Z";
        assert_eq!(runs("30 2 * * *", night, 2), ["Sun 25 02:30 CEST", "Mon 26 02:30 CET"]);
        assert_eq!(
            runs("15 * * * *", night, 4),
            ["Sun 25 00:15 CEST", "Sun 25 01:15 CEST", "Sun 25 02:15 CEST", "Sun 25 03:15 CET"]
        );
        // Begun in the second of the two hours, nothing of the first is left.
        assert_eq!(runs("15,45 * * * *", "2026-10-25T01:20:00Z", 1), ["Sun 25 03:15 CET"]);
    }

    #[test]
    fn weekdays_are_those_of_crontab() {
        let from = "2026-11-21T12:00:00Z";
        for (weekday, day) in [
            ("0", "Sun"),
            ("7", "Sun"),
            ("1", "Mon"),
            ("6", "Sat"),
            ("sun", "Sun"),
            ("5-7", "Sun"),
            ("mon-fri", "Mon"),
        ] {
            let next = &runs(&format!("0 3 * * {weekday}"), from, 1)[0];
            assert!(next.starts_with(day), "{weekday}: {next}");
        }
        assert!(runs("0 3 30 2 *", from, 1).is_empty());
        assert_eq!(runs("0 0 29 2 *", from, 1), ["Tue 29 00:00 CET"]);
    }

    #[test]
    fn both_day_fields_are_refused() {
        assert_eq!("0 3 1 * 1".parse::<Crontab>(), Err(CrontabError::BothDays));
        assert_eq!("0 3 */2 * 1-5".parse::<Crontab>(), Err(CrontabError::BothDays));
    }

    proptest! {
        #[test]
        fn a_clock_shows_what_the_schedule_says_or_has_just_left_it_out(
            minute in 0_u32..60, hours in prop::collection::btree_set(0_u32..24, 1..5),
            at in 1_750_000_000_i64..1_850_000_000, zone in prop::sample::select(vec![
                chrono_tz::Europe::Berlin, chrono_tz::America::New_York, chrono_tz::Australia::Lord_Howe,
                chrono_tz::UTC, chrono_tz::Asia::Kathmandu, chrono_tz::America::Havana,
            ]),
        ) {
            let crontab: Crontab = format!("{minute} {} * * *", listed(&hours)).parse().expect("a schedule");
            let at = DateTime::from_timestamp(at, 0).expect("an instant");
            let next = crontab.next_after(at, zone).expect("a run");
            prop_assert!(next > at && next - at <= TimeDelta::hours(26));
            let face = next.with_timezone(&zone);
            let before = (next - TimeDelta::minutes(1)).with_timezone(&zone);
            let is_said = face.minute() == minute && hours.contains(&face.hour());
            let is_after_gap = face.naive_local() - before.naive_local() > TimeDelta::minutes(1);
            prop_assert!(is_said || is_after_gap, "{face}");
        }

        #[test]
        fn the_longest_gap_is_that_of_all_runs(
            minute in 0_u32..60, hours in prop::collection::btree_set(0_u32..24, 1..5),
            days in prop::sample::select(vec!["* * *", "1,15 * *", "* * 0", "* 3,10 *", "25 10 *"]),
            at in 8_000_i64..21_000, zone in prop::sample::select(vec![
                chrono_tz::Europe::Berlin, chrono_tz::Australia::Lord_Howe, chrono_tz::America::Havana,
                chrono_tz::Pacific::Apia, chrono_tz::America::Sao_Paulo, chrono_tz::UTC,
            ]),
        ) {
            let crontab: Crontab = format!("{minute} {} {days}", listed(&hours)).parse().expect("a schedule");
            let from = DateTime::from_timestamp(at * 86_400, 0).expect("an instant").date_naive();
            prop_assert_eq!(crontab.longest_gap(from, zone), longest_of_all(&crontab, from, zone));
        }

        #[test]
        fn any_text_is_a_schedule_or_an_error(text in "[*0-9a-z,/ -]{0,30}|\\PC{0,30}") {
            if let Ok(crontab) = text.parse::<Crontab>() {
                prop_assert_eq!(crontab.as_str().parse::<Crontab>(), Ok(crontab.clone()));
            }
        }
    }
}
