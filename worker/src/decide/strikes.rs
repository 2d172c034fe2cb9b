//! Whether a job is what ends its workers.

use rbee_schema::{Chunk, WorkerSettings};

/// Whether a job has ended so many workers that it is given up: by how many were `lost` while they ran it, and, where nothing
/// of its answer is stored, by how often it was delivered.
pub fn is_out(lost: u32, is_begun: bool, attempt: u64, settings: &WorkerSettings) -> bool {
    lost >= settings.lost_workers || (!is_begun && attempt > u64::from(settings.attempts))
}

/// How many workers were lost while they ran a job, by what it has answered so far: each begins with a word, and who gives
/// the job back in good order says so.
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

    fn begun() -> Chunk {
        Chunk::Resumed {
            hive: "h".parse().expect("a name"),
            worker: "w".parse().expect("a name"),
            attempt: 2,
            index: 0,
        }
    }

    #[test]
    fn a_job_is_given_up_after_so_many_workers_or_deliveries_as_the_settings_say() {
        let settings = WorkerSettings { lost_workers: 2, attempts: 4, ..WorkerSettings::default() };
        for (lost, is_begun, attempt, out) in
            [(1, true, 100, false), (2, true, 3, true), (0, false, 4, false), (0, false, 5, true)]
        {
            assert_eq!(is_out(lost, is_begun, attempt, &settings), out, "{lost} {is_begun} {attempt}");
        }
    }

    #[test]
    fn a_worker_that_has_paused_was_not_lost() {
        let paused = || Chunk::Paused { index: 3 };
        for (chunks, lost) in [
            (vec![], 0),
            (vec![begun()], 1),
            (vec![begun(), begun()], 2),
            (vec![begun(), paused(), begun(), paused()], 0),
            (vec![begun(), paused(), begun(), begun(), begun()], 3),
        ] {
            assert_eq!(lost_workers(chunks.iter()), lost, "{chunks:?}");
        }
    }
}
