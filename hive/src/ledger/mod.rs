//! The hive's local file of workers: what a hive must still know after it was killed. It holds the hive's own name for
//! itself, its run number, and an entry of each worker. A process or lease without an entry is an orphan for the next run.
//!
//! Each entry is a file of its own, replaced by renaming, so that a reader finds the old entry or the new one. Nothing is
//! forced to the disk: entries have to outlive this process, and when the machine goes down its workers are gone too.

mod entry;
mod writer;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use rbee_schema::{HiveName, WorkerName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing::warn;
use uuid::Uuid;

pub(crate) use self::{
    entry::LedgerEntry,
    writer::{LedgerWriter, Written},
};
use crate::local::LocalHive;

/// The ledger of one hive. While it is open, no other process can open it.
#[derive(Debug)]
pub(crate) struct Ledger {
    folder: PathBuf,
    /// The file by which other processes of this machine find the hive.
    local: LocalHive,
    state: State,
    /// The lock ends with this process, however it ends. Rust opens files so that no child inherits them.
    _lock: File,
}

/// State of the hive itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    /// Random name of this folder.
    id: String,
    /// Runs of the hive so far.
    epoch: u64,
    /// Latest term of a leading queen that the hive knows of.
    #[serde(default)]
    term: u64,
}

/// A ledger that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process holds the ledger.
    #[error(
        "a hive named {hive} already runs on this machine (it holds {}): stop it first, or choose another name with --name",
        .lock.display()
    )]
    Held {
        /// The hive.
        hive: HiveName,
        /// The lock file.
        lock: PathBuf,
    },
    /// The folder cannot be written.
    #[error("failed to write the hive's state in {}: {cause}; choose another folder with --data", .folder.display())]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// Error of the operating system.
        cause: io::Error,
    },
}

impl Ledger {
    /// Opens or creates the ledger of `hive` in the folder `data`, and locks it.
    ///
    /// # Errors
    /// When another hive holds it, or the folder cannot be written.
    pub(crate) fn open(data: &Path, hive: &HiveName) -> Result<Self, LedgerError> {
        let local = LocalHive::new(data, hive);
        let folder = local.folder().to_owned();
        let unwritable = |cause: io::Error| LedgerError::Unwritable { folder: folder.clone(), cause };
        fs::create_dir_all(folder.join("workers")).map_err(unwritable)?;
        let path = folder.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::Held { hive: hive.clone(), lock: path }),
            Err(TryLockError::Error(cause)) => return Err(unwritable(cause)),
        }
        local.enter().map_err(unwritable)?;
        let state = read(&folder.join("state.json")).unwrap_or_else(|| State {
            id: Uuid::new_v4().to_string(),
            epoch: 0,
            term: 0,
        });
        Ok(Self { folder, local, state, _lock: lock })
    }

    /// Notes that the hive has stopped cleanly. Until the ledger is dropped, no other process can open it.
    pub(crate) fn close(&self) {
        self.local.leave();
    }

    /// Output of the hive itself, where another process keeps it running.
    pub(crate) fn own_log(&self) -> PathBuf {
        self.local.log()
    }

    /// Random name of this ledger.
    pub(crate) fn id(&self) -> &str {
        &self.state.id
    }

    /// Begins the next run of the hive, and returns its number. `seen` is the latest run that the registry knows of.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn next_epoch(&mut self, seen: u64) -> Result<u64, LedgerError> {
        self.state.epoch = self.state.epoch.max(seen) + 1;
        let written = write(&self.folder.join("state.json"), &self.state);
        written.map_err(|cause| LedgerError::Unwritable { folder: self.folder.clone(), cause })?;
        Ok(self.state.epoch)
    }

    /// Latest term of a leading queen that this hive knows of.
    pub(crate) fn term(&self) -> u64 {
        self.state.term
    }

    /// Notes that a queen leads in this term. An earlier term than the known one changes nothing.
    fn advance_term(&mut self, term: u64) -> io::Result<()> {
        if term <= self.state.term {
            return Ok(());
        }
        self.state.term = term;
        write(&self.folder.join("state.json"), &self.state)
    }

    fn put(&self, worker: &WorkerName, entry: &LedgerEntry) -> io::Result<()> {
        write(&self.path(worker), entry)
    }

    fn remove(&self, worker: &WorkerName) {
        let path = self.path(worker);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(path = %path.display(), %error, "failed to remove an entry of the ledger");
        }
    }

    /// All workers of earlier runs. An entry that cannot be read counts as missing: its processes are then orphans.
    pub(crate) fn entries(&self) -> Vec<(WorkerName, LedgerEntry)> {
        let files = fs::read_dir(self.folder.join("workers")).into_iter().flatten().flatten();
        let entry = |path: PathBuf| {
            let worker = path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?;
            Some((worker, read(&path)?))
        };
        files.filter_map(|file| entry(file.path())).collect()
    }

    fn path(&self, worker: &WorkerName) -> PathBuf {
        self.folder.join("workers").join(format!("{worker}.json"))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let body = match fs::read(path) {
        Ok(body) => body,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!(path = %path.display(), %error, "failed to read a file of the ledger");
            return None;
        }
    };
    serde_json::from_slice(&body)
        .inspect_err(|error| warn!(path = %path.display(), %error, "ignored a damaged file of the ledger"))
        .ok()
}

