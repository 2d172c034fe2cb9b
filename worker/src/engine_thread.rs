//! The thread that the engine lives on. Everybody else hands it sequences and hears their tokens.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rbee_schema::{Failure, FailureCode};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    contract::{Engine, EngineStats, Sequence, SequenceId},
    decide::embedding::together,
    sample::Token,
};

/// What a sequence becomes: one token after the other, or why there are no more. To drop the receiver releases it.
/// It holds at most as many tokens as the sequence may have.
pub(crate) type Tokens = mpsc::UnboundedReceiver<Result<Token, Failure>>;

/// A way to the engine; cheap to clone. The thread ends when the last is dropped.
#[derive(Debug, Clone)]
pub(crate) struct EngineThread {
    admissions: mpsc::Sender<Admission>,
    done: Arc<Done>,
    stats: watch::Receiver<EngineStats>,
}

/// What the engine has done, for whoever asks meanwhile.
#[derive(Debug, Default)]
struct Done {
    tokens: AtomicU64,
    steps: AtomicU64,
}

/// What the thread is asked for.
enum Admission {
    /// A sequence, how many tokens it may make, and who hears them.
    Sequence(Box<Sequence>, u32, Hearer),
    /// Texts, and who hears their vectors.
    Texts(Vec<Vec<u32>>, Asker),
}

/// Who hears tokens.
type Hearer = mpsc::UnboundedSender<Result<Token, Failure>>;

/// Who hears vectors.
type Asker = oneshot::Sender<Result<Vec<Vec<f32>>, Failure>>;

impl EngineThread {
    /// Gives the engine a thread.
    pub(crate) fn start(engine: Box<dyn Engine>, slots: u32) -> std::io::Result<Self> {
        let (admissions, receiver) = mpsc::channel(slots.max(1) as usize);
        let done = Arc::new(Done::default());
        let (tell_stats, stats) = watch::channel(engine.stats());
        let lives = Lives {
            engine,
            running: Vec::new(),
            texts: VecDeque::new(),
            next: 0,
            done: Arc::clone(&done),
            stats: tell_stats,
        };
        thread::Builder::new().name("engine".into()).spawn(move || lives.run(receiver))?;
        Ok(Self { admissions, done, stats })
    }

    /// Hands over a sequence, which is released when it has made `limit` tokens, or one that ends it.
    pub(crate) async fn admit(&self, sequence: Sequence, limit: u32) -> Tokens {
        let (tokens, receiver) = mpsc::unbounded_channel();
        // A closed channel means that the thread has panicked; then the receiver is closed too.
        let _ = self.admissions.send(Admission::Sequence(Box::new(sequence), limit, tokens)).await;
        receiver
    }

    /// The vectors of texts. They are computed together with those of others that wait.
    pub(crate) async fn embed(&self, texts: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, Failure> {
        let (vectors, receiver) = oneshot::channel();
        // A closed channel means that the thread has panicked; then the receiver is closed too.
        let _ = self.admissions.send(Admission::Texts(texts, vectors)).await;
        let gone = |_| Failure::new(FailureCode::Internal, "the engine has stopped");
        receiver.await.map_err(gone)?
    }

    /// How many tokens were made.
    pub(crate) fn tokens_made(&self) -> u64 {
        self.done.tokens.load(Ordering::Relaxed)
    }

    /// How many steps the engine has made, those that only read a prompt too. Stands still when it hangs.
    pub(crate) fn steps_made(&self) -> u64 {
        self.done.steps.load(Ordering::Relaxed)
    }

    /// What the engine said of itself after its last step.
    pub(crate) fn stats(&self) -> EngineStats {
        *self.stats.borrow()
    }
}

/// A sequence that the engine runs.
struct Running {
    id: SequenceId,
    /// Tokens that it may still make.
    left: u32,
    /// Those that end it.
    ends: Vec<u32>,
    hearer: Hearer,
}

/// The engine and the sequences that it runs.
struct Lives {
    engine: Box<dyn Engine>,
    running: Vec<Running>,
    /// Texts whose vectors are still to be computed, in the order in which they came.
    texts: VecDeque<(Vec<Vec<u32>>, Asker)>,
    next: u64,
    done: Arc<Done>,
    stats: watch::Sender<EngineStats>,
}

impl Lives {
    fn run(mut self, mut admissions: mpsc::Receiver<Admission>) {
        loop {
            self.release_unwanted();
            self.stats.send_replace(self.engine.stats());
            if self.running.is_empty() && self.texts.is_empty() {
                let Some(admission) = admissions.blocking_recv() else { return };
                self.admit(admission);
            }
            while let Ok(admission) = admissions.try_recv() {
                self.admit(admission);
            }
            self.embed_some();
            if self.running.is_empty() {
                continue;
            }
            let made = self.engine.step();
            self.stats.send_replace(self.engine.stats());
            self.done.steps.fetch_add(1, Ordering::Relaxed);
            for (id, token) in made {
                self.done.tokens.fetch_add(1, Ordering::Relaxed);
                self.hand_out(id, token);
            }
        }
    }

