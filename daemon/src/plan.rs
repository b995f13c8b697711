//! From the configuration to what the engine takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use secrecy::ExposeSecret;
use stonekeep_config::{
    DaemonConfig, DatabaseConfig, Environment, Patterns, RepositoryConfig, password::Login,
};
use stonekeep_engine::{
    backup::{BackupPlan, Target},
    context::SystemClock,
    stores,
};
use stonekeep_format::{
    ids::{Label, SegmentId},
    signature::{Signer, Trust},
};
use stonekeep_postgres::{
    connect::ConnectOptions,
    source::{self, SourceOptions},
    tools::ToolDirs,
};
use stonekeep_process::options;
use stonekeep_store::{AppendStore, ReadStore, S3Store};

use crate::failure::Failure;

/// The repositories' buckets.
pub(crate) struct Stores(Vec<Opened>);

impl Stores {
    /// Returns those of the repositories of these names; without names, all.
    pub(crate) fn of(&self, names: Option<&BTreeSet<&str>>) -> Self {
        let is_meant = |opened: &&Opened| names.is_none_or(|names| names.contains(&*opened.name));
        Self(self.0.iter().filter(is_meant).cloned().collect())
    }
}

/// One repository's buckets, and the copy of its genesis if one is named.
#[derive(Clone)]
pub(crate) struct Opened {
    name: String,
    store: Arc<dyn AppendStore>,
    tiers: BTreeMap<String, Arc<dyn AppendStore>>,
    genesis: Option<Vec<u8>>,
}

/// What holds for one run only.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Once {
    /// Whether everything is stored anew.
    pub(crate) fresh: bool,
    /// Whether a person has seen that the database shrank.
    pub(crate) accept_shrink: bool,
    /// What the run may take of the memory, if it is not alone.
    pub(crate) memory_budget_bytes: Option<u64>,
}

/// What all databases of the configuration share.
pub(crate) struct Shared<'c> {
    pub(crate) config: &'c DaemonConfig,
    pub(crate) environment: &'c Environment,
    pub(crate) signer: Signer,
    pub(crate) owner: Trust,
    /// Whose records of drills are believed.
    pub(crate) reporters: Trust,
    distrusted: BTreeSet<SegmentId>,
}

impl Opened {
    /// Returns what a reader of the repository takes: its buckets, and the copy of its genesis.
    pub(crate) fn into_read(self) -> (stores::Stores, Option<Vec<u8>>) {
        let of_tiers = self.tiers.into_values().map(|store| store as Arc<dyn ReadStore>);
        (stores::Stores::new(self.store, of_tiers.collect()), self.genesis)
    }
}

/// Whether `label` may be of a database of `server`, which stands for several.
pub(crate) fn of_server(label: &Label, server: &Label) -> bool {
    label.as_str().strip_prefix(server.as_str()).is_some_and(|rest| rest.starts_with('-'))
}

impl<'c> Shared<'c> {
    /// Reads the keys.
    pub(crate) fn read(
        config: &'c DaemonConfig,
        environment: &'c Environment,
    ) -> Result<Self, Failure> {
        let signer = Signer::from_openssh(config.signer(environment)?.expose_secret()).map_err(
            |source| Failure::Signer { path: config.signer_file.clone(), source: Box::new(source) },
        )?;
        let allowed = config.allowed_signers(environment)?;
        let unusable = |source| Failure::AllowedSigners {
            path: config.allowed_signers_file.clone(),
            source: Box::new(source),
        };
        let owner = Trust::from_allowed_signers(&allowed).map_err(unusable)?;
        let reporters = Trust::of_reporters(&allowed).map_err(unusable)?;
        let distrusted = config.distrusted(environment)?;
        Ok(Self { config, environment, signer, owner, reporters, distrusted })
    }

    /// Opens the buckets.
    pub(crate) async fn stores(&self) -> Result<Stores, Failure> {
        let mut stores = Vec::new();
        for repository in self.config.repositories() {
            stores.push(self.open(repository).await?);
        }
        Ok(Stores(stores))
    }

    /// Opens the buckets of one repository.
    pub(crate) async fn open(&self, repository: &RepositoryConfig) -> Result<Opened, Failure> {
        let access = repository.access(None, self.environment)?;
        let open = async |options| {
            let opened = S3Store::open(options, Arc::new(SystemClock)).await;
            let store = opened.map_err(|source| Failure::Store {
                name: repository.name.clone(),
                source: Box::new(source),
            })?;
            Ok::<Arc<dyn AppendStore>, Failure>(Arc::new(store))
        };
        let mut tiers = BTreeMap::new();
        for (name, options) in options::s3_of_tiers(repository, &access) {
            tiers.insert(name, open(options).await?);
        }
        Ok(Opened {
            name: repository.name.clone(),
            store: open(options::s3(repository, &access)).await?,
            tiers,
            genesis: repository.genesis(self.environment)?.map(String::into_bytes),
        })
    }

