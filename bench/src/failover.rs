//! A worker is killed in the middle of an answer while another one of the same model is ready: how long the stream of
//! its client stands still.

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

/// A mock that takes this long for a token, and answers as many as an answer may have here.
const INTERVAL: Duration = Duration::from_millis(5);
const TOKENS: u32 = 1_000;

/// The latest token at which a worker is killed. The kills are spread over all of them, 2 s, so that they meet the
/// other worker in everything that it does in turns.
const LATEST: usize = 400;

/// Two workers for each run, and ten ports.
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

/// Counted from the kill.
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
    kill_process(process, Signal::KILL).expect("the worker lives");
    let gap = taken_over(&mut job, killed).await;
    fleet.bus.cancel(&Tenant::default(), &job.job).await.expect("the connection stands");
    gap
}

/// Waits until another worker has taken the job over and made a token; returns when, counted from `killed`.
async fn taken_over(job: &mut Published, killed: Instant) -> Gap {
    let mut resumed = None;
    loop {
        let chunk = job.next().await;
        let now = killed.elapsed();
        match (chunk, resumed) {
            (Chunk::Resumed { .. }, _) => resumed = Some(now),
            (Chunk::Tokens { .. }, Some(resumed)) => return Gap { resumed, next_token: now },
            // What the dead worker had stored is still on its way.
            (Chunk::Tokens { .. }, None) => {}
            (chunk, _) => panic!("the answer does not go on: {chunk:?}"),
        }
    }
}
