//! Runs the batches while this queen leads: a few at a time, in the order in which their records were stored.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use rbee_nats::{Bus, BusError, Entry, JobFinder};
use rbee_schema::{BatchId, BatchRecord};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::run::{BatchRun, RunError};
use crate::decide::limits::QueenLimits;

/// Pause before a batch continues whose queen got no answer from the server, so that servers without a leader are not flooded.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs batches without end.
pub(crate) async fn run_all(bus: Bus, finder: JobFinder, limits: QueenLimits) {
    loop {
        let supervisor = Supervisor {
            bus: bus.clone(),
            finder: finder.clone(),
            limits: limits.clone(),
            waiting: VecDeque::new(),
            running: HashMap::new(),
            tasks: JoinSet::new(),
        };
        if let Err(error) = supervisor.run().await {
            warn!(%error, "the records of batches cannot be read; trying again");
        }
        // Timer: pause before the records are read again.
        sleep(RETRY_PAUSE).await;
    }
}

struct Supervisor {
    bus: Bus,
    finder: JobFinder,
    limits: QueenLimits,
    /// Batches that wait, oldest first.
    waiting: VecDeque<BatchId>,
    running: HashMap<BatchId, CancellationToken>,
    tasks: JoinSet<(BatchId, Result<(), RunError>)>,
}

impl Supervisor {
    async fn run(mut self) -> Result<(), BusError> {
        let mut records = self.bus.batches().records().watch(">").await?;
        loop {
            tokio::select! {
                entry = records.next() => self.handle(entry?),
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok((id, ended)) => self.ended(id, ended),
                    Err(error) => error!(%error, "the task of a batch panicked"),
                }
            }
            self.start();
        }
    }

    fn handle(&mut self, entry: Entry<BatchRecord>) {
        match entry {
            Entry::Set { key, document, .. } => {
                let Ok(id) = key.parse::<BatchId>() else { return };
                match self.running.get(&id) {
                    Some(token) if document.cancel => token.cancel(),
                    Some(_) => {}
                    None if document.state.is_final() => self.waiting.retain(|waiting| *waiting != id),
                    None if self.waiting.contains(&id) => {}
                    None => self.waiting.push_back(id),
                }
            }
            Entry::Removed(key) => {
                self.waiting.retain(|waiting| waiting.as_str() != key);
                if let Some((_, token)) = self.running.iter().find(|(id, _)| id.as_str() == key) {
                    token.cancel();
                }
            }
            Entry::Unreadable { key, error, .. } => warn!(batch = key, error, "the record of a batch cannot be read"),
            Entry::Synced => {}
        }
    }

    fn start(&mut self) {
        while self.running.len() < self.limits.batches as usize {
            let Some(id) = self.waiting.pop_front() else { return };
            let run = BatchRun {
                bus: self.bus.clone(),
                finder: self.finder.clone(),
                id: id.clone(),
                window: self.limits.batch_window.max(1) as usize,
            };
            let cancel = CancellationToken::new();
            self.running.insert(id.clone(), cancel.clone());
            self.tasks.spawn(async move {
                let ended = run.run(cancel).await;
                if let Err(RunError::Bus(error)) = &ended {
                    warn!(batch = %id, %error, "a batch was interrupted; it continues");
                    // Timer: pause before the batch continues.
                    sleep(RETRY_PAUSE).await;
                }
                (id, ended)
            });
        }
    }

    fn ended(&mut self, id: BatchId, ended: Result<(), RunError>) {
        self.running.remove(&id);
        match ended {
            Ok(()) => {}
            Err(RunError::Fenced) => info!(batch = %id, "another queen runs the batch"),
            Err(RunError::Bus(_)) => self.waiting.push_back(id),
            Err(RunError::Failed(failure)) => {
                warn!(batch = %id, %failure, "the end of a batch could not be stored; it is tried again");
                self.waiting.push_back(id);
            }
        }
    }
}
