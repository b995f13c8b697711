//! What a watcher remembers of a repository, outside of it: so that the storage itself cannot show an older state unnoticed.
//!
//! The newest manifest says what must exist; a store that hides the newest of them hides what they say, too. So a watcher writes
//! down what it saw. It need not write down everything: of each chain its heads, and each older snapshot that is promised for
//! longer than all after it. Of any end of a chain that is hidden, one of these is promised for as long as any in it.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use stonekeep_format::{
    ErrorKind,
    ids::{ChainId, Digest, Label, RepositoryId, Seq, SnapshotId},
    key::ObjectKey,
    manifest::Link,
};

use crate::{
    audit::Audit,
    history::{LabelHistory, Snapshot},
};

/// The longest file that is read, and written (16 MiB): some 50 000 snapshots that went missing.
const BYTES_MAX: u64 = 16 << 20;

/// What was seen at the last look: the document `stonekeep/witness/1`, a file on the watcher's side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// [`Witness::FORMAT`].
    pub format: String,
    /// The repository.
    pub repository: RepositoryId,
    /// The genesis that was in force.
    pub genesis: Option<SeenGenesis>,
    /// When the last look was, by the storage server's clock.
    pub looked_at: DateTime<Utc>,
    /// What must be there for as long as it is promised.
    pub labels: BTreeMap<Label, Vec<Seen>>,
}

/// A genesis that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenGenesis {
    /// Its number.
    pub n: u32,
    /// BLAKE3 of its object.
    pub digest: Digest,
}

/// A snapshot that was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seen {
    /// Its chain.
    pub chain: ChainId,
    /// Its position.
    pub seq: Seq,
    /// Its id.
    pub id: SnapshotId,
    /// BLAKE3 of its manifest's object.
    pub digest: Digest,
    /// When it was committed.
    pub committed_at: DateTime<Utc>,
    /// Until when it must be there.
    pub promised_until: DateTime<Utc>,
}

impl Seen {
    /// Returns the key of its manifest.
    #[must_use]
    pub fn key(&self, label: &Label) -> ObjectKey {
        ObjectKey::manifest(label, self.seq, self.chain, &self.id)
    }

    /// Whether this is the snapshot.
    pub(crate) fn is(&self, snapshot: &Snapshot) -> bool {
        snapshot.digest == self.digest && snapshot.manifest.id == self.id
    }
}

impl From<&Link> for Seen {
    fn from(link: &Link) -> Self {
        Self {
            chain: link.chain,
            seq: link.seq,
            id: link.id.clone(),
            digest: link.digest,
            committed_at: link.committed_at,
            promised_until: link.promised_until(),
        }
    }
}

/// Why a witness file cannot be used. It is left as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The file cannot be read.
    #[error("cannot read the witness file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no witness.
    #[error(
        "the witness file {} is damaged: find out why, then move it away, and the next look begins another",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        #[source]
        source: serde_json::Error,
    },
    /// The file is of another version or kind.
    #[error("the witness file {} is of format {found:?}, not {:?}: a newer stonekeep may be needed", path.display(), Witness::FORMAT)]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// The file cannot be written.
    #[error("cannot write the witness file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl WitnessError {
    /// Returns what to do about it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::Write { .. } => ErrorKind::Config,
            Self::Damaged { .. } | Self::Format { .. } => ErrorKind::Corrupt,
        }
    }
}

impl Witness {
    /// The value of `format`.
    pub const FORMAT: &'static str = "stonekeep/witness/1";

    /// Returns what a first look saw.
    #[must_use]
    pub fn first(audit: &Audit) -> Self {
        let nothing = Self {
            format: Self::FORMAT.to_owned(),
            repository: audit.repository,
            genesis: None,
            looked_at: audit.at,
            labels: BTreeMap::new(),
        };
        nothing.updated(audit)
    }

    /// Returns what is to be remembered after another look. What was seen, is promised still and was not there now stays
    /// remembered until its promise ends, and the highest genesis for ever.
    #[must_use]
    pub fn updated(&self, audit: &Audit) -> Self {
        let mut labels: BTreeMap<Label, Vec<Seen>> = BTreeMap::new();
        for (label, history) in &audit.history.labels {
            labels.insert(label.clone(), to_remember(history));
        }
        for (label, seen) in &self.labels {
            let there = audit.history.of(label);
            let lost = seen.iter().filter(|seen| !there.iter().any(|each| seen.is(each)));
            labels.entry(label.clone()).or_default().extend(lost.cloned());
        }
        for seen in labels.values_mut() {
            seen.retain(|each| each.promised_until > audit.at);
            seen.sort();
            seen.dedup();
        }
        labels.retain(|_, seen| !seen.is_empty());
        let later = |seen: &SeenGenesis| audit.genesis.is_some_and(|now| now.n > seen.n);
        let genesis = self.genesis.filter(|seen| !later(seen)).or(audit.genesis);
        let looked_at = self.looked_at.max(audit.at);
        Self {
            format: self.format.clone(),
            repository: self.repository,
            genesis,
            looked_at,
            labels,
        }
    }

    /// Reads the file; `None` if there is none yet.
    ///
    /// # Errors
    /// [`WitnessError`]: it is there and cannot be used.
    pub fn load(path: &Path) -> Result<Option<Self>, WitnessError> {
        let failed = |source| WitnessError::Read { path: path.to_owned(), source };
        let file = match fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let damaged = |source| WitnessError::Damaged { path: path.to_owned(), source };
        let said: Format = serde_json::from_slice(&bytes).map_err(damaged)?;
        if said.format != Self::FORMAT {
            return Err(WitnessError::Format { path: path.to_owned(), found: said.format });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// Writes the file, whole or not at all, for nobody else to read or write (0600).
    ///
    /// # Errors
    /// [`WitnessError::Write`]: what was there is there still. So too if it would be longer than what can be read again.
    pub fn save(&self, path: &Path) -> Result<(), WitnessError> {
        let failed = |source| WitnessError::Write { path: path.to_owned(), source };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        if text.len() as u64 >= BYTES_MAX {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let dir = parent.unwrap_or_else(|| Path::new("."));
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(&text)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            fs::File::open(dir)?.sync_all()
        };
        write().map_err(failed)
    }
}

#[derive(Deserialize)]
struct Format {
    format: String,
}

/// The heads, so that each end of a fork is missed; and of each chain every snapshot that is promised for longer than all after
/// it. What claims the future is no writer's that we know.
fn to_remember(history: &LabelHistory) -> Vec<Seen> {
    let there = history.snapshots.iter().filter(|each| !each.is_future());
    let mut links: Vec<Link> = there.map(|each| each.manifest.link(each.digest)).collect();
    links.sort_by_key(|link| std::cmp::Reverse((link.seq, link.committed_at)));
    let heads: Vec<&Link> = history.chains.heads();
    let mut longest: BTreeMap<ChainId, DateTime<Utc>> = BTreeMap::new();
    let is_kept = |link: &&Link| {
        let longest = longest.entry(link.chain).or_insert(DateTime::<Utc>::MIN_UTC);
        let outlasts = link.promised_until() > *longest;
        *longest = link.promised_until().max(*longest);
        outlasts || heads.iter().any(|head| head.digest == link.digest)
    };
    links.iter().filter(is_kept).map(Seen::from).collect()
}

#[cfg(test)]
mod tests;
