//! `stonekeep rotate`: signs the next genesis.

use std::{fs, path::PathBuf, process::ExitCode};

use serde::Serialize;
use stonekeep_config::DaemonConfig;
use stonekeep_engine::rotate::{RotatePlan, RotateReport, known, rotate};
use stonekeep_process::output;

use crate::{
    cli::RotateArgs,
    failure::Failure,
    init::{beside, open_buckets, signer_line},
    open::Session,
    owner::Owner,
    staged::Staged,
};

/// What was done and what is left to do.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    rotated: RotateReport,
    /// The copy for a writer that may not read the bucket.
    file: PathBuf,
}

pub(crate) fn run(session: &Session<'_>, args: &RotateArgs) -> Result<ExitCode, Failure> {
    let daemon = DaemonConfig::load(&args.daemon_config)?;
    let owner = Owner::load(&args.owner_key, session.environment)?;
    let repository = daemon.repository(session.repository)?;
    let config = session.load()?;
    let trust = session.trust(&config)?;
    let plan = RotatePlan {
        signer_public_lines: vec![signer_line(&daemon, session.environment)?],
        recipients: daemon.recipients().to_vec(),
        tiers: daemon.tiers(),
        withdrawn_from: args.withdrawn_from,
        accept_configuration: args.accept_configuration,
        owner: trust,
    };
    let access = repository.access_of(args.credentials_file.as_deref(), session.environment)?;
    let directory = beside(args.out.as_deref(), &args.daemon_config);
    let unwritable = |source| Failure::Write { path: directory.to_owned(), source };
    let directory = fs::canonicalize(directory).map_err(unwritable)?;
    let (rotated, file) = session.block_on(async |context, _| {
        let failed = |source| Failure::Rotate(Box::new(source));
        let buckets = open_buckets(repository, &access).await?;
        let known = known(&buckets, &plan.owner, &context).await.map_err(failed)?;
        let n = known.genesis.n + 1;
        let copy = directory.join(format!("{}.genesis-{n}", repository.name));
        // Whether it can be written is found out before anything happens in the bucket.
        Staged::prepare(copy.clone(), "")?;
        let sign = |namespace, message: &[u8]| owner.sign(namespace, message);
        let rotated = rotate(&plan, &known, &buckets, &sign, &context).await.map_err(failed)?;
        let file = Staged::prepare(copy, &rotated.genesis)?.write()?;
        Ok((rotated, file))
    })?;
    let document = Document { rotated, file };
    output::result(session.json, &document, || lines(&document)).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(document: &Document) -> Vec<String> {
    let RotateReport { repository, genesis_key, changes, .. } = &document.rotated;
    let mut lines = vec![format!("Repository {repository} has a new root: {genesis_key}.")];
    lines.extend(changes.iter().map(|change| format!("  - {change}")));
    lines.push(format!("Written: {}", document.file.display()));
    lines.push(
        "A daemon with genesis_file needs this file in its place; every other reads it in the bucket."
            .to_owned(),
    );
    lines.push(
        "With another signer or other recipients, the next snapshot of each database is stored anew."
            .to_owned(),
    );
    lines
}
