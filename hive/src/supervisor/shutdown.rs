//! The end of a hive: all workers at once, one deadline, then the rest is killed.

use std::time::Duration;

use futures::StreamExt as _;
use rbee_nats::Subscriber;
use rbee_schema::HiveEvent;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::{Supervisor, wait_until};
use crate::decide::worker::Event;

/// How long a worker may finish its jobs when the hive stops: what is not done then goes on elsewhere.
const DRAIN: Duration = Duration::from_secs(5);

/// From the order to stop to the killing of what is left.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// How long the last events may take to be stored.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Supervisor {
    pub(super) async fn shut_down(mut self, beats: &mut Subscriber) {
        let why = "the hive stops".to_owned();
        info!(workers = self.charges.len(), "the hive stops its workers");
        self.publish(HiveEvent::Draining { why: why.clone() });
        for worker in self.charges.keys().cloned().collect::<Vec<_>>() {
            self.step(&worker, Event::Stop { why: why.clone(), drain: DRAIN });
        }
        let limit = Instant::now() + SHUTDOWN;
        while !self.charges.is_empty() && timeout_at(limit, self.next_of_the_end(beats)).await.is_ok() {}
        let killed = self.kill_the_rest();
        while timeout_at(limit + LAST_WORDS, self.tasks.join_next())
            .await
            .is_ok_and(|report| report.map(|report| self.report(report)).is_some())
        {}
        self.publish(HiveEvent::Stopped { killed });
        let key = self.config.name.to_string();
        rbee_nats::Registry::hives(&self.bus).remove_by(&self.outbox, &key);
        self.outbox.drained(LAST_WORDS).await;
        info!(killed, "the hive has stopped");
    }

    async fn next_of_the_end(&mut self, beats: &mut Subscriber) {
        let deadline = self.next_deadline(true);
        tokio::select! {
            biased;
            Some(report) = self.tasks.join_next() => self.report(report),
            Some(message) = beats.next() => self.hear_beat(&message),
            () = wait_until(deadline) => self.wake(),
        }
    }

    fn kill_the_rest(&mut self) -> u32 {
        let mut killed = 0;
        for (name, charge) in &self.charges {
            if let Some(process) = &charge.process {
                warn!(worker = %name, pid = process.pid(), "a worker did not end in time and is killed");
                process.kill_tree();
                killed += 1;
            }
        }
        killed
    }
}
