//! The programs to copy: `rbee` and `rbee-worker`, built for one architecture.

use std::{
    env,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{error::CliError, worker_program::worker_program};

/// The two programs of a version.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    /// Id derived from the contents of both files.
    pub(super) id: String,
    /// Architecture the programs are built for, as `uname -m` names it.
    pub(super) machine: &'static str,
    /// Total size in bytes.
    pub(super) bytes: u64,
    /// The files, with their names on the remote machine.
    pub(super) files: [Program; 2],
}

/// One program.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) file: PathBuf,
    pub(super) sha256: String,
}

impl Programs {
    /// Finds the programs in `folder`; by default this program, and the worker that a local hive would start.
    ///
    /// # Errors
    /// A program is missing, unreadable, not a 64-bit Linux program, or the two are built for different architectures.
    pub(super) async fn find(folder: Option<&Path>) -> Result<Self, CliError> {
        let (hive, worker) = match folder {
            Some(folder) => (folder.join("rbee"), folder.join("rbee-worker")),
            None => {
                let ours = env::current_exe()
                    .map_err(|cause| CliError::failed(format!("failed to find rbee itself: {cause}")))?;
                (ours, worker_program(None)?)
            }
        };
        let read = tokio::task::spawn_blocking(move || Self::read(hive, worker));
        read.await
            .map_err(|error| CliError::failed(format!("the programs could not be read: {error}")))?
            .map_err(CliError::failed)
    }

    fn read(hive: PathBuf, worker: PathBuf) -> Result<Self, String> {
        let (hive, machine, hive_bytes) = Program::read("rbee", hive)?;
        let (worker, worker_machine, worker_bytes) = Program::read("rbee-worker", worker)?;
        if machine != worker_machine {
            return Err(format!(
                "{} is built for {machine} but {} for {worker_machine}: name a folder with matching programs with --programs",
                hive.file.display(),
                worker.file.display()
            ));
        }
        let mut id = hex(&Sha256::digest(format!("{} {}", hive.sha256, worker.sha256)));
        // Long enough to distinguish versions, and short enough to read.
        id.truncate(16);
        Ok(Self { id, machine, bytes: hive_bytes + worker_bytes, files: [hive, worker] })
    }
}

impl Program {
    fn read(name: &'static str, file: PathBuf) -> Result<(Self, &'static str, u64), String> {
        let failed = |cause: io::Error| {
            format!(
                "failed to read {}: {cause}; build it with `cargo build --release`, or name a folder with --programs",
                file.display()
            )
        };
        let mut opened = File::open(&file).map_err(failed)?;
        let mut head = [0; 20];
        opened.read_exact(&mut head).map_err(failed)?;
        let Some(machine) = machine(&head) else {
            return Err(format!(
                "{} is not a program for 64-bit Linux: build rbee for the remote machine, and name the folder with --programs",
                file.display()
            ));
        };
        let mut hash = Sha256::new();
        hash.update(head);
        let rest = io::copy(&mut opened, &mut hash).map_err(failed)?;
        Ok((Self { name, sha256: hex(&hash.finalize()), file }, machine, rest + head.len() as u64))
    }
}

/// Architecture in the header of an ELF file: class 2 (64 bits), little endian, `e_machine` at byte 18 (elf(5)).
fn machine(head: &[u8; 20]) -> Option<&'static str> {
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    match u16::from_le_bytes([head[18], head[19]]) {
        62 => Some("x86_64"),
        183 => Some("aarch64"),
        243 => Some("riscv64"),
        _ => None,
    }
}

/// SHA-256 of a text, in hexadecimal.
pub(super) fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architecture_is_read_from_the_elf_header() {
        let head = |start: &[u8; 6], number: u8| {
            let mut head = [0; 20];
            head[..6].copy_from_slice(start);
            head[18] = number;
            machine(&head)
        };
        assert_eq!(head(b"\x7fELF\x02\x01", 62), Some("x86_64"));
        assert_eq!(head(b"\x7fELF\x02\x01", 183), Some("aarch64"));
        for (start, number) in [(b"\x7fELF\x01\x01", 3), (b"\xcf\xfa\xed\xfe\x07\x00", 62), (b"#!/bin", 62)] {
            assert_eq!(head(start, number), None, "{start:?}");
        }
    }

    #[tokio::test]
    async fn program_id_depends_on_both_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, more: &str| {
            let mut bytes = b"\x7fELF\x02\x01".to_vec();
            bytes.resize(18, 0);
            bytes.extend([62, 0]);
            bytes.extend(more.as_bytes());
            std::fs::write(folder.path().join(name), bytes).expect("written");
        };
        let find = async || Programs::find(Some(folder.path())).await.map(|found| (found.id, found.bytes));
        write("rbee", "one");
        assert!(find().await.expect_err("one is missing").message().contains("rbee-worker"));
        write("rbee-worker", "one");
        let first = find().await.expect("both");
        assert_eq!((&first, first.1), (&find().await.expect("both"), 46));
        write("rbee-worker", "two");
        assert_ne!(first.0, find().await.expect("both").0);
        std::fs::write(folder.path().join("rbee"), "#!/bin/sh\necho something else\n").expect("written");
        assert!(find().await.expect_err("a script").message().contains("--programs"));
    }
}
