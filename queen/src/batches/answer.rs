//! One line of a batch: its jobs are queued, and their answers become a line of the output.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::try_join_all;
use rbee_nats::{Bus, BusError, JobFinder, OutputReadError, OutputReader, Submission, unknown_job};
use rbee_schema::{
    BatchRecord, Chunk, Failure, FailureCode, FinishReason, JobClass, JobId, ModelKind, ModelName, TokenLogprob, Usage,
};
use tokio::time::sleep;
use tracing::warn;

use super::{
    line::{Line, LineRequest},
    lines::RawLine,
    output,
};
use crate::{
    gateway::openai::{Choice, CompletionId, EmbeddingList, Message, Vector, several_answers},
    inference::{Request, declared},
};

/// Pause before a job is submitted again that the queue had no room for, or that the server did not answer for.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Time without output after which a job is looked for: somebody may have deleted it. A job of the class `batch` may wait for any
/// time.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Largest answer in bytes. It is kept in memory until the lines before it are answered.
const LARGEST_ANSWER: usize = 64 << 20;

/// Knowledge about the jobs of a line before they are submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Earlier {
    /// Nobody has submitted them.
    None,
    /// A queen that led before may have submitted them.
    Possible,
}

/// A batch, and the handles with which its lines are answered.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    pub(super) bus: Bus,
    pub(super) finder: JobFinder,
    pub(super) record: BatchRecord,
}

/// A line whose jobs are queued, or that has none because it is wrong.
#[derive(Debug)]
pub(super) struct Submitted {
    number: u64,
    custom_id: Option<String>,
    jobs: Result<Jobs, Failure>,
}

#[derive(Debug)]
struct Jobs {
    model: ModelName,
    kind: ModelKind,
    answers: Vec<(JobId, OutputReader)>,
}

/// Line of the output.
#[derive(Debug)]
pub(super) struct Answered {
    /// Number of the line.
    pub(super) number: u64,
    /// True for an answer, false for an error.
    pub(super) is_answer: bool,
    pub(super) line: Vec<u8>,
}

impl Lines {
    /// Id of a job of a line: that of its only choice, or of one of several.
    pub(super) fn job(&self, number: u64, choice: usize) -> JobId {
        let run = &self.record.run;
        JobId::from_lossy(&if choice == 0 { format!("{run}-{number}") } else { format!("{run}-{number}-{choice}") })
    }

    /// Queues the jobs of a line.
    ///
    /// # Errors
    /// The server does not answer. Some of the jobs may be queued.
    pub(super) async fn submit(self, line: RawLine, earlier: Earlier) -> Result<Submitted, BusError> {
        let number = line.number;
        let Line { custom_id, request } = Line::read(&line.content, self.record.model.as_ref());
        drop(line);
        let jobs = match request {
            Ok(LineRequest::Chat(choices)) => self.queue(number, ModelKind::Text, choices, earlier).await?,
            Ok(LineRequest::Embeddings(request)) => {
                self.queue(number, ModelKind::Embeddings, vec![request], earlier).await?
            }
            Err(failure) => Err(failure),
        };
        Ok(Submitted { number, custom_id, jobs })
    }

    async fn queue(
        &self,
        number: u64,
        kind: ModelKind,
        requests: Vec<Request>,
        earlier: Earlier,
    ) -> Result<Result<Jobs, Failure>, BusError> {
        let model = match self.model(kind, requests.first()).await {
            Ok(model) => model,
            Err(failure) => return Ok(Err(failure)),
        };
        let tenant = &self.record.tenant;
        let mut answers = Vec::new();
        for (choice, request) in requests.into_iter().enumerate() {
            let job = self.job(number, choice);
            let reader = self.bus.read_output(tenant, &job).await?;
            let is_queued = match earlier {
                Earlier::None => false,
                Earlier::Possible => {
                    self.bus.last_chunk(tenant, &job).await?.is_some()
                        || self.finder.find(tenant, &job).await?.is_some()
                }
            };
            if !is_queued && let Err(failure) = self.queue_job(&model, &job, request).await {
                return Ok(Err(failure));
            }
            answers.push((job, reader));
        }
        Ok(Ok(Jobs { model, kind, answers }))
    }

    async fn model(&self, kind: ModelKind, request: Option<&Request>) -> Result<ModelName, Failure> {
        let Some(model) = request.and_then(Request::model) else {
            let message = "model is missing: name one in the body, or for the whole batch";
            return Err(Failure::new(FailureCode::InvalidRequest, message));
        };
        loop {
            match declared(&self.bus, model, kind).await {
                Err(failure) if failure.code == FailureCode::TimedOut => wait(&failure).await,
                declared => return declared,
            }
        }
    }

