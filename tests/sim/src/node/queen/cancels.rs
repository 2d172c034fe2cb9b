//! Cancelled jobs that no worker runs, as `queen/src/controller/cancels.rs` answers them.

use rbee_queen::decide::fleet::WorkerKey;
use rbee_schema::{Failure, FailureCode, ModelName};

use super::{
    answer::{Answered, Begun, answer, queued_jobs},
    state::{Cancelled, Controller, Event},
};
use crate::{
    broker::{Answer, Op},
    network::{Away, Connection},
    words::{JobKey, job_of},
};

impl Controller {
    pub(super) fn cancel(&mut self, key: JobKey) {
        if !self.leads() {
            return;
        }
        match self.fleet.worker_with(&key.0, &key.1).cloned() {
            Some(worker) => drop(self.cancels.running.insert(key, worker)),
            None => self.carry_out_cancels(vec![Cancelled { key, stored: None }]),
        }
    }

    /// Reads the cancellations from before this queen led.
    pub(super) fn read_cancels(&self) {
        let (connection, mailbox) = (self.connection.clone(), self.mailbox.clone());
        self.process.spawn(async move {
            let (stream, filter) = ("cancels".into(), "cancel.>".into());
            let read = connection.request(|request| Op::Read { stream, filter, from: 1, request }).await;
            let Ok(Answer::Messages(messages)) = read else { return };
            let cancelled = messages
                .into_iter()
                .filter_map(|message| Some(Cancelled { key: job_of(&message.subject)?, stored: Some(message.at) }));
            mailbox.put(Event::StoredCancels(cancelled.collect()));
        });
    }

    pub(super) fn cancels_heard(&mut self, worker: &WorkerKey) {
        let fleet = &self.fleet;
        self.cancels.running.retain(|(tenant, job), at| at != worker || fleet.worker_with(tenant, job).is_some());
    }

    pub(super) fn cancels_returned(&mut self, worker: &WorkerKey) {
        let returned: Vec<_> = self.cancels.running.extract_if(.., |_, at| at == worker).collect();
        let cancelled = returned.into_iter().map(|(key, _)| Cancelled { key, stored: None });
        self.carry_out_cancels(cancelled.collect());
    }

    pub(super) fn carry_out_cancels(&mut self, cancelled: Vec<Cancelled>) {
        self.cancels.waiting.extend(cancelled);
        if self.cancels.is_running || self.cancels.waiting.is_empty() {
            return;
        }
        self.cancels.is_running = true;
        let cancelled = std::mem::take(&mut self.cancels.waiting);
        let (connection, mailbox) = (self.connection.clone(), self.mailbox.clone());
        self.process.spawn(async move {
            let mut models = Vec::new();
            for cancelled in cancelled {
                models.extend(cancel(&connection, &cancelled).await.ok().flatten());
            }
            mailbox.put(Event::CancelsDone(models));
        });
    }

    pub(super) fn cancels_done(&mut self, models: Vec<ModelName>) {
        self.cancels.is_running = false;
        let now = self.process.now();
        for model in models {
            self.fleet.job_left(&model, now);
            if self.fleet.waiting(&model) == 0 {
                self.count_queue();
            }
        }
        self.carry_out_cancels(Vec::new());
    }
}

async fn cancel(connection: &Connection, cancelled: &Cancelled) -> Result<Option<ModelName>, Away> {
    let Cancelled { key, stored } = cancelled;
    let jobs = queued_jobs(connection, &format!("job.*.*.{}", key.0)).await?;
    let Some(queued) = jobs.into_iter().find(|queued| queued.job.key == *key) else { return Ok(None) };
    if stored.is_some_and(|stored| stored < queued.stored) {
        return Ok(None);
    }
    let failure = Failure::new(FailureCode::Cancelled, "cancelled before it ran");
    let answered = answer(connection, &queued, &failure, Begun::Answer).await?;
    Ok((answered == Answered::Yes).then(|| queued.job.model.clone()))
}
