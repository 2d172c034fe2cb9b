//! Fetching one file: ask the hub what it is, take its lock, reserve room, bring the bytes, check them, name them.

use std::{fs, sync::Arc, time::Instant};

use rbee_schema::{Failure, FailureCode, FileRecord, HubFile, ModelReference};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::sleep,
};
use tracing::{debug, info, warn};

use super::{
    Progress, Shelves, Stage, digest,
    hub::{Body, Unanswered},
    layout::Places,
    lock::{self, NotLocked},
    part::{Part, Written, failed},
};
use crate::decide::{
    fetch::{AfterSetback, Pace, Setback, after_setback},
    listing::{Content, ListedFile, Listing, choose},
};

/// Pieces that may wait for the disk: a few hundred KiB, so that neither it nor the network is idle.
const PIECES: usize = 32;

/// One fetch of one file.
pub(super) struct Fetch {
    shelves: Arc<Shelves>,
    wanted: HubFile,
    told: watch::Sender<Progress>,
}

/// How one answer of the hub was poured into the part.
enum Poured {
    All,
    Setback(Setback),
}

impl Fetch {
    pub(super) fn new(shelves: Arc<Shelves>, wanted: HubFile, told: watch::Sender<Progress>) -> Self {
        Self { shelves, wanted, told }
    }

    /// The file, from the store or from the hub.
    pub(super) async fn run(self) -> Result<FileRecord, Failure> {
        if let Some(record) = self.here().await? {
            return Ok(record);
        }
        let listing = self.listing().await?;
        let file = choose(&self.wanted, &listing)?.clone();
        let total = match file.bytes {
            Some(bytes) => bytes,
            None => self.size(&listing.commit, &file.path).await?,
        };
        let places = Places::of(&self.shelves.folder, &self.wanted, &listing.commit, &file);
        let lock = self.lock(&places, total).await?;
        let sha256 = match self.whole(&places, &file, total).await? {
            Some(sha256) => sha256,
            None => {
                let part = self.open(&places, total, lock).await?;
                self.bring(part, &places, &listing, &file).await?
            }
        };
        self.show(places, listing.commit, total, sha256).await
    }

    async fn here(&self) -> Result<Option<FileRecord>, Failure> {
        let (shelves, wanted) = (self.shelves.clone(), self.wanted.clone());
        let look = move || {
            let reference = ModelReference::Hub(wanted.clone());
            shelves.catalogue.find(&reference).or_else(|| shelves.catalogue.adopt(&wanted))
        };
        spawn_blocking(look).await.map_err(panicked)
    }

    async fn listing(&self) -> Result<Listing, Failure> {
        let mut in_a_row = 0;
        loop {
            match self.shelves.hub.listing(&self.wanted).await {
                Ok(listing) => return Ok(listing),
                Err(unanswered) => {
                    in_a_row += 1;
                    self.bear(unanswered, in_a_row).await?;
                }
            }
        }
    }

    async fn size(&self, commit: &str, path: &str) -> Result<u64, Failure> {
        let mut in_a_row = 0;
        loop {
            match self.shelves.hub.size(&self.wanted, commit, path).await {
                Ok(bytes) => return Ok(bytes),
                Err(unanswered) => {
                    in_a_row += 1;
                    self.bear(unanswered, in_a_row).await?;
                }
            }
        }
    }

    /// Waits until the next try, if there is to be one.
    async fn bear(&self, unanswered: Unanswered, in_a_row: u32) -> Result<(), Failure> {
        let setback = match unanswered {
            Unanswered::Setback(setback) => setback,
            Unanswered::Failure(failure) => return Err(failure),
        };
        match after_setback(&self.wanted, &setback, in_a_row, &self.shelves.patience) {
            AfterSetback::TryAgain(pause) => {
                warn!(file = %self.wanted, cause = setback.cause, ?pause, "the hub is tried again");
                sleep(pause).await;
                Ok(())
            }
            AfterSetback::GiveUp(failure) => Err(failure),
        }
    }

    async fn lock(&self, places: &Places, total: u64) -> Result<fs::File, Failure> {
        let look = || {
            let done_bytes = fs::metadata(&places.part).map_or(0, |part| part.len());
            self.told.send_replace(Progress { stage: Stage::Waiting, done_bytes, total_bytes: total });
            done_bytes
        };
        let path = places.lock.display();
        lock::take(&places.lock, self.shelves.patience.standstill, look).await.map_err(|error| match error {
            NotLocked::Held(time) => Failure::new(
                FailureCode::FetchFailed,
                format!(
                    "another process fetches hf:{} and nothing came for {time:?}; it holds {path}: end it, or try again",
                    self.wanted
                ),
            ),
            NotLocked::Failed(error) => failed(&places.lock, "lock", &error),
        })
    }

    /// The SHA-256 of the file where it is here already: another reference means the same, or another process was faster.
    /// What is there and is not what it should be is deleted.
    async fn whole(&self, places: &Places, file: &ListedFile, total: u64) -> Result<Option<String>, Failure> {
        let (blob, content, told) = (places.blob.clone(), file.content.clone(), self.told.clone());
        let look = move || {
            let Ok(found) = fs::metadata(&blob) else { return Ok(None) };
            let mut pace = Pace::default();
            let read = digest::of_file(&blob, |done_bytes| {
                if pace.is_due(done_bytes, total, Instant::now()) {
                    told.send_replace(Progress { stage: Stage::Checking, done_bytes, total_bytes: total });
                }
            });
            let sha256 = read.map_err(|error| failed(&blob, "read", &error))?;
            if found.len() == total && is_as_listed(&sha256, &content) {
                return Ok(Some(sha256));
            }
            warn!(file = %blob.display(), "a file of the store is damaged: it is fetched anew");
            fs::remove_file(&blob).map_err(|error| failed(&blob, "delete", &error))?;
            Ok(None)
        };
        spawn_blocking(look).await.map_err(panicked)?
    }

