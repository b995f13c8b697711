//! From a snapshot to a database that was compared with it.
//!
//! Everything that can refuse comes first and changes nothing: the snapshot is opened, the target is looked at, what it lacks
//! is listed, a person is asked where one must be. Then: a database under a name that says it is unfinished; the schema by
//! pg_restore; rows and large objects by our own connections; sequences and the rest by pg_restore; every row compared with
//! what production held; statistics; the database's settings, comment and name. Nothing is dropped at any time, also not
//! after a failure. Only the archive's table of contents touches the disk.

mod compare;
mod content;
mod error;
mod guard;
mod objects;
mod plan;
mod reorder;
mod run;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use serde::Serialize;
use stonekeep_format::{
    archive::{Archive, Entry},
    catalog::{Catalog, LargeObjects, Text},
    codec::Identities,
    digest::LargeObjectDigest,
    ids::{Label, SnapshotId},
    inventory::SegmentKind,
};
use stonekeep_postgres::{
    compare::archive_sequences,
    connect::ConnectOptions,
    load::{PassOptions, Pins, Selection, partition_roots},
    target::{
        DatabaseState, Held, Missing, TargetInfo, inspect, knows_locale, missing_for, not_ready,
    },
    tools::ToolDirs,
};

pub(crate) use self::compare::CompareOutcome;
pub use self::{
    error::RestoreError,
    guard::{Confirm, Nobody, Question, Reason},
};
use self::{
    guard::{Asked, decide},
    plan::LoadPlan,
    run::{Reached, Run},
};
use crate::{
    Context,
    events::{Event, Phase},
    history::Snapshot,
    repository::Repository,
    segments::{READ_BUDGET_BYTES, SegmentReader, load_inventory, only},
};

/// Where to restore to, and how.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// The server, and the name that the database shall have.
    pub target: ConnectOptions,
    /// Where pg_restore is.
    pub tools: ToolDirs,
    /// Connections at the same time, at least one is used.
    pub jobs: usize,
    /// Leaves everything to the role that restores: no owners, no rights.
    pub no_owner: bool,
    /// Makes the roles that the target lacks.
    pub create_roles: bool,
    /// Leaves out security labels, which only their provider can give.
    pub no_security_labels: bool,
    /// The role to become before anything is made.
    pub role: Option<String>,
    /// What of the snapshot is restored.
    pub selection: Selection,
    /// Gathers the planner's statistics at the end.
    pub analyze: bool,
    /// A directory in which one of our own is made for the table of contents, and removed again.
    pub work_dir: PathBuf,
    /// The drill that this is part of: the database is made under the name of the target, and bears the drill's mark.
    pub drill: Option<SnapshotId>,
}

/// A snapshot that was restored and compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// The database's label.
    pub label: Label,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The server it was restored to.
    pub host: String,
    /// The database it is now.
    pub database: String,
    /// Tables compared.
    pub tables: u64,
    /// Of those, how many an earlier run had loaded already.
    pub tables_kept: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them as COPY text.
    pub bytes: u64,
    /// Large objects.
    pub large_objects: u64,
    /// Wall time, in milliseconds.
    pub duration_ms: u64,
    /// What is not as it was and is no reason to throw the rows away: settings that could not be given, tolerated errors.
    pub warnings: Vec<String>,
}

/// Restores `snapshot` into the database that `plan` names, and compares it with what was backed up.
///
/// # Errors
/// [`RestoreError`]; of kind `Conflict` if the target is in the way, `Denied` if no identity opens the snapshot, `Config` if the
/// server lacks something. After [`RestoreError::Unfinished`] an unfinished database is there.
pub async fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    identities: Arc<Identities>,
    plan: &RestorePlan,
    confirm: &dyn Confirm,
    context: &Context,
) -> Result<RestoreReport, RestoreError> {
    let begun_at = context.clock.now();
    let reader = SegmentReader::new(repository, identities, READ_BUDGET_BYTES);
    let prepare = prepare(repository, snapshot, &reader, plan, confirm, context);
    let mut run = tokio::select! {
        run = prepare => run?,
        () = context.cancel.cancelled() => return Err(RestoreError::Cancelled),
    };
    let restored = tokio::select! {
        restored = run.run(&reader, context) => restored,
        () = context.cancel.cancelled() => Err(RestoreError::Cancelled),
    };
    if let Err(error) = restored {
        return Err(run.unfinished(error));
    }
    let took = (context.clock.now() - begun_at).num_milliseconds();
    Ok(run.report(u64::try_from(took).unwrap_or(0)))
}

