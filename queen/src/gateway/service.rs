//! State shared by all requests.

use std::time::Duration;

use rbee_nats::Bus;

use crate::{large_bodies::LargeBodies, open_answers::OpenAnswers};

/// State shared by all requests.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) bus: Bus,
    /// Longest time between two chunks of a job's output.
    pub(super) output_timeout: Duration,
    /// Interval of keep-alive comments in a stream without output.
    pub(super) keep_alive: Duration,
    /// Time that a client has to send a body that is larger than a message.
    pub(super) upload: Duration,
    /// Places for such bodies.
    pub(super) large: LargeBodies,
    /// Answers in progress.
    pub(super) open: OpenAnswers,
}
