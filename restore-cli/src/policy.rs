//! `stonekeep policy`: what to give the provider, so that each role may what it must and nothing else.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use serde::Serialize;
use stonekeep_config::{DaemonConfig, Environment, RepositoryConfig, file};
use stonekeep_engine::{
    init,
    policy::{
        PolicyBucket, PolicyFile, PolicyPlan, PolicyReport, Role, bucket_policy_file, policy,
    },
};
use stonekeep_format::{genesis::LockBy, ids::BucketName, lock, tier::Tier};
use stonekeep_process::output;

use crate::{cli::PolicyArgs, failure::Failure, open::Session, report, staged::Staged};

/// What was made, and where it was written.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    /// The files and what to know of them.
    #[serde(flatten)]
    pub(crate) report: PolicyReport,
    /// Where they are; empty if they are only printed.
    pub(crate) written: Vec<PathBuf>,
}

pub(crate) fn run(session: &Session<'_>, args: &PolicyArgs) -> Result<ExitCode, Failure> {
    let daemon = DaemonConfig::load(&args.daemon_config)?;
    let repository = daemon.repository(session.repository)?;
    let report = policy(&plan(args, repository, &daemon.tiers()))?;
    let written = args.out.as_deref().map(|out| write(&report.files, out)).transpose()?;
    let document = Document { report, written: written.unwrap_or_default() };
    output::result(session.json, &document, || report::policy(&document))
        .map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

fn plan(args: &PolicyArgs, repository: &RepositoryConfig, tiers: &[Tier]) -> PolicyPlan {
    let keeps = || tiers.iter().map(|tier| tier.keep);
    let given = [&args.writer, &args.watcher, &args.restorer, &args.provisioner];
    let endpoint = repository.endpoint.as_deref();
    PolicyPlan {
        provider: args.provider,
        buckets: buckets(repository, tiers),
        prefix: repository.prefix.clone(),
        region: repository.region.clone(),
        tls: endpoint.is_none_or(|endpoint| endpoint.starts_with("https://")),
        lock_by: repository.lock_by,
        lock_mode: repository.lock_mode,
        floor: keeps().min().unwrap_or_default(),
        cap: lock::cap(keeps().max().unwrap_or_default()),
        principals: Role::ALL.into_iter().zip(given.map(Vec::clone)).collect(),
        write_only: args.write_only,
        record_drills: args.record_drills,
    }
}

/// The bucket of the genesis, then those of the tiers.
fn buckets(repository: &RepositoryConfig, tiers: &[Tier]) -> Vec<PolicyBucket> {
    let of = |name: &BucketName| {
        let keep = longest_keep(name, repository, tiers);
        PolicyBucket {
            name: name.clone(),
            holds_snapshots: repository.lock_by == LockBy::PerObject || keep.is_some(),
            default_days: keep.map(init::default_days),
        }
    };
    names(repository).into_iter().map(of).collect()
}

/// Of the tiers whose snapshots the bucket locks.
fn longest_keep(
    bucket: &BucketName,
    repository: &RepositoryConfig,
    tiers: &[Tier],
) -> Option<Duration> {
    let here = repository.tiers.iter().filter(|tier| tier.bucket == *bucket);
    let keep = |name: &str| tiers.iter().find(|tier| tier.name == name).map(|tier| tier.keep);
    here.filter_map(|tier| keep(&tier.name)).max()
}

fn names(repository: &RepositoryConfig) -> Vec<&BucketName> {
    let mut names = vec![&repository.bucket];
    for tier in &repository.tiers {
        if !names.contains(&&tier.bucket) {
            names.push(&tier.bucket);
        }
    }
    names
}

fn write(files: &[PolicyFile], out: &Path) -> Result<Vec<PathBuf>, Failure> {
    fs::create_dir_all(out).map_err(|source| Failure::Write { path: out.to_owned(), source })?;
    let stage = |file: &PolicyFile| Staged::prepare(out.join(&file.name), &file.text);
    let staged: Vec<Staged> = files.iter().map(stage).collect::<Result<_, _>>()?;
    staged.into_iter().map(Staged::write).collect()
}

/// Reads what `init` is to give each bucket: of a directory the file with the bucket's name, else one file for all.
pub(crate) fn policies(
    path: &Path,
    repository: &RepositoryConfig,
) -> Result<BTreeMap<BucketName, String>, Failure> {
    let of = |bucket: &BucketName| {
        let text = if path.is_dir() {
            read(&path.join(bucket_policy_file(bucket)))?
        } else {
            read(path)?.replace("BUCKET", bucket.as_str())
        };
        Ok((bucket.clone(), text))
    };
    names(repository).into_iter().map(of).collect()
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = file::read_text(path, &Environment::default())?;
    let checked = serde_json::from_str::<serde_json::Value>(&text);
    checked.map_err(|source| Failure::Policy { path: path.to_owned(), source })?;
    Ok(text)
}
