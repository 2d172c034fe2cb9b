//! Registries: key-value buckets of typed documents, read whole and then followed.

use std::{
    collections::{BTreeSet, VecDeque},
    marker::PhantomData,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{
    kv::{self, Operation, Watch},
    message::PublishMessage,
};
use futures::StreamExt as _;
use rbee_schema::{FileRecord, HiveRecord, LeaderRecord, ModelSpec, PortLease, WorkerRecord};
use serde::{Serialize, de::DeserializeOwned};
use tracing::warn;

use crate::{Bus, BusError, Outbox, bus::json, recovery::Recovery};

/// The notice of a key that was removed lapses after this long. Whoever watches has heard of it at once.
const MARKER_TIME_TO_LIVE: Duration = Duration::from_secs(60);

/// A bucket of documents of one kind.
#[derive(Debug, Clone)]
pub struct Registry<T> {
    bus: Bus,
    bucket: String,
    kind: PhantomData<fn() -> T>,
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<T> {
    /// A key has a document.
    Set {
        /// The key.
        key: String,
        /// What it has.
        document: T,
        /// Which write of the bucket this was: later ones have higher numbers.
        revision: u64,
        /// When the server stored it.
        stored: SystemTime,
    },
    /// A key has something that is no such document: what is wrong with it.
    Unreadable(String, String),
    /// A key is gone: deleted, or lapsed.
    Removed(String),
    /// Everything that was there at the beginning has been told.
    Synced,
}

impl Registry<HiveRecord> {
    /// The hives that are there.
    pub fn hives(bus: &Bus) -> Self {
        Self::new(bus, "hives")
    }
}

impl Registry<WorkerRecord> {
    /// The workers, as their hives know them.
    pub fn workers(bus: &Bus) -> Self {
        Self::new(bus, "workers")
    }
}

impl Registry<FileRecord> {
    /// The model files that hives have fetched.
    pub fn files(bus: &Bus) -> Self {
        Self::new(bus, "files")
    }
}

impl Registry<ModelSpec> {
    /// The models to be served.
    pub fn models(bus: &Bus) -> Self {
        Self::new(bus, "models")
    }
}

impl Registry<LeaderRecord> {
    /// Which queen leads; see [`crate::LeaderLease`] to become her.
    pub fn leader(bus: &Bus) -> Self {
        Self::new(bus, "queen")
    }
}

impl Registry<PortLease> {
    /// Who holds which port; see [`crate::PortLeases`] to claim one.
    pub fn ports(bus: &Bus) -> Self {
        Self::new(bus, "ports")
    }
}

impl<T: Serialize + DeserializeOwned> Registry<T> {
    fn new(bus: &Bus, bucket: &str) -> Self {
        Self { bus: bus.clone(), bucket: bus.namespace().resource(bucket), kind: PhantomData }
    }

    /// Sets a key. With a time to live it lapses unless it is set again.
    ///
    /// # Errors
    /// When the server does not store it.
    pub async fn put(&self, key: &str, document: &T) -> Result<(), BusError> {
        let stored = self.bus.store(self.subject(key), PublishMessage::build().payload(json(document))).await;
        stored.map(drop).map_err(|error| BusError::new(format!("write {key} to {}", self.bucket), error))
    }

    /// Sets a key in the order of an outbox.
    pub fn put_ordered(&self, outbox: &Outbox, key: &str, document: &T, time_to_live: Option<Duration>) {
        let message = PublishMessage::build().payload(json(document));
        let message = match time_to_live {
            Some(limit) => message.ttl(limit),
            None => message,
        };
        outbox.send(self.subject(key), message);
    }

    /// Removes a key in the order of an outbox.
    pub fn remove_ordered(&self, outbox: &Outbox, key: &str) {
        let message = PublishMessage::build().header("KV-Operation", "PURGE").header("Nats-Rollup", "sub");
        outbox.send(self.subject(key), message.ttl(MARKER_TIME_TO_LIVE));
    }

    /// Removes a key.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn remove(&self, key: &str) -> Result<(), BusError> {
        let doing = || format!("remove {key} from {}", self.bucket);
        let store = self.bus.jetstream().get_key_value(&self.bucket).await;
        let store = store.map_err(|error| BusError::new(doing(), error))?;
        store.purge(key).await.map_err(|error| BusError::new(doing(), error))
    }

    /// The document of a key.
    ///
    /// # Errors
    /// When the server does not answer, or what is there is no such document.
    pub async fn get(&self, key: &str) -> Result<Option<T>, BusError> {
        let failed = |cause: String| BusError::new(format!("read {key} from {}", self.bucket), cause);
        let store =
            self.bus.jetstream().get_key_value(&self.bucket).await.map_err(|error| failed(error.to_string()))?;
        let found = store.get(key).await.map_err(|error| failed(error.to_string()))?;
        found.map(|value| serde_json::from_slice(&value).map_err(|error| failed(error.to_string()))).transpose()
    }

    /// All keys and documents, as they stand now; what cannot be read is left out.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn all(&self) -> Result<Vec<(String, T)>, BusError> {
        let mut watch = self.watch(">").await?;
        let mut all = Vec::new();
        loop {
            match watch.next().await? {
                Entry::Set { key, document, .. } => all.push((key, document)),
                Entry::Unreadable(..) | Entry::Removed(_) => {}
                Entry::Synced => return Ok(all),
            }
        }
    }

    /// What is there under `keys` (a filter), then each change as it comes, also after a restart of the server.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn watch(&self, keys: &str) -> Result<RegistryWatch<T>, BusError> {
        let recovery = Recovery::new(&self.bus);
        let (reader, is_empty) = self.read(keys).await?;
        let mut watch = RegistryWatch {
            registry: Self { bus: self.bus.clone(), bucket: self.bucket.clone(), kind: PhantomData },
            keys: keys.to_owned(),
            reader: None,
            recovery,
            told: BTreeSet::new(),
            to_be_told_again: BTreeSet::new(),
            was_current: false,
            ready: VecDeque::new(),
        };
        watch.opened(reader, is_empty);
        Ok(watch)
    }
}

