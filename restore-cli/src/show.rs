//! `stonekeep show`.

use std::process::ExitCode;

use stonekeep_engine::{history::Selector, list::show};
use stonekeep_process::output;

use crate::{failure::Failure, open::Session, report};

pub(crate) fn run(session: &Session<'_>, snapshot: &str) -> Result<ExitCode, Failure> {
    let selector: Selector = snapshot.parse()?;
    let config = session.load()?;
    let report = session.block_on(async |context, _| {
        let repository = session.open(&config, &context).await?;
        let report = show(&repository, &selector, &context).await;
        report.map_err(|source| Failure::List(Box::new(source)))
    })?;
    output::result(session.json, &report, || report::show(&report)).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}
