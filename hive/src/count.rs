//! Counts as they stand in messages and metrics.

/// A number of items as a `u32`, capped at `u32::MAX`.
pub(crate) fn capped(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
