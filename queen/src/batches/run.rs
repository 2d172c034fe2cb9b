//! One batch: from its record to the object with its answers.

use std::time::Duration;

use bytes::BytesMut;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use rbee_nats::{AppendPieceError, Batches, Bus, BusError, Checkpoint, JobFinder, ObjectError, PutError, is_object_of};
use rbee_schema::{BatchId, BatchRecord, BatchState, Failure, FailureCode, MAX_BODY_BYTES};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    answer::{Answered, Earlier, Lines, Submitted},
    lines::LineReader,
};

/// Size of gathered answers at which they are stored: a piece of an object.
const PIECE: usize = MAX_BODY_BYTES;

/// Longest time that an answer is gathered before it is stored. Clients follow the progress, and a piece costs a write.
const GATHERED: Duration = Duration::from_millis(500);

/// Number of lines behind the checkpoint that the queen before may have queued, whatever its window was.
const EARLIER_WINDOW: u64 = 1024;

/// Bytes of a line in addition to the body of its request.
const AROUND_BODY: u64 = 4 * 1024;

/// Largest number of choices of a request.
const CHOICES: usize = 8;

/// A batch and what is needed to run it.
#[derive(Clone)]
pub(super) struct BatchRun {
    pub(super) bus: Bus,
    pub(super) finder: JobFinder,
    pub(super) id: BatchId,
    /// Number of lines that have jobs at a time.
    pub(super) window: usize,
}

/// Reason why a run ends before its batch does.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    /// Another queen runs the batch.
    #[error("another queen runs the batch")]
    Fenced,
    /// The batch cannot be run.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The server does not answer.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl From<AppendPieceError> for RunError {
    fn from(error: AppendPieceError) -> Self {
        match error {
            AppendPieceError::Stale => Self::Fenced,
            AppendPieceError::Full(cause) => full(&cause).into(),
            AppendPieceError::Bus(error) => error.into(),
        }
    }
}

impl From<PutError> for RunError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Full(cause) => full(&cause).into(),
            PutError::Read(error) => Failure::new(FailureCode::Internal, error.to_string()).into(),
            PutError::Bus(error) => error.into(),
        }
    }
}

impl From<ObjectError> for RunError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Missing(what) => {
                Failure::new(FailureCode::BodyMissing, format!("{what} is not stored")).into()
            }
            ObjectError::Corrupt(why) => Failure::new(FailureCode::BodyCorrupt, why).into(),
            ObjectError::Bus(error) => error.into(),
        }
    }
}

fn full(cause: &str) -> Failure {
    let message = format!(
        "the bucket of batches is full ({cause}): delete batches, or raise the limit `batches_size` of the bus"
    );
    Failure::new(FailureCode::OutputFull, message)
}

impl BatchRun {
    /// Runs a batch to its end. When `cancel` is cancelled, ends it as its record says.
    ///
    /// # Errors
    /// Another queen runs the batch, or the server does not answer.
    pub(super) async fn run(self, cancel: CancellationToken) -> Result<(), RunError> {
        let batches = self.bus.batches();
        let Some(record) = batches.get(&self.id).await?.filter(|record| !record.state.is_final()) else {
            return Ok(());
        };
        match self.clone().answer(&batches, record.clone(), cancel).await {
            Err(RunError::Failed(failure)) => {
                warn!(batch = %self.id, %failure, "a batch has failed");
                self.end(&batches, &record, BatchState::Failed, Some(failure)).await
            }
            ended => ended,
        }
    }

    async fn answer(
        self,
        batches: &Batches,
        mut record: BatchRecord,
        cancel: CancellationToken,
    ) -> Result<(), RunError> {
        check(&record)?;
        let mut earlier = Earlier::Possible;
        if record.state == BatchState::Validating && !record.cancel {
            let total = self.count(&record).await?;
            earlier = Earlier::None;
            let running = batches.update(&self.id, |record| {
                (record.state, record.counts.total) = (BatchState::Running, total);
            });
            let Some(running) = running.await? else { return Ok(()) };
            record = running;
            info!(batch = %self.id, lines = total, "a batch runs");
        }
        let begin = batches.checkpoint(&record.run).await?;
        let lines = Lines { bus: self.bus.clone(), finder: self.finder.clone(), record: record.clone() };
        let is_cancelled = record.cancel || {
            let reader = self.reader(&record).await?;
            let progress =
                Progress { batches, id: &self.id, record: &record, checkpoint: begin, gathered: BytesMut::new() };
            let window = Window { lines: lines.clone(), size: self.window, earlier, open: FuturesOrdered::new() };
            answer_lines(window, reader, progress, &cancel).await? == Ended::Cancelled
        };
        if !is_cancelled {
            return self.end(batches, &record, BatchState::Finished, None).await;
        }
        self.cancel_jobs(&lines, batches.checkpoint(&record.run).await?.lines).await?;
        if batches.get(&self.id).await?.is_none_or(|found| found.run != record.run) {
            // Somebody has deleted the batch.
            return Ok(batches.files().delete_content(&record.run).await?);
        }
        self.end(batches, &record, BatchState::Cancelled, None).await
    }

    /// Number of lines in the file of requests.
    async fn count(&self, record: &BatchRecord) -> Result<u64, RunError> {
        let mut reader = self.reader(record).await?;
        let mut count = 0;
        while let Some(line) = reader.next().await? {
            count = line.number + 1;
        }
        Ok(count)
    }

    async fn reader(&self, record: &BatchRecord) -> Result<LineReader, RunError> {
        let files = self.bus.batches().files();
        let Some(input) = files.find(&record.input).await? else {
            let message = format!(
                "the requests of the batch are not stored: {} is missing in the bucket `batches`",
                record.input
            );
            return Err(Failure::new(FailureCode::BodyMissing, message).into());
        };
        let limit = self.bus.body_limit().await? + AROUND_BODY;
        Ok(LineReader::new(files.reader(&input), usize::try_from(limit).unwrap_or(usize::MAX)))
    }