impl<T> Registry<T> {
    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket)
    }

    /// Begins to read, and says whether there is nothing yet.
    async fn read(&self, keys: &str) -> Result<(Watch, bool), BusError> {
        let failed = |cause: String| BusError::new(format!("watch {}", self.bucket), cause);
        let store =
            self.bus.jetstream().get_key_value(&self.bucket).await.map_err(|error| failed(error.to_string()))?;
        let reader = store.watch_with_history(keys).await.map_err(|error| failed(error.to_string()))?;
        let mut there =
            store.stream.info_with_subjects(self.subject(keys)).await.map_err(|error| failed(error.to_string()))?;
        Ok((reader, there.next().await.is_none()))
    }
}

/// What a registry holds, and what becomes of it.
pub struct RegistryWatch<T> {
    registry: Registry<T>,
    keys: String,
    /// None while it has to be opened anew.
    reader: Option<Watch>,
    recovery: Recovery,
    /// The keys that are there, as far as was told.
    told: BTreeSet<String>,
    /// Those of them that were not told again since the reader was opened anew: the notice that they are gone may have
    /// come and lapsed meanwhile.
    to_be_told_again: BTreeSet<String>,
    /// Whether everything was told that was there when the reader was opened for the first time.
    was_current: bool,
    ready: VecDeque<Entry<T>>,
}

impl<T: DeserializeOwned> RegistryWatch<T> {
    /// The next entry. May be awaited in a `select!`: nothing is lost when it is not the one that comes.
    ///
    /// After an interruption, what is there is told again, and what went meanwhile is told as gone.
    ///
    /// # Errors
    /// When the connection stands and the bucket cannot be read for half a minute.
    pub async fn next(&mut self) -> Result<Entry<T>, BusError> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(entry);
            }
            let Some(reader) = &mut self.reader else {
                match self.registry.read(&self.keys).await {
                    Ok((reader, is_empty)) => self.opened(reader, is_empty),
                    Err(error) => self.recovery.failed(error).await?,
                }
                continue;
            };
            tokio::select! {
                () = self.recovery.interrupted() => self.reader = None,
                entry = reader.next() => match entry {
                    Some(Ok(entry)) => self.hear(entry),
                    Some(Err(error)) => {
                        warn!(bucket = self.registry.bucket, %error, "the bucket is read anew");
                        self.reader = None;
                    }
                    None => self.reader = None,
                }
            }
        }
    }

    fn opened(&mut self, reader: Watch, is_empty: bool) {
        self.reader = Some(reader);
        self.recovery.succeeded();
        self.to_be_told_again.clone_from(&self.told);
        if is_empty {
            self.is_current();
        }
    }

    fn hear(&mut self, entry: kv::Entry) {
        let kv::Entry { key, value, operation, seen_current, revision, created, .. } = entry;
        self.to_be_told_again.remove(&key);
        self.ready.push_back(match operation {
            Operation::Put => {
                self.told.insert(key.clone());
                match serde_json::from_slice(&value) {
                    Ok(document) => Entry::Set { key, document, revision, stored: created.into() },
                    Err(error) => Entry::Unreadable(key, error.to_string()),
                }
            }
            Operation::Delete | Operation::Purge => {
                self.told.remove(&key);
                Entry::Removed(key)
            }
        });
        if seen_current {
            self.is_current();
        }
    }

    /// Everything that is there has been told.
    fn is_current(&mut self) {
        for key in std::mem::take(&mut self.to_be_told_again) {
            self.told.remove(&key);
            self.ready.push_back(Entry::Removed(key));
        }
        if !std::mem::replace(&mut self.was_current, true) {
            self.ready.push_back(Entry::Synced);
        }
    }
}
