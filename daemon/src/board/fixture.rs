//! Boards for tests: a service that has run for a while.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_engine::{
    backup::BackupReport,
    events::{Event, Phase},
};
use stonekeep_format::{
    ErrorKind,
    clock::StillClock,
    ids::{ChainId, Label, Seq, SnapshotId},
    manifest::Totals,
    prove::Verdict,
};
use ulid::Ulid;

use super::{Board, Entry, Look, Proof, Seen, database::Snap};
use crate::{
    failure::Failure,
    outcome::{Outcome, Taken},
};

/// Names that must be hidden, or escaped.
pub(crate) const NAMES: [&str; 5] =
    ["bookings", "orders", "ledger", "shop", "<script>alert(1)</script>"];
/// The name of the second repository.
pub(crate) const HOSTILE: &str = NAMES[4];
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

pub(crate) fn noon() -> DateTime<Utc> {
    "2026-11-21T12:00:00Z".parse().expect("a date")
}

pub(in crate::board) fn entry(text: &str, schedule: Option<&str>) -> Entry {
    Entry {
        label: label(text),
        several: text == "shop",
        schedule: schedule.map(str::to_owned),
        zone: chrono_tz::Europe::Berlin,
        age_max: schedule.map(|_| 2 * HOUR),
    }
}

/// The id of a snapshot whose run began then.
pub(crate) fn id(begun_at: DateTime<Utc>) -> Ulid {
    let millis = u64::try_from(begun_at.timestamp_millis()).expect("after 1970");
    Ulid::from_parts(millis, 7)
}

/// A snapshot of so many minutes ago.
pub(crate) fn snap(minutes: i64, keep_days: i64) -> Snap {
    let begun_at = noon() - TimeDelta::minutes(minutes);
    let committed_at = begun_at + TimeDelta::minutes(1);
    let age = u64::try_from(minutes).expect("in the past");
    Snap {
        id: id(begun_at),
        committed_at,
        promised_until: committed_at + TimeDelta::days(keep_days),
        rows: 81_234_567 - age,
        plain_bytes: (12 << 30) - age * 9_000,
        put_bytes: (30 << 20) + (age * 7_919) % (90 << 20),
        suspicious: None,
    }
}

/// What hourly snapshots kept for a week, daily ones for five and monthly ones for two years come to, the newest so old.
pub(crate) fn years(newest_minutes: i64) -> Vec<Snap> {
    let hourly = (0..168).map(|hour| snap(newest_minutes + hour * 60, 7));
    let daily = (7..35).map(|day| snap(newest_minutes + day * 1_440, 35));
    let monthly = (1..20).map(|month| snap(newest_minutes + month * 43_200 + 4_000, 730));
    hourly.chain(daily).chain(monthly).filter(|snap| snap.promised_until > noon()).collect()
}

pub(crate) fn taken(text: &str, repository: &str, suspicious: Option<&str>) -> Outcome {
    let (label, at) = (label(text), noon());
    let report = BackupReport {
        repository: repository.to_owned(),
        label: label.clone(),
        snapshot: SnapshotId::new(at, 1),
        seq: Seq(9),
        chain: ChainId::from_bytes([1; 8]),
        tier: "hourly".to_owned(),
        suspicious: suspicious.map(str::to_owned),
        committed_at: at,
        promised_until: at + TimeDelta::days(7),
        totals: Totals { rows: 12, plain_bytes: 4_096, put_bytes: 512, ..Totals::default() },
        duration_ms: 61_500,
        warnings: Vec::new(),
    };
    let result = Taken::Snapshot(Box::new(report));
    Outcome { label, repository: Some(repository.to_owned()), result }
}

pub(crate) fn failed(text: &str) -> Outcome {
    let failure = Failure::TwoOfALabel { label: label(text) };
    Outcome { label: label(text), repository: None, result: Taken::Failed(failure) }
}

pub(crate) fn skipped(text: &str) -> Outcome {
    let failure = Failure::Stopped { label: label(text) };
    Outcome { label: label(text), repository: None, result: Taken::Skipped(failure) }
}

