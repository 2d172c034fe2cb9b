//! A real server as a [`Broker`].

use std::{collections::BTreeMap, time::Duration};

use async_nats::{
    Client, HeaderMap, Message, Subscriber,
    jetstream::{
        self, Context, ErrorCode,
        consumer::{AckPolicy, PriorityPolicy, pull},
        context::PublishErrorKind,
        message::PublishMessage,
        stream::{Config, DiscardPolicy, LastRawMessageErrorKind, Republish, RetentionPolicy},
    },
};
use futures::StreamExt as _;
use rbee_tests::nats::NatsServer;
use serde_json::json;
use tokio::{
    runtime::Runtime,
    time::{sleep, timeout},
};

use super::broker::{Ack, Broker, Headers, Received, StreamSpec};

/// A real server with one client.
pub(super) struct Real {
    runtime: Runtime,
    client: Client,
    jetstream: Context,
    received: BTreeMap<usize, Subscriber>,
    /// Present until the end.
    server: Option<NatsServer>,
}

impl Real {
    pub(super) fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (server, client, jetstream) = runtime.block_on(async {
            let server = NatsServer::start().await;
            let client = server.bus("other").await.client().clone();
            let jetstream = jetstream::new(client.clone());
            (server, client, jetstream)
        });
        Self { runtime, client, jetstream, received: BTreeMap::new(), server: Some(server) }
    }

    fn listen(&mut self, subject: &str) -> usize {
        let subscriber = self.runtime.block_on(self.client.subscribe(subject.to_owned())).expect("subscribed");
        let at = self.received.len();
        self.received.insert(at, subscriber);
        at
    }
}

impl Drop for Real {
    /// Subscriptions and the container of a server end in the runtime.
    fn drop(&mut self) {
        let (received, server) = (std::mem::take(&mut self.received), self.server.take());
        self.runtime.block_on(async { drop((received, server)) });
    }
}

fn received(message: Message) -> Received {
    if let Some(status) = message.status {
        return Received::Status(status.as_u16());
    }
    let body = String::from_utf8_lossy(&message.payload).into_owned();
    let Some(reply) = message.reply.filter(|reply| reply.starts_with("$JS.ACK.")) else {
        return Received::Message { body, attempt: 0, pending: 0, reply: String::new() };
    };
    // $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<time>.<pending>
    let tokens: Vec<&str> = reply.split('.').collect();
    let number = |at: usize| tokens[at].parse().expect("a number");
    Received::Message { body, attempt: number(4), pending: number(8), reply: reply.to_string() }
}

impl Broker for Real {
    fn create_stream(&mut self, spec: &StreamSpec) {
        let config = Config {
            name: spec.name.to_owned(),
            subjects: vec![spec.subjects.to_owned()],
            retention: if spec.work_queue { RetentionPolicy::WorkQueue } else { RetentionPolicy::Limits },
            discard: if spec.discard_new || spec.is_bucket { DiscardPolicy::New } else { DiscardPolicy::Old },
            discard_new_per_subject: spec.discard_new && spec.per_subject.is_some(),
            max_messages_per_subject: match spec.per_subject {
                Some(most) => i64::try_from(most).expect("small"),
                None if spec.is_bucket => 1,
                None => -1,
            },
            max_bytes: spec.max_bytes.map_or(-1, |most| i64::try_from(most).expect("small")),
            duplicate_window: spec.duplicates.unwrap_or(Duration::from_secs(120)),
            republish: spec.republish.map(|(from, to, headers_only)| Republish {
                source: format!("{from}>"),
                destination: format!("{to}>"),
                headers_only,
            }),
            allow_rollup: spec.is_bucket,
            deny_delete: spec.is_bucket,
            allow_message_ttl: spec.is_bucket,
            subject_delete_marker_ttl: spec.is_bucket.then_some(Duration::from_secs(60)),
            allow_direct: true,
            ..Config::default()
        };
        self.runtime.block_on(self.jetstream.create_stream(config)).expect("created");
    }

