//! Facts about a job as sentences.

use std::time::{Duration, SystemTime};

use rbee_schema::{HiveName, JobEvent, QueenEvent, SubmittedJob, WorkerEvent, WorkerName};

use super::tell::{self, seconds};
use crate::decide::plural::plural;

/// Wait of a job that needs no reason: a free slot takes a job within milliseconds.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// Stored fact about a job, or about the workers that it waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The server stored the job.
    Queued(SubmittedJob),
    /// A client requested the cancellation of the job.
    CancelRequested,
    /// Event of the job.
    Job(JobEvent),
    /// Event of a queen about the model of the job.
    Queen(QueenEvent),
    /// Event of a worker of the model.
    Worker(HiveName, WorkerName, WorkerEvent),
}

/// Step of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Time of the fact.
    pub at: SystemTime,
    /// Name of the event.
    pub event: &'static str,
    /// The fact as a sentence.
    pub text: String,
}

/// Steps of a story, oldest first. Facts that tell nothing about the job are left out.
pub fn steps(mut facts: Vec<(SystemTime, Fact)>) -> Vec<Step> {
    facts.sort_by_key(|(at, fact)| (*at, order(fact)));
    let mut steps = Vec::new();
    for (number, (at, fact)) in facts.iter().enumerate() {
        let (earlier, later) = (&facts[..number], &facts[number + 1..]);
        if is_outdated(fact, later) {
            continue;
        }
        let told = match fact {
            Fact::Job(JobEvent::Started { hive, worker, attempt, index, .. }) => {
                Some(("started", started((hive, worker), (*attempt, *index), wait(earlier, worker, *at).as_deref())))
            }
            other => tell(other),
        };
        steps.extend(told.map(|(event, text)| Step { at: *at, event, text }));
    }
    steps
}

/// Order of facts of the same time.
fn order(fact: &Fact) -> u8 {
    match fact {
        Fact::Queued(_) => 0,
        Fact::Queen(_) => 1,
        Fact::Worker(..) => 2,
        Fact::CancelRequested => 3,
        Fact::Job(_) => 4,
    }
}

/// True for the progress of a load of which a later fact says more.
fn is_outdated(fact: &Fact, later: &[(SystemTime, Fact)]) -> bool {
    let Fact::Worker(_, worker, WorkerEvent::Loading { .. }) = fact else { return false };
    later.iter().any(|(_, later)| matches!(later, Fact::Worker(_, other, _) if other == worker))
}

/// The wait of the job until its first worker, with the reason if no other step gives it.
fn wait(earlier: &[(SystemTime, Fact)], worker: &WorkerName, now: SystemTime) -> Option<String> {
    let is_first = !earlier.iter().any(|(_, fact)| matches!(fact, Fact::Job(JobEvent::Started { .. })));
    let queued = earlier.iter().find_map(|(at, fact)| matches!(fact, Fact::Queued(_)).then_some(*at));
    let waited = now.duration_since(queued.filter(|_| is_first)?).ok()?;
    let was_starting = earlier.iter().any(|(_, fact)| {
        matches!(fact, Fact::Worker(_, other, WorkerEvent::Ready { .. } | WorkerEvent::Spawned { .. }) if other == worker)
    });
    let why = if waited < SHORT_WAIT || was_starting { "" } else { "; it waited for a free slot" };
    Some(format!("{} after it was queued{why}", seconds(waited)))
}

fn started((hive, worker): (&HiveName, &WorkerName), (attempt, index): (u64, u32), wait: Option<&str>) -> String {
    let wait = wait.map(|wait| format!(", {wait}")).unwrap_or_default();
    match (attempt, index) {
        (1, _) => format!("worker {worker} on {hive} began the answer{wait}"),
        (attempt, 0) => {
            format!("worker {worker} on {hive} began the answer again from its start (attempt {attempt}){wait}")
        }
        (attempt, index) => {
            format!("worker {worker} on {hive} resumed the answer at index {index} (attempt {attempt}){wait}")
        }
    }
}

