//! `stonekeep verify`.

use std::process::ExitCode;

use stonekeep_engine::{
    history::{Selector, find},
    verify::verify,
};
use stonekeep_format::ErrorKind;
use stonekeep_process::output;

use crate::{failure::Failure, open::Session, report};

/// Exits with 65 if anything is wrong with the snapshot; what, is the report.
pub(crate) fn run(
    session: &Session<'_>,
    snapshot: &str,
    read_data: bool,
) -> Result<ExitCode, Failure> {
    let selector: Selector = snapshot.parse()?;
    let config = session.load()?;
    let report = session.block_on(async |context, _| {
        let repository = session.open(&config, &context).await?;
        let snapshot = find(&repository, &selector, &context).await?;
        let report = verify(&repository, &snapshot, read_data, &context).await;
        report.map_err(|source| Failure::Verify(Box::new(source)))
    })?;
    output::result(session.json, &report, || report::verify(&report)).map_err(Failure::Output)?;
    let is_sound = report.problems.is_empty();
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(ErrorKind::Corrupt.exit_code()) })
}
