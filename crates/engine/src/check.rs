//! Whether a backup would begin: everything that can be known without writing.

use serde::Serialize;
use stonekeep_postgres::source::{SourceOptions, preflight};

use crate::{
    Context,
    backup::{BackupError, BackupPlan, Target},
    run::prepare,
};

/// What was checked.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// Each thing.
    pub lines: Vec<CheckLine>,
}

/// One thing that was checked.
#[derive(Debug, Clone, Serialize)]
pub struct CheckLine {
    /// What.
    pub what: String,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

/// Checks bucket, genesis, keys, tiers and the database of one label.
///
/// # Errors
/// [`BackupError`]: the first thing that would fail a backup.
pub async fn check(
    plan: &BackupPlan,
    source: &SourceOptions,
    target: &Target,
    context: &Context,
) -> Result<CheckReport, BackupError> {
    let prepared = prepare(plan, target, context).await?;
    let failed = |source| BackupError::Source { label: plan.label.clone(), source };
    let info = preflight(source).await.map_err(failed)?;
    let line = |what: &str, detail: String| CheckLine { what: what.to_owned(), ok: true, detail };
    let genesis = &prepared.repository.genesis;
    let remarks = info.remarks.iter().map(|remark| line("remark", remark.clone()));
    let mut lines = vec![
        line("bucket", format!("{} is there, with Object Lock", prepared.store.bucket())),
        line(
            "genesis",
            format!(
                "number {} of repository {}, signed by the owner",
                genesis.n, genesis.repository
            ),
        ),
        line("signer", format!("{} is listed in the genesis", plan.signer.fingerprint())),
        line("recipients", format!("{}, as in the genesis", plan.recipients.len())),
        line(
            "clock",
            format!(
                "agrees with the storage server's ({})",
                prepared.locks.started_at.to_rfc3339()
            ),
        ),
        line(
            "next snapshot",
            format!(
                "tier {:?}, locked until {}",
                prepared.tier.name,
                prepared.locks.of_document()?.retain_until.to_rfc3339()
            ),
        ),
        line(
            "database",
            format!(
                "{} on PostgreSQL {}, {} MiB",
                info.database,
                info.server_version,
                info.database_bytes >> 20
            ),
        ),
        line("pg_dump", info.pg_dump_version.clone()),
        line(
            "rights",
            "to write are not tried here, nor what is refused: `stonekeepd prove` does".to_owned(),
        ),
    ];
    lines.extend(remarks);
    Ok(CheckReport { lines })
}
