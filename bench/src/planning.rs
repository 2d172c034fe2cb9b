//! The leading of two queens is killed while answers are under way: how long nobody plans.

use std::time::{Duration, SystemTime};

use rbee_bench::table::{Samples, print};
use rbee_nats::{Registry, recent_events};
use rbee_schema::{Chunk, ModelReference, QueenEvent};
use rbee_tests::{fleet::Fleet, wait::PATIENCE};

use crate::{
    job::{publish, request},
    runs::{Effort, spec},
};

/// A mock that takes this long for a token, and answers as many as an answer may have here: ten seconds.
const INTERVAL: Duration = Duration::from_millis(10);
const TOKENS: u32 = 1_000;

/// Answers that are under way.
const ANSWERS: usize = 4;

pub(crate) async fn measure(effort: Effort) {
    let mut pauses = Vec::new();
    for _ in 0..effort.runs(20) {
        pauses.push(kill().await);
    }
    print(
        "The leading of two queens is killed (SIGKILL) under four answers; no stream was touched, nothing ordered twice",
        &[("kill to the next order of a worker", Samples::times(pauses))],
    );
}

/// A job that needs a new worker comes right after the kill: from there to the order nobody plans.
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
    let leader = Registry::leader(&fleet.bus).get("leader").await.expect("the server answers").expect("one leads");
    let killed = SystemTime::now();
    fleet.kill_role(leader.queen.as_str());
    let mut job = publish(&fleet.bus, "woken", &request("Hi", 1)).await;
    job.taken().await;
    for answer in &mut answers {
        while let Some(next) = answer.output.next(PATIENCE).await.expect("the answer goes on") {
            assert!(!matches!(next.chunk, Chunk::Resumed { .. } | Chunk::Error { .. }), "a stream was touched");
        }
    }
    let placed = placed(&fleet).await;
    assert_eq!(placed.len(), 2, "one worker for each model");
    placed.last().map_or(Duration::ZERO, |at| at.duration_since(killed).unwrap_or_default())
}

/// When workers were ordered, by the server's clock, which is ours.
async fn placed(fleet: &Fleet) -> Vec<SystemTime> {
    let events = recent_events(&fleet.bus, &fleet.bus.namespace().all_placements(), SystemTime::UNIX_EPOCH).await;
    let events = events.expect("the server answers");
    let is_order = |event: &QueenEvent| matches!(event, QueenEvent::Placed { .. });
    events
        .iter()
        .filter(|event| serde_json::from_slice(&event.body).is_ok_and(|event| is_order(&event)))
        .map(|event| event.stored)
        .collect()
}
