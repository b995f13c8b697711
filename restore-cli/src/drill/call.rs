//! One call of the command: which databases, with what, and where the reports go.

use std::{collections::BTreeMap, sync::Arc};

use stonekeep_config::{ReaderConfig, reader::Whereabouts};
use stonekeep_engine::{
    Context,
    drill::{
        Check, DrillPlan, DrillRecords, ListedIdentity, Scene, choose, drill, put_record, records,
    },
    history::Selector,
    repository::Repository,
    restore::Confirm,
};
use stonekeep_format::{
    drill::{DrillReport, EarlierDrill},
    ids::{Label, SnapshotId},
    signature::{Signer, Trust},
};
use stonekeep_postgres::tools::ToolDirs;
use stonekeep_store::AppendStore;

use super::{
    Drilled, Outcome,
    signed::{self, Written},
};
use crate::{cli::DrillArgs, failure::Failure, open::Session};

/// How many earlier drills a report shows (100): two years of weekly ones.
const EARLIER_MAX: usize = 100;

/// One call of the command.
pub(super) struct Call<'c> {
    pub(super) session: &'c Session<'c>,
    pub(super) args: &'c DrillArgs,
    pub(super) config: &'c ReaderConfig,
    pub(super) identities: Vec<ListedIdentity>,
    pub(super) scene: Scene,
    pub(super) report_key: Option<Signer>,
    pub(super) reporters: Trust,
}

impl Call<'_> {
    /// The repository as figures and messages name it.
    pub(super) fn repository_name(&self) -> Result<String, Failure> {
        Ok(match self.config.repository(self.session.repository)? {
            Whereabouts::Bucket(repository) => repository.name.clone(),
            Whereabouts::Directory(directory) => directory.display().to_string(),
        })
    }

    /// Drills what is to be drilled.
    ///
    /// # Errors
    /// [`Failure`]: there was none, or somebody asked to stop.
    pub(super) async fn all(
        &self,
        selector: Option<&Selector>,
        person: &dyn Confirm,
        context: &Context,
    ) -> Result<Vec<Outcome>, Failure> {
        let repository = self.session.open(self.config, context).await?;
        // Before the work: whoever may not put the record should know it now.
        let recorder = self.recorder().await?;
        let earlier = self.records(&repository, context).await;
        let chosen = tokio::select! {
            chosen = choose(&repository, selector, self.args.random, context) => chosen,
            () = context.cancel.cancelled() => return Err(Failure::Stopped),
        };
        let (chosen, newest) = chosen.map_err(|source| Failure::Drill(Box::new(source)))?;
        let mut outcomes = Vec::new();
        for one in &chosen {
            let label = one.snapshot.manifest.label.clone();
            let plan = self.plan(&repository, &label, &earlier);
            let drilled = drill(&repository, one, &newest, &plan, person, context).await;
            let told = match drilled {
                Ok(report) => self.keep(&repository, report, recorder.as_ref()).await,
                Err(source) => Err(Failure::Drill(Box::new(source))),
            };
            outcomes.push(match told {
                Ok(drilled) => Outcome::Drilled(Box::new(drilled)),
                Err(failure) if context.cancel.is_cancelled() => return Err(failure),
                Err(failure) => Outcome::Failed { label, error: failure.to_report() },
            });
        }
        Ok(outcomes)
    }

    fn plan(&self, repository: &Repository, label: &Label, records: &DrillRecords) -> DrillPlan {
        let config = &self.config.drill;
        let checks = config.checks.iter().map(|check| Check {
            name: check.name.clone(),
            label: check.database.clone(),
            sql: check.sql.clone(),
            expect: check.expect.clone(),
            duration_max: check.timeout,
        });
        DrillPlan {
            scene: self.scene.clone(),
            tools: ToolDirs { pattern: self.config.pg_bindir.clone() },
            jobs: self.args.jobs.unwrap_or(config.jobs),
            work_dir: self.session.environment.temp_dir(),
            identities: self.identities.clone(),
            rto_max: config.rto_max,
            checks: checks.collect(),
            earlier: self.earlier(repository, label, records),
        }
    }

    /// Drills before this one, in the bucket and in the directory for reports.
    fn earlier(
        &self,
        repository: &Repository,
        label: &Label,
        records: &DrillRecords,
    ) -> Vec<EarlierDrill> {
        let in_bucket = records.of(label).iter().map(EarlierDrill::from);
        let id = repository.genesis.repository;
        let in_dir = self.report_dir().map(|dir| signed::earlier(dir, label, id));
        let all = in_bucket.chain(in_dir.unwrap_or_default());
        let mut all: BTreeMap<SnapshotId, EarlierDrill> =
            all.map(|drill| (drill.id.clone(), drill)).collect();
        while all.len() > EARLIER_MAX {
            all.pop_first();
        }
        all.into_values().collect()
    }

    fn report_dir(&self) -> Option<&std::path::Path> {
        self.args.report.as_deref().or(self.config.drill.report_dir.as_deref())
    }

    /// Records that cannot be read make a report poorer, and are no reason for having none.
    async fn records(&self, repository: &Repository, context: &Context) -> DrillRecords {
        match records(repository, &self.reporters).await {
            Ok(records) => records,
            Err(error) => {
                context.warn(format!("earlier drills cannot be read in the bucket: {error}"));
                DrillRecords::default()
            }
        }
    }

    /// Opens the bucket to put records, if that is asked for.
    async fn recorder(&self) -> Result<Option<(Arc<dyn AppendStore>, &Signer)>, Failure> {
        let drill = &self.config.drill;
        if !(self.args.record || drill.record) {
            return Ok(None);
        }
        let key = self.report_key.as_ref().ok_or(Failure::NoReportKey)?;
        let credentials = drill.record_credentials_file.as_deref();
        let store = self.session.open_to_record(self.config, credentials).await?;
        Ok(Some((store, key)))
    }

    /// Writes a report, and puts the record of it.
    async fn keep(
        &self,
        repository: &Repository,
        report: DrillReport,
        recorder: Option<&(Arc<dyn AppendStore>, &Signer)>,
    ) -> Result<Drilled, Failure> {
        let key = self.report_key.as_ref();
        let written = self.report_dir().map(|dir| signed::write(dir, &report, key)).transpose()?;
        let digest = match &written {
            Some(written) => written.digest,
            None => signed::digest(&report)?,
        };
        let files = written.map(Written::files).unwrap_or_default();
        let mut recorded = None;
        if let Some((store, key)) = recorder {
            let put = put_record(repository, &**store, &report.record(digest), key).await;
            recorded = Some(put.map_err(|source| Failure::Record(Box::new(source)))?);
        }
        Ok(Drilled { report, files, recorded })
    }
}
