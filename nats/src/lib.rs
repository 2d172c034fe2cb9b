//! The bus: subjects, streams and buckets on NATS and JetStream, and typed operations on them.
//!
//! Every message of the fleet goes through this crate, so that subjects are written in one place ([`Subject`]) and streams
//! are described in one place ([`Topology`]). The crate makes no decisions; queen, hive and worker do.

mod address;
mod api;
pub mod asyncapi;
mod audit;
mod batch;
mod batch_record;
mod bus;
mod cell;
mod command;
mod connection_log;
mod delete;
mod event;
mod job;
mod leader;
mod object;
mod outbox;
mod output;
mod plan;
mod port;
mod prepare;
mod presence;
mod recovery;
mod registry;
mod server;
pub mod server_error;
mod settings;
mod storage;
mod stream_advisory;
mod subject;
mod tenant_feed;
mod time;
mod topology;
pub mod trace;

pub use address::without_secrets;
pub use api::{Api, ApiRequest, OPERATIONS, ReplyStream};
pub use async_nats::{Message, Subscriber};
pub use audit::{ChainHead, PendingSeal, TrailReport, TrailVerifier};
pub use batch_record::{Batches, Checkpoint, new_batch};
pub use bus::{Bus, BusError, ConnectError, Connection, MINIMUM_SERVER};
pub use command::{CommandIssuer, CommandQueue, IssuedCommand};
pub use connection_log::Denial;
pub use event::{EventReader, EventRecord, read_event, recent_events};
pub use job::{
    Answered, Begun, BlamedExit, BodyError, BodySweeper, ClockReading, DeadLetter, Delivery, EndedJob, JobBatch,
    JobClock, JobFilter, JobFinder, JobHistory, JobQueue, LIMITED_FETCH, Misnamed, Priority, Pull, Pulled, QueueCount,
    QueuedDeadlines, QueuedJob, Received, STANDING, StoredBody, StoredCancel, StoredJobEvent, Submission,
    duplicate_job, flow_of, is_object_of, no_dead_letter, unknown_job,
};
pub use leader::LeaderLease;
pub use object::{AppendPieceError, ObjectError, ObjectRecord, ObjectStore, OldObjects, PieceReader, PutError};
pub use outbox::Outbox;
pub use output::{
    AppendError, LastChunk, OutputEnds, OutputGone, OutputReadError, OutputReader, OutputUsage, StoredChunk,
    next_index, partial_end,
};
pub use plan::{Change, Plan, PlanError};
pub use port::{ClaimError, FoundLease, PortClaim, PortLeases};
pub use prepare::{ExistingStreams, prepare_streams};
pub use presence::{Disconnected, RefusedLogin, hive_connection, queen_connection, worker_connection};
pub use recovery::retried;
pub use registry::{Entry, Registry, RegistryWatch};
pub use server::{EmbeddedServer, PortHolder, ServerError, find_server};
pub use settings::{BusLimits, ConnectionSettings};
pub use subject::{InvalidNamespace, Namespace, Subject};
pub use tenant_feed::{TenantFeed, TenantNews, TenantRecords};
pub use time::rfc3339;
pub use topology::{BucketKind, StreamSpec, Topology};
