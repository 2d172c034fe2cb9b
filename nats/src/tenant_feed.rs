//! Records of tenants as a worker follows them: their weights and limits, and which of them have used their tokens per minute.
//!
//! A watch of a bucket keeps a consumer on the server, which sends a message every few seconds. Ten thousand idle workers would
//! pay for that without a change in weeks. The feed subscribes to the subjects of the buckets instead, which costs nothing while
//! nothing changes, and reads the buckets when it starts and after every interruption.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use async_nats::{Message, Subscriber};
use futures::StreamExt as _;
use rbee_schema::{Tenant, TenantSpec, TenantSpecs, TenantThrottle};
use serde::de::DeserializeOwned;
use tokio::{task::JoinSet, time::sleep};
use tracing::warn;

use crate::{Bus, BusError, Registry, bus::header, recovery::Recovery};

/// Pause before the buckets are read again after a failure. Until then the records apply that are known.
const RETRY: Duration = Duration::from_secs(5);

/// Something that a worker learns about tenants.
#[derive(Debug, Clone, PartialEq)]
pub enum TenantNews {
    /// All records, after an interruption.
    Records(TenantRecords),
    /// A tenant has another record. `None` if it has none, or an invalid one, which counts as none.
    Spec(Tenant, Option<TenantSpec>),
    /// A tenant is throttled, or not any more.
    Throttle(Tenant, Option<TenantThrottle>),
}

/// All records of tenants.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TenantRecords {
    /// Weights and limits.
    pub specs: TenantSpecs,
    /// Tenants that have used their tokens per minute.
    pub throttles: Vec<(Tenant, TenantThrottle)>,
}

/// Feed of the records of tenants.
#[derive(Debug)]
pub struct TenantFeed {
    bus: Bus,
    specs: Subscriber,
    throttles: Subscriber,
    recovery: Recovery,
    reading: JoinSet<TenantRecords>,
    /// Changes that arrived while the buckets are being read, which may have read older records.
    meanwhile: HashMap<String, Message>,
    ready: VecDeque<TenantNews>,
}

impl TenantFeed {
    /// Opens the feed. Returns it with the records that there are; waits for them while the server is away.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn open(bus: &Bus) -> Result<(Self, TenantRecords), BusError> {
        let feed = Self {
            bus: bus.clone(),
            specs: bus.subscribe(bus.namespace().changes_of_bucket("tenants")).await?,
            throttles: bus.subscribe(bus.namespace().changes_of_bucket("throttles")).await?,
            // The topology lists the bucket of throttles before this one, so that both exist when this one is made again.
            recovery: Recovery::of_stream(bus, &format!("KV_{}", bus.namespace().resource("tenants"))).await,
            reading: JoinSet::new(),
            meanwhile: HashMap::new(),
            ready: VecDeque::new(),
        };
        Ok((feed, read_at_last(bus).await))
    }

    /// Next news. Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> TenantNews {
        loop {
            if let Some(news) = self.ready.pop_front() {
                return news;
            }
            tokio::select! {
                () = self.recovery.interrupted() => self.read_again(),
                Some(message) = self.specs.next() => self.changed(message),
                Some(message) = self.throttles.next() => self.changed(message),
                Some(read) = self.reading.join_next() => {
                    // A reading that was interrupted has a successor.
                    let Ok(records) = read else { continue };
                    self.ready.push_back(TenantNews::Records(records));
                    let later: Vec<Message> = self.meanwhile.drain().map(|(_, message)| message).collect();
                    let later: Vec<TenantNews> = later.iter().filter_map(|message| self.news(message)).collect();
                    self.ready.extend(later);
                }
            }
        }
    }

    fn read_again(&mut self) {
        self.reading.abort_all();
        let bus = self.bus.clone();
        self.reading.spawn(async move { read_at_last(&bus).await });
    }

    fn changed(&mut self, message: Message) {
        self.ready.extend(self.news(&message));
        if !self.reading.is_empty() && self.meanwhile.len() < TenantSpecs::MOST {
            self.meanwhile.insert(message.subject.to_string(), message);
        }
    }

    fn news(&self, message: &Message) -> Option<TenantNews> {
        let (bucket, tenant) = message.subject.strip_prefix("$KV.")?.split_once('.')?;
        let tenant: Tenant = tenant.parse().ok()?;
        if bucket == self.bus.namespace().resource("tenants") {
            let spec = document(message).filter(|spec: &TenantSpec| spec.check().is_ok());
            return Some(TenantNews::Spec(tenant, spec));
        }
        Some(TenantNews::Throttle(tenant, document(message)))
    }
}

/// Document of a change. `None` if the key was removed, or the document is invalid.
fn document<T: DeserializeOwned>(message: &Message) -> Option<T> {
    let is_removed = header(message.headers.as_ref(), "KV-Operation").is_some();
    serde_json::from_slice(&message.payload).ok().filter(|_| !is_removed)
}

/// Reads both buckets, as often as it takes.
async fn read_at_last(bus: &Bus) -> TenantRecords {
    loop {
        match read(bus).await {
            Ok(records) => return records,
            Err(error) => warn!(%error, "the limits of tenants could not be read; trying again"),
        }
        sleep(RETRY).await;
    }
}

/// Reads both buckets. Buckets that do not exist hold no records: an earlier version made the streams.
async fn read(bus: &Bus) -> Result<TenantRecords, BusError> {
    let specs = all(&Registry::tenants(bus)).await?;
    let throttles = all(&Registry::throttles(bus)).await?;
    let specs = specs.into_iter().filter(|(_, spec): &(Tenant, TenantSpec)| spec.check().is_ok()).collect();
    Ok(TenantRecords { specs, throttles })
}

async fn all<T: serde::Serialize + DeserializeOwned>(registry: &Registry<T>) -> Result<Vec<(Tenant, T)>, BusError> {
    match registry.all().await {
        Ok(all) => Ok(all.into_iter().filter_map(|(key, document)| Some((key.parse().ok()?, document))).collect()),
        Err(_) if registry.is_missing().await => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
