//! List of all documents that cross the bus, with their JSON Schemas. The generated files in `schemas/` are made from it.

use schemars::{JsonSchema, Schema, generate::SchemaSettings};

use crate::{
    AlertEvent, AuditEvent, BatchRecord, Chunk, DeadJob, EmbeddingsRequest, Failure, FileRecord, HiveCommand,
    HiveEvent, HiveHeartbeat, HiveRecord, JobEvent, JobRequest, LeaderRecord, ModelEvent, ModelSpec, PortEvent,
    PortLease, QueenControl, QueenEvent, TenantEvent, TenantSpec, TenantThrottle, WorkerControl, WorkerEvent,
    WorkerHeartbeat, WorkerRecord, api,
};

/// Kind of document with its JSON Schema (draft 2020-12; every definition is inlined or in `$defs`).
#[derive(Debug, Clone)]
pub struct Document {
    /// Name in kebab case: the file `schemas/<name>.json`, and the message in the AsyncAPI document.
    pub name: &'static str,
    /// JSON Schema of the document.
    pub schema: Schema,
}

fn document<T: JsonSchema>(name: &'static str) -> Document {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    Document { name, schema }
}

/// Every document, in the order of the subjects.
pub fn documents() -> Vec<Document> {
    vec![
        document::<JobRequest>("job"),
        document::<EmbeddingsRequest>("embeddings-job"),
        document::<Chunk>("chunk"),
        document::<QueenEvent>("queen-event"),
        document::<HiveEvent>("hive-event"),
        document::<WorkerEvent>("worker-event"),
        document::<PortEvent>("port-event"),
        document::<ModelEvent>("model-event"),
        document::<TenantEvent>("tenant-event"),
        document::<JobEvent>("job-event"),
        document::<AlertEvent>("alert-event"),
        document::<AuditEvent>("audit-event"),
        document::<HiveHeartbeat>("hive-heartbeat"),
        document::<WorkerHeartbeat>("worker-heartbeat"),
        document::<HiveCommand>("hive-command"),
        document::<WorkerControl>("worker-control"),
        document::<QueenControl>("queen-control"),
        document::<DeadJob>("dead-job"),
        document::<PortLease>("port-lease"),
        document::<LeaderRecord>("leader-record"),
        document::<HiveRecord>("hive-record"),
        document::<WorkerRecord>("worker-record"),
        document::<FileRecord>("file-record"),
        document::<ModelSpec>("model-spec"),
        document::<TenantSpec>("tenant-spec"),
        document::<TenantThrottle>("tenant-throttle"),
        document::<BatchRecord>("batch-record"),
        document::<Failure>("failure"),
        document::<api::Status>("api-status"),
        document::<api::PageRequest>("api-page-request"),
        document::<api::Models>("api-models"),
        document::<api::Hives>("api-hives"),
        document::<api::Workers>("api-workers"),
        document::<api::Tenants>("api-tenants"),
        document::<api::JobsRequest>("api-jobs-request"),
        document::<api::Jobs>("api-jobs"),
        document::<api::JobStoryRequest>("api-job-request"),
        document::<api::JobStory>("api-job"),
        document::<api::Retry>("api-retry"),
        document::<api::RetryReply>("api-retry-reply"),
        document::<api::Cancel>("api-cancel"),
        document::<api::CancelReply>("api-cancel-reply"),
        document::<api::BatchRun>("api-batch-run"),
        document::<api::BatchRequest>("api-batch-request"),
        document::<api::Batch>("api-batch"),
        document::<api::Batches>("api-batches"),
        document::<api::Explanation>("api-explanation"),
        document::<api::ModelRequest>("api-model-request"),
        document::<api::WorkerRequest>("api-worker-request"),
        document::<api::FileRequest>("api-file-request"),
        document::<api::Spawn>("api-spawn"),
        document::<api::Stop>("api-stop"),
        document::<api::Drain>("api-drain"),
        document::<api::CommandReply>("api-command-reply"),
    ]
}
