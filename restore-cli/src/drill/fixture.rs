//! Reports as drills make them, for the tests of how they are told.

use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{
    drill::{
        Compared, DrillCheck, DrillPhase, DrillRecipient, DrillReport, DrillServer, DrillTable,
        DrillVerdict, DrilledSnapshot, EarlierDrill, Estimate, Rpo, TableOutcome,
    },
    ids::{Label, RepositoryId, Seq, SnapshotId},
    key::ObjectKey,
    signature::{SignedDocument as _, Signer},
};
use stonekeep_process::failure::FailureReport;

use super::{Drilled, Outcome};

/// What must do nothing on a page, each in a way of its own.
pub(super) const HOSTILE: [&str; 4] = [
    "public.</script><img src=x onerror=alert(1)>",
    "public.\u{202e}sgnikoob\u{202c} <!-- <script>alert(2)</script>",
    "public.\"quoted\" & 'single' </title></style>\n-----BEGIN SSH SIGNATURE-----",
    "שלום.الحجوزات",
];

/// A report key that signs nothing else, as ssh-keygen made it for these tests.
pub(super) fn reporter() -> Signer {
    Signer::from_openssh(include_str!("../../tests/data/reporter")).expect("the tests' own key")
}

pub(super) fn noon() -> DateTime<Utc> {
    "2026-11-21T12:00:00Z".parse().expect("an instant")
}

fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

fn id(at: DateTime<Utc>, random: u32) -> SnapshotId {
    SnapshotId::new(at, u128::from(random) * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced)
}

/// A drill of a database of 64 tables, after 100 others.
pub(super) fn passed() -> DrillReport {
    let (label, begun_at) = (label("bookings"), noon());
    let drill = id(begun_at, 1);
    let tables = tables();
    let rows = tables.iter().map(|table| table.rows).sum();
    DrillReport {
        format: DrillReport::FORMAT.to_owned(),
        repository: RepositoryId::from_bytes([0x5e; 16]),
        key: ObjectKey::report(&label, &drill),
        id: drill,
        stonekeep: "0.1.0".to_owned(),
        begun_at,
        written_at: begun_at + TimeDelta::minutes(26),
        verdict: DrillVerdict::Pass,
        problems: Vec::new(),
        more_problems: 0,
        snapshot: snapshot(begun_at, tables.len() as u64, rows),
        server: DrillServer {
            version: Some("16.4 (Debian 16.4-1)".to_owned()),
            scratch: true,
            address: None,
            jobs: 4,
            fsync: Some(false),
        },
        phases: phases(),
        rto_ms: Some(754_200),
        rto_max_ms: Some(1_800_000),
        rpo: Rpo { newest_age_ms: 840_000, longest_gap_ms: Some(3_720_000) },
        tables,
        compared: ["sequences", "large objects", "indexes", "constraints"]
            .into_iter()
            .zip([61, 1_204, 212, 388])
            .map(|(what, wanted)| Compared { what: what.to_owned(), wanted, same: wanted })
            .collect(),
        recipients: recipients(),
        checks: vec![
            check("a booking of today is there", None, 12),
            check("no orphaned invoices", None, 2_345),
        ],
        not_checked: vec!["materialized view public.now_in_utc: it reads the clock".to_owned()],
        notes: vec!["the collation version of database default is 2.36, and was 2.31".to_owned()],
        estimates: estimates(label.clone()),
        earlier: earlier(100),
        label,
    }
}

/// A drill that names what is wrong, hostile names among it.
pub(super) fn failed() -> DrillReport {
    let mut report = passed();
    report.verdict = DrillVerdict::Fail;
    // Slower than it may be: everything took its time.
    let slowed = |ms: u64| ms * 36 / 10;
    for phase in &mut report.phases {
        (phase.begun_ms, phase.duration_ms) = (slowed(phase.begun_ms), slowed(phase.duration_ms));
    }
    report.rto_ms = report.rto_ms.map(slowed);
    for estimate in &mut report.estimates {
        estimate.restore_ms = slowed(estimate.restore_ms);
    }
    report.problems = vec![
        "the rows of table public.invoices (120029 found, 120030 backed up)".to_owned(),
        format!("table {}, which is missing", HOSTILE[0]),
        format!("the value of sequence {}", HOSTILE[1]),
        "index public.bookings_by_day, which is not valid".to_owned(),
    ];
    report.more_problems = 3;
    for (at, name) in HOSTILE.into_iter().enumerate() {
        report.tables[at].name = name.to_owned();
    }
    report.tables[4].name = format!("public.{}", "long_".repeat(39));
    (report.tables[0].outcome, report.tables[0].rows_found) = (TableOutcome::Missing, None);
    (report.tables[5].outcome, report.tables[5].rows_found) =
        (TableOutcome::Differs, Some(120_029));
    (report.tables[1].outcome, report.tables[1].rows_found) = (TableOutcome::Missing, None);
    report.tables[2].outcome = TableOutcome::Moved;
    report.compared[0].same = 60;
    report.recipients[1].proven_by = None;
    report.checks.push(check(HOSTILE[0], Some("answered with another value"), 40));
    report.server = DrillServer {
        scratch: false,
        address: Some("drill.internal:5432".to_owned()),
        fsync: None,
        ..report.server
    };
    report.earlier = earlier(1);
    report
}

