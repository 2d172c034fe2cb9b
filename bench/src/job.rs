//! One job on the bus, and the times of its answer.

use std::time::Duration;

use rbee_nats::{Bus, OutputReader, Submission};
use rbee_schema::{Chunk, HiveName, JobClass, JobId, JobRequest, Message, Role, Tenant, WorkerName};
use rbee_tests::wait::PATIENCE;
use tokio::time::Instant;

/// Times of an answer, from the publication of the job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answered {
    /// The server has acknowledged the job.
    pub(crate) stored: Duration,
    /// A worker has started the job.
    pub(crate) started: Duration,
    /// The first token has arrived.
    pub(crate) first_token: Duration,
    /// The last chunk has arrived.
    pub(crate) done: Duration,
    /// Tokens per second from the first to the last; `None` where all came in one chunk.
    pub(crate) rate: Option<f64>,
    /// Ids of the tokens.
    pub(crate) ids: Vec<u32>,
}

/// A published job.
pub(crate) struct Published {
    pub(crate) job: JobId,
    pub(crate) at: Instant,
    pub(crate) stored: Duration,
    pub(crate) output: OutputReader,
}

/// A chat of one message, whose answer has at most `tokens` tokens and is the same each time.
pub(crate) fn request(content: &str, tokens: u32) -> JobRequest {
    JobRequest {
        messages: vec![Message::new(Role::User, content)],
        max_tokens: Some(tokens),
        temperature: Some(0.0),
        seed: Some(7),
        ..JobRequest::default()
    }
}

/// A submission with a new job id.
pub(crate) fn submission(model: &str, request: &JobRequest) -> Submission {
    Submission {
        model: model.parse().expect("the name of a model is valid"),
        class: JobClass::Interactive,
        tenant: Tenant::default(),
        job: JobId::generate(),
        body: serde_json::to_vec(request).expect("a request can be written").into(),
    }
}

/// Subscribes to the output of a job, then publishes the job.
pub(crate) async fn publish(bus: &Bus, model: &str, request: &JobRequest) -> Published {
    let submission = submission(model, request);
    let job = submission.job.clone();
    let output = bus.read_output(&submission.tenant, &job).await.expect("the server answers");
    let at = Instant::now();
    bus.submit(submission).await.expect("the job is accepted");
    Published { job, at, stored: at.elapsed(), output }
}

/// Publishes a job and waits for its whole answer.
pub(crate) async fn answered(bus: &Bus, model: &str, request: &JobRequest) -> Answered {
    let mut published = publish(bus, model, request).await;
    let (mut started, mut first, mut last, mut ids) = (None, None, Duration::ZERO, Vec::new());
    let done = loop {
        let chunk = published.next().await;
        let now = published.at.elapsed();
        match chunk {
            Chunk::Started { .. } | Chunk::Resumed { .. } => started = Some(now),
            Chunk::Paused { .. } | Chunk::Embeddings { .. } => {}
            Chunk::Tokens { ids: more, .. } => {
                ids.extend(more);
                first.get_or_insert((now, ids.len()));
                last = now;
            }
            Chunk::Done { .. } => break now,
            Chunk::Error { error } => panic!("the job failed: {error}"),
        }
    };
    let started = started.expect("an answer begins with the name of its worker");
    let (first_token, with_first) = first.expect("an answer has tokens");
    let rate = (last > first_token).then(|| (ids.len() - with_first) as f64 / (last - first_token).as_secs_f64());
    Answered { stored: published.stored, started, first_token, done, rate, ids }
}

impl Published {
    /// The next chunk of the answer.
    pub(crate) async fn next(&mut self) -> Chunk {
        let next = self.output.next(PATIENCE).await.expect("the answer continues");
        next.expect("the answer has no end yet").chunk
    }

    /// Waits until a worker has started the job; returns its hive and its name.
    pub(crate) async fn taken(&mut self) -> (HiveName, WorkerName) {
        loop {
            if let Chunk::Started { hive, worker, .. } = self.next().await {
                return (hive, worker);
            }
        }
    }

    /// Waits for the token with this index.
    pub(crate) async fn reached(&mut self, wanted: usize) {
        loop {
            if let Chunk::Tokens { index, ids, .. } = self.next().await
                && index as usize + ids.len() > wanted
            {
                return;
            }
        }
    }
}
