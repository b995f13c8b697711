//! Takes snapshots of PostgreSQL into a bucket under Object Lock.

mod backup;
mod check;
mod cli;
mod failure;
mod log;
mod metrics;
mod plan;
mod prove;

use std::process::ExitCode;

use clap::Parser;
use stonekeep_config::{DaemonConfig, Environment};
use stonekeep_process::signals;

use crate::{
    cli::{Cli, Command},
    failure::Failure,
    plan::Once,
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
    let voice = log::start(cli.json, environment.log_filter.as_deref())?;
    let config = DaemonConfig::find(cli.config.as_deref(), &environment)?;
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::Runtime)?;
    let outcome = runtime.block_on(async {
        let cancel = signals::listen().map_err(Failure::Runtime)?;
        match &cli.command {
            Command::Backup { labels, fresh, accept_shrink } => {
                let once = Once { fresh: *fresh, accept_shrink: *accept_shrink };
                let options = backup::Options { labels, once, voice, json: cli.json };
                backup::run(&config, &environment, options, cancel).await
            }
            Command::Check => check::run(&config, &environment, voice, cancel, cli.json).await,
            Command::Prove { lasting } => {
                let options = prove::Options { lasting: *lasting, voice, json: cli.json };
                prove::run(&config, &environment, options, cancel).await
            }
        }
    });
    // What still runs, runs for nobody: a blocking task must not hold up the end.
    runtime.shutdown_background();
    outcome
}
