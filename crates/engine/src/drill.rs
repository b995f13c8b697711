//! A restore drill: a snapshot is restored into a server made for it, and compared with what production held.
//!
//! What could refuse comes first: the snapshot is looked at, each identity is tried, room is estimated. Then it is restored as
//! `stonekeep restore` would, but for the name: nothing of it may be taken for production. What differs, the operator's own
//! questions and the time that each step took are in the report. In the end everything is removed again, whatever became of it:
//! the scratch server, or the database that this drill made on a server it was given.
//!
//! A drill *fails* when what is in the bucket does not give back what production held; when it cannot be made (no room, no server, no
//! credential, stopped), that is an error and says nothing of the snapshot.

mod checks;
mod choose;
mod figures;
mod recipients;
mod record;
mod scene;
mod timeline;

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{
    ErrorKind,
    codec::SharedIdentity,
    drill::{
        Compared, DrillCheck, DrillRecipient, DrillReport, DrillServer, DrillTable, DrillVerdict,
        DrilledSnapshot, EarlierDrill,
    },
    ids::SnapshotId,
    key::ObjectKey,
    manifest::Manifest,
    signature::SignedDocument as _,
};
use stonekeep_postgres::{
    compare::CompareError, load::LoadError, scratch::ScratchError, target::TargetError,
    tools::ToolDirs,
};
use stonekeep_store::StoreError;

pub(crate) use self::record::lock_length;
pub use self::{
    checks::Check,
    choose::{Choice, Chosen, choose},
    recipients::ListedIdentity,
    record::{DrillRecordError, DrillRecords, LabelDrills, last_records, put_record, records},
    scene::Scene,
};
use self::{scene::Stage, timeline::Timeline};
use crate::{
    Context,
    events::{Event, Phase},
    history::{FindError, Snapshot},
    repository::Repository,
    restore::{Confirm, Rehearsed, RestoreError, RestorePlan, rehearse},
    segments::{SegmentError, load_inventory},
    verify::{VerifyError, verify},
};

/// How many problems a report names (200); it tells how many there are.
const PROBLEMS_MAX: usize = 200;

/// What no drill compares, said in each report.
const NEVER_COMPARED: &str = "beyond that each object is there: definitions (bodies of functions and views, defaults, \
     conditions of constraints), rights (GRANT), comments, and settings of roles";

/// How a drill is made.
#[derive(Debug, Clone)]
pub struct DrillPlan {
    /// Where.
    pub scene: Scene,
    /// Where PostgreSQL's programs are.
    pub tools: ToolDirs,
    /// Connections that load and compare.
    pub jobs: usize,
    /// A directory for the table of contents.
    pub work_dir: PathBuf,
    /// The identities that the operator listed; one or more.
    pub identities: Vec<ListedIdentity>,
    /// How long a restore may take.
    pub rto_max: Option<Duration>,
    /// What is asked of the restored database.
    pub checks: Vec<Check>,
    /// Earlier drills of this database, the oldest first.
    pub earlier: Vec<EarlierDrill>,
}

