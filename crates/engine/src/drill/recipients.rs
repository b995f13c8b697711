//! Who can open the snapshot: proven, identity by identity, on a segment of it.

use stonekeep_format::{
    ErrorKind, codec::SharedIdentity, drill::DrillRecipient, inventory::Inventory,
};

use super::{DrillError, Found, chain};
use crate::{
    repository::Repository,
    segments::{READ_BUDGET_BYTES, SegmentReader},
};

/// An identity that the operator listed.
#[derive(Debug, Clone)]
pub struct ListedIdentity {
    /// The name of its file, without the directory.
    pub file: String,
    /// Whose it is, if it tells: an identity of a plugin does not.
    pub recipient: Option<String>,
    /// The identity.
    pub identity: SharedIdentity,
}

/// Tries each identity alone, on the smallest segment. One that opens nothing is a problem: whoever relies on it will stand before
/// a locked door. One that cannot be tried, since the segment is damaged, is a problem of the snapshot.
///
/// # Errors
/// [`DrillError::Segment`]: the segment cannot be had.
pub(super) async fn prove(
    repository: &Repository,
    inventory: &Inventory,
    identities: &[ListedIdentity],
    found: &mut Found,
) -> Result<Vec<DrillRecipient>, DrillError> {
    let named =
        |recipient: &String| DrillRecipient { recipient: recipient.clone(), proven_by: None };
    let mut all: Vec<DrillRecipient> = repository.genesis.recipients.iter().map(named).collect();
    let smallest = inventory.segments.iter().min_by_key(|segment| segment.bytes);
    let Some(segment) = smallest else { return Ok(all) };
    for listed in identities {
        let identity = SharedIdentity::list([&listed.identity]);
        let reader = SegmentReader::new(repository, identity, READ_BUDGET_BYTES);
        match reader.open(segment).await {
            Ok(_) => take(&mut all, listed),
            Err(error) if error.kind() == ErrorKind::Denied => {
                let file = &listed.file;
                let whose = listed.recipient.as_deref().unwrap_or("of a plugin");
                found.problem(format!("identity {file} ({whose}) does not open the snapshot"));
            }
            // The segment's fault: no other identity would fare better. What else is damaged, the restore finds.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let (file, why) = (&listed.file, chain(&error));
                found.problem(format!("identity {file} could not be tried: {why}"));
                return Ok(all);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let unproven = all.iter().filter(|each| each.proven_by.is_none());
    let unproven: Vec<&str> = unproven.map(|each| each.recipient.as_str()).collect();
    if !unproven.is_empty() {
        found.not_checked.push(format!(
            "whether {} can open it: no listed identity of theirs has opened it",
            unproven.join(", ")
        ));
    }
    Ok(all)
}

fn take(all: &mut Vec<DrillRecipient>, listed: &ListedIdentity) {
    let proven_by = Some(listed.file.clone());
    let of = listed.recipient.as_ref();
    match all.iter_mut().find(|each| Some(&each.recipient) == of) {
        Some(line) => line.proven_by = proven_by,
        // Of a plugin, or of somebody who was a recipient when the snapshot was taken.
        None => all.push(DrillRecipient {
            recipient: of.cloned().unwrap_or_else(|| "unknown".to_owned()),
            proven_by,
        }),
    }
}
