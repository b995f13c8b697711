//! A report as files: the document, its signature beside it, and the page with its own behind it. And back: who signed what.
//!
//! The document names tables, so all files are for their owner's eyes.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use stonekeep_format::{
    drill::{DrillReport, DrillVerdict, EarlierDrill},
    ids::{Digest, Label, RepositoryId, SnapshotId},
    key::ObjectKey,
    signature::{
        Found, SignatureError, SignedDocument, Signer, Trust, document_body, join_page, split_page,
        verify_message,
    },
};
use stonekeep_process::replace::replace;

use super::page::{self, DOCUMENT_BEGIN, DOCUMENT_END};
use crate::failure::Failure;

/// Reports that are looked at for earlier drills (200), the newest: daily drills of half a year.
const EARLIER_MAX: usize = 200;
/// What a page may be longer than its document (16 MiB): a thousand lines of tables, some hundred problems, the style.
const PAGE_BYTES: u64 = 16 << 20;
/// How every page begins, and no document.
const PAGE_BEGIN: &[u8] = b"<!DOCTYPE html>";
/// The longest armoured signature: ten times that of an Ed25519 key.
const ARMOUR_BYTES_MAX: u64 = 4 << 10;

/// Where a report is.
#[derive(Debug)]
pub(crate) struct Written {
    /// The document.
    pub(crate) json: PathBuf,
    /// Its signature, if it is signed.
    pub(crate) signature: Option<PathBuf>,
    /// The page.
    pub(crate) page: PathBuf,
    /// The digest of the document's file.
    pub(crate) digest: Digest,
}

impl Written {
    /// Returns the files, the page first.
    pub(super) fn files(self) -> Vec<PathBuf> {
        [Some(self.page), Some(self.json), self.signature].into_iter().flatten().collect()
    }
}

/// Returns the digest that the document's file would have.
pub(super) fn digest(report: &DrillReport) -> Result<Digest, Failure> {
    let document = document_body(report).map_err(|source| Failure::Report(Box::new(source)))?;
    Ok(Digest::of(&document))
}

/// Writes the report of a drill into `dir`, each file whole or not at all. Without a key nothing is signed, and the page says so.
pub(crate) fn write(
    dir: &Path,
    report: &DrillReport,
    key: Option<&Signer>,
) -> Result<Written, Failure> {
    let files = Files::of(report, key).map_err(|source| Failure::Report(Box::new(source)))?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Failure::Write { path, source }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir))?;
    let put = |ending: &str, bytes: &[u8]| {
        let path = dir.join(file_name(report, ending));
        replace(&path, bytes, 0o600).map_err(failed(&path))?;
        Ok::<_, Failure>(path)
    };
    let signature = files.armour.map(|armour| put("json.sig", armour.as_bytes())).transpose()?;
    let page = put("html", &files.page)?;
    // Last: whoever finds the document finds what belongs to it.
    let json = put("json", &files.document)?;
    Ok(Written { json, signature, page, digest: Digest::of(&files.document) })
}

/// `drill-bookings-01J….json`.
pub(super) fn file_name(report: &DrillReport, ending: &str) -> String {
    format!("{}{}.{ending}", beginning(&report.label), report.id)
}

fn beginning(label: &Label) -> String {
    format!("drill-{label}-")
}

/// What is written.
struct Files {
    document: Vec<u8>,
    armour: Option<String>,
    page: Vec<u8>,
}

impl Files {
    fn of(report: &DrillReport, key: Option<&Signer>) -> Result<Self, SignatureError> {
        let document = document_body(report)?;
        let text = String::from_utf8_lossy(&document);
        let signed_by = key.map(Signer::fingerprint);
        let page = page::render(report, &text, signed_by.as_deref()).into_bytes();
        let sign =
            |message: &[u8]| key.map(|key| key.sign(DrillReport::NAMESPACE, message)).transpose();
        let armour = sign(&document)?.map(|armour| format!("{}\n", armour.trim_end()));
        let page = match sign(&page)? {
            Some(armour) => join_page(page, &armour),
            None => page,
        };
        Ok(Self { document, armour, page })
    }
}

/// What a report in a directory says of itself, so far as it says that of an earlier drill.
#[derive(Debug, Deserialize)]
struct Kept {
    format: String,
    repository: RepositoryId,
    label: Label,
    id: SnapshotId,
    begun_at: DateTime<Utc>,
    verdict: DrillVerdict,
    rto_ms: Option<u64>,
    snapshot: KeptSnapshot,
}

#[derive(Debug, Deserialize)]
struct KeptSnapshot {
    plain_bytes: u64,
}

