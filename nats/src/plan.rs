//! Plan and apply: what would change on the server so that it has the topology.
//!
//! Streams are made and updated. None is ever deleted or made anew: a difference that the server cannot take over in
//! place is an error that says so.

use std::fmt;

use async_nats::jetstream::{
    self, ErrorCode,
    context::{CreateStreamErrorKind, GetStreamErrorKind},
    stream::Config,
};

use crate::{Bus, BusLimits, StreamSpec, Topology};

/// What would change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// In the order of the topology.
    pub changes: Vec<Change>,
}

/// One stream that is missing or differs.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is not there.
    Create(StreamSpec),
    /// It differs.
    Update {
        /// What the server has, whole.
        have: Box<Config>,
        /// What it should have.
        want: StreamSpec,
        /// Each setting that differs, in words.
        differences: Vec<String>,
    },
}

/// A server that could not be brought to the topology.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The server did not answer about a stream.
    #[error("failed to look at stream {stream}: {cause}")]
    Look {
        /// Which.
        stream: String,
        /// What the server said.
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
        /// Which.
        stream: String,
        /// What the server said.
        cause: String,
    },
}

impl Plan {
    /// Compares the topology with what the server has. The limits of streams that are there stay as they are: they are the
    /// queens' to say.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn compute(bus: &Bus) -> Result<Self, PlanError> {
        let want = Topology::new(bus.namespace()).streams;
        Self::compare(bus, want, |want, have| want.limited_as(have)).await
    }

    /// The same with these limits, for streams that are there too.
    ///
    /// # Errors
    /// When the server does not answer.
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

    /// Makes the changes.
    ///
    /// # Errors
    /// When the server refuses one; those before it are made.
    pub async fn apply(&self, bus: &Bus) -> Result<(), PlanError> {
        let refused =
            |action, stream: &str, cause: String| PlanError::Refused { action, stream: stream.to_owned(), cause };
        for change in &self.changes {
            match change {
                Change::Create(want) => match bus.jetstream().create_stream(want.create()).await {
                    Ok(_) => {}
                    // Another process made it meanwhile.
                    Err(error) if is_name_in_use(&error) => {}
                    Err(error) => return Err(refused("create", &want.name, error.to_string())),
                },
                Change::Update { have, want, .. } => {
                    let config = want.write((**have).clone());
                    let updated = bus.jetstream().update_stream(config).await;
                    updated.map_err(|error| refused("update", &want.name, error.to_string()))?;
                }
            }
        }
        Ok(())
    }
}

fn is_name_in_use(error: &jetstream::context::CreateStreamError) -> bool {
    match error.kind() {
        CreateStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::STREAM_NAME_EXIST,
        _ => false,
    }
}

async fn existing(bus: &Bus, name: &str) -> Result<Option<Config>, PlanError> {
    match bus.jetstream().get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            _ => Err(PlanError::Look { stream: name.to_owned(), cause: error.to_string() }),
        },
    }
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
        discard_new_per_subject duplicate_window republish subject_transform key_value allow_message_ttl
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
    fn who_has_no_say_about_limits_leaves_them_as_they_are() {
        let limits = "queued=5,jobs_size=1GiB,redelivery=20s,duplicates=1m".parse().expect("limits");
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
    fn a_stream_that_has_the_settings_is_left_alone() {
        let have = Config { num_replicas: 3, ..jobs().create() };
        assert_eq!(compare(jobs(), Some(have), as_wanted), None);
    }

    #[test]
    fn a_difference_is_named_and_the_operators_settings_stay() {
        let have = Config { num_replicas: 3, duplicate_window: Duration::from_secs(1), ..jobs().create() };
        let Some(Change::Update { have, want, differences }) = compare(jobs(), Some(have), as_wanted) else {
            panic!("an update");
        };
        assert_eq!(differences, ["duplicate_window: 1s -> 120s"]);
        assert_eq!(want.write(*have).num_replicas, 3);
    }
}
