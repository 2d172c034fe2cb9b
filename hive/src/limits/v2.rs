//! Settings and controllers of cgroup v2. Source: Documentation/admin-guide/cgroup-v2.rst of the kernel.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rbee_schema::Limits;
use tracing::info;

use super::setting::{Setting, write};

/// Name of the group of the hive's own process: a group that passes controllers to groups below it can hold no process.
/// `DelegateSubgroup=hive` in a systemd unit creates the same group.
const OWN: &str = "hive";

/// Period of `cpu.max` in microseconds: the kernel's default.
const PERIOD: u64 = 100_000;

/// Controllers that a group passes to the groups below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Controllers {
    /// True where CPU time can be limited. Memory always can.
    pub(super) cpu: bool,
}

impl Controllers {
    /// Reads `cgroup.controllers` or `cgroup.subtree_control`.
    fn parse(names: &str) -> Option<Self> {
        let has = |controller| names.split_whitespace().any(|name| name == controller);
        has("memory").then(|| Self { cpu: has("cpu") })
    }

    /// Text for `cgroup.subtree_control` that enables them.
    pub(super) fn enabling(self) -> &'static str {
        if self.cpu { "+memory +cpu" } else { "+memory" }
    }
}

/// Groups below which the hive could create its own, the best first. `own` is the group of this process.
pub(super) fn bases(own: &Path) -> impl Iterator<Item = &Path> {
    let is_leaf = own.file_name().is_some_and(|name| name == OWN);
    own.parent().filter(|_| is_leaf).into_iter().chain([own])
}

/// Enables the controllers for groups below `base`. `None` where `base` has no controllers itself.
///
/// A process in `base` prevents that. Where it is only this process, it moves into a group of its own. Where others are
/// there too, that does not help, and it moves back.
pub(super) fn enable(base: &Path) -> io::Result<Option<Controllers>> {
    let read = |file: &str| fs::read_to_string(base.join(file));
    let Some(controllers) = Controllers::parse(&read("cgroup.controllers")?) else { return Ok(None) };
    if Controllers::parse(&read("cgroup.subtree_control")?) == Some(controllers) {
        return Ok(Some(controllers));
    }
    let enable = || write(&base.join("cgroup.subtree_control"), controllers.enabling());
    match enable() {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => move_aside(base, enable)?,
        other => other?,
    }
    Ok(Some(controllers))
}

fn move_aside(base: &Path, enable: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let own: PathBuf = base.join(OWN);
    match fs::create_dir(&own) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // 0 means the writing process.
    let tried = write(&own.join("cgroup.procs"), "0").and_then(|()| enable());
    if tried.is_err() {
        write(&base.join("cgroup.procs"), "0")?;
        let _ = fs::remove_dir(&own);
    } else {
        info!(group = %own.display(), "moved the hive into a cgroup of its own, so that its workers can have cgroups with limits");
    }
    tried
}

/// Settings for a group with these limits.
pub(super) fn settings(limits: &Limits, cpu: bool) -> Vec<Setting> {
    // Out of memory, the kernel kills all processes of the worker: half a worker is of no use.
    let mut settings = vec![Setting::optional("memory.oom.group", 1)];
    if let Some(memory) = limits.memory {
        settings.push(Setting::required("memory.max", memory.bytes()));
        // A worker that swaps is slower than one that is restarted elsewhere.
        settings.push(Setting::optional("memory.swap.max", 0));
    }
    if let Some(millis) = limits.cpu_millis.filter(|_| cpu) {
        let quota = u64::from(millis) * PERIOD / 1000;
        settings.push(Setting::required("cpu.max", format!("{quota} {PERIOD}")));
    }
    settings
}

#[cfg(test)]
mod tests {
    use rbee_schema::ByteSize;

    use super::*;

    #[test]
    fn memory_controller_is_required_and_cpu_controller_is_optional() {
        for (names, expected) in [
            ("cpuset cpu io memory hugetlb pids rdma misc\n", Some(Controllers { cpu: true })),
            ("memory pids\n", Some(Controllers { cpu: false })),
            ("cpuset memory\n", Some(Controllers { cpu: false })),
            ("cpu hugetlb\n", None),
            ("\n", None),
        ] {
            assert_eq!(Controllers::parse(names), expected, "{names}");
        }
    }

    #[test]
    fn limits_become_settings_of_cgroup_v2() {
        let limits = Limits { memory: Some(ByteSize(64 << 20)), cpu_millis: Some(1500), open_files: Some(64) };
        let written = |limits, cpu| settings(limits, cpu).iter().map(ToString::to_string).collect::<Vec<_>>();
        let memory = ["memory.oom.group=1", "memory.max=67108864", "memory.swap.max=0"];
        assert_eq!(written(&limits, true), [&memory[..], &["cpu.max=150000 100000"]].concat());
        assert_eq!(written(&limits, false), memory);
        assert_eq!(written(&Limits::default(), true), ["memory.oom.group=1"]);
    }

    #[test]
    fn groups_are_created_beside_the_hives_own_group() {
        let all = |own| bases(Path::new(own)).map(|base| base.display().to_string()).collect::<Vec<_>>();
        assert_eq!(all("/cg/rbee.service/hive"), ["/cg/rbee.service", "/cg/rbee.service/hive"]);
        assert_eq!(all("/cg/rbee.service"), ["/cg/rbee.service"]);
    }

    /// A folder with the files of a group. What is written to them stays there.
    fn fake(controllers: &str, enabled: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (file, text) in [("cgroup.controllers", controllers), ("cgroup.subtree_control", enabled)] {
            fs::write(folder.path().join(file), text).expect("written");
        }
        folder
    }

    #[test]
    fn controllers_are_enabled_only_where_needed_and_possible() {
        for (controllers, enabled, expected, after) in [
            ("cpu memory", "", Some(Controllers { cpu: true }), "+memory +cpu"),
            ("memory", "pids", Some(Controllers { cpu: false }), "+memory"),
            ("cpu memory", "memory cpu io", Some(Controllers { cpu: true }), "memory cpu io"),
            ("pids", "", None, ""),
        ] {
            let folder = fake(controllers, enabled);
            assert_eq!(enable(folder.path()).expect("readable"), expected, "{controllers:?} {enabled:?}");
            let written = fs::read_to_string(folder.path().join("cgroup.subtree_control")).expect("there");
            // The kernel replaces the content of such a file. A plain file keeps the end of a longer content.
            let after = format!("{after}{}", enabled.get(after.len()..).unwrap_or_default());
            assert_eq!(written, after, "{controllers:?} {enabled:?}");
        }
        assert!(enable(Path::new("/nowhere")).is_err());
    }
}
