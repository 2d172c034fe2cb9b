//! Registries: key-value buckets of typed documents, read completely and then watched for changes.

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
use rbee_schema::{
    BatchRecord, FileRecord, HiveRecord, LeaderRecord, ModelSpec, PortLease, TenantSpec, TenantThrottle, WorkerRecord,
};
use serde::{Serialize, de::DeserializeOwned};
use tracing::warn;

use crate::{Bus, BusError, Outbox, bus::json, plan::is_stream_missing, recovery::Recovery};

/// Time to live of the marker of a removed key. Watchers receive it at once; a minute covers those that are reconnecting.
const MARKER_TIME_TO_LIVE: Duration = Duration::from_secs(60);

/// Registry: a bucket of documents of one type.
#[derive(Debug, Clone)]
pub struct Registry<T> {
    bus: Bus,
    bucket: String,
    kind: PhantomData<fn() -> T>,
}

/// Item of a watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<T> {
    /// A key has this document.
    Set {
        /// Key in the bucket.
        key: String,
        /// Document of the key.
        document: T,
        /// Revision: number of the write in the bucket. Later writes have higher numbers.
        revision: u64,
        /// Time at which the server stored the document.
        stored: SystemTime,
    },
    /// A key has an invalid document.
    Unreadable {
        /// Key in the bucket.
        key: String,
        /// Error of the document.
        error: String,
        /// Revision: number of the write in the bucket.
        revision: u64,
    },
    /// A key was deleted or expired.
    Removed(String),
    /// All keys that existed when the watch started have been returned.
    Synced,
}

impl Registry<HiveRecord> {
    /// Registry of hives.
    pub fn hives(bus: &Bus) -> Self {
        Self::new(bus, "hives")
    }
}

impl Registry<WorkerRecord> {
    /// Registry of workers, written by their hives.
    pub fn workers(bus: &Bus) -> Self {
        Self::new(bus, "workers")
    }
}

impl Registry<FileRecord> {
    /// Registry of model files that hives have fetched.
    pub fn files(bus: &Bus) -> Self {
        Self::new(bus, "files")
    }
}

impl Registry<ModelSpec> {
    /// Registry of declared models.
    pub fn models(bus: &Bus) -> Self {
        Self::new(bus, "models")
    }
}

impl Registry<TenantSpec> {
    /// Registry of the weights and limits of tenants.
    pub fn tenants(bus: &Bus) -> Self {
        Self::new(bus, "tenants")
    }
}

impl Registry<TenantThrottle> {
    /// Registry of tenants that have used their tokens per minute, written by the leading queen.
    pub fn throttles(bus: &Bus) -> Self {
        Self::new(bus, "throttles")
    }
}

impl Registry<BatchRecord> {
    /// Registry of batches. [`Batches`](crate::Batches) changes them.
    pub fn batches(bus: &Bus) -> Self {
        Self::new(bus, "batches")
    }
}

impl Registry<LeaderRecord> {
    /// Registry of the leading queen. [`LeaderLease`](crate::LeaderLease) takes the lease.
    pub fn leader(bus: &Bus) -> Self {
        Self::new(bus, "queen")
    }
}

impl Registry<PortLease> {
    /// Registry of port leases. [`PortLeases`](crate::PortLeases) claims a port.
    pub fn ports(bus: &Bus) -> Self {
        Self::new(bus, "ports")
    }
}

impl<T: Serialize + DeserializeOwned> Registry<T> {
    fn new(bus: &Bus, bucket: &str) -> Self {
        Self { bus: bus.clone(), bucket: bus.namespace().resource(bucket), kind: PhantomData }
    }

    /// Sets a key.
    ///
    /// # Errors
    /// The server does not store the document.
    pub async fn put(&self, key: &str, document: &T) -> Result<(), BusError> {
        let stored = self.bus.store(self.subject(key), PublishMessage::build().payload(json(document))).await;
        stored.map(drop).map_err(|error| BusError::new(format!("write {key} to {}", self.bucket), error))
    }

    /// Sets a key in the order of an outbox. With a time to live, the key expires unless it is set again.
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
    /// The server does not answer.
    pub async fn remove(&self, key: &str) -> Result<(), BusError> {
        let doing = || format!("remove {key} from {}", self.bucket);
        let store = self.bus.jetstream().get_key_value(&self.bucket).await;
        let store = store.map_err(|error| BusError::new(doing(), error))?;
        store.purge(key).await.map_err(|error| BusError::new(doing(), error))
    }

    /// Document of a key. `None` if the key does not exist.
    ///
    /// # Errors
    /// The server does not answer, or the document is invalid.
    pub async fn get(&self, key: &str) -> Result<Option<T>, BusError> {
        let failed = |cause: String| BusError::new(format!("read {key} from {}", self.bucket), cause);
        let store =
            self.bus.jetstream().get_key_value(&self.bucket).await.map_err(|error| failed(error.to_string()))?;
        let found = store.get(key).await.map_err(|error| failed(error.to_string()))?;
        found.map(|value| serde_json::from_slice(&value).map_err(|error| failed(error.to_string()))).transpose()
    }

