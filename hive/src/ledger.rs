//! What a hive must not forget when it is killed: its name for itself, its epoch, and its workers, each in a file of its
//! own that is written before anything is done. Whatever is not in the ledger when the hive comes back is nobody's.
//!
//! A file is replaced by renaming, so that it is whole or the one before. It is not forced to the disk: it has to outlive
//! this process, and when the machine goes down the workers are gone too.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use rbee_schema::{HiveName, ModelName, ModelSpec, PortLease, WorkerName, WorkerRecord};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing::warn;
use uuid::Uuid;

use crate::{local::LocalHive, process::Identity};

/// The ledger of one hive. Nobody else can open it as long as this is there.
#[derive(Debug)]
pub(crate) struct Ledger {
    folder: PathBuf,
    /// How other processes of this machine find the hive.
    local: LocalHive,
    state: State,
    /// The lock ends with this process, however it ends. Rust opens files so that no child inherits them.
    _lock: File,
}

/// Who the hive is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    /// A random name for this folder.
    id: String,
    /// Runs of the hive so far.
    epoch: u64,
    /// The latest term of a queen that it knows of.
    #[serde(default)]
    term: u64,
}

/// What is known of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) model: ModelName,
    pub(crate) spec: ModelSpec,
    pub(crate) record: WorkerRecord,
    /// Why it is to end, where it is.
    #[serde(default)]
    pub(crate) unwanted: Option<String>,
    /// Its process, from the moment on which it runs.
    #[serde(default)]
    pub(crate) process: Option<Identity>,
    /// Its lease, as it was written.
    pub(crate) lease: PortLease,
}

/// A ledger that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Another process has it.
    #[error(
        "a hive named {hive} runs already on this machine (it holds {}): stop it first, or give this one another name \
         with --name",
        .lock.display()
    )]
    Held {
        /// The hive.
        hive: HiveName,
        /// What it holds.
        lock: PathBuf,
    },
    /// The folder cannot be written.
    #[error("the hive's state in {} cannot be written: {cause}; choose another folder with --data", .folder.display())]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

impl Ledger {
    /// Opens or begins the ledger of `hive` below `data`, and locks it.
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

    /// The hive stops in order. Until this process ends nobody else can open the ledger.
    pub(crate) fn close(&self) {
        self.local.leave();
    }

    /// What the hive itself writes to, where another process keeps it running.
    pub(crate) fn own_log(&self) -> PathBuf {
        self.local.log()
    }

    /// The random name of this ledger.
    pub(crate) fn id(&self) -> &str {
        &self.state.id
    }

    /// Begins the next run of the hive; `seen` is the latest run that anybody else knows of.
    pub(crate) fn next_epoch(&mut self, seen: u64) -> Result<u64, LedgerError> {
        self.state.epoch = self.state.epoch.max(seen) + 1;
        let written = write(&self.folder.join("state.json"), &self.state);
        written.map_err(|cause| LedgerError::Unwritable { folder: self.folder.clone(), cause })?;
        Ok(self.state.epoch)
    }

    /// The latest term of a queen that this hive knows of.
    pub(crate) fn term(&self) -> u64 {
        self.state.term
    }

    /// A queen leads in this term: what one of an earlier term commands is over, also for the next run of the hive.
    pub(crate) fn has_term(&mut self, term: u64) -> io::Result<()> {
        if term <= self.state.term {
            return Ok(());
        }
        self.state.term = term;
        write(&self.folder.join("state.json"), &self.state)
    }

    /// Writes what is known of a worker.
    pub(crate) fn put(&self, worker: &WorkerName, page: &Page) -> io::Result<()> {
        write(&self.page(worker), page)
    }

    /// A worker is gone.
    pub(crate) fn remove(&self, worker: &WorkerName) {
        let path = self.page(worker);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(path = %path.display(), %error, "a page of the ledger cannot be removed");
        }
    }

    /// All workers that earlier runs have left. A page that cannot be read is as good as none: its processes are then
    /// nobody's.
    pub(crate) fn pages(&self) -> Vec<(WorkerName, Page)> {
        let files = fs::read_dir(self.folder.join("workers")).into_iter().flatten().flatten();
        let page = |path: PathBuf| {
            let worker = path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?;
            Some((worker, read(&path)?))
        };
        files.filter_map(|file| page(file.path())).collect()
    }

    fn page(&self, worker: &WorkerName) -> PathBuf {
        self.folder.join("workers").join(format!("{worker}.json"))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let body = match fs::read(path) {
        Ok(body) => body,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!(path = %path.display(), %error, "a page of the ledger cannot be read");
            return None;
        }
    };
    serde_json::from_slice(&body)
        .inspect_err(|error| warn!(path = %path.display(), %error, "a page of the ledger is damaged and ignored"))
        .ok()
}

fn write<T: Serialize>(path: &Path, document: &T) -> io::Result<()> {
    let whole = path.with_extension("new");
    fs::write(&whole, serde_json::to_vec(document)?)?;
    fs::rename(&whole, path)
}

#[cfg(test)]
mod tests {
    use rbee_schema::{ModelReference, WorkerPhase};

    use super::*;

    fn page() -> Page {
        let spec = ModelSpec::new(ModelReference::Mock(String::new()));
        let record = WorkerRecord {
            model: "m".parse().expect("a name"),
            phase: WorkerPhase::Ready,
            epoch: 3,
            pid: Some(42),
            port: Some(8080),
            slots: 2,
            exits: 1,
            limits: None,
            failure: None,
            spec: None,
        };
        let lease =
            PortLease { hive: "h".parse().expect("a name"), hive_epoch: 1, worker: "w".parse().expect("a name") };
        Page { model: record.model.clone(), spec, record, unwanted: None, process: None, lease }
    }

    #[test]
    fn a_ledger_has_one_holder_and_keeps_its_pages_and_its_epoch() {
        let data = tempfile::tempdir().expect("a folder");
        let (hive, worker) = ("h".parse().expect("a name"), "w".parse().expect("a name"));
        let mut ledger = Ledger::open(data.path(), &hive).expect("opens");
        assert!(matches!(Ledger::open(data.path(), &hive), Err(LedgerError::Held { .. })));
        let (id, epoch) = (ledger.id().to_owned(), ledger.next_epoch(7).expect("written"));
        ledger.put(&worker, &page()).expect("written");
        drop(ledger);

        let mut ledger = Ledger::open(data.path(), &hive).expect("opens again");
        assert_eq!((ledger.id(), ledger.pages()), (id.as_str(), vec![(worker.clone(), page())]));
        assert_eq!((epoch, ledger.next_epoch(0).expect("written")), (8, 9));
        for (term, latest) in [(5, 5), (3, 5), (7, 7)] {
            ledger.has_term(term).expect("written");
            assert_eq!(ledger.term(), latest);
        }
        ledger.remove(&worker);
        assert_eq!(ledger.pages(), []);
    }

    #[test]
    fn a_damaged_page_is_as_good_as_none() {
        let data = tempfile::tempdir().expect("a folder");
        let hive = "h".parse().expect("a name");
        let ledger = Ledger::open(data.path(), &hive).expect("opens");
        ledger.put(&"good".parse().expect("a name"), &page()).expect("written");
        fs::write(data.path().join("hive-h/workers/bad.json"), b"{\"model\":").expect("written");
        assert_eq!(ledger.pages().len(), 1);
    }
}
