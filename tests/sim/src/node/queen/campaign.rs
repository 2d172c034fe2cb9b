//! The campaign of a queen for the lease, as `queen/src/leader.rs` conducts it.

use std::{rc::Rc, time::Instant};

use rbee_queen::decide::timers::Timers;
use rbee_schema::{LeaderRecord, Protocol, QueenName};

use super::state::Event as ControllerEvent;
use crate::{
    broker::Status,
    network::{Arrival, Connection},
    node::cell::{Cell, Found},
    runtime::{Mailbox, Process},
    words::Body,
};

#[derive(Debug)]
enum Event {
    Leader(Rc<LeaderRecord>, u64),
    Removed,
    Synced,
    Disconnected(Rc<str>),
}

#[derive(Debug, Clone, Copy)]
struct Held {
    term: u64,
    revision: u64,
    expires_at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Foreign {
    revision: u64,
    take_over_at: Instant,
}

struct Campaign {
    process: Process,
    cell: Cell,
    timers: Timers,
    record: LeaderRecord,
    controller: Mailbox<ControllerEvent>,
    held: Option<Held>,
    foreign: Option<Foreign>,
    last_leader: Option<QueenName>,
}

/// Takes the lease whenever it is free, and renews it.
pub(super) async fn campaign(
    connection: Connection,
    queen: QueenName,
    timers: Timers,
    controller: Mailbox<ControllerEvent>,
) {
    let process = connection.process().clone();
    let mailbox = listen(&connection);
    let suspect_ms = u64::try_from(timers.suspect.as_millis()).ok();
    let record = LeaderRecord { queen, version: String::new(), protocol: Protocol::OURS, term: None, suspect_ms };
    let cell = Cell::new(&connection, "queen", "leader", Some(timers.lease));
    let mut renewal = process.now();
    let mut campaign = Campaign {
        process: process.clone(),
        cell,
        timers,
        record,
        controller,
        held: None,
        foreign: None,
        last_leader: None,
    };
    loop {
        let take_over_at = campaign.foreign.map(|foreign| foreign.take_over_at);
        let expires_at = campaign.held.map(|held| held.expires_at);
        let due = [Some(renewal), take_over_at, expires_at].into_iter().flatten().min();
        if let Some(event) = mailbox.next(&process, due).await {
            campaign.handle(event).await;
            continue;
        }
        let now = process.now();
        if take_over_at.is_some_and(|at| now >= at) {
            campaign.take_over().await;
        } else if expires_at.is_some_and(|at| now >= at) {
            campaign.stop_leading();
        } else if now >= renewal {
            campaign.renew().await;
            renewal = process.now() + campaign.timers.lease_renewal;
        }
    }
}

fn listen(connection: &Connection) -> Mailbox<Event> {
    let mailbox = Mailbox::default();
    let sender = mailbox.clone();
    connection.watch("queen", "queen.leader", move |arrived| match arrived {
        Arrival::Message(message) => sender.put(match (message.body, message.sequence) {
            (Some(Body::Leader(record)), Some(revision)) => Event::Leader(record, revision),
            _ => Event::Removed,
        }),
        Arrival::Status(_, Status::Synced) => sender.put(Event::Synced),
        Arrival::Status(..) => {}
    });
    let sender = mailbox.clone();
    connection.subscribe("sys.disconnected", move |arrived| {
        if let Arrival::Message(message) = arrived
            && let Some(Body::Disconnected(name)) = message.body
        {
            sender.put(Event::Disconnected(name));
        }
    });
    mailbox
}

impl Campaign {
    async fn handle(&mut self, event: Event) {
        match event {
            Event::Leader(record, revision) => {
                let term = record.term.unwrap_or(revision);
                if self.held.is_some_and(|held| held.term == term) {
                    return;
                }
                let take_over_at = self.process.now() + self.timers.lease + self.timers.takeover;
                self.foreign = Some(Foreign { revision, take_over_at });
                self.last_leader = Some(record.queen.clone());
                if self.held.is_some_and(|held| held.term < term) {
                    self.stop_leading();
                }
            }
            Event::Removed => {
                self.foreign = None;
                self.take().await;
            }
            Event::Synced if self.foreign.is_none() => self.take().await,
            Event::Synced => {}
            Event::Disconnected(name) => {
                let is_leader = self.last_leader.as_ref().is_some_and(|leader| *name == *format!("queen/{leader}"));
                if let Some(foreign) = self.foreign.as_mut().filter(|_| is_leader) {
                    foreign.take_over_at = self.process.now() + self.timers.takeover;
                }
            }
        }
    }

    async fn take_over(&mut self) {
        let now = self.process.now();
        let Some(foreign) = &mut self.foreign else { return };
        foreign.take_over_at = now + self.timers.lease;
        let revision = foreign.revision;
        if let Ok(Some(term)) = self.cell.write(self.first_record(), revision).await {
            self.start_leading(term, now);
        }
    }

    fn first_record(&self) -> Body {
        Body::Leader(LeaderRecord { term: None, ..self.record.clone() }.into())
    }

    fn start_leading(&mut self, term: u64, asked_at: Instant) {
        self.foreign = None;
        self.held = Some(Held { term, revision: term, expires_at: asked_at + self.timers.lease });
        self.process.log(|| format!("leads in term {term}"));
        self.last_leader = None;
        self.controller.put(ControllerEvent::Leads(Some(term)));
    }

    async fn take(&mut self) {
        if self.held.is_some() {
            return;
        }
        let asked_at = self.process.now();
        let Ok(Found::Free(revision)) = self.cell.read().await else { return };
        if let Ok(Some(term)) = self.cell.write(self.first_record(), revision).await {
            self.start_leading(term, asked_at);
        }
    }

    async fn renew(&mut self) {
        let Some(held) = self.held else {
            if self.foreign.is_none() {
                self.take().await;
            }
            return;
        };
        let asked_at = self.process.now();
        let limit = held.expires_at.saturating_duration_since(asked_at);
        let record = Body::Leader(LeaderRecord { term: Some(held.term), ..self.record.clone() }.into());
        let process = self.process.clone();
        match process.within(limit, self.renewed(record, held.revision)).await {
            Some(Ok(Some(revision))) => {
                self.held = Some(Held { revision, expires_at: asked_at + self.timers.lease, ..held });
            }
            Some(Ok(None)) | None => self.stop_leading(),
            Some(Err(_)) => {}
        }
    }

    async fn renewed(&self, record: Body, revision: u64) -> Result<Option<u64>, crate::network::Away> {
        if let Some(revision) = self.cell.write(record.clone(), revision).await? {
            return Ok(Some(revision));
        }
        match self.cell.read().await? {
            Found::Held(found, revision) if found == record => self.cell.write(record, revision).await,
            Found::Held(..) | Found::Free(_) => Ok(None),
        }
    }

    fn stop_leading(&mut self) {
        if self.held.take().is_some() {
            self.process.log(|| "leads no longer".to_owned());
            self.controller.put(ControllerEvent::Leads(None));
        }
    }
}