/// A snapshot that was restored for trial.
#[derive(Debug)]
pub(crate) struct Rehearsed {
    /// What comparing it came to.
    pub(crate) outcome: CompareOutcome,
    /// What is not as it was.
    pub(crate) warnings: Vec<String>,
    /// `server_version` of the target.
    pub(crate) server_version: String,
    /// The settings under which it was read back.
    pub(crate) pins: Pins,
    /// While it lives, no other drill takes the database for a leftover.
    pub(crate) _held: Option<Held>,
}

/// Restores as [`restore`] does, for the drill that `plan` names: what differs is no error, and the database keeps its mark.
///
/// # Errors
/// As [`restore`], but for what differs.
pub(crate) async fn rehearse(
    repository: &Repository,
    snapshot: &Snapshot,
    identities: Arc<Identities>,
    plan: &RestorePlan,
    confirm: &dyn Confirm,
    context: &Context,
) -> Result<Rehearsed, RestoreError> {
    let reader = SegmentReader::new(repository, identities, READ_BUDGET_BYTES);
    let mut run = prepare(repository, snapshot, &reader, plan, confirm, context).await?;
    let rehearsed = match run.rehearse(&reader, context).await {
        Ok(outcome) => run.end_for_trial(context).await.map(|()| outcome),
        Err(error) => Err(error),
    };
    match rehearsed {
        Ok(outcome) => Ok(run.rehearsed(outcome)),
        Err(error) => Err(run.unfinished(error)),
    }
}

/// What a restore would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestorePreview {
    /// The database's label.
    pub label: Label,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The server.
    pub host: String,
    /// The database as it would be called.
    pub database: String,
    /// What would become of it.
    pub destination: &'static str,
    /// What a person would be asked at a terminal; without one, the restore would be refused.
    pub question: Option<String>,
    /// Tables whose rows would be loaded.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Their bytes as COPY text, large objects included.
    pub bytes: u64,
    /// Large objects.
    pub large_objects: u64,
    /// What would not be as it was.
    pub warnings: Vec<String>,
}

/// Says what [`restore`] would do. Looks at everything that it would look at before it changes something, and changes nothing.
///
/// # Errors
/// As [`restore`] before anything is changed.
pub async fn preview(
    repository: &Repository,
    snapshot: &Snapshot,
    identities: Arc<Identities>,
    plan: &RestorePlan,
    context: &Context,
) -> Result<RestorePreview, RestoreError> {
    let reader = SegmentReader::new(repository, identities, READ_BUDGET_BYTES);
    let asked = Asked::default();
    let prepare = prepare(repository, snapshot, &reader, plan, &asked, context);
    let run = tokio::select! {
        run = prepare => run?,
        () = context.cancel.cancelled() => return Err(RestoreError::Cancelled),
    };
    Ok(run.preview(asked.question()))
}

