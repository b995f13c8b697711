//! The settings of a scratch server: quick, small enough for the machine, and reached by nobody else.

use std::{collections::BTreeMap, path::Path};

use super::{ScratchError, ScratchOptions, room};

const MIB: u64 = 1 << 20;
/// What the write-ahead log may take of the disk beside the data (`max_wal_size`, 1 GiB, PostgreSQL's default): a checkpoint costs
/// little where nothing is synced, and the room for the log must be there besides that for the data.
pub const WAL_BYTES_MAX: u64 = 1 << 30;
/// What the buffers take of the memory that is there: an eighth. PostgreSQL's documentation says a quarter for a machine that does
/// nothing else; here the restore runs beside it, and the file system's cache serves as well.
const BUFFERS_PART: u64 = 8;
/// At least 32 MiB, at most 1 GiB: the file system's cache serves for the rest.
const BUFFERS_BYTES: (u64, u64) = (32 * MIB, 1024 * MIB);
/// What all index builds together take: another eighth.
const MAINTENANCE_PART: u64 = 8;
/// Each at least 64 MiB, which is the default, and at most 1 GiB.
const MAINTENANCE_BYTES: (u64, u64) = (64 * MIB, 1024 * MIB);
/// Taken for the memory that is there if nothing tells: with it, the settings are PostgreSQL's defaults.
const MEMORY_BYTES_UNKNOWN: u64 = 1024 * MIB;
/// Connections: PostgreSQL's default, and two more for each job (the one that loads and the one that compares).
const CONNECTIONS: usize = 100;
/// Locks in one transaction, per connection: four times the default, for tables with hundreds of partitions. It takes 7 MB.
const LOCKS: u32 = 256;

/// What is the same for every scratch server.
const SAME: &[(&str, &str)] = &[
    // Nobody reaches it, and it reaches nobody.
    ("listen_addresses", ""),
    ("port", "5432"),
    ("unix_socket_permissions", "0700"),
    ("bonjour", "off"),
    ("max_wal_senders", "0"),
    ("max_logical_replication_workers", "0"),
    ("archive_mode", "off"),
    // What is lost in a crash is restored again.
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("wal_level", "minimal"),
    ("restart_after_crash", "off"),
    ("checkpoint_timeout", "1h"),
    // The restore has ANALYZE done at its end; vacuum has nothing to do.
    ("autovacuum", "off"),
    // Compiled code is refused under the unit's MemoryDenyWriteExecute=. A database's own settings may turn it on again, so there
    // is no library to compile with, either.
    ("jit", "off"),
    ("jit_provider", "none"),
    // Shared memory is in the directory, so that a kill leaves none elsewhere; reserved pages are other servers'.
    ("dynamic_shared_memory_type", "mmap"),
    ("shared_memory_type", "mmap"),
    ("huge_pages", "off"),
    // The log takes no statement and no row.
    ("logging_collector", "off"),
    ("log_destination", "stderr"),
    ("log_statement", "none"),
    ("log_min_error_statement", "panic"),
    ("log_error_verbosity", "terse"),
    ("log_line_prefix", ""),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    ("cluster_name", "stonekeep_drill"),
];

/// What an operator cannot set: where the server is, who reaches it, what it reaches, what its log takes.
const OURS: &[&str] = &[
    "archive_cleanup_command",
    "archive_command",
    "archive_library",
    "archive_mode",
    "bonjour",
    "config_file",
    "data_directory",
    "dynamic_shared_memory_type",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "listen_addresses",
    "log_destination",
    "log_error_verbosity",
    "log_min_error_statement",
    "log_statement",
    "logging_collector",
    "max_logical_replication_workers",
    "max_wal_senders",
    "port",
    "primary_conninfo",
    "recovery_end_command",
    "restore_command",
    "shared_memory_type",
    "unix_socket_directories",
    "unix_socket_group",
    "unix_socket_permissions",
    "wal_level",
];

