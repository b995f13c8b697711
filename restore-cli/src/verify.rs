//! `stonekeep verify`.

use std::process::ExitCode;

use stonekeep_engine::{
    audit::audit_label,
    history::{Selector, find},
    verify::verify,
};
use stonekeep_format::ErrorKind;
use stonekeep_process::output;

use crate::{failure::Failure, open::Session, report};

/// Exits with 65 if anything is wrong with the snapshot, or its chain is broken; what, is the report.
pub(crate) fn run(
    session: &Session<'_>,
    snapshot: &str,
    read_data: bool,
) -> Result<ExitCode, Failure> {
    let selector: Selector = snapshot.parse()?;
    let config = session.load()?;
    let witness = session.witness(&config)?;
    let report = session.block_on(async |context, _| {
        let repository = session.open(&config, &context).await?;
        let snapshot = find(&repository, &selector, &context).await?;
        let label = &snapshot.manifest.label;
        let audit = audit_label(&repository, label, witness.as_ref(), &context).await;
        let audit = audit.map_err(|source| Failure::Audit(Box::new(source)))?;
        let report = verify(&repository, &snapshot, read_data, &context).await;
        let mut report = report.map_err(|source| Failure::Verify(Box::new(source)))?;
        report.judge(&snapshot, &audit);
        Ok(report)
    })?;
    output::result(session.json, &report, || report::verify(&report)).map_err(Failure::Output)?;
    Ok(if report.is_sound() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(ErrorKind::Corrupt.exit_code())
    })
}
