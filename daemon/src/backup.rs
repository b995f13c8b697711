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
use stonekeep_store::AppendStore;
use tokio_util::sync::CancellationToken;

use crate::{
    failure::Failure,
    log::{Reader, Voice},
    plan::Shared,
};

#[derive(Debug, Serialize)]
struct Document<'a> {
    databases: Vec<Outcome<'a>>,
}

/// What became of one database: a snapshot or an error.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Snapshot { label: &'a Label, snapshot: Box<BackupReport> },
    Failed { label: &'a Label, error: FailureReport },
}

/// Backs up the named databases, or all, one after another: production then serves one reader at a time, and memory holds one
/// budget. One that fails does not keep the others from being tried.
pub(crate) async fn run(
    config: &DaemonConfig,
    environment: &Environment,
    labels: &[Label],
    voice: Voice,
    cancel: CancellationToken,
    json: bool,
) -> Result<ExitCode, Failure> {
    let databases = config.databases(labels)?;
    let shared = Shared::read(config, environment)?;
    let store = shared.store().await?;
    let mut worst = 0;
    let mut document = Document { databases: Vec::new() };
    for database in databases {
        let context = Context {
            clock: Arc::new(SystemClock),
            listener: Reader::new(&database.name, voice),
            cancel: cancel.clone(),
        };
        let label = &database.name;
        document.databases.push(match one(&shared, database, Arc::clone(&store), &context).await {
            Ok(snapshot) => {
                if !json {
                    output::line(&summary(&snapshot)).map_err(Failure::Output)?;
                }
                Outcome::Snapshot { label, snapshot: Box::new(snapshot) }
            }
            Err(failure) => {
                failure.print(json);
                worst = worst.max(failure.kind().exit_code());
                Outcome::Failed { label, error: failure.to_report() }
            }
        });
    }
    if json {
        output::document(&document).map_err(Failure::Output)?;
    }
    Ok(ExitCode::from(worst))
}

async fn one(
    shared: &Shared<'_>,
    database: &DatabaseConfig,
    store: Arc<dyn AppendStore>,
    context: &Context,
) -> Result<BackupReport, Failure> {
    let label = database.name.clone();
    if context.cancel.is_cancelled() {
        return Err(Failure::Stopped { label });
    }
    let source = shared.source(database)?;
    let report = backup(&shared.plan(database), &source, store, context).await;
    report.map_err(|source| Failure::Backup { label, source: Box::new(source) })
}

fn summary(report: &BackupReport) -> String {
    let totals = &report.totals;
    format!(
        "{}: snapshot {} ({}), {} tables, {} rows, {}, stored {}, promised until {}, in {:.1} s",
        report.label,
        report.snapshot,
        report.tier,
        totals.tables,
        totals.rows,
        output::bytes(totals.plain_bytes),
        output::bytes(totals.put_bytes),
        report.promised_until.format("%Y-%m-%dT%H:%M:%SZ"),
        Duration::from_millis(report.duration_ms).as_secs_f64(),
    )
}
