//! What a watcher calls wrong, and how bad it is.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};
use stonekeep_format::{
    ids::{Label, VersionId},
    key::ObjectKey,
};

use crate::{
    audit::Audit,
    finding::{Finding, FindingKind, plain},
};

/// Alarms of one kind that are told one by one (100); of more, only how many: whoever may write can bring about any number of
/// some kinds, and must not so hide those of another.
const TOLD_MAX: u64 = 100;

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Backups are missing, or somebody does what nobody should: look into it now.
    Critical,
    /// Nothing is lost yet.
    Warning,
}

/// The judgement of one look.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing is wrong.
    Ok,
    /// There are warnings, and nothing worse.
    Warning,
    /// Something is critical.
    Critical,
}

impl From<Severity> for Status {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Critical => Self::Critical,
            Severity::Warning => Self::Warning,
        }
    }
}

impl Status {
    /// Returns its name as monitoring systems spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AlarmKind {
    /// There is no snapshot of a database.
    Missing,
    /// The newest snapshot is too old.
    Stale,
    /// An object of a newest snapshot is not there, or not locked for as long as is promised.
    Lock,
    /// What an audit of the chains finds.
    Found(FindingKind),
    /// A bucket is configured otherwise than the owner signed.
    Configuration,
    /// The newest snapshot is suspicious.
    Suspicious,
    /// The repository was not attacked for long, or an attack succeeded.
    Proof,
    /// The last drill of a database failed, was too slow, or is long ago.
    Drill,
    /// A key that is none of ours.
    Foreign,
    /// The newest snapshot will soon be promised no more.
    Promise,
    /// More was stored than is expected.
    Bytes,
    /// What the watcher remembers cannot be written.
    Witness,
    /// The file of figures cannot be written.
    Metrics,
}

impl AlarmKind {
    /// Yields every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        let own = [
            Self::Missing,
            Self::Stale,
            Self::Lock,
            Self::Configuration,
            Self::Suspicious,
            Self::Proof,
            Self::Drill,
            Self::Foreign,
            Self::Promise,
            Self::Bytes,
            Self::Witness,
            Self::Metrics,
        ];
        own.into_iter().chain(FindingKind::ALL.map(Self::Found))
    }

    /// Returns its name, as JSON and metrics spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::Lock => "lock",
            Self::Found(kind) => kind.as_str(),
            Self::Configuration => "configuration",
            Self::Suspicious => "suspicious",
            Self::Proof => "proof",
            Self::Drill => "drill",
            Self::Foreign => "foreign",
            Self::Promise => "promise",
            Self::Bytes => "bytes",
            Self::Witness => "witness",
            Self::Metrics => "metrics",
        }
    }
}

impl Serialize for AlarmKind {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

/// One thing that is wrong. Ordered by how bad it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Alarm {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of thing.
    pub kind: AlarmKind,
    /// The database that it is about, if it is about one.
    pub label: Option<Label>,
    /// What is wrong, for people. Of what others wrote it holds keys and ids alone.
    pub what: String,
}

impl Alarm {
    /// Returns a critical one.
    #[must_use]
    pub const fn critical(kind: AlarmKind, label: Option<Label>, what: String) -> Self {
        Self { severity: Severity::Critical, kind, label, what }
    }

    /// Returns a warning.
    #[must_use]
    pub const fn warning(kind: AlarmKind, label: Option<Label>, what: String) -> Self {
        Self { severity: Severity::Warning, kind, label, what }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.label {
            Some(label) => write!(f, "{} {label}: {}", self.kind.as_str(), self.what),
            None => write!(f, "{}: {}", self.kind.as_str(), self.what),
        }
    }
}

/// Alarms as they come in.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    told: Vec<Alarm>,
    of_kind: BTreeMap<AlarmKind, u64>,
    more: u64,
    /// Of all, told or not.
    worst: Option<Severity>,
}

