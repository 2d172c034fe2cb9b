//! The outbox of a process: messages that are stored in order, each until the server has confirmed it.

use std::{rc::Rc, time::Duration};

use crate::{
    broker::{Answer, Headers, Op},
    network::{Away, Connection},
    runtime::Mailbox,
    words::Body,
};

/// Pause before a failed publish is repeated.
const PAUSE: Duration = Duration::from_millis(200);

struct Letter {
    subject: Rc<str>,
    body: Option<Body>,
    time_to_live: Option<Duration>,
}

/// Outbox of a process; cheap to clone.
#[derive(Clone)]
pub(super) struct Outbox(Mailbox<Letter>);

impl Outbox {
    pub(super) fn start(connection: &Connection) -> Self {
        let (letters, connection) = (Mailbox::<Letter>::default(), connection.clone());
        let outbox = Self(letters.clone());
        let process = connection.process().clone();
        process.clone().spawn(async move {
            while let Some(letter) = letters.next(&process, None).await {
                let id: Rc<str> = format!("letter-{}", process.runtime().draw(|rng| rng.u64(..))).into();
                while send(&connection, &letter, &id).await.is_err() {
                    process.sleep(PAUSE).await;
                }
            }
        });
        outbox
    }

    /// Stores a message behind those before it.
    pub(super) fn put(&self, subject: impl Into<Rc<str>>, body: Body, time_to_live: Option<Duration>) {
        self.0.put(Letter { subject: subject.into(), body: Some(body), time_to_live });
    }

    /// Removes a key behind the messages before it.
    pub(super) fn remove(&self, subject: impl Into<Rc<str>>) {
        let time_to_live = Some(Duration::from_secs(1));
        self.0.put(Letter { subject: subject.into(), body: None, time_to_live });
    }
}

async fn send(connection: &Connection, letter: &Letter, id: &Rc<str>) -> Result<(), Away> {
    let Letter { subject, body, time_to_live } = letter;
    let headers = Headers { id: Some(id.clone()), time_to_live: *time_to_live, expect: None };
    let (subject, body) = (subject.clone(), body.clone());
    let op = |request| Op::Publish { subject, body, size: 0, headers, request: Some(request) };
    match connection.request(op).await? {
        Answer::Stored { .. } => Ok(()),
        _ => Err(Away),
    }
}
