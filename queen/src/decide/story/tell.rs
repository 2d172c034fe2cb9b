//! Events as sentences.

use std::time::Duration;

use rbee_schema::{
    ExitClass, FailureCode, FinishReason, HiveName, JobBlame, JobEvent, QueenEvent, Usage, WorkerEvent, WorkerName,
};

use crate::decide::plural::plural;

/// Duration from which on a fraction of a second matters no more than its tenths.
const SECOND: Duration = Duration::from_secs(1);

/// An event of a job. `None` for `started`, which needs the time when the job was queued.
pub(in crate::decide) fn job(event: &JobEvent) -> Option<String> {
    Some(match event {
        JobEvent::Started { .. } => return None,
        JobEvent::Paused { hive, worker, index, why } => {
            format!("worker {worker} on {hive} paused it at index {index} and returned it to the queue: {why}")
        }
        JobEvent::Returned { hive, worker } => {
            format!("it returned to the queue, because worker {worker} on {hive} had ended")
        }
        JobEvent::Blamed(blame) => blamed(blame),
        JobEvent::Finished { finish_reason, usage: Usage { prompt_tokens, completion_tokens, .. }, .. } => format!(
            "the answer is complete ({}): {} of the prompt, {} of the answer",
            finish(*finish_reason),
            plural(u64::from(*prompt_tokens), "token"),
            plural(u64::from(*completion_tokens), "token")
        ),
        JobEvent::Failed { failure, .. } if failure.code == FailureCode::DuplicateJob => {
            "another job with this id was refused".to_owned()
        }
        JobEvent::Failed { failure, .. } => failure.to_string(),
        JobEvent::Retried { retried_as } => format!("submitted again as job {retried_as}"),
        JobEvent::Resubmitted { retry_of } => format!("submitted in place of job {retry_of}, which was given up"),
    })
}

fn blamed(JobBlame { hive, worker, class, code, signal, company, .. }: &JobBlame) -> String {
    let how = exit(*class, *code, *signal);
    let company = match company {
        0 => "alone".to_owned(),
        others => format!("beside {}", plural(u64::from(*others), "other job")),
    };
    format!("worker {worker} on {hive} ended ({how}) while it ran the job {company}")
}

/// Manner in which a process ended, such as `signal, signal 6`.
fn exit(class: ExitClass, code: Option<i32>, signal: Option<i32>) -> String {
    match (code, signal) {
        (_, Some(signal)) => format!("{class}, signal {signal}"),
        (Some(code), None) => format!("{class}, exit code {code}"),
        (None, None) => class.to_string(),
    }
}

fn finish(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool calls",
        FinishReason::Deadline => "deadline",
    }
}

/// A decision of a queen about a new worker. `None` for other events.
pub(in crate::decide) fn queen(event: &QueenEvent) -> Option<String> {
    match event {
        QueenEvent::Placed { model, hive, worker, why, .. } => {
            Some(format!("worker {worker} of {model} was placed on {hive}: {why}"))
        }
        QueenEvent::Unplaceable { model, failure } => {
            Some(format!("a worker of {model} could not be placed: {failure}"))
        }
        _ => None,
    }
}

/// An event of a worker. `None` for events that change nothing for jobs.
pub(in crate::decide) fn worker(hive: &HiveName, worker: &WorkerName, event: &WorkerEvent) -> Option<String> {
    let name = format!("worker {worker} on {hive}");
    Some(match event {
        WorkerEvent::Spawned { .. } => format!("{name} was started"),
        WorkerEvent::Loading { percent, .. } => format!("{name} is loading: {percent} %"),
        WorkerEvent::Ready { load_ms, .. } => {
            format!("{name} is ready after {}", seconds(Duration::from_millis(*load_ms)))
        }
        WorkerEvent::Suspect { why, .. } => format!("{name} is suspect: {why}"),
        WorkerEvent::Draining { why } => format!("{name} is draining: {why}"),
        WorkerEvent::Stopping { why } => format!("{name} is stopping: {why}"),
        WorkerEvent::Exited { class, why, .. } => format!("{name} exited ({class}): {why}"),
        WorkerEvent::Restarting { delay_ms, why, .. } => {
            format!("{name} is started again in {}: {why}", seconds(Duration::from_millis(*delay_ms)))
        }
        WorkerEvent::CrashLooped { failure, .. } => format!("{name} is in a crash loop: {failure}"),
        WorkerEvent::Failed { failure, .. } => format!("{name} failed: {failure}"),
        WorkerEvent::Adopted { .. }
        | WorkerEvent::Recovered { .. }
        | WorkerEvent::Unkillable { .. }
        | WorkerEvent::Removed { .. }
        | WorkerEvent::Ignored { .. } => return None,
    })
}

/// A duration for people: `20 ms`, `1.5 s`.
pub(super) fn seconds(duration: Duration) -> String {
    if duration < SECOND { format!("{} ms", duration.as_millis()) } else { format!("{:.1} s", duration.as_secs_f64()) }
}
