//! Runs the jobs of a worker: claims a delivery, lets an attempt answer it, and settles it.

use std::{sync::Arc, time::Duration};

use rbee_nats::trace::STEPS;
use rbee_nats::{BusError, Delivery};
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
        let Some((claim, earlier)) = self.begin(delivery, pause.clone()).await else {
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
        let returned = matches!(outcome, Outcome::Returned(_));
        if returned {
            claim.release().await;
        } else {
            claim.forget().await;
        }
        let is_over = is_settled && matches!(outcome, Outcome::Done | Outcome::Failed);
        if is_over && let Ok(Some(body)) = delivery.stored_body() {
            self.shared.bus.delete_body(&body).await;
        }
        Settled { tokens, returned }
    }

    /// Claims a delivery, and reads what earlier attempts have left. `None` if the job belongs back into the queue, because
    /// another one must run alone.
    ///
    /// A job that was delivered before may have to run alone. It waits until that is known, and blames nobody meanwhile.
    async fn begin(&self, delivery: &Delivery, pause: CancellationToken) -> Option<(Claim, Result<Earlier, BusError>)> {
        let read = || Earlier::read(&self.shared, delivery);
        if delivery.attempt > 1 {
            // Both at once: what earlier attempts have left was written by workers, and can be read before the claim is known.
            return Some(tokio::join!(self.reporter.claim(delivery.in_flight(), pause), read()));
        }
        let claim = self.reporter.claim_together(delivery.in_flight(), delivery.sequence, pause).await?;
        let is_new = delivery.is_first && !claim.may_be_cancelled;
        let earlier = if is_new { Ok(Earlier::nothing(&self.shared, delivery).await) } else { read().await };
        Some((claim, earlier))
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
