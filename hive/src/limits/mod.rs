//! Limits of workers, and the cgroups that enforce them.
//!
//! ```text
//! cgroup of the hive ─┬─ hive                    the hive's own process, only in cgroup v2
//!                     └─ rbee-<hive>-<state>
//!                          └─ <worker>.<epoch>   one run of a worker
//! ```
//!
//! [`Enforcer::detect`] finds out once at the start what this machine allows: cgroup v2 with its controllers, else those of
//! cgroup v1, else RLIMIT_DATA. Beside the last two, a tree of cgroup v2 without controllers is used where there is one. It
//! limits nothing, but holds the processes of a worker together, so that none survives the worker. [`WorkerCgroup`] is the
//! hive's handle of one run.

mod cgroup;
mod enforcer;
mod group;
mod kill;
mod location;
mod rlimit;
mod setting;
mod tree;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    cgroup::WorkerCgroup,
    enforcer::{Enforcer, group_name},
    location::{Hierarchy, find},
    rlimit::looks_like_oom,
};
