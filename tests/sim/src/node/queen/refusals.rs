//! Jobs that no worker will answer, as `queen/src/controller/refusals.rs` refuses them.

use std::collections::HashSet;

use rbee_schema::{Failure, JobId, ModelName, Tenant};

use super::{
    answer::{Answered, Begun, answer, queued_jobs},
    state::{Controller, Event, Queued, Reason, Refused},
};
use crate::network::Connection;

/// Number of refusing tasks that run at a time.
const TASKS: usize = 4;

impl Reason {
    fn failure(&self) -> &Failure {
        match self {
            Self::Unserved(failure) | Self::Overdue(failure) => failure,
        }
    }
}

impl Controller {
    pub(super) fn refuse(&mut self, filter: String, reason: Reason) {
        if self.leads() {
            self.refusals.waiting.insert(filter, reason);
            self.start_refusals();
        }
    }

    fn start_refusals(&mut self) {
        while self.refusals.running.len() < TASKS {
            let running = &self.refusals.running;
            let waiting = self.refusals.waiting.keys().find(|filter| !running.contains(*filter)).cloned();
            let Some(filter) = waiting else { return };
            let Some(reason) = self.refusals.waiting.remove(&filter) else { return };
            self.refusals.running.insert(filter.clone());
            let running = self.fleet.running_jobs();
            let (connection, mailbox) = (self.connection.clone(), self.mailbox.clone());
            self.process.spawn(async move {
                mailbox.put(Event::Refused(refuse_all(&connection, filter, reason, &running).await));
            });
        }
    }

    pub(super) fn refused(&mut self, Refused { filter, begun, leaves_demand }: Refused) {
        self.refusals.running.remove(&filter);
        self.start_refusals();
        if leaves_demand {
            self.count_queue();
        }
        if begun.is_empty() {
            return;
        }
        let begun = begun.into_iter().map(|(queued, reason)| (queued.job.key.clone(), (queued, reason)));
        self.refusals.begun.extend(begun);
        self.answer_begun(None);
    }

    /// Answers begun jobs that no heartbeat names any more.
    pub(super) fn answer_begun(&mut self, model: Option<&ModelName>) {
        if self.refusals.begun.is_empty() {
            return;
        }
        let known_at = self.listening_since + self.fleet.timers().suspect;
        if self.process.now() < known_at {
            let (process, mailbox) = (self.process.clone(), self.mailbox.clone());
            self.process.spawn(async move {
                process.sleep_until(known_at).await;
                mailbox.put(Event::HeartbeatsKnown);
            });
            return;
        }
        let fleet = &self.fleet;
        let is_due = |key: &(Tenant, JobId), (queued, _): &mut (Queued, Reason)| {
            let of = &queued.job.model;
            model.is_none_or(|model| model == of) && !fleet.runs(of, &key.0, &key.1)
        };
        for (_, (queued, reason)) in self.refusals.begun.extract_if(.., is_due) {
            let connection = self.connection.clone();
            self.process.spawn(async move {
                let _ = answer(&connection, &queued, reason.failure(), Begun::Answer).await;
            });
        }
        // A job that cannot be served now may be served later by the worker that has it.
        self.refusals.begun.clear();
    }
}

async fn refuse_all(
    connection: &Connection,
    filter: String,
    reason: Reason,
    running: &HashSet<(Tenant, JobId)>,
) -> Refused {
    let mut refused = Refused { begun: Vec::new(), leaves_demand: matches!(reason, Reason::Overdue(_)), filter };
    let Ok(jobs) = queued_jobs(connection, &refused.filter).await else { return refused };
    for queued in jobs {
        let is_begun = running.contains(&queued.job.key)
            || answer(connection, &queued, reason.failure(), Begun::Leave).await == Ok(Answered::Begun);
        if is_begun {
            refused.begun.push((queued, reason.clone()));
        }
    }
    refused
}
