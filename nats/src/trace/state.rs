//! What the tracing systems of others have written beside a trace: `tracestate` of W3C Trace Context
//! (<https://www.w3.org/TR/trace-context/#tracestate-header>). We add nothing to it and hand it on.

/// As many entries as it may have.
const MOST_ENTRIES: usize = 32;

/// As many bytes are handed on: where there are more, the recommendation has large entries go first, and then the oldest.
const MOST_BYTES: usize = 512;
const LARGE_ENTRY: usize = 128;

/// What of a header is handed on: its entries in their order; nothing where it is malformed.
pub(crate) fn read(header: &str) -> String {
    let entries: Vec<&str> =
        header.split(',').map(|entry| entry.trim_matches([' ', '\t'])).filter(|it| !it.is_empty()).collect();
    let is_right = entries.len() <= MOST_ENTRIES && entries.iter().all(|entry| is_entry(entry)) && are_unique(&entries);
    if is_right { within_bounds(entries).join(",") } else { String::new() }
}

fn within_bounds(mut entries: Vec<&str>) -> Vec<&str> {
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
    fn entries_are_kept_in_their_order() {
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
    fn what_is_malformed_is_not_handed_on() {
        let many: Vec<String> = (0..33).map(|number| format!("k{number}=v")).collect();
        for wrong in ["a", "=1", "a=", "A=1", "a=1=2", "a=1,a=2", "a b=1", "a=\u{e9}", "_a=1", &many.join(",")] {
            assert_eq!(read(wrong), "", "{wrong}");
        }
        assert_eq!(read(&many[..32].join(",")), many[..32].join(","));
    }

    #[test]
    fn large_entries_go_first_and_then_the_oldest() {
        let entry = |key: &str, size: usize| format!("{key}={}", "v".repeat(size - key.len() - 1));
        let (small, medium, large) = (entry("a", 100), entry("b", 120), entry("c", 200));
        assert_eq!(read(&format!("{small},{large},{medium}")), format!("{small},{large},{medium}"));
        let other = entry("d", 200);
        assert_eq!(read(&format!("{small},{large},{medium},{other}")), format!("{small},{large},{medium}"));
        let many: Vec<String> = ["e", "f", "g", "h", "i"].map(|key| entry(key, 110)).into();
        assert_eq!(read(&many.join(",")), many[..4].join(","));
    }
}
