//! Runs the jobs of a worker: claims a delivery, lets an attempt answer it, and settles it.

use std::sync::Arc;

use rbee_nats::Delivery;
use rbee_nats::trace::STEPS;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::{
    attempt::{Attempt, Outcome},
    producer::Producer,
    shared::Shared,
    stream::Interrupts,
};
use crate::{
    metrics,
    report::{Identity, Reporter},
};

/// Runs jobs. Every slot of a worker has a clone.
#[derive(Clone)]
pub(crate) struct JobRunner {
    pub(crate) shared: Shared,
    pub(crate) reporter: Reporter,
    pub(crate) producer: Arc<dyn Producer>,
}

/// The end of a run of a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settled {
    /// Tokens of the prompt and of the answer that this run has computed.
    pub(crate) tokens: u64,
    /// True if the job has returned to the queue.
    pub(crate) returned: bool,
}

impl JobRunner {
    /// Runs a delivered job to its end, in the trace that the job belongs to. When `pause` is cancelled, the job pauses at the
    /// next token and returns to the queue.
    pub(crate) async fn run(&self, delivery: Delivery, pause: CancellationToken) -> Settled {
        let Delivery { job, tenant, attempt, trace, .. } = &delivery;
        let Identity { model, worker, .. } = &self.shared.identity;
        let span = info_span!(parent: None, "job", %job, %tenant, attempt, %model, %worker, trace = trace.id());
        rbee_nats::trace::continue_trace(&span, trace);
        self.run_in_trace(&delivery, pause).instrument(span).await
    }

    async fn run_in_trace(&self, delivery: &Delivery, pause: CancellationToken) -> Settled {
        info!("received a job");
        let claim = delivery.in_flight();
        let cancelled = self.reporter.claim(claim.clone()).await;
        debug!(target: STEPS, "claimed");
        let interrupts = Interrupts { cancelled, stop: pause };
        let (outcome, tokens) = match Attempt::open(&self.shared, delivery, interrupts).await {
            Ok(attempt) => attempt.answer(self.producer.as_ref()).await,
            Err(error) => {
                warn!(job = %delivery.job, %error, "failed to read the stored output of the job; it returns to the queue");
                (Outcome::Returned, 0)
            }
        };
        settle(delivery, outcome).await;
        self.reporter.release(claim).await;
        Settled { tokens, returned: outcome == Outcome::Returned }
    }
}

/// Acknowledges a job whose output is complete, and returns an incomplete one to the queue.
async fn settle(delivery: &Delivery, outcome: Outcome) {
    let job = &delivery.job;
    if let Some(label) = outcome.label() {
        metrics::job_settled(label);
    }
    let settled = match outcome {
        Outcome::Done | Outcome::Failed => delivery.ack().await,
        Outcome::Returned => delivery.nak().await,
        Outcome::Fenced => {
            warn!(%job, "another worker has continued the job; this attempt ends without an acknowledgement");
            Ok(())
        }
    };
    if let Err(error) = settled {
        warn!(%job, %error, "failed to settle the job; it is delivered again after its redelivery timeout");
    }
}
