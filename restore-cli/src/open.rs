//! What every command begins with: configuration, runtime, signals, the bucket, the genesis.

use std::{path::Path, sync::Arc};

use secrecy::ExposeSecret as _;
use stonekeep_config::{
    Access, Environment, ReaderConfig, RepositoryConfig, file, reader::Whereabouts,
};
use stonekeep_engine::{
    Context,
    context::SystemClock,
    events::Listener,
    extend::Prolongable,
    repository::{Repository, tier_buckets},
    stores::Stores,
    witness::Witness,
};
use stonekeep_format::{
    genesis::LockBy,
    signature::{Signer, Trust},
};
use stonekeep_process::{options, signals};
use stonekeep_store::{
    AppendStore, DirectoryStore, ProbeStore, ReadStore, S3Options, S3Probe, S3Store,
};

use crate::{
    cli::BareArgs,
    failure::Failure,
    progress::{self, Progress},
};

/// What the command line and the environment say to all commands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session<'s> {
    pub(crate) config: Option<&'s Path>,
    pub(crate) repository: Option<&'s str>,
    pub(crate) json: bool,
    pub(crate) bare: &'s BareArgs,
    pub(crate) environment: &'s Environment,
}

impl Session<'_> {
    /// Reads the configuration, or makes one of what the command line says.
    pub(crate) fn load(&self) -> Result<ReaderConfig, Failure> {
        let BareArgs { bucket, prefix, region, endpoint, path_style, ca_file, copy, .. } =
            self.bare;
        if let Some(copy) = copy {
            return Ok(ReaderConfig::of_copy(copy.clone()));
        }
        let Some(bucket) = bucket else {
            return Ok(ReaderConfig::find(self.config, self.environment)?);
        };
        let region = region.clone().unwrap_or_else(|| "us-east-1".to_owned());
        let mut repository = RepositoryConfig::new(bucket.clone(), region);
        repository.prefix = prefix.clone().unwrap_or_default();
        repository.endpoint.clone_from(endpoint);
        repository.path_style = *path_style;
        repository.ca_file.clone_from(ca_file);
        Ok(ReaderConfig::of_bucket(repository))
    }

    /// Returns whom to believe: the owner of the command line, else those of the configuration.
    pub(crate) fn trust(&self, config: &ReaderConfig) -> Result<Trust, Failure> {
        if let Some(owner) = &self.bare.owner {
            return Trust::of_owner(owner).map_err(|source| Failure::Owner(Box::new(source)));
        }
        if self.bare.bucket.is_some() || self.bare.copy.is_some() {
            return Err(Failure::NoOwner);
        }
        Trust::from_allowed_signers(&config.allowed_signers(self.environment)?).map_err(|source| {
            Failure::AllowedSigners {
                path: config.allowed_signers_file.clone(),
                source: Box::new(source),
            }
        })
    }

    /// Returns whose reports of drills are believed: those whom `allowed_signers` names so, if it is there.
    pub(crate) fn reporters(&self, config: &ReaderConfig) -> Result<Trust, Failure> {
        if config.allowed_signers_file.as_os_str().is_empty() {
            return Ok(Trust::none());
        }
        let text = config.allowed_signers(self.environment)?;
        Trust::of_reporters(&text).map_err(|source| Failure::AllowedSigners {
            path: config.allowed_signers_file.clone(),
            source: Box::new(source),
        })
    }

    /// Reads the key that signs reports.
    pub(crate) fn report_key(&self, path: &Path) -> Result<Signer, Failure> {
        let secret = file::read_key(path, self.environment)?;
        let signer = Signer::from_openssh(secret.expose_secret());
        signer.map_err(|source| Failure::ReportKey {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Reads what a watcher has seen of the repository, if it is remembered.
    pub(crate) fn witness(&self, config: &ReaderConfig) -> Result<Option<Witness>, Failure> {
        let file = config.witness_file(self.repository)?;
        Ok(file.map_or(Ok(None), |file| Witness::load(&file))?)
    }

    /// Runs `work` until it ends. Whatever asks a person before this is stopped by signals as usual; in here, they cancel.
    pub(crate) fn block_on<T>(
        &self,
        work: impl AsyncFnOnce(Context, Arc<Progress>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let runtime = tokio::runtime::Runtime::new().map_err(Failure::Runtime)?;
        let progress = progress::start(self.json);
        let listener: Arc<dyn Listener> = Arc::clone(&progress) as _;
        let outcome = runtime.block_on(async {
            let cancel = signals::listen().map_err(Failure::Runtime)?;
            work(Context { clock: Arc::new(SystemClock), listener, cancel }, Arc::clone(&progress))
                .await
        });
        progress.end();
        // A blocking task that nobody waits for (a question nobody answers) must not hold up the end.
        runtime.shutdown_background();
        outcome
    }

    /// Opens the repository of `config`: a bucket, with the reader's own credentials, or a copy in a directory.
    pub(crate) async fn open(
        &self,
        config: &ReaderConfig,
        context: &Context,
    ) -> Result<Repository, Failure> {
        self.open_as(config, None, context).await
    }

    /// The same with the access key in this file.
    pub(crate) async fn open_as(
        &self,
        config: &ReaderConfig,
        credentials: Option<&Path>,
        context: &Context,
    ) -> Result<Repository, Failure> {
        tokio::select! {
            opened = self.open_whole(config, credentials, context) => opened,
            () = context.cancel.cancelled() => Err(Failure::Stopped),
        }
    }

    async fn open_whole(
        &self,
        config: &ReaderConfig,
        credentials: Option<&Path>,
        context: &Context,
    ) -> Result<Repository, Failure> {
        let owner = self.trust(config)?;
        let stores = match config.repository(self.repository)? {
            Whereabouts::Directory(directory) => Stores::copy(open_copy(directory)?),
            Whereabouts::Bucket(repository) => {
                let access = repository.access(credentials, self.environment)?;
                let buckets = self.buckets(repository, &access, &owner, context).await?;
                let of_tiers = buckets.of_tiers.into_iter().map(|store| Arc::new(store) as _);
                Stores::new(Arc::new(buckets.main), of_tiers.collect())
            }
        };
        let repository = Repository::open(stores, &owner, context).await;
        repository.map_err(|source| Failure::Repository(Box::new(source)))
    }

    /// Opens it with a credential that may set locks: not that of the configuration, which is a reader's.
    pub(crate) async fn open_to_prolong(
        &self,
        config: &ReaderConfig,
        credentials: Option<&Path>,
        context: &Context,
    ) -> Result<(Repository, Prolongable), Failure> {
        let owner = self.trust(config)?;
        let Whereabouts::Bucket(repository) = config.repository(self.repository)? else {
            return Err(Failure::NotOfACopy("extend"));
        };
        let access = repository.access_of(credentials, self.environment)?;
        let Buckets { main, of_tiers } = self.buckets(repository, &access, &owner, context).await?;
        let of_tiers = of_tiers.into_iter().map(|store| Arc::new(store) as _);
        let buckets = Prolongable { main: Arc::new(main), of_tiers: of_tiers.collect() };
        let repository = Repository::open(buckets.stores(), &owner, context).await;
        let repository = repository.map_err(|source| Failure::Repository(Box::new(source)))?;
        Ok((repository, buckets))
    }

    /// Opens the bucket to add records of drills, with a credential that may put them.
    pub(crate) async fn open_to_record(
        &self,
        config: &ReaderConfig,
        credentials: Option<&Path>,
    ) -> Result<Arc<dyn AppendStore>, Failure> {
        let Whereabouts::Bucket(repository) = config.repository(self.repository)? else {
            return Err(Failure::NotOfACopy("drill --record"));
        };
        let access = repository.access(credentials, self.environment)?;
        // A record's lock is named, whoever names a backup's: the bucket of the genesis has no default.
        let options = S3Options { lock_by: LockBy::PerObject, ..options::s3(repository, &access) };
        Ok(Arc::new(open_store(repository, options).await?))
    }

    /// Opens the buckets that the configuration names. The command line names one; those of its tiers, if buckets name the
    /// locks, the genesis names.
    async fn buckets(
        &self,
        repository: &RepositoryConfig,
        access: &Access,
        owner: &Trust,
        context: &Context,
    ) -> Result<Buckets, Failure> {
        let main = open_store(repository, options::s3(repository, access)).await?;
        let mut all: Vec<S3Options> =
            options::s3_of_tiers(repository, access).map(|(_, options)| options).collect();
        if self.bare.bucket.is_some() {
            let named = tier_buckets(&main, owner, context).await;
            let named = named.map_err(|source| Failure::Repository(Box::new(source)))?;
            let with = |bucket| S3Options { bucket, ..options::s3(repository, access) };
            all.extend(named.into_iter().map(with));
        }
        let mut of_tiers = Vec::new();
        for options in all {
            of_tiers.push(open_store(repository, options).await?);
        }
        Ok(Buckets { main, of_tiers })
    }
}

/// The buckets of a repository.
struct Buckets {
    main: S3Store,
    of_tiers: Vec<S3Store>,
}

fn open_copy(directory: &Path) -> Result<Arc<dyn ReadStore>, Failure> {
    let failed = |source| Failure::Copy { path: directory.to_owned(), source: Box::new(source) };
    Ok(Arc::new(DirectoryStore::open(directory, Arc::new(SystemClock)).map_err(failed)?))
}

/// Opens a bucket of `repository`.
pub(crate) async fn open_store(
    repository: &RepositoryConfig,
    options: S3Options,
) -> Result<S3Store, Failure> {
    let failed =
        |source| Failure::Store { name: repository.name.clone(), source: Box::new(source) };
    S3Store::open(options, Arc::new(SystemClock)).await.map_err(failed)
}

/// Opens a bucket of `repository` to attack it.
pub(crate) async fn open_probe(
    repository: &RepositoryConfig,
    options: S3Options,
) -> Result<Arc<dyn ProbeStore>, Failure> {
    let failed =
        |source| Failure::Store { name: repository.name.clone(), source: Box::new(source) };
    let opened = S3Probe::open(options, Arc::new(SystemClock)).await;
    Ok(Arc::new(opened.map_err(failed)?))
}
