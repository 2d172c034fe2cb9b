//! Topology: all streams and buckets, as one table of data.
//!
//! [`Plan`](crate::Plan) compares it with a server. A bucket is a stream with the configuration that NATS defines for key-value
//! stores (<https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-8.md>).

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream::stream::{Config, DiscardPolicy, Republish, RetentionPolicy, StorageType, SubjectTransform};
use rbee_schema::{ByteSize, ClassLimits, JobFlow, MAX_BODY_BYTES, ModelName, SettingValue as _, TimeLimits};

use crate::{BusLimits, Namespace};

/// Streams and buckets of a namespace.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Streams in the order in which they are created.
    pub streams: Vec<StreamSpec>,
}

/// Settings of a stream that rbee controls. The operator controls all others, such as replicas and placement.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSpec {
    /// Name of the stream on the server.
    pub name: String,
    /// Description of the stream.
    pub description: String,
    /// Subjects that the stream stores.
    pub subjects: Vec<String>,
    /// Retention policy.
    pub retention: RetentionPolicy,
    /// Maximum age of messages. Zero for no limit.
    pub max_age: Duration,
    /// Maximum size of the stream in bytes. -1 for no limit.
    pub max_bytes: i64,
    /// Maximum number of messages per subject. -1 for no limit.
    pub max_messages_per_subject: i64,
    /// Maximum size of a message in bytes. -1 for the limit of the server.
    pub max_message_size: i32,
    /// Policy of a full stream: discard the oldest messages, or refuse new ones.
    pub discard: DiscardPolicy,
    /// With discard policy `new`: a full subject refuses new messages too.
    pub discard_new_per_subject: bool,
    /// Time for which message ids are remembered to detect duplicates.
    pub duplicate_window: Duration,
    /// Republishing of stored messages to subscribers.
    pub republish: Option<Republish>,
    /// Rewriting of subjects before messages are stored.
    pub subject_transform: Option<SubjectTransform>,
    /// Bucket of keys, bucket of objects, or neither.
    pub bucket: Option<BucketKind>,
    /// Messages may carry their own time to live.
    pub allow_message_ttl: bool,
    /// Bucket: time to live of the marker of an expired key.
    pub subject_delete_marker_ttl: Option<Duration>,
    /// Metadata of rbee, whose names begin with `rbee.`. Metadata of others is not touched.
    pub metadata: BTreeMap<String, String>,
}

/// Kind of a bucket. In both kinds a message may replace all others of its subject (rollup).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketKind {
    /// Keys and values. Single messages cannot be deleted.
    KeyValue,
    /// Objects.
    Objects,
}

/// Time to live of the marker of an expired key. Watchers receive it at once; a minute covers those that are reconnecting.
const MARKER: Duration = Duration::from_secs(60);

/// Prefix of the metadata of rbee.
const OURS: &str = "rbee.";

/// Metadata of the stream `jobs` with the redelivery timeout, which workers read.
const REDELIVERY: &str = "rbee.redelivery";

/// Metadata of the stream `jobs` with the time limits of jobs that state no deadlines, which queens and workers read.
const INTERACTIVE_DEADLINE: &str = "rbee.interactive-deadline";
const INTERACTIVE_QUEUE_DEADLINE: &str = "rbee.interactive-queue-deadline";
const BATCH_DEADLINE: &str = "rbee.batch-deadline";
const BATCH_QUEUE_DEADLINE: &str = "rbee.batch-queue-deadline";

/// Metadata of the stream `output` with the age of output, which the leading queen reads.
const OUTPUT_AGE: &str = "rbee.output-age";

/// Metadata of the bucket `bodies` with the largest size of a body, which clients and workers read.
const BODY_SIZE: &str = "rbee.body-size";

/// Space for the headers of a job in addition to its body, in bytes.
const HEADER_BYTES: usize = 4 * 1024;

/// Largest message of rbee in bytes: a job with its headers. Chunks and events are smaller.
pub(crate) const MAX_MESSAGE_BYTES: usize = MAX_BODY_BYTES + HEADER_BYTES;

impl Topology {
    /// Topology with the default limits.
    pub fn new(namespace: &Namespace) -> Self {
        Self::with_limits(namespace, &BusLimits::default())
    }