    /// Cancels the jobs of the lines behind the stored answers.
    async fn cancel_jobs(&self, lines: &Lines, from: u64) -> Result<(), BusError> {
        let tenant = &lines.record.tenant;
        let end = lines.record.counts.total.min(from + EARLIER_WINDOW.max(self.window as u64));
        for number in from..end {
            for choice in 0..CHOICES {
                let job = lines.job(number, choice);
                if self.finder.find(tenant, &job).await?.is_none() {
                    break;
                }
                self.bus.cancel(tenant, &job).await?;
            }
        }
        Ok(())
    }

    /// Makes an object of the stored answers, and stores the last state.
    async fn end(
        &self,
        batches: &Batches,
        record: &BatchRecord,
        state: BatchState,
        failure: Option<Failure>,
    ) -> Result<(), RunError> {
        let checkpoint = batches.checkpoint(&record.run).await?;
        let change = |record: &mut BatchRecord| {
            record.counts = checkpoint.counts(record.counts.total);
            (record.state, record.failure) = (state, failure.clone());
        };
        match batches.finish(&self.id, &record.run, change).await {
            // Without an object, the state says what has happened.
            Err(PutError::Full(_)) if state == BatchState::Failed => drop(batches.update(&self.id, change).await?),
            finished => drop(finished?),
        }
        info!(batch = %self.id, state = state.as_str(), "a batch has ended");
        Ok(())
    }
}

/// Refuses a record that names what it may not have. Anybody who may write to the bucket has written it.
fn check(record: &BatchRecord) -> Result<(), Failure> {
    let is_run = record.run.len() <= 32 && record.run.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_run || record.run.is_empty() {
        return Err(Failure::new(FailureCode::InvalidRequest, "`run` must be 1 to 32 letters and digits"));
    }
    let tenant = &record.tenant;
    match [&record.input, &record.output].into_iter().find(|object| !is_object_of(object, tenant)) {
        Some(object) => Err(Failure::new(
            FailureCode::InvalidRequest,
            format!(
                "the batch names the object `{object}`: expected {tenant}/NAME, because it belongs to the tenant {tenant}"
            ),
        )),
        None => Ok(()),
    }
}

/// The end of a run over the lines.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// Every line has an answer or an error.
    Finished,
    /// The batch is to be cancelled.
    Cancelled,
}

/// The lines that have jobs.
struct Window {
    lines: Lines,
    size: usize,
    earlier: Earlier,
    open: FuturesOrdered<BoxFuture<'static, Result<Answered, BusError>>>,
}

/// The stored answers of a batch, and those that are gathered for the next piece.
struct Progress<'a> {
    batches: &'a Batches,
    id: &'a BatchId,
    record: &'a BatchRecord,
    checkpoint: Checkpoint,
    gathered: BytesMut,
}

impl Progress<'_> {
    fn add(&mut self, answered: &Answered) {
        self.gathered.extend_from_slice(&answered.line);
        self.checkpoint.lines = answered.number + 1;
        *if answered.is_answer { &mut self.checkpoint.completed } else { &mut self.checkpoint.failed } += 1;
    }

    /// Stores the gathered answers, and the progress in the record.
    async fn store(&mut self) -> Result<(), RunError> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let answers = self.gathered.split().freeze();
        self.checkpoint = self.batches.append(&self.record.run, answers, self.checkpoint).await?;
        let counts = self.checkpoint.counts(self.record.counts.total);
        self.batches.update(self.id, |record| record.counts = counts).await?;
        Ok(())
    }
}

/// Answers the lines behind the checkpoint, a window of them at a time. One line is read and submitted at a time, so that one
/// body is in memory.
async fn answer_lines(
    mut window: Window,
    mut reader: LineReader,
    mut progress: Progress<'_>,
    cancel: &CancellationToken,
) -> Result<Ended, RunError> {
    let first = progress.checkpoint.lines;
    let mut submitting: Option<Submitting> = None;
    let (mut is_read, mut due) = (false, None);
    loop {
        while submitting.is_none() && !is_read && window.open.len() < window.size {
            match reader.next().await? {
                Some(line) if line.number < first => {}
                Some(line) => {
                    let is_new = window.earlier == Earlier::None || line.number >= first + EARLIER_WINDOW;
                    let earlier = if is_new { Earlier::None } else { Earlier::Possible };
                    submitting = Some(window.lines.clone().submit(line, earlier).boxed());
                }
                None => is_read = true,
            }
        }
        if submitting.is_none() && window.open.is_empty() {
            progress.store().await?;
            return Ok(Ended::Finished);
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                progress.store().await?;
                return Ok(Ended::Cancelled);
            }
            submitted = submitted(&mut submitting) => {
                submitting = None;
                window.open.push_back(window.lines.clone().collect(submitted?).boxed());
            }
            Some(answered) = window.open.next(), if !window.open.is_empty() => {
                progress.add(&answered?);
                due.get_or_insert_with(|| Instant::now() + GATHERED);
            }
            // Timer: gathered answers are stored after this time.
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
        if progress.gathered.len() >= PIECE || due.is_some_and(|due| Instant::now() >= due) {
            progress.store().await?;
            due = None;
        }
    }
}

type Submitting = BoxFuture<'static, Result<Submitted, BusError>>;

/// Waits for the end of a submission, or without one for ever.
async fn submitted(submitting: &mut Option<Submitting>) -> Result<Submitted, BusError> {
    match submitting {
        Some(submitting) => submitting.await,
        None => std::future::pending().await,
    }
}
