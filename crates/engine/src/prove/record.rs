//! The signed record of a run, in the bucket: a watcher reads there when the repository was last attacked.

use chrono::{DateTime, TimeDelta, Utc};
use stonekeep_format::{
    ids::RepositoryId,
    key::ObjectKey,
    lock::Lock,
    prove::{LockProof, ProveRecord},
    signature::{SignatureError, SignedDocument, Signer, sign_document},
};
use stonekeep_store::put_locked;

use super::{ProveError, ProvePlan, ProveReport, failed};

/// How long a record is locked (31 d): a month of daily proofs can be looked back on.
const RECORD_LOCK: TimeDelta = TimeDelta::days(31);

/// Puts the record of an authority proof, signed by the writer's signer.
///
/// # Errors
/// [`ProveError`]: the bucket refuses it, or it cannot be signed.
pub async fn put_record(
    report: &mut ProveReport,
    plan: &ProvePlan,
    repository: RepositoryId,
    signer: &Signer,
) -> Result<(), ProveError> {
    put(report, plan, repository, |record| {
        sign_document(&ProveRecord { format: ProveRecord::FORMAT.to_owned(), ..record }, signer)
    })
    .await
}

/// Puts the record of a lock proof, signed by a report key, which is valid for nothing else.
///
/// # Errors
/// As [`put_record`].
pub async fn put_lock_proof(
    report: &mut ProveReport,
    plan: &ProvePlan,
    repository: RepositoryId,
    report_key: &Signer,
) -> Result<(), ProveError> {
    put(report, plan, repository, |record| {
        let format = LockProof::FORMAT.to_owned();
        sign_document(&LockProof(ProveRecord { format, ..record }), report_key)
    })
    .await
}

async fn put(
    report: &mut ProveReport,
    plan: &ProvePlan,
    repository: RepositoryId,
    sign: impl FnOnce(ProveRecord) -> Result<Vec<u8>, SignatureError>,
) -> Result<(), ProveError> {
    let Some(store) = plan.stores.first().map(|store| store.store()) else { return Ok(()) };
    let now = store.server_time().await;
    let now = now.map_err(|source| failed("read the storage server's clock", source))?;
    let key = ObjectKey::canary(&report.id, "record");
    let bytes = sign(record(report, &key, repository, now)).map_err(ProveError::Sign)?;
    let length = TimeDelta::from_std(plan.cap).unwrap_or(RECORD_LOCK).min(RECORD_LOCK);
    let lock = Lock { mode: plan.lock_mode, retain_until: now + length };
    let put = put_locked(store, &key, bytes.into(), lock).await;
    put.map_err(|source| failed("put the record of this run", source))?;
    report.record = Some(key);
    Ok(())
}

fn record(
    report: &ProveReport,
    key: &ObjectKey,
    repository: RepositoryId,
    now: DateTime<Utc>,
) -> ProveRecord {
    ProveRecord {
        format: String::new(),
        repository,
        key: key.clone(),
        id: report.id.clone(),
        proof: report.proof,
        written_at: now,
        verdict: report.verdict,
        probes: report.probes.clone(),
    }
}
