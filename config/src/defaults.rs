//! Every default and limit of the configuration, with where its number comes from.

use std::{path::PathBuf, time::Duration};

/// Where `stonekeepd` looks for its configuration.
pub const DAEMON_FILE: &str = "/etc/stonekeep/stonekeepd.toml";
/// Where `stonekeep` looks for its configuration.
pub const READER_FILE: &str = "/etc/stonekeep/stonekeep.toml";
/// Where the units take their credentials from, by `LoadCredential=`.
pub const CREDENTIALS_DIR: &str = "/etc/stonekeep/credentials";
/// Where the daemon keeps what it may not read back from the bucket: systemd's `StateDirectory=stonekeep`.
pub const STATE_DIR: &str = "/var/lib/stonekeep";
/// Plaintext and ciphertext in memory at the same time, in bytes (160 MiB): four workers with one 16 MiB slice each, sealed
/// and unsealed, and one more of each on its way. Memory stays under 256 MiB with it, whatever the size of the database.
pub const MEMORY_BUDGET_BYTES: u64 = 160 << 20;
/// The least budget, in bytes (64 MiB): two slices of 16 MiB, sealed and unsealed, so that reading and storing overlap.
pub const MEMORY_BUDGET_BYTES_MIN: u64 = 64 << 20;
/// zstd's own default level (3): 200 MiB/s on one core; level 6 costs three times the CPU for some 5 % fewer bytes.
pub const COMPRESSION_LEVEL: i32 = 3;
/// zstd's levels without the ones that need much memory (20 to 22).
pub const COMPRESSION_LEVEL_MAX: i32 = 19;
/// Connections that copy at the same time (4): more than a small server's cores, fewer than anyone's connection limit.
pub const JOBS: usize = 4;
/// The most connections one run may take (64), of PostgreSQL's default `max_connections` of 100.
pub const JOBS_MAX: usize = 64;
/// How long a run may hold up somebody's waiting DDL (60 s): below the lock and statement timeouts that migration tools and
/// poolers are usually given.
pub const DDL_WAIT_MAX: Duration = Duration::from_secs(60);
/// The shortest `ddl_wait_max` (1 s): PostgreSQL's own deadlock check runs after one second, and below it every run would fail.
pub const DDL_WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest `ddl_wait_max` (1 h). Production is held up for so long; more is a mistake in the unit.
pub const DDL_WAIT_LIMIT: Duration = Duration::from_secs(3_600);
/// Databases that the service backs up at the same time (1): production then serves one reader, and memory holds one budget.
pub const PARALLEL: usize = 1;
/// The most of them (16): each needs [`MEMORY_BUDGET_BYTES_MIN`], and the bucket's line is one.
pub const PARALLEL_MAX: usize = 16;
/// The longest jitter (1 h): the shortest tier period.
pub const JITTER_MAX: Duration = Duration::from_secs(3_600);
/// How long a run may go without getting on (30 min): a slice, the largest step there is, takes seconds, and retries of the
/// bucket some minutes.
pub const STALL_MAX: Duration = Duration::from_secs(1_800);
/// The shortest `stall_max` (1 min): a slow bucket alone may take as long for one answer.
pub const STALL_MIN: Duration = Duration::from_secs(60);
/// The longest `stall_max` (24 h): no run is longer.
pub const STALL_LIMIT: Duration = Duration::from_secs(86_400);
/// The shortest `rto_max` and `timeout` of a drill (1 s): below it nothing ends.
pub const DRILL_WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest `rto_max` (30 d): longer nobody waits for a database.
pub const RTO_LIMIT: Duration = Duration::from_secs(30 * 86_400);
/// By how many percent a database may shrink before its snapshot is suspicious (50): ordinary clean-ups take less, a dropped
/// schema or a truncated database more.
pub const SHRINK_PERCENT_MAX: u8 = 50;
/// The shortest keep (1 h): the shortest tier period.
pub const KEEP_MIN: Duration = Duration::from_secs(3_600);
/// The least age at which a watcher calls a snapshot too old (5 min): no schedule is closer, and clocks may differ by as much.
pub const AGE_MIN: Duration = Duration::from_secs(300);
/// After how long a failure that lasts is told again (24 h): once a working day, so that it is not forgotten.
pub const NOTIFY_REPEAT: Duration = Duration::from_secs(86_400);
/// The shortest `repeat` (5 min): no schedule is closer than a few minutes, and more often nobody reads it.
pub const NOTIFY_REPEAT_MIN: Duration = Duration::from_secs(300);
/// The longest `repeat` (30 d). Who wants to hear of it once looks away for a month at most.
pub const NOTIFY_REPEAT_MAX: Duration = Duration::from_secs(30 * 86_400);
/// The longest keep (70 years of 365 days). Locks must end before 2100 besides, which is checked when one is computed.
pub const KEEP_MAX: Duration = Duration::from_secs(70 * 365 * 86_400);
/// The longest configuration file, in bytes (1 MiB): thousands of databases.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// The longest secret file, in bytes (1 MiB): keys and passwords have a few hundred.
pub const SECRET_BYTES_MAX: u64 = 1 << 20;
/// The longest prefix in a bucket, in bytes (100): S3 takes keys of 1024, and ours use at most 900.
pub const PREFIX_BYTES_MAX: usize = 100;
/// What is logged unless `STONEKEEP_LOG` says otherwise: our own lines, and other crates' warnings.
pub const LOG_FILTER: &str = "warn,stonekeep=info,stonekeepd=info,stonekeep_engine=info,stonekeep_postgres=info,stonekeep_store=info";

pub(crate) fn state_dir() -> PathBuf {
    PathBuf::from(STATE_DIR)
}
pub(crate) const fn memory_budget_bytes() -> u64 {
    MEMORY_BUDGET_BYTES
}
pub(crate) const fn compression_level() -> i32 {
    COMPRESSION_LEVEL
}
pub(crate) const fn jobs() -> usize {
    JOBS
}
pub(crate) const fn ddl_wait_max() -> Duration {
    DDL_WAIT_MAX
}
pub(crate) const fn time_zone() -> chrono_tz::Tz {
    chrono_tz::UTC
}
pub(crate) const fn shrink_percent_max() -> u8 {
    SHRINK_PERCENT_MAX
}
