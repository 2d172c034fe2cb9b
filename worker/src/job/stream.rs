//! Appends the output of a production while it is produced.

use std::future::{Future, pending, poll_fn};

use rbee_schema::{Chunk, Failure, Missed};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    producer::{Completion, Production},
    writer::{Refused, Writer},
};
use crate::{
    decide::{deadline::Due, strikes::Probation},
    metrics,
    report::Claim,
};

/// The reason why an answer was not completed.
#[derive(Debug, PartialEq)]
pub(super) enum Interruption {
    /// A client cancelled the job.
    Cancelled,
    /// The job must return to the queue: this process must end now, or another job must run alone.
    Stopped,
    /// The job must return to the queue before anything of it was begun.
    Postponed,
    /// The body of the job could not be read: the job must return to the queue for a while.
    Unreadable,
    /// The job cannot be answered.
    Failed(Failure),
    /// Another worker has continued the job.
    Fenced,
    /// A deadline of the job has come.
    Expired(Missed),
}

impl From<Refused> for Interruption {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Fenced => Self::Fenced,
            Refused::Failed(failure) => Self::Failed(failure),
        }
    }
}

impl From<Failure> for Interruption {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Signals that interrupt an answer.
pub(super) struct Interrupts {
    /// Cancelled when a client cancels the job.
    pub(super) cancelled: CancellationToken,
    /// Cancelled when the job must return to the queue.
    pub(super) stop: CancellationToken,
    /// Deadline that applies to the job now.
    pub(super) deadline: Option<Due>,
}

impl Interrupts {
    fn check(&self) -> Result<(), Interruption> {
        if self.cancelled.is_cancelled() {
            return Err(Interruption::Cancelled);
        }
        self.check_deadline()?;
        if self.stop.is_cancelled() { Err(Interruption::Stopped) } else { Ok(()) }
    }

    /// Refuses to go on once the deadline has come.
    pub(super) fn check_deadline(&self) -> Result<(), Interruption> {
        match self.deadline {
            Some(due) if Instant::now().into_std() >= due.at => Err(Interruption::Expired(due.missed)),
            _ => Ok(()),
        }
    }

    /// Waits for the deadline, if there is one.
    pub(super) async fn deadline(&self) -> Interruption {
        match self.deadline {
            Some(due) => {
                sleep_until(due.at.into()).await;
                Interruption::Expired(due.missed)
            }
            None => pending().await,
        }
    }

    /// Waits for a signal.
    pub(super) async fn signal(&self) -> Interruption {
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => Interruption::Cancelled,
            () = self.stop.cancelled() => Interruption::Stopped,
        }
    }

    /// Waits for a signal or the deadline.
    pub(super) async fn any(&self) -> Interruption {
        tokio::select! {
            biased;
            interruption = self.signal() => interruption,
            expired = self.deadline() => expired,
        }
    }

    /// Waits for something that is not worth more once the deadline has come.
    pub(super) async fn until_deadline<T>(&self, work: impl Future<Output = T>) -> Result<T, Interruption> {
        tokio::select! {
            biased;
            expired = self.deadline() => Err(expired),
            done = work => Ok(done),
        }
    }
}

/// Stores chunks in order.
pub(super) trait Append {
    /// Appends a chunk. Must be polled to its end: whether the chunk is stored is unknown before.
    fn append(&mut self, chunk: &Chunk) -> impl Future<Output = Result<(), Refused>> + Send;
}

/// The stored output of a job, to which an attempt appends.
pub(super) struct Output {
    pub(super) writer: Writer,
    /// Index of the next token or input: the number of those that are stored.
    pub(super) next_index: u32,
    /// Present while the job must run alone.
    pub(super) solitude: Option<Solitude>,
}

/// The time in which a job runs alone.
pub(super) struct Solitude {
    pub(super) claim: Claim,
    pub(super) probation: Probation,
    pub(super) since: Instant,
}

impl Append for Output {
    async fn append(&mut self, chunk: &Chunk) -> Result<(), Refused> {
        self.writer.append(chunk).await?;
        self.next_index = self.next_index.saturating_add(chunk.count());
        metrics::chunk_stored(chunk);
        let is_over = |alone: &mut Solitude| alone.probation.is_over(self.next_index, alone.since.elapsed());
        if let Some(Solitude { claim, .. }) = self.solitude.take_if(is_over) {
            claim.end_alone().await;
        }
        Ok(())
    }
}

/// Appends output until the answer is complete. While one append is under way further output gathers for the next chunk, so
/// that the stream has the pace of the slower of the two. When the deadline comes, the answer ends with what there is of it.
pub(super) async fn stream(
    production: &mut dyn Production,
    output: &mut impl Append,
    interrupts: &Interrupts,
) -> Result<Completion, Interruption> {
    // One timer for the whole answer, not one for each token.
    let deadline = interrupts.deadline();
    tokio::pin!(deadline);
    loop {
        match interrupts.check() {
            Ok(()) => {}
            Err(Interruption::Expired(_)) if production.cut() => {}
            Err(interruption) => return Err(interruption),
        }
        match (production.take(), production.completion()) {
            (Some(chunk), _) => append_while_producing(&chunk, production, output).await?,
            (None, Some(completion)) => return Ok(completion),
            (None, None) => {
                tokio::select! {
                    biased;
                    interruption = interrupts.signal() => return Err(interruption),
                    expired = &mut deadline => if !production.cut() {
                        return Err(expired);
                    },
                    advanced = poll_fn(|context| production.poll_advance(context)) => advanced?,
                }
            }
        }
    }
}

