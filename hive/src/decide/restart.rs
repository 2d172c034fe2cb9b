//! Whether and when a worker that ended is started again.

use std::time::Duration;

use rbee_schema::{ExitClass, Failure, FailureCode};

/// What is done about an exit that nobody wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterExit {
    /// Start it again.
    Restart {
        /// After this long.
        delay: Duration,
        /// Why, in words.
        why: String,
    },
    /// Leave it.
    GiveUp(Failure),
}

/// A run of at least this long is stable: the next failure counts as the first.
pub const STABLE_RUN: Duration = Duration::from_secs(60);

/// Decides by the kind of the exit and by how many exits there were in a row, this one included.
pub fn after_exit(class: ExitClass, exits: u32, tail: &[String]) -> AfterExit {
    match class {
        ExitClass::Data | ExitClass::Config | ExitClass::Permission => AfterExit::GiveUp(hopeless(class, tail)),
        ExitClass::Clean | ExitClass::Signal | ExitClass::ReadyTimeout | ExitClass::Hang | ExitClass::Other => {
            let delay = backoff(exits);
            let why = match exits {
                0 | 1 => format!("it ended ({class}) for the first time: again after {delay:?}"),
                _ => format!("it ended ({class}), {exits} times in a row: again after {delay:?}"),
            };
            AfterExit::Restart { delay, why }
        }
    }
}

/// 0.1 s, then 1 s, 2 s, 4 s and so on up to a minute.
fn backoff(exits: u32) -> Duration {
    match exits {
        0 | 1 => Duration::from_millis(100),
        _ => Duration::from_secs(1 << (exits - 2).min(6)).min(Duration::from_secs(60)),
    }
}

/// The last line of such a worker is its failure as JSON; else the words are all there is.
fn hopeless(class: ExitClass, tail: &[String]) -> Failure {
    let told = tail.iter().rev().find_map(|line| serde_json_failure(line));
    told.unwrap_or_else(|| {
        let last = tail.last().map_or("it wrote nothing", String::as_str);
        Failure::new(FailureCode::SpawnFailed, format!("the worker cannot run ({class}): {last}"))
    })
}

fn serde_json_failure(line: &str) -> Option<Failure> {
    serde_json::from_str(line).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_comes_at_once_and_later_ones_back_off_to_a_minute() {
        let delays: Vec<u128> = (1..=10).map(|exits| backoff(exits).as_millis()).collect();
        assert_eq!(delays, [100, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000]);
        assert_eq!(backoff(u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn an_exit_for_bad_data_is_not_tried_again_and_keeps_its_own_words() {
        let told = Failure::new(FailureCode::ModelInvalid, "truncated");
        let tail = ["noise".to_owned(), serde_json::to_string(&told).expect("serializes")];
        assert_eq!(after_exit(ExitClass::Data, 1, &tail), AfterExit::GiveUp(told));
        let AfterExit::GiveUp(failure) = after_exit(ExitClass::Config, 1, &["no such option".to_owned()]) else {
            panic!("given up");
        };
        assert!(failure.message.contains("no such option"), "{failure}");
    }
}
