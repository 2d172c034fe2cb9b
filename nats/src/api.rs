//! The NATS service `rbee`: operations by request and reply. `nats micro ls` lists it.

use std::{collections::HashMap, time::Duration};

use crate::trace::TraceContext;
use async_nats::{
    HeaderMap, header,
    service::{self, PingResponse, Service, ServiceExt as _, endpoint::Endpoint},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream::SelectAll};
use rbee_schema::{Failure, QueenName};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout_at};

use crate::{Bus, BusError, bus::json, trace::trace};

/// Operations of the service, by the last token of their subject.
pub const OPERATIONS: [&str; 16] = [
    "status", "hives", "workers", "worker", "models", "model", "infer", "embed", "cancel", "explain", "spawn", "stop",
    "reset", "drain", "pull", "rm",
];

/// Name of the service.
const SERVICE: &str = "rbee";

/// Metadata of the service: the queen that offers it.
const QUEEN: &str = "queen";
/// Metadata of the service: the namespace of the fleet.
const NAMESPACE: &str = "namespace";

/// Service endpoint that receives requests.
pub struct Api {
    bus: Bus,
    requests: SelectAll<Endpoint>,
    // Dropping this stops the service.
    _service: Service,
}

/// Request to the service.
#[derive(Debug)]
pub struct ApiRequest {
    bus: Bus,
    request: service::Request,
}

impl Api {
    /// Starts to offer the operations. Several processes may offer them; each request goes to one of them.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn start(bus: &Bus, queen: &QueenName, version: &str) -> Result<Self, BusError> {
        let failed = |cause: String| BusError::new("offer the service", cause);
        let metadata = [(QUEEN, queen.to_string()), (NAMESPACE, bus.namespace().to_string())];
        let metadata: HashMap<String, String> = metadata.map(|(name, value)| (name.to_owned(), value)).into();
        let service = bus.client().service_builder().description("One private inference service.").metadata(metadata);
        let service = service.start(SERVICE, version).await.map_err(|error| failed(error.to_string()))?;
        let group = service.group(bus.namespace().api());
        let mut requests = SelectAll::new();
        for operation in OPERATIONS {
            requests.push(group.endpoint(operation).await.map_err(|error| failed(error.to_string()))?);
        }
        bus.round_trip().await?;
        Ok(Self { bus: bus.clone(), requests, _service: service })
    }

    /// Next request. `None` if the connection is closed.
    pub async fn next(&mut self) -> Option<ApiRequest> {
        let request = self.requests.next().await?;
        Some(ApiRequest { bus: self.bus.clone(), request })
    }
}

impl ApiRequest {
    /// Requested operation.
    pub fn operation(&self) -> &str {
        self.request.message.subject.rsplit('.').next().unwrap_or_default()
    }

    /// Body of the request.
    pub fn body(&self) -> &Bytes {
        &self.request.message.payload
    }

    /// Replies with a document. An operation that streams replies several times, and then calls [`ApiRequest::end`].
    pub async fn reply<T: Serialize>(&self, document: &T) {
        // A request without a reply subject gets no reply.
        let _ = self.request.respond(Ok(json(document))).await;
    }

    /// Replies with a failure: as the document `{"error": ...}`, and in the error headers of NATS services.
    pub async fn refuse(&self, failure: &Failure) {
        let Some(reply) = self.request.message.reply.clone() else { return };
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Service-Error", failure.message.replace(['\r', '\n'], " ").as_str());
        headers.insert("Nats-Service-Error-Code", failure.code.as_str());
        let body = json(&serde_json::json!({ "error": failure }));
        let _ = self.bus.client().publish_with_headers(reply, headers, body).await;
    }

    /// Ends a stream of replies with an empty one (`nats request --wait-for-empty`).
    pub async fn end(&self) {
        let _ = self.request.respond(Ok(Bytes::new())).await;
    }

    /// Header of the request.
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::bus::header(self.request.message.headers.as_ref(), name)
    }

    /// Trace of the client, if the request carries one.
    pub fn trace(&self) -> Option<TraceContext> {
        trace(self.request.message.headers.as_ref())
    }

    /// Job id that the client chose, if any.
    pub fn message_id(&self) -> Option<&str> {
        self.header(header::NATS_MESSAGE_ID.as_ref())
    }
}

impl Bus {
    /// Names of the queens that answer within `window`. Their number is unknown, so the call always takes the whole time.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn discover_queens(&self, window: Duration) -> Result<Vec<QueenName>, BusError> {
        let inbox = self.client().new_inbox();
        let mut answers = self.subscribe(inbox.clone()).await?;
        let sent = self.client().publish_with_reply(format!("$SRV.PING.{SERVICE}"), inbox, Bytes::new()).await;
        sent.map_err(|error| BusError::new("discover the queens", error))?;
        let (until, mut queens) = (Instant::now() + window, Vec::new());
        while let Ok(Some(answer)) = timeout_at(until, answers.next()).await {
            let Ok(PingResponse { metadata, .. }) = serde_json::from_slice(&answer.payload) else { continue };
            let is_ours = metadata.get(NAMESPACE) == Some(&self.namespace().to_string());
            queens.extend(metadata.get(QUEEN).filter(|_| is_ours).and_then(|name| name.parse().ok()));
        }
        Ok(queens)
    }

    /// Sends a request to the service and waits for the reply.
    ///
    /// # Errors
    /// The failure that the service replies with, or `timed-out` if no queen answers.
    pub async fn request<Q: Serialize, A: DeserializeOwned>(&self, operation: &str, body: &Q) -> Result<A, Failure> {
        use rbee_schema::FailureCode::{Internal, TimedOut};
        let subject = format!("{}.{operation}", self.namespace().api());
        let reply = self.client().request(subject.clone(), json(body)).await;
        let answer = reply.map_err(|error| {
            let hint = "is a queen running? `rbee up` or `rbee queen` starts one";
            Failure::new(TimedOut, format!("no queen answered {subject}: {error}; {hint}"))
        })?;
        let value: serde_json::Value = serde_json::from_slice(&answer.payload)
            .map_err(|error| Failure::new(Internal, format!("the answer to {subject} is not JSON: {error}")))?;
        if let Some(error) = value.get("error") {
            return Err(serde_json::from_value(error.clone())
                .unwrap_or_else(|_| Failure::new(Internal, format!("{subject} failed: {error}"))));
        }
        serde_json::from_value(value)
            .map_err(|error| Failure::new(Internal, format!("the answer to {subject} cannot be read: {error}")))
    }
}
