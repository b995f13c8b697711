//! `stonekeep init`: makes a repository, once.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use secrecy::ExposeSecret;
use serde::Serialize;
use stonekeep_config::{Access, DaemonConfig, Environment, ReaderConfig, RepositoryConfig, file};
use stonekeep_engine::{
    context::SystemClock,
    init::{Buckets, InitPlan, InitReport, init},
};
use stonekeep_format::{
    Clock as _,
    genesis::LockBy,
    signature::{Signer, Trust},
};
use stonekeep_process::{options, output};
use stonekeep_store::{ProvisionStore, S3Options};

use crate::{
    cli::InitArgs,
    failure::Failure,
    open::{Session, open_probe, open_store},
    owner::{Owner, public_line, public_path},
    policy::policies,
    report,
    staged::Staged,
};

/// What was done and what is left to do.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    #[serde(flatten)]
    pub(crate) repository: InitReport,
    /// The files for readers.
    pub(crate) files: Vec<PathBuf>,
    /// Sentences for the person.
    pub(crate) next: Vec<String>,
}

pub(crate) fn run(session: &Session<'_>, args: &InitArgs) -> Result<ExitCode, Failure> {
    let daemon = DaemonConfig::load(&args.daemon_config)?;
    let owner = Owner::load(&args.owner_key, session.environment)?;
    let repository = daemon.repository(session.repository)?;
    let plan = plan((&daemon, repository), &owner, args.policy.as_deref(), session.environment)?;
    let files = Files::prepare(&daemon, &owner, beside(args.out.as_deref(), &args.daemon_config))?;
    let access = repository.access_of(args.credentials_file.as_deref(), session.environment)?;
    let made = session.block_on(async |context, _| {
        let buckets = open_buckets(repository, &access).await?;
        let sign = |namespace, message: &[u8]| owner.sign(namespace, message);
        let made = init(&plan, &buckets, &sign, &context).await;
        made.map_err(|source| Failure::Init(Box::new(source)))
    })?;
    let mut files = files.write()?;
    // Beside the others, which stand where links have led.
    let directory = files.first().and_then(|path| path.parent()).unwrap_or(Path::new("."));
    let copy = directory.join(format!("{}.genesis", repository.name));
    files.push(Staged::prepare(copy, &made.genesis)?.write()?);
    let next = files.first().map(|allowed_signers| next(&daemon, allowed_signers));
    let document = Document { repository: made, files, next: next.unwrap_or_default() };
    output::result(session.json, &document, || report::init(&document)).map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn open_buckets(
    repository: &RepositoryConfig,
    access: &Access,
) -> Result<Buckets, Failure> {
    let whole = options::s3(repository, access);
    // The genesis is locked as the owner names it, whatever the bucket's default.
    let main = S3Options { lock_by: LockBy::PerObject, ..whole };
    let probe = open_probe(repository, main.clone()).await?;
    let main: Arc<dyn ProvisionStore> = Arc::new(open_store(repository, main).await?);
    let mut buckets = Buckets { main, of_tiers: BTreeMap::new(), probes: vec![probe] };
    for (name, options) in options::s3_of_tiers(repository, access) {
        buckets.of_tiers.insert(name, Arc::new(open_store(repository, options).await?));
    }
    Ok(buckets)
}

fn plan(
    (daemon, repository): (&DaemonConfig, &RepositoryConfig),
    owner: &Owner,
    policy: Option<&Path>,
    environment: &Environment,
) -> Result<InitPlan, Failure> {
    let trust = Trust::from_allowed_signers(&owner.allowed_signers());
    Ok(InitPlan {
        signer_public_lines: vec![signer_line(daemon, environment)?],
        recipients: daemon.recipients().to_vec(),
        tiers: daemon.tiers(),
        policies: policy.map(|path| policies(path, repository)).transpose()?.unwrap_or_default(),
        lock_mode: repository.lock_mode,
        owner: trust.map_err(|error| owner.refused(error.to_string()))?,
    })
}

/// The public key beside the signer first: `init` may well run where the private key is not and never should be.
pub(crate) fn signer_line(
    daemon: &DaemonConfig,
    environment: &Environment,
) -> Result<String, Failure> {
    let path = public_path(&daemon.signer_file);
    if let Some(line) = file::read_text(&path, environment).ok().as_deref().and_then(public_line) {
        return Ok(line);
    }
    let failed = |source| Failure::SignerKey { path: path.clone(), source };
    let secret = daemon.signer(environment).map_err(|error| failed(Box::new(error)))?;
    let signer =
        Signer::from_openssh(secret.expose_secret()).map_err(|error| failed(Box::new(error)))?;
    signer.public_line().map_err(|error| failed(Box::new(error)))
}

/// Returns the directory `out`, or else the one of the daemon's configuration.
pub(crate) fn beside<'a>(out: Option<&'a Path>, daemon_config: &'a Path) -> &'a Path {
    let beside = daemon_config.parent().filter(|parent| !parent.as_os_str().is_empty());
    out.or(beside).unwrap_or(Path::new("."))
}

/// The two files for readers. What can go wrong with them is found out before anything happens in the bucket.
#[derive(Debug)]
struct Files(Vec<Staged>);

impl Files {
    fn prepare(daemon: &DaemonConfig, owner: &Owner, out: &Path) -> Result<Self, Failure> {
        let out =
            out.canonicalize().map_err(|source| Failure::Write { path: out.to_owned(), source })?;
        let allowed_signers = out.join("allowed_signers");
        let today = SystemClock.now().date_naive();
        let reader = ReaderConfig::render(
            &allowed_signers,
            daemon.repositories(),
            daemon.databases(),
            today,
        );
        Ok(Self(vec![
            Staged::prepare(allowed_signers, owner.allowed_signers())?,
            Staged::prepare(out.join("stonekeep.toml"), &reader)?,
        ]))
    }

    /// Gives the files their names.
    fn write(self) -> Result<Vec<PathBuf>, Failure> {
        self.0.into_iter().map(Staged::write).collect()
    }
}

/// What `init` cannot do for the person.
fn next(daemon: &DaemonConfig, allowed_signers: &Path) -> Vec<String> {
    let pinned = &daemon.allowed_signers_file;
    let mut next = Vec::new();
    if !same_file(pinned, allowed_signers) {
        next.push(format!(
            "On the daemon's host, put {} to {}: it pins your key.",
            allowed_signers.display(),
            pinned.display()
        ));
    }
    next.push(
        "Keep the owner's private key off the daemon's host: whoever has it can name new signers."
            .to_owned(),
    );
    next.push(
        "Keep the two age identities apart from each other and off the daemon's host.".to_owned(),
    );
    next.push("Run `stonekeep prove --lock`: it shows that the bucket keeps its locks.".to_owned());
    next.push(
        "On the daemon's host, run `stonekeepd check`, `stonekeepd prove`, then `stonekeepd backup`."
            .to_owned(),
    );
    next.push("On a third host, run `stonekeep watch` regularly.".to_owned());
    next
}

fn same_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().is_some_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}
