//! What keeps one run of a worker within its limits, and what remains of it when it has ended.

use std::{io, time::Duration};

use rbee_schema::{EffectiveLimits, LimitMethod, Limits};

use super::{group::Group, kill::wait_until_gone, rlimit};

/// The groups of one run of a worker. They stay until [`remove`](Self::remove): the hive may be started again.
#[derive(Debug, Clone)]
pub(crate) struct Cage {
    groups: Vec<Group>,
    by: LimitMethod,
    /// What can be limited of what was asked for.
    limits: Limits,
    /// What the counter said before the worker came, where the group is used again.
    oom_kills_before: u64,
}

impl Cage {
    pub(super) fn new(groups: Vec<Group>, by: LimitMethod, limits: &Limits) -> Self {
        let mut limits = rlimit::possible(limits);
        if !groups.iter().any(Group::limits_cpu) {
            limits.cpu_millis = None;
        }
        Self { groups, by, limits, oom_kills_before: 0 }
    }

    /// The same for a worker that is still to come.
    pub(super) fn counting_from_now(self) -> Self {
        Self { oom_kills_before: self.oom_kills().unwrap_or(0), ..self }
    }

    /// Puts a process in, with what it starts from now on. To be called right after its start.
    ///
    /// # Errors
    /// When the process is gone, or one of its limits cannot be set; it must not run then.
    pub(crate) fn admit(&self, pid: u32) -> io::Result<()> {
        for group in &self.groups {
            group.admit(pid)?;
        }
        if let (LimitMethod::RlimitData, Some(memory)) = (self.by, self.limits.memory) {
            rlimit::limit_memory(pid, memory.bytes())?;
        }
        self.limits.open_files.map_or(Ok(()), |files| rlimit::limit_open_files(pid, files))
    }

    /// What is limited, and by whom; `None` where nothing is.
    pub(crate) fn in_force(&self) -> Option<EffectiveLimits> {
        (!self.limits.is_none()).then_some(EffectiveLimits { limits: self.limits, method: self.by })
    }

    /// How often the kernel ended a process of this run for want of memory. `None` where no group counts: there, the
    /// last words are what is left to go by ([`looks_like_oom`](super::looks_like_oom)).
    ///
    /// The number is there by the time that the exit is known.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let counted = self.groups.iter().find_map(Group::oom_kills);
        counted.map(|kills| kills.saturating_sub(self.oom_kills_before))
    }

    /// Who is in it; nobody where there is no group.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.groups.iter().flat_map(Group::pids).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// SIGKILL to everybody in it, wherever in the tree of processes they are. Returns whom, and does not wait for
    /// their end.
    pub(crate) fn kill_all(&self) -> Vec<u32> {
        let mut killed: Vec<u32> = self.groups.iter().flat_map(Group::kill).collect();
        killed.sort_unstable();
        killed.dedup();
        killed
    }

    /// Waits until nobody is in it. Whether nobody is. Blocks its thread.
    pub(crate) fn is_empty_within(&self, time: Duration) -> bool {
        wait_until_gone(|| self.pids(), time)
    }

    /// Removes the groups. Once more does no harm.
    ///
    /// # Errors
    /// When somebody is still in one of them: those that were killed take a moment. It can be tried again later.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.groups.iter().map(Group::remove).fold(Ok(()), io::Result::and)
    }
}
