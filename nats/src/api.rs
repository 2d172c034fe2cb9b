//! The NATS service `rbee`: operations by request and reply. `nats micro ls` lists it.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::trace::TraceContext;
use async_nats::{
    HeaderMap, StatusCode, Subscriber, header,
    service::{self, PingResponse, Service, ServiceExt as _, endpoint::Endpoint},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream::SelectAll};
use rbee_schema::{Chunk, Deadlines, Failure, JobId, QueenName, Tenant};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{
    Bus, BusError, StoredBody,
    bus::json,
    job::{chosen_id, deadlines},
    trace::trace,
};

/// Operations of the service, by the last token of their subject.
pub const OPERATIONS: [&str; 24] = [
    "status",
    "hives",
    "workers",
    "worker",
    "models",
    "model",
    "tenants",
    "infer",
    "embed",
    "jobs",
    "job",
    "retry",
    "cancel",
    "explain",
    "spawn",
    "stop",
    "reset",
    "drain",
    "pull",
    "rm",
    "batch",
    "batches",
    "batch-run",
    "batch-cancel",
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

/// Header of every reply to `infer` and `embed`: the id of the job.
const JOB_ID: &str = "Rbee-Job-Id";

/// Subject that nobody subscribes to. The client library counts a request when it responds, and a reply that the library
/// cannot send is counted by a response to this subject.
const COUNTED: &str = "_INBOX.rbee-counted";

/// Number of messages of a reply that can be sent again: more than are sent until the first report that one was not received.
const KEPT: usize = 64;

/// Time that a requester has to connect again. The client libraries of NATS wait for 2 s between two tries.
const RECONNECTION: Duration = Duration::from_secs(6);

/// Pause between two tries to reach a requester: many round trips, and not noticed by a person.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

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

    /// Replies with a document.
    pub async fn reply<T: Serialize>(self, document: &T) {
        // A request without a reply subject gets no reply.
        let _ = self.request.respond(Ok(json(document))).await;
    }

    /// Replies with a failure: as the document `{"error": ...}`, and in the error headers of NATS services.
    pub async fn refuse(self, failure: &Failure) {
        let Some(reply) = self.request.message.reply.clone() else { return };
        let body = json(&serde_json::json!({ "error": failure }));
        let _ = self.bus.client().publish_with_headers(reply, error_headers(failure), body).await;
        self.count_error(failure).await;
    }

    /// Begins a reply that consists of the chunks of a job.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn stream(self, job: &JobId) -> Result<ReplyStream, BusError> {
        let inbox = self.bus.client().new_inbox();
        let undelivered = self.bus.client().subscribe(format!("{inbox}.*")).await;
        let undelivered = undelivered.map_err(|error| BusError::new("reply to a request", error))?;
        Ok(ReplyStream { request: self, job: job.clone(), inbox, undelivered, sent: VecDeque::new() })
    }

    async fn count_error(mut self, failure: &Failure) {
        self.request.message.reply = Some(COUNTED.into());
        let error =
            service::error::Error { status: failure.message.clone(), code: usize::from(failure.code.http_status()) };
        let _ = self.request.respond(Err(error)).await;
    }

    /// Header of the request.
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::bus::header(self.request.message.headers.as_ref(), name)
    }

    /// Trace of the client, if the request carries one.
    pub fn trace(&self) -> Option<TraceContext> {
        trace(self.request.message.headers.as_ref())
    }

    /// Deadlines that the client states for the job.
    ///
    /// # Errors
    /// A header is invalid.
    pub fn deadlines(&self) -> Result<Deadlines, Failure> {
        deadlines(self.request.message.headers.as_ref())
    }

    /// Body of the job that the client has stored, if the request names one.
    ///
    /// # Errors
    /// The request names a body that the job may not have.
    pub fn stored_body(&self, tenant: &Tenant) -> Result<Option<StoredBody>, Failure> {
        StoredBody::read(self.request.message.headers.as_ref(), tenant, self.body())
    }

    /// Job id that the client chose, if any: the header `Nats-Msg-Id`.
    ///
    /// # Errors
    /// The id is invalid.
    pub fn job_id(&self, tenant: &Tenant) -> Option<Result<JobId, Failure>> {
        self.header(header::NATS_MESSAGE_ID.as_ref()).map(|id| chosen_id(id, tenant))
    }
}

