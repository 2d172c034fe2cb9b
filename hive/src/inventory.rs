//! Inventory of the machine: what it has, and what of it is free now.

mod gpus;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;

use self::gpus::Gpu;
pub(crate) use self::gpus::Gpus;
use crate::limits::{Hierarchy, find};

/// Memory, cores, disk and GPUs of the machine. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// Total memory: the machine's, or the limit of the hive's own cgroup where that is lower.
    pub(crate) memory_total: u64,
    /// Memory that can be used without swapping.
    pub(crate) memory_available: u64,
    /// Number of cores that can be used.
    pub(crate) cores: u32,
    /// Free space on the disk of the inspected folder.
    pub(crate) disk_free: u64,
    gpus: Vec<Gpu>,
}

impl Inventory {
    /// Inspects the machine. `disk_free` was measured before, because a stalled disk answers late or never.
    ///
    /// # Errors
    /// When the kernel does not report its memory.
    pub(crate) fn take(disk_free: u64, gpus: &Gpus) -> io::Result<Self> {
        let machine = memory(&fs::read_to_string("/proc/meminfo")?)
            .ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal or no MemAvailable"))?;
        let (memory_total, memory_available) = bounded(machine, &levels());
        Ok(Self {
            memory_total,
            memory_available,
            cores: std::thread::available_parallelism()
                .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
            disk_free,
            gpus: gpus.inspect(),
        })
    }

    /// Free memory of the GPU that has most of it; `None` where no GPU answers.
    pub(crate) fn gpu_free(&self) -> Option<u64> {
        self.gpus.iter().map(|gpu| gpu.free).max()
    }
}

/// Total and available memory of the machine in bytes, from `/proc/meminfo`.
fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let kibibytes = |name| number(meminfo, name, ":");
    Some((kibibytes("MemTotal")? * 1024, kibibytes("MemAvailable")? * 1024))
}

fn number(text: &str, name: &str, separator: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(separator))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Memory limit and use of a cgroup that contains the hive, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    limit: u64,
    used: u64,
    /// Cached files that were not read lately: the kernel drops them as soon as memory is needed.
    reclaimable: u64,
}

/// Total and available memory under the limits of all these cgroups.
fn bounded(machine: (u64, u64), levels: &[Level]) -> (u64, u64) {
    levels.iter().fold(machine, |(total, available), level| {
        let left = level.limit.saturating_sub(level.used.saturating_sub(level.reclaimable));
        (total.min(level.limit), available.min(left))
    })
}

/// The hive's own cgroup and its ancestors, as far as they limit memory, in both versions.
fn levels() -> Vec<Level> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (mounts, groups) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
    let files = [
        (Hierarchy::Unified, ["memory.max", "memory.current"]),
        (Hierarchy::Memory, ["memory.limit_in_bytes", "memory.usage_in_bytes"]),
    ];
    let found = files.into_iter().filter_map(|(hierarchy, files)| Some((find(hierarchy, &mounts, &groups)?, files)));
    found.flat_map(|(location, files)| levels_of(&location.own, &location.mount, files)).collect()
}

fn levels_of(own: &Path, mount: &Path, [limit, used]: [&str; 2]) -> Vec<Level> {
    let ancestors = own.ancestors().take_while(|folder| folder.starts_with(mount));
    let level = |folder: &Path| {
        // `max` does not parse: no limit.
        let read = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok();
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        // In v1 the plain counter leaves out the groups below.
        let reclaimable = number(&stat, "total_inactive_file", " ").or_else(|| number(&stat, "inactive_file", " "));
        Some(Level { limit: read(limit)?, used: read(used)?, reclaimable: reclaimable.unwrap_or(0) })
    };
    ancestors.filter_map(level).collect()
}

/// Free space on the disk that `folder` is on, or will be. Blocks for as long as the disk does.
///
/// # Errors
/// When the disk cannot be inspected.
pub(crate) fn disk_free(folder: &Path) -> io::Result<u64> {
    let existing = folder.ancestors().find(|folder| folder.exists());
    // A relative path that does not exist yet will be created in the current folder.
    let existing =
        existing.filter(|folder| !folder.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let disk = statvfs(&existing)?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        let meminfo =
            "MemTotal:       24682416 kB\nMemFree:  1 kB\nMemAvailable:   23633820 kB\nHugepagesize: 2048 kB\n";
        assert_eq!(memory(meminfo), Some((24_682_416 * 1024, 23_633_820 * 1024)));
        assert_eq!(memory("MemTotal: 1 kB\n"), None);
        assert_eq!(memory("MemTotal: much\nMemAvailable: 1 kB\n"), None);
    }

    #[test]
    fn tightest_cgroup_limits_the_memory() {
        let level = |limit, used, reclaimable| Level { limit, used, reclaimable };
        for (levels, expected) in [
            (&[][..], (1000, 800)),
            (&[level(u64::MAX, 900, 0)], (1000, 800)),
            (&[level(500, 100, 0)], (500, 400)),
            // Cached files are dropped when memory is needed.
            (&[level(500, 400, 300)], (500, 400)),
            (&[level(500, 100, 0), level(700, 650, 0)], (500, 50)),
            // A limit may be lowered below the current use.
            (&[level(500, 600, 0)], (500, 0)),
        ] {
            assert_eq!(bounded((1000, 800), levels), expected, "{levels:?}");
        }
    }

    #[test]
    fn every_cgroup_up_to_the_mount_is_read() {
        let mount = tempfile::tempdir().expect("a folder");
        let own = mount.path().join("service/hive");
        std::fs::create_dir_all(&own).expect("made");
        let write = |folder: &Path, max: &str| {
            let stat = "anon 5\ninactive_file 7\n";
            for (file, text) in [("memory.max", max), ("memory.current", "20\n"), ("memory.stat", stat)] {
                std::fs::write(folder.join(file), text).expect("written");
            }
        };
        write(&own, "max\n");
        write(&mount.path().join("service"), "100\n");
        let found = levels_of(&own, mount.path(), ["memory.max", "memory.current"]);
        assert_eq!(found, [Level { limit: 100, used: 20, reclaimable: 7 }]);
    }

    #[test]
    fn this_machine_has_memory_cores_and_disk() {
        let folder = std::env::temp_dir().join("rbee-not/made/yet");
        let disk_free = disk_free(&folder).expect("inspected");
        let inventory = Inventory::take(disk_free, &Gpus::open()).expect("inspected");
        assert!(inventory.memory_total > 64 << 20 && inventory.memory_available > 0, "{inventory:?}");
        assert!(inventory.memory_available <= inventory.memory_total, "{inventory:?}");
        assert!(inventory.cores > 0 && inventory.disk_free > 0, "{inventory:?}");
        assert!(super::disk_free(Path::new("not-made-yet")).expect("here") > 0);
    }
}
