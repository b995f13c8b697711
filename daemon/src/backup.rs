//! `stonekeepd backup`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use serde::Serialize;
use stonekeep_config::{DaemonConfig, DatabaseConfig, Environment};
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
    let notices = Notices::load_for_one_run(config, environment, options.voice)?;
    let asked: Vec<Label> = if options.labels.is_empty() {
        config.databases().iter().map(|database| database.name.clone()).collect()
    } else {
        options.labels.to_vec()
    };
    let mut metrics = Metrics::to(config.metrics_file.as_deref());
    let result = each(config, environment, options, cancel, &notices, &mut metrics).await;
    // A label that is not in the file is somebody's slip.
    let is_slip = result.as_ref().is_err_and(|failure| failure.kind() == ErrorKind::Usage);
    if !is_slip {
        // After a failure to print, what became of each was told.
        if let Err(failure) = &result
            && !matches!(failure, Failure::Output(_))
        {
            notices.tell_failure(&asked, failure);
            for label in &asked {
                metrics.failed(label, config.repositories());
            }
        }
        // The snapshots are there, whatever becomes of the files.
        metrics.write(&asked).unwrap_or_else(|failure| failure.print(options.voice));
    }
    // Of a few databases nobody knows whether all is well.
    if options.labels.is_empty() {
        notices.end_of_run();
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
    metrics: &mut Metrics,
) -> Result<ExitCode, Failure> {
    let shared = Shared::read(config, environment)?;
    let (databases, unknown) = shared.databases(options.labels).await?;
    let stores = shared.stores().await?;
    let mut worst = 0;
    let mut document = Document { databases: Vec::new() };
    // That nobody reads what is said does not keep databases from being backed up.
    let mut heard = Ok(());
    let mut note = |outcome: Outcome| {
        worst = worst.max(outcome.exit_code());
        for repository in config.repositories() {
            metrics.record(&repository.name, &outcome);
        }
        if let Taken::Failed(failure) = &outcome.result {
            failure.print(options.voice);
        }
        if heard.is_ok() {
            heard = tell(&outcome, options);
        }
        document.databases.push(Line::of(outcome));
    };
    let is_listed = |entry: &&DatabaseConfig| {
        entry.patterns().is_some() && !unknown.iter().any(|(label, _)| *label == entry.name)
    };
    if options.labels.is_empty() {
        config.databases().iter().filter(is_listed).for_each(|entry| notices.listed(&entry.name));
    }
    for (label, failure) in unknown {
        let outcome = Outcome::failed(label, failure);
        notices.tell(std::slice::from_ref(&outcome), None);
        note(outcome);
    }
    for database in &databases {
        let context = Context {
            clock: Arc::new(SystemClock),
            listener: Reader::new(&database.name, options.voice),
            cancel: cancel.clone(),
        };
        let outcomes = take(&shared, database, &stores, options.once, &context).await;
        notices.tell(&outcomes, None);
        outcomes.into_iter().for_each(&mut note);
    }
    // Of several codes the greatest counts.
    if let Err(failure) = heard {
        if worst <= failure.kind().exit_code() {
            return Err(failure);
        }
        failure.print(options.voice);
    }
    if options.json {
        output::document(&document).map_err(Failure::Output)?;
    }
    Ok(ExitCode::from(worst))
}

/// Says on stdout what became of it, for people.
fn tell(outcome: &Outcome, options: Options<'_>) -> Result<(), Failure> {
    let line = match &outcome.result {
        Taken::Snapshot(report) => summary(report),
        Taken::Skipped(failure) => failure.to_report().message,
        Taken::Failed(_) => return Ok(()),
    };
    if options.json { Ok(()) } else { output::line(&line).map_err(Failure::Output) }
}

impl Line {
    fn of(Outcome { label, repository, result }: Outcome) -> Self {
        match result {
            Taken::Snapshot(report) => {
                let repository = report.repository.clone();
                Self::Snapshot { label, repository, snapshot: report }
            }
            Taken::Skipped(failure) => {
                Self::Skipped { label, skipped: failure.to_report().message }
            }
            Taken::Failed(failure) => {
                Self::Failed { label, repository, error: failure.to_report() }
            }
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
