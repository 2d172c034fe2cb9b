//! Planning gap: the leading of two queens is killed during answers. Measures the time until the other one places a worker.

use std::time::{Duration, SystemTime};

use rbee_bench::table::{Samples, print};
use rbee_nats::{Registry, recent_events};
use rbee_schema::{Chunk, ModelReference, QueenEvent};
use rbee_tests::{fleet::Fleet, wait::PATIENCE};

use crate::{
    job::{publish, request},
    runs::{Effort, spec},
};

/// Time of the mock engine for one token.
const INTERVAL: Duration = Duration::from_millis(10);

/// Tokens of an answer, which takes 10 s.
const TOKENS: u32 = 1_000;

/// Number of answers that run during the kill.
const ANSWERS: usize = 4;

pub(crate) async fn measure(effort: Effort) {
    let mut pauses = Vec::new();
    for _ in 0..effort.runs(20) {
        pauses.push(kill().await);
    }
    print(
        "The leading of two queens is killed (SIGKILL) during four answers; no answer is interrupted, no worker is ordered twice",
        &[("kill to the next placement of a worker", Samples::times(pauses))],
    );
}

/// Submits a job that needs a new worker right after the kill; returns the time from the kill to the placement.
async fn kill() -> Duration {
    let mut fleet = Fleet::start().await;
    fleet.queen_named("second", "").await;
    let busy = ModelReference::Mock(format!("tokens={TOKENS},interval={}ms", INTERVAL.as_millis()));
    fleet.serve("busy", spec(busy, 1, 1, 4)).await;
    fleet.serve("woken", spec(ModelReference::Mock("tokens=1".to_owned()), 0, 1, 1)).await;
    fleet.ready(1).await;
    let mut answers = Vec::new();
    for _ in 0..ANSWERS {
        answers.push(publish(&fleet.bus, "busy", &request("Hi", TOKENS)).await);
    }
    for answer in &mut answers {
        answer.taken().await;
    }
    let leader = Registry::leader(&fleet.bus).get("leader").await.expect("the server answers").expect("a queen leads");
    let killed = SystemTime::now();
    fleet.kill_role(leader.queen.as_str());
    let mut job = publish(&fleet.bus, "woken", &request("Hi", 1)).await;
    job.taken().await;
    for answer in &mut answers {
        while let Some(next) = answer.output.next(PATIENCE).await.expect("the answer continues") {
            assert!(!matches!(next.chunk, Chunk::Resumed { .. } | Chunk::Error { .. }), "an answer was interrupted");
        }
    }
    let placed = placed(&fleet).await;
    assert_eq!(placed.len(), 2, "one worker for each model");
    placed.last().map_or(Duration::ZERO, |at| at.duration_since(killed).unwrap_or_default())
}

/// Times of placements, by the server's clock, which is the one of this machine.
async fn placed(fleet: &Fleet) -> Vec<SystemTime> {
    let events = recent_events(&fleet.bus, &fleet.bus.namespace().all_placements(), SystemTime::UNIX_EPOCH).await;
    let events = events.expect("the server answers");
    let is_placement = |event: &QueenEvent| matches!(event, QueenEvent::Placed { .. });
    events
        .iter()
        .filter(|event| serde_json::from_slice(&event.body).is_ok_and(|event| is_placement(&event)))
        .map(|event| event.stored)
        .collect()
}