    fn admit(&mut self, admission: Admission) {
        let (sequence, left, hearer) = match admission {
            Admission::Sequence(sequence, left, hearer) => (sequence, left, hearer),
            Admission::Texts(texts, asker) => return self.texts.push_back((texts, asker)),
        };
        let id = SequenceId(self.next);
        self.next += 1;
        // The slot of the job before may have become free just now.
        self.release_unwanted();
        let ends = sequence.sampling.eos_tokens.clone();
        match self.engine.admit(id, *sequence) {
            Ok(()) => self.running.push(Running { id, left, ends, hearer }),
            Err(failure) => {
                let _ = hearer.send(Err(failure));
            }
        }
    }

    /// Computes the vectors of the texts that wait, as many as are worth computing together.
    fn embed_some(&mut self) {
        self.texts.retain(|(_, asker)| !asker.is_closed());
        let sizes = self.texts.iter().map(|(texts, _)| texts.iter().map(Vec::len).sum());
        let some: Vec<(Vec<Vec<u32>>, Asker)> = self.texts.drain(..together(sizes)).collect();
        if some.is_empty() {
            return;
        }
        let texts: Vec<&[u32]> = some.iter().flat_map(|(texts, _)| texts).map(Vec::as_slice).collect();
        let tokens = texts.iter().map(|text| text.len() as u64).sum();
        let made = self.engine.embed(&texts);
        self.done.steps.fetch_add(1, Ordering::Relaxed);
        match made {
            Ok(vectors) => {
                self.done.tokens.fetch_add(tokens, Ordering::Relaxed);
                let mut vectors = vectors.into_iter();
                for (texts, asker) in some {
                    // Whoever asked may be gone meanwhile.
                    let _ = asker.send(Ok(vectors.by_ref().take(texts.len()).collect()));
                }
            }
            Err(failure) => some.into_iter().for_each(|(_, asker)| drop(asker.send(Err(failure.clone())))),
        }
    }

    fn release_unwanted(&mut self) {
        let engine = &mut self.engine;
        self.running.retain(|running| {
            // Asked once: it may be closed at any moment, and a sequence that we forget must be released.
            let is_wanted = !running.hearer.is_closed();
            if !is_wanted {
                engine.release(running.id);
            }
            is_wanted
        });
    }

    fn hand_out(&mut self, id: SequenceId, token: Result<Token, Failure>) {
        let Some(at) = self.running.iter().position(|running| running.id == id) else { return };
        let running = &mut self.running[at];
        running.left = running.left.saturating_sub(1);
        let is_last = token.as_ref().map_or(true, |token| running.left == 0 || running.ends.contains(&token.id));
        // Whoever listens may be gone; the next round releases the sequence then.
        let _ = running.hearer.send(token);
        if is_last {
            self.engine.release(id);
            self.running.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::{JobRequest, ModelReference, Sampling};

    use super::*;
    use crate::{contract::LoadOptions, load::load};

    #[tokio::test]
    async fn a_slot_is_free_again_when_its_tokens_are_dropped() {
        let options = LoadOptions { context: None, slots: 1, ..LoadOptions::default() };
        let loaded = load(&ModelReference::Mock("tokens=1000".into()), &options, &mut |_| {}).expect("loads");
        let engine = EngineThread::start(loaded.engine, options.slots).expect("a thread");
        // Dropping races with the thread's own look at the channel: often enough to meet it at every point.
        for round in 0..20_000 {
            let sequence = Sequence::new(vec![1], JobRequest::default().sampling(0));
            let mut tokens = engine.admit(sequence, 1000).await;
            let first = tokens.recv().await.expect("the thread lives");
            assert!(first.is_ok(), "round {round}: {first:?}");
        }
    }

    #[tokio::test]
    async fn no_step_is_made_for_a_sequence_that_has_its_last_token() {
        let options = LoadOptions { context: None, slots: 1, ..LoadOptions::default() };
        let loaded = load(&ModelReference::Mock("tokens=5".into()), &options, &mut |_| {}).expect("loads");
        let engine = EngineThread::start(loaded.engine, options.slots).expect("a thread");
        let sampling = Sampling { eos_tokens: loaded.text.ends(), ..JobRequest::default().sampling(0) };
        let mut made = 0;
        // The mock ends an answer of five tokens with a sixth.
        for (limit, expected) in [(3, 3), (5, 5), (100, 6)] {
            let mut tokens = engine.admit(Sequence::new(vec![1], sampling.clone()), limit).await;
            let mut heard = 0;
            while let Some(token) = tokens.recv().await {
                token.expect("a token");
                heard += 1;
            }
            made += heard;
            assert_eq!((heard, engine.tokens_made()), (expected, made), "at most {limit}");
        }
    }
}
