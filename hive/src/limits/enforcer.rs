//! The ways of limiting workers that this machine allows, and the cgroups created with them.

use std::{fs, io, path::Path, time::Duration};

use rbee_schema::{HiveName, LimitMethod, Limits, WorkerName};
use tracing::{info, warn};

use super::{
    cgroup::WorkerCgroup,
    group::{Group, Role},
    kill::wait_until_gone,
    location::{self, Hierarchy, find},
    rlimit,
    tree::Tree,
};

/// Time for killed processes of an earlier run to disappear. The kernel frees their memory first: about 65 ms for each GiB.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// Creates and removes the cgroups of one hive's workers.
#[derive(Debug, Clone)]
pub(crate) struct Enforcer {
    /// Name of the folder of this hive's groups, in each tree.
    pub(super) folder: String,
    by: LimitMethod,
    pub(super) trees: Vec<Tree>,
}

impl Enforcer {
    /// Finds out what this machine allows, by trying it. `state_id` tells hives of one name apart: they may be on different
    /// buses and know nothing of each other.
    pub(crate) fn detect(hive: &HiveName, state_id: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let enforcer = Self::detect_from(hive, state_id, &read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let roles: Vec<Role> = enforcer.trees.iter().map(|tree| tree.role).collect();
        info!(by = enforcer.by.as_str(), ?roles, "found out how to limit workers");
        enforcer
    }

    /// Like [`detect`](Self::detect), with the contents of `/proc/self/mountinfo` and `/proc/self/cgroup`.
    pub(super) fn detect_from(hive: &HiveName, state_id: &str, mounts: &str, groups: &str) -> Self {
        let folder = format!("rbee-{hive}-{}", state_id.get(..8).unwrap_or(state_id));
        let tree = |hierarchy, role| Tree::probe(find(hierarchy, mounts, groups)?, role, &folder);
        let unified = find(Hierarchy::Unified, mounts, groups).and_then(|place| Tree::unified(place, &folder));
        if let Some(tree) = unified {
            return Self { folder, by: LimitMethod::CgroupV2, trees: vec![tree] };
        }
        let holding = tree(Hierarchy::Unified, Role::Holding);
        let (by, limiting) = match tree(Hierarchy::Memory, Role::Memory) {
            Some(memory) => (LimitMethod::CgroupV1, [Some(memory), tree(Hierarchy::Cpu, Role::Cpu)]),
            None => (LimitMethod::RlimitData, [None, None]),
        };
        Self { by, trees: limiting.into_iter().flatten().chain(holding).collect(), folder }
    }

    /// The method by which memory and CPU time are limited.
    pub(crate) fn by(&self) -> LimitMethod {
        self.by
    }

    /// Creates the groups for one run of a worker. A group of that name which an earlier hive left is emptied first.
    ///
    /// # Errors
    /// When a group cannot be created or a limit cannot be set. Nothing is left of the groups then.
    pub(crate) fn create(&self, worker: &WorkerName, epoch: u64, limits: &Limits) -> io::Result<WorkerCgroup> {
        let name = group_name(worker, epoch);
        let mut groups: Vec<Group> = Vec::new();
        for tree in &self.trees {
            let created = Group::create(&tree.base, &self.folder, &name, tree.role);
            let set = created.and_then(|group| {
                groups.push(group.clone());
                group.set(limits)
            });
            if let Err(error) = set {
                for group in &groups {
                    let _ = group.remove();
                }
                return Err(error);
            }
        }
        Ok(WorkerCgroup::new(groups, self.by, limits).counting_from_now())
    }

    /// The cgroup of a worker that an earlier run of this hive started, whose process is `pid`.
    ///
    /// The kernel is asked where that process is, because the restarted hive may be in another group itself.
    pub(crate) fn reopen(&self, worker: &WorkerName, epoch: u64, limits: &Limits, pid: u32) -> WorkerCgroup {
        let name = Path::new(&self.folder).join(group_name(worker, epoch));
        let of_process = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let folder = |tree: &Tree| {
            let current = location::path_in(tree.role.hierarchy(), &of_process).filter(|path| path.ends_with(&name));
            current.and_then(|path| tree.location.folder(path)).unwrap_or_else(|| tree.base.join(&name))
        };
        let groups: Vec<Group> =
            self.trees.iter().filter_map(|tree| Group::existing(folder(tree), tree.role)).collect();
        if groups.iter().any(Group::limits_memory) {
            return WorkerCgroup::new(groups, self.by, limits);
        }
        // The earlier run could create no groups and has set this limit; repeating it does no harm.
        if let Some(Err(error)) = limits.memory.map(|memory| rlimit::limit_memory(pid, memory.bytes())) {
            warn!(%worker, pid, %error, "failed to limit the memory of an adopted worker");
        }
        WorkerCgroup::new(groups, LimitMethod::RlimitData, limits)
    }

    /// Kills the processes of groups that earlier runs of this hive left, and removes the groups, except those whose name
    /// ([`group_name`]) is kept. Returns the numbers of the killed processes. Waits at most two seconds for each group.
    pub(crate) fn sweep(&self, keep: impl Fn(&str) -> bool) -> Vec<u32> {
        let mut killed = Vec::new();
        for tree in &self.trees {
            for group in tree.groups(&self.folder) {
                if keep(group.name()) {
                    continue;
                }
                let pids = group.kill();
                if !wait_until_gone(|| group.pids(), GONE_WITHIN) {
                    warn!(group = group.name(), "killed processes of an earlier run are still there");
                }
                match group.remove() {
                    Ok(()) => info!(group = group.name(), ?pids, "killed the processes of an earlier run"),
                    Err(error) => warn!(%error, "failed to remove a cgroup of an earlier run"),
                }
                killed.extend(pids);
            }
            // The folder stays while a kept group is in it.
            let _ = fs::remove_dir(tree.base.join(&self.folder));
        }
        killed.sort_unstable();
        killed.dedup();
        killed
    }
}

/// Name of the groups of one run of a worker.
pub(crate) fn group_name(worker: &WorkerName, epoch: u64) -> String {
    format!("{worker}.{epoch}")
}
