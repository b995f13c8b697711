//! `stonekeepd prove`.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    sync::Arc,
};

use serde::Serialize;
use stonekeep_config::{DaemonConfig, Environment, RepositoryConfig};
use stonekeep_engine::{
    Context,
    context::SystemClock,
    prove::{ProveError, ProvePlan, ProveReport, authority, put_record},
    repository::{Repository, RepositoryError},
};
use stonekeep_format::{ErrorKind, genesis::LockBy, lock};
use stonekeep_process::{failure::FailureReport, options, output, probes};
use stonekeep_store::{ProbeStore, S3Probe, StoreError};
use tokio_util::sync::CancellationToken;

use crate::{
    failure::Failure,
    log::{Reader, Voice},
    metrics::ProveMetrics,
    notify::{FINISH_DURATION_MAX, Notices},
    plan::Shared,
};

/// What the command line asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) lasting: bool,
    pub(crate) voice: Voice,
    pub(crate) json: bool,
}

#[derive(Debug, Serialize)]
struct Document {
    repositories: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Proved { repository: String, prove: ProveReport },
    Failed { repository: String, error: FailureReport },
}

/// Attacks every repository, and says of each what came of it.
pub(crate) async fn run(
    config: &DaemonConfig,
    environment: &Environment,
    options: Options,
    cancel: CancellationToken,
) -> Result<ExitCode, Failure> {
    let shared = Shared::read(config, environment)?;
    let notices = Notices::load(config, environment, options.voice)?;
    let metrics = ProveMetrics::new();
    let mut codes = BTreeSet::new();
    let mut document = Document { repositories: Vec::new() };
    for of in config.repositories() {
        let repository = of.name.clone();
        let context = Context {
            clock: Arc::new(SystemClock),
            listener: Reader::of_repository(&repository, options.voice),
            cancel: cancel.clone(),
        };
        document.repositories.push(match one(&shared, of, options.lasting, &context).await {
            Ok(prove) => {
                codes.insert(prove.kind().map_or(0, ErrorKind::exit_code));
                metrics.record(&repository, &prove);
                if prove.kind() == Some(ErrorKind::Corrupt) {
                    notices.attacked(&repository, &prove.probes);
                }
                if !options.json {
                    tell(&repository, &prove)?;
                }
                Outcome::Proved { repository, prove }
            }
            Err(failure) => {
                failure.print(options.voice);
                codes.insert(failure.kind().exit_code());
                Outcome::Failed { repository, error: failure.to_report() }
            }
        });
    }
    if let Some(path) = &config.metrics_file {
        metrics.write_beside(path).unwrap_or_else(|failure| failure.print(options.voice));
    }
    notices.finish(FINISH_DURATION_MAX).await;
    if options.json {
        output::document(&document).map_err(Failure::Output)?;
    }
    // An attack that succeeded is not to be tried again later, whatever became of another repository.
    let corrupt = ErrorKind::Corrupt.exit_code();
    let worst = if codes.contains(&corrupt) { Some(corrupt) } else { codes.pop_last() };
    Ok(ExitCode::from(worst.unwrap_or(0)))
}

async fn one(
    shared: &Shared<'_>,
    of: &RepositoryConfig,
    lasting: bool,
    context: &Context,
) -> Result<ProveReport, Failure> {
    let known = known(shared, of, context).await?;
    let genesis = known.as_ref().map(|known| &known.genesis);
    let keeps = shared.config.tiers().into_iter().map(|tier| tier.keep);
    let plan = ProvePlan {
        stores: stores(shared, of).await?,
        lock_mode: genesis.map_or(of.lock_mode, |genesis| genesis.lock.mode),
        lock_by: of.lock_by,
        cap: genesis
            .map_or_else(|| lock::cap(keeps.max().unwrap_or_default()), |genesis| genesis.lock.cap),
        calibration: genesis.map_or_else(BTreeMap::new, |genesis| genesis.calibration.clone()),
        expected: genesis.map_or_else(BTreeMap::new, |genesis| genesis.expected.clone()),
        lasting,
    };
    let failed = |source| Failure::Prove { repository: of.name.clone(), source: Box::new(source) };
    let mut report = authority(&plan, context).await.map_err(failed)?;
    if let Some(genesis) = genesis {
        let put = put_record(&mut report, &plan, genesis.repository, &shared.signer).await;
        // What was found counts, recorded or not.
        if let Err(error) = put {
            let message = FailureReport::new(&error, error.kind()).message;
            context.warn(format!("this run is not recorded: {message}"));
        }
    }
    Ok(report)
}

/// Opens the repository; of a bucket that holds none yet, the server can be tried all the same.
async fn known(
    shared: &Shared<'_>,
    of: &RepositoryConfig,
    context: &Context,
) -> Result<Option<Repository>, Failure> {
    let repository = of.name.clone();
    let (stores, genesis) = shared.open(of).await?.into_read();
    let known = match genesis {
        Some(copy) => Repository::pinned(&copy, stores, &shared.owner),
        None => tokio::select! {
            opened = Repository::open(stores, &shared.owner, context) => opened,
            () = context.cancel.cancelled() => {
                let source = Box::new(ProveError::Cancelled);
                return Err(Failure::Prove { repository, source });
            }
        },
    };
    match known {
        Ok(known) => Ok(Some(known)),
        Err(RepositoryError::NoGenesis { .. }) => {
            context.warn("there is no repository in this bucket yet: nothing is recorded");
            Ok(None)
        }
        Err(RepositoryError::Store { source: StoreError::Denied { .. }, .. }) => {
            context.warn("this credential may not read the genesis, and there is no genesis_file: nothing is recorded");
            Ok(None)
        }
        Err(source) => Err(Failure::Repository { repository, source: Box::new(source) }),
    }
}

/// Where the writer writes: the bucket, or those of the tiers if buckets name the locks.
async fn stores(
    shared: &Shared<'_>,
    of: &RepositoryConfig,
) -> Result<Vec<Arc<dyn ProbeStore>>, Failure> {
    let access = of.access(None, shared.environment)?;
    let all: Vec<_> = match of.lock_by {
        LockBy::PerObject => vec![options::s3(of, &access)],
        LockBy::BucketDefault => {
            options::s3_of_tiers(of, &access).map(|(_, options)| options).collect()
        }
    };
    let mut stores: Vec<Arc<dyn ProbeStore>> = Vec::new();
    for options in all {
        if stores.iter().any(|store| *store.store().bucket() == options.bucket) {
            continue;
        }
        let opened = S3Probe::open(options, Arc::new(SystemClock)).await;
        let store = opened
            .map_err(|source| Failure::Store { name: of.name.clone(), source: Box::new(source) })?;
        stores.push(Arc::new(store));
    }
    Ok(stores)
}

fn tell(repository: &str, report: &ProveReport) -> Result<(), Failure> {
    let mut lines = probes::lines(&report.probes);
    lines.push(match report.kind() {
        None => format!("{repository}: the writer's credential can add and nothing else."),
        Some(ErrorKind::Corrupt) => {
            format!(
                "{repository}: AN ATTACK SUCCEEDED, or would have: see FAIL above, and mend it now."
            )
        }
        Some(_) => format!("{repository}: it could not be told; see INCONCLUSIVE above."),
    });
    if let Some(key) = &report.record {
        lines.push(format!("{repository}: recorded in {key}"));
    }
    lines.iter().try_for_each(|line| output::line(line)).map_err(Failure::Output)
}
