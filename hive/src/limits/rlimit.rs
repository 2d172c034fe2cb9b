//! Limits of single processes (getrlimit(2)), for memory where no group can be made and for open files everywhere.
//!
//! RLIMIT_DATA is the one that counts what a worker allocates and not the model file that it may map: RLIMIT_AS counts
//! both, and RLIMIT_RSS does nothing.

use std::io;

use rbee_schema::Limits;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// Limits the memory of a process and of what it starts from now on.
pub(super) fn limit_memory(pid: u32, bytes: u64) -> io::Result<()> {
    set(pid, Resource::Data, bytes)
}

/// Limits how many files a process may have open.
pub(super) fn limit_open_files(pid: u32, files: u32) -> io::Result<()> {
    set(pid, Resource::Nofile, files.into())
}

fn set(pid: u32, resource: Resource, value: u64) -> io::Result<()> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // No number would mean ourselves.
    let number = number.ok_or_else(|| io::Error::other(format!("{pid} is not the number of a process")))?;
    prlimit(Some(number), resource, Rlimit { current: Some(value), maximum: Some(value) })?;
    Ok(())
}

/// These limits, as far as a hive may set them: a process gets no more open files than the hive could have itself.
pub(super) fn possible(limits: &Limits) -> Limits {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let open_files = limits.open_files.map(|files| files.min(u32::try_from(most).unwrap_or(u32::MAX)));
    Limits { open_files, ..*limits }
}

/// Whether the last words of a worker are those of a Rust program that the kernel gave no memory.
pub(crate) fn looks_like_oom(tail: &[String]) -> bool {
    tail.iter().any(|line| line.contains("memory allocation of ") && line.contains(" bytes failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_allocation_is_known_by_its_last_words() {
        let tail = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert!(looks_like_oom(&tail(&["loading", "memory allocation of 67108864 bytes failed", ""])));
        assert!(!looks_like_oom(&tail(&["memory allocation of the model went well", "3 bytes failed the check"])));
        assert!(!looks_like_oom(&[]));
    }

    #[test]
    fn the_number_of_no_process_limits_nobody() {
        let before = getrlimit(Resource::Data);
        assert!(limit_memory(0, 1 << 20).is_err() && limit_memory(u32::MAX, 1 << 20).is_err());
        assert_eq!(getrlimit(Resource::Data), before);
    }
}
