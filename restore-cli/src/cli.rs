//! The command line.

use std::{path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};
use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use stonekeep_config::{ReaderConfig, defaults, value};
use stonekeep_engine::policy::Provider;
use stonekeep_format::ids::BucketName;
use stonekeep_postgres::load::ObjectName;

/// What each exit code means, for scripts: the numbers of BSD's `sysexits.h`.
const EXIT_CODES: &str = "\
S names a snapshot: `latest`, `latest:LABEL`, its id, or the beginning of its id.

Exit codes:
   0  done
  64  the command line is wrong
  65  something is corrupt, foreign or not trusted, or a lock did not hold: look into it now
  69  a server cannot be reached
  70  a bug in stonekeep
  73  what is already at the target is in the way; nothing was overwritten
  75  try again later; the same call may succeed (also: stopped by a signal, or prove could not tell)
  77  denied: password, rights, wrong identity
  78  the configuration is wrong (also: no such database, no bucket, no Object Lock, fewer than two recipients)

STONEKEEP_LOG sets what is logged, such as STONEKEEP_LOG=debug.";

/// What of a repository fails `verify`, and what it only names.
const FINDINGS: &str = "\
What is wrong with the other snapshots of its database is named, too. GAP, FORK and ROLLBACK fail (65) like a problem of \
the snapshot. What anybody who may write could have put there (REPLAYED, FOREIGN SIGNATURE, OVERWRITE, UNSIGNED, \
UNREADABLE, DELETE MARKER), another snapshot that claims the FUTURE, and a CLOCK that is wrong do not.";

/// Verify, fetch and restore the snapshots that stonekeepd takes.
#[derive(Debug, Parser)]
#[command(name = "stonekeep", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Read the configuration from FILE [default: the text in STONEKEEP_CONFIG, else /etc/stonekeep/stonekeep.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document on stdout, and events as JSON lines on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Use the repository of this name [default: the first in the configuration]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) repository: Option<String>,
    #[command(flatten)]
    pub(crate) bare: BareArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where a repository lies and whom to believe, for whoever has no configuration: the recovery kit says it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Without a configuration")]
