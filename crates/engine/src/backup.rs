//! Taking a snapshot: from a live database to a manifest in each repository.
//!
//! A [`run`] knows the repositories; here is the database. `copy` moves rows into locked segments; `contents` checks
//! that nothing is missing. Production's locks and snapshot are given back before the snapshot is committed. Whatever fails on
//! the way leaves segments that no manifest names, a record of them for the next run, and an error.

mod contents;
mod copy;
mod large_objects;
mod members;
mod upload;

use std::time::Duration;

use stonekeep_format::lock::RUN_DURATION_MAX;
use stonekeep_postgres::source::{self, DumpError, SourceOptions, Turn};

pub use crate::run::{BackupError, BackupPlan, BackupReport, Outcome, Target};
use crate::{
    Context,
    events::{Event, Phase},
    run::{self, Contents, Run},
};

/// How long a run that ends may take to record what it has stored (30 s): a service manager that asked it to stop waits no
/// longer than a minute or two.
const RECORD_DURATION_MAX: Duration = Duration::from_secs(30);

/// Takes one snapshot of one database into every repository that can take it. Production is read once, and by one run of its
/// label at a time.
///
/// # Errors
/// [`BackupError`]: the database could not be read, another run has its turn ([`BackupError::Taken`]), or the run was
/// stopped; there is no snapshot anywhere. What is wrong with one repository is in its [`Outcome`].
pub async fn backup(
    plan: &BackupPlan,
    source: &SourceOptions,
    targets: &[Target],
    context: &Context,
) -> Result<Vec<Outcome>, BackupError> {
    let begun_at = context.clock.now();
    phase(context, Phase::Preparing, None);
    let turn = take_turn(plan, source, context).await?;
    let begun = tokio::select! {
        begun = run::begin(plan, targets, context) => begun,
        () = context.cancel.cancelled() => return Err(BackupError::Cancelled),
    };
    let (run, failed) = match begun {
        Ok(begun) => begun,
        Err(outcomes) => return Ok(outcomes),
    };
    let mut outcomes = take(&run, failed, source, context).await?;
    if !turn.is_kept().await {
        context.warn("the session that kept other runs away was lost: one of them may have read the same past, which shows as a fork and loses nothing");
    }
    let took = (context.clock.now() - begun_at).to_std().unwrap_or(Duration::ZERO);
    for report in outcomes.iter_mut().filter_map(|outcome| outcome.result.as_mut().ok()) {
        report.duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    }
    Ok(outcomes)
}

/// The turn is taken before the repositories are looked at, and kept until the snapshot is committed: what is read of the past
/// in between is then nobody else's to change.
async fn take_turn(
    plan: &BackupPlan,
    source: &SourceOptions,
    context: &Context,
) -> Result<Turn, BackupError> {
    let label = &plan.label;
    let taken = tokio::select! {
        taken = Turn::take(&source.connect, label) => taken,
        () = context.cancel.cancelled() => return Err(BackupError::Cancelled),
    };
    taken.map_err(|source| match source {
        DumpError::Taken { .. } => {
            context.tell(Event::Skipped { message: source.to_string() });
            BackupError::Taken(source)
        }
        source => BackupError::Source { label: label.clone(), source },
    })
}

/// Reads and commits. What comes in the way while rows are read (DDL, a standby's replay) is given way to once: what was stored
/// by then is not stored again.
async fn take(
    run: &Run,
    failed: Vec<Outcome>,
    source: &SourceOptions,
    context: &Context,
) -> Result<Vec<Outcome>, BackupError> {
    let mut tries = 1;
    // Every lock allows for this long, from the instant at which the repositories were looked at.
    let mut too_slow = context.clock.sleep(RUN_DURATION_MAX);
    loop {
        let outcome = tokio::select! {
            outcome = read(run, source, context) => outcome,
            () = context.cancel.cancelled() => Err(BackupError::Cancelled),
            () = &mut too_slow => {
                Err(BackupError::TooSlow { hours: RUN_DURATION_MAX.as_secs() / 3600 })
            }
        };
        let error = match outcome {
            Ok(contents) => {
                phase(context, Phase::Committing, None);
                return Ok(run.clone().commit(&contents, failed).await);
            }
            Err(error) => error,
        };
        if error.is_passing() && tries == 1 {
            let action = "read the database".to_owned();
            context.tell(Event::Retried { action, reason: run::chain_of(&error) });
            tries += 1;
            continue;
        }
        let recording = run.record(error.phrase());
        if tokio::time::timeout(RECORD_DURATION_MAX, recording).await.is_err() {
            context.warn(
                "what was stored could not be recorded in time: the next run stores it again",
            );
        }
        if matches!(error, BackupError::NoRepositoryLeft) {
            let mut outcomes = failed;
            outcomes.extend(run.failures());
            return Ok(outcomes);
        }
        return Err(error);
    }
}

/// Reads the database into segments. When it returns, production is free.
async fn read(
    run: &Run,
    source: &SourceOptions,
    context: &Context,
) -> Result<Contents, BackupError> {
    let plan = run.plan();
    phase(context, Phase::Snapshot, None);
    let failed = |source| BackupError::Source { label: plan.label.clone(), source };
    let tables = run.previous_tables();
    let previous =
        |schema: &[u8], name: &[u8]| tables.get(&run.keyer().table_name(schema, name)).copied();
    let dump = source::begin(source, &previous, context.cancel.clone()).await.map_err(failed)?;
    for remark in &dump.info.remarks {
        context.warn(remark.clone());
    }
    for warning in &dump.warnings {
        context.warn(format!("pg_dump: {warning}"));
    }
    phase(context, Phase::Copying, Some(dump.info.database_bytes));
    let copied = copy::copy(run, dump, context).await?;
    contents::complete(plan, source, copied, run).await
}

fn phase(context: &Context, phase: Phase, bytes_expected: Option<u64>) {
    context.tell(Event::Phase { phase, bytes_expected, rows_expected: None });
}
