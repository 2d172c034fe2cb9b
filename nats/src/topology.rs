//! Which streams and buckets there are: one table of data.
//!
//! [`crate::Plan`] compares it with what a server has. A bucket is a stream with the shape that NATS gives to
//! key-value stores (<https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-8.md>).

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream::stream::{Config, DiscardPolicy, Republish, RetentionPolicy, StorageType, SubjectTransform};
use rbee_schema::{ByteSize, MAX_BODY_BYTES, ModelName, SettingValue as _};

use crate::{BusLimits, Namespace};

/// All streams and buckets of a namespace.
#[derive(Debug, Clone)]
pub struct Topology {
    /// In the order in which they are made.
    pub streams: Vec<StreamSpec>,
}

/// One stream: the settings that are ours. What is not here (replicas, placement) is the operator's.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSpec {
    /// Its name on the server.
    pub name: String,
    /// What it is for, in words.
    pub description: String,
    /// What it takes.
    pub subjects: Vec<String>,
    /// When messages go.
    pub retention: RetentionPolicy,
    /// The age at which messages go; zero for never.
    pub max_age: Duration,
    /// The size at which it is full; -1 for never.
    pub max_bytes: i64,
    /// Messages for each subject; -1 for any number.
    pub max_messages_per_subject: i64,
    /// The largest message, in bytes; -1 for what the server takes.
    pub max_message_size: i32,
    /// What goes when it is full.
    pub discard: DiscardPolicy,
    /// Whether a full subject refuses, where new messages are discarded.
    pub discard_new_per_subject: bool,
    /// For how long a message id is remembered.
    pub duplicate_window: Duration,
    /// How a stored message is told to plain subscribers.
    pub republish: Option<Republish>,
    /// How a subject is rewritten before it is stored.
    pub subject_transform: Option<SubjectTransform>,
    /// Whether a message may take the place of all others on its subject, and none may be deleted alone (buckets).
    pub key_value: bool,
    /// Whether a message may carry its own time to live.
    pub allow_message_ttl: bool,
    /// How long the notice of an expired key stays (buckets).
    pub subject_delete_marker_ttl: Option<Duration>,
    /// What we have written on it, for whoever uses it. What others have is theirs.
    pub metadata: BTreeMap<String, String>,
}

/// How long a bucket keeps the notice of a key that has expired: whoever watches has heard of it at once.
const MARKER: Duration = Duration::from_secs(60);

/// Where our metadata begin.
const OURS: &str = "rbee.";

/// What the stream of jobs says of how long a worker may be silent about one.
const REDELIVERY: &str = "rbee.redelivery";

/// Room for the headers of a job beside its body.
const HEADER_ROOM: usize = 4 * 1024;

impl Topology {
    /// The table as it is where nobody says otherwise.
    pub fn new(namespace: &Namespace) -> Self {
        Self::with_limits(namespace, &BusLimits::default())
    }

    /// The table with these limits.
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
            key_value: false,
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
                key_value: true,
                allow_message_ttl: true,
                subject_delete_marker_ttl: Some(MARKER),
                ..stream(name, description, vec![format!("$KV.{bucket}.>")])
            }
        };
        let streams = vec![
            StreamSpec {
                retention: RetentionPolicy::WorkQueue,
                discard: DiscardPolicy::New,
                discard_new_per_subject: true,
                max_messages_per_subject: i64::from(limits.queued),
                max_bytes: limits.jobs_size.map_or(-1, bytes),
                metadata: [(REDELIVERY.to_owned(), limits.redelivery.to_text())].into(),
                max_message_size: i32::try_from(MAX_BODY_BYTES + HEADER_ROOM).unwrap_or(i32::MAX),
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
                    "Jobs that wait or run. A job goes when it is answered.",
                    vec![namespace.all_submissions(), namespace.all_jobs()],
                )
            },
            StreamSpec {
                max_age: limits.output_age,
                max_bytes: bytes(limits.output_size),
                republish: Some(Republish {
                    source: namespace.all_output(),
                    destination: namespace.all_published(),
                    headers_only: false,
                }),
                ..stream("output", "What jobs answered, for replay and resume.", vec![namespace.all_output()])
            },
            StreamSpec {
                max_age: limits.events_age,
                max_bytes: bytes(limits.events_size),
                ..stream("events", "What happened: lifecycle and audit trail.", vec![namespace.all_events()])
            },
            StreamSpec {
                retention: RetentionPolicy::WorkQueue,
                max_age: limits.commands_age,
                allow_message_ttl: true,
                ..stream(
                    "commands",
                    "What hives are to do; each expires when nobody takes it.",
                    vec![namespace.all_commands()],
                )
            },
            StreamSpec {
                max_age: limits.dead_age,
                max_bytes: bytes(limits.dead_size),
                ..stream("dead", "Jobs that were given up, with the reason.", vec![namespace.all_dead()])
            },
            bucket("ports", "Port leases: <host>.<port>. A lease lapses when nobody renews it."),
            bucket("hives", "Hives that are there: <hive>. A key lapses when its hive is gone."),
            bucket("workers", "Workers as their hive knows them: <hive>.<worker>."),
            bucket("files", "Model files that hives have fetched: <hive>.<digest of the reference>."),
            bucket("queen", "Which queen leads: leader. The key lapses when she does not renew it."),
            bucket("models", "Models to be served: <model>. Put a key to deploy, delete it to withdraw."),
        ];
        Self { streams }
    }

    /// The durable consumer from which workers pull the jobs of `model` and `class`.
    pub(crate) fn job_consumer(model: &ModelName, class: rbee_schema::JobClass) -> String {
        format!("{model}-{class}")
    }
}

