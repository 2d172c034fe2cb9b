//! Limits of the queen.

use rbee_schema::ByteSize;

rbee_schema::settings! {
    /// Limits of the queen.
    QueenLimits, each "limit of the queen" {
        /// Free disk space below which a hive raises the alert `disk-low`. With less it can soon fetch no model and write no
        /// logs.
        low_disk: ByteSize = ByteSize(1 << 30),
        /// Number of refused model declarations that the queen remembers and reports. More than this come from a faulty
        /// client, not from a person.
        refused: u32 = 1_000,
        /// Number of batches that run at a time. Others wait.
        batches: u32 = 8,
        /// Number of lines of a batch that have jobs at a time. Enough to keep the workers of a fleet busy.
        batch_window: u32 = 64,
    }
}

impl QueenLimits {
    /// Checks the limits together.
    ///
    /// # Errors
    /// None: the limits do not depend on each other.
    pub fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