/// Reads what earlier drills of a database came to, the oldest first, from the newest reports in `dir`. What cannot be read is
/// passed over, and nothing is verified: these are for a picture, not for a verdict.
pub(crate) fn earlier(dir: &Path, label: &Label, repository: RepositoryId) -> Vec<EarlierDrill> {
    let mut ids = ids(dir, label);
    // A ULID sorts by its time.
    ids.sort_unstable();
    let newest = &ids[ids.len().saturating_sub(EARLIER_MAX)..];
    let read = newest.iter().filter_map(|id| {
        let path = dir.join(format!("{}{id}.json", beginning(label)));
        let kept: Kept =
            serde_json::from_slice(&bounded(&path, DrillReport::BYTES_MAX).ok()?).ok()?;
        let is_ours = kept.format == DrillReport::FORMAT
            && (kept.repository, &kept.label, &kept.id) == (repository, label, id);
        is_ours.then_some(kept)
    });
    read.map(EarlierDrill::from).collect()
}

impl From<Kept> for EarlierDrill {
    fn from(kept: Kept) -> Self {
        Self {
            id: kept.id,
            begun_at: kept.begun_at,
            verdict: kept.verdict,
            rto_ms: kept.rto_ms,
            plain_bytes: kept.snapshot.plain_bytes,
        }
    }
}

fn ids(dir: &Path, label: &Label) -> Vec<SnapshotId> {
    let beginning = beginning(label);
    let files = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let id = |name: &str| name.strip_prefix(&beginning)?.strip_suffix(".json")?.parse().ok();
    files.filter_map(|file| id(file.file_name().to_str()?)).collect()
}

/// Reads a file that is at most so long.
fn bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than any report"));
    }
    Ok(bytes)
}

/// Why a report is not to be believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// Nobody signed the page, or its end is not as it was.
    #[error("the page bears no signature, or its end was changed")]
    UnsignedPage,
    /// There is no signature beside the document.
    #[error("there is no signature of it in {}", .0.display())]
    UnsignedDocument(PathBuf),
    /// A page without the document.
    #[error("it is neither the page nor the document of a drill")]
    Neither,
    /// It is signed by somebody else, or was changed.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// A report that is as it was signed.
#[derive(Debug)]
pub(crate) struct Genuine {
    /// What was signed.
    pub(crate) report: DrillReport,
    /// Who signed it.
    pub(crate) signed_by: String,
}

/// Reads a page or a document, and says whose it is. `Ok(Err)`: it is not to be believed.
///
/// # Errors
/// The operating system's: it cannot be read.
pub(crate) fn read(path: &Path, trust: &Trust) -> io::Result<Result<Genuine, ReportError>> {
    let bytes = bounded(path, DrillReport::BYTES_MAX.saturating_mul(2) + PAGE_BYTES)?;
    if bytes.starts_with(PAGE_BEGIN) {
        return Ok(read_page(&bytes, trust));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sig");
    let beside = PathBuf::from(beside);
    match bounded(&beside, ARMOUR_BYTES_MAX) {
        Ok(armour) => Ok(read_document(&bytes, &armour, trust)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Err(ReportError::UnsignedDocument(beside)))
        }
        Err(error) => Err(error),
    }
}

fn read_page(bytes: &[u8], trust: &Trust) -> Result<Genuine, ReportError> {
    let (page, armour) = split_page(bytes).ok_or(ReportError::UnsignedPage)?;
    let document = document_of(page).ok_or(ReportError::Neither)?;
    verified(page, armour, document, trust)
}

fn read_document(bytes: &[u8], armour: &[u8], trust: &Trust) -> Result<Genuine, ReportError> {
    verified(bytes, armour, bytes, trust)
}

/// The document in a page. There is one, as everything else in it is escaped.
fn document_of(page: &[u8]) -> Option<&[u8]> {
    let page = std::str::from_utf8(page).ok()?;
    let (_, rest) = page.split_once(DOCUMENT_BEGIN)?;
    let (document, rest) = rest.split_once(DOCUMENT_END)?;
    (!rest.contains(DOCUMENT_BEGIN)).then_some(document.as_bytes())
}

fn verified(
    message: &[u8],
    armour: &[u8],
    document: &[u8],
    trust: &Trust,
) -> Result<Genuine, ReportError> {
    let report: DrillReport = serde_json::from_slice(document).map_err(SignatureError::Document)?;
    let key = ObjectKey::report(&report.label, &report.id);
    let found = Found { key: &key, repository: None };
    let signed_by = verify_message(message, armour, &report, found, trust)?;
    Ok(Genuine { report, signed_by })
}

#[cfg(test)]
mod tests;
