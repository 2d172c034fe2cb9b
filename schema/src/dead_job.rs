//! Dead letters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ExitClass, Failure, JobBlame, JobId, JobRun, SubmittedJob, Tenant};

/// Dead letter: a job that was given up, in the stream `dead` under `rbee.dead.<model>.<tenant>.<job>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadJob {
    /// Tenant that owns the job.
    pub tenant: Tenant,
    /// Id of the job.
    pub job: JobId,
    /// The job as it was queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted: Option<SubmittedJob>,
    /// Tokens of the rendered prompt, or of all inputs. Absent if no worker came so far as to count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u32>,
    /// Number of attempts, with the one that gave the job up.
    pub attempts: u64,
    /// The last runs of the job, oldest first. The attempt that gave the job up did not run it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<JobRun>,
    /// Reason for giving the job up.
    pub failure: Failure,
    /// End of the last worker for which the job was blamed, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<WorkerExit>,
    /// The ends of workers for which the job was blamed, if it was. The last lines of the worker are in `exit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blame: Option<JobBlame>,
    /// Body of the job. Empty in lists, if it is stored apart, and in the stream if the letter would be too large for a message
    /// with it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Object in the bucket `bodies` that holds the body, if it is larger than a message. It is kept for as long as the dead
    /// letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_object: Option<String>,
}

/// End of a worker's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerExit {
    /// Class of the exit.
    pub class: ExitClass,
    /// Exit code, if the process exited by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Number of the signal that ended the process, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// True if the process ran out of memory.
    pub oom: bool,
    /// Last lines of the worker's standard error, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stderr_tail: Vec<String>,
}

impl WorkerExit {
    /// The exit that a blame describes, without its last lines.
    pub fn of_blame(JobBlame { class, code, signal, .. }: &JobBlame) -> Self {
        let oom = *class == ExitClass::Oom;
        Self { class: *class, code: *code, signal: *signal, oom, stderr_tail: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_of_a_blame_says_whether_memory_ran_out() {
        let blame = |class| JobBlame {
            hive: "h".parse().expect("a name"),
            worker: "w".parse().expect("a name"),
            class,
            code: None,
            signal: Some(9),
            company: 0,
            alone: 1,
            together: 0,
            last_chunk: 0,
            stderr_tail: vec!["last line".to_owned()],
        };
        let exit = WorkerExit::of_blame(&blame(ExitClass::Oom));
        assert_eq!((exit.oom, exit.signal, exit.code), (true, Some(9), None));
        assert!(!WorkerExit::of_blame(&blame(ExitClass::Signal)).oom);
    }
}