/// All that must be well before anything is changed.
async fn prepare<'a>(
    repository: &Repository,
    snapshot: &Snapshot,
    reader: &SegmentReader,
    plan: &'a RestorePlan,
    confirm: &dyn Confirm,
    context: &Context,
) -> Result<Run<'a>, RestoreError> {
    phase(context, Phase::Preparing, None);
    let inventory =
        load_inventory(repository, &snapshot.manifest.inventory, &snapshot.manifest.id).await?;
    let catalog = reader.load_catalog(&inventory, &snapshot.manifest).await?;
    let toc = reader.open(only(&inventory, SegmentKind::Toc)?).await?;
    let archive = Archive::read_directory(&mut &toc.bytes()[..]).map_err(RestoreError::Contents)?;
    let mut warnings = Vec::new();
    let roots = partition_roots(&archive);
    let whole = plan.selection.data_only.then(|| archive.clone());
    let (mut archive, catalog) = select(plan, archive, catalog, &mut warnings)?;
    if plan.no_security_labels {
        warnings.extend(leave_out_labels(&mut archive));
    }
    let load = LoadPlan::new(&archive, &catalog, &inventory, &roots)?;
    let info = inspect(&plan.target).await?;
    let (no_tablespaces, roles) =
        check_missing(plan, &info, &archive, &catalog, &mut warnings).await?;
    let globals = reader.open(only(&inventory, SegmentKind::Globals)?).await?.bytes().clone();
    if let Some(whole) = &whole {
        check_ready(plan, &info, (whole, &archive), &catalog).await?;
    }
    let destination = decide(plan, &info, &catalog, confirm).await?;
    // What an earlier run left is of the whole snapshot.
    if destination.resume && !plan.selection.is_all() {
        let (host, database) = (plan.target.address(), destination.loading);
        return Err(RestoreError::Leftover { host, database });
    }
    let pins = Pins {
        lc_monetary: usable_money(plan, &catalog, &mut warnings).await?,
        superuser: info.superuser,
        replica: false,
        server_version_num: info.server_version_num,
    };
    warnings.iter().for_each(|warning| context.warn(warning.clone()));
    let options = PassOptions {
        jobs: plan.jobs.max(1),
        no_owner: plan.no_owner,
        no_privileges: plan.no_owner,
        no_tablespaces,
        role: plan.role.clone(),
        pins,
    };
    Ok(Run {
        plan,
        target: plan.target.with_database(&destination.loading),
        destination,
        archive: Arc::new(archive),
        catalog: Arc::new(catalog),
        load: Some(load),
        roles,
        globals,
        info,
        options,
        warnings,
        reached: Reached::Nothing,
        tables_kept: 0,
        held: None,
    })
}

/// Reduces table of contents and catalog to what is to be restored, so that nothing after this knows of the rest.
fn select(
    plan: &RestorePlan,
    archive: Archive,
    mut catalog: Catalog,
    warnings: &mut Vec<String>,
) -> Result<(Archive, Catalog), RestoreError> {
    if plan.selection.is_all() {
        return Ok((archive, catalog));
    }
    let selected = plan.selection.of(&archive)?;
    for (what, why) in [
        (selected.without_rows, "comes without its rows: something that was asked for needs it"),
        (selected.left_out, "is left out: it needs what is not restored"),
    ] {
        warnings.extend(what.iter().map(|name| format!("{name} {why}")));
    }
    let entries = &selected.archive.entries;
    let rows: BTreeSet<i32> =
        entries.iter().filter(|entry| entry.is_table_data()).map(|entry| entry.dump_id).collect();
    catalog.tables.retain(|table| rows.contains(&table.dump_id));
    catalog.sequences = archive_sequences(&selected.archive);
    if !entries.iter().any(Entry::is_large_objects) {
        let (digest, packs, sliced) = (LargeObjectDigest::default(), Vec::new(), Vec::new());
        catalog.large_objects = LargeObjects { digest, packs, sliced };
    }
    Ok((selected.archive, catalog))
}

/// Takes the security labels out, and says so if there are any.
fn leave_out_labels(archive: &mut Archive) -> Option<String> {
    let before = archive.entries.len();
    archive.entries.retain(|entry| entry.desc.as_deref() != Some(b"SECURITY LABEL"));
    let left_out = before - archive.entries.len();
    (left_out > 0).then(|| format!("security labels of {left_out} objects are left out"))
}

fn phase(context: &Context, phase: Phase, expected: Option<&Catalog>) {
    let sum = |of: fn(&Catalog) -> u64| expected.map(of);
    context.tell(Event::Phase {
        phase,
        bytes_expected: sum(content_bytes),
        rows_expected: sum(rows),
    });
}

fn content_bytes(catalog: &Catalog) -> u64 {
    let tables = catalog.tables.iter().map(|table| table.digest.bytes);
    tables.fold(catalog.large_objects.digest.bytes, u64::saturating_add)
}

fn rows(catalog: &Catalog) -> u64 {
    catalog.tables.iter().map(|table| table.digest.rows).fold(0, u64::saturating_add)
}

