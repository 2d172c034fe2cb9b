//! Names, jobs and chunks that many tests use.

use std::fmt::Debug;

use bytes::Bytes;
use rbee_nats::{Bus, Delivery, JobQueue, Priority, Pull, Pulled, Submission};
use rbee_schema::{Chunk, FinishReason, JobClass, JobFlow, JobId, ModelName, Tenant, TenantSpecs, Usage};
use rbee_tests::wait::soon;

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
    JobQueue::open(bus, &model(), TenantSpecs::default()).await.expect("the queue is there")
}

/// The interactive jobs of the default tenant.
pub(crate) fn flow() -> JobFlow {
    JobFlow { class: JobClass::Interactive, tenant: Tenant::default() }
}

/// The next message of a queue that is about a pull.
pub(crate) async fn reply(queue: &mut JobQueue) -> Pulled {
    let mut replies = Vec::new();
    soon("reply to a pull", async {
        while replies.is_empty() {
            let received = queue.receive().await;
            replies = queue.process(received).await;
            replies.retain(|pulled| !matches!(pulled, Pulled::Opened | Pulled::Queued(_) | Pulled::Listed(_)));
        }
    })
    .await;
    assert_eq!(replies.len(), 1, "{replies:?}");
    replies.remove(0)
}

/// Waits for the next interactive job of the default tenant. A pull that is lost is sent again, as a worker does.
pub(crate) async fn pull(queue: &mut JobQueue) -> Delivery {
    loop {
        queue.stand(&flow(), Priority::Free).await;
        if let Pulled::Job(delivery, Pull::Standing) = reply(queue).await {
            return *delivery;
        }
    }
}

/// Fetches a job. `None` if there is none.
pub(crate) async fn fetch(queue: &mut JobQueue, flow: &JobFlow) -> Option<Delivery> {
    loop {
        queue.fetch(flow).await;
        match reply(queue).await {
            Pulled::Job(delivery, Pull::Fetch) => return Some(*delivery),
            Pulled::Nothing(..) => return None,
            Pulled::Reset => {}
            other => panic!("a fetch is answered with {other:?}"),
        }
    }
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
