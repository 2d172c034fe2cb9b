//! One job on the bus, and when each part of its answer came.

use std::time::Duration;

use rbee_nats::{Bus, OutputReader, Submission};
use rbee_schema::{Chunk, HiveName, JobClass, JobId, JobRequest, Message, Role, Tenant, WorkerName};
use rbee_tests::wait::PATIENCE;
use tokio::time::Instant;

/// When the parts of an answer were there, counted from when the job was published.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answered {
    /// The server had stored the job and said so.
    pub(crate) stored: Duration,
    /// A worker had taken it.
    pub(crate) started: Duration,
    /// The first token was here.
    pub(crate) first_token: Duration,
    /// The end was here.
    pub(crate) done: Duration,
    /// Tokens per second from the first to the last; `None` where all came at once.
    pub(crate) rate: Option<f64>,
    /// The tokens.
    pub(crate) ids: Vec<u32>,
}

/// A job that was published.
pub(crate) struct Published {
    pub(crate) job: JobId,
    pub(crate) at: Instant,
    pub(crate) stored: Duration,
    pub(crate) output: OutputReader,
}

/// A chat of one message, whose answer has `tokens` tokens at most and is the same each time.
pub(crate) fn request(content: &str, tokens: u32) -> JobRequest {
    JobRequest {
        messages: vec![Message::new(Role::User, content)],
        max_tokens: Some(tokens),
        temperature: Some(0.0),
        seed: Some(7),
        ..JobRequest::default()
    }
}

/// A job as it is published; its id is new.
pub(crate) fn submission(model: &str, request: &JobRequest) -> Submission {
    Submission {
        model: model.parse().expect("the name of a model is valid"),
        class: JobClass::Interactive,
        tenant: Tenant::default(),
        job: JobId::generate(),
        body: serde_json::to_vec(request).expect("a request can be written").into(),
    }
}

/// Publishes a job whose output is listened to already.
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
    let started = started.expect("an answer begins with who answers");
    let (first_token, with_first) = first.expect("an answer has tokens");
    let rate = (last > first_token).then(|| (ids.len() - with_first) as f64 / (last - first_token).as_secs_f64());
    Answered { stored: published.stored, started, first_token, done, rate, ids }
}

impl Published {
    /// The next chunk of the answer.
    pub(crate) async fn next(&mut self) -> Chunk {
        let next = self.output.next(PATIENCE).await.expect("the answer goes on");
        next.expect("the answer has no end yet").chunk
    }

    /// Waits until a worker has taken the job; returns which.
    pub(crate) async fn taken(&mut self) -> (HiveName, WorkerName) {
        loop {
            if let Chunk::Started { hive, worker, .. } = self.next().await {
                return (hive, worker);
            }
        }
    }

    /// Waits until tokens come of which one has at least this index.
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
