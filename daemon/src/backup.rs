//! `stonekeepd backup`.

use std::{process::ExitCode, sync::Arc, time::Duration};

use serde::Serialize;
use stonekeep_config::{DaemonConfig, DatabaseConfig, Environment};
use stonekeep_engine::{
    Context,
    backup::{BackupReport, backup},
    context::SystemClock,
};
use stonekeep_format::ids::Label;
use stonekeep_process::{failure::FailureReport, output};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::Failure,
    log::{Reader, Voice},
    metrics::Metrics,
    plan::{Once, Shared, Stores},
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
    databases: Vec<Outcome>,
}

/// What became of one database in one repository: a snapshot or an error. Without a repository the database itself failed.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Snapshot { label: Label, repository: String, snapshot: Box<BackupReport> },
    Failed { label: Label, repository: Option<String>, error: FailureReport },
}

/// Backs up the named databases, or all, one after another: production then serves one reader at a time, and memory holds one
/// budget. One that fails does not keep the others from being tried.
pub(crate) async fn run(
    config: &DaemonConfig,
    environment: &Environment,
    options: Options<'_>,
    cancel: CancellationToken,
) -> Result<ExitCode, Failure> {
    let shared = Shared::read(config, environment)?;
    let (databases, unknown) = shared.databases(options.labels).await?;
    let stores = shared.stores().await?;
    let mut worst = 0;
    let mut document = Document { databases: Vec::new() };
    let metrics = Metrics::new();
    for (label, failure) in unknown {
        for repository in config.repositories() {
            metrics.record(&label, &repository.name, None);
        }
        worst = worst.max(failure.kind().exit_code());
        document.databases.push(tell(&label, Err((None, failure)), options)?);
    }
    for database in &databases {
        let context = Context {
            clock: Arc::new(SystemClock),
            listener: Reader::new(&database.name, options.voice),
            cancel: cancel.clone(),
        };
        for result in one(&shared, database, &stores, options.once, &context).await {
            if let Err((_, failure)) = &result {
                worst = worst.max(failure.kind().exit_code());
            }
            for repository in config.repositories() {
                record(&metrics, &database.name, &repository.name, &result);
            }
            document.databases.push(tell(&database.name, result, options)?);
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

/// A database that failed by itself failed in every repository.
fn record(metrics: &Metrics, label: &Label, repository: &str, result: &OneResult) {
    match result {
        Ok(report) if report.repository == repository => {
            metrics.record(label, repository, Some(report));
        }
        Err((of, _)) if of.as_deref().is_none_or(|of| of == repository) => {
            metrics.record(label, repository, None);
        }
        _ => {}
    }
}

/// The snapshot in one repository, or in which there is none and why.
type OneResult = Result<BackupReport, (Option<String>, Failure)>;
/// Of each repository.
type Results = Vec<OneResult>;

async fn one(
    shared: &Shared<'_>,
    database: &DatabaseConfig,
    stores: &Stores,
    once: Once,
    context: &Context,
) -> Results {
    let label = database.name.clone();
    if context.cancel.is_cancelled() {
        return vec![Err((None, Failure::Stopped { label }))];
    }
    let source = match shared.source(database) {
        Ok(source) => source,
        Err(failure) => return vec![Err((None, failure))],
    };
    let targets = shared.targets(stores, database);
    let outcomes = match backup(&shared.plan(database, once), &source, &targets, context).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            return vec![Err((None, Failure::Backup { label, source: Box::new(error) }))];
        }
    };
    let result = |outcome: stonekeep_engine::backup::Outcome| {
        let (repository, label) = (outcome.repository, label.clone());
        outcome.result.map_err(|error| {
            let source = Box::new(error);
            (Some(repository.clone()), Failure::BackupInto { label, repository, source })
        })
    };
    outcomes.into_iter().map(result).collect()
}

/// Says what became of it, and returns it for the document.
fn tell(label: &Label, result: OneResult, options: Options<'_>) -> Result<Outcome, Failure> {
    let label = label.clone();
    match result {
        Ok(report) => {
            if !options.json {
                output::line(&summary(&report)).map_err(Failure::Output)?;
            }
            let repository = report.repository.clone();
            Ok(Outcome::Snapshot { label, repository, snapshot: Box::new(report) })
        }
        Err((repository, failure)) => {
            failure.print(options.voice);
            Ok(Outcome::Failed { label, repository, error: failure.to_report() })
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
