//! Rank of a hive that can run a worker.

use std::{cmp::Reverse, fmt};

use crate::decide::plural::plural;

/// Rank of a hive: the smallest wins. The order of the fields is their weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// A degraded hive comes last.
    pub(super) is_degraded: bool,
    /// Number of workers of the model on the hive. Zero where workers are packed.
    pub(super) same_model: usize,
    /// True if the hive must download the model file first.
    pub(super) must_fetch: bool,
    pub(super) load: Load,
    /// More free memory is better. In bytes.
    pub(super) memory_free: Reverse<u64>,
}

/// Number of workers on a hive, ordered as the model's placement strategy prefers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Load {
    FewestFirst(usize),
    MostFirst(Reverse<usize>),
}

/// Reads after the hive's name and a colon.
impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (load, preference) = match self.load {
            Load::FewestFirst(load) => (load, "fewest preferred"),
            Load::MostFirst(Reverse(load)) => (load, "most preferred"),
        };
        write!(f, "it runs {} ({preference})", plural(load as u64, "worker"))?;
        if self.same_model > 0 {
            write!(f, ", {} of them for this model", self.same_model)?;
        }
        if self.must_fetch {
            f.write_str(", must download the model first")?;
        }
        match self.memory_free.0 {
            0 => Ok(()),
            free => write!(f, ", and has {} MiB of memory free", free >> 20),
        }
    }
}
