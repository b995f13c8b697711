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
use stonekeep_config::ReaderConfig;
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

/// A drill, and where its report is.
#[derive(Debug, Serialize)]
pub(crate) struct Drilled {
    #[serde(flatten)]
    pub(crate) report: DrillReport,
    /// The files that were written.
    pub(crate) files: Vec<PathBuf>,
    /// The key of its record in the bucket.
    pub(crate) recorded: Option<ObjectKey>,
}

#[derive(Debug, Serialize)]
struct Document {
    drills: Vec<Outcome>,
}

/// Exits with 65 if a drill failed, and otherwise with the code of the first that could not be made.
pub(crate) fn run(session: &Session<'_>, args: &DrillArgs) -> Result<ExitCode, Failure> {
    let config = session.load()?;
    let selector: Option<Selector> = args.snapshot.as_deref().map(str::parse).transpose()?;
    let call = Call {
        session,
        args,
        identities: identity::listed(args.identities.or(&config), session.environment)?,
        scene: scene(session, args, &config)?,
        report_key: report_key(session, args, &config)?,
        reporters: session.reporters(&config)?,
        config: &config,
    };
    let name = call.repository_name()?;
    let tellers = Tellers::load(session, &config, &name)?;
    let outcomes = session.block_on(async |context, progress| {
        let person = Terminal { progress, cancel: context.cancel.clone() };
        let drilled = call.all(selector.as_ref(), &person, &context).await;
        tellers.tell(&name, &drilled, &context).await;
        drilled
    })?;
    let document = Document { drills: outcomes };
    output::result(session.json, &document, || lines(&document)).map_err(Failure::Output)?;
    Ok(exit_code(&document.drills))
}

fn lines(document: &Document) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in &document.drills {
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
            }
            Outcome::Failed { label, error } => {
                lines.push(format!("NOT DRILLED: {label}: {}", error.message));
            }
        }
    }
    lines
}

/// A drill that failed is not to be made again later, whatever became of another.
fn exit_code(outcomes: &[Outcome]) -> ExitCode {
    let is_failed = |outcome: &Outcome| matches!(outcome, Outcome::Drilled(drilled) if drilled.report.verdict == DrillVerdict::Fail);
    let unmade = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Failed { error, .. } => Some(error.exit_code),
        Outcome::Drilled(_) => None,
    });
    if outcomes.iter().any(is_failed) {
        return ExitCode::from(ErrorKind::Corrupt.exit_code());
    }
    unmade.map_or(ExitCode::SUCCESS, ExitCode::from)
}

fn scene(session: &Session<'_>, args: &DrillArgs, config: &ReaderConfig) -> Result<Scene, Failure> {
    if let Some(url) = &args.server {
        return Ok(Scene::Server(Box::new(target::parse(url, session.environment)?)));
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