/// Why there was no drill. Nothing is said of the snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrillError {
    /// The storage server does not answer.
    #[error("cannot read the storage server's clock")]
    Store(#[source] Box<StoreError>),
    /// No snapshot is meant.
    #[error(transparent)]
    Find(#[from] FindError),
    /// The snapshot cannot be looked at.
    #[error("cannot look at the snapshot")]
    Verify(#[from] VerifyError),
    /// A part of it cannot be had.
    #[error("cannot read the snapshot")]
    Segment(#[from] SegmentError),
    /// There is no scratch server.
    #[error("cannot make a scratch server")]
    Scratch(#[from] ScratchError),
    /// There is too little room.
    #[error(
        "{dir} has room for {free_mib} MiB, and the drill of {label} takes about {needed_mib}: make room, name another directory (--scratch-dir), or give a server (--server)",
        dir = .dir.display()
    )]
    NoRoom {
        /// The directory.
        dir: PathBuf,
        /// The database.
        label: String,
        /// What is free, in MiB.
        free_mib: u64,
        /// What it takes, in MiB.
        needed_mib: u64,
    },
    /// There is too little memory.
    #[error(
        "{free_mib} MiB of memory are free, and a drill takes {needed_mib}: free some, or give a server elsewhere (--server)"
    )]
    NoMemory {
        /// What is free, in MiB.
        free_mib: u64,
        /// What it takes, in MiB.
        needed_mib: u64,
    },
    /// The scratch directory cannot be looked at.
    #[error("cannot tell how much room {} has", .dir.display())]
    Room {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The given server cannot be used, or the drill's database not be removed.
    #[error("cannot use the server of the drill")]
    Server(#[source] TargetError),
    /// The snapshot could not be loaded, for a reason that is not its own.
    #[error("the drill could not be made")]
    Restore(#[source] Box<RestoreError>),
    /// Stopped on request.
    #[error("stopped on request")]
    Cancelled,
}

impl DrillError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(source) => source.kind(),
            Self::Find(source) => source.kind(),
            Self::Verify(source) => source.kind(),
            Self::Segment(source) => source.kind(),
            Self::Scratch(source) => source.kind(),
            Self::Room { .. } => ErrorKind::Config,
            Self::Server(source) => source.kind(),
            Self::Restore(source) => source.kind(),
            Self::NoRoom { .. } | Self::NoMemory { .. } | Self::Cancelled => ErrorKind::Unavailable,
        }
    }
}

/// What a drill finds on its way.
#[derive(Debug, Default)]
struct Found {
    problems: Vec<String>,
    tables: Vec<DrillTable>,
    compared: Vec<Compared>,
    recipients: Vec<DrillRecipient>,
    checks: Vec<DrillCheck>,
    not_checked: Vec<String>,
    notes: Vec<String>,
    server_version: Option<String>,
    /// Whether the restore came to its end.
    is_restored: bool,
}

impl Found {
    /// Takes in what a restore and its comparison came to.
    fn take(&mut self, rehearsed: &mut Rehearsed) {
        let outcome = std::mem::take(&mut rehearsed.outcome);
        self.problems.extend(outcome.differences);
        self.tables = outcome.tables;
        self.compared = outcome.compared;
        self.not_checked.extend(outcome.not_checked);
        self.notes.extend(outcome.notes);
        self.notes.append(&mut rehearsed.warnings);
        self.server_version = Some(rehearsed.server_version.clone());
        self.is_restored = true;
    }

    fn problem(&mut self, what: String) {
        self.problems.push(what);
    }
}

/// Restores a snapshot, compares it, and removes it again. `newest` are the newest snapshots of all databases of the repository,
/// for the estimates.
///
/// # Errors
/// [`DrillError`]: there was no drill. What is wrong with the snapshot is in the report.
pub async fn drill(
    repository: &Repository,
    chosen: &Chosen,
    newest: &[Snapshot],
    plan: &DrillPlan,
    confirm: &dyn Confirm,
    context: &Context,
) -> Result<DrillReport, DrillError> {
    let begun_at = server_time(repository).await?;
    let id = SnapshotId::new(begun_at, rand::random());
    let timeline =
        Arc::new(Timeline::new(Arc::clone(&context.clock), Arc::clone(&context.listener)));
    let watched = Context { listener: Arc::clone(&timeline) as _, ..context.clone() };
    let mut found = Found::default();
    let snapshot = &chosen.snapshot;
    look(repository, snapshot, plan, &mut found, &watched).await?;
    let rehearsal = Rehearsal { repository, snapshot, id: &id, plan, timeline: &timeline };
    rehearsal.stage(confirm, &mut found, &watched).await?;
    // What was found is not thrown away for want of a clock.
    let over_at = begun_at + TimeDelta::milliseconds(timeline.elapsed_ms().cast_signed());
    let mut report = Report { repository, chosen, newest, plan, id, begun_at }.of(found, &timeline);
    report.written_at = server_time(repository).await.unwrap_or(over_at);
    let message = format!(
        "drilled {} of {}: {}",
        snapshot.manifest.id,
        report.label,
        report.verdict.as_str()
    );
    context.tell(Event::Done { message });
    Ok(report)
}

