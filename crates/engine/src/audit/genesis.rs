//! What a watcher says of the line of genesis objects: whether the last one it saw is there, and what lies beside them.

use stonekeep_format::{
    genesis::Genesis,
    ids::Digest,
    key::ObjectKey,
    signature::{Found, SignedDocument as _, Trust, split, verify_document},
};
use stonekeep_store::{ObjectVersion, StoreError, list_key};

use super::time;
use crate::{
    finding::{Finding, FindingKind},
    repository::{ABSENT_MAX, GenesisObject, Repository, RepositoryError},
    witness::{SeenGenesis, Witness},
};

/// Versions of one genesis that are looked at one by one (8), the oldest; of more, only how many.
const VERSIONS_MAX: usize = 8;

/// Returns the genesis in force, if it was read.
pub(super) fn in_force(repository: &Repository) -> Option<SeenGenesis> {
    let n = repository.genesis.n;
    repository.line.last().map(|object| SeenGenesis { n, digest: object.digest })
}

/// The genesis that was in force must be in the line still. One that was handed over shows no line.
pub(super) fn rollback(repository: &Repository, witness: &Witness) -> Option<Finding> {
    let seen = witness.genesis?;
    let now = in_force(repository)?;
    let at = usize::try_from(seen.n).ok()?.checked_sub(1)?;
    if repository.line.get(at).is_some_and(|object| object.digest == seen.digest) {
        return None;
    }
    let looked_at = time(witness.looked_at);
    let what = if now.n < seen.n {
        format!("genesis {} was in force {looked_at}, and now {} is the last", seen.n, now.n)
    } else {
        format!("genesis {} is another one than {looked_at}", seen.n)
    };
    Some(Finding::at(FindingKind::Rollback, ObjectKey::genesis(seen.n), &what))
}

/// Names what lies where a genesis is, or where a reader would look for the next, and is not in the line: readers pass over
/// it, and somebody tried. Returns how many more versions there are, too.
///
/// # Errors
/// [`RepositoryError::Store`].
pub(super) async fn planted(
    repository: &Repository,
) -> Result<(Vec<Finding>, u64), RepositoryError> {
    let store = repository.stores.main();
    let bucket = store.bucket().to_string();
    let failed = |source| RepositoryError::Store { bucket: bucket.clone(), source };
    let (mut findings, mut more) = (Vec::new(), 0);
    for n in 1..=in_force(repository).map_or(0, |now| now.n.saturating_add(ABSENT_MAX)) {
        let key = ObjectKey::genesis(n);
        let found = list_key(&**store, &key).await.map_err(&failed)?;
        more += found.left_out + found.versions.len().saturating_sub(VERSIONS_MAX) as u64;
        let own = usize::try_from(n - 1).ok().and_then(|at| repository.line.get(at));
        let mut is_younger = false;
        for version in found.versions.into_iter().take(VERSIONS_MAX) {
            if own.is_some_and(|own| own.version.version_id == version.version_id) {
                is_younger = true;
                continue;
            }
            let seen = look(repository, own, &key, version).await.map_err(&failed)?;
            findings.extend(seen.map(|finding| match is_younger {
                true => Finding { kind: FindingKind::Overwrite, ..finding },
                false => finding,
            }));
        }
    }
    Ok((findings, more))
}

/// `own` is the owner's object under the key, if there is one.
async fn look(
    repository: &Repository,
    own: Option<&GenesisObject>,
    key: &ObjectKey,
    version: ObjectVersion,
) -> Result<Option<Finding>, StoreError> {
    let store = repository.stores.main();
    let (kind, why) = match store.get(key, &version.version_id, Genesis::BYTES_MAX).await {
        // Sent again by whoever had no answer.
        Ok(bytes) if own.is_some_and(|own| own.digest == Digest::of(&bytes)) => return Ok(None),
        Ok(bytes) => judge(repository, key, &bytes),
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(
            error @ (StoreError::Denied { .. }
            | StoreError::Rejected { .. }
            | StoreError::TooLong { .. }),
        ) => (FindingKind::Unreadable, error.to_string()),
        Err(error) => return Err(error),
    };
    let what = format!("ignored: {why}");
    Ok(Some(Finding::of_version(kind, key.clone(), version.version_id, &what)))
}

/// What is in the line is the owner's; so who signed this is told, whoever it was.
fn judge(repository: &Repository, key: &ObjectKey, bytes: &[u8]) -> (FindingKind, String) {
    let said = split(bytes).and_then(|(body, _)| serde_json::from_slice::<Genesis>(body).ok());
    if let Some(other) = said.filter(|said| said.key != *key) {
        return (FindingKind::Replayed, format!("the document says that it is {}", other.key));
    }
    let found = Found { key, repository: Some(repository.genesis.repository) };
    match verify_document::<Genesis>(bytes, found, &Trust::none()) {
        Err(why) => (FindingKind::from(&why), why.to_string()),
        Ok(_) => (FindingKind::Unreadable, "nobody is trusted, and it verified".to_owned()),
    }
}
