//! `stonekeepd backup`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use serde::Serialize;
use stonekeep_config::{DaemonConfig, Environment};
use stonekeep_engine::{Context, backup::BackupReport, context::SystemClock};
use stonekeep_format::{ErrorKind, ids::Label};
use stonekeep_process::{failure::FailureReport, output};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::Failure,
    log::{Reader, Voice},
    metrics::Metrics,
    notify::{FINISH_DURATION_MAX, Notices},
    outcome::{Outcome, Taken, take},
    plan::{Once, Shared},
};

/// What the command line asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options<'a> {
    pub(crate) labels: &'a [Label],
    pub(crate) once: Once,
    pub(crate) voice: Voice,
    pub(crate) json: bool,
}

#[derive(Debug, Serialize)]
struct Document {
    databases: Vec<Line>,
}

/// What became of one database in one repository: a snapshot or an error. Without a repository the database itself failed, or
/// was skipped.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Line {
    Snapshot { label: Label, repository: String, snapshot: Box<BackupReport> },
    Skipped { label: Label, skipped: String },
    Failed { label: Label, repository: Option<String>, error: FailureReport },
}

/// Backs up, and tells people what became of it.
pub(crate) async fn run(
    config: &DaemonConfig,
    environment: &Environment,
    options: Options<'_>,
    cancel: CancellationToken,
) -> Result<ExitCode, Failure> {
    let notices = Notices::load(config, environment, options.voice)?;
    let result = each(config, environment, options, cancel, &notices).await;
    match &result {
        // A label that is not in the file is somebody's slip.
        Err(failure) if failure.kind() != ErrorKind::Usage => {
            let all = || config.databases().iter().map(|database| &database.name);
            if options.labels.is_empty() {
                notices.tell_failure(all(), failure);
            } else {
                notices.tell_failure(options.labels, failure);
            }
        }
        _ => notices.end_of_run(),
    }
    notices.finish(FINISH_DURATION_MAX).await;
    result
}

/// Backs up the named databases, or all, one after another: production then serves one reader at a time, and memory holds one
/// budget. One that fails does not keep the others from being tried.
async fn each(
    config: &DaemonConfig,
    environment: &Environment,
    options: Options<'_>,
    cancel: CancellationToken,
    notices: &Notices,
) -> Result<ExitCode, Failure> {
    let shared = Shared::read(config, environment)?;
    let (databases, unknown) = shared.databases(options.labels).await?;
    let stores = shared.stores().await?;
    let mut worst = 0;
    let mut document = Document { databases: Vec::new() };
    let metrics = Metrics::new();
    let mut note = |outcome: Outcome| {
        worst = worst.max(outcome.exit_code());
        for repository in config.repositories() {
            metrics.record(&repository.name, &outcome);
        }
        document.databases.push(tell(outcome, options)?);
        Ok::<(), Failure>(())
    };
    for (label, failure) in unknown {
        let outcome = Outcome::failed(label, failure);
        notices.tell(std::slice::from_ref(&outcome), None);
        note(outcome)?;
    }
    for database in &databases {
        let context = Context {
            clock: Arc::new(SystemClock),
            listener: Reader::new(&database.name, options.voice),
            cancel: cancel.clone(),
        };
        let outcomes = take(&shared, database, &stores, options.once, &context).await;
        notices.tell(&outcomes, None);
        for outcome in outcomes {
            note(outcome)?;
        }
    }
    if let Some(path) = &config.metrics_file {
        // The snapshots are there, whatever becomes of the file.
        metrics.write(path).unwrap_or_else(|failure| failure.print(options.voice));
    }
    if options.json {
        output::document(&document).map_err(Failure::Output)?;
    }
    Ok(ExitCode::from(worst))
}

/// Says what became of it, and returns it for the document.
fn tell(outcome: Outcome, options: Options<'_>) -> Result<Line, Failure> {
    let Outcome { label, repository, result } = outcome;
    match result {
        Taken::Snapshot(report) => {
            if !options.json {
                output::line(&summary(&report)).map_err(Failure::Output)?;
            }
            let repository = report.repository.clone();
            Ok(Line::Snapshot { label, repository, snapshot: report })
        }
        Taken::Skipped(failure) => {
            let skipped = failure.to_report().message;
            if !options.json {
                output::line(&skipped).map_err(Failure::Output)?;
            }
            Ok(Line::Skipped { label, skipped })
        }
        Taken::Failed(failure) => {
            failure.print(options.voice);
            Ok(Line::Failed { label, repository, error: failure.to_report() })
        }
    }
}

fn summary(report: &BackupReport) -> String {
    let totals = &report.totals;
    let suspicious =
        report.suspicious.as_ref().map_or(String::new(), |why| format!(", SUSPICIOUS: {why}"));
    format!(
        "{}: snapshot {} ({}) in {}, {} tables, {} rows, {}, stored {}, promised until {}, in {:.1} s{suspicious}",
        report.label,
        report.snapshot,
        report.tier,
        report.repository,
        totals.tables,
        totals.rows,
        output::bytes(totals.plain_bytes),
        output::bytes(totals.put_bytes),
        report.promised_until.format("%Y-%m-%dT%H:%M:%SZ"),
        Duration::from_millis(report.duration_ms).as_secs_f64(),
    )
}
