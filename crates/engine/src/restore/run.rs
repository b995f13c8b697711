//! The changing half of a restore: from a database that may be loaded into to one that was compared and named.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;

use stonekeep_format::{
    archive::Archive,
    catalog::{Catalog, DatabaseProperties, Text},
};
use stonekeep_postgres::{
    compare::Comparer,
    connect::ConnectOptions,
    load::{ArchiveDir, Loader, Pass, PassOptions, Pins, analyze, run_pass},
    properties::PropertyOptions,
    target::{
        Held, Mark, Phase as Stage, TargetInfo, apply_database_properties, create_database,
        create_drill_database, create_roles, mark_database, rename_database,
    },
};

use super::{
    Rehearsed, RestoreError, RestorePlan, RestorePreview, RestoreReport,
    compare::{CompareOutcome, Comparison, is_loaded},
    content::load_content,
    content_bytes,
    guard::Destination,
    phase,
    plan::{LoadPlan, LoadTable},
    rows,
};
use crate::{
    Context,
    events::{Event, Phase},
    segments::SegmentReader,
};

/// One restore on its way.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) plan: &'a RestorePlan,
    pub(super) destination: Destination,
    /// The database as it is called while it is loaded.
    pub(super) target: ConnectOptions,
    pub(super) archive: Arc<Archive>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) load: Option<LoadPlan>,
    /// Roles to be made first, as the snapshot's globals have them.
    pub(super) roles: BTreeSet<String>,
    pub(super) globals: Bytes,
    pub(super) info: TargetInfo,
    pub(super) options: PassOptions,
    pub(super) warnings: Vec<String>,
    pub(super) reached: Reached,
    pub(super) tables_kept: u64,
    /// Of a drill: what keeps others from removing its database as a leftover.
    pub(super) held: Option<Held>,
}

/// How far a restore has come: what can be done after a failure hangs on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// Nothing was changed.
    Nothing,
    /// The database, or part of its schema, is there.
    Schema,
    /// The schema is there, and some rows.
    Rows,
    /// All rows are there, and part of the rest.
    Rest,
    /// All is there and was compared.
    Compared,
}

