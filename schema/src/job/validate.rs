//! Checks of a request that its types cannot express.

use super::JobRequest;
use crate::{Failure, FailureCode};

/// Maximum number of biased tokens of a request: each costs time for every generated token.
const MAX_BIASES: usize = 1024;

/// Maximum number of stop tokens of a request: each generated token is compared with all of them.
const MAX_STOP_TOKENS: usize = 64;

impl JobRequest {
    /// Checks what the types cannot express.
    ///
    /// # Errors
    /// `invalid-request`, with the field, the value found and the values allowed.
    pub fn check(&self) -> Result<(), Failure> {
        if self.messages.is_empty() {
            return Err(invalid(
                "messages is empty: send at least one, such as {\"role\":\"user\",\"content\":\"Hi\"}",
            ));
        }
        self.check_sampling()?;
        self.check_stop()?;
        self.check_output_format()?;
        self.check_tools()?;
        if self.n.is_some_and(|n| n != 1) {
            return Err(invalid(
                "n must be 1, because a job has one answer: submit the job again with another seed for another answer (the HTTP gateway does this)",
            ));
        }
        Ok(())
    }

    fn check_sampling(&self) -> Result<(), Failure> {
        check_range("temperature", self.temperature, 0.0, 2.0)?;
        check_range("top_p", self.top_p, f32::MIN_POSITIVE, 1.0)?;
        check_range("min_p", self.min_p, 0.0, 1.0)?;
        check_range("repetition_penalty", self.repetition_penalty, 0.1, 10.0)?;
        check_range("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        check_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        check_count("logit_bias", self.logit_bias.len(), MAX_BIASES, "tokens")?;
        for (token, bias) in &self.logit_bias {
            check_range(&format!("logit_bias.{token}"), Some(*bias), -100.0, 100.0)?;
        }
        match self.top_logprobs {
            Some(1..) if self.logprobs != Some(true) => {
                Err(invalid("top_logprobs needs logprobs: set logprobs to true"))
            }
            Some(count @ 21..) => Err(invalid(format!("top_logprobs is {count}: expected 0 to 20"))),
            _ => Ok(()),
        }
    }

    fn check_stop(&self) -> Result<(), Failure> {
        if self.max_tokens == Some(0) {
            return Err(invalid("max_tokens is 0: expected at least 1, or leave it out"));
        }
        if let (Some(least), Some(most)) = (self.min_tokens, self.max_tokens)
            && least > most
        {
            return Err(invalid(format!(
                "min_tokens is {least} and max_tokens {most}: expected min_tokens to be at most max_tokens"
            )));
        }
        check_count("stop", self.stop.len(), 4, "texts")?;
        check_count("stop_token_ids", self.stop_token_ids.len(), MAX_STOP_TOKENS, "tokens")?;
        if self.stop.iter().any(String::is_empty) {
            return Err(invalid("stop contains an empty text: leave it out"));
        }
        Ok(())
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(FailureCode::InvalidRequest, message)
}

pub(super) fn check_count(field: &str, count: usize, most: usize, what: &str) -> Result<(), Failure> {
    if count > most {
        return Err(invalid(format!("{field} has {count} {what}: at most {most} are allowed")));
    }
    Ok(())
}

fn check_range(field: &str, value: Option<f32>, low: f32, high: f32) -> Result<(), Failure> {
    match value {
        Some(value) if !(low..=high).contains(&value) => {
            let low = if low == f32::MIN_POSITIVE { "more than 0".to_owned() } else { format!("{low}") };
            Err(invalid(format!("{field} is {value}: expected {low} to {high}")))
        }
        _ => Ok(()),
    }
}
