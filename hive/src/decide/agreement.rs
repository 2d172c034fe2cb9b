//! Agreement between the timers of a hive and those of the leading queen.

use std::time::Duration;

use rbee_schema::{LeaderRecord, check_longer};

/// The disagreement between a hive with this heartbeat interval and the leading queen: a queen that calls a hive suspect
/// between two of its heartbeats cannot lead it. `None` where they agree, or where the queen is of a version that does not
/// publish its timeout.
pub fn disagreement(beat: Duration, leader: &LeaderRecord) -> Option<String> {
    let suspect = Duration::from_millis(leader.suspect_ms?);
    let refusal = check_longer(("suspect", suspect), ("the heartbeat interval of this hive", beat)).err()?;
    let queen = &leader.queen;
    Some(format!(
        "the timers of queen {queen} do not fit those of this hive: {refusal}; change either with --queen-timers or with \
         --timers"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(more: &str) -> LeaderRecord {
        serde_json::from_str(&format!(r#"{{"queen":"ada","version":"0"{more}}}"#)).expect("a record")
    }

    #[test]
    fn heartbeat_interval_must_be_shorter_than_the_queens_timeout() {
        let second = Duration::from_secs(1);
        assert_eq!(disagreement(second, &leader(r#","suspect_ms":3000"#)), None);
        assert_eq!(disagreement(100 * second, &leader("")), None, "an earlier version publishes no timeout");
        let why = disagreement(3 * second, &leader(r#","suspect_ms":3000"#)).expect("a disagreement");
        assert!(
            why.contains("queen ada") && why.contains("`suspect=3s`: expected longer than the heartbeat interval"),
            "{why}"
        );
    }
}
