//! A doc comment starts with the thing that it describes, not with a question word. This holds for private items as well,
//! and inside macros that declare settings.

use super::source::{SourceFile, Violation, assert_none, rust_files};

const QUESTION_WORDS: [&str; 4] = ["What", "Whether", "How", "Who"];

/// The text of a line that belongs to a doc comment.
fn doc(line: &str) -> Option<&str> {
    let line = line.trim_start();
    line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).filter(|text| !text.starts_with('/'))
}

fn violations(file: &SourceFile) -> Vec<Violation> {
    let mut is_inside = false;
    let mut found = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let text = doc(line);
        let first = text.and_then(|text| text.split_whitespace().next());
        let first = first.map(|word| word.trim_end_matches(|c: char| !c.is_alphanumeric()));
        if !is_inside && first.is_some_and(|word| QUESTION_WORDS.contains(&word)) {
            found.push(file.violation(at + 1, line.trim()));
        }
        is_inside = text.is_some();
    }
    found
}

#[test]
fn no_doc_comment_starts_with_a_question_word() {
    let found: Vec<Violation> = rust_files().iter().flat_map(violations).collect();
    assert_none("name the thing first: \"Labels of this hive\" instead of a question", &found);
}

#[test]
fn a_comment_that_starts_with_a_question_word_is_found() {
    let lines = [
        "//! How files are read.",
        "",
        "/// Labels.",
        "/// What follows the first line is not checked.",
        "struct A {",
        "    /// Whether it runs.",
        "    a: bool,",
        "}",
        "// What a plain comment says.",
    ];
    let found = violations(&SourceFile::sample("a.rs", &lines.join("\n")));
    let found: Vec<String> = found.iter().map(Violation::to_string).collect();
    assert_eq!(found, ["a.rs:1: //! How files are read.", "a.rs:6: /// Whether it runs."]);
}
