//! The disk of the embedded server: full, or with room again.
//!
//! A nats-server that could not write a message of a stream answers nothing for that stream until it is started again, also
//! when the disk has room. It says so in its log only, and the log may be on the same disk.

use std::{io, path::Path};

use rustix::fs::statvfs;

/// Free space below which a disk counts as full, in bytes: the largest message with its headers, and some files of the server.
const FULL: u64 = 2 << 20;

/// Free space from which on a disk that was full has room again, in bytes.
const ROOM: u64 = 8 << 20;

/// State of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Disk {
    /// The server can write.
    #[default]
    HasRoom,
    /// The disk is full, and the server may have failed to write.
    Full,
}

/// Change of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The disk has become full.
    BecameFull,
    /// A disk that was full has room: the server needs a restart.
    HasRoomAgain,
}

impl Disk {
    /// Takes an observation into account: the free space in bytes, and whether the server has failed to write since the last
    /// observation.
    pub(super) fn observe(&mut self, free: u64, write_failed: bool) -> Option<Change> {
        match self {
            Self::HasRoom if free < FULL || write_failed => {
                *self = Self::Full;
                Some(Change::BecameFull)
            }
            Self::Full if free >= ROOM => {
                *self = Self::HasRoom;
                Some(Change::HasRoomAgain)
            }
            Self::HasRoom | Self::Full => None,
        }
    }
}

/// Free space on the disk of a folder, in bytes.
pub(super) fn free(folder: &Path) -> io::Result<u64> {
    let disk = statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Size of all files in a folder, in bytes. Files that disappear meanwhile count as empty.
pub(super) fn used(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => used(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_restarted_once_its_full_disk_has_room() {
        let mut disk = Disk::default();
        for (free, write_failed, expected) in [
            (ROOM, false, None),
            (FULL, false, None),
            (FULL - 1, false, Some(Change::BecameFull)),
            (0, true, None),
            (ROOM - 1, false, None),
            (ROOM, false, Some(Change::HasRoomAgain)),
            (ROOM, false, None),
            // Freed again between two observations.
            (u64::MAX, true, Some(Change::BecameFull)),
            (u64::MAX, false, Some(Change::HasRoomAgain)),
        ] {
            assert_eq!(disk.observe(free, write_failed), expected, "{free} {write_failed}");
        }
    }

    #[test]
    fn used_space_is_that_of_all_files() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("a")).expect("made");
        std::fs::write(folder.path().join("a/b"), [0; 10]).expect("written");
        std::fs::write(folder.path().join("c"), [0; 5]).expect("written");
        assert_eq!((used(folder.path()), used(Path::new("/nowhere"))), (15, 0));
        assert!(free(folder.path()).expect("a disk") > 0);
    }
}
