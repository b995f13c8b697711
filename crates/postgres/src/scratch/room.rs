//! How much disk and memory there is for a scratch server.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{fs::statvfs, system::sysinfo};

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Free to this user in the file system of the directory.
    pub disk_bytes: u64,
    /// Memory that programs can get without swapping: what the machine has, or less where a control group limits it.
    pub memory_bytes: u64,
}

/// Returns the room in `dir`. Where `/proc/meminfo` is hidden (a unit's `ProcSubset=pid`), all of the machine's memory counts as
/// free; such a unit has a limit of its own.
///
/// # Errors
/// When `dir` cannot be looked at.
pub fn room(dir: &Path) -> io::Result<Room> {
    let disk = statvfs(dir)?;
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text));
    let machine = machine.unwrap_or_else(total);
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| path_of(&text));
    let limit = group.and_then(|path| below_limits(Path::new("/sys/fs/cgroup"), &path));
    Ok(Room {
        disk_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        memory_bytes: limit.map_or(machine, |limit| limit.min(machine)),
    })
}

/// `MemAvailable` of `/proc/meminfo` (`proc(5)`), which is in KiB.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

fn total() -> u64 {
    let info = sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram)
}

/// The own group below the root of the hierarchy, of version 2: the line `0::PATH` (`cgroups(7)`).
fn path_of(cgroup: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from(path))
}

/// What is left below the lowest limit of the group and those above it; none if nothing limits it.
fn below_limits(root: &Path, group: &Path) -> Option<u64> {
    group.ancestors().filter_map(|group| left_in(&root.join(group))).min()
}

/// What a group may still take. Pages of files that can be thrown away count as free, as Kubernetes counts them, too.
fn left_in(group: &Path) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        fs::read_to_string(group.join(name)).ok()?.trim().parse().ok()
    };
    let (limit, current) = (number("memory.max")?, number("memory.current")?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse().ok());
    Some(limit.saturating_sub(current.saturating_sub(cached.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        let meminfo = "MemTotal:       16384 kB\nMemFree:  1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available(meminfo), Some(2 << 20));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(path_of("0::/system.slice/a.service\n"), Some("system.slice/a.service".into()));
        assert_eq!(path_of("1:memory:/a\n"), None, "version 1");
    }

    #[test]
    fn the_lowest_limit_above_counts_and_cache_is_free() {
        let root = tempfile::tempdir().expect("a directory");
        let group = |name: &str, files: &[(&str, &str)]| {
            let path = root.path().join(name);
            fs::create_dir_all(&path).expect("made");
            files
                .iter()
                .for_each(|(file, text)| fs::write(path.join(file), text).expect("written"));
        };
        group("a/b", &[("memory.max", "max\n"), ("memory.current", "9\n")]);
        assert_eq!(below_limits(root.path(), Path::new("a/b")), None);
        group("a", &[("memory.max", "100\n"), ("memory.current", "50\n")]);
        assert_eq!(below_limits(root.path(), Path::new("a/b")), Some(50));
        group("a", &[("memory.stat", "anon 20\ninactive_file 30\n")]);
        assert_eq!(below_limits(root.path(), Path::new("a/b")), Some(80));
        group("a/b", &[("memory.max", "10\n")]);
        assert_eq!(below_limits(root.path(), Path::new("a/b")), Some(1));
    }

    #[test]
    fn there_is_some_room_here_and_none_nowhere() {
        let room = room(Path::new("/")).expect("there");
        assert!(room.memory_bytes > 0);
        assert!(super::room(Path::new("/no/such/directory")).is_err());
    }
}