async fn server_time(repository: &Repository) -> Result<DateTime<Utc>, DrillError> {
    let time = repository.stores.main().server_time().await;
    time.map_err(|source| DrillError::Store(Box::new(source)))
}

/// Looks at every object of the snapshot, and tries the identities.
async fn look(
    repository: &Repository,
    snapshot: &Snapshot,
    plan: &DrillPlan,
    found: &mut Found,
    context: &Context,
) -> Result<(), DrillError> {
    let verified = match verify(repository, snapshot, false, context).await {
        Err(VerifyError::Cancelled) => return Err(DrillError::Cancelled),
        verified => verified?,
    };
    found.problems.extend(verified.problems.iter().map(ToString::to_string));
    let manifest = &snapshot.manifest;
    match load_inventory(repository, &manifest.inventory, &manifest.id).await {
        Ok(inventory) => {
            phase(context, Phase::Fetching);
            let all = &plan.identities;
            found.recipients = recipients::prove(repository, &inventory, all, found).await?;
        }
        // It is among the problems.
        Err(error) if error.kind() == ErrorKind::Corrupt => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn phase(context: &Context, phase: Phase) {
    context.tell(Event::Phase { phase, bytes_expected: None, rows_expected: None });
}

/// One restore that is for trial.
struct Rehearsal<'d> {
    repository: &'d Repository,
    snapshot: &'d Snapshot,
    id: &'d SnapshotId,
    plan: &'d DrillPlan,
    timeline: &'d Timeline,
}

impl Rehearsal<'_> {
    /// Sets the stage, restores, and clears it, whatever became of it.
    async fn stage(
        &self,
        confirm: &dyn Confirm,
        found: &mut Found,
        context: &Context,
    ) -> Result<(), DrillError> {
        let stage = tokio::select! {
            stage = Stage::set(self.plan, self.snapshot, self.id, context) => stage?,
            () = context.cancel.cancelled() => return Err(DrillError::Cancelled),
        };
        let played = tokio::select! {
            played = self.play(&stage, confirm, found, context) => played,
            () = context.cancel.cancelled() => Err(DrillError::Cancelled),
        };
        phase(context, Phase::Removing);
        let what = stage.what(self.id);
        if let Err(error) = stage.clear(self.id).await {
            // It says nothing of the snapshot, and takes nothing back of what was found.
            let why = chain(&error);
            let left = format!(
                "{what} is left and could not be removed: {why}; the next drill removes it"
            );
            context.warn(left.clone());
            found.notes.push(left);
        }
        played
    }

    /// Restores and compares, then asks the operator's questions.
    async fn play(
        &self,
        stage: &Stage,
        confirm: &dyn Confirm,
        found: &mut Found,
        context: &Context,
    ) -> Result<(), DrillError> {
        let confirm = stage.confirm(confirm);
        let rehearsed = match self.restore(stage, false, confirm, found, context).await {
            // On a server that is somebody's, no role is made.
            Err(RestoreError::Lacking { lacks }) if stage.is_given() => {
                // What follows the names is advice to whoever restores.
                let names = |lack: &String| lack.split(": ").next().unwrap_or(lack).to_owned();
                let lacks = lacks.iter().map(names).collect::<Vec<_>>().join("; ");
                let why =
                    format!("owners and rights, for the server lacks what they need: {lacks}");
                found.not_checked.push(why);
                self.timeline.forget_restore();
                self.restore(stage, true, confirm, found, context).await
            }
            restored => restored,
        };
        // Held until the last question is answered.
        let rehearsed = match rehearsed {
            Ok(rehearsed) => rehearsed,
            Err(error) => return fail(error, stage.is_given(), found),
        };
        phase(context, Phase::Checking);
        let label = &self.snapshot.manifest.label;
        let asked = checks::Asked { target: stage.database(self.id), label, pins: &rehearsed.pins };
        found.checks = checks::ask_all(&asked, &self.plan.checks, found, context).await;
        drop(rehearsed);
        Ok(())
    }

    async fn restore(
        &self,
        stage: &Stage,
        no_owner: bool,
        confirm: &dyn Confirm,
        found: &mut Found,
        context: &Context,
    ) -> Result<Rehearsed, RestoreError> {
        let plan = RestorePlan {
            target: stage.database(self.id),
            tools: self.plan.tools.clone(),
            jobs: self.plan.jobs,
            no_owner,
            create_roles: !stage.is_given(),
            no_security_labels: true,
            role: None,
            selection: Default::default(),
            analyze: true,
            work_dir: self.plan.work_dir.clone(),
            drill: Some(self.id.clone()),
        };
        let identities =
            SharedIdentity::list(self.plan.identities.iter().map(|each| &each.identity));
        let mut rehearsed =
            rehearse(self.repository, self.snapshot, identities, &plan, confirm, context).await?;
        found.take(&mut rehearsed);
        Ok(rehearsed)
    }
}

