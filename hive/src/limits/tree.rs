//! A tree of groups that may be used, found out by using it.

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

/// A tree of groups that may be used.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) role: Role,
    pub(super) location: CgroupLocation,
    /// The group below which ours are made.
    pub(super) base: PathBuf,
}

impl Tree {
    /// cgroup v2 with controllers, where they are there or can be had.
    pub(super) fn unified(location: CgroupLocation, folder: &str) -> Option<Self> {
        v2::bases(&location.own).find_map(|base| match v2::enable(base) {
            Ok(Some(controllers)) => Self::probe_below(base, &location, Role::Unified { cpu: controllers.cpu }, folder),
            Ok(None) => None,
            Err(error) => {
                debug!(base = %base.display(), %error, "the controllers of cgroup v2 cannot be had");
                None
            }
        })
    }

    /// Any other tree, where groups for this role can be made below ours.
    pub(super) fn probe(location: CgroupLocation, role: Role, folder: &str) -> Option<Self> {
        let base = location.own.clone();
        Self::probe_below(&base, &location, role, folder)
    }

    /// Makes a group, limits it and removes it again.
    fn probe_below(base: &Path, location: &CgroupLocation, role: Role, folder: &str) -> Option<Self> {
        let limits = Limits { memory: Some(ByteSize(1 << 30)), cpu_millis: Some(1000), open_files: None };
        let tried = || -> io::Result<()> {
            // Who moves a process needs to write here too, in cgroup v2.
            fs::OpenOptions::new().write(true).open(base.join("cgroup.procs"))?;
            let group = Group::make(base, folder, &format!("probe.{}", std::process::id()), role)?;
            let set = group.set(&limits);
            group.remove().and(set)
        };
        match tried() {
            Ok(()) => Some(Self { role, location: location.clone(), base: base.to_owned() }),
            Err(error) => {
                debug!(base = %base.display(), ?role, %error, "no groups can be made here");
                None
            }
        }
    }

    /// Every group of the hive.
    pub(super) fn groups(&self, folder: &str) -> Vec<Group> {
        let entries = fs::read_dir(self.base.join(folder)).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.filter_map(|entry| Group::existing(entry.path(), self.role)).collect()
    }
}
