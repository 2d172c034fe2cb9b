//! Jobs per second with an engine that takes no time: the limit that queue, output and acknowledgements set.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use rbee_bench::table::{Samples, print};
use rbee_nats::{Bus, Subscriber};
use rbee_schema::{Chunk, JobRequest, ModelReference};
use rbee_tests::{fleet::Fleet, wait::soon};
use tokio::time::Instant;

use crate::{
    job::{answered, request, submission},
    runs::{Effort, ready, spec},
};

/// Jobs of one round.
const JOBS: usize = 2_000;

/// Number of publishes that wait for their acknowledgement at a time.
const IN_FLIGHT: usize = 64;

pub(crate) async fn measure(effort: Effort) {
    let fleet = Fleet::start().await;
    let request = request("Hi", 1);
    let mut rows = Vec::new();
    for (workers, slots, stored, finished) in [
        (1, 8, "stored, with 1 worker of 8 slots", "answered, with 1 worker of 8 slots"),
        (2, 4, "stored, with 2 workers of 4 slots", "answered, with 2 workers of 4 slots"),
    ] {
        let model = format!("workers-{workers}");
        fleet.serve(&model, spec(ModelReference::Mock(String::new()), workers, workers, slots)).await;
        ready(&fleet, &model, workers as usize).await;
        let mut rounds = Vec::new();
        for _ in 0..effort.runs(5) {
            rounds.push(round(&fleet.bus, &model, &request, effort.runs(JOBS)).await);
        }
        rows.push((stored, Samples::rates(rounds.iter().map(|round| round.stored))));
        rows.push((finished, Samples::rates(rounds.iter().map(|round| round.answered))));
    }
    print(&format!("Jobs of one token each, {} at once", effort.runs(JOBS)), &rows);

    let mut whole = Vec::new();
    for _ in 0..effort.runs(500) {
        whole.push(answered(&fleet.bus, "workers-1", &request).await.done);
    }
    print("One job after another, to the end of the answer", &[("latency", Samples::times(whole))]);
}

/// Jobs per second in one round.
struct Round {
    stored: f64,
    answered: f64,
}

async fn round(bus: &Bus, model: &str, request: &JobRequest, jobs: usize) -> Round {
    let mut output = bus.subscribe(bus.namespace().all_published()).await.expect("the server answers");
    let rate = |time: Duration| jobs as f64 / time.as_secs_f64();
    let begun = Instant::now();
    let publishing = async {
        let submitted = stream::iter(0..jobs).map(|_| bus.submit(submission(model, request)));
        let mut stored = submitted.buffer_unordered(IN_FLIGHT);
        while let Some(stored) = stored.next().await {
            stored.expect("the job is accepted");
        }
        rate(begun.elapsed())
    };
    let reading = async {
        soon("answer to every job", ends(&mut output, jobs)).await;
        rate(begun.elapsed())
    };
    let (stored, answered) = tokio::join!(publishing, reading);
    Round { stored, answered }
}

/// Waits for the ends of `jobs` answers.
async fn ends(output: &mut Subscriber, jobs: usize) {
    let mut ended = 0;
    while ended < jobs {
        let message = output.next().await.expect("the connection is open");
        match serde_json::from_slice(&message.payload).expect("output is chunks") {
            Chunk::Done { .. } => ended += 1,
            Chunk::Error { error } => panic!("a job failed: {error}"),
            Chunk::Started { .. }
            | Chunk::Resumed { .. }
            | Chunk::Paused { .. }
            | Chunk::Tokens { .. }
            | Chunk::Embeddings { .. } => {}
        }
    }
}
