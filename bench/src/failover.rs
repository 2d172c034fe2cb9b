//! Failover: a worker is killed in the middle of an answer while another worker of the model is ready. Measures the pause in
//! the client's stream.

use std::time::Duration;

use rbee_bench::table::{Samples, print};
use rbee_nats::Registry;
use rbee_schema::{Chunk, ModelReference, Tenant};
use rbee_tests::fleet::Fleet;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::{
    job::{Published, publish, request},
    runs::{Effort, each, ready, real_model, spec},
};

/// Time of the mock engine for one token.
const INTERVAL: Duration = Duration::from_millis(5);

/// Tokens of an answer of the mock engine.
const MOCK_TOKENS: u32 = 1_000;

/// Tokens of an answer of the real model.
const REAL_TOKENS: u32 = 200;

/// A run needs two workers, and a fleet has ten ports.
const RUNS_PER_FLEET: usize = 5;

pub(crate) async fn measure(effort: Effort) {
    let mock = ModelReference::Mock(format!("tokens={MOCK_TOKENS},interval={}ms", INTERVAL.as_millis()));
    // The kills are spread over 2 s, so that they meet the other worker in every phase of its periodic work.
    series("mock engine", effort.runs(200), &Answer { model: mock, tokens: MOCK_TOKENS, latest: 400 }).await;
    let (file, name) = real_model();
    series(&name, effort.runs(200), &Answer { model: file, tokens: REAL_TOKENS, latest: 100 }).await;
}

/// Answer in whose middle a worker is killed.
struct Answer {
    model: ModelReference,
    tokens: u32,
    /// Latest token at which the worker is killed.
    latest: usize,
}

async fn series(name: &str, runs: usize, answer: &Answer) {
    let gaps = each(runs, RUNS_PER_FLEET, async |fleet, run| kill(fleet, run, runs, answer).await).await;
    print(
        &format!("A worker is killed (SIGKILL) in the middle of an answer; another one is ready ({name})"),
        &[
            ("kill to resumed by the other", Samples::times(gaps.iter().map(|gap| gap.resumed))),
            ("kill to the next token", Samples::times(gaps.iter().map(|gap| gap.next_token))),
        ],
    );
}

/// Times after the kill.
struct Gap {
    resumed: Duration,
    next_token: Duration,
}

async fn kill(fleet: &Fleet, run: usize, runs: usize, answer: &Answer) -> Gap {
    let Answer { model: reference, tokens, latest } = answer;
    let (model, at) = (format!("failover-{run}"), latest * (run + 1) / runs);
    fleet.serve(&model, spec(reference.clone(), 2, 2, 1)).await;
    let workers = ready(fleet, &model, 2).await;
    let story = "Write a long story about a bee that is looking for a new meadow.";
    let mut job = publish(&fleet.bus, &model, &request(story, *tokens)).await;
    let (hive, name) = job.taken().await;
    let worker = workers.iter().find(|worker| (&worker.hive, &worker.name) == (&hive, &name));
    let number = worker.and_then(|worker| worker.record.pid).expect("a ready worker has a process");
    let process = Pid::from_raw(number.cast_signed()).expect("no process has number 0");
    job.reached(at).await;

    let killed = Instant::now();
    kill_process(process, Signal::KILL).expect("the worker runs");
    let gap = taken_over(&mut job, killed).await;
    fleet.bus.cancel(&Tenant::default(), &job.job).await.expect("the connection is open");
    Registry::models(&fleet.bus).remove(&model).await.expect("the server answers");
    gap
}

/// Waits until another worker has resumed the job and generated a token; returns the times after `killed`.
async fn taken_over(job: &mut Published, killed: Instant) -> Gap {
    let mut resumed = None;
    loop {
        let chunk = job.next().await;
        let now = killed.elapsed();
        match (chunk, resumed) {
            (Chunk::Resumed { .. }, _) => resumed = Some(now),
            (Chunk::Tokens { .. }, Some(resumed)) => return Gap { resumed, next_token: now },
            // Chunks of the killed worker that were stored before the kill.
            (Chunk::Tokens { .. }, None) => {}
            (chunk, _) => panic!("the answer does not continue: {chunk:?}"),
        }
    }
}