pub(crate) struct BareArgs {
    /// Believe the owner whose key has this fingerprint, SHA256:…
    #[arg(long, global = true, value_name = "SHA256", hide_short_help = true)]
    pub(crate) owner: Option<String>,
    /// Read the repository in this bucket
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        hide_short_help = true,
        conflicts_with = "copy"
    )]
    pub(crate) bucket: Option<BucketName>,
    /// Its keys begin with PREFIX
    #[arg(long, global = true, value_name = "PREFIX", hide_short_help = true)]
    pub(crate) prefix: Option<String>,
    /// The bucket's region
    #[arg(long, global = true, value_name = "REGION", hide_short_help = true)]
    pub(crate) region: Option<String>,
    /// The server's address [default: AWS]
    #[arg(long, global = true, value_name = "URL", hide_short_help = true)]
    pub(crate) endpoint: Option<String>,
    /// Name the bucket in the path of the URL
    #[arg(long, global = true, hide_short_help = true)]
    pub(crate) path_style: bool,
    /// Trust these certificates (PEM)
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Read a copy that `stonekeep fetch --sealed` wrote
    #[arg(long, global = true, value_name = "DIR", hide_short_help = true)]
    pub(crate) copy: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a repository, once: bucket, policy, and the genesis that the owner key signs
    Init(InitArgs),
    /// Make the policies of the four roles, lifecycle rules and Terraform, for one provider; asks and changes nothing
    Policy(PolicyArgs),
    /// List all snapshots, and name what is missing or does not belong there
    List,
    /// Show one snapshot
    Show {
        /// Show this snapshot
        #[arg(value_name = "S")]
        snapshot: String,
    },
    /// Check that everything a snapshot needs is there, signed and locked; needs no identity
    #[command(after_help = FINDINGS)]
    Verify {
        /// Verify this snapshot
        #[arg(value_name = "S")]
        snapshot: String,
        /// Read every object and check its digest
        #[arg(long)]
        read_data: bool,
    },
    /// Restore a snapshot into a new database, and compare every row
    Restore(RestoreArgs),
    /// Write a snapshot into a directory that stock pg_restore reads
    Fetch(FetchArgs),
    /// Rehearse a restore: into a scratch server, every row compared with what production held, and measured
    ///
    /// Exits with 65 if what was restored is not what production held, or cannot be restored.
    Drill(DrillArgs),
    /// Check who signed the report of a drill, and that nobody has changed it
    VerifyReport(VerifyReportArgs),
    /// Print what a person needs to get everything back, with our tool and without it; no secret is in it
    RecoveryKit(RecoveryKitArgs),
    /// Judge the repository from another host: ages, chains, locks, and what should not be there; needs no identity
    ///
    /// Exits with 65 if anything is critical; a warning alone is told and no failure.
    Watch(WatchArgs),
    /// Keep snapshots longer than promised, when the daemon is dead: prolong the locks of all they need
    Extend(ExtendArgs),
    /// Attack the bucket with a credential that may delete, to see that its locks hold; touches own canaries only
    Prove(ProveArgs),
    /// Sign the next genesis with the owner key: other signers, recipients or tiers
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    /// Prove the lock; for what the writer may do, see `stonekeepd prove`
    #[arg(long, required = true)]
    pub(crate) lock: bool,
    /// Use the provisioner's access key in this file [default: credentials_file, environment, profile, web identity, instance role]
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials_file: Option<PathBuf>,
    /// Sign a record of it with this SSH key and put it into the bucket; a key for reports and nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) report_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Take signer, recipients and tiers from the daemon's configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) daemon_config: PathBuf,
    /// Sign with this SSH key, which allowed_signers must name
    #[arg(long, value_name = "FILE")]
    pub(crate) owner_key: PathBuf,
    /// Believe a withdrawn signer only until TIME, such as 2026-11-21T10:15:00Z: when its host was taken over [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(crate) withdrawn_from: Option<DateTime<Utc>>,
    /// Sign how the buckets are configured, although that is not what was signed before
    #[arg(long)]
    pub(crate) accept_configuration: bool,
    /// Write a copy of the new genesis to DIR [default: beside the daemon's configuration]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Use the provisioner's access key in this file [default: environment, profile, web identity, instance role]
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Take bucket, tiers, recipients and the signer's public key from the daemon's configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) daemon_config: PathBuf,
    /// Sign with this SSH key, a person's (for one in an agent: its public key)
    #[arg(long, value_name = "FILE")]
    pub(crate) owner_key: PathBuf,
    /// Write stonekeep.toml and allowed_signers to DIR [default: beside the daemon's configuration]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Give each bucket its policy in this directory, as `stonekeep policy --out` writes it; or one policy (JSON) in a file, in
    /// which BUCKET stands for the bucket's name
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// Use the provisioner's access key in this file [default: environment, profile, web identity, instance role]
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// Take buckets, prefix, locks and tiers from the daemon's configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) daemon_config: PathBuf,
    /// Write for this provider
    #[arg(long, value_name = "PROVIDER", value_parser = provider())]
    pub(crate) provider: Provider,
    /// Let NAME be the writer: on AWS the ARN of a role or user, elsewhere the name of a user or key; may be repeated, like
    /// the other three [default: a placeholder]
    #[arg(long, value_name = "NAME")]
    pub(crate) writer: Vec<String>,
    /// Let NAME be the watcher
    #[arg(long, value_name = "NAME")]
    pub(crate) watcher: Vec<String>,
    /// Let NAME be the restorer
    #[arg(long, value_name = "NAME")]
    pub(crate) restorer: Vec<String>,
    /// Let NAME be the provisioner
    #[arg(long, value_name = "NAME")]
    pub(crate) provisioner: Vec<String>,
    /// Let the writer neither list nor read: it then keeps its chain in state_dir
    #[arg(long)]
    pub(crate) write_only: bool,
    /// Let the restorer add records of drills, below reports/ and nowhere else
    #[arg(long)]
    pub(crate) record_drills: bool,
    /// Write the files into DIR, and overwrite none [default: print them]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Restore this snapshot
    #[arg(value_name = "S")]
    pub(crate) snapshot: String,
    /// Restore into this database: absent, it is created; present and empty, it is used. The password comes from
    /// ~/.pgpass (or the file PGPASSFILE names) or PGPASSWORD, never from the URL
    #[arg(long, value_name = "URL")]
    pub(crate) target: String,
    /// Load with N connections
    #[arg(long, value_name = "N", default_value_t = defaults::JOBS, value_parser = jobs)]
    pub(crate) jobs: usize,
    /// Leave out owners and rights: everything belongs to the role that restores
    #[arg(long)]
    pub(crate) no_owner: bool,
    /// Make the roles that the server lacks, as they were: with attributes, passwords and settings
    #[arg(long, conflicts_with = "no_owner")]
    pub(crate) create_roles: bool,
    /// Leave out security labels, which only their provider can give
    #[arg(long)]
    pub(crate) no_security_labels: bool,
    /// Become ROLE before anything is made
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<String>,
    /// Restore only this table, with what it needs and what belongs to it: NAME or SCHEMA.NAME; may be repeated
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Vec<ObjectName>,
    /// Restore only this schema; may be repeated
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) schema: Vec<String>,
    /// Leave out this table and what needs it; may be repeated
    #[arg(long, value_name = "TABLE")]
    pub(crate) exclude_table: Vec<ObjectName>,
    /// Leave out this schema and what needs it; may be repeated
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) exclude_schema: Vec<String>,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub(crate) plan: bool,
    /// Restore no rows, no large objects and no values of sequences
    #[arg(long)]
    pub(crate) schema_only: bool,
    /// Restore rows, large objects and values of sequences alone, into empty tables that are there; a person must confirm it
    #[arg(long, conflicts_with_all = ["schema_only", "create_roles"])]
    pub(crate) data_only: bool,
    #[command(flatten)]
    pub(crate) identities: IdentityArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// Fetch this snapshot
    #[arg(value_name = "S")]
    pub(crate) snapshot: String,
    /// Write into DIR, which must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Copy the objects as they are, sealed; needs no identity
    #[arg(long, conflicts_with = "identity")]
    pub(crate) sealed: bool,
    #[command(flatten)]
    pub(crate) identities: IdentityArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    /// Drill this snapshot [default: of each database the newest]
    #[arg(value_name = "S")]
    pub(crate) snapshot: Option<String>,
    /// Drill of each database one of the last N snapshots, by chance
    #[arg(long, value_name = "N", conflicts_with = "snapshot", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) random: Option<u32>,
    /// Restore into a new database of this server, and drop it again [default: a server made for it and removed again]. The
    /// password comes from ~/.pgpass (or the file PGPASSFILE names) or PGPASSWORD, never from the URL
    #[arg(long, value_name = "URL", conflicts_with = "scratch_dir")]
    pub(crate) server: Option<String>,
    /// Make the scratch server in DIR [default: scratch_dir of the configuration, else the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) scratch_dir: Option<PathBuf>,
    /// Write the reports to DIR [default: report_dir of the configuration]
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Sign them with this SSH key, which signs nothing else [default: report_key_file of the configuration]
    #[arg(long, value_name = "FILE")]
    pub(crate) report_key: Option<PathBuf>,
    /// Put a record of each drill into the bucket, under lock [default: record of the configuration]
    #[arg(long)]
    pub(crate) record: bool,
    /// Load and compare with N connections [default: jobs of the configuration]
    #[arg(long, value_name = "N", value_parser = jobs)]
    pub(crate) jobs: Option<usize>,
    #[command(flatten)]
    pub(crate) identities: IdentityArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyReportArgs {
    /// Check this report: the page, or the JSON beside which its signature lies (FILE.sig)
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Believe the report key of this fingerprint, SHA256:… [default: those that allowed_signers names `reporter`]
    #[arg(long, value_name = "SHA256")]
    pub(crate) reporter: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RecoveryKitArgs {
    /// Write recovery-kit.txt and recovery-kit.html into DIR [default: print the text]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) identities: IdentityArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Print one line as Nagios and its kin read it, and exit with 0 (ok), 1 (warning), 2 (critical) or 3 (cannot tell)
    #[arg(long)]
    pub(crate) nagios: bool,
    /// Ask for the locks of all segments of the newest snapshots, not of a sample
    #[arg(long)]
    pub(crate) all_locks: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExtendArgs {
    /// Prolong these snapshots [default: of each database the newest that is not suspicious]
    #[arg(value_name = "S")]
    pub(crate) snapshots: Vec<String>,
    /// Lock for this long from now, rounded up to the end of the day in UTC: such as 30d, 4w, 1y. It cannot be taken back
    #[arg(long = "for", value_name = "TIME", value_parser = value::parse_keep)]
    pub(crate) length: Duration,
    /// Use the provisioner's access key in this file [default: environment, profile, web identity, instance role]
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// Open the snapshot with the age identities in FILE; may be repeated [default: identity_files of the configuration]
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Vec<PathBuf>,
}

impl IdentityArgs {
    /// Returns the files on the command line, or else those of the configuration.
    pub(crate) fn or<'a>(&'a self, config: &'a ReaderConfig) -> &'a [PathBuf] {
        if self.identity.is_empty() { &config.identity_files } else { &self.identity }
    }
}

fn provider() -> impl TypedValueParser<Value = Provider> {
    PossibleValuesParser::new(Provider::NAMES.map(|(name, _)| name))
        .try_map(|name| name.parse::<Provider>())
}

fn jobs(text: &str) -> Result<usize, String> {
    let jobs = text.parse().ok().filter(|jobs| (1..=defaults::JOBS_MAX).contains(jobs));
    jobs.ok_or_else(|| format!("give 1 to {}", defaults::JOBS_MAX))
}

/// Reads an instant: RFC 3339, as in `2026-11-21T10:15:00Z`.
fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    let parsed = DateTime::parse_from_rfc3339(text);
    parsed.map(|at| at.to_utc()).map_err(|_| "give a time like 2026-11-21T10:15:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn identities_may_be_repeated() {
        let args =
            ["stonekeep", "fetch", "latest", "--out", "d", "--identity", "a", "--identity", "b"];
        let Ok(Cli { command: Command::Fetch(fetch), .. }) = Cli::try_parse_from(args) else {
            panic!("parses")
        };
        assert_eq!(fetch.identities.identity, [PathBuf::from("a"), PathBuf::from("b")]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for args in [
            &["fetch", "latest", "--out", "d", "--sealed", "--identity", "a"][..],
            &["restore", "latest"],
            &["restore", "latest", "--target", "postgres:///x", "--jobs", "0"],
            &["restore", "latest", "--target", "postgres:///x", "--jobs", "65"],
            &["extend", "latest"],
            &["extend", "--for", "30"],
            &["drill", "--random", "0"],
            &["drill", "latest", "--random", "3"],
            &["drill", "--server", "postgres:///x", "--scratch-dir", "d"],
            &["verify-report"],
            &["policy"],
            &["policy", "--daemon-config", "f"],
            &["policy", "--daemon-config", "f", "--provider", "gcs"],
        ] {
            assert!(Cli::try_parse_from(["stonekeep"].iter().chain(args)).is_err(), "{args:?}");
        }
    }
}
