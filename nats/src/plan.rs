//! Plan and apply: the changes that bring a server to the topology.
//!
//! Streams are created and updated, never deleted or recreated. A difference that the server cannot change in place is an
//! error.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use async_nats::jetstream::{
    ErrorCode,
    context::{CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind},
    stream::Config,
};

use crate::{Bus, BusLimits, StreamSpec, Topology};

/// Changes that bring a server to the topology.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Changes in the order of the topology.
    pub changes: Vec<Change>,
}

/// Change of one stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The stream is missing and will be created.
    Create(StreamSpec),
    /// The stream differs and will be updated.
    Update {
        /// Complete configuration on the server.
        have: Box<Config>,
        /// Desired settings.
        want: StreamSpec,
        /// Differing settings, in plain text.
        differences: Vec<String>,
    },
}

/// Failure to bring a server to the topology.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The configuration of a stream could not be read.
    #[error("failed to read the configuration of stream {stream}: {cause}")]
    Read {
        /// Name of the stream.
        stream: String,
        /// Error of the server.
        cause: String,
    },
    /// The server has no room for the maximum size of a stream.
    #[error(
        "failed to {action} stream {stream}: {cause}. The server reserves the maximum sizes of the streams: free disk space, or \
         set smaller sizes with --bus-limits, such as output_size=64MiB,events_size=16MiB ([bus] in the configuration file)"
    )]
    NoRoom {
        /// `create` or `update`.
        action: &'static str,
        /// Name of the stream.
        stream: String,
        /// Error of the server.
        cause: String,
    },
    /// The server refused a change.
    #[error(
        "failed to {action} stream {stream}: {cause}. Nothing was deleted; change the stream by hand (`nats stream edit \
         {stream}`), or use another namespace"
    )]
    Refused {
        /// `create` or `update`.
        action: &'static str,
        /// Name of the stream.
        stream: String,
        /// Error of the server.
        cause: String,
    },
}

impl PlanError {
    /// True if smaller streams may be accepted.
    pub fn is_short_of_space(&self) -> bool {
        matches!(self, Self::NoRoom { .. })
    }

    fn refused(action: &'static str, stream: &str, refusal: Refusal) -> Self {
        let (stream, Refusal { code, cause }) = (stream.to_owned(), refusal);
        match code {
            Some(ErrorCode::STORAGE_RESOURCES_EXCEEDED | ErrorCode::INSUFFICIENT_RESOURCES) => {
                Self::NoRoom { action, stream, cause }
            }
            _ => Self::Refused { action, stream, cause },
        }
    }
}

/// Refusal of the server to create or update a stream.
struct Refusal {
    /// Code of the server's error, if it is one of JetStream.
    code: Option<ErrorCode>,
    cause: String,
}

impl From<CreateStreamError> for Refusal {
    fn from(error: CreateStreamError) -> Self {
        let code = match error.kind() {
            CreateStreamErrorKind::JetStream(error) => Some(error.error_code()),
            _ => None,
        };
        Self { code, cause: error.to_string() }
    }
}

impl Plan {
    /// Compares the topology with the server. Existing streams keep their limits, because only queens set limits.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn compute(bus: &Bus) -> Result<Self, PlanError> {
        Self::new_streams_with(bus, &BusLimits::default()).await
    }

    /// Compares the topology with the server. Missing streams get these limits, and existing ones keep theirs.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn new_streams_with(bus: &Bus, limits: &BusLimits) -> Result<Self, PlanError> {
        let want = Topology::with_limits(bus.namespace(), limits).streams;
        Self::compare(bus, want, |want, have| want.limited_as(have)).await
    }

    /// Compares the topology with these limits with the server. The limits apply to existing streams too.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn with_limits(bus: &Bus, limits: &BusLimits) -> Result<Self, PlanError> {
        let want = Topology::with_limits(bus.namespace(), limits).streams;
        Self::compare(bus, want, |want, _| want).await
    }

    async fn compare(
        bus: &Bus,
        streams: Vec<StreamSpec>,
        adapt: impl Fn(StreamSpec, &StreamSpec) -> StreamSpec,
    ) -> Result<Self, PlanError> {
        let mut changes = Vec::new();
        for want in streams {
            let have = existing(bus, &want.name).await?;
            changes.extend(compare(want, have, &adapt));
        }
        Ok(Self { changes })
    }

    /// Applies the changes in order.
    ///
    /// # Errors
    /// The server refuses a change. The changes before it are applied.
    pub async fn apply(&self, bus: &Bus) -> Result<(), PlanError> {
        for change in &self.changes {
            match change {
                Change::Create(want) => match bus.jetstream().create_stream(continued(want.create())).await {
                    Ok(_) => {}
                    // Another process created it meanwhile.
                    Err(error) if is_name_in_use(&error) => {}
                    Err(error) => return Err(PlanError::refused("create", &want.name, error.into())),
                },
                Change::Update { have, want, .. } => {
                    let config = want.write((**have).clone());
                    let updated = bus.jetstream().update_stream(config).await;
                    updated.map_err(|error| PlanError::refused("update", &want.name, error.into()))?;
                }
            }
        }
        Ok(())
    }
}

