//! A partial download. Disk space for the whole file is reserved before the first byte, and the length of the file is the
//! number of bytes fetched so far, so that a fetch after a crash continues there.

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

use super::{
    digest::Running,
    progress::{Progress, Stage},
};
use crate::decide::fetch::Pace;

/// Bytes written between two syncs. The last sync then takes seconds, however large the file is.
const SYNC: u64 = 256 << 20;

/// A file of which a part is fetched. It holds the lock, so there is only one.
#[derive(Debug)]
pub(super) struct PartialDownload {
    path: PathBuf,
    file: File,
    digest: Running,
    done: u64,
    total: u64,
    synced: u64,
    pace: Pace,
    progress: watch::Sender<Progress>,
    _lock: File,
}

/// Outcome of writing what was received.
#[derive(Debug)]
pub(super) enum Written {
    /// All of it is written.
    All,
    /// More bytes came than the file has.
    TooMuch,
    /// The disk refused it.
    Failed(Failure),
}

impl PartialDownload {
    /// Opens the partial download, reserves disk space for the whole file, and reads what is there. Blocks.
    pub(super) fn open(
        path: PathBuf,
        total: u64,
        lock: File,
        progress: watch::Sender<Progress>,
    ) -> Result<Self, Failure> {
        let file = open(&path).map_err(|error| failed(&path, "open", &error))?;
        let mut partial = Self {
            path,
            file,
            digest: Running::default(),
            done: 0,
            total,
            synced: 0,
            pace: Pace::default(),
            progress,
            _lock: lock,
        };
        partial.report(Stage::Checking);
        if let Err(failure) = partial.reserve() {
            partial.delete();
            return Err(failure);
        }
        partial.read().map_err(|error| failed(&partial.path, "read", &error))?;
        Ok(partial)
    }

    /// Bytes fetched so far.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Size of the whole file in bytes.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// True once all bytes are fetched.
    pub(super) fn is_whole(&self) -> bool {
        self.done == self.total
    }

    /// Digest of the bytes fetched so far.
    pub(super) fn digest(&self) -> String {
        self.digest.text()
    }

    /// Drops what was fetched.
    pub(super) fn restart(&mut self) -> Result<(), Failure> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|error| failed(&self.path, "empty", &error))?;
        (self.digest, self.done, self.synced) = (Running::default(), 0, 0);
        self.reserve()
    }

    /// Writes the pieces that come until the channel is closed. Blocks.
    pub(super) fn append(mut self, mut pieces: mpsc::Receiver<Bytes>) -> (Self, Written) {
        while let Some(piece) = pieces.blocking_recv() {
            if piece.len() as u64 > self.total - self.done {
                return (self, Written::TooMuch);
            }
            if let Err(error) = self.write(&piece) {
                let failure = failed(&self.path, "write", &error);
                return (self, Written::Failed(failure));
            }
            self.report(Stage::Fetching);
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

    /// Gives the complete file its name; before, no reader finds it. Blocks.
    pub(super) fn finish(self, name: &std::path::Path) -> Result<(), Failure> {
        let named = self.file.sync_all().and_then(|()| fs::rename(&self.path, name));
        named.map_err(|error| failed(&self.path, "finish", &error))
    }

    /// Keeps the bytes for a later fetch, and frees the disk space reserved for the rest.
    pub(super) fn keep(self) {
        let _ = self.file.set_len(self.done);
    }

    /// Deletes the bytes.
    pub(super) fn delete(self) {
        let _ = fs::remove_file(&self.path);
    }

    /// Reserves disk space for the whole file, so that a full disk is found now. The length of the file stays the same.
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
            // This file system cannot reserve space. That enough is free now is the most that can be known.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {
                let free = self.free().unwrap_or(u64::MAX);
                let here = self.file.metadata().map_or(0, |metadata| metadata.len());
                if free < self.total.saturating_sub(here) { Err(self.full()) } else { Ok(()) }
            }
            Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => Err(self.full()),
            Err(error) => Err(failed(&self.path, "reserve disk space for", &error.into())),
        }
    }

    /// Free space on the disk, where the file system reports it.
    fn free(&self) -> Option<u64> {
        let disk = fstatvfs(&self.file).ok()?;
        Some(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    fn full(&self) -> Failure {
        let free = self.free().unwrap_or(0);
        let message = format!(
            "the disk of {} is too full for a file of {}: {} are free; delete model files with `rbee rm`, or choose another \
             folder with --models",
            self.path.parent().unwrap_or(&self.path).display(),
            ByteSize(self.total),
            ByteSize(free)
        );
        Failure::new(FailureCode::DiskFull, message)
    }

    /// Reads what an earlier fetch left.
    fn read(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.total {
            self.file.set_len(0)?;
        }
        let mut file = self.file.try_clone()?;
        let mut digest = std::mem::take(&mut self.digest);
        self.done = digest.add_file(&mut file, |done| {
            self.done = done;
            self.report(Stage::Checking);
        })?;
        self.digest = digest;
        Ok(())
    }

    fn report(&mut self, stage: Stage) {
        if self.pace.is_due(self.done, self.total, Instant::now()) {
            let progress = Progress { stage, done_bytes: self.done, total_bytes: self.total };
            self.progress.send_replace(progress);
        }
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::options().create(true).truncate(false).read(true).write(true).open(path)
}

/// Failure of an operation on the disk: `doing` is what was attempted with `path`.
pub(super) fn failed(path: &std::path::Path, doing: &str, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            FailureCode::DiskFull
        }
        _ => FailureCode::FetchFailed,
    };
    Failure::new(code, format!("the store failed to {doing} {}: {error}", path.display()))
}
