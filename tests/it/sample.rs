//! Names, jobs and chunks that many tests use.

use std::fmt::Debug;

use bytes::Bytes;
use rbee_nats::{Bus, JobQueue, Submission};
use rbee_schema::{Chunk, FinishReason, JobClass, JobId, ModelName, Tenant, Usage};
use rbee_tests::wait::{PATIENCE, soon};

/// The shortest body of a job.
pub(crate) const CHAT: &str = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;

/// Parses a name of any type.
pub(crate) fn name<T: std::str::FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("a name of a test is valid")
}

/// The model that most tests use.
pub(crate) fn model() -> ModelName {
    name("smollm2")
}

/// An interactive job of the default tenant.
pub(crate) fn submission(job: &str) -> Submission {
    Submission {
        model: model(),
        class: JobClass::Interactive,
        tenant: Tenant::default(),
        job: name(job),
        body: Bytes::from_static(CHAT.as_bytes()),
    }
}

/// The queue of the model that most tests use.
pub(crate) async fn queue(bus: &Bus) -> JobQueue {
    JobQueue::open(bus, &model()).await.expect("the queue is there")
}

/// Pulls the next job of a queue. An empty pull is repeated, as a worker does.
pub(crate) async fn pull(queue: &JobQueue) -> rbee_nats::Delivery {
    let coming = async {
        loop {
            if let Some(delivery) = queue.next(PATIENCE).await.expect("the server answers") {
                return delivery;
            }
        }
    };
    soon("job", coming).await
}

/// The ids of a job of the default tenant.
pub(crate) fn job(id: &str) -> (Tenant, JobId) {
    (Tenant::default(), name(id))
}

/// The chunk with one token, whose id is `index` and whose text is the index and a space.
pub(crate) fn tokens(index: u32) -> Chunk {
    Chunk::tokens(index, vec![index], format!("{index} "))
}

/// The last chunk of an answer of `index` tokens.
pub(crate) fn done(index: u32) -> Chunk {
    Chunk::Done { index, finish_reason: FinishReason::Stop, usage: Usage::new(1, index) }
}
