//! The story of a job as text.

use std::time::Duration;

use rbee_schema::{
    DeadJob, Tenant,
    api::{JobStory, JobTimings, JobWait},
};

use crate::output::{bytes, describe_exit, say, seconds};

/// Prints a story.
pub(crate) fn print(story: &JobStory) {
    for line in lines(story) {
        say!("{line}");
    }
}

fn lines(story: &JobStory) -> Vec<String> {
    let JobStory { tenant, job, state, waiting, timings, failure, dead, retried_as, retry_of, steps, missing, .. } =
        story;
    let of_tenant = if *tenant == Tenant::default() { String::new() } else { format!(" of tenant {tenant}") };
    let end = failure.as_ref().map(|failure| format!(": {failure}")).unwrap_or_default();
    let mut lines = vec![format!("job {job}{of_tenant} is {}{end}", state.as_str())];
    lines.extend(waiting.as_ref().map(wait));
    lines.extend(times(timings));
    lines.extend(retry_of.as_ref().map(|job| format!("it is the retry of job {job}")));
    lines.extend(retried_as.as_ref().map(|job| format!("it was submitted again as job {job}")));
    lines.push(String::new());
    lines.extend(steps.iter().map(|step| format!("{}  {}", clock(&step.at), step.text)));
    lines.extend(missing.iter().map(|missing| format!("(not shown: {missing})")));
    lines.extend(dead.iter().flat_map(|dead| letter(dead)));
    lines
}

fn wait(JobWait { why, position }: &JobWait) -> String {
    let mut line = format!("it waits: {why}");
    if let Some(position) = position {
        line += &format!("; {} of its tenant and class wait before it", count(position.ahead, "job"));
        if let Some(expected) = position.expected_wait_ms {
            line += &format!("; it starts in about {}", seconds(Duration::from_millis(expected)));
        }
    }
    line
}

fn times(timings: &JobTimings) -> Option<String> {
    let JobTimings { wait_ms, first_output_ms, total_ms, prompt_tokens, answered, per_second } = *timings;
    let duration = |label: &str, millis: Option<u64>| {
        millis.map(|millis| format!("{label} {}", seconds(Duration::from_millis(millis))))
    };
    let tokens = |label: &str, tokens: Option<u32>| tokens.map(|tokens| format!("{label} {tokens}"));
    let parts = [
        duration("wait", wait_ms),
        duration("first output after", first_output_ms),
        duration("total", total_ms),
        tokens("tokens of the prompt:", prompt_tokens),
        tokens("of the answer:", answered),
        per_second.map(|rate| format!("{rate} per second")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn letter(dead: &DeadJob) -> Vec<String> {
    let DeadJob { tenant, job, submitted, attempts, exit, .. } = dead;
    let size =
        submitted.as_ref().map(|submitted| format!(", request of {}", bytes(submitted.bytes))).unwrap_or_default();
    let end = exit.as_ref().map(|exit| format!(", last worker: {}", describe_exit(exit))).unwrap_or_default();
    let mut lines = vec![String::new(), format!("dead letter: {}{end}{size}", count(*attempts, "attempt"))];
    let tail = exit.iter().flat_map(|exit| &exit.stderr_tail);
    lines.extend(tail.map(|line| format!("    {line}")));
    let of_tenant = if *tenant == Tenant::default() { String::new() } else { format!(" --tenant {tenant}") };
    lines.push(format!("`rbee retry {job}{of_tenant}` submits it again"));
    lines
}

fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Date and time of a timestamp, with milliseconds: `2026-01-31 12:00:00.123`.
fn clock(rfc3339: &str) -> String {
    rfc3339.trim_end_matches('Z').replace('T', " ")
}

#[cfg(test)]
mod tests {
    use rbee_schema::{
        Failure, FailureCode,
        api::{JobState, JobStep, QueuePosition},
    };

    use super::*;

    fn story() -> JobStory {
        let step = |at: &str, text: &str| JobStep {
            at: format!("2026-01-31T12:00:{at}Z"),
            event: String::new(),
            text: text.to_owned(),
        };
        JobStory {
            tenant: Tenant::default(),
            job: "a".parse().expect("a name"),
            state: JobState::Finished,
            submitted: None,
            waiting: None,
            runs: Vec::new(),
            timings: JobTimings::default(),
            failure: None,
            dead: None,
            retried_as: None,
            retry_of: None,
            steps: vec![step("00.001", "queued"), step("01.500", "began")],
            missing: Vec::new(),
        }
    }

    #[test]
    fn finished_job_has_its_times_and_steps() {
        let timings = JobTimings {
            wait_ms: Some(20),
            first_output_ms: Some(1500),
            total_ms: Some(4000),
            prompt_tokens: Some(9),
            answered: Some(40),
            per_second: Some(16.0),
        };
        assert_eq!(
            lines(&JobStory { timings, ..story() }),
            [
                "job a is finished",
                "wait 20 ms, first output after 1.5 s, total 4.0 s, tokens of the prompt: 9, of the answer: 40, 16 per second",
                "",
                "2026-01-31 12:00:00.001  queued",
                "2026-01-31 12:00:01.500  began",
            ]
        );
    }

    #[test]
    fn waiting_job_has_its_reason_and_place() {
        let position = Some(QueuePosition { ahead: 1, expected_wait_ms: Some(90_000) });
        let waiting = Some(JobWait { why: "all 2 slots of m are busy".to_owned(), position });
        let (tenant, state) = ("acme".parse().expect("a name"), JobState::Queued);
        let lines = lines(&JobStory { tenant, state, waiting, ..story() });
        assert_eq!(lines[0], "job a of tenant acme is queued");
        let expected = "it waits: all 2 slots of m are busy; 1 job of its tenant and class wait before it; it starts in about 90.0 s";
        assert_eq!(lines[1], expected);
    }

    #[test]
    fn dead_letter_has_the_last_lines_of_the_worker() {
        let failure = Failure::new(FailureCode::TriedTooOften, "two workers ended");
        let dead = serde_json::json!({
            "tenant": "default", "job": "a", "attempts": 3, "failure": failure,
            "exit": { "class": "signal", "signal": 6, "oom": false, "stderr_tail": ["one", "two"] },
        });
        let dead = Some(Box::new(serde_json::from_value(dead).expect("a dead letter")));
        let lines = lines(&JobStory { failure: Some(failure), dead, ..story() });
        assert_eq!(lines[0], "job a is finished: two workers ended (tried-too-often)");
        let end = lines[lines.len() - 4..].to_vec();
        let expected =
            ["dead letter: 3 attempts, last worker: signal 6", "    one", "    two", "`rbee retry a` submits it again"];
        assert_eq!(end, expected);
    }
}
