//! Dead letters: what they hold, how they are listed, and their retry.

use rbee_nats::{DeadLetter, OutputReader};
use rbee_schema::{
    Chunk, ExitClass, FailureCode, JobClass, JobId, ModelReference, RunEnd, Tenant, WorkerExit,
    api::{Job, JobList, JobStory, JobStoryRequest, Jobs, JobsRequest, RetryReply},
};
use rbee_tests::{
    fleet::{Fleet, chat, whole},
    wait::{PATIENCE, eventually},
};

/// A fleet whose workers are started again quickly, with one worker of model `m`.
async fn fleet_of(options: &str) -> Fleet {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    let mut hive = fleet.hive_one("first_backoff=50ms,backoff=100ms,backoff_most=200ms");
    hive.arguments = ["--worker-settings", "probation=200ms"].map(str::to_owned).to_vec();
    fleet.start_hive(&hive).await;
    fleet.serve_mock("m", options, 1, 1).await;
    fleet.ready(1).await;
    fleet
}

/// Submits a job that ends its workers, and waits until it is given up.
async fn given_up(fleet: &Fleet, content: &str) -> JobId {
    let (job, mut output) = fleet.submit("m", chat(content)).await;
    let chunks = whole(&mut output).await;
    let is_given_up = matches!(chunks.last(), Some(Chunk::Error { error }) if error.code == FailureCode::TriedTooOften);
    assert!(is_given_up, "{chunks:?}");
    job
}

async fn letter(fleet: &Fleet, job: &JobId) -> Option<DeadLetter> {
    fleet.bus.dead_letter(&Tenant::default(), job).await.expect("the server answers")
}

async fn story(fleet: &Fleet, job: &JobId) -> JobStory {
    let request = JobStoryRequest { tenant: Tenant::default(), job: job.clone() };
    fleet.bus.request("job", &request).await.expect("the queen answers")
}

async fn output(fleet: &Fleet, job: &JobId) -> OutputReader {
    fleet.bus.read_output(&Tenant::default(), job).await.expect("the server answers")
}

