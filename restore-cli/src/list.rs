//! `stonekeep list`.

use std::process::ExitCode;

use stonekeep_engine::{audit::audit, list::ListReport};
use stonekeep_process::output;

use crate::{failure::Failure, open::Session, report};

/// What is missing or planted is shown and no failure: the list is what was asked for. Judging it is a watcher's work.
pub(crate) fn run(session: &Session<'_>) -> Result<ExitCode, Failure> {
    let config = session.load()?;
    let witness = session.witness(&config)?;
    let report = session.block_on(async |context, _| {
        let repository = session.open(&config, &context).await?;
        let audit = audit(&repository, witness.as_ref(), &context).await;
        let audit = audit.map_err(|source| Failure::Audit(Box::new(source)))?;
        Ok(ListReport::of(&repository, audit))
    })?;
    output::result(session.json, &report, || report::list(&report)).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}
