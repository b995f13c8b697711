//! `stonekeep list`.

use std::process::ExitCode;

use stonekeep_engine::list::list;
use stonekeep_process::output;

use crate::{failure::Failure, open::Session, report};

/// What is missing or planted is shown and no failure: the list is what was asked for. Judging it is a watcher's work.
pub(crate) fn run(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let config = session.load()?;
    let report = session.block_on(async |context, _| {
        let repository = session.open(&config, &context).await?;
        let report = list(&repository, &context).await;
        report.map_err(|source| Failure::List(Box::new(source)))
    })?;
    output::result(session.json, &report, || report::list(&report)).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}
