//! Results for people: lines of text. Times are UTC, sizes binary.

use chrono::{DateTime, Utc};
use indicatif::HumanCount;
use stonekeep_engine::{
    extend::{ExtendFailure, ExtendReport, ExtendedSnapshot},
    fetch::FetchReport,
    list::{ListReport, ShowReport, SnapshotLine},
    restore::{RestorePreview, RestoreReport},
    verify::VerifyReport,
    watch::{LabelLine, Severity, WatchReport},
};

use stonekeep_format::ids::BucketName;
use stonekeep_process::{
    output::bytes,
    table::{Align, Table},
};

use crate::{init::Document as InitDocument, policy::Document as PolicyDocument};

/// Every snapshot, then everything that is wrong.
pub(crate) fn list(report: &ListReport) -> Vec<String> {
    if report.snapshots.is_empty() {
        let mut lines = vec![format!(
            "No snapshot yet in repository {} ({}).",
            report.repository, report.bucket
        )];
        lines.extend(alarms(report));
        return lines;
    }
    let mut table = Table::new(&[
        ("SNAPSHOT", Align::Left),
        ("DATABASE", Align::Left),
        ("TAKEN", Align::Left),
        ("TIER", Align::Left),
        ("PROMISED UNTIL", Align::Left),
        ("TABLES", Align::Right),
        ("ROWS", Align::Right),
        ("SIZE", Align::Right),
        ("ADDED", Align::Right),
        ("", Align::Left),
    ]);
    report.snapshots.iter().for_each(|snapshot| table.row(snapshot_cells(snapshot)));
    let mut lines = table.lines();
    lines.extend(alarms(report));
    lines
}

fn snapshot_cells(snapshot: &SnapshotLine) -> Vec<String> {
    let note = match (&snapshot.suspicious, snapshot.expired) {
        (Some(why), _) => format!("suspicious: {why}"),
        (None, true) => "promise has passed".to_owned(),
        (None, false) => String::new(),
    };
    vec![
        snapshot.id.to_string(),
        snapshot.label.to_string(),
        time(snapshot.snapshot_at),
        snapshot.tier.clone(),
        time(snapshot.promised_until),
        count(snapshot.tables),
        count(snapshot.rows),
        bytes(snapshot.plain_bytes),
        bytes(snapshot.put_bytes),
        note,
    ]
}

fn alarms(report: &ListReport) -> Vec<String> {
    let mut lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    if report.more_findings > 0 {
        lines.push(format!("MORE: {} more findings", count(report.more_findings)));
    }
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines
}

/// One snapshot, a fact a line.
pub(crate) fn show(report: &ShowReport) -> Vec<String> {
    let manifest = &report.manifest;
    let totals = &manifest.totals;
    let mut facts = vec![
        ("snapshot", manifest.id.to_string()),
        ("database", manifest.label.to_string()),
        ("repository", manifest.repository.to_string()),
        ("position", format!("{} of chain {}", manifest.seq, manifest.chain)),
        ("tier", manifest.tier.clone()),
        ("taken", time(manifest.snapshot_at)),
        ("committed", time(manifest.committed_at)),
        ("promised until", time(manifest.promised_until)),
        (
            "content",
            format!(
                "{} tables, {} rows, {} large objects",
                count(totals.tables),
                count(totals.rows),
                count(totals.large_objects)
            ),
        ),
        (
            "size",
            format!(
                "{}, {} as stored, {} of it added by this snapshot",
                bytes(totals.plain_bytes),
                bytes(totals.sealed_bytes),
                bytes(totals.put_bytes)
            ),
        ),
        ("segments", count(totals.segments)),
    ];
    for (kind, sums) in &report.segments {
        facts.push((
            "",
            format!("{kind}: {}, {} as stored", count(sums.segments), bytes(sums.sealed_bytes)),
        ));
    }
    if totals.binary_tables > 0 {
        let tables = count(totals.binary_tables);
        facts.push((
            "in binary",
            format!("{tables} of the tables, for a row longer than text can be: restored by restore and by pg_restore -d, not through a script for psql"),
        ));
    }
    if let Some(locks) = &report.locks {
        let mode = if locks.all_compliance { "COMPLIANCE" } else { "not all COMPLIANCE" };
        let (first, last) = (time(locks.first.retain_until), time(locks.last.retain_until));
        facts.push(("locked", format!("until {first} to {last}, {mode}")));
    }
    facts.extend(manifest.suspicious.iter().map(|why| ("suspicious", why.clone())));
    let versions = &manifest.versions;
    facts.push((
        "made by",
        format!(
            "stonekeep {}, PostgreSQL {}, pg_dump {}",
            versions.stonekeep, versions.server, versions.pg_dump
        ),
    ));
    facts.push(("manifest", manifest.key.to_string()));
    facts.push(("digest", report.digest.to_string()));
    facts.iter().map(|(name, fact)| format!("{name:<15} {fact}")).collect()
}

