//! `stonekeep drill`: of each database one drill after the other, and what came of them told in every way that was asked for.
//!
//! A database whose drill fails, or cannot be made, keeps no other from its own.

mod call;
mod figures;
#[cfg(test)]
mod fixture;
mod page;
pub(crate) mod sentences;
pub(crate) mod signed;
mod terminal;
mod told;

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;
use stonekeep_config::{ReaderConfig, reader::Whereabouts};
use stonekeep_engine::{drill::Scene, history::Selector};
use stonekeep_format::{
    ErrorKind,
    drill::{DrillReport, DrillVerdict},
    ids::Label,
    key::ObjectKey,
    signature::Signer,
};
use stonekeep_process::{failure::FailureReport, output};

use self::{call::Call, told::Tellers};
use crate::{cli::DrillArgs, confirm::Terminal, failure::Failure, identity, open::Session, target};

/// What became of the drill of one database.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Outcome {
    /// There was one.
    Drilled(Box<Drilled>),
    /// There was none.
    Failed {
        /// The database's label.
        label: Label,
        /// Why.
        error: FailureReport,
    },
}

impl Outcome {
    /// Whether there was a drill, and it failed.
    pub(crate) fn is_failed_drill(&self) -> bool {
        matches!(self, Self::Drilled(drilled) if drilled.report.verdict == DrillVerdict::Fail)
    }
}

/// A drill, and where its report is.
#[derive(Debug, Serialize)]
pub(crate) struct Drilled {
    #[serde(flatten)]
    pub(crate) report: DrillReport,
    /// The files that were written.
    pub(crate) files: Vec<PathBuf>,
    /// The key of its record in the bucket.
    pub(crate) recorded: Option<ObjectKey>,
    /// Why its report or its record was not kept where it was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unkept: Option<FailureReport>,
}

/// What became of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Drills {
    #[serde(rename = "drills")]
    pub(crate) outcomes: Vec<Outcome>,
    /// Why there are no more of them: somebody asked to stop.
    #[serde(rename = "error", skip_serializing_if = "Option::is_none")]
    pub(crate) stopped: Option<FailureReport>,
}

/// Exits with 65 if a drill failed, and otherwise with the code of what stopped the run, or of the first drill that could not be made
/// or kept.
pub(crate) fn run(session: &Session<'_>, args: &DrillArgs) -> Result<ExitCode, Failure> {
    let config = session.load()?;
    let selector: Option<Selector> = args.snapshot.as_deref().map(str::parse).transpose()?;
    let name = repository_name(session, &config)?;
    // Before all that a drill needs: that something of it is missing is to be told, too.
    let tellers = Tellers::load(session, &config, &name)?;
    let call = call(session, args, &config);
    let drills = session.block_on(async |context, progress| {
        let person = Terminal { progress, cancel: context.cancel.clone() };
        let drilled = match call {
            Ok(call) => call.all(selector.as_ref(), &person, &context).await,
            Err(failure) => Err(failure),
        };
        tellers.tell(&name, &drilled, &context).await;
        drilled
    })?;
    output::result(session.json, &drills, || lines(&drills)).map_err(Failure::Output)?;
    Ok(exit_code(&drills))
}

fn call<'c>(
    session: &'c Session<'c>,
    args: &'c DrillArgs,
    config: &'c ReaderConfig,
) -> Result<Call<'c>, Failure> {
    Ok(Call {
        session,
        args,
        identities: identity::listed(args.identities.or(config), session.environment)?,
        scene: scene(session, args, config)?,
        report_key: report_key(session, args, config)?,
        reporters: session.reporters(config)?,
        config,
    })
}

/// The repository as figures and messages name it.
fn repository_name(session: &Session<'_>, config: &ReaderConfig) -> Result<String, Failure> {
    Ok(match config.repository(session.repository)? {
        Whereabouts::Bucket(repository) => repository.name.clone(),
        Whereabouts::Directory(directory) => directory.display().to_string(),
    })
}

