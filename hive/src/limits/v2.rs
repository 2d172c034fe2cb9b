//! What is particular to cgroup v2. Source: Documentation/admin-guide/cgroup-v2.rst of the kernel.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rbee_schema::Limits;
use tracing::info;

use super::setting::{Setting, write};

/// The group that the hive itself stands in: a group that gives controllers to groups below it can hold no process.
/// `DelegateSubgroup=hive` in a unit of systemd names the same.
const OWN: &str = "hive";

/// The time of which `cpu.max` gives a share, in microseconds: what the kernel has by itself.
const PERIOD: u64 = 100_000;

/// What a group gives to the groups below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Controllers {
    /// Processor time. Memory is always there.
    pub(super) cpu: bool,
}

impl Controllers {
    /// Reads `cgroup.controllers` or `cgroup.subtree_control`.
    fn parse(names: &str) -> Option<Self> {
        let has = |controller| names.split_whitespace().any(|name| name == controller);
        has("memory").then(|| Self { cpu: has("cpu") })
    }

    /// What is written to `cgroup.subtree_control` to have them.
    pub(super) fn enabling(self) -> &'static str {
        if self.cpu { "+memory +cpu" } else { "+memory" }
    }
}

/// The groups below which ours could be made, the best first, where `own` is the one that we are in.
pub(super) fn bases(own: &Path) -> impl Iterator<Item = &Path> {
    let is_leaf = own.file_name().is_some_and(|name| name == OWN);
    own.parent().filter(|_| is_leaf).into_iter().chain([own])
}

/// Lets groups below `base` have limits. `None`: `base` has no controllers itself.
///
/// Where we are in the way, we go into a group of our own; where others are too, that does not help and we come back.
pub(super) fn enable(base: &Path) -> io::Result<Option<Controllers>> {
    let read = |file: &str| fs::read_to_string(base.join(file));
    let Some(controllers) = Controllers::parse(&read("cgroup.controllers")?) else { return Ok(None) };
    if Controllers::parse(&read("cgroup.subtree_control")?) == Some(controllers) {
        return Ok(Some(controllers));
    }
    let enable = || write(&base.join("cgroup.subtree_control"), controllers.enabling());
    match enable() {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => step_aside(base, enable)?,
        other => other?,
    }
    Ok(Some(controllers))
}

fn step_aside(base: &Path, enable: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let own: PathBuf = base.join(OWN);
    match fs::create_dir(&own) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // 0 is whoever writes.
    let tried = write(&own.join("cgroup.procs"), "0").and_then(|()| enable());
    if tried.is_err() {
        write(&base.join("cgroup.procs"), "0")?;
        let _ = fs::remove_dir(&own);
    } else {
        info!(group = %own.display(), "the hive stands in a group of its own now, so that its workers can have theirs");
    }
    tried
}

/// What is written into a group for these limits.
pub(super) fn settings(limits: &Limits, cpu: bool) -> Vec<Setting> {
    // Whoever runs out of memory ends the whole worker: half a worker serves nobody.
    let mut settings = vec![Setting::wanted("memory.oom.group", 1)];
    if let Some(memory) = limits.memory {
        settings.push(Setting::needed("memory.max", memory.bytes()));
        // A worker that swaps is slower than one that is started elsewhere.
        settings.push(Setting::wanted("memory.swap.max", 0));
    }
    if let Some(millis) = limits.cpu_millis.filter(|_| cpu) {
        let quota = u64::from(millis) * PERIOD / 1000;
        settings.push(Setting::needed("cpu.max", format!("{quota} {PERIOD}")));
    }
    settings
}

#[cfg(test)]
mod tests {
    use rbee_schema::ByteSize;

    use super::*;

    #[test]
    fn limits_need_the_memory_controller_and_may_have_the_cpu_controller() {
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
    fn limits_are_written_as_the_kernel_reads_them() {
        let limits = Limits { memory: Some(ByteSize(64 << 20)), cpu_millis: Some(1500), open_files: Some(64) };
        let written = |limits, cpu| settings(limits, cpu).iter().map(ToString::to_string).collect::<Vec<_>>();
        let memory = ["memory.oom.group=1", "memory.max=67108864", "memory.swap.max=0"];
        assert_eq!(written(&limits, true), [&memory[..], &["cpu.max=150000 100000"]].concat());
        assert_eq!(written(&limits, false), memory);
        assert_eq!(written(&Limits::default(), true), ["memory.oom.group=1"]);
    }

    #[test]
    fn groups_are_made_beside_the_hive_where_it_has_a_group_of_its_own() {
        let all = |own| bases(Path::new(own)).map(|base| base.display().to_string()).collect::<Vec<_>>();
        assert_eq!(all("/cg/rbee.service/hive"), ["/cg/rbee.service", "/cg/rbee.service/hive"]);
        assert_eq!(all("/cg/rbee.service"), ["/cg/rbee.service"]);
    }

    /// A folder with the files of a group. Whatever is written to them stays there.
    fn fake(controllers: &str, enabled: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (file, text) in [("cgroup.controllers", controllers), ("cgroup.subtree_control", enabled)] {
            fs::write(folder.path().join(file), text).expect("written");
        }
        folder
    }

    #[test]
    fn controllers_are_enabled_only_where_they_are_there_and_not_yet_enabled() {
        for (controllers, enabled, expected, after) in [
            ("cpu memory", "", Some(Controllers { cpu: true }), "+memory +cpu"),
            ("memory", "pids", Some(Controllers { cpu: false }), "+memory"),
            ("cpu memory", "memory cpu io", Some(Controllers { cpu: true }), "memory cpu io"),
            ("pids", "", None, ""),
        ] {
            let folder = fake(controllers, enabled);
            assert_eq!(enable(folder.path()).expect("readable"), expected, "{controllers:?} {enabled:?}");
            let written = fs::read_to_string(folder.path().join("cgroup.subtree_control")).expect("there");
            // What was there before is longer: a group's file reads back whole, a plain one is overwritten in place.
            assert!(written.starts_with(after), "{controllers:?} {enabled:?}: {written}");
        }
        assert!(enable(Path::new("/nowhere")).is_err());
    }
}
