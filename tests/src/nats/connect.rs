//! Connections of a test to a server.

use rbee_nats::{Bus, ConnectError, Connection};

/// Connects to the server at `url`.
///
/// # Errors
/// When the server cannot be reached or used.
pub async fn connect(url: &str, namespace: &str) -> Result<Bus, ConnectError> {
    connect_with(url, namespace, "").await
}

/// Connects to the server at `url` with these connection settings.
///
/// # Errors
/// When the server cannot be reached or used.
pub async fn connect_with(url: &str, namespace: &str, settings: &str) -> Result<Bus, ConnectError> {
    let namespace = namespace.parse().expect("a namespace of a test is valid");
    let settings = settings.parse().expect("settings of a test are valid");
    Bus::connect(&Connection { url: url.to_owned(), name: "test".to_owned(), namespace, settings }).await
}
