//! The files that git tracks, and the violations that a rule finds in them.

use std::{fmt, fs, process::Command};

use rbee_tests::tools::repository;
use syn::{Attribute, Meta};

/// One file of the repository. Its path is relative to the repository.
#[derive(Debug, Clone)]
pub(super) struct SourceFile {
    pub(super) path: String,
    pub(super) text: String,
}

/// A place that violates a rule.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) path: String,
    /// Line number, from 1. The circle rule prints no line where it found none.
    pub(super) line: usize,
    pub(super) text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

impl SourceFile {
    /// A file that exists only in a test of a rule.
    pub(super) fn sample(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(super) fn violation(&self, line: usize, text: impl Into<String>) -> Violation {
        Violation { path: self.path.clone(), line, text: text.into() }
    }

    pub(super) fn parse(&self) -> syn::File {
        syn::parse_file(&self.text).unwrap_or_else(|error| panic!("{} cannot be parsed: {error}", self.path))
    }

    pub(super) fn is_in(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// True for a file that only tests use: `tests.rs` beside the code, or `fixture.rs` with what several tests begin with.
    pub(super) fn is_for_tests(&self) -> bool {
        ["/tests.rs", "/fixture.rs"].iter().any(|end| self.path.ends_with(end))
    }
}

/// Every tracked file that holds text, and new files that git does not ignore.
pub(super) fn text_files() -> Vec<SourceFile> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(repository())
        .output()
        .expect("git lists the files of this repository: install git");
    assert!(listed.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    let files: Vec<SourceFile> = listed.split_terminator('\0').filter_map(read).collect();
    assert!(files.len() > 300, "git lists {} text files of this repository", files.len());
    files
}

/// `None` for a file that was deleted or is binary.
fn read(path: &str) -> Option<SourceFile> {
    let text = String::from_utf8(fs::read(repository().join(path)).ok()?).ok()?;
    Some(SourceFile { path: path.to_owned(), text })
}

/// Every tracked Rust file.
pub(super) fn rust_files() -> Vec<SourceFile> {
    text_files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// Fails with every violation, one a line.
pub(super) fn assert_none(rule: &str, violations: &[Violation]) {
    let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "{rule}; {} violations:\n{}", lines.len(), lines.join("\n"));
}

/// True for an item that is compiled for tests alone.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        Meta::Path(path) => path.segments.last().is_some_and(|last| last.ident == "test"),
        Meta::List(_) | Meta::NameValue(_) => false,
    })
}
