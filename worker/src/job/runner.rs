//! Runs the jobs of a worker: claims a delivery, lets an attempt answer it, and settles it.

use std::{sync::Arc, time::Duration};

use rbee_nats::Delivery;
use rbee_nats::trace::STEPS;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::{
    attempt::{Attempt, Earlier, Outcome},
    producer::Producer,
    shared::Shared,
};
use crate::{
    decide::strikes::retry_pause,
    metrics,
    report::{Claim, Identity, Reporter},
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
        // Both at once: what earlier attempts have left was written by workers, and can be read before the claim is known.
        let earlier = Earlier::read(&self.shared, delivery);
        let (claim, earlier) = tokio::join!(self.claim(delivery, pause.clone()), earlier);
        let Some(claim) = claim else {
            settle(delivery, Outcome::Returned(Duration::ZERO)).await;
            return Settled { tokens: 0, returned: true };
        };
        debug!(target: STEPS, "claimed");
        let (outcome, tokens) = match earlier {
            Ok(earlier) => {
                let attempt = Attempt::new(&self.shared, delivery, &claim, pause, earlier);
                attempt.answer(self.producer.as_ref()).await
            }
            Err(error) => {
                warn!(job = %delivery.job, %error, "failed to read what is stored of the job; it returns to the queue");
                (Outcome::Returned(retry_pause(delivery.attempt, &self.shared.settings)), 0)
            }
        };
        let is_settled = settle(delivery, outcome).await;
        claim.release().await;
        let is_over = is_settled && matches!(outcome, Outcome::Done | Outcome::Failed);
        if is_over && let Ok(Some(body)) = delivery.stored_body() {
            self.shared.bus.delete_body(&body).await;
        }
        Settled { tokens, returned: matches!(outcome, Outcome::Returned(_)) }
    }

    /// Claims a delivery. `None` if it belongs back into the queue, because another job must run alone.
    ///
    /// A job that was delivered before may have to run alone. It waits until that is known, and blames nobody meanwhile.
    async fn claim(&self, delivery: &Delivery, pause: CancellationToken) -> Option<Claim> {
        if delivery.attempt > 1 {
            return Some(self.reporter.claim(delivery.in_flight(), pause).await);
        }
        self.reporter.claim_together(delivery.in_flight(), pause).await
    }
}

/// Acknowledges a job whose output is complete, and returns an incomplete one to the queue. False if that failed.
async fn settle(delivery: &Delivery, outcome: Outcome) -> bool {
    let job = &delivery.job;
    if let Some(label) = outcome.label() {
        metrics::job_settled(label);
    }
    let settled = match outcome {
        Outcome::Done | Outcome::Failed | Outcome::GivenUp => delivery.ack().await,
        Outcome::Returned(Duration::ZERO) => delivery.nak().await,
        Outcome::Returned(pause) => delivery.nak_for(pause).await,
        Outcome::Fenced => {
            warn!(%job, "another worker has continued the job; this attempt ends without an acknowledgement");
            Ok(())
        }
    };
    if let Err(error) = &settled {
        warn!(%job, %error, "failed to settle the job; it is delivered again after its redelivery timeout");
    }
    settled.is_ok()
}
