//! Clients that nobody here wrote: what a person does with the tools of NATS, without any library of ours.

use std::process::Stdio;

use rbee_nats::{Bus, JobQueue};
use rbee_schema::JobRequest;
use rbee_tests::{
    nats::NatsServer,
    tools::{python_packages, repository},
    wait::{PATIENCE, soon},
};
use tokio::process::Command;

use crate::sample::{done, model, queue, tokens};

/// Answers one job with three tokens, as a worker does: output first, acknowledgement last.
async fn answer_one_job(bus: &Bus, queue: &JobQueue) -> JobRequest {
    let delivery = queue.next(PATIENCE).await.expect("the server answers").expect("a job comes");
    let mut last = 0;
    for chunk in [tokens(0), tokens(1), tokens(2), done(3)] {
        last = bus.append(&delivery.tenant, &delivery.job, &chunk, last).await.expect("appended");
    }
    delivery.settle().await.expect("settled");
    JobRequest::from_json(delivery.body()).expect("a valid job")
}

#[tokio::test]
async fn nats_py_submits_a_job_and_reads_its_tokens() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let queue = queue(&bus).await;
    let client = Command::new("python3")
        .arg(repository().join("tests/clients/nats_py.py"))
        .args([server.url(), model().as_str(), "Hi"])
        .env("PYTHONPATH", python_packages())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let (output, request) = soon("answer", async { futures::join!(client, answer_one_job(&bus, &queue)) }).await;
    let output = output.expect("python3 can be started");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the client failed:\n{stderr}");
    assert_eq!(stdout, "0 1 2 \n");
    assert_eq!(request.messages[0].content, "Hi");
}
