//! What the webhook was told last, so that it hears of changes and not of every look.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stonekeep_engine::watch::{Alarm, AlarmKind, Severity, Status, WatchReport};
use stonekeep_format::ids::{BucketName, RepositoryId};
use stonekeep_process::{
    notify::{Notifier, NotifyError},
    replace::replace,
};

use crate::report;

/// Alarms of one kind in one message (5): it is for a person to read, and bounded for a service that takes no more; none of
/// the some twenty kinds hides another.
const OF_KIND_MAX: usize = 5;
/// The longest file that is read (1 MiB): some twenty kinds of alarms, a hundred of each, of a line of 100 bytes.
const BYTES_MAX: u64 = 1 << 20;

/// What is posted. Services that show a `text` show a line.
#[derive(Debug, Serialize)]
pub(super) struct Message<'r> {
    text: String,
    status: Status,
    at: DateTime<Utc>,
    /// The repository's name in the configuration.
    name: &'r str,
    repository: RepositoryId,
    bucket: &'r BucketName,
    alarms: Vec<&'r Alarm>,
    more_alarms: u64,
    /// Of all alarms, not only of those above.
    #[serde(skip)]
    told: Told,
}

impl<'r> Message<'r> {
    pub(super) fn new(name: &'r str, report: &'r WatchReport) -> Self {
        let alarms = some_of_each(&report.alarms);
        let rest = report.alarms.len() - alarms.len();
        Self {
            text: report::headline(report),
            status: report.status,
            at: report.at,
            name,
            repository: report.repository,
            bucket: &report.bucket,
            alarms,
            more_alarms: report.more_alarms + rest as u64,
            told: Told::of(report),
        }
    }
}

/// The first of each kind, in their order.
fn some_of_each(alarms: &[Alarm]) -> Vec<&Alarm> {
    let mut of_kind: BTreeMap<(Severity, AlarmKind), usize> = BTreeMap::new();
    let is_told = |alarm: &&Alarm| {
        let count = of_kind.entry((alarm.severity, alarm.kind)).or_default();
        *count += 1;
        *count <= OF_KIND_MAX
    };
    alarms.iter().filter(is_told).collect()
}

/// What was told: the status, and which kinds of alarms there are about which database, and how bad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    status: Status,
    alarms: BTreeSet<String>,
}

impl Told {
    fn of(report: &WatchReport) -> Self {
        let name = |alarm: &Alarm| {
            let severity = Status::from(alarm.severity).as_str();
            match &alarm.label {
                Some(label) => format!("{severity} {} {label}", alarm.kind.as_str()),
                None => format!("{severity} {}", alarm.kind.as_str()),
            }
        };
        Self { status: report.status, alarms: report.alarms.iter().map(name).collect() }
    }

    /// Whether somebody who heard `before` last must hear this.
    fn is_news(&self, before: Option<&Self>) -> bool {
        match before {
            None => self.status != Status::Ok,
            Some(before) => self != before,
        }
    }
}

/// Why the webhook does not know.
#[derive(Debug, thiserror::Error)]
pub(super) enum TellError {
    #[error("the call failed")]
    Notify(#[from] NotifyError),
    #[error("what it was told cannot be remembered in {}", path.display())]
    Remember { path: PathBuf, source: io::Error },
}

/// Tells it what has changed. What it was told is remembered beside the witness; without a witness it is told every time.
pub(super) async fn tell_once(
    webhook: &Notifier,
    message: &Message<'_>,
    witness_file: Option<&Path>,
) -> Result<(), TellError> {
    let file = witness_file.map(beside);
    let now = &message.told;
    let before = file.as_deref().and_then(load);
    if !now.is_news(before.as_ref()) {
        return Ok(());
    }
    webhook.post(message).await?;
    let Some(path) = file else { return Ok(()) };
    save(&path, now).map_err(|source| TellError::Remember { path, source })
}

fn beside(witness_file: &Path) -> PathBuf {
    let mut path = witness_file.as_os_str().to_owned();
    path.push(".told");
    path.into()
}

/// What cannot be read was not told: it is told once more.
fn load(path: &Path) -> Option<Told> {
    let is_short = fs::metadata(path).is_ok_and(|file| file.len() <= BYTES_MAX);
    let text = is_short.then(|| fs::read(path).ok())??;
    serde_json::from_slice(&text).ok()
}

fn save(path: &Path, told: &Told) -> io::Result<()> {
    replace(path, &serde_json::to_vec(told)?, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: Status, alarms: &[&str]) -> Told {
        Told { status, alarms: alarms.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn news_is_what_has_changed() {
        let fine = told(Status::Ok, &[]);
        let stale = told(Status::Critical, &["stale bookings"]);
        let both = told(Status::Critical, &["stale bookings", "marker"]);
        assert!(!fine.is_news(None) && stale.is_news(None));
        assert!(stale.is_news(Some(&fine)) && !stale.is_news(Some(&stale)));
        assert!(both.is_news(Some(&stale)), "something else is wrong as well");
        assert!(fine.is_news(Some(&stale)), "all is well again");
        assert!(!fine.is_news(Some(&fine)));
    }

    fn with(alarms: Vec<Alarm>) -> WatchReport {
        WatchReport {
            at: "2026-11-21T00:00:00Z".parse().expect("a date"),
            repository: "00".repeat(16).parse().expect("an id"),
            bucket: "vault".parse().expect("a name"),
            status: Status::Critical,
            alarms,
            more_alarms: 0,
            labels: Vec::new(),
            objects: 0,
            bytes: 0,
            bytes_by_day: Vec::new(),
            locks: 0,
            notes: Vec::new(),
        }
    }

    #[test]
    fn much_of_one_kind_hides_no_news_of_another() {
        let alarm = |kind, n: u32| Alarm::critical(kind, None, n.to_string());
        let mut alarms: Vec<Alarm> = (0..100).map(|n| alarm(AlarmKind::Lock, n)).collect();
        let quieter = with(alarms.clone());
        let before = Message::new("vault", &quieter).told;
        alarms.push(alarm(AlarmKind::Foreign, 0));
        let report = with(alarms);
        let message = Message::new("vault", &report);
        assert!(message.told.is_news(Some(&before)));
        assert_eq!((message.alarms.len(), message.more_alarms), (OF_KIND_MAX + 1, 95));
        assert_eq!(message.alarms.last().expect("six").kind, AlarmKind::Foreign);
        let calmer = Alarm { severity: Severity::Warning, ..report.alarms[100].clone() };
        let calmer = Told::of(&with([&report.alarms[..100], &[calmer]].concat()));
        assert!(message.told.is_news(Some(&calmer)), "what was a warning is critical");
    }

    #[test]
    fn what_was_told_is_read_back_and_a_damaged_file_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = beside(&dir.path().join("vault.witness"));
        assert_eq!(load(&path), None);
        let stale = told(Status::Critical, &["stale bookings"]);
        save(&path, &stale).expect("saved");
        assert_eq!(load(&path), Some(stale));
        fs::write(&path, "{").expect("written");
        assert_eq!(load(&path), None);
    }
}
