//! Takes snapshots of PostgreSQL into a bucket under Object Lock.

mod backup;
mod board;
mod check;
mod cli;
mod failure;
mod log;
mod metrics;
mod notify;
mod outcome;
mod plan;
mod prove;
mod service;
mod status;
mod systemd;

use std::process::ExitCode;

use clap::Parser;
use stonekeep_config::{DaemonConfig, Environment};
use stonekeep_process::signals;

use crate::{
    cli::{Cli, Command},
    failure::Failure,
    log::Voice,
    plan::Once,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return stonekeep_process::failure::usage(&error),
    };
    let environment = Environment::of_process();
    let voice = Voice::choose(cli.json, &environment);
    run(&cli, &environment, voice).unwrap_or_else(|failure| failure.end(voice, cli.json))
}

fn run(cli: &Cli, environment: &Environment, voice: Voice) -> Result<ExitCode, Failure> {
    log::start(voice, environment)?;
    let named = cli.config.as_deref();
    let config = DaemonConfig::find(named, environment)?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::Runtime)?;
    let outcome = runtime.block_on(async {
        let cancel = signals::listen().map_err(Failure::Runtime)?;
        match &cli.command {
            Command::Run => service::run(named, config, environment, voice, cancel).await,
            Command::Backup { labels, fresh, accept_shrink } => {
                let once = Once { fresh: *fresh, accept_shrink: *accept_shrink, ..Once::default() };
                let options = backup::Options { labels, once, voice, json: cli.json };
                backup::run(&config, environment, options, cancel).await
            }
            Command::Check { notify } => {
                let options = check::Options { notify: *notify, voice, json: cli.json };
                check::run(&config, environment, options, cancel).await
            }
            Command::Prove { lasting } => {
                let options = prove::Options { lasting: *lasting, voice, json: cli.json };
                prove::run(&config, environment, options, cancel).await
            }
        }
    });
    // What still runs, runs for nobody: a blocking task must not hold up the end.
    runtime.shutdown_background();
    outcome
}
