//! Code in a `decide/` folder does no I/O, reads no clock and draws no random numbers: time, names and draws are arguments.

use proc_macro2::{TokenStream, TokenTree};

use super::{
    paths::{Paths, WrittenPath},
    source::{SourceFile, Violation, assert_none, rust_files},
};

const ROLES: [&str; 3] = ["queen", "hive", "worker"];

/// The crates that a decision may use. None of them does I/O, but for what `FORBIDDEN` and `FORBIDDEN_CALLS` name.
const CRATES: [&str; 10] =
    ["std", "core", "rbee_schema", "serde", "serde_json", "thiserror", "sha2", "llguidance", "toktrie", "schemars"];

const FORBIDDEN: [&str; 8] =
    ["std::env", "std::fs", "std::io", "std::net", "std::os", "std::process", "std::thread", "std::sync::mpsc"];

/// The last segment of functions that read a clock or draw at random, whatever type they belong to.
const FORBIDDEN_CALLS: [&str; 8] =
    ["now", "now_utc", "elapsed", "generate", "random", "new_v4", "now_v7", "RandomState"];

/// Keywords and macros.
const FORBIDDEN_WORDS: [&str; 7] = ["async", "await", "print", "println", "eprint", "eprintln", "dbg"];

fn violations(file: &SourceFile) -> Vec<Violation> {
    let parsed = file.parse();
    let paths = Paths::of_file(&parsed);
    let modules = child_modules(&parsed);
    let mut found: Vec<Violation> = paths
        .resolved()
        .iter()
        .filter_map(|path| {
            Some(file.violation(path.line, format!("`{}`: {}", path.segments.join("::"), refused(path, &modules)?)))
        })
        .collect();
    for (word, line) in words(&file.text, &parsed) {
        found.push(file.violation(line, format!("`{word}` has no place in a decision")));
    }
    found.sort_by_key(|violation| violation.line);
    found.dedup();
    found
}

/// Names of the modules that a file declares.
fn child_modules(parsed: &syn::File) -> Vec<String> {
    let name = |item: &syn::Item| match item {
        syn::Item::Mod(module) => Some(module.ident.to_string()),
        _ => None,
    };
    parsed.items.iter().filter_map(name).collect()
}

/// The reason why a decision must not use a path. Paths into child `modules` are checked in the files of these modules.
fn refused(path: &WrittenPath, modules: &[String]) -> Option<&'static str> {
    let text = path.segments.join("::");
    let is_below =
        |folder: &str| text.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    if FORBIDDEN.iter().any(|folder| is_below(folder)) {
        return Some("a decision does no I/O");
    }
    let (first, last) = (path.segments.first()?, path.segments.last()?);
    if path.segments.len() > 1 && FORBIDDEN_CALLS.contains(&last.as_str()) {
        return Some("a decision reads no clock and draws nothing at random");
    }
    let is_ours = matches!(first.as_str(), "crate" | "self" | "super" | "Self") || modules.contains(first);
    let names_a_crate = path.segments.len() > 1 && first.starts_with(|c: char| c.is_ascii_lowercase());
    (names_a_crate && !is_ours && !CRATES.contains(&first.as_str()) && !is_primitive(first))
        .then_some("a decision uses no crate that may do I/O")
}

fn is_primitive(name: &str) -> bool {
    matches!(name, "bool" | "char" | "str" | "f32" | "f64")
        || name.strip_prefix(['i', 'u']).is_some_and(|width| matches!(width, "8" | "16" | "32" | "64" | "128" | "size"))
}

/// Forbidden words outside of test modules, and methods that read a clock.
fn words(text: &str, parsed: &syn::File) -> Vec<(String, usize)> {
    let tokens: TokenStream = text.parse().expect("it was parsed");
    let mut found = Vec::new();
    add_words(tokens, &mut found);
    let tests = parsed.items.iter().filter(|item| super::source::is_for_tests(super::paths::attributes_of(item)));
    let tests: Vec<_> =
        tests.map(syn::spanned::Spanned::span).map(|span| span.start().line..=span.end().line).collect();
    found.retain(|(_, line)| !tests.iter().any(|lines| lines.contains(line)));
    found
}

fn add_words(tokens: TokenStream, found: &mut Vec<(String, usize)>) {
    let mut follows_a_dot = false;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                let word = ident.to_string();
                if FORBIDDEN_WORDS.contains(&word.as_str()) || follows_a_dot && word == "elapsed" {
                    found.push((word, ident.span().start().line));
                }
                follows_a_dot = false;
            }
            TokenTree::Group(group) => {
                add_words(group.stream(), found);
                follows_a_dot = false;
            }
            TokenTree::Punct(punct) => follows_a_dot = punct.as_char() == '.',
            TokenTree::Literal(_) => follows_a_dot = false,
        }
    }
}

#[test]
fn decisions_do_no_io_and_read_no_clock() {
    let files = rust_files();
    let mut found = Vec::new();
    for role in ROLES {
        let folder = format!("{role}/src/decide");
        let decisions: Vec<&SourceFile> =
            files.iter().filter(|file| file.is_in(&folder) && !file.is_for_tests()).collect();
        assert!(!decisions.is_empty(), "{role} decides something");
        found.extend(decisions.into_iter().flat_map(violations));
    }
    assert_none("pass time, names and draws as arguments, and return what is to be done as an effect", &found);
}

#[test]
fn each_kind_of_io_in_a_decision_is_found() {
    for bad in [
        "use std::fs;\nfn f() { fs::read(x); }",
        "fn f() { std::env::var(x); }",
        "use std::{env as e};",
        "use std::time::Instant;\nfn f() { Instant::now(); }",
        "fn f(t: Instant) { t.elapsed(); }",
        "use uuid::Uuid;",
        "fn f() -> f64 { rand::random() }",
        "fn f() -> u8 { fastrand::u8(..) }",
        "fn f() { JobId::generate(); }",
        "use tokio::sync::mpsc;",
        "async fn f() {}",
        "fn f() { println!(\"x\"); }",
        "fn f() { vec![std::process::id()]; }",
    ] {
        assert_ne!(violations(&SourceFile::sample("a.rs", bad)), [], "{bad}");
    }
}

#[test]
fn plain_code_and_tests_of_a_decision_are_left_alone() {
    let fine = "use std::time::{Duration, Instant};\nuse rbee_schema::Event;\nuse super::place;\n\
                fn f(now: Instant) -> u32 { place::choose(now, u32::MAX, crate::decide::x) }\n\
                #[cfg(test)]\nmod tests { fn f() { std::fs::read(Instant::now()); } async fn g() {} }";
    assert_eq!(violations(&SourceFile::sample("a.rs", fine)), []);
}
