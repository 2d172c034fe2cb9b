//! What a queen bears.

use rbee_schema::ByteSize;

rbee_schema::settings! {
    /// The bounds of a queen.
    Bounds, each "bound of a queen" {
        /// A hive with less room on its disk is told of: it can soon fetch no model and write no log.
        low_disk: ByteSize = ByteSize(1 << 30),
        /// So many declarations that have no effect are remembered and told: more come from no person.
        refused: u32 = 1_000,
    }
}

impl Bounds {
    /// # Errors
    /// None: they do not depend on each other.
    pub fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