    /// Topology with these limits.
    pub fn with_limits(namespace: &Namespace, limits: &BusLimits) -> Self {
        let stream = |name: &str, description: &str, subjects: Vec<String>| StreamSpec {
            name: namespace.resource(name),
            description: description.to_owned(),
            subjects,
            retention: RetentionPolicy::Limits,
            max_age: Duration::ZERO,
            max_bytes: -1,
            max_messages_per_subject: -1,
            max_message_size: -1,
            discard: DiscardPolicy::Old,
            discard_new_per_subject: false,
            duplicate_window: limits.duplicates,
            republish: None,
            subject_transform: None,
            bucket: None,
            allow_message_ttl: false,
            subject_delete_marker_ttl: None,
            metadata: BTreeMap::new(),
        };
        let bucket = |name: &str, description: &str| {
            let bucket = namespace.resource(name);
            StreamSpec {
                name: format!("KV_{bucket}"),
                max_messages_per_subject: 1,
                discard: DiscardPolicy::New,
                bucket: Some(BucketKind::KeyValue),
                allow_message_ttl: true,
                subject_delete_marker_ttl: Some(MARKER),
                ..stream(name, description, vec![format!("$KV.{bucket}.>")])
            }
        };
        let objects = |name: &str, description: &str| {
            let bucket = namespace.resource(name);
            StreamSpec {
                name: format!("OBJ_{bucket}"),
                discard: DiscardPolicy::New,
                bucket: Some(BucketKind::Objects),
                ..stream(name, description, vec![format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")])
            }
        };
        let streams = vec![
            StreamSpec {
                retention: RetentionPolicy::WorkQueue,
                discard: DiscardPolicy::New,
                discard_new_per_subject: true,
                max_messages_per_subject: i64::from(limits.queued),
                max_bytes: limits.jobs_size.map_or(-1, bytes),
                metadata: jobs_metadata(limits),
                max_message_size: i32::try_from(MAX_MESSAGE_BYTES).unwrap_or(i32::MAX),
                republish: Some(Republish {
                    source: namespace.all_jobs(),
                    destination: namespace.all_queued(),
                    headers_only: true,
                }),
                subject_transform: Some(SubjectTransform {
                    source: namespace.all_submissions(),
                    destination: format!("{namespace}.job.{{{{wildcard(1)}}}}.interactive.default"),
                }),
                ..stream(
                    "jobs",
                    "Waiting and running jobs. A job is removed when it is answered.",
                    [vec![namespace.all_submissions()], namespace.accepted_jobs()].concat(),
                )
            },
            StreamSpec {
                // Full, it refuses further chunks: the oldest may belong to a job that still runs. The leading queen deletes
                // old output.
                discard: DiscardPolicy::New,
                max_bytes: bytes(limits.output_size),
                metadata: [(OUTPUT_AGE.to_owned(), limits.output_age.to_text())].into(),
                republish: Some(Republish {
                    source: namespace.all_output(),
                    destination: namespace.all_published(),
                    headers_only: false,
                }),
                ..stream("output", "Output of jobs, for replay and resume.", vec![namespace.all_output()])
            },
            StreamSpec {
                max_age: limits.cancels_age,
                max_bytes: bytes(limits.cancels_size),
                max_messages_per_subject: 1,
                ..stream(
                    "cancels",
                    "Cancellations, for jobs that nobody runs at present.",
                    vec![namespace.all_cancels()],
                )
            },
            StreamSpec {
                max_age: limits.events_age,
                max_bytes: bytes(limits.events_size),
                ..stream("events", "Lifecycle events and the audit trail.", vec![namespace.all_events()])
            },
            StreamSpec {
                retention: RetentionPolicy::WorkQueue,
                max_age: limits.commands_age,
                allow_message_ttl: true,
                ..stream(
                    "commands",
                    "Commands to hives. A command expires if its hive does not take it.",
                    vec![namespace.all_commands()],
                )
            },
            StreamSpec {
                max_age: limits.dead_age,
                max_bytes: bytes(limits.dead_size),
                ..stream("dead", "Dead letters: jobs that were given up, with the reason.", vec![namespace.all_dead()])
            },
            StreamSpec {
                max_bytes: bytes(limits.bodies_size),
                metadata: [(BODY_SIZE.to_owned(), limits.largest_body().to_text())].into(),
                ..objects("bodies", "Bodies of jobs that are larger than a message: <tenant>/<any name>.")
            },
            StreamSpec {
                max_bytes: bytes(limits.batches_size),
                ..objects("batches", "Requests and answers of batches: <tenant>/<any name>.")
            },
            bucket("ports", "Port leases: <host>.<port>. A lease expires unless it is renewed."),
            bucket("hives", "Hives: <hive>. A key expires when its hive is gone."),
            bucket("workers", "Workers, written by their hives: <hive>.<worker>."),
            bucket("files", "Model files that hives have fetched: <hive>.<digest of the reference>."),
            bucket("queen", "The leading queen: leader. The key expires unless the queen renews it."),
            bucket(
                "throttles",
                "Tenants that have used their tokens per minute: <tenant>. A key expires with its wait.",
            ),
            bucket(
                "tenants",
                "Weights and limits of tenants: <tenant>. The record `default` applies to tenants without one.",
            ),
            bucket("batches", "Batches, files of requests: <batch>."),
            bucket("models", "Declared models: <model>. Put a key to deploy a model, delete it to withdraw the model."),
        ];
        Self { streams }
    }

    /// Name of the durable consumer from which workers pull the jobs of a flow. `=` occurs in no name.
    pub(crate) fn job_consumer(model: &ModelName, flow: &JobFlow) -> String {
        format!("{model}={}={}", flow.class, flow.tenant)
    }
}

/// Redelivery timeout from the configuration of the stream `jobs`. A stream that an earlier version created has none, and the
/// default applies.
pub(crate) fn redelivery(jobs: &Config) -> Duration {
    let configured = jobs.metadata.get(REDELIVERY).and_then(|text| Duration::read(text));
    configured.unwrap_or(BusLimits::default().redelivery)
}

fn jobs_metadata(limits: &BusLimits) -> BTreeMap<String, String> {
    let ClassLimits { interactive, batch } = limits.deadlines();
    let metadata = [
        (REDELIVERY, limits.redelivery.to_text()),
        (INTERACTIVE_DEADLINE, interactive.total.to_text()),
        (INTERACTIVE_QUEUE_DEADLINE, interactive.queue.to_text()),
        (BATCH_DEADLINE, batch.total.to_text()),
        (BATCH_QUEUE_DEADLINE, batch.queue.to_text()),
    ];
    metadata.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Time limits of jobs that state no deadlines, from the configuration of the stream `jobs`. The defaults apply to those that an
/// earlier version did not write.
pub(crate) fn deadlines(jobs: &Config) -> ClassLimits {
    let ClassLimits { interactive, batch } = BusLimits::default().deadlines();
    let limit = |name: &str, default: Option<Duration>| {
        jobs.metadata.get(name).and_then(|text| Option::<Duration>::read(text)).unwrap_or(default)
    };
    ClassLimits {
        interactive: TimeLimits {
            total: limit(INTERACTIVE_DEADLINE, interactive.total),
            queue: limit(INTERACTIVE_QUEUE_DEADLINE, interactive.queue),
        },
        batch: TimeLimits {
            total: limit(BATCH_DEADLINE, batch.total),
            queue: limit(BATCH_QUEUE_DEADLINE, batch.queue),
        },
    }
}

/// Age of output from the configuration of the stream `output`. A stream that an earlier version created has none, and the
/// default applies.
pub(crate) fn output_age(output: &Config) -> Duration {
    let configured = output.metadata.get(OUTPUT_AGE).and_then(|text| Duration::read(text));
    configured.unwrap_or(BusLimits::default().output_age)
}

/// Largest size of a body from the configuration of the bucket `bodies`.
pub(crate) fn body_size(bodies: &Config) -> ByteSize {
    let configured = bodies.metadata.get(BODY_SIZE).and_then(|text| ByteSize::read(text));
    configured.unwrap_or(BusLimits::default().body_size)
}

fn bytes(size: ByteSize) -> i64 {
    i64::try_from(size.bytes()).unwrap_or(i64::MAX)
}

impl StreamSpec {
    /// Reads the settings from a server's configuration.
    pub fn read(config: &Config) -> Self {
        Self {
            name: config.name.clone(),
            description: config.description.clone().unwrap_or_default(),
            subjects: config.subjects.clone(),
            retention: config.retention,
            max_age: config.max_age,
            max_bytes: config.max_bytes,
            max_messages_per_subject: config.max_messages_per_subject,
            max_message_size: config.max_message_size,
            discard: config.discard,
            discard_new_per_subject: config.discard_new_per_subject,
            duplicate_window: config.duplicate_window,
            republish: config.republish.clone(),
            subject_transform: config.subject_transform.clone(),
            bucket: match (config.allow_rollup, config.deny_delete) {
                (true, true) => Some(BucketKind::KeyValue),
                (true, false) => Some(BucketKind::Objects),
                (false, _) => None,
            },
            allow_message_ttl: config.allow_message_ttl,
            subject_delete_marker_ttl: config.subject_delete_marker_ttl.filter(|ttl| !ttl.is_zero()),
            metadata: ours(config).map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    /// These settings with the limits of `other`, which are those that [`BusLimits`] sets.
    #[must_use]
    pub fn limited_as(self, other: &Self) -> Self {
        Self {
            max_age: other.max_age,
            max_bytes: other.max_bytes,
            max_messages_per_subject: other.max_messages_per_subject,
            duplicate_window: other.duplicate_window,
            metadata: other.metadata.clone(),
            ..self
        }
    }

    /// Writes the settings into a server's configuration and keeps the rest of it.
    pub fn write(&self, config: Config) -> Config {
        let foreign = config.metadata.iter().filter(|(name, _)| !name.starts_with(OURS));
        let metadata = foreign.chain(&self.metadata).map(|(name, value)| (name.clone(), value.clone())).collect();
        Config {
            metadata,
            name: self.name.clone(),
            description: Some(self.description.clone()),
            subjects: self.subjects.clone(),
            retention: self.retention,
            max_age: self.max_age,
            max_bytes: self.max_bytes,
            max_messages_per_subject: self.max_messages_per_subject,
            max_message_size: self.max_message_size,
            discard: self.discard,
            discard_new_per_subject: self.discard_new_per_subject,
            duplicate_window: self.duplicate_window,
            republish: self.republish.clone(),
            subject_transform: self.subject_transform.clone(),
            allow_rollup: self.bucket.is_some(),
            deny_delete: self.bucket == Some(BucketKind::KeyValue),
            allow_direct: true,
            allow_message_ttl: self.allow_message_ttl,
            subject_delete_marker_ttl: self.subject_delete_marker_ttl,
            ..config
        }
    }

    /// Configuration of a new stream: these settings, and defaults that the operator may change.
    pub fn create(&self) -> Config {
        self.write(Config {
            storage: StorageType::File,
            num_replicas: 1,
            max_messages: -1,
            // The default of the server is 1,000 consumers per stream. Each flow of a model needs one and each reader one.
            max_consumers: 100_000,
            ..Config::default()
        })
    }
}

fn ours(config: &Config) -> impl Iterator<Item = (&String, &String)> {
    config.metadata.iter().filter(|(name, _)| name.starts_with(OURS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(limits: &str) -> impl Fn(&str) -> StreamSpec {
        let topology = Topology::with_limits(&Namespace::default(), &limits.parse().expect("limits"));
        move |name| topology.streams.iter().find(|stream| stream.name == name).expect("a stream").clone()
    }

    #[test]
    fn each_limit_applies_to_its_stream() {
        let stream = table(
            "queued=7,jobs_size=1MiB,redelivery=30s,output_age=2h,output_size=2MiB,events_age=3h,events_size=3MiB,\
             dead_age=4h,dead_size=4MiB,cancels_age=7h,cancels_size=5MiB,commands_age=5h,duplicates=6m,bodies_size=6MiB,\
             body_size=1MiB",
        );
        let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
        let jobs = stream("rbee_jobs");
        assert_eq!((jobs.max_messages_per_subject, jobs.max_bytes, jobs.max_age), (7, 1 << 20, Duration::ZERO));
        assert_eq!(redelivery(&jobs.create()), Duration::from_secs(30));
        for (name, age, size) in [("output", 0, 2), ("events", 3, 3), ("dead", 4, 4), ("cancels", 7, 5)] {
            let stream = stream(&format!("rbee_{name}"));
            assert_eq!((stream.max_age, stream.max_bytes), (hours(age), size << 20), "{name}");
        }
        assert_eq!(output_age(&stream("rbee_output").create()), hours(2));
        assert_eq!(stream("rbee_commands").max_age, hours(5));
        let bodies = stream("OBJ_rbee_bodies");
        assert_eq!((bodies.max_bytes, body_size(&bodies.create())), (6 << 20, ByteSize(1 << 20)));
        for name in ["rbee_jobs", "rbee_output", "rbee_events", "rbee_commands", "rbee_dead", "KV_rbee_hives"] {
            assert_eq!(stream(name).duplicate_window, Duration::from_secs(6 * 60), "{name}");
        }
    }

    #[test]
    fn without_settings_the_default_redelivery_and_no_size_limit_apply() {
        assert_eq!(redelivery(&Config::default()), BusLimits::default().redelivery);
        assert_eq!(output_age(&Config::default()), BusLimits::default().output_age);
        assert_eq!(deadlines(&Config::default()), BusLimits::default().deadlines());
        assert_eq!(table("")("rbee_jobs").max_bytes, -1);
    }

    #[test]
    fn deadlines_of_each_class_are_read_as_they_were_written() {
        for limits in ["", "interactive_queue_deadline=5s,batch_deadline=none", "interactive_deadline=90s"] {
            let limits: BusLimits = limits.parse().expect("limits");
            let jobs = table(&limits.to_string())("rbee_jobs");
            assert_eq!(deadlines(&jobs.create()), limits.deadlines());
        }
    }

    #[test]
    fn metadata_of_others_is_kept() {
        let foreign = [("_nats.level".to_owned(), "2".to_owned()), ("rbee.gone".to_owned(), "1".to_owned())];
        let have = Config { metadata: foreign.into(), ..Config::default() };
        let jobs = table("redelivery=30s")("rbee_jobs");
        let written = jobs.write(have);
        assert_eq!(StreamSpec::read(&written), jobs);
        assert_eq!(written.metadata.get("_nats.level").map(String::as_str), Some("2"));
    }
}
