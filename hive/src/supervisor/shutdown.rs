//! The end of a hive: all workers at once, one deadline, then the rest is killed and looked for.

use futures::StreamExt as _;
use rbee_nats::{Registry, Subscriber};
use rbee_schema::{HiveEvent, StopMode};
use tokio::{
    sync::watch as channel,
    time::{Instant, sleep_until},
};
use tracing::{error, info, warn};

use super::{End, Supervisor, number, wait_until};
use crate::{metrics, notify};

impl Supervisor {
    pub(super) async fn shut_down(mut self, beats: &mut Subscriber, mut stop: channel::Receiver<Option<StopMode>>) {
        let why = match &self.end {
            Some(End::Commanded(why)) if !why.is_empty() => format!("the hive stops: {why}"),
            Some(End::Fenced(by)) => format!("a newer hive of this name runs on {by}"),
            Some(End::Commanded(_)) | None => "the hive stops".to_owned(),
        };
        let begun = Instant::now();
        let workers = self.charges.len();
        info!(workers, why, "the hive stops its workers");
        let timers = &self.config.rules.timers;
        let at_most = timers.shutdown + timers.kill + 2 * timers.final_flush;
        notify::stopping(&format!("stops {workers} workers"), at_most);
        self.draining = true;
        self.publish(HiveEvent::Draining { why: why.clone(), workers: number(workers) });
        let mut mode = stop.borrow_and_update().unwrap_or(StopMode::Drain);
        self.stop_all(&why, mode);
        let limit = begun + self.config.rules.timers.shutdown;
        while !self.charges.is_empty() && Instant::now() < limit + self.config.rules.timers.kill {
            let next = match mode {
                StopMode::Drain => begun + self.config.rules.timers.shutdown / 2,
                StopMode::Terminate => limit,
                StopMode::Kill => limit + self.config.rules.timers.kill,
            };
            let left = self.charges.len();
            let asked = tokio::select! {
                () = self.next_of_the_end(beats) => None,
                Ok(()) = stop.changed() => *stop.borrow_and_update(),
                () = sleep_until(next) => Some(sterner(mode)),
            };
            if self.charges.len() < left {
                let progress = format!("{} of {workers} workers have ended", workers - self.charges.len());
                info!("{progress}");
                notify::status(&progress);
            }
            if let Some(asked) = asked.filter(|asked| *asked > mode) {
                warn!(left = self.charges.len(), how = ?asked, "the workers that are left are hurried");
                mode = asked;
                self.stop_all(&why, mode);
            }
        }
        self.say_goodbye(begun, mode).await;
    }

    async fn next_of_the_end(&mut self, beats: &mut Subscriber) {
        let deadline = self.next_deadline(true);
        tokio::select! {
            biased;
            Some(message) = beats.next() => self.hear_beat(&message),
            Some(report) = self.tasks.join_next() => self.report(report),
            () = wait_until(deadline) => self.wake(),
        }
    }

    async fn say_goodbye(mut self, begun: Instant, mode: StopMode) {
        for (worker, charge) in &self.charges {
            let pid = charge.worker.pid();
            error!(%worker, pid, "a worker is there still although it was killed; the next run of this hive looks for it");
        }
        let killed = if mode == StopMode::Kill { number(self.charges.len()) } else { 0 };
        let final_flush = self.config.rules.timers.final_flush;
        let limit = Instant::now() + final_flush;
        // Leases that are being released, jobs that are being given back.
        while let Ok(Some(report)) = tokio::time::timeout_at(limit, self.tasks.join_next()).await {
            self.report(report);
        }
        self.publish(HiveEvent::Stopped { killed });
        if !matches!(self.end, Some(End::Fenced(_))) {
            Registry::hives(&self.bus).remove_ordered(&self.outbox, self.config.name.as_str());
        }
        self.outbox.drained(final_flush).await;
        self.ledger.close();
        metrics::shut_down(begun.elapsed());
        info!(took = ?begun.elapsed(), "the hive has stopped");
    }
}

/// What follows when the workers take too long.
fn sterner(mode: StopMode) -> StopMode {
    match mode {
        StopMode::Drain => StopMode::Terminate,
        StopMode::Terminate | StopMode::Kill => StopMode::Kill,
    }
}
