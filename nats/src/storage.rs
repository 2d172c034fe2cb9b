//! Streams that do not store what this process publishes although it is connected, and messages that were lost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// Time without success after which a stream counts as storing nothing. A cluster that has lost a server elects the leader of a
/// stream within 5 s.
const TOLERATED: Duration = Duration::from_secs(5);

/// State of the bus's storage, as the outboxes of one connection see it.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    refusals: Arc<watch::Sender<BTreeMap<String, Refusal>>>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug, Clone)]
struct Refusal {
    since: Instant,
    cause: String,
}

impl Storage {
    pub(crate) fn new() -> Self {
        Self { refusals: Arc::new(watch::Sender::new(BTreeMap::new())), lost: Arc::default() }
    }

    /// Notes that a stream has refused a message.
    pub(crate) fn refused(&self, stream: &str, cause: &str) {
        self.refusals.send_modify(|refusals| {
            let refusal = refusals.entry(stream.to_owned());
            refusal.or_insert_with(|| Refusal { since: Instant::now(), cause: String::new() }).cause = cause.to_owned();
        });
    }

    /// Notes that a stream stores messages again.
    pub(crate) fn stored(&self, stream: &str) {
        self.refusals.send_modify(|refusals| drop(refusals.remove(stream)));
    }

    /// Counts a message that was lost.
    pub(crate) fn lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of messages that were lost since the start.
    pub(crate) fn lost_messages(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Sentence about the stream that has stored nothing for the longest time, at the time `now`. `None` if all of them store.
    pub(crate) fn problem(&self, now: Instant) -> Option<String> {
        let refusals = self.refusals.borrow();
        let (stream, refusal) = refusals.iter().min_by_key(|(_, refusal)| refusal.since)?;
        let lasts = now.saturating_duration_since(refusal.since);
        (lasts >= TOLERATED)
            .then(|| format!("`{stream}` has stored nothing for {} s: {}", lasts.as_secs(), refusal.cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_refusal_is_the_problem_once_it_lasts() {
        let (storage, now) = (Storage::new(), Instant::now());
        assert_eq!(storage.problem(now + TOLERATED), None);
        storage.refused("events", "timed out");
        storage.refused("rbee_hives", "timed out");
        storage.refused("events", "full");
        assert_eq!(storage.problem(now), None);
        let later = Instant::now() + TOLERATED;
        assert_eq!(storage.problem(later).as_deref(), Some("`events` has stored nothing for 5 s: full"));
        storage.stored("events");
        assert!(storage.problem(later).is_some_and(|problem| problem.contains("rbee_hives")));
        storage.stored("rbee_hives");
        assert_eq!(storage.problem(later), None);
    }

    #[test]
    fn lost_messages_are_counted_by_all_clones() {
        let (one, other) = {
            let storage = Storage::new();
            (storage.clone(), storage)
        };
        one.lost();
        assert_eq!(other.lost_messages(), 1);
    }
}
