//! Settings of workers. A hive passes them to its workers unchanged.

use std::time::Duration;

use crate::ByteSize;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

crate::settings! {
    /// Settings of a worker.
    WorkerSettings, each "setting of a worker" {
        /// Heartbeat interval of a worker. Three missed heartbeats of 1 s make it suspect (`suspect` of the hive's timers).
        beat: Duration = SECOND,
        /// Time for which a worker continues to serve after its hive is gone. A restarted hive adopts it within this time.
        grace: Duration = 10 * MINUTE,
        /// Share of batch jobs while jobs of both classes wait: one of so many jobs is a batch job, so that batch jobs are
        /// never starved. Zero for none: batch jobs run only in slots that would be idle.
        batch_share: u32 = 10,
        /// Time for which such a batch job is not paused for an interactive job. Long enough to advance by more than it costs
        /// to read the prompt again.
        batch_turn: Duration = 10 * SECOND,
        /// Time that a stopping worker waits until its last events are stored.
        final_flush: Duration = 3 * SECOND,
        /// Deliveries of a job without any output before it is given up. A job that ends its workers is given up for that much
        /// earlier; this stops a job whose workers end unseen.
        attempts: u32 = 100,
        /// Workers lost while they ran a job, for whatever reason, before the job is given up. A job that ends its workers is
        /// given up for that much earlier, and no job meets so many outages.
        lost_workers: u32 = 20,
        /// Tokens or inputs that a job must make beyond where its worker ended before it may run together with others again.
        /// Twice as many after each further blame. A job that ended its worker at a certain token does so at once when it
        /// continues.
        probation_tokens: u32 = 8,
        /// Shortest time that such a job runs alone: an engine that is damaged fails within a second or two.
        probation: Duration = 2 * SECOND,
        /// First pause before a job returns to the queue whose stored output could not be read; it doubles with each attempt.
        retry_pause: Duration = SECOND,
        /// Longest pause before such a job returns to the queue.
        retry_pause_most: Duration = MINUTE,
        /// Time limit for reading the body of a job that is stored apart from it. 64 MiB take a second on a gigabit network. Then
        /// the job returns to the queue for a while.
        body: Duration = MINUTE,
        /// Maximum number of tokens of an answer whose request sets no limit.
        answer_tokens: u32 = 1024,
        /// Instructions that rendering a chat template may execute. The largest body has about ten thousand messages, and
        /// templates need about a hundred instructions for each.
        template_steps: u32 = 10_000_000,
        /// Nesting depth of calls and loops in a chat template. Known models stay below 20.
        template_depth: u32 = 100,
        /// Largest grammar in Lark syntax, regular expression, or list of choices. The grammar of a programming language has
        /// 20 KiB.
        grammar_size: ByteSize = ByteSize(128 << 10),
        /// Nesting depth of brackets in a grammar. Grammars that people write stay below 20.
        grammar_depth: u32 = 200,
        /// Longest time to compile the grammar of an answer. Most take milliseconds, and a large JSON Schema a second.
        grammar_time: Duration = 10 * SECOND,
        /// Size of a rendered chat. A context of a million tokens has about 4 MiB, and templates add a few dozen bytes to each
        /// message.
        template_size: ByteSize = ByteSize(16 << 20),
    }
}

impl WorkerSettings {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// A message that names the settings in conflict.
    pub fn check(&self) -> Result<(), String> {
        crate::check_longer(("grace", self.grace), ("beat", self.beat))
    }
}
