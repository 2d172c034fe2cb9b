//! The story of a job: why it waited, where it ran, how it ended; and the places of waiting jobs in the queue.

use futures::future::join_all;
use rbee_schema::{
    Chunk, Failure, FailureCode, JobId, JobRun, ModelReference, ModelSpec, Replicas, RunEnd, Tenant,
    api::{Cancel, CancelReply, Job, JobState, JobStory, JobStoryRequest, Jobs, JobsRequest, QueuePosition},
};
use rbee_tests::{
    fleet::{Fleet, chat, tokens, whole},
    wait::{PATIENCE, eventually},
};

async fn story(fleet: &Fleet, job: &JobId) -> Result<JobStory, Failure> {
    let request = JobStoryRequest { tenant: Tenant::default(), job: job.clone() };
    fleet.bus.request("job", &request).await
}

/// The story of a job that has ended, once its last event is stored.
async fn told(fleet: &Fleet, job: &JobId) -> JobStory {
    let mut found = None;
    eventually("the last event of the job is stored", PATIENCE, async || {
        found = story(fleet, job).await.ok();
        let has_end = |step: &rbee_schema::api::JobStep| step.event == "finished" || step.event == "failed";
        found.as_ref().is_some_and(|story| story.steps.iter().any(has_end))
    })
    .await;
    found.expect("it was found")
}

fn events(story: &JobStory) -> Vec<&str> {
    story.steps.iter().map(|step| step.event.as_str()).collect()
}

/// True if `expected` are steps of the story in this order, among others.
fn has_in_order(story: &JobStory, expected: &[&str]) -> bool {
    let mut found = events(story).into_iter();
    expected.iter().all(|expected| found.any(|event| event == *expected))
}

async fn text(fleet: &Fleet, arguments: &[&str]) -> String {
    let output = fleet.rbee(arguments).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn story_tells_of_the_wait_the_kill_the_resumption_and_the_end() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "tokens=40,interval=50ms", 0, 1).await;
    fleet.declared(&["m"]).await;
    let (job, mut output) = fleet.submit("m", chat("Hi")).await;
    let mut waiting = None;
    eventually("the story says why the job waits", PATIENCE, async || {
        let story = story(&fleet, &job).await.expect("it is queued");
        waiting = story.waiting.clone();
        story.state == JobState::Queued && has_in_order(&story, &["queued", "unplaceable"])
    })
    .await;
    let waiting = waiting.expect("it waits");
    assert!(waiting.why.contains("no worker of m runs") && waiting.why.contains("no hive"), "{waiting:?}");
    assert_eq!(waiting.position, Some(QueuePosition { ahead: 0, expected_wait_ms: None }));

    fleet.start_hive(&fleet.hive_one("first_backoff=50ms,backoff=100ms,backoff_most=200ms")).await;
    while !matches!(output.next(PATIENCE).await, Ok(Some(committed)) if committed.chunk.count() > 0) {}
    let worker = fleet.ready(1).await.remove(0);
    fleet.kill(&worker);
    let chunks = whole(&mut output).await;
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "{chunks:?}");

    let story = told(&fleet, &job).await;
    let expected = ["queued", "unplaceable", "placed", "spawned", "ready", "started", "exited", "started", "finished"];
    assert!(has_in_order(&story, &expected), "{:?}", events(&story));
    assert!(events(&story).contains(&"returned"), "{:?}", events(&story));
    let ends: Vec<_> = story.runs.iter().map(|run| (run.worker == worker.name, run.attempt, run.end)).collect();
    assert_eq!(ends, [(true, Some(1), Some(RunEnd::Lost)), (true, Some(2), Some(RunEnd::Finished))]);
    let [_, JobRun { index: Some(index), .. }] = &story.runs[..] else { panic!("{story:?}") };
    let resumed =
        chunks.iter().find_map(|chunk| if let Chunk::Resumed { index, .. } = chunk { Some(*index) } else { None });
    assert_eq!((Some(*index), story.state, story.failure.clone()), (resumed, JobState::Finished, None));
    let timings = story.timings;
    assert_eq!((timings.answered, timings.prompt_tokens.is_some()), (Some(40), true), "{timings:?}");
    assert!(tokens(&chunks).len() < 40, "the first ones were read before");
    let (wait, first, total) = (timings.wait_ms, timings.first_output_ms, timings.total_ms);
    assert!(wait.is_some() && wait <= first && first < total && timings.per_second > Some(0.0), "{timings:?}");

    let printed = text(&fleet, &["explain", job.as_str()]).await;
    for part in
        ["is finished", "could not be placed", &format!("resumed the answer at index {index}"), "signal 9 ended it"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let printed: JobStory =
        serde_json::from_str(&text(&fleet, &["explain", "--json", job.as_str()]).await).expect("a story");
    assert_eq!(printed.steps, story.steps);
    let placement = text(&fleet, &["explain", "m"]).await;
    assert!(placement.contains("another worker of m would be placed on one"), "a model goes before a job: {placement}");
}

