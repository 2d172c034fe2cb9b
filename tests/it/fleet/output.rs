//! Output that is deleted under a running job, or has no room.

use rbee_schema::{Chunk, Failure, FailureCode};
use rbee_tests::{
    fleet::{Fleet, chat, tokens, whole},
    wait::{PATIENCE, eventually},
};

async fn purge_output(fleet: &Fleet) {
    let stream = fleet.bus.jetstream().get_stream("rbee_output").await.expect("the stream exists");
    stream.purge().await.expect("purged");
}

fn failure(chunks: &[Chunk]) -> &Failure {
    let Some(Chunk::Error { error }) = chunks.last() else { panic!("expected a failure: {chunks:?}") };
    error
}

async fn queue_is_empty(fleet: &Fleet) {
    eventually("the job has left the queue", PATIENCE, async || {
        fleet.bus.queue_depths().await.is_ok_and(|depths| depths.is_empty())
    })
    .await;
}

#[tokio::test]
async fn job_whose_output_is_deleted_ends_with_output_gone_and_repeats_nothing() {
    let fleet = Fleet::start().await;
    fleet.serve_mock("m", "tokens=1000,interval=20ms", 1, 1).await;
    let (_, mut output) = fleet.submit("m", chat("Hi")).await;
    let mut chunks = Vec::new();
    while tokens(&chunks).len() < 5 {
        chunks.push(output.next(PATIENCE).await.expect("read").expect("not ended").chunk);
    }
    purge_output(&fleet).await;
    chunks.extend(whole(&mut output).await);
    assert_eq!(failure(&chunks).code, FailureCode::OutputGone);
    let indices: Vec<u32> = tokens(&chunks).iter().map(|(index, _)| *index).collect();
    assert_eq!(indices, (0..u32::try_from(indices.len()).expect("few")).collect::<Vec<u32>>());
    queue_is_empty(&fleet).await;
}

#[tokio::test]
async fn job_without_room_for_its_output_is_refused_and_others_are_kept() {
    let mut fleet = Fleet::bare().await;
    let mut queen = fleet.command();
    queen.args(["queen", "--http", "127.0.0.1:0", "--queen-name", "queen", "--bus-limits", "output_size=8KiB"]);
    fleet.launch("queen", queen);
    let ports = fleet.ports.range();
    fleet.hive("one", &ports).await;
    fleet.serve_mock("m", "tokens=400,interval=1ms", 1, 1).await;
    fleet.ready(1).await;
    // Nobody deletes old output, so that the stream stays full.
    fleet.kill_role("queen");
    let (_, mut first) = fleet.submit("m", chat("Hi")).await;
    let chunks = whole(&mut first).await;
    assert_eq!(failure(&chunks).code, FailureCode::OutputFull, "{chunks:?}");
    let (_, mut second) = fleet.submit("m", chat("Hi")).await;
    let refused = whole(&mut second).await;
    assert_eq!(failure(&refused).code, FailureCode::OutputFull);
    assert_eq!(refused.len(), 1, "{refused:?}");
    queue_is_empty(&fleet).await;
}
