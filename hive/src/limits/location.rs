//! Location of cgroups: where their hierarchies are mounted, and where in them a process is, according to `/proc`.
//!
//! `/proc/<pid>/mountinfo` is described in proc_pid_mountinfo(5), `/proc/<pid>/cgroup` in cgroups(7).

use std::path::{Path, PathBuf};

/// A hierarchy of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// cgroup v2.
    Unified,
    /// The memory controller of cgroup v1.
    Memory,
    /// The cpu controller of cgroup v1.
    Cpu,
}

impl Hierarchy {
    /// Name of the controller in cgroup v1.
    fn controller(self) -> Option<&'static str> {
        match self {
            Self::Unified => None,
            Self::Memory => Some("memory"),
            Self::Cpu => Some("cpu"),
        }
    }
}

/// Mount point of a hierarchy, and this process's own group in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupLocation {
    /// Folder on which the hierarchy is mounted.
    pub(crate) mount: PathBuf,
    /// Group that appears as the root of the mount. In a container this may be a part of the hierarchy.
    root: PathBuf,
    /// Folder of this process's own group.
    pub(crate) own: PathBuf,
}

impl CgroupLocation {
    /// Folder of the group `path`, where the mount shows it.
    pub(super) fn folder(&self, path: &Path) -> Option<PathBuf> {
        folder(&self.mount, &self.root, path)
    }
}

fn folder(mount: &Path, root: &Path, path: &Path) -> Option<PathBuf> {
    // A path that leads out of the group namespace begins with `/..`.
    let inside = path.strip_prefix(root).ok().filter(|inside| !inside.starts_with(".."))?;
    // Without the slash that joining nothing would leave.
    Some(if inside.as_os_str().is_empty() { mount.to_owned() } else { mount.join(inside) })
}

/// Finds a hierarchy in `mounts` (a mountinfo file), and in it the process that `groups` (a cgroup file) describes.
pub(crate) fn find(hierarchy: Hierarchy, mounts: &str, groups: &str) -> Option<CgroupLocation> {
    let path = path_in(hierarchy, groups)?;
    mounts.lines().filter_map(|line| mount(hierarchy, line)).find_map(|(mount, root)| {
        let own = folder(&mount, &root, path)?;
        Some(CgroupLocation { mount, root, own })
    })
}

/// Mount point and root of a line of mountinfo, where it is of this hierarchy.
fn mount(hierarchy: Hierarchy, line: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let (kind, options) = (system.next()?, system.nth(1)?);
    let is_it = match hierarchy.controller() {
        None => kind == "cgroup2",
        Some(controller) => kind == "cgroup" && options.split(',').any(|option| option == controller),
    };
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    is_it.then(|| (unescaped(point), unescaped(root)))
}

/// Decodes spaces and the like, which mountinfo writes as a backslash and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut parts = text.split('\\');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_at_checked(3).and_then(|(code, rest)| Some((u8::from_str_radix(code, 8).ok()?, rest))) {
            Some((code, rest)) => path.extend([&char::from(code).to_string(), rest]),
            None => path.extend(["\\", part]),
        }
    }
    path.into()
}

/// Path of the group of the process that `groups` (a cgroup file) describes.
pub(super) fn path_in(hierarchy: Hierarchy, groups: &str) -> Option<&Path> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = match hierarchy.controller() {
            None => number == "0" && controllers.is_empty(),
            Some(controller) => controllers.split(',').any(|name| name == controller),
        };
        is_it.then(|| Path::new(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with systemd and cgroup v2 alone.
    const UNIFIED: (&str, &str) = (
        "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n\
         36 24 0:31 / /sys/fs/pstore rw shared:10 - pstore pstore rw",
        "0::/system.slice/rbee.service\n",
    );
    /// Both versions, the controllers in v1; a group seen through a container's mount.
    const HYBRID: (&str, &str) = (
        "40 31 0:35 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
         41 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro shared:3 master:4 - cgroup cgroup rw,cpu,cpuacct\n\
         42 31 0:38 / /sys/fs/cgroup/a\\040b ro - cgroup2 cgroup2 rw",
        "9:name=systemd:/docker/abc\n4:memory:/docker/abc/below\n3:cpuset:/x\n2:cpu,cpuacct:/docker/abc\n0::/\n",
    );

    fn check(hierarchy: Hierarchy, (mounts, groups): (&str, &str), own: Option<&str>) {
        let found = find(hierarchy, mounts, groups).map(|place| place.own);
        assert_eq!(found, own.map(PathBuf::from), "{hierarchy:?}");
    }

    #[test]
    fn hierarchy_is_found_at_its_mount_with_the_own_group() {
        check(Hierarchy::Unified, UNIFIED, Some("/sys/fs/cgroup/system.slice/rbee.service"));
        check(Hierarchy::Memory, UNIFIED, None);
        check(Hierarchy::Cpu, UNIFIED, None);
        check(Hierarchy::Memory, HYBRID, Some("/sys/fs/cgroup/memory/below"));
        check(Hierarchy::Cpu, HYBRID, Some("/sys/fs/cgroup/cpu,cpuacct"));
        check(Hierarchy::Unified, HYBRID, Some("/sys/fs/cgroup/a b"));
    }

    #[test]
    fn group_outside_of_the_mount_is_not_found() {
        let (mounts, _) = HYBRID;
        check(Hierarchy::Memory, (mounts, "4:memory:/docker/other"), None);
        check(Hierarchy::Unified, (mounts, "0::/../other"), None);
        check(Hierarchy::Unified, (mounts, ""), None);
        check(Hierarchy::Unified, ("nonsense\n- cgroup2\na - b", "0::/\nnonsense"), None);
    }
}
