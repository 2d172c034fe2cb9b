//! How long a queen waits for what. Every wait of her decisions stands here with its reason.

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

rbee_schema::timers! {
    /// The timers of a queen.
    Timers {
        /// A hive beats every second: without a word for this long it is suspect and gets no further workers.
        suspect: 3 * SECOND,
        /// Without a word for this long a hive is lost: others replace its workers. A server that was restarted is there
        /// again within a second, and a partition heals within six.
        lost: 10 * SECOND,
        /// A hive that is lost for this long is not expected any more: as long as its workers serve on without it.
        removed: 10 * MINUTE,
        /// A commanded spawn or stop of which nothing was heard for this long is commanded again: the hive never got it.
        order: 30 * SECOND,
        /// A start that failed for a reason that may pass is tried again on the same hive after this long.
        retry: 5 * SECOND,
        /// A worker that has served for less than this is not swapped out for another model: models would take turns in
        /// loading and answer nothing.
        residency: 20 * SECOND,
        /// Jobs that are expected to wait for less than this are no reason for another worker.
        wait: SECOND,
        /// How long a worker of which none has been seen to start is expected to take.
        start: 2 * SECOND,
        /// The queue is counted at most this often while jobs wait.
        count: SECOND / 2,
    }
}
