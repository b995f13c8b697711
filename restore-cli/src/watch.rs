//! `stonekeep watch`.

mod figures;
mod told;

use std::{error::Error, path::Path, process::ExitCode};

use stonekeep_config::{ReaderConfig, reader::Whereabouts};
use stonekeep_engine::{
    Context,
    watch::{Alarm, AlarmKind, Status, WatchPlan, WatchReport, Watched, watch},
};
use stonekeep_format::ErrorKind;
use stonekeep_process::{failure::FailureReport, notify::Notifier, output};

use crate::{cli::WatchArgs, failure::Failure, open::Session, report, watch::told::Message};

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
    // A wrong URL shows before the look, and not on the day on which it is needed.
    let notifiers = Notifiers::load(session, &config)?;
    let witness = session.witness(&config)?;
    let plan = plan(&config, args);
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
        notifiers.tell(&name, &report, witness_file.as_deref(), &context).await;
        Ok(report)
    })
}

fn plan(config: &ReaderConfig, args: &WatchArgs) -> WatchPlan {
    let watch = &config.watch;
    let labels = watch.databases.iter().map(|database| (database.name.clone(), database.age_max));
    WatchPlan {
        labels: labels.collect(),
        age_max: watch.age_max,
        bytes_per_day_max: watch.bytes_per_day_max,
        prove_age_max: watch.prove_age_max,
        all_locks: args.all_locks,
    }
}

fn said(error: &dyn Error) -> String {
    FailureReport::new(error, ErrorKind::Unavailable).message
}

/// Who is told.
struct Notifiers {
    ping: Option<Notifier>,
    webhook: Option<Notifier>,
}

impl Notifiers {
    fn load(session: &Session<'_>, config: &ReaderConfig) -> Result<Self, Failure> {
        let watch = &config.watch;
        let failed = |option| move |source| Failure::Notifier { option, source };
        let ping = watch.ping_url(session.environment)?;
        let ping = ping.map(|url| Notifier::new(&url)).transpose();
        let webhook = watch.webhook_url(session.environment)?;
        let webhook = webhook.map(|url| Notifier::new(&url)).transpose();
        Ok(Self {
            ping: ping.map_err(failed("ping_url_file"))?,
            webhook: webhook.map_err(failed("webhook_url_file"))?,
        })
    }

    /// What does not arrive is a warning: the look was made, and whoever waits for a ping notices by himself.
    async fn tell(
        &self,
        name: &str,
        report: &WatchReport,
        witness_file: Option<&Path>,
        context: &Context,
    ) {
        if let Some(webhook) = &self.webhook {
            let message = Message::new(name, report);
            if let Err(error) = told::tell_once(webhook, &message, witness_file).await {
                context.warn(format!("the webhook was not told: {}", said(&error)));
            }
        }
        if let (Some(ping), Status::Ok) = (&self.ping, report.status)
            && let Err(error) = ping.ping().await
        {
            context.warn(format!("the ping did not arrive: {}", said(&error)));
        }
    }
}
