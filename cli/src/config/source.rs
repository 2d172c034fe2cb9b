//! Where the file is.

use std::{
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::error::CliError;

/// Where a file is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigSource {
    /// Where somebody said that it is: it has to be there.
    Named(PathBuf),
    /// In the usual places, the first that is there; there need be none.
    Usual(Vec<PathBuf>),
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl ConfigSource {
    /// The named one, or else the user's and then the machine's.
    pub(crate) fn new(named: Option<PathBuf>) -> Self {
        named.map_or_else(Self::usual, Self::Named)
    }

    fn usual() -> Self {
        let folder = |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_absolute());
        let user = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
        let folders = user.into_iter().chain([PathBuf::from("/etc")]);
        Self::Usual(folders.map(|folder| folder.join("rbee/rbee.toml")).collect())
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or is not there although it was named.
    pub(crate) fn read(&self) -> Result<Option<File>, CliError> {
        match self {
            Self::Named(path) => match read(path)? {
                Some(file) => Ok(Some(file)),
                None => Err(CliError::usage(format!(
                    "{} is not there: --config or RBEE_CONFIG names it as the configuration file; `rbee config example` \
                     prints one to begin with",
                    path.display()
                ))),
            },
            Self::Usual(paths) => paths.iter().find_map(|path| read(path).transpose()).transpose(),
        }
    }

    /// Says that there is none.
    pub(crate) fn absence(&self) -> String {
        let paths: Vec<String> = self.paths().iter().map(|path| path.display().to_string()).collect();
        format!("there is no configuration file (looked for {})", paths.join(", then "))
    }

    fn paths(&self) -> &[PathBuf] {
        match self {
            Self::Named(path) => std::slice::from_ref(path),
            Self::Usual(paths) => paths,
        }
    }
}

fn read(path: &Path) -> Result<Option<File>, CliError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(File { path: path.to_owned(), text })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::usage(format!(
            "the configuration file {} cannot be read: {error}; make it readable, or name another with --config",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_is_there_is_taken_and_there_need_be_none() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let [user, machine] = ["user.toml", "machine.toml"].map(|name| folder.path().join(name));
        let source = ConfigSource::Usual(vec![user.clone(), machine.clone()]);
        assert_eq!(source.read(), Ok(None));
        for (path, text) in [(&machine, "machine"), (&user, "user")] {
            fs::write(path, text).expect("a file can be written");
            assert_eq!(source.read(), Ok(Some(File { path: path.clone(), text: text.to_owned() })));
        }
    }

    #[test]
    fn a_file_that_was_named_has_to_be_there() {
        let error = ConfigSource::Named("/nowhere/rbee.toml".into()).read().expect_err("it is not there");
        assert!(error.message().contains("/nowhere/rbee.toml is not there"), "{}", error.message());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_wherever_it_is() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let error = ConfigSource::Usual(vec![folder.path().to_owned()]).read().expect_err("a folder is no file");
        assert!(error.message().contains("cannot be read"), "{}", error.message());
    }
}
