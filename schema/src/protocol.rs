//! Versions of this vocabulary.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Range of protocol versions that a role supports. Two roles work together if their ranges overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Protocol {
    /// Oldest supported version.
    pub oldest: u32,
    /// Newest supported version.
    pub newest: u32,
}

impl Protocol {
    /// Versions that this build supports. A change that older readers cannot work with raises `newest`; dropping support
    /// for a version raises `oldest`. Version 2 renamed fields and events of version 1, which this build cannot read.
    pub const OURS: Self = Self { oldest: 2, newest: 2 };

    /// Newest version that both ranges contain, or `None` if they do not overlap.
    pub fn shared(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

/// Range of a role that announces none: version 1, which did not require an announcement.
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
    fn two_roles_work_together_where_their_ranges_overlap() {
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

    #[test]
    fn a_role_without_a_protocol_is_version_1_and_does_not_match_this_build() {
        assert_eq!(Protocol::default().shared(Protocol::OURS), None);
    }
}
