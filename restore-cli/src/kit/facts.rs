//! What the kit tells of a repository, as it was found. Nothing in here is secret: a reader of the bucket sees all of it.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Serialize;
use stonekeep_config::RepositoryConfig;
use stonekeep_engine::{audit::Audit, history::Snapshot, repository::Repository};
use stonekeep_format::{
    codec::Recipients,
    drill::{DrillRecord, DrillVerdict},
    genesis::{Genesis, LockBy},
    ids::{BucketName, Label, RepositoryId, SnapshotId, VersionId},
    key::ObjectKey,
    lock::LockMode,
    manifest::Manifest,
    signature,
};
use stonekeep_process::output::printable;

/// What is known of a repository.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    /// When, by the storage server's clock.
    pub(super) made_at: DateTime<Utc>,
    /// The version of the program that made it.
    pub(super) made_by: &'static str,
    /// The repository.
    pub(super) repository: RepositoryId,
    /// Where it lies.
    pub(super) place: Place,
    /// The root that was in force.
    pub(super) genesis: GenesisLine,
    /// Fingerprints of the keys that may sign a genesis.
    pub(super) owners: Vec<String>,
    /// The lines of `allowed_signers`; none if a fingerprint was given in their place.
    pub(super) allowed_signers: Vec<String>,
    /// Who signs snapshots.
    pub(super) signers: Vec<SignerLine>,
    /// Who can open them.
    pub(super) recipients: Vec<RecipientLine>,
    /// Files of identities that open none of them, as far as could be seen, and why.
    pub(super) other_identities: Vec<OtherIdentity>,
    /// Each database.
    pub(super) databases: Vec<DatabaseLine>,
    /// The last drill of each database that has a record.
    pub(super) drills: Vec<DrillLine>,
    /// How much was wrong with the repository.
    pub(super) findings: u64,
}

/// Where a repository lies.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    /// Its name in the configuration.
    pub(super) name: String,
    /// The server's address.
    pub(super) endpoint: String,
    /// Whether it is AWS, by default.
    #[serde(skip)]
    pub(super) is_aws: bool,
    /// The region.
    pub(super) region: String,
    /// The bucket with the genesis.
    pub(super) bucket: BucketName,
    /// What keys begin with.
    pub(super) prefix: String,
    /// Whether the bucket stands in the path of the URL.
    pub(super) path_style: bool,
    /// Certificates that are trusted besides the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// The buckets of tiers, if buckets name the locks.
    pub(super) tier_buckets: Vec<(String, BucketName)>,
    /// How it is locked.
    pub(super) lock_mode: LockMode,
}

/// The genesis in force.
#[derive(Debug, Serialize)]
pub(super) struct GenesisLine {
    /// Its key.
    pub(super) key: ObjectKey,
    /// The version that verified.
    pub(super) version_id: Option<VersionId>,
    /// When it was signed.
    pub(super) created_at: DateTime<Utc>,
}

/// A key that signs snapshots.
#[derive(Debug, Serialize)]
pub(super) struct SignerLine {
    /// Its fingerprint.
    pub(super) fingerprint: String,
    /// From when on it is believed.
    pub(super) valid_from: DateTime<Utc>,
    /// Until when, if it was withdrawn.
    pub(super) valid_until: Option<DateTime<Utc>>,
}

/// A recipient of the genesis.
#[derive(Debug, Serialize)]
pub(super) struct RecipientLine {
    /// The public key.
    pub(super) recipient: String,
    /// The files with its identity that were looked at.
    pub(super) identity_files: Vec<String>,
}

/// A file that was named and opens nothing of this.
#[derive(Debug, Serialize)]
pub(super) struct OtherIdentity {
    /// The file's name.
    pub(super) file: String,
    /// Why.
    pub(super) why: String,
}

