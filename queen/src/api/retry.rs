//! Retry of dead letters.

use std::collections::BTreeSet;

use rbee_nats::{Bus, JobFinder, no_dead_letter};
use rbee_schema::{
    Failure, FailureCode, ModelName,
    api::{Retry, RetryReply},
};

use crate::inference::unknown_model;

/// Submits a dead letter again, if its model is declared: a job for another model would be refused, and the letter be gone.
pub(super) async fn retry(
    bus: &Bus,
    finder: &JobFinder,
    declared: &BTreeSet<ModelName>,
    Retry { tenant, job }: Retry,
) -> Result<RetryReply, Failure> {
    let letter = bus.dead_letter(&tenant, &job).await;
    let letter = letter.map_err(|error| Failure::new(FailureCode::TimedOut, error.to_string()))?;
    let letter = letter.ok_or_else(|| no_dead_letter(&tenant, &job))?;
    if !declared.contains(&letter.model) {
        return Err(unknown_model(letter.model.as_str(), declared.iter().map(ModelName::as_str)));
    }
    let retried_as = bus.retry(finder, &letter).await?;
    Ok(RetryReply { tenant, job, retried_as })
}
