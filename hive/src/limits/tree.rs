//! A hierarchy in which this hive can create groups, found out by trying it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rbee_schema::{ByteSize, Limits};
use tracing::debug;

use super::{
    group::{Group, Role},
    location::CgroupLocation,
    v2,
};

/// A hierarchy in which this hive can create groups.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) role: Role,
    pub(super) location: CgroupLocation,
    /// Group below which the hive creates its own.
    pub(super) base: PathBuf,
}

impl Tree {
    /// cgroup v2 with controllers, where they are enabled or can be.
    pub(super) fn unified(location: CgroupLocation, folder: &str) -> Option<Self> {
        v2::bases(&location.own).find_map(|base| match v2::enable(base) {
            Ok(Some(controllers)) => Self::probe_below(base, &location, Role::Unified { cpu: controllers.cpu }, folder),
            Ok(None) => None,
            Err(error) => {
                debug!(base = %base.display(), %error, "failed to enable the controllers of cgroup v2");
                None
            }
        })
    }

    /// Any other hierarchy, where groups of this role can be created below the hive's own.
    pub(super) fn probe(location: CgroupLocation, role: Role, folder: &str) -> Option<Self> {
        let base = location.own.clone();
        Self::probe_below(&base, &location, role, folder)
    }

    /// Creates a group, limits it and removes it again.
    fn probe_below(base: &Path, location: &CgroupLocation, role: Role, folder: &str) -> Option<Self> {
        let limits = Limits { memory: Some(ByteSize(1 << 30)), cpu_millis: Some(1000), open_files: None };
        let tried = || -> io::Result<()> {
            // Moving a process in cgroup v2 needs write access to this file too.
            fs::OpenOptions::new().write(true).open(base.join("cgroup.procs"))?;
            let group = Group::create(base, folder, &format!("probe.{}", std::process::id()), role)?;
            let set = group.set(&limits);
            group.remove().and(set)
        };
        match tried() {
            Ok(()) => Some(Self { role, location: location.clone(), base: base.to_owned() }),
            Err(error) => {
                debug!(base = %base.display(), ?role, %error, "failed to create groups here");
                None
            }
        }
    }

    /// All groups of the hive.
    pub(super) fn groups(&self, folder: &str) -> Vec<Group> {
        let entries = fs::read_dir(self.base.join(folder)).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.filter_map(|entry| Group::existing(entry.path(), self.role)).collect()
    }
}
