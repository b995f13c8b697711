//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use stonekeep_format::ids::Label;

/// What each exit code means, for scripts: the numbers of BSD's `sysexits.h`.
const EXIT_CODES: &str = "\
Exit codes:
   0  done (also: skipped, because another run has the database)
  64  the command line is wrong
  65  something is corrupt, foreign or not trusted, or an attack succeeded: look into it now
  69  a server cannot be reached
  70  a bug in stonekeepd
  75  try again later; the same call may succeed (also: stopped by a signal, or prove could not tell)
  77  denied: password, rights
  78  the configuration is wrong (also: no such database, no bucket, no Object Lock, fewer than two recipients)

Of several databases, the greatest code counts. STONEKEEP_LOG sets what is logged, such as STONEKEEP_LOG=debug, and
STONEKEEP_LOG_FORMAT=text or json how: by default text at a terminal, JSON lines elsewhere.";

/// Take snapshots of PostgreSQL into a bucket under Object Lock, from which nobody can delete them before their time.
#[derive(Debug, Parser)]
#[command(name = "stonekeepd", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Read the configuration from FILE [default: the text in STONEKEEP_CONFIG, else /etc/stonekeep/stonekeepd.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print one JSON document on stdout, and events as JSON lines on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run as a service: back each database up on its schedule, until asked to stop
    ///
    /// SIGHUP reads the configuration again. SIGTERM and Ctrl-C end it: runs at work record what they have stored, and the next
    /// start takes them up again. How it is shows on a page at http://127.0.0.1:9620/, or where `[status]` says.
    Run,
    /// Take one snapshot of each database now, one after another
    Backup {
        /// Take only these databases: names from the configuration [default: all]
        #[arg(value_name = "LABEL")]
        labels: Vec<Label>,
        /// Store everything anew, as if nothing of it were there
        #[arg(long)]
        fresh: bool,
        /// Take the snapshots as good although a database shrank: somebody has looked
        #[arg(long)]
        accept_shrink: bool,
    },
    /// Check that backups can be taken: keys, bucket, rights, databases; write nothing
    Check {
        /// Send a test by the webhook and the mail of `[notify]`; pings are not called
        #[arg(long)]
        notify: bool,
    },
    /// Attack the own repositories with the own credential, to see that it can add and nothing else; touches own canaries only
    Prove {
        /// Try also what leaves a few bytes behind for long where the server lets it: a lock beyond the cap, holds
        #[arg(long)]
        lasting: bool,
    },
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
    fn config_and_json_are_taken_before_and_behind_the_command() {
        for args in [
            ["stonekeepd", "--json", "--config=x", "check"],
            ["stonekeepd", "check", "--config=x", "--json"],
        ] {
            let cli = Cli::try_parse_from(args).expect("parses");
            assert!(cli.json && cli.config.is_some_and(|file| file.as_os_str() == "x"));
        }
    }
}
