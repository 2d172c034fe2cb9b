//! The event history of a fleet, folded to the state that it implies.
//!
//! A worker publishes the events of its loading, and its hive publishes the others, on two connections: a worker's event may
//! be stored before the hive's event that the worker was started.

use std::collections::BTreeMap;

use rbee_schema::{Event, PortEvent, WorkerEvent, WorkerName, WorkerPhase};

/// The state that events imply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct History {
    /// By `<hive>.<worker>`.
    pub(super) workers: BTreeMap<String, WorkerState>,
    /// The holder of each leased port, as `<hive>.<worker>`.
    pub(super) ports: BTreeMap<u16, String>,
}

/// The state of one worker that its events imply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkerState {
    pub(super) epoch: u64,
    pub(super) phase: WorkerPhase,
    /// Process number and port, while the worker has a process.
    pub(super) process: Option<(u32, u16)>,
    /// Epoch of the last run that ended. Its later events are late and ignored.
    ended: u64,
}

impl History {
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Worker(hive, worker, event) => self.apply_worker_event(format!("{hive}.{worker}"), event),
            Event::Port(hive, port, event) => self.apply_port_event(*port, &format!("{hive}."), event),
            Event::Queen(..)
            | Event::Hive(..)
            | Event::Model(..)
            | Event::Tenant(..)
            | Event::Job(..)
            | Event::Alert(..) => {}
        }
    }

    fn apply_port_event(&mut self, port: u16, hive: &str, event: &PortEvent) {
        let key = |worker: &WorkerName| format!("{hive}{worker}");
        match event {
            PortEvent::Leased { worker, .. } => drop(self.ports.insert(port, key(worker))),
            PortEvent::Released { worker, .. } | PortEvent::Reclaimed { worker, .. } => {
                // The port may belong to another worker by now: two hives publish on two connections, so the release may be
                // stored after the next lease.
                if self.ports.get(&port) == Some(&key(worker)) {
                    self.ports.remove(&port);
                }
            }
            PortEvent::Skipped { .. } => {}
        }
    }

    fn apply_worker_event(&mut self, key: String, event: &WorkerEvent) {
        if let WorkerEvent::Removed { .. } = event {
            self.workers.remove(&key);
            return;
        }
        if let WorkerEvent::Adopted { port, .. } = event {
            self.ports.insert(*port, key.clone());
        }
        let new = WorkerState { epoch: 0, phase: WorkerPhase::Requested, process: None, ended: 0 };
        self.workers.entry(key).or_insert(new).apply(event);
    }
}

impl WorkerState {
    fn apply(&mut self, event: &WorkerEvent) {
        match event {
            WorkerEvent::Spawned { epoch, pid, port, .. } => {
                self.start_run(*epoch, WorkerPhase::Spawning);
                self.process = Some((*pid, *port));
            }
            WorkerEvent::Loading { epoch, .. } if *epoch > self.ended => {
                self.start_run(*epoch, WorkerPhase::Loading);
                if self.phase == WorkerPhase::Spawning {
                    self.phase = WorkerPhase::Loading;
                }
            }
            WorkerEvent::Ready { epoch, .. } if *epoch > self.ended => {
                self.start_run(*epoch, WorkerPhase::Ready);
                if matches!(self.phase, WorkerPhase::Spawning | WorkerPhase::Loading) {
                    self.phase = WorkerPhase::Ready;
                }
            }
            WorkerEvent::Adopted { epoch, pid, port, .. } => {
                self.start_run(*epoch, WorkerPhase::Loading);
                // The hive checks from the start whether an adopted worker is suspect.
                if self.phase == WorkerPhase::Suspect {
                    self.phase = WorkerPhase::Ready;
                }
                self.process = Some((*pid, *port));
            }
            WorkerEvent::Suspect { epoch, .. } if *epoch > self.ended => self.phase = WorkerPhase::Suspect,
            WorkerEvent::Recovered { epoch, .. } if *epoch > self.ended => self.phase = WorkerPhase::Ready,
            WorkerEvent::Draining { .. } => self.phase = WorkerPhase::Draining,
            WorkerEvent::Stopping { .. } => self.phase = WorkerPhase::Stopping,
            WorkerEvent::Exited { epoch, .. } => {
                (self.process, self.ended) = (None, *epoch);
                // The next event says what follows: a restart, a crash loop, a failure, or the removal.
                self.phase = WorkerPhase::Stopping;
            }
            WorkerEvent::Restarting { .. } => self.phase = WorkerPhase::Backoff,
            WorkerEvent::CrashLooped { .. } => self.phase = WorkerPhase::CrashLoop,
            WorkerEvent::Failed { .. } => self.phase = WorkerPhase::Failed,
            WorkerEvent::Loading { .. }
            | WorkerEvent::Ready { .. }
            | WorkerEvent::Suspect { .. }
            | WorkerEvent::Recovered { .. }
            | WorkerEvent::Unkillable { .. }
            | WorkerEvent::Removed { .. }
            | WorkerEvent::Ignored { .. } => {}
        }
    }

    /// Enters `phase` where the event belongs to a newer run than the known one.
    fn start_run(&mut self, epoch: u64, phase: WorkerPhase) {
        if epoch > self.epoch {
            (self.epoch, self.phase) = (epoch, phase);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().expect("a name")
    }

    fn spawned(epoch: u64) -> WorkerEvent {
        WorkerEvent::Spawned { model: name("m"), epoch, pid: 42, port: 8080 }
    }

    fn ready(epoch: u64) -> WorkerEvent {
        WorkerEvent::Ready { model: name("m"), epoch, slots: 1, context: 1, load_ms: 1 }
    }

    fn phase(events: &[WorkerEvent]) -> Option<(WorkerPhase, u64)> {
        let mut history = History::default();
        for event in events {
            history.apply(&Event::Worker(name("h"), name("w"), event.clone()));
        }
        history.workers.get("h.w").map(|state| (state.phase, state.epoch))
    }

    #[test]
    fn events_of_a_worker_and_its_hive_may_arrive_in_any_order() {
        assert_eq!(phase(&[spawned(1), ready(1)]), Some((WorkerPhase::Ready, 1)));
        assert_eq!(phase(&[ready(1), spawned(1)]), Some((WorkerPhase::Ready, 1)));
    }

    #[test]
    fn late_events_of_an_ended_run_are_ignored() {
        let exited = WorkerEvent::Exited {
            model: name("m"),
            epoch: 1,
            class: rbee_schema::ExitClass::Signal,
            code: None,
            signal: Some(9),
            why: String::new(),
            jobs_returned: 0,
            stderr_tail: vec![],
        };
        let restarting = WorkerEvent::Restarting { epoch: 2, delay_ms: 1, why: String::new() };
        let events = [spawned(1), exited.clone(), restarting, ready(1)];
        assert_eq!(phase(&events), Some((WorkerPhase::Backoff, 1)));
        let removed = WorkerEvent::Removed { model: name("m"), why: String::new() };
        assert_eq!(phase(&[spawned(1), exited, removed]), None);
    }
}
