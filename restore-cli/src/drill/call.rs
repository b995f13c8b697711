//! One call of the command: which databases, with what, and where the reports go.

use std::{collections::BTreeMap, sync::Arc};

use stonekeep_config::{DrillCheckConfig, ReaderConfig};
use stonekeep_engine::{
    Context,
    drill::{
        Check, Choice, DrillPlan, DrillRecords, ListedIdentity, Scene, choose, drill, put_record,
        records,
    },
    history::{Selector, Snapshot},
    repository::Repository,
    restore::Confirm,
};
use stonekeep_format::{
    drill::{DrillReport, EarlierDrill},
    ids::{Digest, Label, SnapshotId},
    key::ObjectKey,
    signature::{Signer, Trust},
};
use stonekeep_postgres::tools::ToolDirs;
use stonekeep_store::AppendStore;

use super::{
    Drilled, Drills, Outcome,
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
    /// Drills what is to be drilled. Somebody may ask to stop: what was drilled until then is told.
    ///
    /// # Errors
    /// [`Failure`]: there was none.
    pub(super) async fn all(
        &self,
        selector: Option<&Selector>,
        person: &dyn Confirm,
        context: &Context,
    ) -> Result<Drills, Failure> {
        let repository = self.session.open(self.config, context).await?;
        // Before the work: whoever may not put the record should know it now.
        let recorder = self.recorder().await?;
        let earlier = self.records(&repository, context).await;
        let chosen = tokio::select! {
            chosen = choose(&repository, selector, self.args.random, context) => chosen,
            () = context.cancel.cancelled() => return Err(Failure::Stopped),
        };
        let failed = |source| Failure::Drill(Box::new(source));
        let Choice { chosen, newest } = chosen.map_err(failed)?;
        self.see_checks(&newest)?;
        let mut drills = Drills::default();
        for (label, one) in chosen {
            let plan = self.plan(&repository, &label, &earlier);
            let drilled = match one {
                Ok(one) => drill(&repository, &one, &newest, &plan, person, context).await,
                Err(source) => Err(source),
            };
            let outcome = match drilled.map_err(failed) {
                Ok(report) => {
                    let kept = self.keep(&repository, report, recorder.as_ref(), context).await;
                    Outcome::Drilled(Box::new(kept))
                }
                Err(failure) if context.cancel.is_cancelled() => {
                    if drills.outcomes.is_empty() {
                        return Err(failure);
                    }
                    drills.stopped = Some(failure.to_report());
                    break;
                }
                Err(failure) => Outcome::Failed { label, error: failure.to_report() },
            };
            drills.outcomes.push(outcome);
        }
        Ok(drills)
    }

    /// A question to a database that is never drilled would never be asked, and nobody would know.
    fn see_checks(&self, newest: &[Snapshot]) -> Result<(), Failure> {
        let is_there = |label: &Label| newest.iter().any(|each| each.manifest.label == *label);
        let of = |check: &DrillCheckConfig| check.database.clone().filter(|of| !is_there(of));
        let mut checks = self.config.drill.checks.iter();
        match checks.find_map(|check| Some((check.name.clone(), of(check)?))) {
            Some((name, label)) => Err(Failure::CheckOfNobody { name, label }),
            None => Ok(()),
        }
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

    /// Writes a report, and puts the record of it. That one of them is not kept takes nothing back of what was found.
    async fn keep(
        &self,
        repository: &Repository,
        report: DrillReport,
        recorder: Option<&(Arc<dyn AppendStore>, &Signer)>,
        context: &Context,
    ) -> Drilled {
        let key = self.report_key.as_ref();
        let written = self.report_dir().map(|dir| signed::write(dir, &report, key)).transpose();
        let recorded = match recorder {
            Some(recorder) => {
                let digest = written.as_ref().ok().and_then(Option::as_ref).map(|each| each.digest);
                record(repository, &report, digest, recorder).await.map(Some)
            }
            None => Ok(None),
        };
        let mut unkept = None;
        for failure in [written.as_ref().err(), recorded.as_ref().err()].into_iter().flatten() {
            let error = failure.to_report();
            context.warn(error.message.clone());
            unkept.get_or_insert(error);
        }
        let files = written.ok().flatten().map(Written::files).unwrap_or_default();
        Drilled { report, files, recorded: recorded.ok().flatten(), unkept }
    }
}

/// Puts the record of a report, whose file has this digest, if there is one.
async fn record(
    repository: &Repository,
    report: &DrillReport,
    digest: Option<Digest>,
    (store, key): &(Arc<dyn AppendStore>, &Signer),
) -> Result<ObjectKey, Failure> {
    let digest = digest.map_or_else(|| signed::digest(report), Ok)?;
    let put = put_record(repository, &**store, &report.record(digest), key).await;
    put.map_err(|source| Failure::Record(Box::new(source)))
}
