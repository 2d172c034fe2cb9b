//! What may be used on this machine, and the cages that are made with it.

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

/// How long killed leftovers may take to be gone. The kernel frees their memory first: about 65 ms for each GiB.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// What keeps the workers of one hive within their limits.
#[derive(Debug, Clone)]
pub(crate) struct Enforcer {
    /// The folder of this hive's groups, in each tree.
    pub(super) folder: String,
    by: LimitMethod,
    pub(super) trees: Vec<Tree>,
}

impl Enforcer {
    /// Finds out what may be used here, by doing it. `state_id` tells hives of one name apart: they may be on different
    /// buses and know nothing of each other.
    pub(crate) fn detect(hive: &HiveName, state_id: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let enforcer = Self::detect_from(hive, state_id, &read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
        let roles: Vec<Role> = enforcer.trees.iter().map(|tree| tree.role).collect();
        info!(by = enforcer.by.as_str(), ?roles, "workers are kept within their limits");
        enforcer
    }

    /// The same with what `/proc/self/mountinfo` and `/proc/self/cgroup` say.
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

    /// Who limits memory and processor time.
    pub(crate) fn by(&self) -> LimitMethod {
        self.by
    }

    /// Makes the groups for one run of a worker. A group of that name which an earlier hive left is emptied first.
    ///
    /// # Errors
    /// When a group cannot be made or a limit cannot be set; nothing is left of it then.
    pub(crate) fn create(&self, worker: &WorkerName, epoch: u64, limits: &Limits) -> io::Result<WorkerCgroup> {
        let name = group_name(worker, epoch);
        let mut groups: Vec<Group> = Vec::new();
        for tree in &self.trees {
            let made = Group::make(&tree.base, &self.folder, &name, tree.role);
            let set = made.and_then(|group| {
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

    /// The cage of a worker that an earlier run of this hive put there, whose process is `pid`.
    ///
    /// The process is asked where it is, because a hive that is started again may stand in another group itself.
    pub(crate) fn reopen(&self, worker: &WorkerName, epoch: u64, limits: &Limits, pid: u32) -> WorkerCgroup {
        let name = Path::new(&self.folder).join(group_name(worker, epoch));
        let of_process = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let folder = |tree: &Tree| {
            let told = location::path_in(tree.role.hierarchy(), &of_process).filter(|path| path.ends_with(&name));
            told.and_then(|path| tree.location.folder(path)).unwrap_or_else(|| tree.base.join(&name))
        };
        let groups: Vec<Group> =
            self.trees.iter().filter_map(|tree| Group::existing(folder(tree), tree.role)).collect();
        if groups.iter().any(Group::limits_memory) {
            return WorkerCgroup::new(groups, self.by, limits);
        }
        // The earlier run could make no groups. It has set this limit then; once more does no harm.
        if let Some(Err(error)) = limits.memory.map(|memory| rlimit::limit_memory(pid, memory.bytes())) {
            warn!(%worker, pid, %error, "the memory of a worker of an earlier run is not limited");
        }
        WorkerCgroup::new(groups, LimitMethod::RlimitData, limits)
    }

    /// Ends what earlier runs of this hive left in groups whose name ([`group_name`]) is not kept, and removes them.
    /// Returns whom it killed. Waits for their end, at most two seconds for each group.
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
                    Ok(()) => info!(group = group.name(), ?pids, "what an earlier run left was ended"),
                    Err(error) => warn!(%error, "a group of an earlier run cannot be removed"),
                }
                killed.extend(pids);
            }
            // Whoever is kept keeps the folder.
            let _ = fs::remove_dir(tree.base.join(&self.folder));
        }
        killed.sort_unstable();
        killed.dedup();
        killed
    }
}

/// The name of the groups of one run of a worker.
pub(crate) fn group_name(worker: &WorkerName, epoch: u64) -> String {
    format!("{worker}.{epoch}")
}