/// Reply that consists of the chunks of a job, followed by an empty message (`nats request --wait-for-empty`).
#[derive(Debug)]
pub struct ReplyStream {
    request: ApiRequest,
    job: JobId,
    /// Each message names this inbox with its number as its own reply subject. The server reports there that nobody receives
    /// the message.
    inbox: String,
    undelivered: Subscriber,
    /// Last messages, the newest last.
    sent: VecDeque<Sent>,
}

/// Message of a reply.
#[derive(Debug)]
struct Sent {
    number: u64,
    headers: HeaderMap,
    body: Bytes,
}

impl ReplyStream {
    /// Replies with a chunk.
    pub async fn send(&mut self, chunk: &Chunk) {
        self.publish(HeaderMap::new(), json(chunk)).await;
    }

    /// Ends the reply.
    pub async fn end(mut self) {
        self.publish(HeaderMap::new(), Bytes::new()).await;
        let mut request = self.request.request;
        request.message.reply = Some(COUNTED.into());
        let _ = request.respond(Ok(Bytes::new())).await;
    }

    /// Ends the reply with a failure: as an `error` chunk, and in the error headers of NATS services.
    pub async fn fail(mut self, failure: &Failure) {
        let chunk = Chunk::Error { error: failure.clone() };
        self.publish(error_headers(failure), json(&chunk)).await;
        self.publish(error_headers(failure), Bytes::new()).await;
        self.request.count_error(failure).await;
    }

    async fn publish(&mut self, mut headers: HeaderMap, body: Bytes) {
        headers.insert(JOB_ID, self.job.as_str());
        let number = self.sent.back().map_or(0, |last| last.number + 1);
        let sent = Sent { number, headers, body };
        self.publish_again(&sent).await;
        self.sent.push_back(sent);
        if self.sent.len() > KEPT {
            self.sent.pop_front();
        }
    }

    async fn publish_again(&self, Sent { number, headers, body }: &Sent) {
        let Some(reply) = self.request.request.message.reply.clone() else { return };
        let (client, report_to) = (self.request.bus.client(), format!("{}.{number}", self.inbox));
        let _ = client.publish_with_reply_and_headers(reply, report_to, headers.clone(), body.clone()).await;
    }

    /// Sends the messages from number `missed` on again, until the requester receives them: its connection may have been lost for
    /// a moment. Returns false if the requester stays away.
    pub async fn send_again(&mut self, mut missed: u64) -> bool {
        let deadline = Instant::now() + RECONNECTION;
        while Instant::now() < deadline {
            // Timer: pause between two tries to reach the requester.
            sleep(RETRY_PAUSE).await;
            for sent in self.sent.iter().filter(|sent| sent.number >= missed) {
                self.publish_again(sent).await;
            }
            match timeout(RETRY_PAUSE, self.next_undelivered()).await {
                Ok(number) => missed = missed.min(number),
                Err(_) => return true,
            }
        }
        false
    }

    /// Number of the next message that nobody received. Cancel-safe.
    pub async fn next_undelivered(&mut self) -> u64 {
        loop {
            match self.undelivered.next().await {
                Some(message) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                    let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
                    return number.unwrap_or(0);
                }
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// Error headers of NATS services.
fn error_headers(failure: &Failure) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Service-Error", failure.message.replace(['\r', '\n'], " ").as_str());
    headers.insert("Nats-Service-Error-Code", failure.code.as_str());
    headers
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
