//! Batches: records that one writer changes at a time, and answers with checkpoints.

use bytes::Bytes;
use rbee_nats::{AppendPieceError, Batches, Checkpoint, new_batch};
use rbee_schema::{BatchId, BatchState, MAX_BODY_BYTES, Tenant};
use rbee_tests::nats::NatsServer;

use crate::sample::name;

const INPUT: &str = "default/requests";

async fn batch(batches: &Batches, id: &str) -> (BatchId, String) {
    let id = name::<BatchId>(id);
    let record = batches.create(&id, new_batch(Tenant::default(), None, INPUT.to_owned(), &id)).await.expect("created");
    (id, record.run)
}

fn at(checkpoint: Checkpoint, lines: u64) -> Checkpoint {
    Checkpoint { lines, completed: lines, ..checkpoint }
}

#[tokio::test]
async fn batch_of_one_id_is_created_once_and_changed_until_its_last_state() {
    let server = NatsServer::start().await;
    let batches = server.bus("rbee").await.batches();
    let (id, run) = batch(&batches, "a").await;
    assert_eq!(batch(&batches, "a").await.1, run, "the second one gets the first");
    let cancelled = batches.update(&id, |record| record.cancel = true).await.expect("stored").expect("a record");
    assert!(cancelled.cancel);
    batches.update(&id, |record| record.state = BatchState::Finished).await.expect("stored");
    let after = batches.update(&id, |record| record.state = BatchState::Running).await.expect("the server answers");
    assert_eq!(after.map(|record| record.state), Some(BatchState::Finished));
    let there = batches.get(&id).await.expect("the server answers").expect("a record");
    batches.delete(&id, &there).await.expect("deleted");
    assert_eq!(batches.get(&id).await.expect("the server answers"), None);
    assert_ne!(batch(&batches, "a").await.1, run, "another run");
}

#[tokio::test]
async fn answers_have_one_writer_and_are_stored_once() {
    let server = NatsServer::start().await;
    let batches = server.bus("rbee").await.batches();
    let (id, run) = batch(&batches, "a").await;
    let begin = batches.checkpoint(&run).await.expect("the server answers");
    assert_eq!(begin, Checkpoint::default());
    let first = batches.append(&run, Bytes::from_static(b"one\n"), at(begin, 1)).await.expect("appended");
    let stale = batches.append(&run, Bytes::from_static(b"two\n"), at(begin, 2)).await;
    assert!(matches!(stale, Err(AppendPieceError::Stale)), "{stale:?}");
    assert_eq!(batches.checkpoint(&run).await.expect("the server answers"), first);
    batches.append(&run, Bytes::from_static(b"two\n"), at(first, 2)).await.expect("appended");
    let output = batches.finish(&id, &run, |record| record.state = BatchState::Finished).await.expect("stored");
    let answers = batches.files().read(&output.expect("an object")).await.expect("its digest is right");
    assert_eq!(answers, "one\ntwo\n");
}

#[tokio::test]
async fn large_answer_counts_only_with_its_end() {
    let server = NatsServer::start().await;
    let bus = server.bus("rbee").await;
    let batches = bus.batches();
    let (id, run) = batch(&batches, "a").await;
    let large = Bytes::from(vec![b'x'; 2 * MAX_BODY_BYTES + 1]);
    let first =
        batches.append(&run, Bytes::from_static(b"one\n"), at(Checkpoint::default(), 1)).await.expect("appended");
    let second = batches.append(&run, large.clone(), at(first, 2)).await.expect("appended");
    // The queen ends in the middle of the next one.
    let stream = bus.jetstream().get_stream("OBJ_rbee_batches").await.expect("the bucket exists");
    for _ in 0..2 {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Rbee-Part-After", second.sequence.to_string());
        let subject = format!("$O.rbee_batches.C.{run}");
        let sent = bus.jetstream().publish_with_headers(subject, headers, large.slice(..100)).await;
        sent.expect("sent").await.expect("stored");
    }
    let found = batches.checkpoint(&run).await.expect("the server answers");
    assert_eq!(found, second);
    assert_eq!(stream.get_info().await.expect("the server answers").state.messages, 4);
    batches.append(&run, Bytes::from_static(b"three\n"), at(found, 3)).await.expect("appended");
    let output = batches.finish(&id, &run, |_| ()).await.expect("stored").expect("an object");
    assert_eq!(output.size, large.len() as u64 + 10);
    assert!(batches.files().read(&output).await.expect("its digest is right").ends_with(b"xthree\n"));
}
