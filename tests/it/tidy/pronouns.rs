//! A process is "it" in every text of the repository.

use super::source::{SourceFile, Violation, assert_none, text_files};

/// The words, in two halves so that this file does not contain them.
const HALVES: [(&str, &str); 4] = [("sh", "e"), ("he", "r"), ("he", "rs"), ("herse", "lf")];

/// Stored texts that models read or wrote: people appear in them.
const EXEMPT: &str = "worker/tests/reference";

fn violations(file: &SourceFile) -> Vec<Violation> {
    let is_meant = |word: &str| HALVES.iter().any(|(one, two)| word.to_lowercase() == format!("{one}{two}"));
    let words = |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(is_meant);
    let lines = file.text.lines().enumerate().filter(|(_, line)| words(line));
    lines.map(|(at, line)| file.violation(at + 1, line.trim())).collect()
}

#[test]
fn no_text_calls_a_process_by_a_personal_pronoun() {
    let files = text_files();
    let files = files.iter().filter(|file| !file.is_in(EXEMPT));
    let found: Vec<Violation> = files.flat_map(violations).collect();
    assert_none("a process is \"it\"", &found);
}

#[test]
fn each_pronoun_is_found_as_a_word() {
    for (one, two) in HALVES {
        let text = format!("Other words, there and usher.\nThen {}{two} stops.", one.to_uppercase());
        let found = violations(&SourceFile::sample("a.md", &text));
        assert_eq!(found.iter().map(|found| found.line).collect::<Vec<_>>(), [2], "{text}");
    }
}
