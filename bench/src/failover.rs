//! Failover: a worker is killed in the middle of an answer while another worker of the model is ready. Measures the pause in
//! the client's stream.

use std::time::Duration;

use rbee_bench::table::{Samples, print};
use rbee_schema::{Chunk, ModelReference, Tenant};
use rbee_tests::fleet::Fleet;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::{
    job::{Published, publish, request},
    runs::{Effort, each, ready, spec},
};

/// Time of the mock engine for one token.
const INTERVAL: Duration = Duration::from_millis(5);

/// Tokens of an answer.
const TOKENS: u32 = 1_000;

/// Latest token at which a worker is killed. The kills are spread over these 2 s, so that they meet the other worker in every
/// phase of its periodic work.
const LATEST: usize = 400;

/// A run needs two workers, and a fleet has ten ports.
const RUNS_PER_FLEET: usize = 5;

pub(crate) async fn measure(effort: Effort) {
    let runs = effort.runs(20);
    let gaps = each(runs, RUNS_PER_FLEET, async |fleet, run| kill(fleet, run, LATEST * (run + 1) / runs).await).await;
    print(
        "A worker is killed (SIGKILL) in the middle of an answer; another one is ready",
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

async fn kill(fleet: &Fleet, run: usize, at: usize) -> Gap {
    let model = format!("failover-{run}");
    let reference = ModelReference::Mock(format!("tokens={TOKENS},interval={}ms", INTERVAL.as_millis()));
    fleet.serve(&model, spec(reference, 2, 2, 1)).await;
    let workers = ready(fleet, &model, 2).await;
    let mut job = publish(&fleet.bus, &model, &request("Hi", TOKENS)).await;
    let (hive, name) = job.taken().await;
    let worker = workers.iter().find(|worker| (&worker.hive, &worker.name) == (&hive, &name));
    let number = worker.and_then(|worker| worker.record.pid).expect("a ready worker has a process");
    let process = Pid::from_raw(number.cast_signed()).expect("no process has number 0");
    job.reached(at).await;

    let killed = Instant::now();
    kill_process(process, Signal::KILL).expect("the worker runs");
    let gap = taken_over(&mut job, killed).await;
    fleet.bus.cancel(&Tenant::default(), &job.job).await.expect("the connection is open");
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
