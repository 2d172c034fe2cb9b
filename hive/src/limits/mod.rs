//! What a worker may use, and the groups of the kernel that see to it.
//!
//! ```text
//! our own group ─┬─ hive                 the hive itself, only in cgroup v2
//!                └─ rbee-<hive>-<state>
//!                     └─ <worker>.<epoch>   one run of a worker: its cage
//! ```
//!
//! [`Enforcer::detect`] finds out once at start what may be used: cgroup v2 with its controllers, else those of cgroup
//! v1, else RLIMIT_DATA. A tree of cgroup v2 without controllers is used beside the last two: it limits nothing, but it
//! holds the processes of a worker together, so that none survives it. [`WorkerCgroup`] is what the hive has of one run.

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
