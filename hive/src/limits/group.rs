//! One cgroup: a folder whose files are its settings and its members.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rbee_schema::Limits;
use tracing::debug;

use super::{
    kill::{kill, wait_until_gone},
    location::Hierarchy,
    setting::{named, write},
    v1, v2,
};

/// Time for the killed processes of an old group of the same name to disappear, as in the enforcer's sweep.
const CLEARED_WITHIN: Duration = Duration::from_secs(2);

/// Purpose of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// cgroup v2: limits memory, and CPU time where that controller is there too.
    Unified {
        /// True where the CPU controller is there.
        cpu: bool,
    },
    /// cgroup v2 without controllers: holds processes together.
    Holding,
    /// cgroup v1: limits memory.
    Memory,
    /// cgroup v1: limits CPU time.
    Cpu,
}

impl Role {
    /// Hierarchy of the groups of this role.
    pub(super) fn hierarchy(self) -> Hierarchy {
        match self {
            Self::Unified { .. } | Self::Holding => Hierarchy::Unified,
            Self::Memory => Hierarchy::Memory,
            Self::Cpu => Hierarchy::Cpu,
        }
    }
}

/// A group that this hive created.
#[derive(Debug, Clone)]
pub(super) struct Group {
    folder: PathBuf,
    role: Role,
}

impl Group {
    /// Creates the group `<base>/<folder>/<name>`. One that exists already is emptied.
    pub(super) fn create(base: &Path, folder: &str, name: &str, role: Role) -> io::Result<Self> {
        let parent = base.join(folder);
        let group = Self { folder: parent.join(name), role };
        if group.folder.is_dir() {
            group.clear();
        }
        let create_both = || {
            create(&parent)?;
            if let Role::Unified { cpu } = role {
                let file = parent.join("cgroup.subtree_control");
                write(&file, v2::Controllers { cpu }.enabling())?;
            }
            create(&group.folder)
        };
        match create_both() {
            // The folder was removed just now with the last group in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => create_both()?,
            other => other?,
        }
        Ok(group)
    }

    /// The group in this folder, where it exists.
    pub(super) fn existing(folder: PathBuf, role: Role) -> Option<Self> {
        folder.is_dir().then_some(Self { folder, role })
    }

    /// Kills the processes of an earlier run of the hive. Those that do not disappear in time stay members.
    fn clear(&self) {
        self.kill();
        wait_until_gone(|| self.pids(), CLEARED_WITHIN);
        if let Err(error) = self.remove() {
            debug!(%error, "failed to remove the group of an earlier run; using it again");
        }
    }

    pub(super) fn name(&self) -> &str {
        self.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    pub(super) fn limits_memory(&self) -> bool {
        match self.role {
            Role::Unified { .. } | Role::Memory => true,
            Role::Holding | Role::Cpu => false,
        }
    }

    pub(super) fn limits_cpu(&self) -> bool {
        match self.role {
            Role::Unified { cpu } => cpu,
            Role::Cpu => true,
            Role::Holding | Role::Memory => false,
        }
    }

    /// Sets the limits that groups of this role enforce.
    pub(super) fn set(&self, limits: &Limits) -> io::Result<()> {
        let settings = match self.role {
            Role::Unified { cpu } => v2::settings(limits, cpu),
            Role::Holding => Vec::new(),
            Role::Memory => v1::memory(limits),
            Role::Cpu => v1::cpu(limits),
        };
        settings.iter().try_for_each(|setting| setting.write(&self.folder))
    }

    /// Moves a process in.
    pub(super) fn admit(&self, pid: u32) -> io::Result<()> {
        write(&self.folder.join("cgroup.procs"), &pid.to_string())
    }

    /// Numbers of the members. A process that has exited is no member, even before it is reaped.
    pub(super) fn pids(&self) -> Vec<u32> {
        let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        members.lines().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != 0).collect()
    }

    /// Number of members that the kernel killed for lack of memory, where groups of this role count them.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        let file = match self.role {
            Role::Unified { .. } => "memory.events",
            Role::Memory => "memory.oom_control",
            Role::Holding | Role::Cpu => return None,
        };
        counter(&fs::read_to_string(self.folder.join(file)).ok()?, "oom_kill")
    }

    /// Sends SIGKILL to every member. Returns their numbers.
    pub(super) fn kill(&self) -> Vec<u32> {
        let before = self.pids();
        match self.role {
            // Reaches all members at once, also those that are just being forked.
            Role::Unified { .. } | Role::Holding => {
                if let Err(error) = write(&self.folder.join("cgroup.kill"), "1") {
                    debug!(%error, "killing the processes of a cgroup one by one");
                }
            }
            Role::Memory | Role::Cpu => {}
        }
        let mut killed = kill(|| self.pids());
        killed.extend(before);
        killed.sort_unstable();
        killed.dedup();
        killed
    }

    /// Removes the group, and with the last one the folder of the hive. Repeating it does no harm.
    ///
    /// # Errors
    /// When the group still has members.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(&self.folder, &error)),
            _ => {
                // The kernel keeps the folder while other groups are in it.
                let _ = self.folder.parent().map(fs::remove_dir);
                Ok(())
            }
        }
    }
}

fn create(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|error| named(folder, &error)),
    }
}

/// Reads a counter from a file with lines of a name and a number.
fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oom_counter_is_read_in_both_cgroup_versions() {
        let v2 = "low 0\nhigh 0\nmax 31\noom 4\noom_kill 3\noom_group_kill 2\n";
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n";
        assert_eq!(counter(v2, "oom_kill"), Some(3));
        assert_eq!(counter(v1, "oom_kill"), Some(5));
        assert_eq!(counter("oom_kill_disable 0\noom_kill many\n", "oom_kill"), None);
    }
}