/// A new stream whose sequences are higher than those of any earlier stream of its name, which may have been deleted or may have
/// been on a disk that was wiped: a stream stores far less than a message per millisecond for years.
///
/// Therefore a term that is a revision never goes back, a reader that continues at a position misses nothing, and an acknowledgement
/// for an earlier message concerns no later one.
fn continued(config: Config) -> Config {
    let milliseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Config { first_sequence: u64::try_from(milliseconds).ok(), ..config }
}

fn is_name_in_use(error: &CreateStreamError) -> bool {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::STREAM_NAME_EXIST,
        _ => false,
    }
}

async fn existing(bus: &Bus, name: &str) -> Result<Option<Config>, PlanError> {
    match bus.jetstream().get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(error) if is_stream_missing(&error) => Ok(None),
        Err(error) => Err(PlanError::Read { stream: name.to_owned(), cause: error.to_string() }),
    }
}

/// True if the server says that a stream does not exist.
pub(crate) fn is_stream_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn compare(
    want: StreamSpec,
    have: Option<Config>,
    adapt: impl Fn(StreamSpec, &StreamSpec) -> StreamSpec,
) -> Option<Change> {
    let Some(have) = have else { return Some(Change::Create(want)) };
    let found = StreamSpec::read(&have);
    let want = adapt(want, &found);
    let differences = differences(&found, &want);
    (!differences.is_empty()).then(|| Change::Update { have: Box::new(have), want, differences })
}

fn differences(have: &StreamSpec, want: &StreamSpec) -> Vec<String> {
    let mut found = Vec::new();
    macro_rules! compare {
        ($($field:ident)*) => {$(
            if have.$field != want.$field {
                found.push(format!("{}: {:?} -> {:?}", stringify!($field), have.$field, want.$field));
            }
        )*};
    }
    compare!(
        description subjects retention max_age max_bytes max_messages_per_subject max_message_size discard
        discard_new_per_subject duplicate_window republish subject_transform bucket allow_message_ttl
        subject_delete_marker_ttl metadata
    );
    found
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return writeln!(f, "nothing to change");
        }
        for change in &self.changes {
            match change {
                Change::Create(want) => writeln!(f, "create {}: {}", want.name, want.description)?,
                Change::Update { want, differences, .. } => {
                    writeln!(f, "update {}:", want.name)?;
                    differences.iter().try_for_each(|difference| writeln!(f, "  {difference}"))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Namespace;

    fn jobs() -> StreamSpec {
        Topology::new(&Namespace::default()).streams.remove(0)
    }

    fn as_wanted(want: StreamSpec, _: &StreamSpec) -> StreamSpec {
        want
    }

    #[test]
    fn a_plan_without_limits_keeps_those_of_existing_streams() {
        let limits = "queued=5,jobs_size=1GiB,redelivery=25s,duplicates=1m".parse().expect("limits");
        let limited = Topology::with_limits(&Namespace::default(), &limits).streams.remove(0);
        let have = Config { description: Some("another".to_owned()), ..limited.create() };
        let Some(Change::Update { have, want, differences }) =
            compare(jobs(), Some(have), |want, have| want.limited_as(have))
        else {
            panic!("an update");
        };
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert_eq!(StreamSpec::read(&want.write(*have)), limited);
        let changed = compare(jobs(), Some(limited.create()), as_wanted);
        assert!(matches!(changed, Some(Change::Update { differences, .. }) if differences.len() == 4));
    }

    #[test]
    fn a_missing_stream_is_created() {
        assert_eq!(compare(jobs(), None, as_wanted), Some(Change::Create(jobs())));
    }

    #[test]
    fn a_stream_with_the_desired_settings_is_not_changed() {
        let have = Config { num_replicas: 3, ..jobs().create() };
        assert_eq!(compare(jobs(), Some(have), as_wanted), None);
    }

    #[test]
    fn a_difference_is_named_and_settings_of_the_operator_stay() {
        let have = Config { num_replicas: 3, duplicate_window: Duration::from_secs(1), ..jobs().create() };
        let Some(Change::Update { have, want, differences }) = compare(jobs(), Some(have), as_wanted) else {
            panic!("an update");
        };
        assert_eq!(differences, ["duplicate_window: 1s -> 120s"]);
        assert_eq!(want.write(*have).num_replicas, 3);
    }
}
