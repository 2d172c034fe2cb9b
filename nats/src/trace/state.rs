//! `tracestate` of W3C Trace Context (<https://www.w3.org/TR/trace-context/#tracestate-header>): data of other tracing systems,
//! which is validated and passed on unchanged. The type of OpenTelemetry does not apply the limits of the recommendation.

/// Maximum number of entries, by the recommendation.
const MOST_ENTRIES: usize = 32;

/// Maximum size that is passed on, in bytes. By the recommendation, large entries are dropped first, and then the oldest.
const MOST_BYTES: usize = 512;

/// Size above which an entry is large, in bytes.
const LARGE_ENTRY: usize = 128;

/// Entries of a header that are passed on, in their order. Empty if the header is malformed.
pub(crate) fn read(header: &str) -> String {
    let entries: Vec<&str> =
        header.split(',').map(|entry| entry.trim_matches([' ', '\t'])).filter(|it| !it.is_empty()).collect();
    let is_valid = entries.len() <= MOST_ENTRIES && entries.iter().all(|entry| is_entry(entry)) && are_unique(&entries);
    if is_valid { within_limits(entries).join(",") } else { String::new() }
}

fn within_limits(mut entries: Vec<&str>) -> Vec<&str> {
    let size = |entries: &[&str]| entries.iter().map(|entry| entry.len() + 1).sum::<usize>().saturating_sub(1);
    while size(&entries) > MOST_BYTES
        && let Some(large) = entries.iter().rposition(|entry| entry.len() > LARGE_ENTRY)
    {
        entries.remove(large);
    }
    while size(&entries) > MOST_BYTES {
        entries.pop();
    }
    entries
}

fn key(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(key, _)| key)
}

fn are_unique(entries: &[&str]) -> bool {
    (1..entries.len()).all(|at| !entries[..at].iter().any(|before| key(before) == key(entries[at])))
}

fn is_entry(entry: &str) -> bool {
    entry.split_once('=').is_some_and(|(key, value)| is_key(key) && is_value(value))
}

fn is_key(key: &str) -> bool {
    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=256).contains(&key.len())
        && key.bytes().next().is_some_and(is_lower)
        && key.bytes().all(|byte| is_lower(byte) || b"_-*/@".contains(&byte))
}

fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len()) && value.bytes().all(|byte| (0x20..=0x7e).contains(&byte) && byte != b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_order() {
        for (header, kept) in [
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
            (" a=1 ,\t,b=2,", "a=1,b=2"),
            ("1tenant@vendor/x=a b", "1tenant@vendor/x=a b"),
            ("", ""),
        ] {
            assert_eq!(read(header), kept);
        }
    }

    #[test]
    fn a_malformed_header_is_dropped() {
        let many: Vec<String> = (0..33).map(|number| format!("k{number}=v")).collect();
        for wrong in ["a", "=1", "a=", "A=1", "a=1=2", "a=1,a=2", "a b=1", "a=\u{e9}", "_a=1", &many.join(",")] {
            assert_eq!(read(wrong), "", "{wrong}");
        }
        assert_eq!(read(&many[..32].join(",")), many[..32].join(","));
    }

    #[test]
    fn large_entries_are_dropped_first_and_then_the_oldest() {
        let entry = |key: &str, size: usize| format!("{key}={}", "v".repeat(size - key.len() - 1));
        let (small, medium, large) = (entry("a", 100), entry("b", 120), entry("c", 200));
        assert_eq!(read(&format!("{small},{large},{medium}")), format!("{small},{large},{medium}"));
        let other = entry("d", 200);
        assert_eq!(read(&format!("{small},{large},{medium},{other}")), format!("{small},{large},{medium}"));
        let many: Vec<String> = ["e", "f", "g", "h", "i"].map(|key| entry(key, 110)).into();
        assert_eq!(read(&many.join(",")), many[..4].join(","));
    }
}
