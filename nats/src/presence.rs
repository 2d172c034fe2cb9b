//! Connections that have ended, as the server tells it within milliseconds: sooner than any heartbeat can be missed; and
//! those that it has refused.
//!
//! The server tells of them in its system account. The configurations in `nats/server`, and that of the embedded server,
//! export those of the fleet's own account to it, as `sys.disconnect`; where a server does not, nothing comes, and
//! heartbeats alone say who is there. Anybody in the account could forge one, so that it is a hint and no proof.
//! Shape: <https://docs.nats.io/running-a-nats-service/configuration/sys_accounts>.

use async_nats::{Message, Subscriber};
use rbee_schema::{HiveName, QueenName, WorkerName};
use serde::Deserialize;

use crate::{Bus, BusError};

/// Where the server's configuration brings them.
const SUBJECT: &str = "sys.disconnect";

/// Where it brings connections that were refused.
const REFUSED: &str = "sys.$SYS.SERVER.*.CLIENT.AUTH.ERR";

/// The longest name of a user or a machine that is told: somebody who is refused has chosen it.
const LONGEST: usize = 64;

/// Somebody who was not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedLogin {
    /// Who it pretended to be.
    pub user: String,
    /// From where.
    pub host: String,
    /// Why, in the server's words.
    pub why: String,
}

/// Whose connection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disconnected {
    /// That of a queen.
    Queen(QueenName),
    /// That of a hive.
    Hive(HiveName),
    /// That of a worker.
    Worker(HiveName, WorkerName),
}

/// What the connection of a queen is to be called, so that its end is known for what it is.
pub fn queen_connection(queen: &QueenName) -> String {
    format!("queen/{queen}")
}

/// The same of a hive.
pub fn hive_connection(hive: &HiveName) -> String {
    format!("hive/{hive}")
}

/// The same of a worker.
pub fn worker_connection(hive: &HiveName, worker: &WorkerName) -> String {
    format!("worker/{hive}/{worker}")
}

impl Bus {
    /// Connections that end, from now on.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn watch_disconnects(&self) -> Result<Subscriber, BusError> {
        self.subscribe(SUBJECT.to_owned()).await
    }

    /// Connections that the server refuses, from now on.
    ///
    /// # Errors
    /// When the connection is closed.
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
    /// Reads what the server tells.
    pub fn read(message: &Message) -> Option<Self> {
        let Advisory { client, reason } = serde_json::from_slice(&message.payload).ok()?;
        let short = |text: String| text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        Some(Self { user: short(client.user), host: short(client.host), why: short(reason) })
    }
}

impl Disconnected {
    /// Reads what the server tells; `None` where the connection is of neither.
    pub fn read(message: &Message) -> Option<Self> {
        let told: Advisory = serde_json::from_slice(&message.payload).ok()?;
        Self::named(&told.client.name)
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
    fn a_connection_is_known_by_its_name_and_others_are_passed_over() {
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
