//! Shutdown of a hive: all workers are stopped at once, with one deadline. What is left then is killed and reported.

use futures::StreamExt as _;
use rbee_nats::{Registry, Subscriber};
use rbee_schema::{HiveEvent, HiveRecord, StopMode};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use super::{availability::End, state::Supervisor, timing::wait_until};
use crate::{metrics, notify};

impl Supervisor {
    pub(super) async fn shut_down(mut self, beats: &mut Subscriber, mut stop: watch::Receiver<Option<StopMode>>) {
        let why = self.shutdown_reason();
        let (begun, workers) = (Instant::now(), self.workers.len());
        info!(workers, why, "the hive stops its workers");
        let timers = self.hive.config.rules.timers.clone();
        let at_most = timers.shutdown + timers.kill + 2 * timers.final_flush;
        notify::stopping(&format!("stopping {workers} workers"), at_most);
        self.availability.drain(self.availability.drain_mode().max(StopMode::Drain));
        self.hive.publish(HiveEvent::Draining { why: why.clone(), workers: self.workers.count() });
        let mut mode = stop.borrow_and_update().unwrap_or(StopMode::Drain);
        self.stop_all(&why, mode);
        let limit = begun + timers.shutdown;
        while !self.workers.is_empty() && Instant::now() < limit + timers.kill {
            let escalation = match mode {
                StopMode::Finish | StopMode::Drain => begun + timers.shutdown / 2,
                StopMode::Terminate => limit,
                StopMode::Kill => limit + timers.kill,
            };
            let left = self.workers.len();
            let requested = tokio::select! {
                () = self.next_while_stopping(beats) => None,
                Ok(()) = stop.changed() => *stop.borrow_and_update(),
                // Timer: time given to the workers before they are stopped in a stricter way.
                () = sleep_until(escalation) => Some(escalated(mode)),
            };
            if self.workers.len() < left {
                let progress = format!("{} of {workers} workers have stopped", workers - self.workers.len());
                info!("{progress}");
                notify::status(&progress);
            }
            if let Some(requested) = requested.filter(|requested| *requested > mode) {
                warn!(left = self.workers.len(), mode = ?requested, "stopping the workers that are left in another way");
                mode = requested;
                self.stop_all(&why, mode);
            }
        }
        self.finish(begun, mode).await;
    }

    fn shutdown_reason(&self) -> String {
        match self.availability.end() {
            Some(End::Commanded(why)) if !why.is_empty() => format!("the hive stops: {why}"),
            Some(End::Fenced(by)) => format!("a newer hive of this name runs on {by}"),
            Some(End::Commanded(_)) | None => "the hive stops".to_owned(),
        }
    }

    async fn next_while_stopping(&mut self, beats: &mut Subscriber) {
        let deadline = self.next_deadline(true);
        tokio::select! {
            biased;
            Some(message) = beats.next() => self.handle_worker_heartbeat(&message),
            Some(report) = self.tasks.join_next() => self.handle_report(report),
            () = wait_until(deadline) => self.handle_deadlines(),
        }
    }

    async fn finish(mut self, begun: Instant, mode: StopMode) {
        for (worker, managed) in self.workers.iter() {
            let pid = managed.worker.pid();
            error!(%worker, pid, "a worker survives SIGKILL; the next run of this hive checks for it");
        }
        let killed = if mode == StopMode::Kill { self.workers.count() } else { 0 };
        let final_flush = self.hive.config.rules.timers.final_flush;
        let limit = Instant::now() + final_flush;
        // Timer: time given to the tasks that release leases or return jobs to the queue.
        while let Ok(Some(report)) = tokio::time::timeout_at(limit, self.tasks.join_next()).await {
            self.handle_report(report);
        }
        self.hive.publish(HiveEvent::Stopped { killed });
        if !matches!(self.availability.end(), Some(End::Fenced(_))) {
            let hives = Registry::<HiveRecord>::hives(&self.hive.bus);
            hives.remove_ordered(&self.hive.outbox, self.hive.config.name.as_str());
        }
        self.hive.outbox.drained(final_flush).await;
        // Timer: a disk that has stalled must not keep the hive from ending.
        let _ = tokio::time::timeout(final_flush, self.ledger.close()).await;
        metrics::shut_down(begun.elapsed());
        info!(took = ?begun.elapsed(), "the hive has stopped");
    }
}

/// The stop mode that follows when workers take too long.
fn escalated(mode: StopMode) -> StopMode {
    match mode {
        StopMode::Finish | StopMode::Drain => StopMode::Terminate,
        StopMode::Terminate | StopMode::Kill => StopMode::Kill,
    }
}