fn tell(fact: &Fact) -> Option<(&'static str, String)> {
    match fact {
        Fact::Queued(SubmittedJob { model, class, bytes, .. }) => {
            Some(("queued", format!("queued as {class} job of {model} ({})", plural(*bytes, "byte"))))
        }
        Fact::CancelRequested => Some(("cancel-requested", "a client requested its cancellation".to_owned())),
        Fact::Job(event) => tell::job(event).map(|text| (event.name(), text)),
        Fact::Queen(event) => tell::queen(event).map(|text| (event.name(), text)),
        Fact::Worker(hive, worker, event) => tell::worker(hive, worker, event).map(|text| (event.name(), text)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use rbee_schema::{Failure, FailureCode, JobClass};

    use super::*;
    use crate::decide::fixture::name;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn queued() -> Fact {
        let (class, queued) = (JobClass::Interactive, "1970-01-01T00:00:00.000Z".to_owned());
        Fact::Queued(SubmittedJob { model: name("m"), class, bytes: 70, queued })
    }

    fn begun(worker: &str, attempt: u64, index: u32) -> Fact {
        Fact::Job(JobEvent::Started { hive: name("h"), worker: name(worker), attempt, index, submitted: None })
    }

    fn worker(event: WorkerEvent) -> Fact {
        Fact::Worker(name("h"), name("w"), event)
    }

    fn loading(percent: u8) -> Fact {
        let (done_bytes, total_bytes) = (u64::from(percent), 100);
        worker(WorkerEvent::Loading { epoch: 1, percent, done_bytes, total_bytes, memory: None })
    }

    fn ready() -> Fact {
        worker(WorkerEvent::Ready { model: name("m"), epoch: 1, slots: 1, context: 1, load_ms: 2500 })
    }

    fn told(facts: Vec<(SystemTime, Fact)>) -> Vec<String> {
        steps(facts).into_iter().map(|step| step.text).collect()
    }

    #[test]
    fn steps_are_in_order_and_progress_is_told_once() {
        let placed = QueenEvent::Placed {
            model: name("m"),
            hive: name("h"),
            worker: name("w"),
            why: "it is free".to_owned(),
            expected_ms: None,
        };
        let facts = vec![
            (at(6), begun("w", 1, 0)),
            (at(1), queued()),
            (at(2), Fact::Queen(placed)),
            (at(3), loading(10)),
            (at(4), loading(90)),
            (at(5), ready()),
        ];
        assert_eq!(
            told(facts),
            [
                "queued as interactive job of m (70 bytes)",
                "worker w of m was placed on h: it is free",
                "worker w on h is ready after 2.5 s",
                "worker w on h began the answer, 5.0 s after it was queued",
            ]
        );
        assert_eq!(told(vec![(at(3), loading(10)), (at(4), loading(90))]), ["worker w on h is loading: 90 %"]);
    }

    #[test]
    fn wait_without_a_start_was_for_a_free_slot() {
        let wait =
            |seconds: u64| told(vec![(at(1), queued()), (at(1 + seconds), begun("w", 1, 0))]).pop().expect("a step");
        assert!(wait(30).ends_with("30.0 s after it was queued; it waited for a free slot"), "{}", wait(30));
        assert!(wait(0).ends_with("0 ms after it was queued"), "{}", wait(0));
    }

    #[test]
    fn interruptions_and_ends_are_told() {
        let failed = |code, text: &str| {
            Fact::Job(JobEvent::Failed { failure: Failure::new(code, text), usage: None, submitted: None })
        };
        let returned = Fact::Job(JobEvent::Returned { hive: name("h"), worker: name("w") });
        let facts = vec![
            (at(2), returned),
            (at(3), begun("v", 2, 17)),
            (at(4), Fact::CancelRequested),
            (at(5), failed(FailureCode::Cancelled, "the job was cancelled while it ran")),
            (at(6), failed(FailureCode::DuplicateJob, "used before")),
        ];
        assert_eq!(
            told(facts),
            [
                "it returned to the queue, because worker w on h had ended",
                "worker v on h resumed the answer at index 17 (attempt 2)",
                "a client requested its cancellation",
                "the job was cancelled while it ran (cancelled)",
                "another job with this id was refused",
            ]
        );
    }
}