/// Takes an error for a failed drill if it is the snapshot's fault.
fn fail(error: RestoreError, is_given: bool, found: &mut Found) -> Result<(), DrillError> {
    if matches!(error, RestoreError::Cancelled) {
        return Err(DrillError::Cancelled);
    }
    if !is_of_the_snapshot(&error, is_given) {
        return Err(DrillError::Restore(Box::new(cause(error))));
    }
    found.problem(format!("it could not be restored: {}", chain(&cause(error))));
    Ok(())
}

/// The error without what it says to whoever restores: nothing of a drill is to be gone on with, or to be dropped by hand.
fn cause(error: RestoreError) -> RestoreError {
    match error {
        RestoreError::Unfinished { source, .. } => *source,
        error => error,
    }
}

/// Whether something in the snapshot is damaged, or what is in it was refused where it was loaded or read back: by a server of the
/// drill's own, where it may do everything, also for want of rights.
fn is_of_the_snapshot(error: &RestoreError, is_given: bool) -> bool {
    let is_refused = match error {
        RestoreError::Unfinished { source, .. } => matches!(
            **source,
            RestoreError::Target(
                LoadError::Restore { .. } | LoadError::Refused { .. } | LoadError::Name { .. }
            ) | RestoreError::Compare(CompareError::Refused { .. })
        ),
        _ => false,
    };
    match error.kind() {
        ErrorKind::Corrupt => true,
        ErrorKind::Config => is_refused,
        ErrorKind::Denied => is_refused && !is_given,
        _ => false,
    }
}

/// An error and its sources; none of them holds a row.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !said.ends_with(&next) {
            said = format!("{said}: {next}");
        }
        source = error.source();
    }
    said
}

/// What a report is made of.
struct Report<'d> {
    repository: &'d Repository,
    chosen: &'d Chosen,
    newest: &'d [Snapshot],
    plan: &'d DrillPlan,
    id: SnapshotId,
    begun_at: DateTime<Utc>,
}

impl Report<'_> {
    fn of(self, mut found: Found, timeline: &Timeline) -> DrillReport {
        let phases = timeline.end();
        let manifest = &self.chosen.snapshot.manifest;
        let restore_ms =
            phases.iter().filter(|phase| phase.is_restore).map(|phase| phase.duration_ms);
        let rto_ms: Option<u64> = found.is_restored.then(|| restore_ms.sum());
        let is_same = |each: &&Snapshot| each.manifest.label == manifest.label;
        let newest = self.newest.iter().find(is_same).map_or(manifest, |each| &each.manifest);
        let more_problems = found.problems.len().saturating_sub(PROBLEMS_MAX) as u64;
        found.notes.extend(suspicions(manifest, newest));
        found.not_checked.push(NEVER_COMPARED.to_owned());
        let verdict =
            if found.problems.is_empty() { DrillVerdict::Pass } else { DrillVerdict::Fail };
        found.problems.truncate(PROBLEMS_MAX);
        DrillReport {
            format: DrillReport::FORMAT.to_owned(),
            repository: self.repository.genesis.repository,
            label: manifest.label.clone(),
            key: ObjectKey::report(&manifest.label, &self.id),
            id: self.id,
            stonekeep: env!("CARGO_PKG_VERSION").to_owned(),
            begun_at: self.begun_at,
            written_at: self.begun_at,
            verdict,
            problems: found.problems,
            more_problems,
            snapshot: drilled(self.chosen),
            server: DrillServer {
                version: found.server_version,
                scratch: matches!(self.plan.scene, Scene::Scratch { .. }),
                address: self.plan.scene.address(),
                jobs: self.plan.jobs,
                fsync: self.plan.scene.fsync(),
            },
            estimates: rto_ms
                .map(|_| figures::estimates(self.newest, manifest, &phases))
                .unwrap_or_default(),
            phases,
            rto_ms,
            rto_max_ms: self.plan.rto_max.and_then(|max| u64::try_from(max.as_millis()).ok()),
            rpo: figures::rpo(newest, self.begun_at),
            tables: found.tables,
            compared: found.compared,
            recipients: found.recipients,
            checks: found.checks,
            not_checked: found.not_checked,
            notes: found.notes,
            earlier: self.plan.earlier.clone(),
        }
    }
}