    /// Returns the databases of these labels, or all: what the file has as several is asked for at its server.
    pub(crate) async fn databases(
        &self,
        labels: &[Label],
    ) -> Result<(Vec<DatabaseConfig>, Vec<(Label, Failure)>), Failure> {
        let (mut all, mut unknown) = (Vec::new(), Vec::new());
        for database in self.config.databases() {
            if database.patterns().is_none() {
                all.push(database.clone());
                continue;
            }
            let is_meant = |label: &Label| of_server(label, &database.name);
            if !labels.is_empty() && !labels.iter().any(is_meant) {
                continue;
            }
            match self.of_entry(database).await {
                Ok(found) => all.extend(found),
                Err(failure) => unknown.push((database.name.clone(), failure)),
            }
        }
        // Whoever may make databases must not stop the backups of others: of two with one label the first is taken.
        let mut seen = BTreeSet::new();
        for twice in all.extract_if(.., |database| !seen.insert(database.name.clone())) {
            let label = twice.name;
            unknown.push((label.clone(), Failure::TwoOfALabel { label }));
        }
        // Of a server that does not answer no label can be known.
        let known = |label: &&Label| {
            seen.contains(*label) || unknown.iter().all(|(server, _)| !of_server(label, server))
        };
        let left: Vec<Label> = labels.iter().filter(known).cloned().collect();
        if left.is_empty() && !labels.is_empty() {
            return Ok((Vec::new(), unknown));
        }
        Ok((self.config.choose(all, &left)?, unknown))
    }

    /// Returns the databases of one entry of the file: itself, or those of its server that match.
    pub(crate) async fn of_entry(
        &self,
        database: &DatabaseConfig,
    ) -> Result<Vec<DatabaseConfig>, Failure> {
        let Some(Patterns { include, exclude }) = database.patterns() else {
            return Ok(vec![database.clone()]);
        };
        let label = || database.name.clone();
        let connect = self.source(database)?.connect;
        let names = source::databases(&connect, &include, &exclude).await;
        let names = names
            .map_err(|source| Failure::Databases { label: label(), source: Box::new(source) })?;
        if names.is_empty() {
            return Err(Failure::NoDatabase { label: label() });
        }
        Ok(names.iter().map(|name| database.of_database(name)).collect())
    }

    /// Says where the snapshots of a database go, and where its writer keeps what it may not read back.
    pub(crate) fn targets(&self, stores: &Stores, database: &DatabaseConfig) -> Vec<Target> {
        let target = |Opened { name, store, tiers, genesis }: &Opened| Target {
            name: name.clone(),
            store: Arc::clone(store),
            tiers: tiers.clone(),
            genesis: genesis.clone(),
            state_dir: Some(self.config.state_dir.join(name).join(database.name.as_str())),
        };
        stores.0.iter().map(target).collect()
    }

    /// Says under which rules a database is backed up.
    pub(crate) fn plan(&self, database: &DatabaseConfig, once: Once) -> BackupPlan {
        BackupPlan {
            distrusted: self.distrusted.clone(),
            fresh: once.fresh,
            shrink_percent_max: if once.accept_shrink { 100 } else { database.shrink_percent_max },
            label: database.name.clone(),
            tiers: self.config.tiers(),
            zone: database.time_zone,
            compression_level: self.config.compression_level,
            memory_budget_bytes: once
                .memory_budget_bytes
                .unwrap_or(self.config.memory_budget_bytes),
            signer: self.signer.clone(),
            recipients: self.config.recipients().to_vec(),
            owner: self.owner.clone(),
        }
    }

    /// Says how a database is read.
    pub(crate) fn source(&self, database: &DatabaseConfig) -> Result<SourceOptions, Failure> {
        let given = database.tls_given(self.environment)?;
        let unusable =
            |source| Failure::Url { label: database.name.clone(), source: Box::new(source) };
        let connect = ConnectOptions::parse(database.url.as_str()).map_err(unusable)?;
        let login = Login {
            host: &connect.host,
            port: connect.port,
            database: &connect.database,
            user: &connect.user,
        };
        let password = database.password(login, self.environment)?;
        let tls = options::tls(&connect.host, database.tls, given).map_err(Failure::Memory)?;
        Ok(SourceOptions {
            connect: connect.with_password(password).with_tls(tls),
            tools: ToolDirs { pattern: self.config.pg_bindir.clone() },
            jobs: database.jobs,
            ddl_wait_max: database.ddl_wait_max,
        })
    }
}
