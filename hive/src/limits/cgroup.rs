//! The cgroups of one run of a worker.

use std::{io, time::Duration};

use rbee_schema::{EffectiveLimits, LimitMethod, Limits};

use super::{group::Group, kill::wait_until_gone, rlimit};

/// Holds one run of a worker within its limits. The groups stay until [`remove`](Self::remove), because the hive may be
/// restarted meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct WorkerCgroup {
    groups: Vec<Group>,
    by: LimitMethod,
    /// The requested limits that can be set on this machine.
    limits: Limits,
    /// Out-of-memory kills that the kernel had counted before this run, where a group is used again.
    oom_kills_before: u64,
}

impl WorkerCgroup {
    pub(super) fn new(groups: Vec<Group>, by: LimitMethod, limits: &Limits) -> Self {
        let mut limits = rlimit::possible(limits);
        if !groups.iter().any(Group::limits_cpu) {
            limits.cpu_millis = None;
        }
        Self { groups, by, limits, oom_kills_before: 0 }
    }

    /// Counts out-of-memory kills from now on.
    pub(super) fn counting_from_now(self) -> Self {
        Self { oom_kills_before: self.oom_kills().unwrap_or(0), ..self }
    }

    /// Moves a process in, with every process it starts from now on. To be called right after its start.
    ///
    /// # Errors
    /// When the process is gone, or one of its limits cannot be set. The process must not run then.
    pub(crate) fn admit(&self, pid: u32) -> io::Result<()> {
        for group in &self.groups {
            group.admit(pid)?;
        }
        if let (LimitMethod::RlimitData, Some(memory)) = (self.by, self.limits.memory) {
            rlimit::limit_memory(pid, memory.bytes())?;
        }
        self.limits.open_files.map_or(Ok(()), |files| rlimit::limit_open_files(pid, files))
    }

    /// The limits in force and what enforces them; `None` where nothing is limited.
    pub(crate) fn in_force(&self) -> Option<EffectiveLimits> {
        (!self.limits.is_none()).then_some(EffectiveLimits { limits: self.limits, method: self.by })
    }

    /// Number of processes of this run that the kernel killed for lack of memory. `None` where no group counts them; the
    /// last output is then all there is to go by ([`looks_like_oom`](super::looks_like_oom)).
    ///
    /// The kernel counts before it reports the exit.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let counted = self.groups.iter().find_map(Group::oom_kills);
        counted.map(|kills| kills.saturating_sub(self.oom_kills_before))
    }

    /// Numbers of the processes inside; empty where there is no group.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.groups.iter().flat_map(Group::pids).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Sends SIGKILL to every process inside, wherever in the process tree it is. Returns their numbers, and does not wait
    /// for their exits.
    pub(crate) fn kill_all(&self) -> Vec<u32> {
        let mut killed: Vec<u32> = self.groups.iter().flat_map(Group::kill).collect();
        killed.sort_unstable();
        killed.dedup();
        killed
    }

    /// Waits until no process is inside, at most for `limit`. Returns whether none is. Blocks its thread.
    pub(crate) fn is_empty_within(&self, limit: Duration) -> bool {
        wait_until_gone(|| self.pids(), limit)
    }

    /// Removes the groups. Repeating it does no harm.
    ///
    /// # Errors
    /// When a process is still inside: killed processes take a moment to disappear. It can be tried again later.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.groups.iter().map(Group::remove).fold(Ok(()), io::Result::and)
    }
}
