//! Standard error while something runs: a bar at a terminal, plain lines elsewhere, JSON lines with `--json`.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use stonekeep_engine::{
    context::SystemClock,
    events::{Event, Listener, Phase},
};
use stonekeep_format::Clock;
use stonekeep_process::{
    lines::{self, About, Tally},
    output::{bytes, printable},
};

/// How often plain lines say how far things are (10 s): enough to see that something happens.
const PLAIN: Duration = Duration::from_secs(10);
/// How often JSON lines do (1 s).
const JSON: Duration = Duration::from_secs(1);
/// How often the bar moves by itself (100 ms).
const TICK: Duration = Duration::from_millis(100);

const WITH_END: &str =
    "{msg:14} [{bar:24}] {bytes}/{total_bytes}, {prefix} rows, {bytes_per_sec}, {eta} left";
const WITHOUT_END: &str = "{msg:14} {spinner} {elapsed}";

/// Shows what the engine says.
#[derive(Debug)]
pub(crate) struct Progress {
    form: Form,
    sums: Mutex<Sums>,
}

#[derive(Debug)]
enum Form {
    Bar(ProgressBar),
    Plain,
    Json,
}

/// How far the present phase is.
#[derive(Debug)]
struct Sums {
    phase: Option<Phase>,
    tally: Tally,
}

/// Begins to show what happens.
pub(crate) fn start(json: bool) -> Arc<Progress> {
    let form = if json {
        Form::Json
    } else if io::stderr().is_terminal() {
        Form::Bar(ProgressBar::new_spinner())
    } else {
        Form::Plain
    };
    let tally = Tally::new(if json { JSON } else { PLAIN });
    Arc::new(Progress { form, sums: Mutex::new(Sums { phase: None, tally }) })
}

impl Progress {
    /// Takes the bar away.
    pub(crate) fn end(&self) {
        let rest = self.sums().tally.take();
        match (&self.form, rest) {
            (Form::Bar(bar), _) => bar.finish_and_clear(),
            (Form::Json, Some(rest)) => say_json(&rest),
            _ => {}
        }
    }

    /// Runs `f` with the screen to itself.
    pub(crate) fn pause<T>(&self, f: impl FnOnce() -> T) -> T {
        match &self.form {
            Form::Bar(bar) => bar.suspend(f),
            _ => f(),
        }
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, phase: Phase, bytes_expected: Option<u64>) {
        let mut sums = self.sums();
        sums.phase = Some(phase);
        let rest = sums.tally.begin(bytes_expected);
        match &self.form {
            Form::Bar(bar) => begin_bar(bar, phase, sums.tally.bytes_expected()),
            Form::Plain => self.say(doing(phase)),
            Form::Json => rest.iter().for_each(say_json),
        }
    }

    fn advance(&self, bytes: u64, rows: u64) {
        let mut sums = self.sums();
        let due = sums.tally.add(bytes, rows);
        match (&self.form, due) {
            (Form::Bar(bar), _) => {
                bar.set_position(sums.tally.bytes());
                bar.set_prefix(HumanCount(sums.tally.rows()).to_string());
            }
            (Form::Plain, Some(_)) => self.say(&sums.so_far()),
            (Form::Json, Some(due)) => say_json(&due),
            _ => {}
        }
    }

    fn say(&self, text: &str) {
        self.pause(|| {
            // Nobody can be told that stderr is gone.
            let _gone = writeln!(io::stderr().lock(), "{}", printable(text));
        });
    }
}

impl Listener for Progress {
    fn hear(&self, event: &Event) {
        match event {
            Event::Phase { phase, bytes_expected, .. } => self.begin(*phase, *bytes_expected),
            Event::Progress { bytes, rows } => return self.advance(*bytes, *rows),
            _ => {}
        }
        match (&self.form, event) {
            (Form::Json, _) => say_json(event),
            (_, Event::Warning { message }) => self.say(&format!("warning: {message}")),
            (_, Event::Retried { action, reason }) => {
                self.say(&format!("trying again to {action}: {reason}"));
            }
            // The report and the failure are printed as the result.
            _ => {}
        }
    }
}

fn say_json(event: &Event) {
    lines::write(SystemClock.now(), event.level(), About::default(), event);
}

impl Sums {
    fn so_far(&self) -> String {
        let what = self.phase.map_or("working", doing);
        let tally = &self.tally;
        let all =
            tally.bytes_expected().map(|all| format!(" of {}", bytes(all))).unwrap_or_default();
        let rows = if tally.rows() > 0 {
            format!(", {} rows", HumanCount(tally.rows()))
        } else {
            String::new()
        };
        let left =
            tally.left().map(|left| format!(", {} left", duration(left))).unwrap_or_default();
        format!("{what}: {}{all}{rows}{left}", bytes(tally.bytes()))
    }
}

fn begin_bar(bar: &ProgressBar, phase: Phase, bytes_expected: Option<u64>) {
    let template = if bytes_expected.is_some() { WITH_END } else { WITHOUT_END };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.reset();
    match bytes_expected {
        Some(expected) => bar.set_length(expected),
        None => bar.unset_length(),
    }
    bar.set_message(doing(phase));
    bar.set_prefix("0");
    bar.enable_steady_tick(TICK);
}

fn duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..60 => format!("{secs} s"),
        60..3_600 => format!("{} min", secs / 60),
        _ => format!("{} h {:02} min", secs / 3_600, secs % 3_600 / 60),
    }
}

const fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "preparing",
        Phase::Verifying => "verifying",
        Phase::Fetching => "fetching",
        Phase::Extending => "prolonging",
        Phase::Schema => "making tables",
        Phase::Loading => "loading rows",
        Phase::Finishing => "indexes, rules",
        Phase::Comparing => "comparing",
        Phase::Analyzing => "statistics",
        Phase::Starting => "starting a server",
        Phase::Checking => "checking",
        Phase::Removing => "removing",
        _ => "working",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_of_the_bar_are_sound() {
        assert!(
            ProgressStyle::with_template(WITH_END).is_ok()
                && ProgressStyle::with_template(WITHOUT_END).is_ok()
        );
    }

    #[test]
    fn durations_are_short() {
        let cases =
            [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_599, "59 min"), (3_660, "1 h 01 min")];
        for (secs, text) in cases {
            assert_eq!(duration(Duration::from_secs(secs)), text);
        }
    }

    #[test]
    fn plain_lines_say_bytes_rows_and_what_is_left() {
        let mut sums = Sums { phase: Some(Phase::Loading), tally: Tally::new(PLAIN) };
        sums.tally.add(1 << 20, 0);
        assert_eq!(sums.so_far(), "loading rows: 1.0 MiB");
        sums.tally.begin(Some(4 << 20));
        sums.tally.add(1 << 20, 12_345);
        assert_eq!(sums.so_far(), "loading rows: 1.0 MiB of 4.0 MiB, 12,345 rows, 0 s left");
    }
}
