//! `stonekeep watch`.

mod figures;
mod told;

use std::{path::Path, process::ExitCode};

use stonekeep_config::{ReaderConfig, reader::Whereabouts};
use stonekeep_engine::{
    Context,
    watch::{Alarm, AlarmKind, Status, WatchPlan, WatchReport, Watched, watch},
};
use stonekeep_format::{ErrorKind, signature::Trust};
use stonekeep_process::{failure::FailureReport, output};

use crate::{
    cli::WatchArgs, failure::Failure, notifiers::Notifiers, open::Session, report,
    watch::told::Message,
};

/// What monitoring systems take for "cannot tell".
const UNKNOWN: u8 = 3;

/// Exits with 65 if anything is critical; with `--nagios` with 0, 1, 2, and 3 if the look failed.
pub(crate) fn run(session: &Session<'_>, args: &WatchArgs) -> Result<ExitCode, Failure> {
    let looked = look(session, args);
    if args.nagios {
        let (line, code) = match &looked {
            Ok(report) => (report::nagios(report), nagios_code(report.status)),
            // What is not to be trusted is no reason to wait.
            Err(failure) if failure.kind() == ErrorKind::Corrupt => {
                (cannot("CRITICAL", failure), nagios_code(Status::Critical))
            }
            Err(failure) => (cannot("UNKNOWN", failure), UNKNOWN),
        };
        output::line(&line).map_err(Failure::Output)?;
        return Ok(ExitCode::from(code));
    }
    let report = looked?;
    output::result(session.json, &report, || report::watch(&report)).map_err(Failure::Output)?;
    let is_critical = report.status == Status::Critical;
    Ok(if is_critical { ExitCode::from(ErrorKind::Corrupt.exit_code()) } else { ExitCode::SUCCESS })
}

const fn nagios_code(status: Status) -> u8 {
    match status {
        Status::Ok => 0,
        Status::Warning => 1,
        Status::Critical => 2,
    }
}

fn cannot(status: &str, failure: &Failure) -> String {
    let report = FailureReport::new(failure, failure.kind());
    format!("STONEKEEP {status} - {}", report::without_pipe(&report.message))
}

fn look(session: &Session<'_>, args: &WatchArgs) -> Result<WatchReport, Failure> {
    let config = session.load()?;
    let Whereabouts::Bucket(repository) = config.repository(session.repository)? else {
        return Err(Failure::NotOfACopy("watch"));
    };
    let name = repository.name.clone();
    let watch_config = &config.watch;
    let notifiers = Notifiers::new(
        watch_config.ping_url(session.environment)?,
        watch_config.webhook_url(session.environment)?,
    )?;
    let witness = session.witness(&config)?;
    let plan = plan(&config, session.reporters(&config)?, args);
    session.block_on(async |context, _| {
        let repository = session.open(&config, &context).await?;
        let watched = watch(&repository, &plan, witness.as_ref(), &context).await;
        let Watched { mut report, witness } =
            watched.map_err(|source| Failure::Watch(Box::new(source)))?;
        let witness_file = config.witness_file(Some(&name))?;
        if let Some(Err(error)) = witness_file.as_deref().map(|path| witness.save(path)) {
            let what = FailureReport::new(&error, error.kind()).message;
            report.raise(Alarm::critical(AlarmKind::Witness, None, what));
        }
        if let Some(path) = config.watch.metrics_file(&name)
            && let Err(error) = figures::write(&path, &name, &report)
        {
            let what = format!("cannot write the metrics file {}: {error}", path.display());
            report.raise(Alarm::warning(AlarmKind::Metrics, None, what));
        }
        tell(&notifiers, (&name, &report), witness_file.as_deref(), &context).await;
        Ok(report)
    })
}

fn plan(config: &ReaderConfig, reporters: Trust, args: &WatchArgs) -> WatchPlan {
    let watch = &config.watch;
    let labels = watch.databases.iter().map(|database| (database.name.clone(), database.age_max));
    WatchPlan {
        labels: labels.collect(),
        age_max: watch.age_max,
        bytes_per_day_max: watch.bytes_per_day_max,
        prove_age_max: watch.prove_age_max,
        drill_age_max: watch.drill_age_max,
        reporters,
        all_locks: args.all_locks,
    }
}

/// What does not arrive is a warning: the look was made.
async fn tell(
    notifiers: &Notifiers,
    (name, report): (&str, &WatchReport),
    witness_file: Option<&Path>,
    context: &Context,
) {
    if let Some(webhook) = &notifiers.webhook {
        let message = Message::new(name, report);
        if let Err(error) = told::tell_once(webhook, &message, witness_file).await {
            Notifiers::untold(&error, context);
        }
    }
    if report.status == Status::Ok {
        notifiers.ping(context).await;
    }
}