    /// Queues one job. Waits for room in the queue.
    async fn queue_job(&self, model: &ModelName, job: &JobId, request: Request) -> Result<(), Failure> {
        let submission = Submission {
            model: model.clone(),
            class: JobClass::Batch,
            tenant: self.record.tenant.clone(),
            job: job.clone(),
            body: request.into_body(),
        };
        loop {
            match self.bus.submit(submission.clone()).await {
                Ok(()) => return Ok(()),
                // It was stored, and only its acknowledgement was lost.
                Err(failure) if failure.code == FailureCode::DuplicateJob => return Ok(()),
                Err(failure) if matches!(failure.code, FailureCode::QueueFull | FailureCode::TimedOut) => {
                    wait(&failure).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Reads the answers of a line to their end.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) async fn collect(self, submitted: Submitted) -> Result<Answered, BusError> {
        let Submitted { number, custom_id, jobs } = submitted;
        let (job, custom_id) = (self.job(number, 0), custom_id.as_deref());
        let line = match jobs {
            Ok(jobs) => self.answer(jobs, &job, custom_id).await?,
            Err(failure) => Err(failure),
        };
        let is_answer = line.is_ok();
        let line = line.unwrap_or_else(|failure| output::failed(&job, custom_id, &failure));
        Ok(Answered { number, is_answer, line })
    }

    async fn answer(
        &self,
        Jobs { model, kind, answers }: Jobs,
        job: &JobId,
        custom_id: Option<&str>,
    ) -> Result<Result<Vec<u8>, Failure>, BusError> {
        let collected = try_join_all(answers.into_iter().map(|(job, reader)| self.read(job, reader))).await?;
        let answers: Vec<Answer> = match collected.into_iter().collect() {
            Ok(answers) => answers,
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(Ok(match kind {
            ModelKind::Text => {
                let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let id = CompletionId { job: job.clone(), model, created };
                let usage = several_answers(answers.iter().map(Answer::usage));
                let choice = |(index, answer): (usize, Answer)| {
                    let reason = answer.end.map_or(FinishReason::Stop, |(reason, _)| reason);
                    Choice::new(index, answer.message, &answer.scored, reason)
                };
                let choices = answers.into_iter().enumerate().map(choice).collect();
                output::answered(job, custom_id, id.completion(choices, usage))
            }
            ModelKind::Embeddings => {
                let usage = answers.first().map(Answer::usage).unwrap_or_default();
                let vectors = answers.into_iter().flat_map(|answer| answer.vectors).collect();
                output::answered(job, custom_id, EmbeddingList::new(vectors, model, usage))
            }
        }))
    }

    /// Reads the answer of one job.
    async fn read(&self, job: JobId, mut reader: OutputReader) -> Result<Result<Answer, Failure>, BusError> {
        let mut answer = Answer::default();
        loop {
            let chunk = match reader.next(LOOK_AGAIN).await {
                Ok(Some(stored)) => stored.chunk,
                Ok(None) => {
                    let ended = "the output ended without a last chunk";
                    return Ok(Err(Failure::new(FailureCode::OutputGone, ended)));
                }
                Err(OutputReadError::TimedOut(_)) => {
                    if self.bus.job_state(&self.finder, &self.record.tenant, &job).await?.is_some() {
                        continue;
                    }
                    return Ok(Err(unknown_job(&self.record.tenant, &job)));
                }
                Err(OutputReadError::Bus(error)) => return Err(error),
                Err(gone @ OutputReadError::Gone(_)) => return Ok(Err(gone.into())),
            };
            match answer.add(chunk) {
                Some(Ok(())) => return Ok(Ok(answer)),
                Some(Err(failure)) => return Ok(Err(failure)),
                None => {}
            }
        }
    }
}

/// Answer of one job.
#[derive(Default)]
struct Answer {
    message: Message,
    scored: Vec<TokenLogprob>,
    vectors: Vec<Vector>,
    /// The end of the answer, once it has come.
    end: Option<(FinishReason, Usage)>,
    /// Approximate size in bytes.
    size: usize,
}

impl Answer {
    fn usage(&self) -> Usage {
        self.end.map(|(_, usage)| usage).unwrap_or_default()
    }

    /// Adds a chunk. Returns the end of the answer if it was the last one.
    fn add(&mut self, chunk: Chunk) -> Option<Result<(), Failure>> {
        match chunk {
            Chunk::Started { .. } | Chunk::Resumed { .. } | Chunk::Paused { .. } => {}
            Chunk::Tokens { text, reasoning, calls, logprobs, .. } => {
                self.size += text.len() + reasoning.len() + 128 * logprobs.len();
                self.message.add(&text, &reasoning, calls);
                self.scored.extend(logprobs);
            }
            Chunk::Embeddings { vectors, base64, .. } => {
                self.size += vectors.iter().map(|vector| 12 * vector.len()).sum::<usize>();
                self.size += base64.iter().map(String::len).sum::<usize>();
                self.vectors.extend(vectors.into_iter().map(Vector::Numbers));
                self.vectors.extend(base64.into_iter().map(Vector::Base64));
            }
            Chunk::Done { finish_reason, usage, .. } => {
                self.end = Some((finish_reason, usage));
                return Some(Ok(()));
            }
            Chunk::Error { error } => return Some(Err(error)),
        }
        (self.size > LARGEST_ANSWER).then(|| {
            let message = format!("the answer has more than {LARGEST_ANSWER} bytes: send fewer texts in one line");
            Err(Failure::new(FailureCode::AnswerTooLarge, message))
        })
    }
}

async fn wait(failure: &Failure) {
    warn!(%failure, "a line of a batch waits; it is tried again");
    // Timer: pause before a job is submitted again.
    sleep(RETRY_PAUSE).await;
}
