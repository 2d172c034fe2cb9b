//! The store of model files on this machine, and their download from the hub. Part of step 3 of a job's path.
//!
//! A [`Store`] is a handle. One task owns the downloads, so that all callers who need one file share one download. It
//! continues while one of them waits, and its bytes are kept for the next. Several processes may share the folder: each file
//! has a lock. A file is found under its name only when it is complete and has the digest that the hub lists.

mod catalogue;
mod context;
mod digest;
mod fetch;
mod hub;
mod lock;
mod partial;
mod paths;
mod progress;

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
    context::Context,
    fetch::{Fetch, panicked},
    hub::Hub,
};
pub use self::{
    digest::digest_of,
    progress::{Progress, Stage},
};
pub use crate::decide::fetch::RetryLimits;
use crate::decide::rules::Rules;

/// Default address of the hub.
pub const HUB: &str = "https://huggingface.co";

/// Configuration of a store.
#[derive(Clone)]
pub struct StoreConfig {
    /// Folder of the files. It is created where it is missing.
    pub folder: PathBuf,
    /// Address of the hub.
    pub endpoint: String,
    /// Access token for the hub. It is sent to no other host.
    pub token: Option<String>,
    /// Limits of retries and waits.
    pub retry: RetryLimits,
    /// Largest description of a repository that is read.
    pub largest_listing: ByteSize,
}

impl StoreConfig {
    /// A store in `folder` with the default hub and no token.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self::with_rules(folder, &Rules::default())
    }

    /// A store in `folder` with the default hub, no token, and the settings of a hive.
    pub fn with_rules(folder: impl Into<PathBuf>, rules: &Rules) -> Self {
        Self {
            folder: folder.into(),
            endpoint: HUB.to_owned(),
            token: None,
            retry: RetryLimits::of(rules),
            largest_listing: rules.bounds.hub_listing,
        }
    }
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { folder, endpoint, token, retry, largest_listing } = self;
        f.debug_struct("StoreConfig")
            .field("folder", folder)
            .field("endpoint", endpoint)
            .field("has_token", &token.is_some())
            .field("retry", retry)
            .field("largest_listing", largest_listing)
            .finish()
    }
}

/// Handle of the model files of this machine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    context: Arc<Context>,
    owner: mpsc::Sender<FetchRequest>,
}

/// A download that several callers may wait for. It continues while one of them does.
#[derive(Clone)]
struct Download {
    outcome: Shared<BoxFuture<'static, Result<FileRecord, Failure>>>,
    progress: watch::Receiver<Progress>,
}

struct FetchRequest {
    file: HubFile,
    reply: oneshot::Sender<Download>,
}

impl Store {
    /// Opens the store, which must happen on a runtime. The hub is not contacted yet.
    ///
    /// # Errors
    /// When the folder cannot be created, or the address of the hub or the token is malformed.
    pub fn open(config: StoreConfig) -> io::Result<Self> {
        let StoreConfig { folder, endpoint, token, retry, largest_listing } = config;
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
        fs::create_dir_all(&folder).map_err(at)?;
        let catalogue = Catalogue::open(&folder).map_err(at)?;
        let hub = Hub::new(&folder, &endpoint, token, retry.idle_timeout, largest_listing)?;
        let context = Arc::new(Context { folder, catalogue, hub, retry });
        // Each caller waits for its answer, and the owner answers within microseconds.
        let (owner, requests) = mpsc::channel(8);
        tokio::spawn(own_downloads(context.clone(), requests));
        Ok(Self { context, owner })
    }

    /// Path of a model file on this machine. The file is fetched first where it is not here. Empty for the test engine.
    ///
    /// # Errors
    /// `model-missing`, `model-invalid`, `disk-full`, `fetch-failed`, `access-denied`; `invalid-request` where the
    /// reference may stand for several files.
    pub async fn provide(
        &self,
        reference: &ModelReference,
        progress: impl FnMut(Progress),
    ) -> Result<PathBuf, Failure> {
        match reference {
            ModelReference::File(path) => readable(path.clone()).await,
            ModelReference::Hub(file) => Ok(self.fetch(file, progress).await?.path.into()),
            ModelReference::Mock(_) => Ok(PathBuf::new()),
        }
    }

    /// Record of a file of the hub. The file is fetched where it is not here; otherwise the hub is not contacted.
    ///
    /// # Errors
    /// See [`provide`](Self::provide).
    pub async fn fetch(&self, file: &HubFile, mut progress: impl FnMut(Progress)) -> Result<FileRecord, Failure> {
        let (reply, download) = oneshot::channel();
        let request = FetchRequest { file: file.clone(), reply };
        let gone = || Failure::new(FailureCode::Internal, "the task of the store has ended");
        self.owner.send(request).await.map_err(|_| gone())?;
        let Download { mut outcome, progress: mut reported } = download.await.map_err(|_| gone())?;
        let mut last = None;
        loop {
            tokio::select! {
                // Progress first: the download only runs while its outcome is polled.
                biased;
                Ok(()) = reported.changed() => {
                    let now = *reported.borrow_and_update();
                    if now.stage != Stage::Listing {
                        progress(now);
                        last = Some(now);
                    }
                }
                outcome = &mut outcome => {
                    let now = *reported.borrow_and_update();
                    if now.stage != Stage::Listing && last != Some(now) {
                        progress(now);
                    }
                    return outcome;
                }
            }
        }
    }