    fn publish(&mut self, subject: &str, body: &str, headers: Headers) -> Result<(u64, bool), String> {
        let Headers { id, expect, time_to_live, deletes } = headers;
        let mut message = PublishMessage::build().payload(body.to_owned().into());
        if deletes {
            let mut map = HeaderMap::new();
            map.insert("KV-Operation", "PURGE");
            map.insert("Nats-Rollup", "sub");
            message = PublishMessage::build().headers(map);
        }
        if let Some(id) = id {
            message = message.message_id(id);
        }
        if let Some(expect) = expect {
            message = message.expected_last_subject_sequence(expect);
        }
        if let Some(time_to_live) = time_to_live {
            message = message.ttl(time_to_live);
        }
        let stored = self
            .runtime
            .block_on(async { self.jetstream.send_publish(subject.to_owned(), message).await.expect("sent").await });
        match stored {
            Ok(stored) => Ok((stored.sequence, stored.duplicate)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Err("stale".to_owned()),
            Err(error) if error.to_string().contains("maximum") => Err("full".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn open_consumer(&mut self, stream: &str, name: &str, filter: &str, ack_wait: Duration) -> Result<(), String> {
        let config = pull::Config {
            durable_name: Some(name.to_owned()),
            filter_subject: filter.to_owned(),
            ack_policy: AckPolicy::Explicit,
            ack_wait,
            priority_policy: PriorityPolicy::Prioritized,
            priority_groups: vec!["slots".to_owned()],
            ..pull::Config::default()
        };
        let created = self.runtime.block_on(self.jetstream.create_consumer_on_stream(config, stream));
        created.map(drop).map_err(|error| match error.kind() {
            jetstream::stream::ConsumerErrorKind::JetStream(error)
                if error.error_code() == ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE =>
            {
                "overlap".to_owned()
            }
            _ => error.to_string(),
        })
    }

    fn delete_consumer(&mut self, stream: &str, name: &str) {
        let deleted = self.runtime.block_on(self.jetstream.delete_consumer_from_stream(name, stream));
        deleted.expect("deleted");
    }

    fn pull(&mut self, stream: &str, consumer: &str, priority: u8, expires: Option<Duration>) -> usize {
        let inbox = self.client.new_inbox();
        let at = self.listen(&inbox);
        let mut request = json!({ "batch": 1, "group": "slots", "priority": priority });
        match expires {
            Some(expires) => request["expires"] = json!(u64::try_from(expires.as_nanos()).expect("small")),
            None => request["no_wait"] = json!(true),
        }
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        self.runtime.block_on(async {
            let body = request.to_string().into();
            self.client.publish_with_reply(subject, inbox, body).await.expect("sent");
            self.client.flush().await.expect("flushed");
            // The server has the pull when the order of two pulls matters.
            sleep(Duration::from_millis(30)).await;
        });
        at
    }

    fn withdraw(&mut self, pull: usize) {
        let subscriber = self.received.get_mut(&pull).expect("a pull");
        self.runtime.block_on(async {
            subscriber.unsubscribe_after(u64::MAX).await.expect("ended");
            self.client.flush().await.expect("flushed");
            sleep(Duration::from_millis(30)).await;
        });
    }

    fn subscribe(&mut self, pattern: &str) -> usize {
        let at = self.listen(pattern);
        self.runtime.block_on(self.client.flush()).expect("flushed");
        at
    }

    fn receive(&mut self, at: usize, within: Duration) -> Option<Received> {
        let subscriber = self.received.get_mut(&at).expect("a subscription");
        let message = self.runtime.block_on(async { timeout(within, subscriber.next()).await });
        message.ok().flatten().map(received)
    }

    fn acknowledge(&mut self, reply: &str, ack: Ack) {
        let body = match ack {
            Ack::Done => "+ACK".to_owned(),
            Ack::Nak(Duration::ZERO) => "-NAK".to_owned(),
            Ack::Nak(pause) => format!("-NAK {{\"delay\":{}}}", pause.as_nanos()),
            Ack::Progress => "+WPI".to_owned(),
            Ack::Term => "+TERM".to_owned(),
        };
        // Nobody confirms an acknowledgement to a consumer that is gone.
        let confirmed = self.runtime.block_on(async {
            timeout(Duration::from_secs(1), self.client.request(reply.to_owned(), body.into())).await
        });
        drop(confirmed);
    }

    fn last(&mut self, stream: &str, subject: &str) -> Option<(u64, Option<String>)> {
        self.runtime.block_on(async {
            let stream = self.jetstream.get_stream(stream).await.expect("the stream");
            match stream.get_last_raw_message_by_subject(subject).await {
                Ok(found) => {
                    let is_marker = ["KV-Operation", "Nats-Marker-Reason"]
                        .iter()
                        .any(|header| found.headers.get(*header).is_some());
                    let body = String::from_utf8_lossy(&found.payload).into_owned();
                    Some((found.sequence, (!is_marker).then_some(body)))
                }
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => None,
                Err(error) => panic!("{error}"),
            }
        })
    }

    fn count(&mut self, stream: &str) -> u64 {
        self.runtime.block_on(async {
            let mut stream = self.jetstream.get_stream(stream).await.expect("the stream");
            stream.info().await.expect("answered").state.messages
        })
    }

    fn wait(&mut self, time: Duration) {
        self.runtime.block_on(async { sleep(time).await });
    }
}
