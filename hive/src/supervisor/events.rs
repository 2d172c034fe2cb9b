//! Messages from the bus that are no commands: of workers, of port leases, of the hive's own key, of the leader.

use std::time::Duration;

use rbee_nats::{Entry, Message, Subject};
use rbee_schema::{HiveEvent, HiveRecord, LeaderRecord, PortLease, WorkerEvent, WorkerHeartbeat, WorkerName};
use tracing::{error, warn};

use super::{availability::End, state::Supervisor};
use crate::{decide::worker::Event, metrics};

impl Supervisor {
    /// Handles `loading` and `ready`, the two events that a worker publishes itself.
    pub(super) fn handle_worker_event(&mut self, message: &Message) {
        let Some(Subject::WorkerEvent(_, worker, name)) = self.hive.bus.parse(&message.subject) else { return };
        if name != "loading" && name != "ready" {
            return; // Published by this hive.
        }
        let event = match serde_json::from_slice(&message.payload) {
            Ok(WorkerEvent::Loading { epoch, done_bytes, total_bytes, .. }) => {
                Event::Loading { epoch, done_bytes, total_bytes }
            }
            Ok(WorkerEvent::Ready { epoch, load_ms, .. }) => {
                self.record_start_up(&worker, Duration::from_millis(load_ms));
                Event::Ready { epoch }
            }
            Ok(_) => return,
            Err(error) => return warn!(%worker, %error, "failed to read an event of a worker"),
        };
        self.step(&worker, event);
    }

    fn record_start_up(&self, worker: &WorkerName, load: Duration) {
        metrics::loaded(load);
        if let Some(requested) = self.workers.get(worker).and_then(|managed| managed.start_requested) {
            metrics::became_ready(requested.elapsed());
        }
    }

    pub(super) fn handle_worker_heartbeat(&mut self, message: &Message) {
        let Some(Subject::WorkerHeartbeat(_, worker)) = self.hive.bus.parse(&message.subject) else { return };
        match serde_json::from_slice::<WorkerHeartbeat>(&message.payload) {
            Ok(WorkerHeartbeat { epoch, jobs, steps, blocked, memory_bytes, .. }) => {
                let managed = self.workers.get_mut(&worker).filter(|managed| managed.worker.epoch == epoch);
                if let Some(run) = managed.and_then(|managed| managed.run.as_mut()) {
                    run.memory_used = memory_bytes;
                }
                self.step(&worker, Event::Heartbeat { epoch, jobs, steps, blocked });
            }
            Err(error) => warn!(%worker, %error, "failed to read a heartbeat of a worker"),
        }
    }

    pub(super) fn handle_lease(&mut self, entry: Entry<PortLease>) {
        let port = |key: &str| key.rsplit_once('.').and_then(|(_, port)| port.parse().ok());
        match entry {
            Entry::Set { key, document: lease, .. } => match port(&key) {
                Some(port) if lease.hive != self.hive.config.name => {
                    // A renewal of a lease that was looked at before needs no further look.
                    if self.ports.book.leased_by(port, lease.hive) {
                        self.inspect_lease(port);
                    }
                }
                Some(port) if !self.ports.book.is_of(port, &lease.worker) => self.inspect_lease(port),
                Some(_) | None => {}
            },
            Entry::Removed(key) => {
                if let Some(port) = port(&key) {
                    self.ports.book.released_by_other(port);
                    if let Some(worker) = self.ports.book.worker_of(port).cloned() {
                        self.claim_again(&worker);
                    }
                }
            }
            Entry::Unreadable { key, .. } => {
                if let Some(port) = port(&key) {
                    self.inspect_lease(port);
                }
            }
            Entry::Synced => {}
        }
    }

    /// Handles a change of the leader's key.
    pub(super) fn handle_leader(&mut self, entry: Entry<LeaderRecord>) {
        match entry {
            Entry::Set { document, revision, .. } => {
                self.availability.has_leader = true;
                if self.condition.compare_with(&document, &self.hive.config.rules) {
                    self.update_condition();
                }
                self.ledger.advance_term(document.term.unwrap_or(revision));
            }
            Entry::Unreadable { key, error, .. } => warn!(key, error, "failed to read the record of the leading queen"),
            Entry::Removed(_) => self.availability.has_leader = false,
            Entry::Synced => {}
        }
    }

    /// Handles a change of this hive's own key in the registry.
    pub(super) fn handle_own_key(&mut self, entry: Entry<HiveRecord>) {
        match entry {
            Entry::Set { document, .. } => self.check_namesake(&document),
            Entry::Removed(_) => {
                warn!("the registry key of this hive was deleted or has expired; writing it again");
                self.publish_presence();
            }
            Entry::Unreadable { key, error, .. } => {
                warn!(key, error, "failed to read what was written over the registry key of this hive");
            }
            Entry::Synced => {}
        }
    }

    /// Ends this hive where the record under its key is that of a newer hive of the same name.
    fn check_namesake(&mut self, record: &HiveRecord) {
        let is_newer = (record.epoch, record.state_id.as_str()) > (self.hive.epoch, self.ledger.id());
        if record.state_id == self.ledger.id() || !is_newer {
            return;
        }
        error!(host = %record.host, pid = record.pid, "a newer hive of this name has started; this one ends");
        self.hive.publish(HiveEvent::Fenced { by: record.host.clone() });
        self.availability.request_end(End::Fenced(record.host.clone()));
    }
}
