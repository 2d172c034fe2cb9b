//! The engine thread: owns the engine and runs its steps. Jobs submit sequences and inputs, and receive tokens and vectors.

use std::{
    collections::VecDeque,
    future,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rbee_schema::Failure;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    contract::{Engine, EngineStats, Sequence, SequenceId},
    decide::embedding::requests_per_batch,
    fatal::end_after_panic,
    sample::Token,
};

/// The tokens of a sequence, in order; a failure is the last item. Without one the channel closes only when the process ends. Dropping the receiver releases the sequence. The channel
/// is unbounded because the engine must not wait; it holds at most as many tokens as the sequence may make.
pub(crate) type Tokens = mpsc::UnboundedReceiver<Result<Token, Failure>>;

/// Handle of the engine thread; cheap to clone. The thread ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(crate) struct EngineThread {
    requests: mpsc::Sender<Request>,
    counters: Arc<Counters>,
    stats: watch::Receiver<EngineStats>,
}

/// Work that the thread has done. Readable while a step runs, so that a heartbeat never waits for one.
#[derive(Debug, Default)]
struct Counters {
    tokens: AtomicU64,
    steps: AtomicU64,
}

enum Request {
    /// A sequence, and the maximum number of tokens that it may make.
    Sequence { sequence: Box<Sequence>, limit: u32, tokens: TokenSender },
    /// Inputs of an embeddings request.
    Inputs(Inputs),
}

/// Inputs of one embeddings request, as tokens, and the sender for their vectors.
struct Inputs {
    inputs: Vec<Vec<u32>>,
    vectors: oneshot::Sender<Result<Vec<Vec<f32>>, Failure>>,
}

type TokenSender = mpsc::UnboundedSender<Result<Token, Failure>>;

impl EngineThread {
    /// Starts the thread. The request channel has one place for each slot, because a slot waits for its admission.
    pub(crate) fn start(engine: Box<dyn Engine>, slots: u32) -> std::io::Result<Self> {
        let (requests, mut receiver) = mpsc::channel(slots.max(1) as usize);
        let counters = Arc::new(Counters::default());
        let (publish_stats, stats) = watch::channel(engine.stats());
        let mut engine_loop = EngineLoop {
            engine,
            running: Vec::new(),
            waiting: VecDeque::new(),
            next_id: 0,
            counters: Arc::clone(&counters),
            stats: publish_stats,
        };
        let run = move || {
            // The process ends before the loop is dropped: its jobs must not see that their channels close, and fail.
            if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| engine_loop.run(&mut receiver))) {
                end_after_panic("run the engine", panic.as_ref());
            }
        };
        thread::Builder::new().name("engine".into()).spawn(run)?;
        Ok(Self { requests, counters, stats })
    }

    /// Submits a sequence. The engine releases it after `limit` tokens, or after a token that ends it.
    pub(crate) async fn admit(&self, sequence: Sequence, limit: u32) -> Tokens {
        let (tokens, receiver) = mpsc::unbounded_channel();
        // The channel is closed only when the process ends.
        let _ = self.requests.send(Request::Sequence { sequence: Box::new(sequence), limit, tokens }).await;
        receiver
    }

    /// Computes the vectors of inputs, together with those of other waiting requests.
    pub(crate) async fn embed(&self, inputs: Vec<Vec<u32>>) -> Result<Vec<Vec<f32>>, Failure> {
        let (vectors, receiver) = oneshot::channel();
        // The channel is closed only when the process ends.
        let _ = self.requests.send(Request::Inputs(Inputs { inputs, vectors })).await;
        match receiver.await {
            Ok(vectors) => vectors,
            Err(_) => future::pending().await,
        }
    }

    /// Number of tokens that were made, and of input tokens whose vectors were computed.
    pub(crate) fn tokens_made(&self) -> u64 {
        self.counters.tokens.load(Ordering::Relaxed)
    }

    /// Number of completed steps, including those that only read a prompt. Stands still when the engine hangs.
    pub(crate) fn steps_made(&self) -> u64 {
        self.counters.steps.load(Ordering::Relaxed)
    }

    /// Counts work that is not the engine's as a step: a large request is prepared, and the engine waits for it.
    pub(crate) fn count_preparation(&self) {
        self.counters.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Counters of the engine after its last step.
    pub(crate) fn stats(&self) -> EngineStats {
        *self.stats.borrow()
    }
}

/// A sequence that the engine runs.
struct Running {
    id: SequenceId,
    /// Tokens that it may still make.
    left: u32,
    /// Tokens that end it.
    eos_tokens: Vec<u32>,
    tokens: TokenSender,
}

/// State of the engine thread.
struct EngineLoop {
    engine: Box<dyn Engine>,
    running: Vec<Running>,
    /// Inputs whose vectors are not computed yet, oldest first.
    waiting: VecDeque<Inputs>,
    next_id: u64,
    counters: Arc<Counters>,
    stats: watch::Sender<EngineStats>,
}

impl EngineLoop {
    fn run(&mut self, requests: &mut mpsc::Receiver<Request>) {
        loop {
            self.release_dropped();
            self.stats.send_replace(self.engine.stats());
            if self.running.is_empty() && self.waiting.is_empty() {
                let Some(request) = requests.blocking_recv() else { return };
                self.accept(request);
            }
            while let Ok(request) = requests.try_recv() {
                self.accept(request);
            }
            self.embed_batch();
            if !self.running.is_empty() {
                self.step();
            }
        }
    }

