//! Deletion of a message of a stream.

use bytes::Bytes;
use serde_json::json;

use crate::{Bus, BusError, server_error};

impl Bus {
    /// Deletes a message of a stream. Deleting a message that does not exist succeeds.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn delete_message(&self, stream: &str, sequence: u64) -> Result<(), BusError> {
        let failed = |cause: String| BusError::new(format!("remove message {sequence} from {stream}"), cause);
        let subject = format!("$JS.API.STREAM.MSG.DELETE.{}", self.namespace().resource(stream));
        // Without this the server overwrites the message with random bytes, which takes several times as long.
        let request = json!({ "seq": sequence, "no_erase": true });
        let reply = self.client().request(subject, Bytes::from(request.to_string())).await;
        let reply = reply.map_err(|error| failed(error.to_string()))?;
        let reply: serde_json::Value =
            serde_json::from_slice(&reply.payload).map_err(|error| failed(error.to_string()))?;
        match reply["error"]["description"].as_str() {
            None => Ok(()),
            Some(cause) if server_error::is_no_message(cause) => Ok(()),
            Some(cause) => Err(failed(cause.to_owned())),
        }
    }
}
