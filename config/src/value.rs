//! Values as people write them: sizes with a unit, durations with a unit, numbers with limits, time zones.
//!
//! Each function is a `deserialize_with`: an error it returns gets the line and column of the value.

use std::{fmt::Display, time::Duration};

use serde::{Deserialize, Deserializer, de::Error};

use crate::defaults;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Reads `"160MiB"`: a whole number and `KiB`, `MiB` or `GiB`; returns bytes, at least
/// [`defaults::MEMORY_BUDGET_BYTES_MIN`].
pub(crate) fn memory_budget<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let text = String::deserialize(from)?;
    let bytes = bytes(&text).map_err(D::Error::custom)?;
    if bytes < defaults::MEMORY_BUDGET_BYTES_MIN {
        return Err(D::Error::custom(format!(
            "a memory_budget of {text} is too small: give 64MiB or more"
        )));
    }
    Ok(bytes)
}

/// Reads `"7d"`: a whole number and `h`, `d`, `w` (7 days) or `y` (365 days). There is no month: say `"31d"`.
pub(crate) fn keep<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    parse_keep(&String::deserialize(from)?).map_err(D::Error::custom)
}

/// Reads a keep as the configuration spells it, for the command line.
///
/// # Errors
/// What is wrong with it.
pub fn parse_keep(text: &str) -> Result<Duration, String> {
    const UNITS: &[(&str, u64)] = &[("h", HOUR), ("d", DAY), ("w", 7 * DAY), ("y", 365 * DAY)];
    within(duration(text, UNITS)?, defaults::KEEP_MIN, defaults::KEEP_MAX)
        .ok_or_else(|| format!("a keep of {text} is refused: give 1h to 70y"))
}

/// Reads `"3h"`: how old something may be; a whole number and `m` (minutes), `h`, `d` or `w`.
pub(crate) fn age<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    const UNITS: &[(&str, u64)] = &[("m", MINUTE), ("h", HOUR), ("d", DAY), ("w", 7 * DAY)];
    let text = String::deserialize(from)?;
    let age = duration(&text, UNITS).map_err(D::Error::custom)?;
    within(age, defaults::AGE_MIN, defaults::KEEP_MAX)
        .map(Some)
        .ok_or_else(|| D::Error::custom(format!("an age_max of {text} is refused: give 5m to 70y")))
}

/// Reads `"24h"`: after how long something is told again; a whole number and `m` (minutes), `h` or `d`.
pub(crate) fn repeat<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    const UNITS: &[(&str, u64)] = &[("m", MINUTE), ("h", HOUR), ("d", DAY)];
    let text = String::deserialize(from)?;
    let repeat = duration(&text, UNITS).map_err(D::Error::custom)?;
    within(repeat, defaults::NOTIFY_REPEAT_MIN, defaults::NOTIFY_REPEAT_MAX)
        .ok_or_else(|| D::Error::custom(format!("a repeat of {text} is refused: give 5m to 30d")))
}

/// Reads a port of TCP.
pub(crate) fn port<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u16>, D::Error> {
    number(from, "port", 1, u16::MAX).map(Some)
}

/// Reads `"20GiB"`: a whole number and `KiB`, `MiB`, `GiB` or `TiB`.
pub(crate) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(from)?;
    bytes(&text).map(Some).map_err(D::Error::custom)
}

/// Reads `"60s"`: a whole number and `s`, `m` (minutes) or `h`.
pub(crate) fn ddl_wait_max<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    pause(from, "ddl_wait_max", defaults::DDL_WAIT_MIN, defaults::DDL_WAIT_LIMIT)
}

/// Reads `"90s"`: how long a run may be put off; a whole number and `s`, `m` (minutes) or `h`.
pub(crate) fn jitter<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    pause(from, "jitter", Duration::ZERO, defaults::JITTER_MAX)
}

/// Reads `"30m"`: how long a run may go without getting on.
pub(crate) fn stall_max<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    pause(from, "stall_max", defaults::STALL_MIN, defaults::STALL_LIMIT)
}

/// Reads `"4h"`: how long a restore may take.
pub(crate) fn rto_max<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    pause(from, "rto_max", defaults::DRILL_WAIT_MIN, defaults::RTO_LIMIT).map(Some)
}

/// Reads `"5m"`: how long a question to a restored database may take.
pub(crate) fn timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    pause(from, "timeout", defaults::DRILL_WAIT_MIN, defaults::STALL_LIMIT).map(Some)
}

/// Reads a number of databases.
pub(crate) fn parallel<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    number(from, "parallel", 1, defaults::PARALLEL_MAX)
}

/// Reads a number of connections.
pub(crate) fn jobs<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    number(from, "jobs", 1, defaults::JOBS_MAX)
}

/// Reads a share in percent.
pub(crate) fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    number(from, "percent", 1, 100)
}