/// The first drill of an empty database, which could not be restored.
pub(super) fn broken() -> DrillReport {
    let mut report = passed();
    report.verdict = DrillVerdict::Fail;
    report.problems = vec!["it could not be restored: segment 4f1e… is damaged".to_owned()];
    report.phases.truncate(3);
    (report.rto_ms, report.rto_max_ms, report.rpo.longest_gap_ms) = (None, None, None);
    report.server.version = None;
    for lines in [&mut report.not_checked, &mut report.notes] {
        lines.clear();
    }
    report.tables.clear();
    report.compared.clear();
    report.recipients.clear();
    report.checks.clear();
    report.estimates.clear();
    report.earlier.clear();
    report
}

fn snapshot(begun_at: DateTime<Utc>, tables: u64, rows: u64) -> DrilledSnapshot {
    let snapshot_at = begun_at - TimeDelta::minutes(14);
    DrilledSnapshot {
        id: id(snapshot_at, 2),
        seq: Seq(4_711),
        tier: "hourly".to_owned(),
        snapshot_at,
        committed_at: snapshot_at + TimeDelta::minutes(3),
        promised_until: snapshot_at + TimeDelta::days(30),
        server_version: "16.4".to_owned(),
        chosen: "newest".to_owned(),
        tables,
        rows,
        large_objects: 1_204,
        segments: 5_120,
        plain_bytes: 41_234_567_890,
        sealed_bytes: 9_876_543_210,
    }
}

fn phases() -> Vec<DrillPhase> {
    let steps = [
        ("verifying", 14_000, 9_876_543_210, 0, false),
        ("fetching", 900, 0, 0, false),
        ("starting", 2_300, 0, 0, false),
        ("preparing", 800, 0, 0, true),
        ("schema", 4_100, 0, 0, true),
        ("loading", 402_000, 41_234_567_890, 81_234_567, true),
        ("finishing", 151_000, 0, 0, true),
        ("comparing", 182_300, 41_234_567_890, 81_234_567, true),
        ("analyzing", 14_000, 0, 0, true),
        ("checking", 2_357, 0, 0, false),
        ("removing", 640, 0, 0, false),
    ];
    let mut begun_ms = 0;
    let of = |(name, duration_ms, bytes, rows, is_restore): (&str, u64, u64, u64, bool)| {
        let phase =
            DrillPhase { name: name.to_owned(), begun_ms, duration_ms, bytes, rows, is_restore };
        begun_ms += duration_ms;
        phase
    };
    steps.into_iter().map(of).collect()
}

fn tables() -> Vec<DrillTable> {
    let names =
        ["bookings", "guests", "rooms", "payments", "audit_log", "invoices", "rates", "channels"];
    let of = |at: u64| {
        let name = names[usize::try_from(at).unwrap_or(0) % names.len()];
        let rows = 4_001 * (at % 7) * (at + 1);
        let name =
            if at < 8 { format!("public.{name}") } else { format!("tenant_{}.{name}", at / 8) };
        let bytes = rows * 93 + at;
        DrillTable { name, rows, bytes, rows_found: Some(rows), outcome: TableOutcome::Same }
    };
    (0..64).map(of).collect()
}

fn recipients() -> Vec<DrillRecipient> {
    let named = [
        ("age1vq0cldxnxg0mzzxd7m7a0e9zh8d2lqg3y9q4w5k3v0c5t8p7hfqsd2x3lt", "operator.key"),
        ("age1tz8r2c9u0h0w8n3k4mvgpk6l9j2q7s5xd4e3f2a1y0z9x8c7v6bqm5n4tw", "safe.key"),
    ];
    named
        .map(|(recipient, file)| DrillRecipient {
            recipient: recipient.to_owned(),
            proven_by: Some(file.to_owned()),
        })
        .into()
}