#[tokio::test]
async fn story_of_a_cancelled_and_of_a_refused_job_names_the_reason() {
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "", 0, 1).await;
    fleet.declared(&["m"]).await;
    let (cancelled, mut output) = fleet.submit("m", chat("Hi")).await;
    let request = Cancel { tenant: Tenant::default(), job: cancelled.clone() };
    let reply: CancelReply = fleet.bus.request("cancel", &request).await.expect("the queen answers");
    assert_eq!(reply.state, JobState::Queued);
    whole(&mut output).await;
    let story_of_cancelled = told(&fleet, &cancelled).await;
    assert!(has_in_order(&story_of_cancelled, &["queued", "cancel-requested", "failed"]), "{story_of_cancelled:?}");
    assert_eq!(story_of_cancelled.failure.map(|failure| failure.code), Some(FailureCode::Cancelled));
    assert!(story_of_cancelled.runs.is_empty() && story_of_cancelled.timings.wait_ms.is_some());

    let (refused, mut output) = fleet.submit("nobody-declared-me", chat("Hi")).await;
    whole(&mut output).await;
    let story_of_refused = told(&fleet, &refused).await;
    assert_eq!(story_of_refused.failure.map(|failure| failure.code), Some(FailureCode::UnknownModel));
    let submitted = story_of_refused.submitted.expect("it was queued");
    assert_eq!(
        (submitted.model.as_str(), submitted.bytes),
        ("nobody-declared-me", chat("Hi").to_string().len() as u64)
    );
    assert!(text(&fleet, &["explain", refused.as_str()]).await.contains("unknown-model"));

    let failure = story(&fleet, &JobId::generate()).await.expect_err("there is no such job");
    assert_eq!(failure.code, FailureCode::UnknownJob);
    let unknown = fleet.rbee(&["explain", "neither-model-nor-job"]).await;
    let error = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(unknown.status.code() == Some(1) && error.contains("no model") && error.contains("no job"), "{error}");
}

/// Pages of the open jobs of model `m`.
async fn listed(fleet: &Fleet) -> Vec<Job> {
    let (mut jobs, mut after) = (Vec::new(), None);
    loop {
        let page: Jobs = fleet
            .bus
            .request("jobs", &JobsRequest { after, ..JobsRequest::default() })
            .await
            .expect("the queen answers");
        jobs.extend(page.jobs);
        after = page.next;
        if after.is_none() {
            return jobs;
        }
    }
}

#[tokio::test]
async fn place_of_a_waiting_job_counts_the_jobs_of_its_flow() {
    const JOBS: usize = 230;
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "", 0, 1).await;
    fleet.declared(&["m"]).await;
    let publish = async |tenant: &str, id: String| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        let subject = format!("rbee.job.m.batch.{tenant}");
        let sent = fleet.bus.jetstream().publish_with_headers(subject, headers, chat("Hi").to_string().into()).await;
        sent.expect("sent").await.expect("stored");
    };
    for id in 0..3 {
        publish("acme", format!("acme.{id}")).await;
    }
    join_all((0..JOBS).map(|id| publish("default", format!("default.{id}")))).await;
    let jobs = listed(&fleet).await;
    let of = |tenant: &str| -> Vec<u64> {
        let of_tenant = jobs.iter().filter(|job| job.tenant.as_str() == tenant);
        of_tenant.map(|job| job.position.expect("it waits").ahead).collect()
    };
    assert_eq!(of("acme"), [0, 1, 2]);
    assert_eq!(of("default"), (0..JOBS as u64).collect::<Vec<_>>(), "over several pages");
    let last = jobs.last().expect("there are jobs");
    let waiting = story(&fleet, &last.job).await.expect("it waits").waiting.expect("it waits");
    assert_eq!(waiting.position, last.position);
}

#[tokio::test]
async fn expected_wait_follows_from_recent_answers_and_the_place() {
    let fleet = Fleet::start().await;
    let reference = ModelReference::Mock("tokens=5,interval=20ms,context=200000".to_owned());
    let replicas = Replicas { min: 1, max: 1 };
    fleet.serve("m", ModelSpec { slots: 1, replicas, ..ModelSpec::new(reference) }).await;
    fleet.ready(1).await;
    let (_, mut short) = fleet.submit("m", chat("Hi")).await;
    whole(&mut short).await;
    let mut long = chat("mock: tokens=100000 interval=5ms");
    long["max_tokens"] = 100_000.into();
    let (_, mut running) = fleet.submit("m", long).await;
    running.next(PATIENCE).await.expect("the answer begins");
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(fleet.submit("m", chat("Hi")).await.0);
    }
    eventually("the places are listed with expected waits", PATIENCE, async || {
        let jobs = listed(&fleet).await;
        let positions: Vec<_> = jobs.iter().filter_map(|job| job.position).collect();
        let ahead: Vec<u64> = positions.iter().map(|position| position.ahead).collect();
        let waits: Vec<u64> = positions.iter().filter_map(|position| position.expected_wait_ms).collect();
        let is_running = jobs.first().is_some_and(|job| job.state == JobState::Running && job.position.is_none());
        is_running && ahead == [0, 1, 2] && waits.len() == 3 && waits.is_sorted() && waits[2] >= 2 * waits[0]
    })
    .await;
    let story = story(&fleet, &waiting[1]).await.expect("it waits");
    let waiting = story.waiting.expect("it waits");
    assert_eq!(
        (waiting.why.as_str(), waiting.position.map(|place| place.ahead)),
        ("the only slot of m is busy", Some(1))
    );
    let table = text(&fleet, &["jobs"]).await;
    assert!(table.contains("AHEAD") && table.contains(" ms"), "{table}");
}