fn write<T: Serialize>(path: &Path, document: &T) -> io::Result<()> {
    let whole = path.with_extension("new");
    fs::write(&whole, serde_json::to_vec(document)?)?;
    fs::rename(&whole, path)
}

#[cfg(test)]
mod fixture;

#[cfg(test)]
mod tests {
    use super::{fixture::entry, *};

    #[test]
    fn ledger_has_one_holder() {
        let data = tempfile::tempdir().expect("a folder");
        let hive = "h".parse().expect("a name");
        let _ledger = Ledger::open(data.path(), &hive).expect("opens");
        assert!(matches!(Ledger::open(data.path(), &hive), Err(LedgerError::Held { .. })));
    }

    #[test]
    fn ledger_keeps_its_entries_its_epoch_and_its_term() {
        let data = tempfile::tempdir().expect("a folder");
        let (hive, worker) = ("h".parse().expect("a name"), "w".parse().expect("a name"));
        let mut ledger = Ledger::open(data.path(), &hive).expect("opens");
        let (id, epoch) = (ledger.id().to_owned(), ledger.next_epoch(7).expect("written"));
        ledger.put(&worker, &entry()).expect("written");
        ledger.advance_term(5).expect("written");
        drop(ledger);

        let mut ledger = Ledger::open(data.path(), &hive).expect("opens again");
        assert_eq!((ledger.id(), ledger.entries()), (id.as_str(), vec![(worker.clone(), entry())]));
        assert_eq!((epoch, ledger.next_epoch(0).expect("written")), (8, 9));
        assert_eq!(ledger.term(), 5);
        for (term, latest) in [(3, 5), (7, 7)] {
            ledger.advance_term(term).expect("written");
            assert_eq!(ledger.term(), latest);
        }
        ledger.remove(&worker);
        assert_eq!(ledger.entries(), []);
    }

    #[test]
    fn damaged_entry_counts_as_missing() {
        let data = tempfile::tempdir().expect("a folder");
        let hive = "h".parse().expect("a name");
        let ledger = Ledger::open(data.path(), &hive).expect("opens");
        ledger.put(&"good".parse().expect("a name"), &entry()).expect("written");
        fs::write(data.path().join("hive-h/workers/bad.json"), b"{\"model\":").expect("written");
        assert_eq!(ledger.entries().len(), 1);
    }

    #[test]
    fn entry_of_an_earlier_version_keeps_its_stop_reason() {
        let mut document = serde_json::to_value(entry()).expect("serializes");
        let fields = document.as_object_mut().expect("an object");
        fields.remove("stop_reason");
        fields.insert("unwanted".to_owned(), "idle".into());
        let read: LedgerEntry = serde_json::from_value(document).expect("readable");
        assert_eq!(read.stop_reason.as_deref(), Some("idle"));
    }
}
