//! Model files on this machine: where they are, and how they come from the hub. Part of step 3 of a job's path.
//!
//! A [`Store`] is a handle. One task owns what is being fetched, so that many who ask for one file share one download; it
//! goes on as long as one of them waits, and what it has brought is kept for the next. Several processes may share the
//! folder: each file has a lock. A file is found under its name only when all of it is here and it is what the hub says.

mod catalogue;
mod digest;
mod fetch;
mod hub;
mod layout;
mod lock;
mod part;

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use rbee_schema::{ByteSize, Failure, FailureCode, FileRecord, HubFile, ModelReference};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
};

use self::{
    catalogue::Catalogue,
    fetch::{Fetch, panicked},
    hub::Hub,
};
pub use crate::decide::fetch::Patience;
use crate::decide::rules::Rules;

/// The hub, unless another address is configured.
pub const HUB: &str = "https://huggingface.co";

/// Where a store is and where it fetches from.
#[derive(Clone)]
pub struct StoreConfig {
    /// The folder of the files; it is made where it is missing.
    pub folder: PathBuf,
    /// The address of the hub.
    pub endpoint: String,
    /// What proves to the hub who asks. It is told to no one else.
    pub token: Option<String>,
    /// How long a fetch bears with the network.
    pub patience: Patience,
    /// The largest description of a repository that is read.
    pub largest_listing: ByteSize,
}

impl StoreConfig {
    /// A store in `folder` that fetches from the hub without a token.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self::by(folder, &Rules::default())
    }

    /// The same by the settings of a hive.
    pub fn by(folder: impl Into<PathBuf>, rules: &Rules) -> Self {
        Self {
            folder: folder.into(),
            endpoint: HUB.to_owned(),
            token: None,
            patience: Patience::of(rules),
            largest_listing: rules.bounds.hub_listing,
        }
    }
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { folder, endpoint, token, patience, largest_listing } = self;
        f.debug_struct("StoreConfig")
            .field("folder", folder)
            .field("endpoint", endpoint)
            .field("has_token", &token.is_some())
            .field("patience", patience)
            .field("largest_listing", largest_listing)
            .finish()
    }
}

/// What a fetch is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It asks the hub what the file is; nothing is known yet.
    Asking,
    /// Another process fetches the file.
    Waiting,
    /// What an earlier fetch left is read.
    Checking,
    /// Bytes come.
    Fetching,
}

/// How far a fetch is. Told at 0 and at 100 %, and at most ten times a second between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// Bytes that are here.
    pub done_bytes: u64,
    /// Bytes in all; 0 while it asks.
    pub total_bytes: u64,
}

/// What every fetch of a store uses.
#[derive(Debug)]
struct Shelves {
    folder: PathBuf,
    catalogue: Catalogue,
    hub: Hub,
    patience: Patience,
}

/// The model files of this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    shelves: Arc<Shelves>,
    owner: mpsc::Sender<Ask>,
}

/// A download that several may wait for. It goes on while one of them does.
#[derive(Clone)]
struct Flight {
    outcome: Shared<BoxFuture<'static, Result<FileRecord, Failure>>>,
    progress: watch::Receiver<Progress>,
}

struct Ask {
    wanted: HubFile,
    reply: oneshot::Sender<Flight>,
}

impl Store {
    /// Opens the store, which must happen on a runtime. Nothing is asked of the hub yet.
    ///
    /// # Errors
    /// When the folder cannot be made, or the hub's address or the token is malformed.
    pub fn open(config: StoreConfig) -> io::Result<Self> {
        let StoreConfig { folder, endpoint, token, patience, largest_listing } = config;
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        fs::create_dir_all(&folder).map_err(at)?;
        let catalogue = Catalogue::open(&folder).map_err(at)?;
        let hub = Hub::new(&folder, &endpoint, token, patience.silence, largest_listing)?;
        let shelves = Arc::new(Shelves { folder, catalogue, hub, patience });
        // Who asks waits for the answer: more than a few at a time are not to be expected, and they may wait.
        let (owner, asks) = mpsc::channel(8);
        tokio::spawn(own(shelves.clone(), asks));
        Ok(Self { shelves, owner })
    }

    /// The path of a model file on this machine; fetches it first where it is not here. Empty for the test engine.
    ///
    /// # Errors
    /// `model-missing`, `model-invalid`, `disk-full`, `fetch-failed`, `access-denied`; `invalid-request` where the
    /// reference may mean several files.
    pub async fn provide(
        &self,
        reference: &ModelReference,
        progress: impl FnMut(Progress),
    ) -> Result<PathBuf, Failure> {
        match reference {
            ModelReference::File(path) => readable(path.clone()).await,
            ModelReference::Hub(wanted) => Ok(self.fetch(wanted, progress).await?.path.into()),
            ModelReference::Mock(_) => Ok(PathBuf::new()),
        }
    }

