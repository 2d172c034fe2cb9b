//! Output of workers: one log file for each, rotated when it is large, and its last lines.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rbee_schema::{ByteSize, WorkerName};
use tracing::{info, warn};

use crate::decide::bounds::Bounds;

/// Log file of a worker.
pub(crate) fn log_file(data: &Path, worker: &WorkerName) -> PathBuf {
    data.join("logs").join(format!("{worker}.log"))
}

/// Opens the log for a new run of a worker. A large log is rotated first.
pub(crate) fn begin(log: &Path, epoch: u64, large: ByteSize) -> io::Result<File> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    rotate(log, large);
    let mut file = append(log)?;
    writeln!(file, "{}", headline(epoch))?;
    Ok(file)
}

/// Opens the log for appending.
pub(crate) fn append(log: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(log)
}

/// First line of a run, which separates its output from that of the run before.
fn headline(epoch: u64) -> String {
    format!("---- run {epoch} ----")
}

/// Deletes the logs of removed workers that are older than `age`.
pub(crate) fn prune(data: &Path, kept: &BTreeSet<WorkerName>, age: Duration) {
    let files = fs::read_dir(data.join("logs")).into_iter().flatten().flatten();
    for file in files {
        let name = file.file_name();
        let worker: Option<WorkerName> = name.to_str().and_then(|name| name.split('.').next()?.parse().ok());
        let is_old = file
            .metadata()
            .and_then(|file| file.modified())
            .is_ok_and(|modified| modified.elapsed().is_ok_and(|since| since > age));
        if is_old && worker.is_some_and(|worker| !kept.contains(&worker)) {
            let removed = fs::remove_file(file.path());
            info!(log = %file.path().display(), ok = removed.is_ok(), "deleted the log of a removed worker");
        }
    }
}

/// Rotates a log that is larger than `large`: it is copied to `<name>.1` and emptied. A worker that has it open appends to
/// the emptied file. Lines that the worker writes between the two steps are lost.
pub(crate) fn rotate(log: &Path, large: ByteSize) {
    let is_large = fs::metadata(log).is_ok_and(|file| file.len() > large.bytes());
    if !is_large {
        return;
    }
    let aside = log.with_extension("log.1");
    let rotated = fs::copy(log, &aside).and_then(|_| File::options().write(true).open(log)?.set_len(0));
    match rotated {
        Ok(()) => info!(log = %log.display(), "rotated a large log"),
        Err(error) => warn!(log = %log.display(), %error, "failed to rotate a large log"),
    }
}

/// Last lines of a run, oldest first, as many as the bounds allow. Empty where the log cannot be read.
pub(crate) fn tail(log: &Path, epoch: u64, bounds: &Bounds) -> Vec<String> {
    let most = bounds.tail_size.bytes();
    let read = || {
        let mut file = File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let headline = headline(epoch);
    let of_run = text.lines().rev().take_while(|line| *line != headline);
    let mut lines: Vec<String> = of_run.take(bounds.tail_lines as usize).map(str::to_owned).collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: ByteSize = ByteSize(1000);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn large_log_is_rotated_and_its_writer_continues() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("w.log");
        let mut writer = begin(&log, 1, LARGE).expect("opens");
        writer.write_all(&vec![b'x'; LARGE.0 as usize]).expect("written");
        let written = fs::metadata(&log).expect("there").len();
        rotate(&log, ByteSize(written));
        assert_eq!(fs::metadata(&log).expect("there").len(), written, "a log of just that size is not rotated");
        rotate(&log, LARGE);
        writer.write_all(b"more").expect("written");
        assert_eq!(fs::read(&log).expect("there"), b"more");
        assert_eq!(fs::metadata(folder.path().join("w.log.1")).expect("there").len(), written);
    }

    #[test]
    fn tail_has_the_last_lines_in_order_within_the_bounds() {
        let log = std::env::temp_dir().join(format!("rbee-tail-{}", std::process::id()));
        let text: String = (0..5_000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&log, text).expect("written");
        for (bounds, lines) in [("", 20), ("tail_lines=3", 3), ("tail_lines=100,tail_size=50B", 5)] {
            let found = tail(&log, 1, &bounds.parse().expect("bounds"));
            assert_eq!((found.len(), found.last().map(String::as_str)), (lines, Some("line 4999")), "{bounds}");
            assert!(tail(&log, 1, &Bounds { tail_size: ByteSize(1), ..Bounds::default() }).len() <= 1);
        }
        std::fs::remove_file(&log).expect("removed");
        assert!(tail(&log, 1, &Bounds::default()).is_empty());
    }

    #[test]
    fn tail_of_a_run_has_no_output_of_the_run_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("w.log");
        for (epoch, line) in [(1, "memory allocation of 9 bytes failed"), (2, "another end")] {
            writeln!(begin(&log, epoch, LARGE).expect("opens"), "{line}").expect("written");
        }
        assert_eq!(tail(&log, 2, &Bounds::default()), ["another end"]);
    }

    #[test]
    fn logs_of_present_and_recent_workers_are_kept() {
        let data = tempfile::tempdir().expect("a folder");
        let week_and_day = std::time::SystemTime::now() - 8 * DAY;
        for (name, is_old) in [("there", true), ("lately", false), ("gone", true)] {
            let log = log_file(data.path(), &name.parse().expect("a name"));
            let file = begin(&log, 1, LARGE).expect("opens");
            if is_old {
                file.set_modified(week_and_day).expect("set");
            }
        }
        let left = |age: Duration| {
            prune(data.path(), &BTreeSet::from(["there".parse().expect("a name")]), age);
            let files = fs::read_dir(data.path().join("logs")).expect("there").flatten();
            let mut left: Vec<_> = files.map(|file| file.file_name()).collect();
            left.sort();
            left
        };
        assert_eq!(left(9 * DAY), ["gone.log", "lately.log", "there.log"]);
        assert_eq!(left(7 * DAY), ["lately.log", "there.log"]);
    }
}
