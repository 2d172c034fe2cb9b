//! Batches: files of requests that the leading queen runs line by line, in the format of OpenAI's batch API.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Failure, ModelName, Tenant};

/// Document of a batch in the bucket `batches`. Its key is the id of the batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BatchRecord {
    /// Tenant that owns the batch and its jobs.
    pub tenant: Tenant,
    /// Model of the requests that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// Object in the bucket `batches` with the requests, one JSON document in each line.
    pub input: String,
    /// Object in the bucket `batches` with the answers, in the order of the requests. It exists when the batch has ended.
    pub output: String,
    /// Number of this run, which no other run has. The job of line 7 of run `r` has the id `r-7`.
    pub run: String,
    /// State of the batch.
    pub state: BatchState,
    /// True if the batch is to be cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// Number of requests and answers.
    #[serde(default)]
    pub counts: BatchCounts,
    /// Reason why the batch has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// State of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BatchState {
    /// The requests are not counted yet.
    Validating,
    /// Requests are being answered.
    Running,
    /// Every request has an answer or an error.
    Finished,
    /// The batch was cancelled. Requests behind the last answer are not answered.
    Cancelled,
    /// The batch could not be run.
    Failed,
}

impl BatchState {
    /// True if the state is the last one.
    pub fn is_final(self) -> bool {
        match self {
            Self::Validating | Self::Running => false,
            Self::Finished | Self::Cancelled | Self::Failed => true,
        }
    }

    /// State as it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// Numbers of requests of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BatchCounts {
    /// All requests.
    pub total: u64,
    /// Requests with an answer.
    pub completed: u64,
    /// Requests with an error.
    pub failed: u64,
}

impl BatchCounts {
    /// Requests with an answer or an error.
    pub fn done(self) -> u64 {
        self.completed + self.failed
    }
}