/// Returns the settings of the server in `path`, each as `name=value`, for its command line.
///
/// # Errors
/// [`ScratchError::Setting`] for an operator's setting that cannot be.
pub(super) fn settings(path: &Path, options: &ScratchOptions) -> Result<Vec<String>, ScratchError> {
    let memory = room(path).map_or(MEMORY_BYTES_UNKNOWN, |room| room.memory_bytes);
    let mut settings = sized(memory, options.jobs);
    settings.extend(SAME.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    settings.insert("unix_socket_directories".to_owned(), quoted(path));
    for (name, value) in &options.settings {
        settings.insert(checked(name, value)?, value.clone());
    }
    Ok(settings.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn sized(memory_bytes: u64, jobs: usize) -> BTreeMap<String, String> {
    let jobs = jobs.max(1);
    let within =
        |bytes: u64, (least, most): (u64, u64)| format!("{}MB", bytes.clamp(least, most) / MIB);
    let each = memory_bytes / MAINTENANCE_PART / (jobs as u64);
    [
        ("shared_buffers", within(memory_bytes / BUFFERS_PART, BUFFERS_BYTES)),
        ("maintenance_work_mem", within(each, MAINTENANCE_BYTES)),
        ("max_connections", (CONNECTIONS + 2 * jobs).to_string()),
        ("max_locks_per_transaction", LOCKS.to_string()),
        ("max_wal_size", format!("{}MB", WAL_BYTES_MAX / MIB)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// An element of a list of directories.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('"', "\"\""))
}

/// An operator's setting as PostgreSQL writes its name, if it can be given.
fn checked(name: &str, value: &str) -> Result<String, ScratchError> {
    let refused = |why| Err(ScratchError::Setting { name: name.chars().take(80).collect(), why });
    let is_word = |part: &str| {
        let mut bytes = part.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let lower = name.to_ascii_lowercase();
    if !name.split('.').all(is_word) {
        refused("is no name of a setting: letters, digits, _ and a dot")
    } else if OURS.contains(&lower.as_str()) {
        refused(
            "is not the operator's: it says where the server is, who reaches it, or what it logs",
        )
    } else if value.contains('\0') {
        refused("has a value that no program takes")
    } else {
        Ok(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(settings: &[(&str, &str)], jobs: usize) -> Result<Vec<String>, ScratchError> {
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let options = ScratchOptions {
            tools: crate::tools::ToolDirs::default(),
            major: 15,
            dir: "/nowhere".into(),
            jobs,
            settings: settings.collect(),
        };
        super::settings(Path::new("/no \"where\""), &options)
    }

    #[test]
    fn an_operators_setting_takes_the_place_of_ours_whatever_its_case() {
        let settings = with(&[("TimeZone", "Asia/Kolkata"), ("auto_explain.log_nested", "on")], 2);
        let settings = settings.expect("settings");
        assert!(settings.contains(&"timezone=Asia/Kolkata".to_owned()), "{settings:?}");
        assert!(!settings.contains(&"timezone=UTC".to_owned()));
        assert!(settings.contains(&"auto_explain.log_nested=on".to_owned()));
        assert!(settings.contains(&"unix_socket_directories=\"/no \"\"where\"\"\"".to_owned()));
    }

    #[test]
    fn a_setting_that_opens_the_server_or_is_none_is_refused_by_its_name() {
        for name in [
            "listen_addresses",
            "Listen_Addresses",
            "archive_command",
            "",
            "a b",
            "a=b",
            "-c",
            "a..b",
            "1a",
        ] {
            let refused = with(&[(name, "x")], 1);
            assert!(
                matches!(&refused, Err(ScratchError::Setting { name: named, .. }) if named == name),
                "{name}: {refused:?}"
            );
        }
    }

    #[test]
    fn everything_that_is_not_the_operators_is_set_or_has_no_effect_by_default() {
        let settings = with(&[], 1).expect("settings");
        let set =
            |name: &str| settings.iter().any(|setting| setting.starts_with(&format!("{name}=")));
        // Empty by default, or without effect once the others are as they are.
        let without = [
            "archive_cleanup_command",
            "archive_command",
            "archive_library",
            "config_file",
            "data_directory",
            "external_pid_file",
            "hba_file",
            "ident_file",
            "primary_conninfo",
            "recovery_end_command",
            "restore_command",
            "unix_socket_group",
        ];
        let open: Vec<_> =
            OURS.iter().filter(|name| !set(name) && !without.contains(name)).collect();
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn memory_is_shared_out_within_limits() {
        let of = |memory_bytes, jobs| {
            let sized = sized(memory_bytes, jobs);
            (sized["shared_buffers"].clone(), sized["maintenance_work_mem"].clone())
        };
        assert_eq!(of(5 << 30, 2), ("640MB".to_owned(), "320MB".to_owned()));
        assert_eq!(of(64 << 20, 8), ("32MB".to_owned(), "64MB".to_owned()));
        assert_eq!(of(1 << 40, 1), ("1024MB".to_owned(), "1024MB".to_owned()));
    }
}
