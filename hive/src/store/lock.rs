//! The lock of one file of the store, so that two processes that share the folder do not write the same bytes.
//!
//! It is a kernel lock (flock(2)) on a file of its own, which is never deleted. It ends with the process that holds it,
//! however that process ends.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout};

/// Interval at which a waiting fetch checks the progress of the other process and reports it.
const CHECK: Duration = Duration::from_secs(5);

/// Reason for which a lock was not taken.
#[derive(Debug)]
pub(super) enum NotLocked {
    /// Another process holds the lock, and has made no progress for this long.
    Held(Duration),
    /// The lock file cannot be opened or locked.
    Failed(io::Error),
}

/// Takes a lock, which is held while the returned file is open. While another process holds it, `progress` is called from
/// time to time and returns the bytes fetched by that process. The wait ends when it makes none for `standstill`.
pub(super) async fn take(
    path: &Path,
    standstill: Duration,
    mut progress: impl FnMut() -> u64,
) -> Result<File, NotLocked> {
    let file = open(path).map_err(NotLocked::Failed)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(NotLocked::Failed(error)),
    }
    // A thread of its own, because it may wait for hours, and a runtime waits for its blocking tasks when it ends. Where the
    // fetch was dropped meanwhile, the lock is released as soon as it is taken.
    let (sender, mut locked) = oneshot::channel();
    let waiting = std::thread::Builder::new().name("store-lock".into()).spawn(move || {
        let _ = sender.send(file.lock().map(|()| file));
    });
    waiting.map_err(NotLocked::Failed)?;
    let (mut seen, mut since) = (progress(), Instant::now());
    loop {
        // Timer: interval at which the progress of the other process is checked.
        match timeout(CHECK.min(standstill), &mut locked).await {
            Ok(Ok(Ok(file))) => return Ok(file),
            Ok(Ok(Err(error))) => return Err(NotLocked::Failed(error)),
            Ok(Err(_)) => {
                return Err(NotLocked::Failed(io::Error::other("the thread that waits for the lock has ended")));
            }
            Err(_) => {}
        }
        let now = progress();
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
