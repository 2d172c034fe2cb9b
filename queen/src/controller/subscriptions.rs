//! Streams of inputs from the bus.

use futures::stream::{SelectAll, select_all};
use rbee_nats::{Bus, BusError, Registry, RegistryWatch, Subject, Subscriber};
use rbee_schema::{FileRecord, HiveRecord, ModelSpec, TenantSpec, WorkerRecord};

/// Number of [`Registries`].
pub(super) const REGISTRIES: u32 = 5;

/// Registries that the queen watches.
pub(super) struct Registries {
    pub(super) hives: RegistryWatch<HiveRecord>,
    pub(super) workers: RegistryWatch<WorkerRecord>,
    pub(super) models: RegistryWatch<ModelSpec>,
    pub(super) files: RegistryWatch<FileRecord>,
    pub(super) tenants: RegistryWatch<TenantSpec>,
}

impl Registries {
    pub(super) async fn watch(bus: &Bus) -> Result<Self, BusError> {
        Ok(Self {
            hives: Registry::hives(bus).watch(">").await?,
            workers: Registry::workers(bus).watch(">").await?,
            models: Registry::models(bus).watch(">").await?,
            files: Registry::files(bus).watch(">").await?,
            tenants: Registry::tenants(bus).watch(">").await?,
        })
    }
}

/// Messages that the queen receives.
pub(super) struct Messages {
    pub(super) heartbeats: Subscriber,
    pub(super) queued: Subscriber,
    /// Events of jobs that have ended.
    pub(super) job_ends: SelectAll<Subscriber>,
    pub(super) cancels: Subscriber,
    pub(super) dead: Subscriber,
    pub(super) placed: Subscriber,
    pub(super) watch_refused_logins: Subscriber,
    pub(super) disconnects: Subscriber,
    pub(super) control: Subscriber,
}

impl Messages {
    pub(super) async fn subscribe(bus: &Bus) -> Result<Self, BusError> {
        let namespace = bus.namespace();
        let [finished, failed] = namespace.all_job_ends();
        Ok(Self {
            heartbeats: bus.subscribe(namespace.all_heartbeats()).await?,
            queued: bus.subscribe(namespace.all_queued()).await?,
            job_ends: select_all([bus.subscribe(finished).await?, bus.subscribe(failed).await?]),
            cancels: bus.subscribe(namespace.all_cancels()).await?,
            dead: bus.subscribe(namespace.all_dead()).await?,
            placed: bus.subscribe(namespace.all_placements()).await?,
            watch_refused_logins: bus.watch_refused_logins().await?,
            disconnects: bus.watch_disconnects().await?,
            control: bus.subscribe(bus.subject(&Subject::QueenControl)).await?,
        })
    }
}