/// A database and its newest snapshot.
#[derive(Debug, Serialize)]
pub(super) struct DatabaseLine {
    /// Its label.
    pub(super) label: Label,
    /// The newest snapshot, which `latest` means.
    pub(super) snapshot: SnapshotId,
    /// The instant of its content.
    pub(super) snapshot_at: DateTime<Utc>,
    /// Until when it is promised.
    pub(super) promised_until: DateTime<Utc>,
    /// Its plaintext, in bytes.
    pub(super) plain_bytes: u64,
    /// Its tables.
    pub(super) tables: u64,
    /// Its rows.
    pub(super) rows: u64,
    /// The server's version.
    pub(super) postgresql: String,
    /// Why it is suspicious, if it is.
    pub(super) suspicious: Option<String>,
    /// Then the newest that is not.
    pub(super) newest_sound: Option<SnapshotId>,
    /// Whether it was sealed to the recipients of the genesis, and no others.
    pub(super) is_for_recipients: bool,
}

/// The last drill of a database.
#[derive(Debug, Serialize)]
pub(super) struct DrillLine {
    /// The database.
    pub(super) label: Label,
    /// The snapshot that was restored.
    pub(super) snapshot: SnapshotId,
    /// When.
    pub(super) at: DateTime<Utc>,
    /// What it came to.
    pub(super) verdict: DrillVerdict,
    /// How long the restore took, if it came to its end, in seconds.
    pub(super) rto_secs: Option<u64>,
    /// Whether that was longer than it may take.
    pub(super) is_slow: bool,
}

/// What the configuration and the command line say of keys.
#[derive(Debug)]
pub(super) struct Keys {
    /// Fingerprints of owners.
    pub(super) owners: Vec<String>,
    /// The text of `allowed_signers`.
    pub(super) allowed_signers: String,
    /// Files of identities.
    pub(super) identities: Vec<IdentityFile>,
}

/// A file of identities.
#[derive(Debug)]
pub(super) struct IdentityFile {
    /// Its name, without its directory: that is another one when it is needed.
    pub(super) name: String,
    /// The recipients that it opens for.
    pub(super) recipients: Vec<String>,
    /// Why they are not known.
    pub(super) why: Option<String>,
}

impl Facts {
    /// Gathers what is told.
    pub(super) fn of(
        repository: &Repository,
        audit: &Audit,
        place: &RepositoryConfig,
        (keys, drills): (Keys, &[DrillRecord]),
    ) -> Self {
        let genesis = &repository.genesis;
        let line = repository.line.last();
        let lines = keys.allowed_signers.lines().map(str::trim);
        let is_key = |line: &&str| !line.is_empty() && !line.starts_with('#');
        Self {
            made_at: audit.at,
            made_by: env!("CARGO_PKG_VERSION"),
            repository: genesis.repository,
            place: Place::of(place, genesis),
            genesis: GenesisLine {
                key: genesis.key.clone(),
                version_id: line.map(|object| object.version.version_id.clone()),
                created_at: genesis.created_at,
            },
            owners: keys.owners,
            allowed_signers: lines.filter(is_key).map(printable).collect(),
            signers: signers(genesis),
            recipients: recipients(genesis, &keys.identities),
            other_identities: others(genesis, &keys.identities),
            databases: databases(audit, genesis),
            drills: drills.iter().map(DrillLine::of).collect(),
            findings: audit.more + audit.findings.len() as u64,
        }
    }

    /// Returns the newest major of PostgreSQL that any of the databases came from.
    pub(super) fn major(&self) -> Option<u32> {
        self.databases.iter().filter_map(DatabaseLine::major).max()
    }
}

impl DatabaseLine {
    /// Returns the major of the server that it came from.
    pub(super) fn major(&self) -> Option<u32> {
        let digits = self.postgresql.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    }
}

impl Place {
    fn of(place: &RepositoryConfig, genesis: &Genesis) -> Self {
        let aws = || match place.region.starts_with("cn-") {
            true => format!("https://s3.{}.amazonaws.com.cn", place.region),
            false => format!("https://s3.{}.amazonaws.com", place.region),
        };
        let endpoint = place.endpoint.as_deref().map(|url| url.trim_end_matches('/').to_owned());
        let by_bucket = genesis.lock.by == LockBy::BucketDefault;
        let tiers = genesis.tiers.iter().filter(|_| by_bucket);
        Self {
            name: place.name.clone(),
            is_aws: endpoint.is_none(),
            endpoint: endpoint.unwrap_or_else(aws),
            region: place.region.clone(),
            bucket: place.bucket.clone(),
            prefix: place.prefix.clone(),
            path_style: place.path_style,
            ca_file: place.ca_file.clone(),
            tier_buckets: tiers.map(|tier| (printable(&tier.name), tier.bucket.clone())).collect(),
            lock_mode: genesis.lock.mode,
        }
    }
}