fn check(name: &str, why: Option<&str>, duration_ms: u64) -> DrillCheck {
    let why = why.map(str::to_owned);
    DrillCheck { name: name.to_owned(), passed: why.is_none(), why, duration_ms }
}

fn estimates(drilled: Label) -> Vec<Estimate> {
    let at = noon() - TimeDelta::minutes(14);
    let of = |(at_random, label, plain_bytes, restore_ms): (u32, Label, u64, u64)| Estimate {
        is_measured: at_random == 2,
        snapshot: id(at, at_random),
        label,
        plain_bytes,
        restore_ms,
    };
    [(2, drilled, 41_234_567_890, 754_200), (3, label("ledger"), 122_000_000_000, 2_231_000)]
        .map(of)
        .into()
}

/// As many drills, one a week, growing slower; each ninth failed, each eighteenth before it came to its end.
pub(super) fn earlier(number: u32) -> Vec<EarlierDrill> {
    let of = |back: u32| {
        let at = number - back;
        let begun_at = noon() - TimeDelta::weeks(i64::from(back));
        let (is_failed, is_broken) = (at % 9 == 4, at % 18 == 4);
        let rto_ms = 420_000 + u64::from(at) * 3_300 + u64::from(at * 7_919 % 13) * 9_000;
        EarlierDrill {
            id: id(begun_at, at + 100),
            begun_at,
            verdict: if is_failed { DrillVerdict::Fail } else { DrillVerdict::Pass },
            rto_ms: (!is_broken).then_some(rto_ms),
            plain_bytes: 20_000_000_000 + u64::from(at) * 212_000_000,
        }
    };
    (1..=number).rev().map(of).collect()
}

fn bookings() -> Label {
    "bookings".parse().expect("a label")
}

/// A drill of `bookings` that passed in 1.5 s, such as `change` makes of it.
pub(super) fn drilled(change: impl FnOnce(&mut DrillReport)) -> Outcome {
    let at = "2026-11-21T12:00:00Z".parse().expect("a date");
    let (label, id) = (bookings(), SnapshotId::new(at, 2));
    let mut report = DrillReport {
        format: DrillReport::FORMAT.to_owned(),
        repository: RepositoryId::from_bytes([7; 16]),
        key: ObjectKey::report(&label, &id),
        label,
        id,
        stonekeep: "0.0.0".to_owned(),
        begun_at: at,
        written_at: at,
        verdict: DrillVerdict::Pass,
        problems: Vec::new(),
        more_problems: 0,
        snapshot: DrilledSnapshot {
            id: SnapshotId::new(at, 1),
            seq: Seq(1),
            tier: "hourly".to_owned(),
            snapshot_at: at,
            committed_at: at,
            promised_until: at,
            server_version: "16.4".to_owned(),
            chosen: "newest".to_owned(),
            tables: 1,
            rows: 10,
            large_objects: 0,
            segments: 3,
            plain_bytes: 4_096,
            sealed_bytes: 1_024,
        },
        server: DrillServer {
            version: None,
            scratch: true,
            address: None,
            jobs: 2,
            fsync: Some(false),
        },
        phases: vec![DrillPhase {
            name: "loading".to_owned(),
            begun_ms: 0,
            duration_ms: 1_250,
            bytes: 4_096,
            rows: 10,
            is_restore: true,
        }],
        rto_ms: Some(1_500),
        rto_max_ms: None,
        rpo: Rpo { newest_age_ms: 60_000, longest_gap_ms: None },
        tables: Vec::new(),
        compared: Vec::new(),
        recipients: Vec::new(),
        checks: Vec::new(),
        not_checked: Vec::new(),
        notes: Vec::new(),
        estimates: Vec::new(),
        earlier: Vec::new(),
    };
    change(&mut report);
    let (files, recorded, unkept) = (Vec::new(), None, None);
    Outcome::Drilled(Box::new(Drilled { report, files, recorded, unkept }))
}

/// One of `bookings` that could not be made.
pub(super) fn unmade(message: &str) -> Outcome {
    Outcome::Failed { label: bookings(), error: unavailable(message) }
}

/// Why something could not be done.
pub(super) fn unavailable(message: &str) -> FailureReport {
    FailureReport { message: message.to_owned(), kind: "unavailable", exit_code: 75 }
}