/// What was looked at, and what is wrong.
pub(crate) fn verify(report: &VerifyReport) -> Vec<String> {
    let mut lines: Vec<String> =
        report.problems.iter().map(|problem| format!("PROBLEM: {problem}")).collect();
    lines.extend(report.findings.iter().map(ToString::to_string));
    let looked = if report.read_data {
        "read and digested"
    } else {
        "present, of the right length and locked"
    };
    let (snapshot, label) = (&report.snapshot, &report.label);
    let segments = format!("{} segments, {}", count(report.segments), bytes(report.bytes));
    lines.push(match report.problems.len() {
        0 => format!("Snapshot {snapshot} of {label} is sound: {segments}, all {looked}."),
        problems => {
            format!("Snapshot {snapshot} of {label} has {problems} problems in {segments}.")
        }
    });
    if report.findings.iter().any(|finding| finding.kind.breaks_chain()) {
        lines.push(format!("The chain of {label} is broken: see above."));
    }
    if let Some(lock) = &report.first_lock {
        let (until, promise) = (time(lock.retain_until), time(report.promised_until));
        lines.push(format!("The first lock ends {until} ({}), the promise {promise}.", lock.mode));
    }
    lines
}

/// Where the files are, and what to do with them.
pub(crate) fn fetch(report: &FetchReport, sealed: bool) -> Vec<String> {
    let directory = report.directory.display();
    let what = if sealed { "objects" } else { "files" };
    let mut lines = vec![format!(
        "Snapshot {} of {} is in {directory}: {} {what}, {}.",
        report.snapshot,
        report.label,
        count(report.files),
        bytes(report.bytes)
    )];
    if !sealed {
        lines.push(format!("Restore it with: pg_restore -Fd -j4 -d DATABASE {directory}"));
        lines.push("It is in the clear: delete it when it is no longer needed.".to_owned());
    }
    lines
}

/// Each database, then everything that is wrong, the worst first.
pub(crate) fn watch(report: &WatchReport) -> Vec<String> {
    let mut lines: Vec<String> = report.labels.iter().map(watched).collect();
    lines.extend(report.alarms.iter().map(|alarm| match alarm.severity {
        Severity::Critical => format!("CRITICAL {alarm}"),
        Severity::Warning => format!("WARNING {alarm}"),
    }));
    if report.more_alarms > 0 {
        let status = report.status.as_str();
        lines.push(format!("{status}: {} more of the same kinds", count(report.more_alarms)));
    }
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.push(format!(
        "{}: repository {} ({}), {} objects, {}, {} of it in the last 24 h; {} locks read.",
        report.status.as_str(),
        report.repository,
        report.bucket,
        count(report.objects),
        bytes(report.bytes),
        bytes(report.bytes_by_day.first().copied().unwrap_or(0)),
        count(report.locks)
    ));
    lines
}