/// Refuses tables that cannot take the rows as they are.
async fn check_ready(
    plan: &RestorePlan,
    info: &TargetInfo,
    (whole, selected): (&Archive, &Archive),
    catalog: &Catalog,
) -> Result<(), RestoreError> {
    let (host, database) = (plan.target.address(), plan.target.database.clone());
    if info.database == DatabaseState::Absent {
        return Err(RestoreError::NotReady {
            host,
            database,
            problems: vec!["it does not exist".to_owned()],
        });
    }
    let problems =
        not_ready(&plan.target, whole, selected, &catalog.tables, info.superuser).await?;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(RestoreError::NotReady { host, database, problems })
    }
}

/// Refuses a target that lacks something; a tablespace alone is no reason, since only speed hangs on it. Returns whether one is
/// lacking, and the roles that are to be made.
async fn check_missing(
    plan: &RestorePlan,
    info: &TargetInfo,
    archive: &Archive,
    catalog: &Catalog,
    warnings: &mut Vec<String>,
) -> Result<(bool, BTreeSet<String>), RestoreError> {
    if plan.selection.data_only {
        return Ok((false, BTreeSet::new()));
    }
    let mut properties = catalog.database.clone();
    let bare = plan.no_owner.then(|| {
        properties.owner = Text::default();
        properties.settings.retain(|(role, _)| role.is_none());
        without_owners(archive)
    });
    let mut missing =
        missing_for(&plan.target, info, bare.as_ref().unwrap_or(archive), &properties).await?;
    let roles: BTreeSet<String> = if plan.create_roles {
        std::mem::take(&mut missing.roles).into_iter().collect()
    } else {
        BTreeSet::new()
    };
    warnings.extend(roles.iter().map(|role| format!("role {role} is made on the target")));
    let Missing { tablespaces, .. } = &missing;
    let no_tablespaces = !tablespaces.is_empty();
    if no_tablespaces {
        let named = tablespaces.join(", ");
        warnings.push(format!(
            "the target has no tablespace {named}: everything goes into the database's own"
        ));
    }
    let (source, target) = (catalog.server.version_num / 10_000, info.server_version_num / 10_000);
    if target < source {
        warnings.push(format!("the target is PostgreSQL {target}, older than the snapshot's {source}: what it does not know makes the restore fail"));
    }
    let lacks = lacks(&missing);
    if lacks.is_empty() {
        Ok((no_tablespaces, roles))
    } else {
        Err(RestoreError::Lacking { lacks })
    }
}

/// The archive as a restore without owners and rights needs it: the roles that are left are those of policies and mappings.
fn without_owners(archive: &Archive) -> Archive {
    let mut bare = archive.clone();
    bare.entries.retain(|entry| !matches!(entry.desc.as_deref(), Some(b"ACL" | b"DEFAULT ACL")));
    bare.entries.iter_mut().for_each(|entry| entry.owner = None);
    bare
}

fn lacks(missing: &Missing) -> Vec<String> {
    let mut lacks = Vec::new();
    let mut add = |what: &str, names: &[String], advice: &str| {
        if !names.is_empty() {
            lacks.push(format!("{what} {}: {advice}", names.join(", ")));
        }
    };
    add(
        "Roles",
        &missing.roles,
        "give --create-roles to make them as they were, or --no-owner to do without",
    );
    add(
        "Providers of security labels",
        &missing.label_providers,
        "load them (shared_preload_libraries), or give --no-security-labels to do without",
    );
    add("Extensions", &missing.extensions, "install their packages on the server");
    add(
        "Locales",
        &missing.locales,
        "generate them in the server's operating system and restart it",
    );
    add(
        "Collations",
        &missing.collations,
        "generate their locales, then run pg_import_system_collations()",
    );
    lacks
}

/// `lc_monetary` of the source, if the target knows that locale: a session that names an unknown one is refused.
async fn usable_money(
    plan: &RestorePlan,
    catalog: &Catalog,
    warnings: &mut Vec<String>,
) -> Result<Option<String>, RestoreError> {
    let money = catalog.server.settings.iter().find(|(name, _)| name == "lc_monetary");
    let Some((_, money)) = money else { return Ok(None) };
    if knows_locale(&plan.target, money).await? {
        return Ok(Some(money.clone()));
    }
    warnings.push(format!(
        "the target does not know the locale {money}: columns of type money may differ"
    ));
    Ok(None)
}
