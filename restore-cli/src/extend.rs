//! `stonekeep extend`.

use std::process::ExitCode;

use stonekeep_engine::{
    extend::{ExtendPlan, extend},
    history::Selector,
};
use stonekeep_process::output;

use crate::{cli::ExtendArgs, failure::Failure, open::Session, report};

/// Exits with the code of the worst failure if anything could not be prolonged; what, is the report.
pub(crate) fn run(session: &Session<'_>, args: &ExtendArgs) -> Result<ExitCode, Failure> {
    let snapshots = args.snapshots.iter().map(|text| text.parse::<Selector>());
    let plan = ExtendPlan { snapshots: snapshots.collect::<Result<_, _>>()?, length: args.length };
    let config = session.load()?;
    let report = session.block_on(async |context, _| {
        let credentials = args.credentials_file.as_deref();
        let (repository, buckets) = session.open_to_prolong(&config, credentials, &context).await?;
        let report = extend(&repository, &buckets, &plan, &context).await;
        report.map_err(|source| Failure::Extend(Box::new(source)))
    })?;
    output::result(session.json, &report, || report::extend(&report)).map_err(Failure::Output)?;
    Ok(report.worst.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind.exit_code())))
}