    /// Records of the hub's files that are here.
    pub async fn list(&self) -> Vec<FileRecord> {
        let catalogue = self.context.catalogue.clone();
        spawn_blocking(move || catalogue.list()).await.unwrap_or_default()
    }

    /// Deletes a file of the hub. Returns the number of bytes freed: 0 where another reference has the same file.
    ///
    /// # Errors
    /// `model-missing` where the file is not here; `invalid-request` for a file that the store did not fetch.
    pub async fn remove(&self, reference: &ModelReference) -> Result<u64, Failure> {
        if !matches!(reference, ModelReference::Hub(_)) {
            let message = format!("cannot delete {reference}: the store deletes only files that it fetched (hf:...)");
            return Err(Failure::new(FailureCode::InvalidRequest, message));
        }
        let (catalogue, reference) = (self.context.catalogue.clone(), reference.clone());
        spawn_blocking(move || catalogue.remove(&reference)).await.map_err(panicked)?
    }

    /// Size of a model file in bytes; `None` where it is not on this machine.
    pub async fn size_of(&self, reference: &ModelReference) -> Option<u64> {
        let (catalogue, reference) = (self.context.catalogue.clone(), reference.clone());
        let size = move || match &reference {
            ModelReference::File(path) => bytes_at(path),
            ModelReference::Hub(_) => catalogue.find(&reference).map(|record| record.bytes),
            ModelReference::Mock(_) => None,
        };
        spawn_blocking(size).await.ok().flatten()
    }
}

type WeakDownload = (WeakShared<BoxFuture<'static, Result<FileRecord, Failure>>>, watch::Receiver<Progress>);

/// Owns the downloads: one for each file that is being fetched.
async fn own_downloads(context: Arc<Context>, mut requests: mpsc::Receiver<FetchRequest>) {
    let mut downloads: HashMap<HubFile, WeakDownload> = HashMap::new();
    while let Some(FetchRequest { file, reply }) = requests.recv().await {
        downloads.retain(|_, (outcome, _)| outcome.upgrade().is_some());
        let running = downloads.get(&file).and_then(|(outcome, progress)| {
            let outcome = outcome.upgrade().filter(|outcome| outcome.peek().is_none())?;
            let mut progress = progress.clone();
            progress.mark_changed();
            Some(Download { outcome, progress })
        });
        let download = running.unwrap_or_else(|| begin(&context, &file));
        if let Some(outcome) = download.outcome.downgrade() {
            downloads.insert(file, (outcome, download.progress.clone()));
        }
        // The caller may be gone. Then no caller polls the download, and nothing is fetched.
        let _ = reply.send(download);
    }
}

fn begin(context: &Arc<Context>, file: &HubFile) -> Download {
    let (reporter, progress) = watch::channel(Progress { stage: Stage::Listing, done_bytes: 0, total_bytes: 0 });
    let outcome = Fetch::new(context.clone(), file.clone(), reporter).run().boxed().shared();
    Download { outcome, progress }
}

/// Size in bytes of a model file, or of the weights in a model folder.
fn bytes_at(path: &Path) -> Option<u64> {
    let about = fs::metadata(path).ok()?;
    if about.is_file() {
        return Some(about.len());
    }
    let weights = fs::read_dir(path).ok()?.filter_map(Result::ok);
    let weights = weights.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "safetensors"));
    // The metadata of the target: the entry may be a link.
    Some(weights.filter_map(|entry| fs::metadata(entry.path()).ok()).map(|file| file.len()).sum())
}

/// Checks that the path is a readable file, or a folder with a model.
async fn readable(path: PathBuf) -> Result<PathBuf, Failure> {
    let check = move || match fs::File::open(&path).and_then(|file| file.metadata()) {
        Ok(found) if found.is_file() => Ok(path),
        Ok(_) if path.join("config.json").is_file() => Ok(path),
        Ok(_) => Err(format!(
            "{} is not a model: name a model file (.gguf), or a folder with config.json and safetensors",
            path.display()
        )),
        Err(error) => {
            Err(format!("failed to read {}: {error}; the path must exist on the hive's machine", path.display()))
        }
    };
    let checked = spawn_blocking(check).await.map_err(panicked)?;
    checked.map_err(|message| Failure::new(FailureCode::ModelMissing, message))
}