impl Run<'_> {
    /// Restores, refuses what differs, and gives the database its name.
    pub(super) async fn run(
        &mut self,
        reader: &SegmentReader,
        context: &Context,
    ) -> Result<(), RestoreError> {
        self.rehearse(reader, context).await?.into_result()?;
        self.end(context).await
    }

    /// Loads everything and compares it.
    pub(super) async fn rehearse(
        &mut self,
        reader: &SegmentReader,
        context: &Context,
    ) -> Result<CompareOutcome, RestoreError> {
        let name = format!("stonekeep-restore-{:032x}", rand::random::<u128>());
        let dir = ArchiveDir::create(self.plan.work_dir.join(name), &self.archive)?;
        self.make_roles(context).await?;
        if !self.destination.resume {
            phase(context, Phase::Schema, None);
            self.begin().await?;
            self.pass(Pass::Schema, &dir, context).await?;
            let mut loader =
                Loader::connect(&self.target, &self.archive, &self.options.pins).await?;
            loader.make_large_objects(&self.archive, &self.options).await?;
            // What was restored in part is not gone on with: the next run may ask for another part.
            if self.plan.selection.is_all() {
                self.mark(Stage::Rows).await?;
                self.reached = Reached::Rows;
            }
        }
        let tables = self.content(reader, context).await?;
        phase(context, Phase::Finishing, None);
        self.mark(Stage::Rest).await?;
        self.reached = Reached::Rest;
        self.pass(Pass::AfterData, &dir, context).await?;
        self.pass(Pass::Rest, &dir, context).await?;
        drop(dir);
        phase(context, Phase::Comparing, Some(&self.catalog));
        let outcome = self.comparison(tables).run(context).await?;
        if outcome.differences.is_empty() {
            self.reached = Reached::Compared;
            self.analyze(context).await?;
        }
        Ok(outcome)
    }

    /// Gathers the planner's statistics, if they are wanted.
    async fn analyze(&mut self, context: &Context) -> Result<(), RestoreError> {
        if !self.plan.analyze {
            return Ok(());
        }
        phase(context, Phase::Analyzing, None);
        for warning in analyze(&self.target, &self.options.pins).await? {
            context.warn(warning.clone());
            self.warnings.push(warning);
        }
        Ok(())
    }

    async fn make_roles(&mut self, context: &Context) -> Result<(), RestoreError> {
        if self.roles.is_empty() {
            return Ok(());
        }
        for left in create_roles(&self.plan.target, &self.globals, &self.roles).await? {
            let warning = format!("not given to a new role: {left}");
            context.warn(warning.clone());
            self.warnings.push(warning);
        }
        self.info.roles.extend(self.roles.iter().cloned());
        Ok(())
    }

    /// Makes the database if it must be made, and gives it the settings under which its contents are used: a default, a
    /// view's definition or a constraint may ask for one.
    async fn begin(&mut self) -> Result<(), RestoreError> {
        if !self.destination.alone {
            self.reached = Reached::Schema;
            return Ok(());
        }
        let mark = self.stage(Stage::Schema);
        if self.destination.create {
            self.create(&mark).await?;
            self.reached = Reached::Schema;
        } else {
            self.reached = Reached::Schema;
            mark_database(&self.plan.target, &self.destination.loading, &mark).await?;
        }
        let settings = DatabaseProperties {
            settings: self.catalog.database.settings.clone(),
            comment: Some(Text::from(mark.to_string().as_str())),
            connection_limit: -1,
            ..DatabaseProperties::default()
        };
        let options =
            PropertyOptions { roles: self.info.roles.clone(), no_owner: true, no_privileges: true };
        // What cannot be set is told at the end, when all properties are given.
        apply_database_properties(
            &self.plan.target,
            &self.destination.loading,
            &settings,
            &options,
        )
        .await?;
        Ok(())
    }

    /// Creates the database, that of a drill held against the sweeps of others.
    async fn create(&mut self, mark: &Mark) -> Result<(), RestoreError> {
        let (target, name) = (&self.plan.target, &self.destination.loading);
        let like = &self.catalog.database;
        if self.plan.drill.is_some() {
            self.held = Some(create_drill_database(target, name, like, mark).await?);
        } else {
            create_database(target, name, like, mark).await?;
        }
        Ok(())
    }

    fn stage(&self, phase: Stage) -> Mark {
        Mark { snapshot: self.catalog.id.clone(), phase, drill: self.plan.drill.clone() }
    }

    async fn mark(&self, phase: Stage) -> Result<(), RestoreError> {
        if !self.destination.alone {
            return Ok(());
        }
        Ok(mark_database(&self.plan.target, &self.destination.loading, &self.stage(phase)).await?)
    }

    async fn pass(
        &mut self,
        pass: Pass,
        dir: &ArchiveDir,
        context: &Context,
    ) -> Result<(), RestoreError> {
        let outcome = run_pass(
            &self.target,
            &self.plan.tools,
            dir.path(),
            &self.archive,
            pass,
            &self.options,
        )
        .await?;
        for message in outcome.tolerated {
            let warning = format!("pg_restore: {message} (nothing is missing because of it)");
            context.warn(warning.clone());
            self.warnings.push(warning);
        }
        Ok(())
    }

    /// Rows and large objects. In a database that an earlier run left, tables that are complete are kept.
    async fn content(
        &mut self,
        reader: &SegmentReader,
        context: &Context,
    ) -> Result<Arc<Vec<LoadTable>>, RestoreError> {
        phase(context, Phase::Loading, Some(&self.catalog));
        let Some(mut load) = self.load.take() else { return Ok(Arc::new(Vec::new())) };
        let mut loaders = Vec::new();
        // Into tables that are finished: what their triggers and keys would do or look at is in the snapshot already.
        let replica = self.plan.selection.data_only && self.info.superuser;
        let pins = Pins { replica, ..self.options.pins.clone() };
        for _ in 0..self.options.jobs {
            loaders.push(Loader::connect(&self.target, &self.archive, &pins).await?);
        }
        if self.destination.resume {
            self.reached = Reached::Rows;
            self.keep_complete(&mut load, &mut loaders, context).await?;
        }
        load_content(load, reader, loaders, context).await
    }

    async fn keep_complete(
        &mut self,
        load: &mut LoadPlan,
        loaders: &mut [Loader],
        context: &Context,
    ) -> Result<(), RestoreError> {
        let mut comparer =
            Comparer::connect(&self.target, &self.archive, &self.options.pins).await?;
        for group in load.groups() {
            let all = || group.iter().map(|at| &load.tables[*at]);
            if is_loaded(&mut comparer, all(), &self.catalog.digest_key).await? {
                for table in all().map(|table| &table.table.digest) {
                    context.tell(Event::Progress { bytes: table.bytes, rows: table.rows });
                }
                self.tables_kept += group.len() as u64;
                group.iter().for_each(|at| load.keep(*at));
            } else if let Some(loader) = loaders.first_mut() {
                for table in all() {
                    loader.empty(&table.statement).await?;
                }
            }
        }
        Ok(())
    }

    fn comparison(&self, tables: Arc<Vec<LoadTable>>) -> Comparison {
        Comparison {
            target: self.target.clone(),
            archive: Arc::clone(&self.archive),
            catalog: Arc::clone(&self.catalog),
            tables,
            pins: self.options.pins.clone(),
            jobs: self.options.jobs,
            alone: self.destination.alone,
            whole: self.plan.selection.is_all(),
            owners: !self.plan.no_owner,
        }
    }

    /// The last steps, after which the database is what was asked for: its name, then owner, rights, settings and comment.
    async fn end(&mut self, context: &Context) -> Result<(), RestoreError> {
        let name = self.plan.target.database.clone();
        if self.destination.rename {
            rename_database(&self.plan.target, &self.destination.loading, &name).await?;
            self.destination.loading.clone_from(&name);
        }
        if self.destination.alone {
            self.give_properties(&self.catalog.database.clone(), context).await?;
        }
        let message =
            format!("restored {} into {name:?} on {}", self.catalog.id, self.plan.target.address());
        context.tell(Event::Done { message });
        Ok(())
    }

    /// The last step of a drill: as [`Run::end`], but the database keeps its mark, and can be dropped.
    pub(super) async fn end_for_trial(&mut self, context: &Context) -> Result<(), RestoreError> {
        let properties = DatabaseProperties {
            comment: Some(Text::from(self.stage(Stage::Rest).to_string().as_str())),
            is_template: false,
            connection_limit: -1,
            ..self.catalog.database.clone()
        };
        self.give_properties(&properties, context).await
    }

    async fn give_properties(
        &mut self,
        properties: &DatabaseProperties,
        context: &Context,
    ) -> Result<(), RestoreError> {
        let name = self.destination.loading.clone();
        let no_owner = self.plan.no_owner;
        let options =
            PropertyOptions { roles: self.info.roles.clone(), no_owner, no_privileges: no_owner };
        let left =
            apply_database_properties(&self.plan.target, &name, properties, &options).await?;
        for what in left {
            let warning = format!("not given to the database: {what}");
            context.warn(warning.clone());
            self.warnings.push(warning);
        }
        Ok(())
    }

    pub(super) fn rehearsed(self, outcome: CompareOutcome) -> Rehearsed {
        Rehearsed {
            outcome,
            warnings: self.warnings,
            server_version: self.info.server_version,
            pins: self.options.pins,
            _held: self.held,
        }
    }

    pub(super) fn unfinished(self, error: RestoreError) -> RestoreError {
        let advice = match (self.reached, self.destination.alone) {
            (Reached::Nothing, _) => return error,
            (_, false) if self.plan.selection.data_only => {
                "some of its tables may hold rows of the snapshot now: empty those before the next try"
            }
            (_, false) => "objects of the snapshot may stand beside those that were there before",
            (Reached::Schema, true) => {
                "drop it (DROP DATABASE) before the next try, unless it is empty"
            }
            (Reached::Rows, true) => {
                "run the same command again to go on, or drop it (DROP DATABASE)"
            }
            (Reached::Rest, true) => {
                "all rows are in, but it cannot go on from here; drop it (DROP DATABASE) and start again"
            }
            (Reached::Compared, true) => {
                "it is complete and was compared; only statistics, its name, its settings or its comment are missing"
            }
        };
        RestoreError::Unfinished {
            database: self.destination.loading,
            advice,
            source: Box::new(error),
        }
    }

    pub(super) fn preview(self, question: Option<String>) -> RestorePreview {
        RestorePreview {
            label: self.catalog.label.clone(),
            snapshot: self.catalog.id.clone(),
            host: self.plan.target.address(),
            database: self.plan.target.database.clone(),
            destination: self.destination.words(),
            question,
            tables: self.catalog.tables.len() as u64,
            rows: rows(&self.catalog),
            bytes: content_bytes(&self.catalog),
            large_objects: self.catalog.large_objects.digest.objects,
            warnings: self.warnings,
        }
    }

    pub(super) fn report(self, duration_ms: u64) -> RestoreReport {
        RestoreReport {
            label: self.catalog.label.clone(),
            snapshot: self.catalog.id.clone(),
            host: self.plan.target.address(),
            database: self.plan.target.database.clone(),
            tables: self.catalog.tables.len() as u64,
            tables_kept: self.tables_kept,
            rows: rows(&self.catalog),
            bytes: content_bytes(&self.catalog),
            large_objects: self.catalog.large_objects.digest.objects,
            duration_ms,
            warnings: self.warnings,
        }
    }
}
