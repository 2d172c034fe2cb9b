//! Which process it is. A number and a start time are not enough: of 200 processes that were forced to take the number of
//! one that had just ended, 185 had its start time too, which is counted in hundredths of a second.

use std::{fs, io, os::fd::AsFd};

use serde::{Deserialize, Serialize};

/// What tells a process from every other, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Which boot of the machine: `/proc/sys/kernel/random/boot_id`.
    pub(crate) boot: String,
    /// Its number.
    pub(crate) pid: u32,
    /// When it started, in clock ticks after the boot: field 22 of `/proc/PID/stat` (proc(5)).
    pub(crate) started: u64,
    /// The inode of its pidfd: since Linux 6.9 each process has its own; before, all have the same.
    pub(crate) inode: u64,
}

impl Identity {
    /// The identity of the process that `pidfd` names, whose number is `pid`.
    ///
    /// # Errors
    /// When it has ended and was reaped: nothing is known of it then.
    pub(crate) fn of(pid: u32, pidfd: impl AsFd) -> io::Result<Self> {
        let inode = rustix::fs::fstat(&pidfd)?.st_ino;
        let started = started(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
            .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))?;
        Ok(Self { boot: boot()?, pid, started, inode })
    }
}

/// The present boot.
fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Field 22. The second is the program's name in parentheses and may hold anything, parentheses too.
fn started(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_program_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["sh", "a b", "a) 9 (b", ""] {
            assert_eq!(started(&format!("42 ({name}) {rest}")), Some(4711), "{name}");
        }
        assert_eq!(started("42 (sh) S 1"), None);
    }
}