/// Reads a level of zstd.
pub(crate) fn compression_level<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
    number(from, "compression_level", 1, defaults::COMPRESSION_LEVEL_MAX)
}

/// Reads a name of the IANA time zone database.
pub(crate) fn time_zone<'de, D: Deserializer<'de>>(from: D) -> Result<chrono_tz::Tz, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is no time zone: give a name of the IANA database, such as \"Europe/Berlin\""
        ))
    })
}

fn number<'de, D, N>(from: D, name: &str, min: N, max: N) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: TryFrom<i64> + PartialOrd + Display + Copy,
{
    let refused = |number: i64| {
        D::Error::custom(format!("{name} = {number} is refused: give {min} to {max}"))
    };
    let number = i64::deserialize(from)?;
    match N::try_from(number) {
        Ok(value) if value >= min && value <= max => Ok(value),
        _ => Err(refused(number)),
    }
}

fn pause<'de, D: Deserializer<'de>>(
    from: D,
    name: &str,
    min: Duration,
    max: Duration,
) -> Result<Duration, D::Error> {
    const UNITS: &[(&str, u64)] = &[("s", 1), ("m", MINUTE), ("h", HOUR)];
    let text = String::deserialize(from)?;
    let pause = duration(&text, UNITS).map_err(D::Error::custom)?;
    within(pause, min, max).ok_or_else(|| {
        let [min, max] = [min, max].map(spelled);
        D::Error::custom(format!("a {name} of {text} is refused: give {min} to {max}"))
    })
}

/// Spells a limit as the configuration does.
fn spelled(limit: Duration) -> String {
    match limit.as_secs() {
        secs if secs >= HOUR && secs.is_multiple_of(HOUR) => format!("{}h", secs / HOUR),
        secs => format!("{secs}s"),
    }
}

fn within(value: Duration, min: Duration, max: Duration) -> Option<Duration> {
    (min..=max).contains(&value).then_some(value)
}

fn bytes(text: &str) -> Result<u64, String> {
    measure(text, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)])
}

fn duration(text: &str, units: &[(&str, u64)]) -> Result<Duration, String> {
    measure(text, units).map(Duration::from_secs)
}

/// Splits `text` into digits and a unit and multiplies them.
fn measure(text: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let factor = units.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor);
    let number = digits.parse::<u64>().ok();
    number.zip(factor).and_then(|(number, factor)| number.checked_mul(factor)).ok_or_else(|| {
        let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is not a whole number followed by one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<T>(
        with: impl Fn(toml::Value) -> Result<T, toml::de::Error>,
        value: impl Into<toml::Value>,
    ) -> Result<T, String> {
        with(value.into()).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn keeps_are_hours_days_weeks_or_years() {
        let hours = |text: &str| read(keep, text).map(|keep| keep.as_secs() / HOUR);
        assert_eq!(hours("12h"), Ok(12));
        assert_eq!(hours("7d"), Ok(168));
        assert_eq!(hours("4w"), Ok(672));
        assert_eq!(hours("10y"), Ok(87_600));
        assert_eq!(hours("30 d"), Ok(720));
        for bad in [
            "",
            "7",
            "d",
            "7m",
            "7mo",
            "-7d",
            "1.5d",
            "0d",
            "71y",
            "99999999999999999999d",
            "7d 3h",
            "७d",
        ] {
            assert!(hours(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn budgets_are_binary_units_of_64_mib_or_more() {
        let budget = |text: &str| read(memory_budget, text);
        assert_eq!(budget("160MiB"), Ok(160 << 20));
        assert_eq!(budget("1GiB"), Ok(1 << 30));
        assert_eq!(budget("65536KiB"), Ok(64 << 20));
        for bad in ["160", "160MB", "160M", "63MiB", "18446744073709551615GiB", "MiB"] {
            assert!(budget(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_have_limits() {
        assert_eq!(read(jobs, 64), Ok(64));
        assert_eq!(read(jobs, 0), Err("jobs = 0 is refused: give 1 to 64".to_owned()));
        assert!(read(jobs, i64::MAX).is_err() && read(jobs, i64::MIN).is_err());
        assert!(read(compression_level, 19).is_ok() && read(compression_level, 20).is_err());
    }

    #[test]
    fn time_zones_are_names_of_the_database() {
        assert_eq!(read(time_zone, "Europe/Berlin"), Ok(chrono_tz::Europe::Berlin));
        assert!(read(time_zone, "Berlin").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_measure_or_an_error(text in "\\PC{0,12}") {
            let _outcome = (bytes(&text), duration(&text, &[("s", 1)]));
        }

        #[test]
        fn seconds_are_what_was_written(secs in 1_u64..=3_600) {
            prop_assert_eq!(read(ddl_wait_max, format!("{secs}s")), Ok(Duration::from_secs(secs)));
        }
    }
}