/// That what was drilled, or what is newest, shrank more than it should: somebody must look why before relying on it.
fn suspicions(drilled: &Manifest, newest: &Manifest) -> Vec<String> {
    let of = |what: String, manifest: &Manifest| {
        manifest.suspicious.as_ref().map(|why| format!("{what} is suspicious: {why}"))
    };
    let other = Some(newest).filter(|newest| newest.id != drilled.id);
    let newest = other.and_then(|other| of(format!("the newest snapshot {}", other.id), other));
    of("the snapshot".to_owned(), drilled).into_iter().chain(newest).collect()
}

fn drilled(chosen: &Chosen) -> DrilledSnapshot {
    let manifest = &chosen.snapshot.manifest;
    let totals = &manifest.totals;
    DrilledSnapshot {
        id: manifest.id.clone(),
        seq: manifest.seq,
        tier: manifest.tier.clone(),
        snapshot_at: manifest.snapshot_at,
        committed_at: manifest.committed_at,
        promised_until: manifest.promised_until,
        server_version: manifest.versions.server.clone(),
        chosen: chosen.how.clone(),
        tables: totals.tables,
        rows: totals.rows,
        large_objects: totals.large_objects,
        segments: totals.segments,
        plain_bytes: totals.plain_bytes,
        sealed_bytes: totals.sealed_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfinished(source: RestoreError) -> RestoreError {
        let (database, source) = ("drill".to_owned(), Box::new(source));
        RestoreError::Unfinished { database, advice: "drop it", source }
    }

    fn is_told(error: RestoreError, is_given: bool) -> bool {
        let mut found = Found::default();
        let failed = fail(error, is_given, &mut found).is_ok();
        assert_eq!(failed, found.problems.len() == 1);
        failed
    }

    fn of_load() -> RestoreError {
        LoadError::Name { table: "public.t".to_owned() }.into()
    }

    fn damaged() -> RestoreError {
        RestoreError::Inconsistent { what: "rows are missing".to_owned() }
    }

    #[test]
    fn what_is_damaged_or_does_not_load_fails_a_drill() {
        assert!(is_told(damaged(), true) && is_told(unfinished(damaged()), false));
        assert!(is_told(unfinished(of_load()), true));
        assert!(!is_told(of_load(), false), "nothing of it was loaded yet");
    }

    #[test]
    fn what_is_the_servers_fault_fails_none() {
        let lacking = || RestoreError::Lacking { lacks: vec!["no hstore".to_owned()] };
        let denied = || RestoreError::MayNotCreate { role: "drill".to_owned() };
        for is_given in [false, true] {
            assert!(!is_told(unfinished(lacking()), is_given));
            assert!(!is_told(unfinished(denied()), is_given));
            assert!(!is_told(unfinished(RestoreError::Cancelled), is_given));
        }
    }

    #[test]
    fn too_little_room_may_be_there_later() {
        let error = DrillError::NoMemory { free_mib: 1, needed_mib: 512 };
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let mut found = Found::default();
        let stopped = fail(RestoreError::Cancelled, false, &mut found);
        assert!(matches!(stopped, Err(DrillError::Cancelled)) && found.problems.is_empty());
    }
}
