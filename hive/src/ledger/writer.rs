//! The ledger's writer: a thread that writes entries in the order in which the owner hands them over.
//!
//! The owner's loop never waits for the disk. Each write is answered by a [`Written`]: whatever a later run of the hive must
//! know of waits for that confirmation. Entries are written in order, so a confirmed entry also confirms the term that was
//! handed over before it.

use std::{io, path::PathBuf};

use rbee_schema::WorkerName;
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
};
use tracing::warn;

use super::{Ledger, LedgerEntry};

/// Writes that may wait for the disk. A worker causes about ten during a start and none while it serves, so more of them
/// wait only where the disk has stalled. Further writes then fail, and the starts that need them are refused.
const QUEUE: usize = 1024;

/// Handle of the writer. The ledger is unlocked when the writer has ended.
#[derive(Debug)]
pub(crate) struct LedgerWriter {
    id: String,
    term: u64,
    own_log: PathBuf,
    requests: mpsc::Sender<Request>,
    writer: JoinHandle<()>,
}

#[derive(Debug)]
enum Request {
    Put { worker: WorkerName, entry: Box<LedgerEntry>, outcome: watch::Sender<Option<Outcome>> },
    Remove(WorkerName),
    Term(u64),
    Close,
}

type Outcome = Result<(), String>;

/// Confirmation that an entry stands in the ledger, or could not be written.
#[derive(Debug, Clone)]
pub(crate) struct Written(watch::Receiver<Option<Outcome>>);

impl Written {
    /// Waits until the entry is written.
    ///
    /// # Errors
    /// The reason for which it could not be written.
    pub(crate) async fn confirmed(mut self) -> Outcome {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Ok(())),
            Err(_) => Err("the ledger's writer has ended".to_owned()),
        }
    }

    /// Waits until the entry is written or could not be; a failure is logged by the writer.
    pub(crate) async fn settled(self) {
        let _ = self.confirmed().await;
    }

    /// True once the entry could not be written: it must be handed over again.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(&*self.0.borrow(), Some(Err(_)))
    }
}

impl LedgerWriter {
    /// Starts the writer of `ledger`.
    pub(crate) fn start(ledger: Ledger) -> Self {
        let (requests, received) = mpsc::channel(QUEUE);
        let (id, term, own_log) = (ledger.id().to_owned(), ledger.term(), ledger.own_log());
        Self { id, term, own_log, requests, writer: spawn_blocking(move || write_all(ledger, received)) }
    }

    /// Random name of the ledger.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Output of the hive itself, where another process keeps it running.
    pub(crate) fn own_log(&self) -> PathBuf {
        self.own_log.clone()
    }

    /// Latest term of a leading queen that this hive knows of.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Notes that a queen leads in this term: commands of earlier terms are refused, also by the next run of the hive.
    pub(crate) fn advance_term(&mut self, term: u64) {
        if term > self.term {
            self.term = term;
            self.send(Request::Term(term));
        }
    }

    /// Writes the entry of a worker.
    pub(crate) fn put(&self, worker: &WorkerName, entry: LedgerEntry) -> Written {
        let (outcome, written) = watch::channel(None);
        self.send(Request::Put { worker: worker.clone(), entry: Box::new(entry), outcome });
        Written(written)
    }

    /// Removes the entry of a worker.
    pub(crate) fn remove(&self, worker: &WorkerName) {
        self.send(Request::Remove(worker.clone()));
    }

    /// Waits until everything is written, and notes that the hive has stopped cleanly.
    pub(crate) async fn close(self) {
        let _ = self.requests.send(Request::Close).await;
        drop(self.requests);
        let _ = self.writer.await;
    }

    fn send(&self, request: Request) {
        if let Err(error) = self.requests.try_send(request) {
            warn!(%error, "failed to hand a write to the ledger: the disk has stalled");
            error.into_inner().fail("the disk has stalled");
        }
    }
}

impl Request {
    fn fail(self, why: &str) {
        match self {
            Self::Put { outcome, .. } => drop(outcome.send_replace(Some(Err(why.to_owned())))),
            Self::Remove(_) | Self::Term(_) | Self::Close => {}
        }
    }
}

fn write_all(mut ledger: Ledger, mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.blocking_recv() {
        match request {
            Request::Put { worker, entry, outcome } => {
                let written = logged(&worker, ledger.put(&worker, &entry));
                outcome.send_replace(Some(written));
            }
            Request::Remove(worker) => ledger.remove(&worker),
            Request::Term(term) => {
                if let Err(error) = ledger.advance_term(term) {
                    warn!(term, %error, "failed to write the ledger: the next run of this hive may accept commands of an \
                        earlier term");
                }
            }
            Request::Close => ledger.close(),
        }
    }
}

fn logged(worker: &WorkerName, written: io::Result<()>) -> Outcome {
    written.map_err(|error| {
        warn!(%worker, %error, "failed to write the ledger's entry of a worker");
        error.to_string()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ledger::fixture;

    #[tokio::test]
    async fn confirmed_entry_is_on_disk_with_everything_handed_over_before() {
        let data = tempfile::tempdir().expect("a folder");
        let (hive, name) = ("h".parse().expect("a name"), "w".parse().expect("a name"));
        let mut writer = LedgerWriter::start(Ledger::open(data.path(), &hive).expect("opens"));
        writer.advance_term(7);
        let first = writer.put(&"gone".parse().expect("a name"), fixture::entry());
        writer.remove(&"gone".parse().expect("a name"));
        let last = writer.put(&name, fixture::entry());
        assert_eq!(last.confirmed().await, Ok(()));
        assert!(!first.has_failed());
        let folder = data.path().join("hive-h");
        let files: Vec<_> = fs::read_dir(folder.join("workers")).expect("there").flatten().collect();
        assert_eq!(files.iter().map(|file| file.file_name()).collect::<Vec<_>>(), ["w.json"]);
        assert!(fs::read_to_string(folder.join("state.json")).expect("there").contains("\"term\":7"));
        writer.close().await;
        let ledger = Ledger::open(data.path(), &hive).expect("the writer has released its lock");
        assert_eq!((ledger.term(), ledger.entries()), (7, vec![(name, fixture::entry())]));
    }

    #[tokio::test]
    async fn entry_that_cannot_be_written_is_reported_and_can_be_tried_again() {
        let data = tempfile::tempdir().expect("a folder");
        let (hive, name) = ("h".parse().expect("a name"), "w".parse().expect("a name"));
        let writer = LedgerWriter::start(Ledger::open(data.path(), &hive).expect("opens"));
        let folder = data.path().join("hive-h/workers");
        fs::remove_dir(&folder).expect("empty");
        let failed = writer.put(&name, fixture::entry());
        failed.clone().confirmed().await.expect_err("the folder is missing");
        assert!(failed.has_failed());
        fs::create_dir(&folder).expect("made");
        assert_eq!(writer.put(&name, fixture::entry()).confirmed().await, Ok(()));
    }
}
