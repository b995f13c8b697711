//! `stonekeepd check`.

use std::{io, process::ExitCode, sync::Arc};

use serde::Serialize;
use stonekeep_config::{DaemonConfig, DatabaseConfig, Environment};
use stonekeep_engine::{
    Context,
    backup::Target,
    check::{CheckReport, check},
    context::SystemClock,
};
use stonekeep_format::{ErrorKind, ids::Label};
use stonekeep_process::{failure::FailureReport, output};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::Failure,
    log::{Reader, Voice},
    notify::{Checked, Notices},
    plan::{Once, Shared},
};

/// What the command line asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) notify: bool,
    pub(crate) voice: Voice,
    pub(crate) json: bool,
}

#[derive(Debug, Serialize)]
struct Document<'a> {
    databases: Vec<Outcome<'a>>,
    notify: Vec<Checked>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Checked { label: &'a Label, repository: String, check: CheckReport },
    Failed { label: &'a Label, repository: String, error: FailureReport },
}

/// Checks all databases, and says of each what is well and what is not.
pub(crate) async fn run(
    config: &DaemonConfig,
    environment: &Environment,
    Options { notify, voice, json }: Options,
    cancel: CancellationToken,
) -> Result<ExitCode, Failure> {
    let shared = Shared::read(config, environment)?;
    let notices = Notices::load(config, environment, voice)?;
    let stores = shared.stores().await?;
    let (databases, unknown) = shared.databases(&[]).await?;
    let mut worst = 0;
    let mut document = Document { databases: Vec::new(), notify: notices.check(notify).await };
    for checked in &document.notify {
        worst = worst.max(if checked.ok { 0 } else { ErrorKind::Config.exit_code() });
        if !json {
            let line =
                format!("{}  notify: {}: {}", mark(checked.ok), checked.what, checked.detail);
            output::line(&line).map_err(Failure::Output)?;
        }
    }
    for (label, failure) in &unknown {
        failure.print(voice);
        worst = worst.max(failure.kind().exit_code());
        let error = failure.to_report();
        document.databases.push(Outcome::Failed { label, repository: String::new(), error });
    }
    for database in &databases {
        let context = Context {
            clock: Arc::new(SystemClock),
            listener: Reader::new(&database.name, voice),
            cancel: cancel.clone(),
        };
        let label = &database.name;
        for target in shared.targets(&stores, database) {
            let repository = target.name.clone();
            document.databases.push(match one(&shared, database, &target, &context).await {
                Ok(check) => {
                    worst = worst.max(exit_code(&check));
                    if !json {
                        print(label, &check).map_err(Failure::Output)?;
                    }
                    Outcome::Checked { label, repository, check }
                }
                Err(failure) => {
                    failure.print(voice);
                    worst = worst.max(failure.kind().exit_code());
                    Outcome::Failed { label, repository, error: failure.to_report() }
                }
            });
        }
    }
    if json {
        output::document(&document).map_err(Failure::Output)?;
    }
    Ok(ExitCode::from(worst))
}

async fn one(
    shared: &Shared<'_>,
    database: &DatabaseConfig,
    target: &Target,
    context: &Context,
) -> Result<CheckReport, Failure> {
    let label = database.name.clone();
    if context.cancel.is_cancelled() {
        return Err(Failure::Stopped { label });
    }
    let source = shared.source(database)?;
    let report = check(&shared.plan(database, Once::default()), &source, target, context).await;
    let repository = target.name.clone();
    report.map_err(|source| Failure::Check { label, repository, source: Box::new(source) })
}

fn exit_code(report: &CheckReport) -> u8 {
    if report.lines.iter().all(|line| line.ok) { 0 } else { ErrorKind::Config.exit_code() }
}

fn print(label: &Label, report: &CheckReport) -> io::Result<()> {
    report.lines.iter().try_for_each(|line| {
        output::line(&format!("{}  {label}: {}: {}", mark(line.ok), line.what, line.detail))
    })
}

const fn mark(ok: bool) -> &'static str {
    if ok { "ok  " } else { "FAIL" }
}