fn lines(drills: &Drills) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in &drills.outcomes {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        match outcome {
            Outcome::Drilled(drilled) => {
                lines.extend(terminal::lines(&drilled.report));
                lines.extend(
                    drilled.files.iter().map(|path| format!("Written: {}", path.display())),
                );
                lines.extend(drilled.recorded.iter().map(|key| format!("Recorded: {key}")));
                let unkept = drilled.unkept.iter();
                lines.extend(unkept.map(|error| format!("NOT KEPT: {}", error.message)));
            }
            Outcome::Failed { label, error } => {
                lines.push(format!("NOT DRILLED: {label}: {}", error.message));
            }
        }
    }
    // Once more, since all this does not fit on a screen.
    lines.push(String::new());
    lines.extend(drills.outcomes.iter().map(|outcome| match outcome {
        Outcome::Drilled(drilled) => terminal::standing(&drilled.report),
        Outcome::Failed { label, .. } => format!("NOT DRILLED: {label}"),
    }));
    lines.extend(drills.stopped.iter().map(|error| format!("STOPPED: {}", error.message)));
    lines
}

/// A drill that failed is not to be made again later, whatever became of another.
fn exit_code(drills: &Drills) -> ExitCode {
    if drills.outcomes.iter().any(Outcome::is_failed_drill) {
        return ExitCode::from(ErrorKind::Corrupt.exit_code());
    }
    let first = drills.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Failed { error, .. } => Some(error),
        Outcome::Drilled(drilled) => drilled.unkept.as_ref(),
    });
    let error = drills.stopped.as_ref().or(first);
    error.map_or(ExitCode::SUCCESS, |error| ExitCode::from(error.exit_code))
}

fn scene(session: &Session<'_>, args: &DrillArgs, config: &ReaderConfig) -> Result<Scene, Failure> {
    if let Some(url) = &args.server {
        return Ok(Scene::Server(Box::new(target::parse(url, "--server", session.environment)?)));
    }
    let dir = args.scratch_dir.clone().or_else(|| config.drill.scratch_dir.clone());
    Ok(Scene::Scratch {
        dir: dir.unwrap_or_else(|| session.environment.temp_dir()),
        settings: config.drill.settings.clone(),
    })
}

fn report_key(
    session: &Session<'_>,
    args: &DrillArgs,
    config: &ReaderConfig,
) -> Result<Option<Signer>, Failure> {
    let path = args.report_key.as_ref().or(config.drill.report_key_file.as_ref());
    path.map(|path| session.report_key(path)).transpose()
}

#[cfg(test)]
mod tests {
    use super::{fixture::*, *};

    fn code(outcomes: Vec<Outcome>, stopped: Option<FailureReport>) -> String {
        // An ExitCode cannot be compared but by what it prints.
        format!("{:?}", exit_code(&Drills { outcomes, stopped }))
    }

    #[test]
    fn a_failed_drill_outweighs_all_and_a_stop_what_could_not_be_made() {
        let of = |code: u8| format!("{:?}", ExitCode::from(code));
        let failing = || drilled(|report| report.verdict = DrillVerdict::Fail);
        let denied = || FailureReport { kind: "denied", exit_code: 77, ..unavailable("no") };
        let unkept = |outcome| match outcome {
            Outcome::Drilled(mut drilled) => {
                drilled.unkept = Some(denied());
                Outcome::Drilled(drilled)
            }
            other => other,
        };
        assert_eq!(code(vec![drilled(|_| {})], None), of(0));
        assert_eq!(code(vec![unkept(drilled(|_| {}))], None), of(77));
        assert_eq!(code(vec![unkept(drilled(|_| {}))], Some(unavailable("stopped"))), of(75));
        assert_eq!(code(vec![unmade("no"), unkept(failing())], None), of(65));
        assert_eq!(code(vec![failing()], Some(unavailable("stopped"))), of(65));
    }

    #[test]
    fn what_was_drilled_before_a_stop_is_told() {
        let outcomes = vec![drilled(|_| {})];
        let drills = Drills { outcomes, stopped: Some(unavailable("stopped on request")) };
        let lines = lines(&drills);
        assert_eq!(lines[0], "PASS: bookings can be recovered");
        assert_eq!(lines.last().map(String::as_str), Some("STOPPED: stopped on request"));
        let json = serde_json::to_value(&drills).expect("JSON");
        assert_eq!(json["drills"][0]["verdict"], "pass");
        assert_eq!(json["error"]["exit_code"], 75);
    }
}