/// Runs a verb that succeeds, and returns what it prints.
async fn prints(fleet: &Fleet, arguments: &[&str]) -> String {
    let output = fleet.rbee(arguments).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Declares model `m` anew, and waits until its worker runs like that.
async fn repair(fleet: &Fleet, options: &str) {
    fleet.serve_mock("m", options, 1, 1).await;
    let reference = ModelReference::Mock(options.to_owned());
    eventually("only a new worker is ready", PATIENCE, async || {
        let workers = fleet.workers().await;
        !workers.is_empty()
            && workers.iter().all(|worker| {
                let is_new = worker.record.spec.as_ref().is_some_and(|spec| spec.reference == reference);
                is_new && worker.record.phase == rbee_schema::WorkerPhase::Ready
            })
    })
    .await;
}

#[tokio::test]
async fn dead_letter_tells_how_the_workers_of_a_job_ended() {
    let fleet = fleet_of("tokens=9").await;
    let content = "mock: poison=2 interval=20ms";
    let job = given_up(&fleet, content).await;
    let DeadLetter { model, dead, .. } = letter(&fleet, &job).await.expect("it is stored");
    let submitted = dead.submitted.clone().expect("it was queued");
    assert_eq!((model.as_str(), submitted.model.as_str(), submitted.class), ("m", "m", JobClass::Interactive));
    assert_eq!((submitted.bytes, dead.body.clone()), (dead.body.len() as u64, chat(content).to_string()));
    assert!(dead.prompt_tokens.is_some_and(|tokens| tokens > 0) && dead.attempts == 3, "{dead:?}");
    let runs: Vec<_> = dead.runs.iter().map(|run| (run.hive.as_str(), run.end)).collect();
    assert_eq!(runs, [("one", Some(RunEnd::Blamed)); 2], "{dead:?}");
    let worker = &fleet.workers().await[0].name;
    assert!(dead.runs.iter().all(|run| run.worker == *worker), "{dead:?}");
    let exit = dead.exit.as_ref().expect("the hive knows the exit");
    let WorkerExit { class, code, signal, oom, stderr_tail } = exit;
    assert_eq!((*class, *code, *signal, *oom), (ExitClass::Signal, None, Some(6), false));
    assert!(stderr_tail.iter().any(|line| line.contains("received a job")), "{stderr_tail:?}");
    assert_eq!(dead.blame.map(|blame| (blame.alone, blame.stderr_tail.len())), Some((2, 0)));

    let request = JobsRequest { list: JobList::Dead, ..JobsRequest::default() };
    let listed: Jobs = fleet.bus.request("jobs", &request).await.expect("the queen answers");
    let [Job { job: listed, dead: Some(letter), .. }] = &listed.jobs[..] else { panic!("{listed:?}") };
    assert_eq!((listed, &letter.exit, letter.body.as_str()), (&job, &dead.exit, ""));
    let table = prints(&fleet, &["jobs", "--dead", "--model", "m"]).await;
    assert!(table.contains(job.as_str()) && table.contains("signal 6") && table.contains("tried-too-often"), "{table}");
    let table = prints(&fleet, &["jobs", "--dead", "--tenant", "acme"]).await;
    assert!(!table.contains(job.as_str()), "{table}");
    let explained = prints(&fleet, &["explain", job.as_str()]).await;
    for part in ["dead letter: 3 attempts, last worker: signal 6", "received a job", "submits it again", "while it ran"]
    {
        assert!(explained.contains(part), "{part}: {explained}");
    }
}

#[tokio::test]
async fn job_that_crashes_before_its_first_token_has_its_runs_listed() {
    let fleet = fleet_of("").await;
    let job = given_up(&fleet, "mock: prepare-crash").await;
    let DeadLetter { dead, .. } = letter(&fleet, &job).await.expect("it is stored");
    let runs: Vec<_> = dead.runs.iter().map(|run| (run.attempt, run.end)).collect();
    assert_eq!(runs, [(None, Some(RunEnd::Blamed)); 2], "{dead:?}");
    assert_eq!(dead.prompt_tokens, None);
}

#[tokio::test]
async fn retried_dead_letter_is_a_new_job_and_leaves_the_list() {
    let fleet = fleet_of("poison=1").await;
    let job = given_up(&fleet, "Hi").await;
    repair(&fleet, "tokens=3").await;
    let printed = prints(&fleet, &["retry", job.as_str(), "--json"]).await;
    let RetryReply { retried_as, .. } = serde_json::from_str(&printed).expect("a reply");
    let chunks = whole(&mut output(&fleet, &retried_as).await).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}");
    assert_eq!(letter(&fleet, &job).await, None);
    let again = fleet.rbee(&["retry", job.as_str()]).await;
    let error = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.code() == Some(1) && error.contains("there is no dead letter"), "{error}");
    let (old, new) = (story(&fleet, &job).await, story(&fleet, &retried_as).await);
    assert_eq!((old.retried_as, new.retry_of), (Some(retried_as), Some(job)));
    assert_eq!((old.failure.map(|failure| failure.code), new.failure), (Some(FailureCode::TriedTooOften), None));
}

#[tokio::test]
async fn dead_letters_of_a_model_are_retried_one_by_one_or_all_at_once() {
    let fleet = fleet_of("poison=1").await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(given_up(&fleet, "Hi").await);
    }
    let rest = async || {
        let request = JobsRequest { list: JobList::Dead, ..JobsRequest::default() };
        let listed: Jobs = fleet.bus.request("jobs", &request).await.expect("the queen answers");
        listed.jobs.into_iter().map(|job| job.job).collect::<Vec<_>>()
    };
    fleet.rbee(&["remove", "m"]).await;
    eventually("the queen knows no model", PATIENCE, async || {
        fleet.status().await.is_some_and(|status| status.models == 0)
    })
    .await;
    let refused = fleet.rbee(&["retry", "--model", "m", "--all"]).await;
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && error.contains("unknown-model"), "{error}");
    assert_eq!(rest().await, jobs, "the letters are kept");

    repair(&fleet, "tokens=3").await;
    let printed = prints(&fleet, &["retry", "--model", "m"]).await;
    assert!(printed.contains(&format!("job {} is submitted again as", jobs[0])), "{printed}");
    assert_eq!(rest().await, jobs[1..]);
    let printed = prints(&fleet, &["retry", "--model", "m", "--all", "--tenant", "acme"]).await;
    assert!(printed.contains("no such dead letter"), "{printed}");
    let printed = prints(&fleet, &["retry", "--model", "m", "--all", "--json"]).await;
    let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    let retried: Vec<RetryReply> = serde_json::from_value(printed["retried"].clone()).expect("replies");
    assert!(retried.iter().map(|reply| &reply.job).eq(&jobs[1..]) && rest().await.is_empty(), "{retried:?}");
    for RetryReply { retried_as, .. } in retried {
        let chunks = whole(&mut output(&fleet, &retried_as).await).await;
        assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}");
    }
}
