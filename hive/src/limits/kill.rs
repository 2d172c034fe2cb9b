//! Ending the members of a group, each through a descriptor that names it and no later process of the same number.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// Who forks faster than this many looks at the list is left to the next try.
const ROUNDS: usize = 20;

/// SIGKILL to everybody that `members` lists, until nobody is listed that has not had it. Returns whom.
///
/// A process that has the signal forks no more, so nobody has to be waited for.
pub(super) fn kill(members: impl Fn() -> Vec<u32>) -> Vec<u32> {
    let mut killed = BTreeMap::new();
    for _ in 0..ROUNDS {
        let fresh: Vec<_> = held(&members).into_iter().filter(|(pid, _)| !killed.contains_key(pid)).collect();
        if fresh.is_empty() {
            break;
        }
        for (pid, process) in fresh {
            // It may be gone already, which is as good.
            let _ = pidfd_send_signal(&process, Signal::KILL);
            killed.insert(pid, process);
        }
    }
    killed.into_keys().collect()
}

/// Waits until nobody is listed, or until the time is over. Whether nobody is.
pub(super) fn wait_until_gone(members: impl Fn() -> Vec<u32>, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        let held = held(&members);
        let left = deadline.saturating_duration_since(Instant::now());
        if held.is_empty() || left.is_zero() {
            return held.is_empty() && members().is_empty();
        }
        // Such a descriptor can be read from the process's end on; the first of them is reason enough to look again.
        let mut ends: Vec<PollFd<'_>> = held.values().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let left =
            Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        let _ = poll(&mut ends, Some(&left));
    }
}

/// Takes hold of everybody that is listed. Who is listed before and after is the one that we hold.
fn held(members: &impl Fn() -> Vec<u32>) -> BTreeMap<u32, OwnedFd> {
    let open = |pid: u32| pidfd_open(Pid::from_raw(i32::try_from(pid).ok()?)?, PidfdFlags::empty()).ok();
    let mut held: BTreeMap<u32, OwnedFd> = members().into_iter().filter_map(|pid| Some((pid, open(pid)?))).collect();
    let still: Vec<u32> = members();
    held.retain(|pid, _| still.contains(pid));
    held
}
