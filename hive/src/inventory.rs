//! What the machine has, and what of it is free now.

mod cards;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub(crate) use self::cards::{Card, Cards};
use crate::limits::{Hierarchy, find};

/// What the machine has. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// The memory that there is: the machine's, or what the hive's own group may use where that is less.
    pub(crate) memory_total: u64,
    /// How much of it can be had without swapping.
    pub(crate) memory_available: u64,
    /// The cores that can be used.
    pub(crate) cores: u32,
    /// What may still be written to the disk of the folder that was asked about.
    pub(crate) disk_free: u64,
    /// NVIDIA cards.
    pub(crate) cards: Vec<Card>,
}

impl Inventory {
    /// Looks at the machine, and at the disk of `folder`, which may be a folder that is still to be made.
    ///
    /// # Errors
    /// When the kernel does not tell its memory, or there is no disk under `folder`.
    pub(crate) fn take(folder: &Path, cards: &Cards) -> io::Result<Self> {
        let machine = memory(&fs::read_to_string("/proc/meminfo")?)
            .ok_or_else(|| io::Error::other("/proc/meminfo does not say MemTotal and MemAvailable"))?;
        let (memory_total, memory_available) = bounded(machine, &levels());
        Ok(Self {
            memory_total,
            memory_available,
            cores: std::thread::available_parallelism()
                .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
            disk_free: disk_free(folder)?,
            cards: cards.look(),
        })
    }
}

/// Total and available memory of the machine, from `/proc/meminfo`.
fn memory(meminfo: &str) -> Option<(u64, u64)> {
    let kibibytes = |name| number(meminfo, name, ":");
    Some((kibibytes("MemTotal")? * 1024, kibibytes("MemAvailable")? * 1024))
}

fn number(text: &str, name: &str, separator: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(separator))?;
    value.split_whitespace().next()?.parse().ok()
}

/// A group that we are in, with what it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    limit: u64,
    used: u64,
    /// Files that nobody has looked at lately: they go as soon as memory is wanted.
    reclaimable: u64,
}

/// What is left when each group that we are in has its say.
fn bounded(machine: (u64, u64), levels: &[Level]) -> (u64, u64) {
    levels.iter().fold(machine, |(total, available), level| {
        let left = level.limit.saturating_sub(level.used.saturating_sub(level.reclaimable));
        (total.min(level.limit), available.min(left))
    })
}

/// Our own group and those above it that limit memory, in both versions.
fn levels() -> Vec<Level> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (mounts, groups) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
    let files = [
        (Hierarchy::Unified, ["memory.max", "memory.current"]),
        (Hierarchy::Memory, ["memory.limit_in_bytes", "memory.usage_in_bytes"]),
    ];
    let places = files.into_iter().filter_map(|(hierarchy, files)| Some((find(hierarchy, &mounts, &groups)?, files)));
    places.flat_map(|(place, files)| levels_of(&place.own, &place.mount, files)).collect()
}

fn levels_of(own: &Path, mount: &Path, [limit, used]: [&str; 2]) -> Vec<Level> {
    let above = own.ancestors().take_while(|folder| folder.starts_with(mount));
    let level = |folder: &Path| {
        // `max` is no number, and no limit.
        let read = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok();
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        // In v1 the plain number is that of this group without those below.
        let reclaimable = number(&stat, "total_inactive_file", " ").or_else(|| number(&stat, "inactive_file", " "));
        Some(Level { limit: read(limit)?, used: read(used)?, reclaimable: reclaimable.unwrap_or(0) })
    };
    above.filter_map(level).collect()
}

/// What may be written to the disk that `folder` is on, or will be.
fn disk_free(folder: &Path) -> io::Result<u64> {
    let there = folder.ancestors().find(|folder| folder.exists());
    // A relative name that is not there yet will be made where we are.
    let there = there.filter(|folder| !folder.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let disk = rustix::fs::statvfs(&there)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_says() {
        let meminfo =
            "MemTotal:       24682416 kB\nMemFree:  1 kB\nMemAvailable:   23633820 kB\nHugepagesize: 2048 kB\n";
        assert_eq!(memory(meminfo), Some((24_682_416 * 1024, 23_633_820 * 1024)));
        assert_eq!(memory("MemTotal: 1 kB\n"), None);
        assert_eq!(memory("MemTotal: much\nMemAvailable: 1 kB\n"), None);
    }

    #[test]
    fn the_tightest_group_bounds_what_there_is() {
        let level = |limit, used, reclaimable| Level { limit, used, reclaimable };
        for (levels, expected) in [
            (&[][..], (1000, 800)),
            (&[level(u64::MAX, 900, 0)], (1000, 800)),
            (&[level(500, 100, 0)], (500, 400)),
            // Old files in memory go when memory is wanted.
            (&[level(500, 400, 300)], (500, 400)),
            (&[level(500, 100, 0), level(700, 650, 0)], (500, 50)),
            // A limit may be lowered below what is used.
            (&[level(500, 600, 0)], (500, 0)),
        ] {
            assert_eq!(bounded((1000, 800), levels), expected, "{levels:?}");
        }
    }

    #[test]
    fn each_group_up_to_the_mount_is_looked_at() {
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
    fn this_machine_has_something_of_everything() {
        let folder = std::env::temp_dir().join("rbee-not/made/yet");
        let inventory = Inventory::take(&folder, &Cards::open()).expect("looked at");
        assert!(inventory.memory_total > 64 << 20 && inventory.memory_available > 0, "{inventory:?}");
        assert!(inventory.memory_available <= inventory.memory_total, "{inventory:?}");
        assert!(inventory.cores > 0 && inventory.disk_free > 0, "{inventory:?}");
        assert!(disk_free(Path::new("not-made-yet")).expect("here") > 0);
    }
}