fn watched(line: &LabelLine) -> String {
    let (label, age_max) = (&line.label, age(line.age_max_secs));
    let Some(newest) = &line.newest else {
        return format!("{label}: no snapshot (one may be {age_max} old)");
    };
    let drill = line.drill.as_ref().map_or_else(String::new, |drill| {
        format!(", drilled {} ago: {}", age(drill.age_secs), drill.verdict.as_str())
    });
    format!(
        "{label}: newest {}, {} old (at most {age_max}), promised until {} ({} % left), {} added in the last 24 h{drill}",
        newest.id,
        age(newest.age_secs),
        time(newest.promised_until),
        newest.promise_left_percent,
        bytes(line.put_bytes_last_day)
    )
}

/// One line, as Nagios reads it: the judgement, a bar, and figures.
pub(crate) fn nagios(report: &WatchReport) -> String {
    let ages = report.labels.iter().filter_map(|line| {
        let newest = line.newest.as_ref()?;
        let (label, age, age_max) = (&line.label, newest.age_secs, line.age_max_secs);
        Some(format!("'age {label}'={age}s;;{age_max};0"))
    });
    let mut figures: Vec<String> = ages.collect();
    figures.push(format!("alarms={}", report.alarms.len() as u64 + report.more_alarms));
    figures.push(format!("objects={}", report.objects));
    figures.push(format!("stored={}B", report.bytes));
    let last_day = report.bytes_by_day.first().copied().unwrap_or(0);
    figures.push(format!("stored_last_day={last_day}B"));
    format!("{} | {}", without_pipe(&headline(report)), figures.join(" "))
}

/// The judgement in one line, with the worst of what is wrong.
pub(crate) fn headline(report: &WatchReport) -> String {
    let status = report.status.as_str();
    let Some(worst) = report.alarms.first() else {
        let ages = report.labels.iter().filter_map(|line| line.newest.as_ref());
        let oldest = ages.map(|newest| newest.age_secs).max();
        let oldest =
            oldest.map_or_else(String::new, |secs| format!(", none older than {}", age(secs)));
        return format!("STONEKEEP {status} - databases: {}{oldest}", report.labels.len());
    };
    let more = report.alarms.len() as u64 - 1 + report.more_alarms;
    let more = if more == 0 { String::new() } else { format!(" (and {} more)", count(more)) };
    format!("STONEKEEP {status} - {worst}{more}")
}

/// What stands before the bar must hold none.
pub(crate) fn without_pipe(text: &str) -> String {
    text.replace('|', "/")
}

/// `3 h 05 min`.
fn age(secs: u64) -> String {
    match secs / 3_600 {
        0 => format!("{} min", secs / 60),
        hours => format!("{hours} h {:02} min", secs % 3_600 / 60),
    }
}

/// What is locked for longer now, and what is not.
pub(crate) fn extend(report: &ExtendReport) -> Vec<String> {
    let failed = |each: &ExtendFailure| {
        format!("FAILED: {} (version {}): {}", each.key, each.version_id, each.why)
    };
    let mut lines: Vec<String> = report.failures.iter().map(failed).collect();
    if report.more_failures > 0 {
        lines.push(format!("FAILED: {} more objects", count(report.more_failures)));
    }
    if report.given_up {
        lines.push("It was given up: what is refused again and again will be again.".to_owned());
    }
    let (until, counts) = (time(report.lock.retain_until), &report.objects);
    let of_label = |label| format!("No snapshot of {label} was prolonged: each is suspicious.");
    lines.extend(report.left_out.iter().map(of_label));
    let is_whole = report.worst.is_none();
    for ExtendedSnapshot { label, id, promised_until } in &report.snapshots {
        let is_locked = if is_whole { "is locked at least" } else { "was to be locked" };
        let promise = time(*promised_until);
        lines.push(format!(
            "Snapshot {id} of {label} {is_locked} until {until}; it was promised until {promise}."
        ));
    }
    lines.push(format!(
        "{} objects prolonged, {} locked that long already ({} in all, {}), {} failed.",
        count(counts.prolonged),
        count(counts.left_alone),
        bytes(counts.bytes),
        report.lock.mode,
        count(counts.failed)
    ));
    if is_whole {
        lines.push("The promise in the manifest stays as it was signed: `list` calls it passed when it is, and the snapshot can be restored all the same.".to_owned());
        lines.push("Lifecycle rules may hide its objects behind delete markers; they cannot remove them while they are locked, and every command looks under markers.".to_owned());
    } else {
        lines.push("The same command, on the same day, goes on from there.".to_owned());
    }
    lines
}