fn signers(genesis: &Genesis) -> Vec<SignerLine> {
    let line = |signer: &stonekeep_format::genesis::GenesisSigner| SignerLine {
        fingerprint: signature::fingerprint(&signer.public_key).unwrap_or_default(),
        valid_from: signer.valid_from,
        valid_until: signer.valid_until,
    };
    genesis.signers.iter().map(line).collect()
}

fn recipients(genesis: &Genesis, identities: &[IdentityFile]) -> Vec<RecipientLine> {
    let line = |recipient: &String| {
        let opens = identities.iter().filter(|file| file.recipients.contains(recipient));
        RecipientLine {
            recipient: printable(recipient),
            identity_files: opens.map(|file| printable(&file.name)).collect(),
        }
    };
    genesis.recipients.iter().map(line).collect()
}

fn others(genesis: &Genesis, identities: &[IdentityFile]) -> Vec<OtherIdentity> {
    let opens =
        |file: &&IdentityFile| file.recipients.iter().any(|it| genesis.recipients.contains(it));
    let other = |file: &IdentityFile| OtherIdentity {
        file: printable(&file.name),
        why: match &file.why {
            Some(why) => printable(why),
            None => "it belongs to none of these recipients".to_owned(),
        },
    };
    identities.iter().filter(|file| !opens(file)).map(other).collect()
}

fn databases(audit: &Audit, genesis: &Genesis) -> Vec<DatabaseLine> {
    let recipients = Recipients::parse(&genesis.recipients).map(|all| all.fingerprint());
    let labels = audit.history.labels.keys();
    let line = |label: &Label| {
        let Snapshot { manifest, .. } = audit.history.newest_of(label)?;
        let sound = audit.history.newest_sound(label);
        let Manifest { totals, .. } = manifest;
        Some(DatabaseLine {
            label: label.clone(),
            snapshot: manifest.id.clone(),
            snapshot_at: manifest.snapshot_at,
            promised_until: manifest.promised_until,
            plain_bytes: totals.plain_bytes,
            tables: totals.tables,
            rows: totals.rows,
            postgresql: printable(&manifest.versions.server),
            suspicious: manifest.suspicious.as_deref().map(printable),
            newest_sound: sound
                .map(|each| each.manifest.id.clone())
                .filter(|id| *id != manifest.id),
            is_for_recipients: recipients.as_ref().is_ok_and(|all| *all == manifest.recipients),
        })
    };
    labels.filter_map(line).collect()
}

impl DrillLine {
    fn of(record: &DrillRecord) -> Self {
        Self {
            label: record.label.clone(),
            snapshot: record.snapshot.clone(),
            at: record.begun_at,
            verdict: record.verdict,
            rto_secs: record.rto_ms.map(|ms| ms.div_ceil(1000)),
            is_slow: record.is_slow(),
        }
    }
}

#[cfg(test)]
mod tests {
    use stonekeep_format::ids::Digest;

    use super::*;

    fn record(rto_ms: Option<u64>) -> DrillRecord {
        let at = DateTime::UNIX_EPOCH;
        let id = SnapshotId::new(at, 1);
        DrillRecord {
            format: String::new(),
            repository: "0123456789abcdef0123456789abcdef".parse().expect("an id"),
            label: "bookings".parse().expect("a label"),
            key: ObjectKey::genesis(1),
            id: id.clone(),
            snapshot: id,
            begun_at: at,
            written_at: at,
            verdict: DrillVerdict::Pass,
            problems: 0,
            rto_ms,
            rto_max_ms: Some(2000),
            tables: 1,
            rows: 1,
            plain_bytes: 1,
            report: Digest::of(b""),
        }
    }

    #[test]
    fn a_drill_is_told_in_whole_seconds() {
        let told = |rto_ms| {
            let line = DrillLine::of(&record(rto_ms));
            (line.rto_secs, line.is_slow)
        };
        assert_eq!(told(Some(2001)), (Some(3), true));
        assert_eq!(told(Some(1)), (Some(1), false));
        assert_eq!(told(None), (None, false));
    }
}
