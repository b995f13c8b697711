//! `stonekeep fetch`.

use std::process::ExitCode;

use stonekeep_engine::{
    fetch::{fetch, fetch_sealed},
    history::{Selector, find},
};
use stonekeep_process::output;

use crate::{cli::FetchArgs, failure::Failure, identity, open::Session, report};

pub(crate) fn run(session: &Session<'_>, args: &FetchArgs) -> Result<ExitCode, Failure> {
    let selector: Selector = args.snapshot.parse()?;
    let config = session.load()?;
    let identities = match args.sealed {
        true => None,
        false => Some(identity::load(args.identities.or(&config), session.environment)?),
    };
    let report = session.block_on(async |context, _| {
        let repository = session.open(&config, &context).await?;
        let snapshot = find(&repository, &selector, &context).await?;
        let report = match identities {
            None => fetch_sealed(&repository, &snapshot, &args.out, &context).await,
            Some(identities) => {
                fetch(&repository, &snapshot, identities, &args.out, &context).await
            }
        };
        report.map_err(|source| Failure::Fetch(Box::new(source)))
    })?;
    output::result(session.json, &report, || report::fetch(&report, args.sealed))
        .map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}
