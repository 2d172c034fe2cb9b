//! The history of a fleet, folded to the state that it says there is now.
//!
//! A worker tells of its loading itself and its hive of the rest, on two connections: what a worker says may be stored
//! before its hive says that it was started.

use std::collections::BTreeMap;

use rbee_schema::{Event, PortEvent, WorkerEvent, WorkerName, WorkerPhase};

/// What the events say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct History {
    /// By `<hive>.<worker>`.
    pub(super) workers: BTreeMap<String, Life>,
    /// Who has which port, as `<hive>.<worker>`.
    pub(super) ports: BTreeMap<u16, String>,
}

/// Where a worker is, as far as events say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) epoch: u64,
    pub(super) phase: WorkerPhase,
    /// Its process and its port, while it has them.
    pub(super) process: Option<(u32, u16)>,
    /// The last run that ended: what it said is late from now on.
    ended: u64,
}

impl History {
    pub(super) fn tell(&mut self, event: &Event) {
        match event {
            Event::Worker(hive, worker, event) => self.tell_of_worker(format!("{hive}.{worker}"), event),
            Event::Port(hive, port, event) => self.tell_of_port(*port, &format!("{hive}."), event),
            Event::Queen(..) | Event::Hive(..) | Event::Model(..) | Event::Job(..) | Event::Alert(..) => {}
        }
    }

    fn tell_of_port(&mut self, port: u16, hive: &str, event: &PortEvent) {
        let key = |worker: &WorkerName| format!("{hive}{worker}");
        match event {
            PortEvent::Leased { worker, .. } => drop(self.ports.insert(port, key(worker))),
            PortEvent::Released { worker, .. } | PortEvent::Reclaimed { worker, .. } => {
                // It may be another's by now: a lease that is given back and taken again is told in that order, but two
                // hives tell on two connections.
                if self.ports.get(&port) == Some(&key(worker)) {
                    self.ports.remove(&port);
                }
            }
            PortEvent::Skipped { .. } => {}
        }
    }

    fn tell_of_worker(&mut self, key: String, event: &WorkerEvent) {
        if let WorkerEvent::Removed { .. } = event {
            self.workers.remove(&key);
            return;
        }
        if let WorkerEvent::Adopted { port, .. } = event {
            self.ports.insert(*port, key.clone());
        }
        let new = Life { epoch: 0, phase: WorkerPhase::Requested, process: None, ended: 0 };
        let life = self.workers.entry(key).or_insert(new);
        life.tell(event);
    }
}

impl Life {
    fn tell(&mut self, event: &WorkerEvent) {
        match event {
            WorkerEvent::Spawned { epoch, pid, port, .. } => {
                self.begin(*epoch, WorkerPhase::Spawning);
                self.process = Some((*pid, *port));
            }
            WorkerEvent::Loading { epoch, .. } if *epoch > self.ended => {
                self.begin(*epoch, WorkerPhase::Loading);
                if self.phase == WorkerPhase::Spawning {
                    self.phase = WorkerPhase::Loading;
                }
            }
            WorkerEvent::Ready { epoch, .. } if *epoch > self.ended => {
                self.begin(*epoch, WorkerPhase::Ready);
                if matches!(self.phase, WorkerPhase::Spawning | WorkerPhase::Loading) {
                    self.phase = WorkerPhase::Ready;
                }
            }
            WorkerEvent::Adopted { epoch, pid, port, .. } => {
                self.begin(*epoch, WorkerPhase::Loading);
                // Whether it is suspect is found out anew.
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
                // What follows is the next event; a worker that is to end is removed.
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

    /// Where a run is heard of that is newer than the one known, it is in this phase.
    fn begin(&mut self, epoch: u64, phase: WorkerPhase) {
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
            history.tell(&Event::Worker(name("h"), name("w"), event.clone()));
        }
        history.workers.get("h.w").map(|life| (life.phase, life.epoch))
    }

    #[test]
    fn the_two_tellers_of_a_worker_may_be_heard_in_any_order() {
        assert_eq!(phase(&[spawned(1), ready(1)]), Some((WorkerPhase::Ready, 1)));
        assert_eq!(phase(&[ready(1), spawned(1)]), Some((WorkerPhase::Ready, 1)));
    }

    #[test]
    fn what_a_run_said_before_its_end_and_is_heard_after_it_says_nothing() {
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
        let told = [spawned(1), exited.clone(), restarting, ready(1)];
        assert_eq!(phase(&told), Some((WorkerPhase::Backoff, 1)));
        let removed = WorkerEvent::Removed { model: name("m"), why: String::new() };
        assert_eq!(phase(&[spawned(1), exited, removed]), None);
    }
}
