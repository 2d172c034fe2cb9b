//! Fetch of one file: read the listing of the hub, take the lock, reserve disk space, fetch the bytes, check them, and give
//! the file its name.

use std::{fs, sync::Arc, time::Instant};

use rbee_schema::{Failure, FailureCode, FileRecord, HubFile, ModelReference};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::sleep,
};
use tracing::{debug, info, warn};

use super::{
    context::Context,
    digest,
    hub::{Body, HubError},
    lock::{self, NotLocked},
    partial::{PartialDownload, Written, failed},
    paths::FilePaths,
    progress::{Progress, Stage},
};
use crate::decide::{
    fetch::{AfterSetback, Pace, Setback, after_setback},
    listing::{Content, ListedFile, Listing, choose},
};

/// Pieces that may wait for the disk: a few hundred KiB, so that neither disk nor network is idle.
const PIECES: usize = 32;

/// One fetch of one file.
pub(super) struct Fetch {
    context: Arc<Context>,
    file: HubFile,
    progress: watch::Sender<Progress>,
}

/// End of one response of the hub.
enum Received {
    Complete,
    Setback(Setback),
}

impl Fetch {
    pub(super) fn new(context: Arc<Context>, file: HubFile, progress: watch::Sender<Progress>) -> Self {
        Self { context, file, progress }
    }

    /// Returns the record of the file, from the store or from the hub.
    pub(super) async fn run(self) -> Result<FileRecord, Failure> {
        if let Some(record) = self.stored().await? {
            return Ok(record);
        }
        let listing = self.listing().await?;
        let listed = choose(&self.file, &listing)?.clone();
        let total = match listed.bytes {
            Some(bytes) => bytes,
            None => self.size(&listing.commit, &listed.path).await?,
        };
        let paths = FilePaths::of(&self.context.folder, &self.file, &listing.commit, &listed);
        let lock = self.lock(&paths, total).await?;
        let sha256 = match self.complete(&paths, &listed, total).await? {
            Some(sha256) => sha256,
            None => {
                let partial = self.open(&paths, total, lock).await?;
                self.download(partial, &paths, &listing, &listed).await?
            }
        };
        self.finish(paths, listing.commit, total, sha256).await
    }

    async fn stored(&self) -> Result<Option<FileRecord>, Failure> {
        let (context, file) = (self.context.clone(), self.file.clone());
        let read = move || {
            let reference = ModelReference::Hub(file.clone());
            context.catalogue.find(&reference).or_else(|| context.catalogue.adopt(&file))
        };
        spawn_blocking(read).await.map_err(panicked)
    }

    async fn listing(&self) -> Result<Listing, Failure> {
        let mut in_a_row = 0;
        loop {
            match self.context.hub.listing(&self.file).await {
                Ok(listing) => return Ok(listing),
                Err(error) => {
                    in_a_row += 1;
                    self.pause_after(error, in_a_row).await?;
                }
            }
        }
    }

