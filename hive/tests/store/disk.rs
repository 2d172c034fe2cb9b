//! A full disk is found before the first byte is fetched.

use std::{path::PathBuf, process::Command};

use rbee_schema::FailureCode;
use tempfile::{TempDir, tempdir};

use crate::hub::{FakeHub, files_under, provide, weights};

/// A file system of 4 MiB.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempdir().expect("a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path()).output();
        let mounted = mounted.expect("there is a mount program");
        let words = String::from_utf8_lossy(&mounted.stderr);
        assert!(mounted.status.success(), "failed to mount a tmpfs of 4 MiB; this test needs root: {words}");
        Self(folder)
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("models")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn file_that_does_not_fit_is_refused_before_its_first_byte() {
    let hub = FakeHub::start(&[("large.gguf", weights(5 << 20)), ("small.gguf", weights(1 << 20))]).await;
    let disk = SmallDisk::mount();
    let store = hub.store(&disk.folder());
    let failure = provide(&store, "hf:o/r/large.gguf").await.expect_err("it does not fit");
    assert!(failure.code == FailureCode::DiskFull && failure.retryable, "{failure}");
    assert!(failure.message.contains("5 MiB") && failure.message.contains("--models"), "{failure}");
    assert_eq!(hub.ranges(), [None; 0], "no byte was requested");
    assert_eq!(files_under(&disk.folder()), [""; 0]);
    provide(&store, "hf:o/r/small.gguf").await.expect("this one fits");
}
