//! A file that is not whole yet: room is reserved for all of it before the first byte, and its length is how much of it
//! is here, so that whoever comes after a crash goes on from there.

use std::{
    fs::{self, File},
    io::{self, Seek as _, Write as _},
    path::PathBuf,
    time::Instant,
};

use bytes::Bytes;
use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::fstatvfs,
};
use rbee_schema::{ByteSize, Failure, FailureCode};
use tokio::sync::{mpsc, watch};

use super::{Progress, Stage, digest::Running};
use crate::decide::fetch::Pace;

/// How much may be written before the disk must have it: the end is then a matter of seconds, however large the file.
const SYNC: u64 = 256 << 20;

/// A file that is not whole yet. Whoever has it is the only one: it holds the lock.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    file: File,
    digest: Running,
    done: u64,
    total: u64,
    synced: u64,
    pace: Pace,
    told: watch::Sender<Progress>,
    _lock: File,
}

/// How writing went.
#[derive(Debug)]
pub(super) enum Written {
    /// All that came is written.
    All,
    /// More came than the file is large.
    TooMuch,
    /// The disk did not take it.
    Failed(Failure),
}

impl Part {
    /// Opens the part, reserves room for the whole file, and reads what is there. Blocks.
    pub(super) fn open(path: PathBuf, total: u64, lock: File, told: watch::Sender<Progress>) -> Result<Self, Failure> {
        let file = open(&path).map_err(|error| failed(&path, "open", &error))?;
        let mut part = Self {
            path,
            file,
            digest: Running::default(),
            done: 0,
            total,
            synced: 0,
            pace: Pace::default(),
            told,
            _lock: lock,
        };
        part.tell(Stage::Checking);
        if let Err(failure) = part.reserve() {
            part.delete();
            return Err(failure);
        }
        part.read().map_err(|error| failed(&part.path, "read", &error))?;
        Ok(part)
    }

    /// How many bytes are here.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// How many bytes it will have.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Whether all of it is here.
    pub(super) fn is_whole(&self) -> bool {
        self.done == self.total
    }

    /// The digest of what is here.
    pub(super) fn digest(&self) -> String {
        self.digest.text()
    }

    /// Begins again with nothing.
    pub(super) fn start_anew(&mut self) -> Result<(), Failure> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|error| failed(&self.path, "empty", &error))?;
        (self.digest, self.done, self.synced) = (Running::default(), 0, 0);
        self.reserve()
    }

    /// Writes what comes until no more does. Blocks.
    pub(super) fn append(mut self, mut pieces: mpsc::Receiver<Bytes>) -> (Self, Written) {
        while let Some(piece) = pieces.blocking_recv() {
            if piece.len() as u64 > self.total - self.done {
                return (self, Written::TooMuch);
            }
            if let Err(error) = self.write(&piece) {
                let failure = failed(&self.path, "write", &error);
                return (self, Written::Failed(failure));
            }
            self.tell(Stage::Fetching);
        }
        (self, Written::All)
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.digest.add(piece);
        self.done += piece.len() as u64;
        if self.done - self.synced >= SYNC {
            self.file.sync_data()?;
            self.synced = self.done;
        }
        Ok(())
    }

    /// Gives the whole file its name. Until then nobody finds it. Blocks.
    pub(super) fn finish(self, name: &std::path::Path) -> Result<(), Failure> {
        let named = self.file.sync_all().and_then(|()| fs::rename(&self.path, name));
        named.map_err(|error| failed(&self.path, "finish", &error))
    }

    /// Keeps what is here for another time, and gives back the room for the rest.
    pub(super) fn keep(self) {
        let _ = self.file.set_len(self.done);
    }

    /// Leaves nothing.
    pub(super) fn delete(self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Reserves room for the whole file, so that a full disk is known now. The length stays what is here.
    fn reserve(&self) -> Result<(), Failure> {
        let reserved = match self.total {
            0 => Ok(()),
            #[cfg(target_os = "linux")]
            total => {
                fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, i64::try_from(total).unwrap_or(i64::MAX))
            }
            #[cfg(not(target_os = "linux"))]
            _ => Err(Errno::EOPNOTSUPP),
        };
        match reserved {
            Ok(()) => Ok(()),
            // This file system cannot reserve: that there is room now is the most that can be known.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                let free = self.free().unwrap_or(u64::MAX);
                let here = self.file.metadata().map_or(0, |metadata| metadata.len());
                if free < self.total.saturating_sub(here) { Err(self.full()) } else { Ok(()) }
            }
            Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => Err(self.full()),
            Err(error) => Err(failed(&self.path, "reserve room for", &error.into())),
        }
    }

    /// Free space on the disk, where the file system tells it.
    fn free(&self) -> Option<u64> {
        let disk = fstatvfs(&self.file).ok()?;
        Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    fn full(&self) -> Failure {
        let free = self.free().unwrap_or(0);
        let message = format!(
            "{} has too little room for a file of {}: {} are free; delete what is not needed with `rbee rm`, or choose \
             another folder with --models",
            self.path.parent().unwrap_or(&self.path).display(),
            ByteSize(self.total),
            ByteSize(free)
        );
        Failure::new(FailureCode::DiskFull, message)
    }

    /// Reads what was there before.
    fn read(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.total {
            self.file.set_len(0)?;
        }
        let mut file = self.file.try_clone()?;
        let mut digest = std::mem::take(&mut self.digest);
        self.done = digest.add_file(&mut file, |done| {
            self.done = done;
            self.tell(Stage::Checking);
        })?;
        self.digest = digest;
        Ok(())
    }

    fn tell(&mut self, stage: Stage) {
        if self.pace.is_due(self.done, self.total, Instant::now()) {
            let progress = Progress { stage, done_bytes: self.done, total_bytes: self.total };
            self.told.send_replace(progress);
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::options().create(true).truncate(false).read(true).write(true).open(path)
}

/// What it means that something on the disk did not work.
pub(super) fn failed(path: &std::path::Path, doing: &str, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            FailureCode::DiskFull
        }
        _ => FailureCode::FetchFailed,
    };
    Failure::new(code, format!("the store failed to {doing} {}: {error}", path.display()))
}
