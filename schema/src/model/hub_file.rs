//! References to files on the Hugging Face Hub.

use std::{fmt, str::FromStr};

/// A file of a repository on the Hugging Face Hub, written as `owner/repo[@revision][/path/to/file.gguf]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HubFile {
    /// Repository, as `owner/name`.
    pub repository: String,
    /// Branch, tag or commit; default `main`.
    pub revision: Option<String>,
    /// Path of the file in the repository; default: the only GGUF file of the repository.
    pub path: Option<String>,
}

/// Longest owner, repository name, revision, or part of a path: the Hub's own limit for names.
const MAX_PART_BYTES: usize = 96;

impl FromStr for HubFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!("`hf:{text}` is not a file on the hub: {why}; expected hf:owner/repo[@revision][/file.gguf]"))
        };
        let mut parts = text.splitn(3, '/');
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else { return wrong("a repository has an owner") };
        let (name, revision) = match name.split_once('@') {
            Some((name, revision)) => (name, Some(revision.to_owned())),
            None => (name, None),
        };
        let path = parts.next().map(str::to_owned);
        if !is_part(owner) || !is_part(name) {
            return wrong("owner and repository consist of A-Z a-z 0-9 - _ .");
        }
        if revision.as_deref().is_some_and(|revision| !is_part(revision)) {
            return wrong("a revision consists of A-Z a-z 0-9 - _ .");
        }
        if path.as_deref().is_some_and(|path| !path.split('/').all(is_part) || !path.ends_with(".gguf")) {
            return wrong("the path of a file consists of A-Z a-z 0-9 - _ . / and ends with .gguf");
        }
        Ok(Self { repository: format!("{owner}/{name}"), revision, path })
    }
}

/// Checks one part of a reference. No part begins with a dot, so that a path cannot leave its repository.
fn is_part(part: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !part.is_empty() && part.len() <= MAX_PART_BYTES && part.chars().all(allowed) && !part.starts_with('.')
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(path) = &self.path {
            write!(f, "/{path}")?;
        }
        Ok(())
    }
}