    fn accept(&mut self, request: Request) {
        match request {
            Request::Sequence { sequence, limit, tokens } => self.admit(*sequence, limit, tokens),
            Request::Inputs(inputs) => self.waiting.push_back(inputs),
        }
    }

    fn admit(&mut self, sequence: Sequence, limit: u32, tokens: TokenSender) {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        // The sequence whose slot this one takes may have been dropped just now.
        self.release_dropped();
        let eos_tokens = sequence.sampling.eos_tokens.clone();
        match self.engine.admit(id, sequence) {
            Ok(()) => self.running.push(Running { id, left: limit, eos_tokens, tokens }),
            Err(failure) => {
                let _ = tokens.send(Err(failure));
            }
        }
    }

    fn step(&mut self) {
        let made = self.engine.step();
        self.stats.send_replace(self.engine.stats());
        self.counters.steps.fetch_add(1, Ordering::Relaxed);
        for (id, token) in made {
            self.counters.tokens.fetch_add(1, Ordering::Relaxed);
            self.send(id, token);
        }
    }

    /// Computes the vectors of the oldest waiting inputs: as many as are worth computing together.
    fn embed_batch(&mut self) {
        self.waiting.retain(|waiting| !waiting.vectors.is_closed());
        let sizes = self.waiting.iter().map(|waiting| waiting.inputs.iter().map(Vec::len).sum());
        let batch: Vec<Inputs> = self.waiting.drain(..requests_per_batch(sizes)).collect();
        if batch.is_empty() {
            return;
        }
        let inputs: Vec<&[u32]> = batch.iter().flat_map(|request| &request.inputs).map(Vec::as_slice).collect();
        let tokens = inputs.iter().map(|input| input.len() as u64).sum();
        let made = self.engine.embed(&inputs);
        self.counters.steps.fetch_add(1, Ordering::Relaxed);
        match made {
            Ok(vectors) => {
                self.counters.tokens.fetch_add(tokens, Ordering::Relaxed);
                let mut vectors = vectors.into_iter();
                for request in batch {
                    // Sending fails if the request was dropped meanwhile.
                    let _ = request.vectors.send(Ok(vectors.by_ref().take(request.inputs.len()).collect()));
                }
            }
            Err(failure) => batch.into_iter().for_each(|request| drop(request.vectors.send(Err(failure.clone())))),
        }
    }

    /// Releases sequences whose receiver was dropped.
    fn release_dropped(&mut self) {
        let engine = &mut self.engine;
        self.running.retain(|running| {
            // Read once: the channel may be closed at any moment, and a sequence that is removed here must be released.
            let is_open = !running.tokens.is_closed();
            if !is_open {
                engine.release(running.id);
            }
            is_open
        });
    }

    fn send(&mut self, id: SequenceId, token: Result<Token, Failure>) {
        let Some(at) = self.running.iter().position(|running| running.id == id) else { return };
        let running = &mut self.running[at];
        running.left = running.left.saturating_sub(1);
        let is_last = token.as_ref().map_or(true, |token| running.left == 0 || running.eos_tokens.contains(&token.id));
        // Sending fails if the receiver was dropped. The next round releases the sequence then.
        let _ = running.tokens.send(token);
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
    async fn slot_is_free_again_after_its_tokens_are_dropped() {
        let options = LoadOptions { context: None, slots: 1, ..LoadOptions::default() };
        let loaded = load(&ModelReference::Mock("tokens=1000".into()), &options, &mut |_| {}).expect("loads");
        let engine = EngineThread::start(loaded.engine, options.slots).expect("a thread");
        // Dropping the tokens races with the thread's check of the channel. Many rounds meet it at every point.
        for round in 0..20_000 {
            let sequence = Sequence::new(vec![1], JobRequest::default().sampling(0));
            let mut tokens = engine.admit(sequence, 1000).await;
            let first = tokens.recv().await.expect("the thread runs");
            assert!(first.is_ok(), "round {round}: {first:?}");
        }
    }

    #[tokio::test]
    async fn sequence_with_its_last_token_is_not_stepped_again() {
        let options = LoadOptions { context: None, slots: 1, ..LoadOptions::default() };
        let loaded = load(&ModelReference::Mock("tokens=5".into()), &options, &mut |_| {}).expect("loads");
        let engine = EngineThread::start(loaded.engine, options.slots).expect("a thread");
        let sampling = Sampling { eos_tokens: loaded.text.eos_tokens(), ..JobRequest::default().sampling(0) };
        let mut made = 0;
        // The mock ends an answer of five tokens with a sixth.
        for (limit, expected) in [(3, 3), (5, 5), (100, 6)] {
            let mut tokens = engine.admit(Sequence::new(vec![1], sampling.clone()), limit).await;
            let mut received = 0;
            while let Some(token) = tokens.recv().await {
                token.expect("a token");
                received += 1;
            }
            made += received;
            assert_eq!((received, engine.tokens_made()), (expected, made), "at most {limit}");
        }
    }
}