/// A failure of the production is returned after the append has ended. An append that is dropped half-way may have stored
/// its chunk, and the next append of this attempt would be refused as fenced.
async fn append_while_producing(
    chunk: &Chunk,
    production: &mut dyn Production,
    output: &mut impl Append,
) -> Result<(), Interruption> {
    let append = output.append(chunk);
    tokio::pin!(append);
    let mut advanced = Ok(());
    loop {
        let may_advance = advanced.is_ok() && production.completion().is_none() && !production.is_full();
        tokio::select! {
            biased;
            appended = &mut append => {
                appended?;
                return advanced.map_err(Interruption::Failed);
            }
            result = poll_fn(|context| production.poll_advance(context)), if may_advance => advanced = result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        task::{Context, Poll},
    };

    use futures::{FutureExt as _, future::BoxFuture};
    use rbee_schema::{FailureCode, FinishReason, Usage};
    use tokio::sync::mpsc;

    use super::{super::producer::Opening, *};

    /// Long enough for an append to begin.
    const DEADLINE: std::time::Duration = std::time::Duration::from_millis(50);

    /// A production that follows a script: each entry is a token, a failure, or the end of the script.
    struct Scripted {
        script: VecDeque<Result<u32, Failure>>,
        /// Ends the answer when the script is over. Otherwise the production waits for ever.
        completes: bool,
        gathered: Vec<u32>,
        index: u32,
        most: usize,
        cut: bool,
    }

    impl Scripted {
        fn new(script: impl IntoIterator<Item = Result<u32, Failure>>) -> Self {
            let script = script.into_iter().collect();
            Self { script, completes: true, gathered: Vec::new(), index: 0, most: usize::MAX, cut: false }
        }
    }

    impl Production for Scripted {
        fn opening(&self) -> Opening {
            Opening { prompt_tokens: 0, seed: 0 }
        }

        fn start(&mut self) -> BoxFuture<'_, ()> {
            async {}.boxed()
        }

        fn poll_advance(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
            assert!(!self.is_full() && self.completion().is_none(), "advanced although it may not");
            match self.script.pop_front() {
                Some(token) => Poll::Ready(token.map(|token| self.gathered.push(token))),
                None => Poll::Pending,
            }
        }

        fn is_full(&self) -> bool {
            self.gathered.len() >= self.most
        }

        fn take(&mut self) -> Option<Chunk> {
            let (ids, index) = (std::mem::take(&mut self.gathered), self.index);
            self.index += u32::try_from(ids.len()).expect("few");
            (!ids.is_empty()).then(|| Chunk::tokens(index, ids, ""))
        }

        fn cut(&mut self) -> bool {
            self.cut = self.index > 0 || !self.gathered.is_empty();
            self.cut
        }

        fn completion(&self) -> Option<Completion> {
            let usage = Usage::new(0, self.index);
            if self.cut {
                return Some(Completion { reason: FinishReason::Deadline, usage });
            }
            (self.completes && self.script.is_empty()).then_some(Completion { reason: FinishReason::Stop, usage })
        }
    }

    /// Each append waits for a permit.
    struct Slow {
        permits: mpsc::UnboundedReceiver<Result<(), Refused>>,
        started: mpsc::UnboundedSender<()>,
        stored: Vec<Chunk>,
    }

    impl Append for Slow {
        async fn append(&mut self, chunk: &Chunk) -> Result<(), Refused> {
            self.started.send(()).expect("the test listens");
            self.permits.recv().await.expect("the test permits")?;
            self.stored.push(chunk.clone());
            Ok(())
        }
    }

    struct Test {
        production: Scripted,
        interrupts: Interrupts,
        output: Slow,
        permit: mpsc::UnboundedSender<Result<(), Refused>>,
        started: mpsc::UnboundedReceiver<()>,
    }

    impl Test {
        fn new(production: Scripted) -> Self {
            let (permit, permits) = mpsc::unbounded_channel();
            let (sender, started) = mpsc::unbounded_channel();
            let interrupts =
                Interrupts { cancelled: CancellationToken::new(), stop: CancellationToken::new(), deadline: None };
            let output = Slow { permits, started: sender, stored: Vec::new() };
            Self { production, interrupts, output, permit, started }
        }

        /// Runs the stream; `during` is called when the first append is under way.
        async fn run(mut self, during: impl FnOnce(&Interrupts)) -> (Result<Completion, Interruption>, Vec<Chunk>) {
            let ended = {
                let streaming = stream(&mut self.production, &mut self.output, &self.interrupts);
                tokio::pin!(streaming);
                tokio::select! {
                    biased;
                    _ = &mut streaming => panic!("the append ended without a permit"),
                    started = self.started.recv() => started.expect("an append"),
                }
                during(&self.interrupts);
                for _ in 0..100 {
                    self.permit.send(Ok(())).expect("the stream waits");
                }
                streaming.await
            };
            (ended, self.output.stored)
        }
    }

    fn failure() -> Failure {
        Failure::new(FailureCode::ContextExceeded, "full")
    }

    #[tokio::test]
    async fn output_gathers_while_a_chunk_is_appended() {
        let test = Test::new(Scripted::new([Ok(1), Ok(2), Ok(3), Ok(4)]));
        let (ended, stored) = test.run(|_| ()).await;
        assert_eq!(stored, [Chunk::tokens(0, vec![1], ""), Chunk::tokens(1, vec![2, 3, 4], "")]);
        assert_eq!(ended.expect("complete").usage, Usage::new(0, 4));
    }

    #[tokio::test]
    async fn a_full_production_is_not_advanced() {
        let test = Test::new(Scripted { most: 2, ..Scripted::new([Ok(1), Ok(2), Ok(3), Ok(4)]) });
        let (_, stored) = test.run(|_| ()).await;
        let sizes: Vec<u32> = stored.iter().map(Chunk::count).collect();
        assert_eq!(sizes, [1, 2, 1]);
    }

    #[tokio::test]
    async fn a_failure_waits_for_the_append_under_way() {
        let test = Test::new(Scripted::new([Ok(1), Err(failure())]));
        let (ended, stored) = test.run(|_| ()).await;
        assert_eq!(ended, Err(Interruption::Failed(failure())));
        assert_eq!(stored, [Chunk::tokens(0, vec![1], "")]);
    }

    #[tokio::test]
    async fn an_interruption_waits_for_the_append_under_way() {
        for (stopped, expected) in [(true, Interruption::Stopped), (false, Interruption::Cancelled)] {
            let test = Test::new(Scripted { completes: false, ..Scripted::new([Ok(1)]) });
            let interrupt = |signals: &Interrupts| match stopped {
                true => signals.stop.cancel(),
                false => signals.cancelled.cancel(),
            };
            let (ended, stored) = test.run(interrupt).await;
            assert_eq!(ended, Err(expected));
            assert_eq!(stored, [Chunk::tokens(0, vec![1], "")]);
        }
    }

    #[tokio::test]
    async fn a_production_without_output_is_interrupted_at_once() {
        let mut production = Scripted { completes: false, ..Scripted::new([]) };
        let Test { mut output, interrupts, .. } = Test::new(Scripted::new([]));
        interrupts.cancelled.cancel();
        assert_eq!(stream(&mut production, &mut output, &interrupts).await, Err(Interruption::Cancelled));
    }

    fn due_now() -> Option<Due> {
        let missed = Missed::Total(std::time::Duration::from_secs(1));
        Some(Due { at: Instant::now().into_std(), missed })
    }

    #[tokio::test]
    async fn answer_ends_at_its_deadline_with_what_there_is() {
        let mut test = Test::new(Scripted { completes: false, ..Scripted::new([Ok(1), Ok(2), Ok(3)]) });
        test.interrupts.deadline = due_now().map(|due| Due { at: due.at + DEADLINE, ..due });
        let (ended, stored) = test.run(|_| ()).await;
        assert_eq!(ended.map(|end| (end.reason, end.usage)), Ok((FinishReason::Deadline, Usage::new(0, 3))));
        assert_eq!(stored, [Chunk::tokens(0, vec![1], ""), Chunk::tokens(1, vec![2, 3], "")]);
    }

    #[tokio::test]
    async fn answer_without_a_token_fails_at_its_deadline() {
        let Test { mut output, mut interrupts, mut production, .. } =
            Test::new(Scripted { completes: false, ..Scripted::new([]) });
        interrupts.deadline = due_now();
        let ended = stream(&mut production, &mut output, &interrupts).await;
        assert!(matches!(ended, Err(Interruption::Expired(Missed::Total(_)))), "{ended:?}");
        assert!(output.stored.is_empty());
    }

    #[tokio::test]
    async fn a_chunk_that_cannot_be_stored_fails_the_answer() {
        let Test { mut production, mut output, interrupts, permit, started: _started } =
            Test::new(Scripted::new([Ok(1), Ok(2)]));
        permit.send(Err(Refused::Failed(failure()))).expect("the stream listens");
        assert_eq!(stream(&mut production, &mut output, &interrupts).await, Err(Interruption::Failed(failure())));
    }

    #[tokio::test]
    async fn a_fenced_append_ends_the_answer() {
        let Test { mut production, mut output, interrupts, permit, started: _started } =
            Test::new(Scripted::new([Ok(1), Ok(2)]));
        permit.send(Err(Refused::Fenced)).expect("the stream listens");
        assert_eq!(stream(&mut production, &mut output, &interrupts).await, Err(Interruption::Fenced));
        assert!(output.stored.is_empty());
    }
}