/// How long a worker may be silent about a job, as the stream of jobs says. One that an earlier version has made says nothing.
pub(crate) fn redelivery(jobs: &Config) -> Duration {
    let said = jobs.metadata.get(REDELIVERY).and_then(|text| Duration::read(text));
    said.unwrap_or(BusLimits::default().redelivery)
}

fn bytes(size: ByteSize) -> i64 {
    i64::try_from(size.bytes()).unwrap_or(i64::MAX)
}

impl StreamSpec {
    /// The same settings, read from a server's configuration.
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
            key_value: config.allow_rollup && config.deny_delete,
            allow_message_ttl: config.allow_message_ttl,
            subject_delete_marker_ttl: config.subject_delete_marker_ttl.filter(|ttl| !ttl.is_zero()),
            metadata: ours(config).map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    /// The same with the limits that another one has: what [`BusLimits`] says is not ours to change.
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

    /// Writes the settings into a server's configuration, and leaves the rest of it as it is.
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
            allow_rollup: self.key_value,
            deny_delete: self.key_value,
            allow_direct: true,
            allow_message_ttl: self.allow_message_ttl,
            subject_delete_marker_ttl: self.subject_delete_marker_ttl,
            ..config
        }
    }

    /// The configuration of a stream that is new: these settings, and defaults for an operator to change.
    pub fn create(&self) -> Config {
        self.write(Config {
            storage: StorageType::File,
            num_replicas: 1,
            max_messages: -1,
            // A server allows 1,000 consumers on a stream unless told; each model needs two and each reader one.
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
    fn each_limit_is_set_where_it_belongs() {
        let stream = table(
            "queued=7,jobs_size=1MiB,redelivery=20s,output_age=2h,output_size=2MiB,events_age=3h,events_size=3MiB,\
             dead_age=4h,dead_size=4MiB,commands_age=5h,duplicates=6m",
        );
        let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
        let jobs = stream("rbee_jobs");
        assert_eq!((jobs.max_messages_per_subject, jobs.max_bytes, jobs.max_age), (7, 1 << 20, Duration::ZERO));
        assert_eq!(redelivery(&jobs.create()), Duration::from_secs(20));
        for (name, age, size) in [("output", 2, 2), ("events", 3, 3), ("dead", 4, 4)] {
            let stream = stream(&format!("rbee_{name}"));
            assert_eq!((stream.max_age, stream.max_bytes), (hours(age), size << 20), "{name}");
        }
        assert_eq!(stream("rbee_commands").max_age, hours(5));
        for name in ["rbee_jobs", "rbee_output", "rbee_events", "rbee_commands", "rbee_dead", "KV_rbee_hives"] {
            assert_eq!(stream(name).duplicate_window, Duration::from_secs(6 * 60), "{name}");
        }
    }

    #[test]
    fn without_a_word_a_delivery_is_kept_as_long_as_by_default_and_jobs_have_no_bound_in_size() {
        assert_eq!(redelivery(&Config::default()), BusLimits::default().redelivery);
        assert_eq!(table("")("rbee_jobs").max_bytes, -1);
    }

    #[test]
    fn what_others_have_written_on_a_stream_stays_there() {
        let foreign = [("_nats.level".to_owned(), "2".to_owned()), ("rbee.gone".to_owned(), "1".to_owned())];
        let have = Config { metadata: foreign.into(), ..Config::default() };
        let jobs = table("redelivery=20s")("rbee_jobs");
        let written = jobs.write(have);
        assert_eq!(StreamSpec::read(&written), jobs);
        assert_eq!(written.metadata.get("_nats.level").map(String::as_str), Some("2"));
    }
}
