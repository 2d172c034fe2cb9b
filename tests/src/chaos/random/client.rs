//! The clients of a random run. Each job has an answer that its client knows beforehand.

use std::time::Duration;

use rbee_nats::{Bus, OutputReadError, OutputReader, Submission};
use rbee_schema::{Chunk, FailureCode, JobClass, JobId, Tenant};
use tokio::time::Instant;

use super::question::{Question, Questions};
use crate::{
    fleet::{Fleet, text, tokens},
    nats::connect,
    relay::Relay,
    wait::{PATIENCE, eventually},
};

/// Longest time from the submission of a job to its end. Every fault heals within a minute, and several follow one another.
const LONGEST_JOB: Duration = Duration::from_secs(300);

/// A client with two connections: one of them is cut now and then.
pub(super) struct Client {
    connections: [Bus; 2],
    questions: Questions,
}

impl Client {
    pub(super) async fn connect(fleet: &Fleet, relay: &Relay, questions: Questions) -> Self {
        let cut = connect(relay.url(), "rbee").await.expect("the server answers");
        Self { connections: [fleet.bus.clone(), cut], questions }
    }

    /// Submits a job, follows it to its end, and checks its answer. Returns the longest time without a chunk.
    ///
    /// # Panics
    /// When the job is not accepted, does not end, or has a wrong answer.
    pub(super) async fn run(&self, seed: u64, number: u32) -> Duration {
        let mut random = fastrand::Rng::with_seed(seed ^ (u64::from(number) << 32));
        let question = self.questions.draw(&mut random);
        let bus = &self.connections[random.usize(..2)];
        let (tenant, job) = (Tenant::default(), JobId::generate());
        let class = if random.u8(..4) == 0 { JobClass::Batch } else { JobClass::Interactive };
        let mut output = follow(bus, &tenant, &job).await;
        submit(bus, question.submission(&tenant, &job, class)).await;
        let (chunks, gap) = read(&mut output, &job).await;
        check(&job, &chunks, &question);
        gap
    }
}

async fn follow(bus: &Bus, tenant: &Tenant, job: &JobId) -> OutputReader {
    let mut output = None;
    eventually("the output of a job is followed", PATIENCE, async || {
        output = bus.read_output(tenant, job).await.ok();
        output.is_some()
    })
    .await;
    output.expect("it was opened")
}

/// Submits a job until the server has accepted it. The server stores repetitions with the same id once.
async fn submit(bus: &Bus, submission: Submission) {
    let job = submission.job.clone();
    eventually("a job is accepted", PATIENCE, async || match bus.submit(submission.clone()).await {
        Ok(()) => true,
        Err(failure) if failure.code == FailureCode::TimedOut => false,
        Err(failure) => panic!("job {job} was refused: {failure}"),
    })
    .await;
}

async fn read(output: &mut OutputReader, job: &JobId) -> (Vec<Chunk>, Duration) {
    let begun = Instant::now();
    let (mut chunks, mut gap, mut last) = (Vec::new(), Duration::ZERO, begun);
    loop {
        match output.next(PATIENCE).await {
            Ok(Some(stored)) => {
                gap = gap.max(last.elapsed());
                last = Instant::now();
                chunks.push(stored.chunk);
            }
            Ok(None) => return (chunks, gap),
            Err(OutputReadError::TimedOut(_)) => {}
            Err(error) => panic!("the output of job {job} cannot be read: {error}"),
        }
        assert!(begun.elapsed() < LONGEST_JOB, "job {job} has not ended after {LONGEST_JOB:?}: {chunks:?}");
    }
}

/// Checks that an answer is whole and right.
fn check(job: &JobId, chunks: &[Chunk], question: &Question) {
    assert!(matches!(chunks.last(), Some(Chunk::Done { .. })), "job {job} ended otherwise: {chunks:?}");
    assert_eq!(chunks.iter().filter(|chunk| chunk.is_last()).count(), 1, "job {job} ended twice: {chunks:?}");
    let indices = tokens(chunks).into_iter().map(|(index, _)| index);
    assert!(indices.eq(0..question.tokens), "job {job} skips or repeats: {chunks:?}");
    assert_eq!(text(chunks), question.text, "job {job} has another text");
}
