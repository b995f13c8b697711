//! One message, in the three forms in which it is sent. It holds labels, names of repositories, snapshots, times and errors as
//! they are printed; no secret, and no row.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use stonekeep_format::{
    ids::Label,
    prove::{ProbeLine, Verdict},
};
use stonekeep_process::output::printable;

use super::{
    memory::State,
    run::{Failed, Run, Snapshot},
};

/// Snapshots, failures or probes in one message (10 of each): it is for a person to read.
const LINES_MAX: usize = 10;
/// The longest error in a message, in characters (500).
const MESSAGE_CHARS_MAX: usize = 500;
/// The longest text for a chat, in characters (1 900): Discord takes 2 000, Slack 3 000 in a section.
const CHAT_CHARS_MAX: usize = 1_900;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A run failed.
    Failed,
    /// A snapshot is suspicious.
    Suspicious,
    /// The first good run after either.
    Recovered,
    /// Several runs in a row came to nothing.
    Stuck,
    /// An attack succeeded.
    Attacked,
    /// Somebody tries it out.
    Test,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Suspicious => "suspicious",
            Self::Recovered => "recovered",
            Self::Stuck => "stuck",
            Self::Attacked => "attacked",
            Self::Test => "test",
        }
    }
}

/// A message. As JSON, services that show a `text` show its headline.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Notice {
    text: String,
    notice: Kind,
    at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Label>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    /// Since when it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_run_at: Option<DateTime<Utc>>,
    snapshots: Vec<Snapshot>,
    failures: Vec<Failed>,
}

impl Notice {
    /// Describes a run; `before` is what was known of the database.
    pub(super) fn of_run(kind: Kind, run: &Run, before: &State) -> Self {
        let label = &run.label;
        let text = match kind {
            Kind::Suspicious => format!("{label}: SUSPICIOUS snapshot{}", why(run)),
            Kind::Recovered => format!("{label}: good again{}", after(before, run.at)),
            Kind::Stuck => {
                let runs = match before.idle_runs.saturating_add(1) {
                    1 => "this run".to_owned(),
                    runs => format!("{runs} runs"),
                };
                format!("{label}: no snapshot in {runs}: skipped or stopped")
            }
            _ => format!("{label}: backup FAILED{}", kinds(run)),
        };
        Self {
            text: headline(&text),
            notice: kind,
            at: run.at,
            label: Some(label.clone()),
            repository: None,
            since: before.trouble_since,
            next_run_at: run.next_run_at,
            snapshots: run.snapshots.iter().take(LINES_MAX).cloned().collect(),
            failures: run.failures.iter().take(LINES_MAX).map(clipped).collect(),
        }
    }

    /// Describes a proof that found an attack to succeed.
    pub(super) fn attacked(repository: &str, probes: &[ProbeLine], at: DateTime<Utc>) -> Self {
        let failed = probes.iter().filter(|line| line.verdict == Verdict::Fail);
        let failure = |line: &ProbeLine| Failed {
            repository: Some(repository.to_owned()),
            kind: "corrupt",
            message: clip(&format!("{} {}: {}", line.id, line.what, line.detail)),
        };
        let text = format!("{repository}: AN ATTACK SUCCEEDED, or would have: mend it now");
        let failures = failed.take(LINES_MAX).map(failure).collect();
        Self {
            repository: Some(repository.to_owned()),
            failures,
            ..Self::bare(Kind::Attacked, &text, at)
        }
    }

    /// A message by which somebody tries out whether messages arrive.
    pub(super) fn test(at: DateTime<Utc>) -> Self {
        Self::bare(Kind::Test, "this is a test: messages arrive", at)
    }

    fn bare(notice: Kind, text: &str, at: DateTime<Utc>) -> Self {
        Self {
            text: headline(text),
            notice,
            at,
            label: None,
            repository: None,
            since: None,
            next_run_at: None,
            snapshots: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.notice
    }

    pub(super) const fn label(&self) -> Option<&Label> {
        self.label.as_ref()
    }

    pub(super) const fn at(&self) -> DateTime<Utc> {
        self.at
    }

    /// The subject of a mail.
    pub(super) fn subject(&self) -> &str {
        &self.text
    }

    /// The text of a mail.
    pub(super) fn letter(&self) -> String {
        let lines = self.lines().join("\n");
        format!("{}\n\n{lines}\n\nWhat each means and what to do: docs/operations.md\n", self.text)
    }

    /// What Slack takes, with all of it in `text` too, since others show nothing else.
    pub(super) fn slack(&self) -> Value {
        let (headline, lines) = (tame(&self.text), tame(&self.lines().join("\n")));
        let lines = clip_to(&lines, CHAT_CHARS_MAX - headline.chars().count().min(CHAT_CHARS_MAX));
        let section =
            |text: String| json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } });
        json!({
            "text": format!("{headline}\n{lines}"),
            "blocks": [section(format!("*{headline}*")), section(lines)],
        })
    }

    /// What is known besides the headline.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("At {}", time(self.at))];
        let of_failure = |failed: &Failed| {
            let name = failed.repository.as_ref();
            let name = name.map_or(String::new(), |name| format!("{name}: "));
            printable(&format!("{name}{}: {}", failed.kind, failed.message))
        };
        let of_snapshot = |taken: &Snapshot| {
            let promised = time(taken.promised_until);
            let Snapshot { repository, snapshot, tier, .. } = taken;
            let suspicious = taken.suspicious.as_ref();
            let suspicious = suspicious.map_or(String::new(), |why| format!(", SUSPICIOUS: {why}"));
            let text = format!(
                "{repository}: snapshot {snapshot} ({tier}), promised until {promised}{suspicious}"
            );
            printable(&text)
        };
        lines.extend(self.failures.iter().map(of_failure));
        lines.extend(self.snapshots.iter().map(of_snapshot));
        lines.extend(self.since.map(|since| format!("Not well since {}", time(since))));
        lines.extend(self.next_run_at.map(|at| format!("Next run at {}", time(at))));
        lines
    }
}

fn headline(text: &str) -> String {
    clip(&printable(&format!("stonekeep: {text}")))
}

fn why(run: &Run) -> String {
    let why = run.snapshots.iter().find_map(|taken| taken.suspicious.as_ref());
    why.map_or(String::new(), |why| format!(": {why}"))
}

/// The kinds of the failures, each once.
fn kinds(run: &Run) -> String {
    let mut kinds: Vec<&str> = run.failures.iter().map(|failed| failed.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) }
}

fn after(before: &State, at: DateTime<Utc>) -> String {
    let took = before.trouble_since.map(|since| at - since);
    match took {
        Some(took) if took >= TimeDelta::days(2) => format!(" after {} days", took.num_days()),
        Some(took) if took >= TimeDelta::hours(2) => format!(" after {} hours", took.num_hours()),
        Some(took) if took >= TimeDelta::minutes(2) => format!(" after {} min", took.num_minutes()),
        Some(took) if took >= TimeDelta::zero() => format!(" after {} s", took.num_seconds()),
        _ => String::new(),
    }
}

fn clipped(failed: &Failed) -> Failed {
    Failed { message: clip(&failed.message), ..failed.clone() }
}

fn clip(text: &str) -> String {
    clip_to(text, MESSAGE_CHARS_MAX)
}

fn clip_to(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Takes from text what makes a chat call people or show links: `<!channel>`, `@everyone`.
fn tame(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('@', "@\u{200b}")
}
