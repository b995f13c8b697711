//! Verifies, restores and rehearses what stonekeepd stored.

mod cli;
mod confirm;
mod drill;
mod extend;
mod failure;
mod fetch;
mod identity;
mod init;
mod kit;
mod list;
mod log;
mod notifiers;
mod open;
mod owner;
mod policy;
mod progress;
mod prove;
mod report;
mod restore;
mod rotate;
mod show;
mod staged;
mod target;
mod verify;
mod verify_report;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use stonekeep_config::Environment;

use crate::{
    cli::{Cli, Command},
    failure::Failure,
    open::Session,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return stonekeep_process::failure::usage(&error),
    };
    run(&cli).unwrap_or_else(|failure| failure.end(cli.json))
}

fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let environment = Environment::of_process();
    log::start(cli.json, environment.log_filter.as_deref())?;
    let session = Session {
        config: cli.config.as_deref(),
        repository: cli.repository.as_deref(),
        json: cli.json,
        bare: &cli.bare,
        environment: &environment,
    };
    match &cli.command {
        Command::Init(args) => init::run(&session, args),
        Command::Policy(args) => policy::run(&session, args),
        Command::List => list::run(&session),
        Command::Show { snapshot } => show::run(&session, snapshot),
        Command::Verify { snapshot, read_data } => verify::run(&session, snapshot, *read_data),
        Command::Restore(args) => restore::run(&session, args),
        Command::Fetch(args) => fetch::run(&session, args),
        Command::Drill(args) => drill::run(&session, args),
        Command::VerifyReport(args) => verify_report::run(&session, args),
        Command::RecoveryKit(args) => kit::run(&session, args),
        Command::Watch(args) => watch::run(&session, args),
        Command::Extend(args) => extend::run(&session, args),
        Command::Prove(args) => prove::run(&session, args),
        Command::Rotate(args) => rotate::run(&session, args),
    }
}