    /// A file of the hub; fetches it where it is not here. Without the network where it is.
    ///
    /// # Errors
    /// See [`provide`](Self::provide).
    pub async fn fetch(&self, wanted: &HubFile, mut progress: impl FnMut(Progress)) -> Result<FileRecord, Failure> {
        let (reply, flight) = oneshot::channel();
        let ask = Ask { wanted: wanted.clone(), reply };
        let gone = || Failure::new(FailureCode::Internal, "the task of the store ended");
        self.owner.send(ask).await.map_err(|_| gone())?;
        let Flight { mut outcome, progress: mut told } = flight.await.map_err(|_| gone())?;
        let mut last = None;
        loop {
            tokio::select! {
                // What was told first: the fetch goes on only when it is asked to.
                biased;
                Ok(()) = told.changed() => {
                    let now = *told.borrow_and_update();
                    if now.stage != Stage::Asking {
                        progress(now);
                        last = Some(now);
                    }
                }
                outcome = &mut outcome => {
                    let now = *told.borrow_and_update();
                    if now.stage != Stage::Asking && last != Some(now) {
                        progress(now);
                    }
                    return outcome;
                }
            }
        }
    }

    /// What is here of the files of the hub.
    pub async fn list(&self) -> Vec<FileRecord> {
        let catalogue = self.shelves.catalogue.clone();
        spawn_blocking(move || catalogue.list()).await.unwrap_or_default()
    }

    /// Deletes a file of the hub, and returns how many bytes are free again: none where another reference means it too.
    ///
    /// # Errors
    /// `model-missing` where it is not here; `invalid-request` for what is not the store's to delete.
    pub async fn remove(&self, reference: &ModelReference) -> Result<u64, Failure> {
        if !matches!(reference, ModelReference::Hub(_)) {
            let message = format!("{reference} is no file of the store: only what was fetched (hf:...) is deleted");
            return Err(Failure::new(FailureCode::InvalidRequest, message));
        }
        let (catalogue, reference) = (self.shelves.catalogue.clone(), reference.clone());
        spawn_blocking(move || catalogue.remove(&reference)).await.map_err(panicked)?
    }

    /// How large a model file is, if it is on this machine.
    pub async fn size_of(&self, reference: &ModelReference) -> Option<u64> {
        let (catalogue, reference) = (self.shelves.catalogue.clone(), reference.clone());
        let look = move || match &reference {
            ModelReference::File(path) => bytes_at(path),
            ModelReference::Hub(_) => catalogue.find(&reference).map(|record| record.bytes),
            ModelReference::Mock(_) => None,
        };
        spawn_blocking(look).await.ok().flatten()
    }
}

/// A name for a reference that a key or a file name may have.
pub fn digest_of(reference: &ModelReference) -> String {
    // Half of it: that two references of one store meet is as good as impossible.
    let mut text = digest::of(reference.to_string().as_bytes());
    text.truncate(32);
    text
}

type WeakFlight = (WeakShared<BoxFuture<'static, Result<FileRecord, Failure>>>, watch::Receiver<Progress>);

/// The owner of what is being fetched.
async fn own(shelves: Arc<Shelves>, mut asks: mpsc::Receiver<Ask>) {
    let mut flights: HashMap<HubFile, WeakFlight> = HashMap::new();
    while let Some(Ask { wanted, reply }) = asks.recv().await {
        flights.retain(|_, (outcome, _)| outcome.upgrade().is_some());
        let under_way = flights.get(&wanted).and_then(|(outcome, progress)| {
            let outcome = outcome.upgrade().filter(|outcome| outcome.peek().is_none())?;
            let mut progress = progress.clone();
            progress.mark_changed();
            Some(Flight { outcome, progress })
        });
        let flight = under_way.unwrap_or_else(|| begin(&shelves, &wanted));
        if let Some(outcome) = flight.outcome.downgrade() {
            flights.insert(wanted, (outcome, flight.progress.clone()));
        }
        // Who asked may be gone: then nobody waits, and nothing is fetched.
        let _ = reply.send(flight);
    }
}

fn begin(shelves: &Arc<Shelves>, wanted: &HubFile) -> Flight {
    let (told, progress) = watch::channel(Progress { stage: Stage::Asking, done_bytes: 0, total_bytes: 0 });
    let outcome = Fetch::new(shelves.clone(), wanted.clone(), told).run().boxed().shared();
    Flight { outcome, progress }
}

/// The size of a model's file, or of the weights in its folder.
fn bytes_at(path: &Path) -> Option<u64> {
    let about = fs::metadata(path).ok()?;
    if about.is_file() {
        return Some(about.len());
    }
    let weights = fs::read_dir(path).ok()?.filter_map(Result::ok);
    let weights = weights.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "safetensors"));
    // Not what the entry says of itself: it may be a link.
    Some(weights.filter_map(|entry| fs::metadata(entry.path()).ok()).map(|file| file.len()).sum())
}

/// A file that is there and can be read, or a folder with a model.
async fn readable(path: PathBuf) -> Result<PathBuf, Failure> {
    let look = move || match fs::File::open(&path).and_then(|file| file.metadata()) {
        Ok(found) if found.is_file() => Ok(path),
        Ok(_) if path.join("config.json").is_file() => Ok(path),
        Ok(_) => Err(format!(
            "{} is no model: name a model file (.gguf), or a folder with config.json and safetensors",
            path.display()
        )),
        Err(error) => Err(format!("{} cannot be read: {error}; the path is one on the hive's machine", path.display())),
    };
    let looked = spawn_blocking(look).await.map_err(panicked)?;
    looked.map_err(|message| Failure::new(FailureCode::ModelMissing, message))
}
