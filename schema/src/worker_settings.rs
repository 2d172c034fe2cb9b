//! What a hive tells its workers to wait for and to bear: it hands the pairs over as they were given.

use std::time::Duration;

use crate::ByteSize;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

crate::settings! {
    /// The settings of a worker.
    WorkerSettings, each "setting of a worker" {
        /// How often it says that it is there. Its hive takes silence of several of these for its end.
        beat: Duration = SECOND,
        /// A worker whose hive is gone serves on for this long: a hive that restarts finds it.
        grace: Duration = 10 * MINUTE,
        /// A batch job is looked for when no interactive one has come for this long. A worker that is told to end when it
        /// is idle needs as long.
        batch_wait: Duration = SECOND,
        /// How long its last events may take to be stored when it ends.
        final_flush: Duration = 3 * SECOND,
        /// A job that was delivered more often than this without a word of its output is given up: it ends its workers
        /// before they can say that they have begun.
        attempts: u32 = 10,
        /// A job that was running when so many workers were lost is given up: it would end one model after the other.
        /// Fewer than make a crash loop, so that one such job does not take its model down.
        lost_workers: u32 = 3,
        /// The most tokens of an answer whose request names no limit.
        answer_tokens: u32 = 1024,
        /// Instructions that the rendering of a chat may take. The longest body has some ten thousand messages, and
        /// templates take about a hundred for each.
        template_steps: u32 = 10_000_000,
        /// Nested calls and loops of a chat template. Those of known models stay below 20.
        template_depth: u32 = 100,
        /// What the rendering of a chat may write: eight times the largest body. Templates add some dozen bytes to each
        /// message.
        template_size: ByteSize = ByteSize(8 * crate::MAX_BODY_BYTES as u64),
    }
}

impl WorkerSettings {
    /// # Errors
    /// What does not fit together.
    pub fn check(&self) -> Result<(), String> {
        crate::check_longer(("grace", self.grace), ("beat", self.beat))
    }
}
