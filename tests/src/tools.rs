//! Programs, models and third-party clients that `scripts/setup` installs into `.tools`.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder of this repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The nats-server of the tests: `RBEE_NATS_SERVER` where it is set, else the one in `.tools`.
///
/// # Panics
/// When it is missing.
pub fn nats_server() -> PathBuf {
    match env::var_os("RBEE_NATS_SERVER") {
        Some(named) => existing(PathBuf::from(named), "RBEE_NATS_SERVER names it; correct or unset that"),
        None => existing(repository().join(".tools/bin/nats-server"), "run `make setup`"),
    }
}

/// A small language model: `RBEE_TEST_MODEL` where it is set, else the one in `.tools`.
///
/// # Panics
/// When it is missing.
pub fn model() -> PathBuf {
    match env::var_os("RBEE_TEST_MODEL") {
        Some(named) => existing(PathBuf::from(named), "RBEE_TEST_MODEL names it; correct or unset that"),
        None => existing(repository().join(".tools/models/SmolLM2-135M-Instruct.Q4_1.gguf"), "run `make setup`"),
    }
}

/// The folder of a small embedding model.
///
/// # Panics
/// When it is missing.
pub fn encoder() -> PathBuf {
    existing(repository().join(".tools/models/all-MiniLM-L6-v2"), "run `make setup`")
}

/// The folder with nats-py, for `PYTHONPATH`.
///
/// # Panics
/// When it is missing.
pub fn python_packages() -> PathBuf {
    existing(repository().join(".tools/python"), "run `make setup`")
}

/// The sshd of the tests: `RBEE_SSHD` where it is set, else the one of this machine, else the one in `.tools`.
///
/// # Panics
/// When it is missing.
pub fn sshd() -> PathBuf {
    if let Some(named) = env::var_os("RBEE_SSHD") {
        return existing(PathBuf::from(named), "RBEE_SSHD names it; correct or unset that");
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let of_machine = folders.map(|folder| folder.join("sshd")).find(|program| program.is_file());
    of_machine.unwrap_or_else(|| {
        let remedy = "run `make setup`, or install the SSH server (Debian: apt install openssh-server)";
        existing(repository().join(".tools/ssh/sshd"), remedy)
    })
}

fn existing(path: PathBuf, remedy: &str) -> PathBuf {
    assert!(path.exists(), "{} is missing: {remedy}", path.display());
    path
}
