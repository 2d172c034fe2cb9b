//! References to models as people write them, resolved or refused with what was probably meant.

use std::{
    env,
    path::{Path, PathBuf},
};

use rbee_schema::ModelReference;

/// Address of a file on the hub, as a browser shows it.
const HUB: &str = "huggingface.co/";

/// Reads a reference. A relative path starts at `folder` and `~` is the home folder, because hives run in other folders.
///
/// # Errors
/// The reference is of a kind that hives cannot fetch. The message names the one that was probably meant.
pub(crate) fn resolve(text: &str, folder: &Path) -> Result<ModelReference, String> {
    let text = text.strip_prefix("file://").filter(|path| path.starts_with('/')).unwrap_or(text);
    match text.split_once(':') {
        Some(("hf" | "mock", _)) => text.parse(),
        Some(("file", path)) => path_reference(path, folder),
        Some(("http" | "https", address)) => of_address(text, address.trim_start_matches('/')),
        Some((scheme, name)) if is_scheme(scheme) => Err(format!(
            "`{text}`: rbee does not fetch from {scheme}. Name a file on the Hugging Face Hub (hf:owner/repo/file.gguf) or on the \
             hive's machine (/path/to/{}.gguf)",
            name.rsplit('/').next().unwrap_or(name).trim_end_matches(".gguf")
        )),
        Some(_) | None => path_reference(text, folder),
    }
}

/// True for a word that may stand before a colon as the name of a place, such as `ollama`, and not for a part of a path.
fn is_scheme(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-'))
}

fn path_reference(path: &str, folder: &Path) -> Result<ModelReference, String> {
    if path.is_empty() {
        return Err("the reference is empty: expected /path/to/model.gguf or hf:owner/repo/file.gguf".to_owned());
    }
    let path = match (path.strip_prefix("~/"), env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => folder.join(path),
    };
    std::path::absolute(&path).map(ModelReference::File).map_err(|error| format!("{}: {error}", path.display()))
}

/// A file of the hub by its address in a browser; a refusal of any other address.
fn of_address(text: &str, address: &str) -> Result<ModelReference, String> {
    let path = address.strip_prefix(HUB).unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    match parts.as_slice() {
        [owner, repository] if !owner.is_empty() => format!("hf:{owner}/{repository}").parse(),
        [owner, repository, "blob" | "resolve", revision, file @ ..] if !file.is_empty() => {
            format!("hf:{owner}/{repository}@{revision}/{}", file.join("/")).parse()
        }
        _ => Err(format!(
            "`{text}`: rbee fetches model files from the Hugging Face Hub only, as hf:owner/repo/file.gguf. Download the file to \
             the hive's machine and name its path"
        )),
    }
}

/// Reads a reference on the command line. A relative path must exist on this machine: nothing else shows that a path is meant.
///
/// # Errors
/// Those of [`resolve`], and a relative path that does not exist.
pub(crate) fn parse_reference(text: &str) -> Result<ModelReference, String> {
    let reference = resolve(text, Path::new(""))?;
    let is_relative = !text.starts_with("file:/") && !text.starts_with('/');
    match &reference {
        ModelReference::File(path) if is_relative && !path.exists() => {
            let hub = (text.split('/').count() == 2 && !text.starts_with(['.', '~']))
                .then(|| format!(" On the Hugging Face Hub it would be hf:{text}."));
            Err(format!(
                "there is no {} on this machine.{} A path on another machine begins with /",
                path.display(),
                hub.unwrap_or_default()
            ))
        }
        _ => Ok(reference),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_as_people_write_them() {
        let home = env::var("HOME").expect("tests have a home");
        for (text, expected) in [
            ("m.gguf", "file:/models/m.gguf".to_owned()),
            ("file:m.gguf", "file:/models/m.gguf".to_owned()),
            ("file:///a/m.gguf", "file:/a/m.gguf".to_owned()),
            ("./a:b/m.gguf", "file:/models/a:b/m.gguf".to_owned()),
            ("~/m.gguf", format!("file:{home}/m.gguf")),
            ("hf:a/b/c.gguf", "hf:a/b/c.gguf".to_owned()),
            ("mock:tokens=3", "mock:tokens=3".to_owned()),
            ("https://huggingface.co/a/b", "hf:a/b".to_owned()),
            ("https://huggingface.co/a/b/blob/main/c.gguf?download=true", "hf:a/b@main/c.gguf".to_owned()),
        ] {
            let found = resolve(text, Path::new("/models")).map(|reference| reference.to_string());
            assert_eq!(found, Ok(expected), "{text}");
        }
    }

    #[test]
    fn references_that_nothing_can_fetch_are_refused_with_a_remedy() {
        for (text, words) in [
            ("http://host/m.gguf", "Download the file"),
            ("https://huggingface.co/a/b/tree/main/c.gguf", "hf:owner/repo/file.gguf"),
            ("ollama:llama3", "does not fetch from ollama"),
            ("s3://bucket/m.gguf", "/path/to/m.gguf)"),
            ("", "is empty"),
            ("hf:a", "a repository has an owner"),
        ] {
            let error = resolve(text, Path::new("/models")).expect_err(text);
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_relative_path_on_the_command_line_must_exist() {
        let ModelReference::File(path) = parse_reference("src/lib.rs").expect("it exists") else {
            panic!("not a file")
        };
        assert!(path.is_absolute() && path.ends_with("src/lib.rs"), "{}", path.display());
        assert!(parse_reference("/on/the/hive.gguf").is_ok());
        let error = parse_reference("org/model").expect_err("it does not exist");
        assert!(error.contains("hf:org/model") && error.contains("begins with /"), "{error}");
        let error = parse_reference("~/no-such.gguf").expect_err("it does not exist");
        assert!(!error.contains("hf:"), "{error}");
    }
}
