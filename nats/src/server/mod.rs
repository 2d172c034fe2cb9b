//! The embedded server: a nats-server as a child process, with its own data and the configuration for development.
//!
//! [`EmbeddedServer`] keeps the server running: it starts a server again that has ended, and one that could not write because
//! its disk was full.

mod disk;
mod embedded;
mod error;
mod holder;
mod log;
mod process;
mod program;
mod restart;

pub use self::{embedded::EmbeddedServer, error::ServerError, holder::PortHolder, program::find_server};
