//! Which versions of this vocabulary a role understands.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A range of versions. Roles work together where their ranges have a version in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Protocol {
    /// The oldest that is understood.
    pub oldest: u32,
    /// The newest that is understood.
    pub newest: u32,
}

impl Protocol {
    /// Versions that this build understands. A change that older readers cannot work with raises `newest`; dropping
    /// support for a version raises `oldest`. Version 2 renamed fields and events of version 1, which this build cannot
    /// read.
    pub const OURS: Self = Self { oldest: 2, newest: 2 };

    /// The newest version that both understand.
    pub fn shared(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// A role that announces no range dates from before there was a second version.
impl Default for Protocol {
    fn default() -> Self {
        Self { oldest: 1, newest: 1 }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            write!(f, "{}", self.newest)
        } else {
            write!(f, "{} to {}", self.oldest, self.newest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_roles_work_together_where_their_ranges_meet() {
        let range = |oldest, newest| Protocol { oldest, newest };
        for (one, other, shared) in [
            (range(1, 1), range(1, 1), Some(1)),
            (range(1, 3), range(2, 5), Some(3)),
            (range(2, 2), range(1, 3), Some(2)),
            (range(1, 2), range(3, 4), None),
        ] {
            assert_eq!((one.shared(other), other.shared(one)), (shared, shared), "{one} and {other}");
        }
        assert!(Protocol::OURS.shared(Protocol::OURS).is_some());
    }
}
