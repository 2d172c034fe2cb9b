//! Strikes: a job that ends the workers that run it is given up.

use rbee_schema::{Chunk, WorkerSettings};

/// True if a job must be given up.
///
/// A job is given up when `lost` workers ended while they ran it, at the limit of the settings. A job of which nothing is
/// stored is also given up when it was delivered too often: it ends its workers before they can store their first chunk.
pub fn is_struck_out(lost: u32, is_begun: bool, attempt: u64, settings: &WorkerSettings) -> bool {
    lost >= settings.lost_workers || (!is_begun && attempt > u64::from(settings.attempts))
}

/// Number of workers that were lost while they ran a job, read from its output. Each attempt begins with `started` or
/// `resumed`, and a worker that returns the job to the queue ends its attempt with `paused`.
pub fn lost_workers<'a>(chunks: impl Iterator<Item = &'a Chunk>) -> u32 {
    chunks.fold(0, |lost: u32, chunk| match chunk {
        Chunk::Started { .. } | Chunk::Resumed { .. } => lost + 1,
        Chunk::Paused { .. } => lost.saturating_sub(1),
        Chunk::Tokens { .. } | Chunk::Embeddings { .. } | Chunk::Done { .. } | Chunk::Error { .. } => lost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resumed() -> Chunk {
        Chunk::Resumed {
            hive: "h".parse().expect("a name"),
            worker: "w".parse().expect("a name"),
            attempt: 2,
            index: 0,
        }
    }

    #[test]
    fn job_is_struck_out_at_the_limits_of_the_settings() {
        let settings = WorkerSettings { lost_workers: 2, attempts: 4, ..WorkerSettings::default() };
        for (lost, is_begun, attempt, out) in
            [(1, true, 100, false), (2, true, 3, true), (0, false, 4, false), (0, false, 5, true)]
        {
            assert_eq!(is_struck_out(lost, is_begun, attempt, &settings), out, "{lost} {is_begun} {attempt}");
        }
    }

    #[test]
    fn paused_attempt_is_not_a_strike() {
        let paused = || Chunk::Paused { index: 3 };
        for (chunks, lost) in [
            (vec![], 0),
            (vec![resumed()], 1),
            (vec![resumed(), resumed()], 2),
            (vec![resumed(), paused(), resumed(), paused()], 0),
            (vec![resumed(), paused(), resumed(), resumed(), resumed()], 3),
        ] {
            assert_eq!(lost_workers(chunks.iter()), lost, "{chunks:?}");
        }
    }
}
