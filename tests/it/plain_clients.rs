//! Third-party clients: jobs that are submitted with NATS libraries alone, without any code of rbee.

use std::process::{Output, Stdio};

use rbee_schema::{ModelReference, ModelSpec};
use rbee_tests::{
    fleet::Fleet,
    tools::{model, python_packages, repository},
    wait::{PATIENCE, eventually, soon},
};
use tokio::process::Command;

/// Runs the nats-py client; `way` is `publish`, `request` or `store`.
async fn nats_py(fleet: &Fleet, way: &str, model: &str, prompt: &str) -> Output {
    let client = Command::new("python3")
        .arg(repository().join("tests/clients/nats_py.py"))
        .args([way, fleet.server.url(), model, prompt])
        .env("PYTHONPATH", python_packages())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    soon("answer", client).await.expect("python3 can be started")
}

fn answer_of(output: &Output) -> String {
    assert!(output.status.success(), "the client failed:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn nats_py_publishes_a_job_and_reads_its_tokens() {
    let fleet = Fleet::start().await;
    fleet.serve("smollm2", ModelSpec::new(ModelReference::File(model()))).await;
    let answer = answer_of(&nats_py(&fleet, "publish", "smollm2", "Write one sentence about bees.").await);
    assert!(answer.starts_with("Bees are tiny, winged creatures") && answer.ends_with("\n16 tokens\n"), "{answer}");
}

#[tokio::test]
async fn nats_py_gets_an_answer_by_request_and_reply() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=4", 0, 1).await;
    let published = answer_of(&nats_py(&fleet, "publish", "m", "Hi").await);
    assert!(published.ends_with("\n4 tokens\n"), "{published}");
    let requested = answer_of(&nats_py(&fleet, "request", "m", "Hi").await);
    assert!(requested.ends_with("\n4 tokens\n"), "{requested}");
    let refused = nats_py(&fleet, "request", "nobody", "Hi").await;
    let stderr = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && stderr.contains("declared models: m"), "{stderr}");
}

#[tokio::test]
async fn nats_py_stores_a_large_body_and_names_it() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=4,context=4000000", 0, 1).await;
    let answer = answer_of(&nats_py(&fleet, "store", "m", "Hi").await);
    assert!(answer.ends_with("\n4 tokens\n"), "{answer}");
    eventually("the body is deleted with its job", PATIENCE, async || {
        let bodies = fleet.bus.jetstream().get_stream("OBJ_rbee_bodies").await;
        bodies.is_ok_and(|bodies| bodies.cached_info().state.messages == 0)
    })
    .await;
}
