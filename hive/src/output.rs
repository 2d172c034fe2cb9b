//! What workers write: one file for each, kept from growing, and its last lines.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rbee_schema::WorkerName;
use tracing::{info, warn};

/// The logs of workers that are gone are kept for a week.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A file that is larger than this is set aside; one that was set aside is kept.
const LARGE: u64 = 8 << 20;

/// The most that is read from the end of a file, in bytes.
const TAIL_BYTES: u64 = 8 * 1024;

/// The most lines of it that are told.
const TAIL_LINES: usize = 20;

/// The file that a worker writes to.
pub(crate) fn log_file(data: &Path, worker: &WorkerName) -> PathBuf {
    data.join("logs").join(format!("{worker}.log"))
}

/// Opens the file for a run of a worker that starts; a large one is set aside first.
pub(crate) fn begin(log: &Path, epoch: u64) -> io::Result<File> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    rotate(log);
    let mut file = append(log)?;
    writeln!(file, "{}", headline(epoch))?;
    Ok(file)
}

/// Opens the file to write to its end.
pub(crate) fn append(log: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(log)
}

/// What a run begins with, so that its last words are not taken for those of another.
fn headline(epoch: u64) -> String {
    format!("---- run {epoch} ----")
}

/// Deletes the files of workers that are long gone.
pub(crate) fn prune(data: &Path, kept: &BTreeSet<WorkerName>) {
    let files = fs::read_dir(data.join("logs")).into_iter().flatten().flatten();
    for file in files {
        let name = file.file_name();
        let worker: Option<WorkerName> = name.to_str().and_then(|name| name.split('.').next()?.parse().ok());
        let is_old = file
            .metadata()
            .and_then(|file| file.modified())
            .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > KEPT_FOR));
        if is_old && worker.is_some_and(|worker| !kept.contains(&worker)) {
            let removed = fs::remove_file(file.path());
            info!(log = %file.path().display(), ok = removed.is_ok(), "the log of a worker that is long gone is deleted");
        }
    }
}

/// Sets a large file aside as `<name>.1`. A worker that has it open goes on at the beginning of the emptied file: it
/// always writes to the end. What it writes between the two steps is lost, at worst some lines of many.
pub(crate) fn rotate(log: &Path) {
    let is_large = fs::metadata(log).is_ok_and(|file| file.len() > LARGE);
    if !is_large {
        return;
    }
    let aside = log.with_extension("log.1");
    let rotated = fs::copy(log, &aside).and_then(|_| File::options().write(true).open(log)?.set_len(0));
    match rotated {
        Ok(()) => info!(log = %log.display(), "a large log was set aside"),
        Err(error) => warn!(log = %log.display(), %error, "a large log cannot be set aside"),
    }
}

/// The last lines of a run, oldest first; none where they cannot be read.
pub(crate) fn tail(log: &Path, epoch: u64) -> Vec<String> {
    let read = || {
        let mut file = File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let headline = headline(epoch);
    let of_run = text.lines().rev().take_while(|line| *line != headline);
    let mut lines: Vec<String> = of_run.take(TAIL_LINES).map(str::to_owned).collect();
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_set_aside_and_its_writer_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("w.log");
        let mut writer = begin(&log, 1).expect("opens");
        writer.write_all(&vec![b'x'; LARGE as usize + 1]).expect("written");
        rotate(&log);
        writer.write_all(b"more").expect("written");
        assert_eq!(fs::read(&log).expect("there"), b"more");
        assert_eq!(
            fs::metadata(folder.path().join("w.log.1")).expect("there").len(),
            LARGE + 1 + headline(1).len() as u64 + 1
        );
    }

    #[test]
    fn the_tail_is_the_last_lines_in_order() {
        let log = std::env::temp_dir().join(format!("rbee-tail-{}", std::process::id()));
        let text: String = (0..5_000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&log, text).expect("written");
        let lines = tail(&log, 1);
        std::fs::remove_file(&log).expect("removed");
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("line 4999"));
        assert!(tail(&log, 1).is_empty());
    }

    #[test]
    fn the_tail_of_a_run_has_no_words_of_the_one_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("w.log");
        for (epoch, word) in [(1, "memory allocation of 9 bytes failed"), (2, "another end")] {
            writeln!(begin(&log, epoch).expect("opens"), "{word}").expect("written");
        }
        assert_eq!(tail(&log, 2), ["another end"]);
    }

    #[test]
    fn logs_of_workers_that_are_there_or_were_lately_are_kept() {
        let data = tempfile::tempdir().expect("a folder");
        let week_and_day = std::time::SystemTime::now() - KEPT_FOR - Duration::from_secs(24 * 60 * 60);
        for (name, is_old) in [("there", true), ("lately", false), ("gone", true)] {
            let log = log_file(data.path(), &name.parse().expect("a name"));
            let file = begin(&log, 1).expect("opens");
            if is_old {
                file.set_modified(week_and_day).expect("set");
            }
        }
        prune(data.path(), &BTreeSet::from(["there".parse().expect("a name")]));
        let mut left: Vec<_> =
            fs::read_dir(data.path().join("logs")).expect("there").flatten().map(|f| f.file_name()).collect();
        left.sort();
        assert_eq!(left, ["lately.log", "there.log"]);
    }
}
