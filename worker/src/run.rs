//! The life of a worker process: connect, load, serve, end. Steps 4 to 6 of a job's path.

use std::{sync::Arc, time::Instant};

use rbee_nats::trace::TraceContext;
use rbee_nats::{Bus, JobClock, JobQueue, Outbox, TenantFeed};
use rbee_schema::{ModelKind, WorkerEvent};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info, info_span};

use crate::{
    blocked::BlockedJobs,
    contract::Loaded,
    decide::grammar_limits::GrammarLimits,
    engine_thread::EngineThread,
    fatal::FatalError,
    grammar::Grammars,
    http::{self, Health},
    job::{JobRunner, Producer, Shared},
    loading::{load_model, publish},
    metrics,
    options::Options,
    produce::{EmbeddingsProducer, TextModel, TextProducer},
    report::{self, Identity, Progress},
    serve::{Tenants, serve},
};

/// Runs a worker until it is drained or terminated.
///
/// # Errors
/// If the worker cannot start. The exit code says whether starting it again can help.
pub async fn run(options: Options) -> Result<(), FatalError> {
    let started = Instant::now();
    options.device.check()?;
    options.huge_pages.apply();
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|error| FatalError::internal("install the handler of SIGTERM", error))?;
    let health = start_http()?;
    let span = load_span(&options.identity());
    let process = Process::connect(options).instrument(span.clone()).await?;
    let loading = process.load().instrument(span.clone());
    let loaded = tokio::select! {
        loaded = loading => loaded?,
        _ = terminate.recv() => return Ok(()),
    };
    let context = loaded.context;
    let serving = process.start_serving(loaded, health).await?;
    let took = started.elapsed();
    metrics::loaded(took);
    let load_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    process.publish_ready(context, load_ms);
    span.in_scope(|| info!(context, load_ms, "ready"));
    drop(span);
    let ended = serving.until_ended(&mut terminate).await;
    process.flush_events().await;
    ended
}

/// Serves HTTP on the socket that the hive has passed, if there is one. Returns the sender for the health that it reports.
fn start_http() -> Result<watch::Sender<Health>, FatalError> {
    let (set_health, health) = watch::channel(Health::Loading);
    let listener = http::passed_socket().map_err(|error| FatalError::internal("use the socket of the hive", error))?;
    if let Some(listener) = listener {
        http::serve(listener, health).map_err(|error| FatalError::internal("serve HTTP", error))?;
    }
    Ok(set_health)
}

/// The span of everything until this worker is ready, in the trace that its hive has passed in the environment.
fn load_span(Identity { hive, worker, model, epoch, .. }: &Identity) -> Span {
    let trace = TraceContext::from_env().unwrap_or_else(TraceContext::random);
    let span = info_span!(parent: None, "load", %model, %worker, %hive, epoch, trace = trace.id());
    rbee_nats::trace::continue_trace(&span, &trace);
    span
}

/// A worker process that is connected to the bus.
struct Process {
    options: Options,
    identity: Identity,
    bus: Bus,
    outbox: Outbox,
}

impl Process {
    async fn connect(options: Options) -> Result<Self, FatalError> {
        let bus = Bus::connect(&options.connection()).await.map_err(FatalError::bus)?;
        let outbox = Outbox::start(&bus);
        Ok(Self { identity: options.identity(), options, bus, outbox })
    }

    async fn load(&self) -> Result<Loaded, FatalError> {
        let loaded = load_model(&self.options, &self.identity, &self.outbox).await;
        if loaded.is_err() {
            // The events about loading are part of the reason why the worker ends.
            self.flush_events().await;
        }
        loaded
    }

    async fn start_serving(&self, loaded: Loaded, health: watch::Sender<Health>) -> Result<Serving, FatalError> {
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let Loaded { engine, text, context } = loaded;
        let engine = EngineThread::start(engine, self.options.slots)
            .map_err(|error| FatalError::internal("start the engine thread", error))?;
        let producer: Arc<dyn Producer> = match self.options.kind {
            ModelKind::Embeddings => Arc::new(EmbeddingsProducer { text, engine: engine.clone() }),
            ModelKind::Text => {
                let grammars = Arc::new(Grammars::new(Arc::clone(&text), GrammarLimits::from(&self.options.settings)));
                let answer_tokens = self.options.settings.answer_tokens;
                let model = TextModel { text, grammars, context, answer_tokens };
                Arc::new(TextProducer { model, engine: engine.clone() })
            }
        };
        // Before the first heartbeat, which reports the worker as ready too: its receiver may check the health at once.
        health.send_replace(Health::Ready);
        let settings = &self.options.settings;
        let blocked = BlockedJobs::default();
        let progress = Progress { engine, blocked: blocked.clone() };
        let reporter = report::start(&self.bus, self.identity.clone(), settings, progress, drain.clone()).await;
        let reporter = reporter.map_err(FatalError::bus)?;
        let (feed, records) = TenantFeed::open(&self.bus).await.map_err(FatalError::bus)?;
        let queue = JobQueue::open(&self.bus, &self.identity.model, records.specs.clone()).await;
        let queue = queue.map_err(FatalError::bus)?;
        let tenants = Tenants { feed, records };
        let shared = Shared {
            bus: self.bus.clone(),
            clock: JobClock::start(&self.bus),
            outbox: self.outbox.clone(),
            identity: self.identity.clone(),
            settings: settings.clone(),
            blocked,
            stop,
        };
        Ok(Serving { runner: JobRunner { shared, reporter, producer }, queue, tenants, drain, health })
    }

    fn publish_ready(&self, context: u32, load_ms: u64) {
        let Identity { model, epoch, slots, .. } = self.identity.clone();
        publish(&self.outbox, &self.identity, WorkerEvent::Ready { model, epoch, slots, context, load_ms });
    }

    /// Waits until the last events are stored.
    async fn flush_events(&self) {
        self.outbox.drained(self.options.settings.final_flush).await;
    }
}

/// A worker that is ready to pull jobs.
struct Serving {
    runner: JobRunner,
    queue: JobQueue,
    tenants: Tenants,
    /// Cancelled when the worker must take no further jobs.
    drain: CancellationToken,
    health: watch::Sender<Health>,
}

impl Serving {
    /// Runs jobs until the worker is drained or terminated.
    ///
    /// # Errors
    /// The task of a job has panicked.
    async fn until_ended(self, terminate: &mut Signal) -> Result<(), FatalError> {
        let (drain, stop) = (self.drain.clone(), self.runner.shared.stop.clone());
        // In a task of its own, so that a job begins on the thread that received it, and without a change of threads.
        let mut serving = tokio::spawn(serve(self.runner, self.queue, self.tenants, self.drain, self.health));
        let ended = tokio::select! {
            ended = &mut serving => ended,
            _ = terminate.recv() => {
                info!("received SIGTERM; running jobs pause and return to the queue");
                drain.cancel();
                stop.cancel();
                serving.await
            }
        };
        ended.map_err(|panic| FatalError::internal("pull jobs", panic))?
    }
}