    async fn open(&self, places: &Places, total: u64, lock: fs::File) -> Result<Part, Failure> {
        let (path, told) = (places.part.clone(), self.told.clone());
        spawn_blocking(move || Part::open(path, total, lock, told)).await.map_err(panicked)?
    }

    /// Brings what is missing and checks the whole; returns its SHA-256.
    async fn bring(
        &self,
        mut part: Part,
        places: &Places,
        listing: &Listing,
        file: &ListedFile,
    ) -> Result<String, Failure> {
        let found = part.done();
        info!(file = %self.wanted, name = file.path, found, "a model file is fetched");
        part = self.fill(part, &listing.commit, &file.path).await?;
        if found > 0 && !is_as_listed(&part.digest(), &file.content) {
            warn!(file = %self.wanted, "what was left of an earlier fetch is damaged: it is fetched anew");
            part.start_anew()?;
            part = self.fill(part, &listing.commit, &file.path).await?;
        }
        let sha256 = part.digest();
        if !is_as_listed(&part.digest(), &file.content) {
            part.delete();
            let message = format!(
                "hf:{} is not what the hub lists: {} has the SHA-256 {sha256}, expected {}; it is deleted",
                self.wanted,
                file.path,
                match &file.content {
                    Content::Sha256(expected) | Content::GitObject(expected) => expected,
                    Content::Unknown => "another",
                }
            );
            return Err(Failure::new(FailureCode::ModelInvalid, message));
        }
        let name = places.blob.clone();
        spawn_blocking(move || part.finish(&name)).await.map_err(panicked)??;
        Ok(sha256)
    }

    /// Asks for what is missing until it is here, or too many tries in a row brought nothing.
    async fn fill(&self, mut part: Part, commit: &str, path: &str) -> Result<Part, Failure> {
        let mut in_a_row = 0;
        while !part.is_whole() {
            let before = part.done();
            let setback = match self.shelves.hub.open(&self.wanted, commit, path, before).await {
                Ok(body) => {
                    let poured;
                    (part, poured) = self.pour(part, body).await?;
                    match poured {
                        Poured::All => Setback::new("the connection ended too early"),
                        Poured::Setback(setback) => setback,
                    }
                }
                Err(Unanswered::Setback(setback)) => setback,
                Err(Unanswered::Failure(failure)) => {
                    part.keep();
                    return Err(failure);
                }
            };
            if part.is_whole() {
                break;
            }
            in_a_row = if part.done() > before { 0 } else { in_a_row + 1 };
            if let Err(failure) = self.bear(setback.into(), in_a_row).await {
                part.keep();
                return Err(failure);
            }
        }
        Ok(part)
    }

    /// Writes what comes, in a thread that may block.
    async fn pour(&self, mut part: Part, mut body: Body) -> Result<(Part, Poured), Failure> {
        let total = part.total();
        if body.total.is_some_and(|delivered| delivered != total) {
            part.delete();
            let message = format!(
                "hf:{} is not what the hub lists: it lists {total} bytes and delivers {}; nothing of it is kept",
                self.wanted,
                body.total.unwrap_or_default()
            );
            return Err(Failure::new(FailureCode::ModelInvalid, message));
        }
        if body.from < part.done() {
            debug!(file = %self.wanted, "the hub knows no ranges: the file is fetched from its beginning");
            part.start_anew()?;
        }
        let (sender, pieces) = mpsc::channel(PIECES);
        let writing = spawn_blocking(move || part.append(pieces));
        let poured = loop {
            match body.next().await {
                Ok(Some(piece)) => {
                    // When the writer stops, it says why.
                    if sender.send(piece).await.is_err() {
                        break Poured::All;
                    }
                }
                Ok(None) => break Poured::All,
                Err(setback) => break Poured::Setback(setback),
            }
        };
        drop(sender);
        let (part, written) = writing.await.map_err(panicked)?;
        match written {
            Written::All => Ok((part, poured)),
            Written::TooMuch => {
                part.delete();
                let message = format!(
                    "hf:{} is not what the hub lists: more came than the {total} bytes that it lists; nothing of it is \
                     kept",
                    self.wanted
                );
                Err(Failure::new(FailureCode::ModelInvalid, message))
            }
            Written::Failed(failure) => {
                part.delete();
                Err(failure)
            }
        }
    }

    async fn show(self, places: Places, commit: String, bytes: u64, sha256: String) -> Result<FileRecord, Failure> {
        let Self { shelves, wanted, told } = self;
        let show = move || {
            places.show(&shelves.folder, &wanted, &commit).map_err(|error| failed(&places.link, "make", &error))?;
            let path = places.link.display().to_string();
            let record = FileRecord { reference: ModelReference::Hub(wanted), path, bytes, sha256 };
            shelves.catalogue.put(&record)?;
            Ok(record)
        };
        let record = spawn_blocking(show).await.map_err(panicked)??;
        let end = Progress { stage: Stage::Fetching, done_bytes: bytes, total_bytes: bytes };
        told.send_if_modified(|last| std::mem::replace(last, end) != end);
        info!(file = %record.reference, bytes, "a model file is here");
        Ok(record)
    }
}

fn is_as_listed(sha256: &str, content: &Content) -> bool {
    match content {
        Content::Sha256(expected) => expected == sha256,
        Content::GitObject(_) | Content::Unknown => true,
    }
}

pub(super) fn panicked(error: tokio::task::JoinError) -> Failure {
    Failure::new(FailureCode::Internal, format!("a task of the store ended: {error}"))
}
