//! Killing the members of a cgroup, each through a pidfd that names it and no later process of the same number.

use std::{
    collections::BTreeMap,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};

use crate::process::PidFd;

/// Rounds of a kill. A program that forks faster than its list of members can be read this often is left to the next try.
const ROUNDS: usize = 20;

/// Sends SIGKILL to every process that `members` lists, until it lists none that has not been sent it. Returns their
/// numbers.
///
/// A process that has the signal forks no more, so there is no need to wait for its exit.
pub(super) fn kill(members: impl Fn() -> Vec<u32>) -> Vec<u32> {
    let mut killed = BTreeMap::new();
    for _ in 0..ROUNDS {
        let fresh: Vec<_> = opened(&members).into_iter().filter(|(pid, _)| !killed.contains_key(pid)).collect();
        if fresh.is_empty() {
            break;
        }
        for (pid, process) in fresh {
            // An error means that the process has exited already.
            let _ = process.signal(Signal::SIGKILL);
            killed.insert(pid, process);
        }
    }
    killed.into_keys().collect()
}

/// Waits until `members` lists no process, or until the time is over. True where it lists none.
pub(super) fn wait_until_gone(members: impl Fn() -> Vec<u32>, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let opened = opened(&members);
        let left = deadline.saturating_duration_since(Instant::now());
        if opened.is_empty() || left.is_zero() {
            return opened.is_empty() && members().is_empty();
        }
        // A pidfd becomes readable when its process exits. The first exit is reason enough to read the list again.
        let mut exits: Vec<PollFd<'_>> =
            opened.values().map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)).collect();
        let _ = poll(&mut exits, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    }
}

/// Opens every process that is listed. One that is listed before and after is the one that was opened.
fn opened(members: &impl Fn() -> Vec<u32>) -> BTreeMap<u32, PidFd> {
    let mut opened: BTreeMap<u32, PidFd> =
        members().into_iter().filter_map(|pid| Some((pid, PidFd::open(pid).ok()?))).collect();
    let still: Vec<u32> = members();
    opened.retain(|pid, _| still.contains(pid));
    opened
}
