//! Lists of jobs, by request and on the command line.

use futures::future::join_all;
use rbee_schema::{
    Chunk, FailureCode,
    api::{Job, JobList, JobState, Jobs, JobsRequest},
};
use rbee_tests::{
    fleet::{Fleet, chat, whole},
    wait::{PATIENCE, eventually},
};

async fn page(fleet: &Fleet, request: JobsRequest) -> Jobs {
    fleet.bus.request("jobs", &request).await.expect("the queen answers")
}

fn list(list: JobList) -> JobsRequest {
    JobsRequest { list, ..JobsRequest::default() }
}

#[tokio::test]
async fn open_jobs_are_listed_in_pages_by_model_and_tenant() {
    const JOBS: usize = 450;
    let mut fleet = Fleet::bare().await;
    fleet.queen().await;
    fleet.serve_mock("m", "", 0, 1).await;
    fleet.serve_mock("other", "", 0, 1).await;
    fleet.declared(&["m", "other"]).await;
    let body = chat("Hi").to_string();
    let publish = async |number: usize| {
        let subject = if number.is_multiple_of(2) { "rbee.job.m.batch.acme" } else { "rbee.job.other.batch.default" };
        fleet.bus.jetstream().publish(subject, body.clone().into()).await.expect("sent").await.expect("stored")
    };
    join_all((0..JOBS).map(publish)).await;
    let mut all: Vec<Job> = Vec::new();
    let mut after = None;
    loop {
        let Jobs { jobs, next } = page(&fleet, JobsRequest { after, ..JobsRequest::default() }).await;
        assert!(jobs.len() <= 200, "{}", jobs.len());
        all.extend(jobs);
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(all.len(), JOBS);
    assert!(all.iter().all(|job| job.state == JobState::Queued));
    for request in [
        JobsRequest { model: Some("m".parse().expect("a name")), ..JobsRequest::default() },
        JobsRequest { tenant: Some("acme".parse().expect("a name")), ..JobsRequest::default() },
    ] {
        let some = page(&fleet, request).await;
        assert!(some.jobs.len() == 200 && some.jobs.iter().all(|job| job.tenant.as_str() == "acme"), "{some:?}");
    }
    let table = fleet.rbee(&["jobs", "--model", "other"]).await;
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("other") && !table.contains("acme") && table.contains("add --after"), "{table}");
}

#[tokio::test]
async fn running_ended_and_dead_jobs_are_listed() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=20000,interval=5ms,context=200000", 1, 1).await;
    fleet.ready(1).await;
    let mut body = chat("Hi");
    body["max_tokens"] = serde_json::json!(20_000);
    let (running, mut output) = fleet.submit("m", body).await;
    output.next(PATIENCE).await.expect("the answer begins");
    eventually("the job is listed with its worker", PATIENCE, async || {
        let open = page(&fleet, list(JobList::Open)).await;
        matches!(&open.jobs[..], [only] if only.job == running && only.state == JobState::Running && only.worker.is_some())
    })
    .await;
    fleet.bus.cancel(&rbee_schema::Tenant::default(), &running).await.expect("stored");
    assert!(matches!(whole(&mut output).await.last(), Some(Chunk::Error { .. })));
    eventually("the job is listed as ended", PATIENCE, async || {
        let ended = page(&fleet, list(JobList::Ended)).await;
        let is_it = |job: &Job| {
            let code = job.failure.as_ref().map(|failure| failure.code);
            job.job == running && (job.state, code) == (JobState::Finished, Some(FailureCode::Cancelled))
        };
        ended.jobs.iter().any(is_it) && page(&fleet, list(JobList::Open)).await.jobs.is_empty()
    })
    .await;
    let failure = rbee_schema::Failure::new(FailureCode::TriedTooOften, "it was given up");
    let dead = rbee_schema::DeadJob {
        tenant: rbee_schema::Tenant::default(),
        job: running.clone(),
        submitted: None,
        prompt_tokens: None,
        attempts: 3,
        runs: Vec::new(),
        failure,
        exit: None,
        blame: None,
        body: String::new(),
        body_object: None,
    };
    fleet.bus.store_dead_job(&"m".parse().expect("a name"), &dead).await.expect("stored");
    let dead = page(&fleet, list(JobList::Dead)).await;
    assert!(matches!(&dead.jobs[..], [only] if only.job == running && only.model.is_some()), "{dead:?}");
}
