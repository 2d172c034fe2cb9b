//! The storage of a server.

/// Storage that a server is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// JetStream, in a folder of the server's own.
    JetStream,
    /// No storage: streams cannot be created.
    Nothing,
}
