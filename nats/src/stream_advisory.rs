//! Advisories of the server about streams that were created or deleted.
//!
//! The server publishes them in the account of the streams. They are hints: one that is published while the connection is lost
//! does not arrive.

use async_nats::{Message, Subscriber};

use crate::{Bus, BusError};

/// Prefix of the subjects of advisories about streams, before the name of the stream.
const DELETED: &str = "$JS.EVENT.ADVISORY.STREAM.DELETED";
const CREATED: &str = "$JS.EVENT.ADVISORY.STREAM.CREATED";

impl Bus {
    /// Subscribes to advisories about deleted streams, of any namespace.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn watch_deleted_streams(&self) -> Result<Subscriber, BusError> {
        self.subscribe(format!("{DELETED}.*")).await
    }

    /// True if an advisory is about a stream or bucket of this namespace.
    pub fn is_about_own_stream(&self, advisory: &Message) -> bool {
        let stream = advisory.subject.rsplit('.').next().unwrap_or_default();
        let name = stream.strip_prefix("KV_").unwrap_or(stream);
        name.starts_with(&self.namespace().resource(""))
    }

    /// Subscribes to advisories that a stream was created. Without the server's confirmation: a reader does not wait for it.
    pub(crate) async fn watch_created_stream(&self, stream: &str) -> Option<Subscriber> {
        self.client().subscribe(format!("{CREATED}.{stream}")).await.ok()
    }
}
