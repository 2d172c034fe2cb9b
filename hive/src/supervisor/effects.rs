//! Carrying out the effects that the state machine of a worker asks for.

use std::time::{Duration, Instant};

use rbee_nats::Subject;
use rbee_schema::{HiveEvent, WorkerControl, WorkerEvent, WorkerName};
use tracing::{debug, info, warn};

use super::{report::Report, returning::Returning, state::Supervisor};
use crate::{
    decide::worker::{Effect, Event, Returns},
    ledger::Written,
    limits::WorkerCgroup,
    metrics,
};

impl Supervisor {
    /// Lets the state machine of a worker handle an event, and carries out what it asks for.
    pub(super) fn step(&mut self, name: &WorkerName, event: Event) {
        let Some(managed) = self.workers.get_mut(name) else { return };
        let effects = managed.step(event, Instant::now(), &self.rules);
        self.carry_out(name, effects);
    }

    pub(super) fn carry_out(&mut self, name: &WorkerName, effects: Vec<Effect>) {
        let Some(written) = self.record_entry(name) else { return };
        for effect in effects {
            self.effect(name, effect, &written);
        }
        if let Some(managed) = self.workers.get_mut(name) {
            managed.drop_ended_run();
        }
        self.publish_record(name);
    }

    /// Carries out one effect. Those that a later run of the hive must know of wait until the ledger confirms the entry; a
    /// kill never waits, so that a stalled disk keeps no hung process alive.
    fn effect(&mut self, name: &WorkerName, effect: Effect, written: &Written) {
        match effect {
            Effect::Start => self.start(name, written.clone()),
            Effect::Drain => self.drain_worker(name, written.clone()),
            Effect::Terminate => self.terminate(name, written.clone()),
            Effect::Kill => self.kill(name),
            Effect::ReturnJobs(returns) => self.return_jobs(name, returns),
            Effect::ReleasePort { port, why } => self.release_port(name, port, why),
            Effect::Publish(event) => self.publish_event(name, event),
            Effect::Forget => self.forget(name),
        }
    }

    /// Publishes an event of a worker, and logs a line where a decision was made.
    fn publish_event(&mut self, name: &WorkerName, event: WorkerEvent) {
        debug!(worker = %name, event = event.name(), "publishing an event");
        metrics::count_event(&event);
        match &event {
            WorkerEvent::Suspect { why, .. } => log(name, "a worker is suspect", why),
            WorkerEvent::Draining { why } => log(name, "draining a worker", why),
            WorkerEvent::Stopping { why } => log(name, "stopping a worker", why),
            WorkerEvent::Exited { why, class, .. } => {
                log(name, &format!("a worker has exited ({class})"), why);
                let is_unexpected =
                    self.workers.get(name).is_some_and(|managed| managed.worker.stop_reason().is_none());
                if is_unexpected {
                    self.condition.strain.exited(Instant::now());
                }
            }
            WorkerEvent::Restarting { why, .. } => log(name, "restarting a worker", why),
            WorkerEvent::CrashLooped { failure, .. } => log(name, "a worker is in a crash loop", &failure.message),
            WorkerEvent::Failed { failure, .. } => log(name, "a worker has failed for good", &failure.message),
            WorkerEvent::Removed { why, .. } => log(name, "a worker was removed", why),
            WorkerEvent::Ignored { received, state } => {
                warn!(worker = %name, received, state, "ignored an event that does not fit the worker's state");
            }
            WorkerEvent::Unkillable { pid, since_ms } => {
                warn!(worker = %name, pid, since_ms, "a process survives SIGKILL");
            }
            WorkerEvent::Spawned { .. }
            | WorkerEvent::Loading { .. }
            | WorkerEvent::Ready { .. }
            | WorkerEvent::Adopted { .. }
            | WorkerEvent::Recovered { .. } => {}
        }
        self.hive.publish_worker(name, event);
    }

