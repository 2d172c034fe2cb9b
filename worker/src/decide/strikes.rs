//! Whether a job is what ends its workers.

use rbee_schema::Chunk;

/// A job that was running when so many workers were lost is not begun again: it would end one model after the other. A
/// worker that ends five times is in a crash loop, so that one such job does not take its model down.
pub const MAX_LOST_WORKERS: u32 = 3;

/// How many workers were lost while they ran a job, by what it has answered so far: each begins with a word, and who gives
/// the job back in good order says so.
pub fn lost_workers<'a>(chunks: impl Iterator<Item = &'a Chunk>) -> u32 {
    chunks.fold(0, |lost: u32, chunk| match chunk {
        Chunk::Started { .. } | Chunk::Resumed { .. } => lost + 1,
        Chunk::Paused { .. } => lost.saturating_sub(1),
        Chunk::Tokens { .. } | Chunk::Done { .. } | Chunk::Error { .. } => lost,
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