impl Alarms {
    /// Takes one in. Whoever may write chooses the keys that it names: all but printable ASCII is escaped.
    pub(super) fn raise(&mut self, alarm: Alarm) {
        let alarm = Alarm { what: plain(&alarm.what), ..alarm };
        self.worst = self.worst.into_iter().chain([alarm.severity]).min();
        let count = self.of_kind.entry(alarm.kind).or_default();
        *count += 1;
        if *count <= TOLD_MAX { self.told.push(alarm) } else { self.more += 1 }
    }

    /// One about a version of an object that anybody who may write could have put.
    pub(super) fn raise_at(
        &mut self,
        kind: AlarmKind,
        (key, version): (&ObjectKey, &VersionId),
        what: &str,
    ) {
        let what = format!("version {version} of {key}: {what}");
        self.raise(Alarm::critical(kind, None, what));
    }

    pub(super) fn take_findings(&mut self, audit: &Audit) {
        for finding in &audit.findings {
            self.raise(finding.into());
        }
        self.more += audit.more;
        if audit.more > 0 {
            self.worst = Some(Severity::Critical);
        }
    }

    /// Returns what all of them come to.
    pub(super) fn status(&self) -> Status {
        self.worst.map_or(Status::Ok, Status::from)
    }

    /// Returns them, the worst first, and how many more there are.
    pub(super) fn finish(mut self) -> (Vec<Alarm>, u64) {
        self.told.sort();
        (self.told, self.more)
    }
}

impl From<&Finding> for Alarm {
    fn from(finding: &Finding) -> Self {
        let what = match (&finding.version_id, &finding.key) {
            (Some(version), Some(key)) => format!("version {version} of {key}: {}", finding.what),
            (None, Some(key)) => format!("{key}: {}", finding.what),
            _ => finding.what.clone(),
        };
        Self::critical(AlarmKind::Found(finding.kind), finding.label.clone(), what)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: BTreeSet<_> = AlarmKind::all().map(AlarmKind::as_str).collect();
        assert_eq!(names.len(), AlarmKind::all().count());
    }

    #[test]
    fn many_of_one_kind_hide_none_of_another() {
        let mut alarms = Alarms::default();
        let alarm = |kind, n: u64| Alarm::critical(kind, None, n.to_string());
        (0..TOLD_MAX * 3).for_each(|n| alarms.raise(alarm(AlarmKind::Foreign, n)));
        alarms.raise(alarm(AlarmKind::Stale, 0));
        let (told, more) = alarms.finish();
        assert_eq!((told.len() as u64, more), (TOLD_MAX + 1, TOLD_MAX * 2));
        assert_eq!(told[0].kind, AlarmKind::Stale);
    }

    #[test]
    fn what_is_not_told_one_by_one_counts_for_the_status() {
        let mut alarms = Alarms::default();
        assert_eq!(alarms.status(), Status::Ok);
        alarms.raise(Alarm::warning(AlarmKind::Proof, None, String::new()));
        assert_eq!(alarms.status(), Status::Warning);
        let warning = || Alarm::warning(AlarmKind::Promise, None, String::new());
        (0..TOLD_MAX).for_each(|_| alarms.raise(warning()));
        alarms.raise(Alarm::critical(AlarmKind::Promise, None, String::new()));
        assert_eq!(alarms.status(), Status::Critical);
        let audit = Audit {
            at: chrono::DateTime::UNIX_EPOCH,
            repository: "00".repeat(16).parse().expect("an id"),
            genesis: None,
            history: crate::history::History::default(),
            findings: Vec::new(),
            more: 1,
        };
        let mut alarms = Alarms::default();
        alarms.take_findings(&audit);
        assert_eq!((alarms.status(), alarms.finish().1), (Status::Critical, 1));
    }

    #[test]
    fn a_planted_key_says_nothing_to_a_terminal() {
        let key: ObjectKey = "junk/\u{202e}\u{1b}[2J".parse().expect("a key");
        let version = "v1".parse().expect("an id");
        let mut alarms = Alarms::default();
        alarms.raise_at(AlarmKind::Foreign, (&key, &version), "somebody put it");
        let (told, _) = alarms.finish();
        assert!(told[0].what.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{told:?}");
        assert!(told[0].what.contains("\\u{202e}"), "{told:?}");
    }
}