pub(crate) fn seen(snapshots: Vec<(&str, Vec<Snap>)>) -> Seen {
    let count = snapshots.iter().map(|(_, of_label)| of_label.len()).sum();
    let snapshots = snapshots.into_iter().map(|(name, of_label)| (label(name), of_label));
    Seen { begun_at: noon(), snapshots: snapshots.collect(), count, ..Seen::default() }
}

pub(crate) fn proof(verdict: Verdict, days: i64) -> Proof {
    let mut probes = BTreeMap::from([(Verdict::Pass, 21), (Verdict::Lacking, 4)]);
    probes.insert(verdict, 1);
    Proof { at: noon() - TimeDelta::days(days), verdict, probes }
}

/// A board at noon with nothing on it.
pub(crate) fn empty() -> (Arc<Board>, Arc<StillClock>) {
    let clock = Arc::new(StillClock::new(noon()));
    (Board::new(Arc::<StillClock>::clone(&clock)), clock)
}

/// A board on which these databases are planned, hourly, and one repository.
pub(crate) fn planned(labels: &[&str]) -> Arc<Board> {
    planned_by_clock(labels).0
}

/// The same, and its clock.
pub(crate) fn planned_by_clock(labels: &[&str]) -> (Arc<Board>, Arc<StillClock>) {
    let (board, clock) = empty();
    board.enter(labels.iter().map(|name| entry(name, Some("0 * * * *"))).collect());
    board.expect(["vault"].into_iter());
    (board, clock)
}

/// A service with every trouble there is: one database well and at work, one suspicious, one late, one failed, one of a server.
pub(crate) fn busy() -> Arc<Board> {
    let (board, clock) = empty();
    board.expect(["vault", HOSTILE].into_iter());
    board.enter(vec![
        entry("bookings", Some("15 * * * *")),
        entry("orders", Some("*/30 * * * *")),
        entry("ledger", Some("0 * * * *")),
        entry("shop", Some("0 * * * *")),
        entry("archive", None),
    ]);
    let shrunk = Snap { suspicious: Some("rows went from 81234567 to 3".into()), ..snap(20, 7) };
    let orders = || [years(80), vec![shrunk.clone()]].concat();
    let lists = |of_ledger: i64| {
        vec![
            ("bookings", years(42)),
            ("orders", orders()),
            ("ledger", years(of_ledger)),
            ("shop-a", years(50)),
            ("shop-b", vec![snap(55, 7)]),
            ("archive", vec![snap(400_000, 730), snap(90_000, 30)]),
            ("strange", vec![snap(1, 7)]),
        ]
    };
    let proven = |verdict, days, list| Seen { proof: Some(proof(verdict, days)), ..seen(list) };
    let drilled_at = Some(noon() - TimeDelta::days(3));
    let first = proven(Verdict::Lacking, 0, lists(65));
    board.looked("vault", Look::Seen(Seen { drilled_at, ..first }));
    let findings = BTreeMap::from([("gap", 2), ("foreign_signature", 1)]);
    let second = proven(Verdict::Fail, 1, lists(310));
    board.looked(HOSTILE, Look::Seen(Seen { findings, drills_failed: 1, ..second }));
    let message = format!("cannot open repository {HOSTILE}");
    board.looked(HOSTILE, Look::Failed { kind: ErrorKind::Unreachable, message });
    board.next(&label("bookings"), Some(noon() + TimeDelta::minutes(15)));
    board.next(&label("shop"), Some(noon() + TimeDelta::minutes(60)));
    board.ended(&label("shop-b"), &[failed("shop-b")]);
    board.ended(&label("ledger"), &[skipped("ledger")]);
    board.begun(&label("bookings"));
    clock.set(noon() + TimeDelta::minutes(3));
    let expected = Some(12 << 30);
    let phase = Phase::Copying;
    for event in [
        Event::Phase { phase, bytes_expected: expected, rows_expected: None },
        Event::Progress { bytes: 5 << 30, rows: 30_000_000 },
        Event::Retried { action: "put".to_owned(), reason: "503".to_owned() },
    ] {
        board.heard(&label("bookings"), &event);
    }
    board
}
