//! A name has at most 70 characters. Only test names come near that: a test's name is the rule that it holds.

use proc_macro2::{TokenStream, TokenTree};

use super::source::{SourceFile, Violation, assert_none, rust_files};

const LONGEST: usize = 70;

/// Every name of a file, those in macros such as `proptest!` included.
fn violations(file: &SourceFile) -> Vec<Violation> {
    let tokens: TokenStream = file.text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.path));
    let mut found = Vec::new();
    add_long_names(file, tokens, &mut found);
    found
}

fn add_long_names(file: &SourceFile, tokens: TokenStream, found: &mut Vec<Violation>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if ident.to_string().len() > LONGEST => {
                let text = format!("{ident} has {} characters", ident.to_string().len());
                found.push(file.violation(ident.span().start().line, text));
            }
            TokenTree::Group(group) => add_long_names(file, group.stream(), found),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[test]
fn no_test_name_has_more_than_seventy_characters() {
    let found: Vec<Violation> = rust_files().iter().flat_map(violations).collect();
    assert_none("state one rule in at most 70 characters", &found);
}

#[test]
fn a_name_of_71_characters_is_found_also_in_a_macro() {
    let (fine, long) = ("a".repeat(LONGEST), "b".repeat(LONGEST + 1));
    let text = format!("fn {fine}() {{}}\nproptest! {{\n    fn {long}(x in 0..1) {{}}\n}}");
    let found = violations(&SourceFile::sample("a.rs", &text));
    assert_eq!(found.iter().map(|found| found.line).collect::<Vec<_>>(), [3]);
}
