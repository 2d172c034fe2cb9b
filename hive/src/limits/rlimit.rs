//! Limits of single processes (getrlimit(2)): memory where no cgroup can be created, and open files everywhere.
//!
//! RLIMIT_DATA counts what a worker allocates and not the model file that it maps. RLIMIT_AS counts both, and RLIMIT_RSS has
//! no effect. `nix` sets only the limits of the calling process, so prlimit(2) is `rustix`'s.

use std::io;

use nix::sys::resource::getrlimit;
use rbee_schema::Limits;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Limits the memory of a process and of what it starts from now on.
pub(super) fn limit_memory(pid: u32, bytes: u64) -> io::Result<()> {
    set(pid, Resource::Data, bytes)
}

/// Limits the number of files that a process may have open.
pub(super) fn limit_open_files(pid: u32, files: u32) -> io::Result<()> {
    set(pid, Resource::Nofile, files.into())
}

fn set(pid: u32, resource: Resource, value: u64) -> io::Result<()> {
    // The number 0 would mean this process.
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let number = number.ok_or_else(|| io::Error::other(format!("{pid} is not the number of a process")))?;
    prlimit(Some(number), resource, Rlimit { current: Some(value), maximum: Some(value) })?;
    Ok(())
}

/// These limits as far as a hive may set them: a process gets no more open files than the hive could have itself.
pub(super) fn possible(limits: &Limits) -> Limits {
    let maximum = most_open_files();
    let open_files = limits.open_files.map(|files| files.min(u32::try_from(maximum).unwrap_or(u32::MAX)));
    Limits { open_files, ..*limits }
}

/// Hard limit of this process for open files.
pub(super) fn most_open_files() -> u64 {
    getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard)
}

/// True where the last output of a worker is that of a Rust program to which the kernel gave no memory.
pub(crate) fn looks_like_oom(tail: &[String]) -> bool {
    tail.iter().any(|line| line.contains("memory allocation of ") && line.contains(" bytes failed"))
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::Resource;

    use super::*;

    #[test]
    fn failed_allocation_is_recognized_by_its_output() {
        let tail = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert!(looks_like_oom(&tail(&["loading", "memory allocation of 67108864 bytes failed", ""])));
        assert!(!looks_like_oom(&tail(&["memory allocation of the model went well", "3 bytes failed the check"])));
        assert!(!looks_like_oom(&[]));
    }

    #[test]
    fn number_of_no_process_limits_nothing() {
        let before = getrlimit(Resource::RLIMIT_DATA).expect("readable");
        assert!(limit_memory(0, 1 << 20).is_err() && limit_memory(u32::MAX, 1 << 20).is_err());
        assert_eq!(getrlimit(Resource::RLIMIT_DATA).expect("readable"), before);
    }
}