/// What is where now.
pub(crate) fn restore(report: &RestoreReport) -> Vec<String> {
    let mut lines: Vec<String> =
        report.warnings.iter().map(|warning| format!("WARNING: {warning}")).collect();
    let secs = report.duration_ms / 1000;
    lines.push(format!(
        "Snapshot {} of {} is database {} on {}: {} tables, {} rows, {} large objects, {}, in {secs} s.",
        report.snapshot,
        report.label,
        report.database,
        report.host,
        count(report.tables),
        count(report.rows),
        count(report.large_objects),
        bytes(report.bytes)
    ));
    lines.push("Every row was compared with what production held.".to_owned());
    if report.tables_kept > 0 {
        lines.push(format!(
            "{} tables had been loaded by an earlier run.",
            count(report.tables_kept)
        ));
    }
    lines
}

pub(crate) fn preview(preview: &RestorePreview) -> Vec<String> {
    let tables = if preview.tables == 1 { "table" } else { "tables" };
    let mut lines = vec![
        format!(
            "Snapshot {} of {} would become database {} on {}: {}.",
            preview.snapshot, preview.label, preview.database, preview.host, preview.destination
        ),
        format!(
            "{} {tables} with {} rows, {} large objects, {}.",
            count(preview.tables),
            count(preview.rows),
            count(preview.large_objects),
            bytes(preview.bytes)
        ),
    ];
    if let Some(question) = &preview.question {
        lines.push(format!("A person would be asked at a terminal: {question}"));
    }
    lines.extend(preview.warnings.iter().map(|warning| format!("WARNING: {warning}")));
    lines.push("Nothing was changed.".to_owned());
    lines
}

/// What was done, and what the person still has to do.
pub(crate) fn init(document: &InitDocument) -> Vec<String> {
    let made = &document.repository;
    let mut lines = vec![format!(
        "Repository {} is made: its genesis is {}.",
        made.repository, made.genesis_key
    )];
    lines.push(match &made.buckets_created[..] {
        [] => "No bucket was made: what was there is used.".to_owned(),
        made => format!(
            "Made with Object Lock: {}.",
            made.iter().map(BucketName::as_str).collect::<Vec<_>>().join(", ")
        ),
    });
    lines.push(
        if made.policy_applied { "The policy was applied." } else { "No policy was applied." }
            .to_owned(),
    );
    lines.push(match made.lifecycle_rules {
        0 => "No lifecycle rules were set: nothing expires by itself.".to_owned(),
        rules => format!("{rules} lifecycle rules were set: what is no longer promised expires."),
    });
    lines.extend(document.files.iter().map(|path| format!("Written: {}", path.display())));
    lines.push(String::new());
    lines.push("Still to do:".to_owned());
    lines.extend(made.commands.iter().map(|command| format!("  - run: {command}")));
    lines.extend(document.next.iter().map(|next| format!("  - {next}")));
    lines
}

/// Where the files are, or the files themselves, each under its name; then what to know of them.
pub(crate) fn policy(document: &PolicyDocument) -> Vec<String> {
    let written = document.written.iter().map(|path| format!("Written: {}", path.display()));
    let mut lines: Vec<String> = written.collect();
    if lines.is_empty() {
        for file in &document.report.files {
            lines.push(format!("==> {} <==", file.name));
            lines.extend(file.text.lines().map(str::to_owned));
            lines.push(String::new());
        }
    }
    lines.extend(document.report.notes.iter().map(|note| format!("Note: {note}")));
    lines
}

/// `2026-11-21T10:15:00Z`: no zone but UTC, no fractions.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}
