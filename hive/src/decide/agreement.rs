//! Whether a hive and the queen who leads can work together as they are set up.

use std::time::Duration;

use rbee_schema::{LeaderRecord, check_longer};

/// Why a hive that says every `beat` that it is there does not suit this queen, where it does not: between two beats she
/// would think that it is gone. One who does not say for how long she bears silence suits every hive.
pub fn disagreement(beat: Duration, leader: &LeaderRecord) -> Option<String> {
    let suspect = Duration::from_millis(leader.suspect_ms?);
    let refusal = check_longer(("suspect", suspect), ("the beat of this hive", beat)).err()?;
    let queen = &leader.queen;
    Some(format!(
        "the timers of queen {queen} do not suit this hive: {refusal}; change the one with --queen-timers, or the other \
         with --timers"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(more: &str) -> LeaderRecord {
        serde_json::from_str(&format!(r#"{{"queen":"ada","version":"0"{more}}}"#)).expect("a record")
    }

    #[test]
    fn a_hive_must_beat_before_its_queen_misses_it() {
        let second = Duration::from_secs(1);
        assert_eq!(disagreement(second, &leader(r#","suspect_ms":3000"#)), None);
        assert_eq!(disagreement(100 * second, &leader("")), None, "an earlier version does not say");
        let why = disagreement(3 * second, &leader(r#","suspect_ms":3000"#)).expect("a disagreement");
        assert!(why.contains("queen ada") && why.contains("`suspect=3s`: expected longer than the beat"), "{why}");
    }
}
