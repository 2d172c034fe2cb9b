//! The programs of this repository.

use std::{env, path::PathBuf, process::Command};

/// A program of this repository, built in the same target folder as the test that runs.
///
/// # Panics
/// When it is not built.
pub fn program(name: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own program");
    let folder =
        test.ancestors().find(|folder| folder.join("deps").is_dir()).expect("tests are built in a target folder");
    let program = folder.join(name);
    assert!(program.is_file(), "{} is missing: run `cargo build --bins`", program.display());
    program
}

/// Makes a command ignore the configuration of the person who runs the tests: it reads an empty file instead.
pub fn without_configuration(command: &mut Command) -> &mut Command {
    command.env("RBEE_CONFIG", "/dev/null").env_remove("RBEE_ENV")
}
