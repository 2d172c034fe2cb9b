//! Advisories of the server about connections that ended, which arrive within milliseconds, long before a heartbeat is
//! missed; and about logins that it refused.
//!
//! The server publishes them in its system account. The configurations in `nats/server`, and that of the embedded server,
//! export those of the fleet's account to it as `sys.disconnect`. Without this export no advisories arrive, and presence
//! depends on heartbeats alone. Any client in the account can forge an advisory, so it is a hint and not a proof.
//! Format: <https://docs.nats.io/running-a-nats-service/configuration/sys_accounts>.

use async_nats::{Message, Subscriber};
use rbee_schema::{HiveName, QueenName, WorkerName};
use serde::Deserialize;

use crate::{Bus, BusError};

/// Subject of advisories about ended connections, as the server's configuration maps it.
const SUBJECT: &str = "sys.disconnect";

/// Subject of advisories about refused logins.
const REFUSED: &str = "sys.$SYS.SERVER.*.CLIENT.AUTH.ERR";

/// Longest user or machine name that is reported, in characters. The refused client chose it, so it may be anything.
const LONGEST: usize = 64;

/// Login that the server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLogin {
    /// User name that the client gave.
    pub user: String,
    /// Address of the client.
    pub host: String,
    /// Reason in the server's words.
    pub why: String,
}

/// Role whose connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disconnected {
    /// A queen.
    Queen(QueenName),
    /// A hive.
    Hive(HiveName),
    /// A worker.
    Worker(HiveName, WorkerName),
}

/// Name of a queen's connection, which identifies the queen when the connection ends.
pub fn queen_connection(queen: &QueenName) -> String {
    format!("queen/{queen}")
}

/// Name of a hive's connection.
pub fn hive_connection(hive: &HiveName) -> String {
    format!("hive/{hive}")
}

/// Name of a worker's connection.
pub fn worker_connection(hive: &HiveName, worker: &WorkerName) -> String {
    format!("worker/{hive}/{worker}")
}

impl Bus {
    /// Subscribes to advisories about connections that end.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn watch_disconnects(&self) -> Result<Subscriber, BusError> {
        self.subscribe(SUBJECT.to_owned()).await
    }

    /// Subscribes to advisories about logins that the server refuses.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn watch_refused_logins(&self) -> Result<Subscriber, BusError> {
        self.subscribe(REFUSED.to_owned()).await
    }
}

#[derive(Deserialize)]
struct Advisory {
    client: Client,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Client {
    #[serde(default)]
    name: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    host: String,
}

impl RefusedLogin {
    /// Parses an advisory about a refused login. `None` for any other message.
    pub fn read(message: &Message) -> Option<Self> {
        let Advisory { client, reason } = serde_json::from_slice(&message.payload).ok()?;
        let short = |text: String| text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        Some(Self { user: short(client.user), host: short(client.host), why: short(reason) })
    }
}

impl Disconnected {
    /// Parses an advisory about an ended connection. `None` if the connection is not one of a queen, hive or worker.
    pub fn read(message: &Message) -> Option<Self> {
        let advisory: Advisory = serde_json::from_slice(&message.payload).ok()?;
        Self::named(&advisory.client.name)
    }

    fn named(name: &str) -> Option<Self> {
        let mut parts = name.split('/');
        let named = match (parts.next()?, parts.next()?, parts.next()) {
            ("queen", queen, None) => Self::Queen(queen.parse().ok()?),
            ("hive", hive, None) => Self::Hive(hive.parse().ok()?),
            ("worker", hive, Some(worker)) => Self::Worker(hive.parse().ok()?, worker.parse().ok()?),
            _ => return None,
        };
        parts.next().is_none().then_some(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_identified_by_its_name() {
        let (hive, worker): (HiveName, WorkerName) = ("h".parse().expect("a name"), "w".parse().expect("a name"));
        assert_eq!(Disconnected::named(&hive_connection(&hive)), Some(Disconnected::Hive(hive.clone())));
        let queen: QueenName = "q".parse().expect("a name");
        assert_eq!(Disconnected::named(&queen_connection(&queen)), Some(Disconnected::Queen(queen)));
        let name = worker_connection(&hive, &worker);
        assert_eq!(Disconnected::named(&name), Some(Disconnected::Worker(hive, worker)));
        for other in ["", "hive", "hive/", "queen", "queen/", "worker/h", "worker/h/w/x", "hive/h/w", "cli/ps"] {
            assert_eq!(Disconnected::named(other), None, "{other}");
        }
    }
}
