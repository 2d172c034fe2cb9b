//! Places of the configuration file.

use std::{
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::error::CliError;

/// Places where the file is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigSource {
    /// The file that the user named. It must exist.
    Named(PathBuf),
    /// The default places. The first file that exists is read; there may be none.
    Default(Vec<PathBuf>),
}

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl ConfigSource {
    /// The named file, else the file of the user or of the machine.
    pub(crate) fn new(named: Option<PathBuf>) -> Self {
        named.map_or_else(Self::default_places, Self::Named)
    }

    fn default_places() -> Self {
        let folder = |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_absolute());
        let user = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
        let folders = user.into_iter().chain([PathBuf::from("/etc")]);
        Self::Default(folders.map(|folder| folder.join("rbee/rbee.toml")).collect())
    }

    /// Reads the file; none if no default place has one.
    ///
    /// # Errors
    /// The named file does not exist, or a file is unreadable.
    pub(crate) fn read(&self) -> Result<Option<ConfigFile>, CliError> {
        match self {
            Self::Named(path) => match read(path)? {
                Some(file) => Ok(Some(file)),
                None => Err(CliError::usage(format!(
                    "the configuration file {} does not exist: --config or RBEE_CONFIG names it; `rbee config example` \
                     prints one to start from",
                    path.display()
                ))),
            },
            Self::Default(paths) => paths.iter().find_map(|path| read(path).transpose()).transpose(),
        }
    }

    /// Message that there is no file, with the places that were tried.
    pub(crate) fn describe_absence(&self) -> String {
        let paths = match self {
            Self::Named(path) => std::slice::from_ref(path),
            Self::Default(paths) => paths,
        };
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        format!("there is no configuration file (tried {})", paths.join(", then "))
    }
}

fn read(path: &Path) -> Result<Option<ConfigFile>, CliError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(ConfigFile { path: path.to_owned(), text })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CliError::usage(format!(
            "failed to read the configuration file {}: {error}; make it readable, or name another with --config",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_existing_default_file_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let [user, machine] = ["user.toml", "machine.toml"].map(|name| folder.path().join(name));
        let source = ConfigSource::Default(vec![user.clone(), machine.clone()]);
        assert_eq!(source.read(), Ok(None));
        for (path, text) in [(&machine, "machine"), (&user, "user")] {
            fs::write(path, text).expect("a file can be written");
            assert_eq!(source.read(), Ok(Some(ConfigFile { path: path.clone(), text: text.to_owned() })));
        }
    }

    #[test]
    fn a_named_file_must_exist() {
        let error = ConfigSource::Named("/nowhere/rbee.toml".into()).read().expect_err("it does not exist");
        assert!(error.message().contains("/nowhere/rbee.toml does not exist"), "{}", error.message());
    }

    #[test]
    fn an_unreadable_file_is_an_error_in_every_place() {
        let folder = tempfile::tempdir().expect("a folder");
        for source in
            [ConfigSource::Default(vec![folder.path().to_owned()]), ConfigSource::Named(folder.path().to_owned())]
        {
            let error = source.read().expect_err("a folder is no file");
            assert!(error.message().contains("failed to read"), "{}", error.message());
        }
    }
}