    /// Current keys and documents. Invalid documents are left out.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn all(&self) -> Result<Vec<(String, T)>, BusError> {
        let all = self.all_keys(">").await?;
        Ok(all.into_iter().filter_map(|(key, document)| Some((key, document?))).collect())
    }

    /// Current keys that match the filter `keys`, with their documents. `None` for an invalid document.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn all_keys(&self, keys: &str) -> Result<Vec<(String, Option<T>)>, BusError> {
        let mut watch = self.watch(keys).await?;
        let mut all = Vec::new();
        loop {
            match watch.next().await? {
                Entry::Set { key, document, .. } => all.push((key, Some(document))),
                Entry::Unreadable { key, .. } => all.push((key, None)),
                Entry::Removed(_) => {}
                Entry::Synced => return Ok(all),
            }
        }
    }

    /// True if a key exists, whatever is in it.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn exists(&self, key: &str) -> Result<bool, BusError> {
        let failed = |cause: String| BusError::new(format!("read {key} from {}", self.bucket), cause);
        let store =
            self.bus.jetstream().get_key_value(&self.bucket).await.map_err(|error| failed(error.to_string()))?;
        store.get(key).await.map(|found| found.is_some()).map_err(|error| failed(error.to_string()))
    }

    /// True if the server says that the bucket does not exist.
    pub async fn is_missing(&self) -> bool {
        let stream = self.bus.jetstream().get_stream(format!("KV_{}", self.bucket)).await;
        stream.is_err_and(|error| is_stream_missing(&error))
    }

    /// Watches the keys that match the filter `keys`: returns the current documents, and then every change. The watch survives
    /// restarts of the server.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn watch(&self, keys: &str) -> Result<RegistryWatch<T>, BusError> {
        let recovery = Recovery::of_stream(&self.bus, &format!("KV_{}", self.bucket)).await;
        let (reader, is_empty) = self.read(keys).await?;
        let mut watch = RegistryWatch {
            registry: Self { bus: self.bus.clone(), bucket: self.bucket.clone(), kind: PhantomData },
            keys: keys.to_owned(),
            reader: None,
            recovery,
            known: BTreeSet::new(),
            unconfirmed: BTreeSet::new(),
            is_synced: false,
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

    /// Starts to read. The flag is true if no key exists yet.
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

/// Watch of a registry.
pub struct RegistryWatch<T> {
    registry: Registry<T>,
    keys: String,
    /// `None` while the reader must be reopened.
    reader: Option<Watch>,
    recovery: Recovery,
    /// Keys that exist, as far as they were returned.
    known: BTreeSet<String>,
    /// Known keys that were not returned again since the reader was reopened. Their removal may have been missed.
    unconfirmed: BTreeSet<String>,
    /// True once all keys that existed at the start were returned.
    is_synced: bool,
    ready: VecDeque<Entry<T>>,
}

impl<T: DeserializeOwned> RegistryWatch<T> {
    /// Next entry. Cancel-safe: dropping the future loses no entry.
    ///
    /// After an interruption, the existing documents are returned again, and keys that disappeared meanwhile are returned as
    /// removed.
    ///
    /// # Errors
    /// The connection is established, and the server has refused the reader for the time of the setting `reader`.
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
                    Some(Ok(entry)) => self.handle_entry(entry),
                    Some(Err(error)) => {
                        warn!(bucket = self.registry.bucket, %error, "reading the bucket failed; reopening the reader");
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
        self.unconfirmed.clone_from(&self.known);
        if is_empty {
            self.synced();
        }
    }

    fn handle_entry(&mut self, entry: kv::Entry) {
        let kv::Entry { key, value, operation, seen_current, revision, created, .. } = entry;
        self.unconfirmed.remove(&key);
        self.ready.push_back(match operation {
            Operation::Put => {
                self.known.insert(key.clone());
                match serde_json::from_slice(&value) {
                    Ok(document) => Entry::Set { key, document, revision, stored: created.into() },
                    Err(error) => Entry::Unreadable { key, error: error.to_string(), revision },
                }
            }
            Operation::Delete | Operation::Purge => {
                self.known.remove(&key);
                Entry::Removed(key)
            }
        });
        if seen_current {
            self.synced();
        }
    }

    /// All existing keys have been returned: removes those that were not returned again, and reports the first time.
    fn synced(&mut self) {
        for key in std::mem::take(&mut self.unconfirmed) {
            self.known.remove(&key);
            self.ready.push_back(Entry::Removed(key));
        }
        if !std::mem::replace(&mut self.is_synced, true) {
            self.ready.push_back(Entry::Synced);
        }
    }
}