    fn drain_worker(&mut self, name: &WorkerName, written: Written) {
        let bus = self.hive.bus.clone();
        let subject = Subject::WorkerControl(self.hive.config.name.clone(), name.clone());
        self.tasks.spawn(async move {
            written.settled().await;
            if let Err(error) = bus.publish(&subject, &WorkerControl::Drain).await {
                warn!(%error, "failed to send a drain command to a worker; it is terminated when its time is over");
            }
            Report::Done
        });
    }

    fn terminate(&mut self, name: &WorkerName, written: Written) {
        let Some(run) = self.workers.get(name).and_then(|managed| managed.run.as_ref()) else { return };
        let process = run.process.clone();
        self.tasks.spawn(async move {
            written.settled().await;
            process.terminate();
            Report::Done
        });
    }

    /// Kills the process and its process group at once; processes that have left the group are found by their mark.
    fn kill(&mut self, name: &WorkerName) {
        let Some(managed) = self.workers.get(name) else { return };
        if let Some(run) = &managed.run {
            run.process.kill();
            run.process.reap();
        }
        let cgroup = managed.run.as_ref().map(|run| run.cgroup.clone());
        let mark = self.run_mark(managed);
        self.tasks.spawn_blocking(move || {
            if let Some(cgroup) = cgroup {
                cgroup.kill_all();
                remove(&cgroup);
            }
            for pid in mark.kill_all() {
                debug!(pid, run = %mark, "killed a process of a worker's process tree");
            }
            Report::Done
        });
    }

    /// Returns jobs to the queue. This comes first of all that follows an exit: the jobs are with another worker about a
    /// millisecond later.
    fn return_jobs(&mut self, name: &WorkerName, returns: Returns) {
        let returning = Returning {
            bus: self.hive.bus.clone(),
            outbox: self.hive.outbox.clone(),
            hive: self.hive.config.name.clone(),
            worker: name.clone(),
            blame_limit: self.hive.config.rules.timers.blame,
        };
        self.tasks.spawn(async move {
            returning.carry_out(returns).await;
            Report::Done
        });
    }

    fn forget(&mut self, name: &WorkerName) {
        self.workers.remove(name);
        self.ledger.remove(name);
        self.hive.remove_worker_record(name);
        info!(worker = %name, "a worker is gone");
        if self.availability.is_draining() {
            self.hive.publish(HiveEvent::Drained { left: self.workers.count() });
        }
    }

    /// Hands the worker's entry to the ledger where it has changed. Returns the confirmation of the latest entry.
    fn record_entry(&mut self, name: &WorkerName) -> Option<Written> {
        let managed = self.workers.get_mut(name)?;
        let entry = managed.ledger_entry();
        if let Some((recorded, written)) = &managed.recorded
            && *recorded == entry
            && !written.has_failed()
        {
            return Some(written.clone());
        }
        let written = self.ledger.put(name, entry.clone());
        managed.recorded = Some((entry, written.clone()));
        Some(written)
    }

    /// Writes the worker's record to the registry where it has changed.
    pub(super) fn publish_record(&mut self, name: &WorkerName) {
        let Some(managed) = self.workers.get_mut(name) else { return };
        let record = managed.record();
        if managed.published.as_ref() != Some(&record) {
            self.hive.put_worker_record(name, &record);
            managed.published = Some(record);
        }
    }
}

/// Logs a decision about a worker.
fn log(worker: &WorkerName, what: &str, why: &str) {
    info!(%worker, why, "{what}");
}

/// Time for killed processes to disappear. The kernel frees their memory first: about 65 ms for each GiB.
const REMOVAL_LIMIT: Duration = Duration::from_secs(5);

/// Removes the cgroups of a run that was killed. The next start of the hive removes what is left.
fn remove(cgroup: &WorkerCgroup) {
    if !cgroup.is_empty_within(REMOVAL_LIMIT) {
        return warn!(pids = ?cgroup.pids(), "killed processes of a worker are still there");
    }
    if let Err(error) = cgroup.remove() {
        warn!(%error, "failed to remove the cgroups of a worker");
    }
}