    async fn size(&self, commit: &str, path: &str) -> Result<u64, Failure> {
        let mut in_a_row = 0;
        loop {
            match self.context.hub.size(&self.file, commit, path).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    in_a_row += 1;
                    self.pause_after(error, in_a_row).await?;
                }
            }
        }
    }

    /// Waits until the next attempt.
    ///
    /// # Errors
    /// When there must not be another one.
    async fn pause_after(&self, error: HubError, in_a_row: u32) -> Result<(), Failure> {
        let setback = match error {
            HubError::Setback(setback) => setback,
            HubError::Failure(failure) => return Err(failure),
        };
        match after_setback(&self.file, &setback, in_a_row, &self.context.retry) {
            AfterSetback::Retry(pause) => {
                warn!(file = %self.file, cause = setback.cause, ?pause, "a request to the hub has failed; retrying");
                // Timer: pause before the next request to the hub.
                sleep(pause).await;
                Ok(())
            }
            AfterSetback::GiveUp(failure) => Err(failure),
        }
    }

    async fn lock(&self, paths: &FilePaths, total: u64) -> Result<fs::File, Failure> {
        let progress = || {
            let done_bytes = fs::metadata(&paths.partial).map_or(0, |partial| partial.len());
            self.progress.send_replace(Progress { stage: Stage::Waiting, done_bytes, total_bytes: total });
            done_bytes
        };
        let path = paths.lock.display();
        lock::take(&paths.lock, self.context.retry.standstill, progress).await.map_err(|error| match error {
            NotLocked::Held(time) => Failure::new(
                FailureCode::FetchFailed,
                format!(
                    "another process fetches hf:{} and has made no progress for {time:?}; it holds {path}: stop it, or try \
                     again",
                    self.file
                ),
            ),
            NotLocked::Failed(error) => failed(&paths.lock, "lock", &error),
        })
    }

    /// SHA-256 of the file where it is in the store already, because another reference has the same file or another process
    /// was faster. A damaged file is deleted.
    async fn complete(&self, paths: &FilePaths, listed: &ListedFile, total: u64) -> Result<Option<String>, Failure> {
        let (blob, content, progress) = (paths.blob.clone(), listed.content.clone(), self.progress.clone());
        let check = move || {
            let Ok(found) = fs::metadata(&blob) else { return Ok(None) };
            let mut pace = Pace::default();
            let read = digest::of_file(&blob, |done_bytes| {
                if pace.is_due(done_bytes, total, Instant::now()) {
                    progress.send_replace(Progress { stage: Stage::Checking, done_bytes, total_bytes: total });
                }
            });
            let sha256 = read.map_err(|error| failed(&blob, "read", &error))?;
            if found.len() == total && is_as_listed(&sha256, &content) {
                return Ok(Some(sha256));
            }
            warn!(file = %blob.display(), "a file of the store is damaged; fetching it again");
            fs::remove_file(&blob).map_err(|error| failed(&blob, "delete", &error))?;
            Ok(None)
        };
        spawn_blocking(check).await.map_err(panicked)?
    }

    async fn open(&self, paths: &FilePaths, total: u64, lock: fs::File) -> Result<PartialDownload, Failure> {
        let (path, progress) = (paths.partial.clone(), self.progress.clone());
        spawn_blocking(move || PartialDownload::open(path, total, lock, progress)).await.map_err(panicked)?
    }

    /// Fetches the missing bytes and checks the whole file. Returns its SHA-256.
    async fn download(
        &self,
        mut partial: PartialDownload,
        paths: &FilePaths,
        listing: &Listing,
        listed: &ListedFile,
    ) -> Result<String, Failure> {
        let found = partial.done();
        info!(file = %self.file, name = listed.path, found, "fetching a model file");
        partial = self.fill(partial, &listing.commit, &listed.path).await?;
        if found > 0 && !is_as_listed(&partial.digest(), &listed.content) {
            warn!(file = %self.file, "the bytes of an earlier fetch are damaged; fetching the file again");
            partial.restart()?;
            partial = self.fill(partial, &listing.commit, &listed.path).await?;
        }
        let sha256 = partial.digest();
        if !is_as_listed(&partial.digest(), &listed.content) {
            partial.delete();
            let message = format!(
                "hf:{} differs from the hub's listing: {} has the SHA-256 {sha256}, expected {}; the file was deleted",
                self.file,
                listed.path,
                match &listed.content {
                    Content::Sha256(expected) | Content::GitObject(expected) => expected,
                    Content::Unknown => "another one",
                }
            );
            return Err(Failure::new(FailureCode::ModelInvalid, message));
        }
        let name = paths.blob.clone();
        spawn_blocking(move || partial.finish(&name)).await.map_err(panicked)??;
        Ok(sha256)
    }

    /// Requests the missing bytes until all are here, or too many requests in a row have failed.
    async fn fill(&self, mut partial: PartialDownload, commit: &str, path: &str) -> Result<PartialDownload, Failure> {
        let mut in_a_row = 0;
        while !partial.is_whole() {
            let before = partial.done();
            let setback = match self.context.hub.open(&self.file, commit, path, before).await {
                Ok(body) => {
                    let received;
                    (partial, received) = self.receive(partial, body).await?;
                    match received {
                        Received::Complete => Setback::new("the connection ended too early"),
                        Received::Setback(setback) => setback,
                    }
                }
                Err(HubError::Setback(setback)) => setback,
                Err(HubError::Failure(failure)) => {
                    partial.keep();
                    return Err(failure);
                }
            };
            if partial.is_whole() {
                break;
            }
            in_a_row = if partial.done() > before { 0 } else { in_a_row + 1 };
            if let Err(failure) = self.pause_after(setback.into(), in_a_row).await {
                partial.keep();
                return Err(failure);
            }
        }
        Ok(partial)
    }

    /// Writes a response to the disk, in a thread that may block.
    async fn receive(
        &self,
        mut partial: PartialDownload,
        mut body: Body,
    ) -> Result<(PartialDownload, Received), Failure> {
        let total = partial.total();
        if body.total.is_some_and(|delivered| delivered != total) {
            partial.delete();
            let message = format!(
                "hf:{} differs from the hub's listing: {total} bytes are listed and {} sent; nothing was kept",
                self.file,
                body.total.unwrap_or_default()
            );
            return Err(Failure::new(FailureCode::ModelInvalid, message));
        }
        if body.offset < partial.done() {
            debug!(file = %self.file, "the hub does not support ranges; fetching the file from its beginning");
            partial.restart()?;
        }
        let (sender, pieces) = mpsc::channel(PIECES);
        let writing = spawn_blocking(move || partial.append(pieces));
        let received = loop {
            match body.next().await {
                Ok(Some(piece)) => {
                    // The writer has stopped; it returns the reason.
                    if sender.send(piece).await.is_err() {
                        break Received::Complete;
                    }
                }
                Ok(None) => break Received::Complete,
                Err(setback) => break Received::Setback(setback),
            }
        };
        drop(sender);
        let (partial, written) = writing.await.map_err(panicked)?;
        match written {
            Written::All => Ok((partial, received)),
            Written::TooMuch => {
                partial.delete();
                let message = format!(
                    "hf:{} differs from the hub's listing: more than the {total} bytes listed were sent; nothing was kept",
                    self.file
                );
                Err(Failure::new(FailureCode::ModelInvalid, message))
            }
            Written::Failed(failure) => {
                partial.delete();
                Err(failure)
            }
        }
    }

    /// Links the complete file under its name, and records it.
    async fn finish(self, paths: FilePaths, commit: String, bytes: u64, sha256: String) -> Result<FileRecord, Failure> {
        let Self { context, file, progress } = self;
        let link = move || {
            paths.link(&context.folder, &file, &commit).map_err(|error| failed(&paths.link, "create", &error))?;
            let path = paths.link.display().to_string();
            let record = FileRecord { reference: ModelReference::Hub(file), path, bytes, sha256 };
            context.catalogue.put(&record)?;
            Ok::<FileRecord, Failure>(record)
        };
        let record = spawn_blocking(link).await.map_err(panicked)??;
        let end = Progress { stage: Stage::Fetching, done_bytes: bytes, total_bytes: bytes };
        progress.send_if_modified(|last| std::mem::replace(last, end) != end);
        info!(file = %record.reference, bytes, "fetched a model file");
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
    Failure::new(FailureCode::Internal, format!("a task of the store has ended: {error}"))
}
