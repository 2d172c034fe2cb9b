//! Counts in texts for people.

/// A count with its noun: `1 worker`, `2 workers`.
pub(super) fn plural(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noun_has_its_plural_unless_there_is_one() {
        assert_eq!([0, 1, 2].map(|count| plural(count, "job")), ["0 jobs", "1 job", "2 jobs"]);
    }
}
