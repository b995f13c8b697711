//! `stonekeep prove --lock`.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc, time::Duration};

use stonekeep_config::{Access, RepositoryConfig, reader::Whereabouts};
use stonekeep_engine::{
    prove::{ProvePlan, ProveReport, lock, put_lock_proof},
    repository::{Repository, RepositoryError},
};
use stonekeep_format::genesis::LockBy;
use stonekeep_process::{options, output, probes};
use stonekeep_store::{ProbeStore, S3Options};

use crate::{
    cli::ProveArgs,
    failure::Failure,
    open::{Session, open_probe},
};

/// Exits with 65 if a lock did not hold, and with 75 if that could not be told.
pub(crate) fn run(session: &Session<'_>, args: &ProveArgs) -> Result<ExitCode, Failure> {
    let config = session.load()?;
    let Whereabouts::Bucket(repository) = config.repository(session.repository)? else {
        return Err(Failure::NoBucket);
    };
    let report_key = args.report_key.as_deref().map(|path| session.report_key(path)).transpose()?;
    let access = repository.access(args.credentials_file.as_deref(), session.environment)?;
    let report = session.block_on(async |context, _| {
        // A bucket can be tried before there is a repository in it.
        let credentials = args.credentials_file.as_deref();
        let known = match session.open_as(&config, credentials, &context).await {
            Ok(known) => Some(known),
            Err(Failure::Repository(error))
                if matches!(*error, RepositoryError::NoGenesis { .. }) =>
            {
                None
            }
            // Nor need anybody be believed for that.
            Err(Failure::NoOwner) => None,
            Err(failure) => return Err(failure),
        };
        let plan = plan(repository, known.as_ref(), &access).await?;
        let failed = |source| Failure::Prove(Box::new(source));
        let mut report = lock(&plan, &context).await.map_err(failed)?;
        if let (Some(key), Some(known)) = (&report_key, &known) {
            let id = known.genesis.repository;
            put_lock_proof(&mut report, &plan, id, key).await.map_err(failed)?;
        }
        Ok(report)
    })?;
    output::result(session.json, &report, || lines(&report)).map_err(Failure::Output)?;
    Ok(report.kind().map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind.exit_code())))
}

async fn plan(
    repository: &RepositoryConfig,
    known: Option<&Repository>,
    access: &Access,
) -> Result<ProvePlan, Failure> {
    // What the lock is worth is asked with locks that are named, whoever names a backup's.
    let named = |options: S3Options| S3Options { lock_by: LockBy::PerObject, ..options };
    let mut all = vec![named(options::s3(repository, access))];
    all.extend(options::s3_of_tiers(repository, access).map(|(_, options)| named(options)));
    // With a bucket of the command line, it is the genesis that names those of tiers.
    let opened = known.into_iter().flat_map(|known| known.stores.all());
    all.extend(opened.map(|store| {
        let bucket = store.bucket().clone();
        named(S3Options { bucket, ..options::s3(repository, access) })
    }));
    let mut stores: Vec<Arc<dyn ProbeStore>> = Vec::new();
    for options in all {
        if stores.iter().all(|store| *store.store().bucket() != options.bucket) {
            stores.push(open_probe(repository, options).await?);
        }
    }
    Ok(ProvePlan {
        stores,
        lock_mode: known.map_or(repository.lock_mode, |known| known.genesis.lock.mode),
        lock_by: LockBy::PerObject,
        cap: known.map_or(Duration::from_secs(32 * 86_400), |known| known.genesis.lock.cap),
        calibration: BTreeMap::new(),
        expected: known.map_or_else(BTreeMap::new, |known| known.genesis.expected.clone()),
        lasting: false,
    })
}

fn lines(report: &ProveReport) -> Vec<String> {
    let mut lines = probes::lines(&report.probes);
    lines.push(String::new());
    lines.push(match report.kind() {
        None => "Locks hold: whoever may delete is refused as long as they last.".to_owned(),
        Some(stonekeep_format::ErrorKind::Corrupt) => {
            "LOCKS DO NOT HOLD HERE: no backup is safe in this bucket.".to_owned()
        }
        Some(_) => "It could not be told whether locks hold; see above.".to_owned(),
    });
    match &report.record {
        Some(key) => lines.push(format!("Recorded: {key}")),
        None => lines.push("Not recorded: that takes a repository and --report-key.".to_owned()),
    }
    lines
}
