//! Drills for tests.

use stonekeep_format::{
    drill::{DrillPhase, DrillReport, DrillServer, DrillVerdict, DrilledSnapshot, Rpo},
    ids::{Label, RepositoryId, Seq, SnapshotId},
    key::ObjectKey,
    signature::SignedDocument as _,
};
use stonekeep_process::failure::FailureReport;

use super::{Drilled, Outcome};

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
        server: DrillServer { version: None, scratch: true, address: None, jobs: 2 },
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
    Outcome::Drilled(Box::new(Drilled { report, files: Vec::new(), recorded: None }))
}

/// One of `bookings` that could not be made.
pub(super) fn unmade(message: &str) -> Outcome {
    let (message, kind) = (message.to_owned(), "unavailable");
    Outcome::Failed { label: bookings(), error: FailureReport { message, kind, exit_code: 75 } }
}
