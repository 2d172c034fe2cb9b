//! The lock of one file of the store: two processes that share the folder do not write the same bytes.
//!
//! It is a lock of the kernel on a file of its own that stays: it ends with the process that holds it, however that
//! ends.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout};

/// How often a waiter says that it waits.
const WORD: Duration = Duration::from_secs(5);

/// Why a lock was not taken.
#[derive(Debug)]
pub(super) enum NotLocked {
    /// Another process has it, and brought nothing for this long.
    Held(Duration),
    /// It cannot be had at all.
    Failed(io::Error),
}

/// Takes a lock, which is held as long as the file is open. While another has it, `look` says from time to time how far
/// that is; the wait ends when nothing has come for `standstill`.
pub(super) async fn take(path: &Path, standstill: Duration, mut look: impl FnMut() -> u64) -> Result<File, NotLocked> {
    let file = open(path).map_err(NotLocked::Failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(NotLocked::Failed(error)),
    }
    // A thread of its own, which may wait for hours and keeps no runtime from its end. When nobody waits for it any
    // longer, the lock is dropped as soon as it is had.
    let (sender, mut locked) = oneshot::channel();
    let waiting = std::thread::Builder::new().name("store-lock".into()).spawn(move || {
        let _ = sender.send(file.lock().map(|()| file));
    });
    waiting.map_err(NotLocked::Failed)?;
    let (mut seen, mut since) = (look(), Instant::now());
    loop {
        match timeout(WORD.min(standstill), &mut locked).await {
            Ok(Ok(Ok(file))) => return Ok(file),
            Ok(Ok(Err(error))) => return Err(NotLocked::Failed(error)),
            Ok(Err(_)) => return Err(NotLocked::Failed(io::Error::other("the thread that waits for it ended"))),
            Err(_) => {}
        }
        let now = look();
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= standstill {
            return Err(NotLocked::Held(standstill));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::options().create(true).truncate(false).read(true).write(true).open(path)
}
