//! The life of a worker process: connect, load, serve, end. Steps 4 to 6 of a job's path.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use rbee_nats::trace::TraceContext;
use rbee_nats::{Bus, Connection, ConnectionSettings, JobQueue, Namespace, Outbox, worker_connection};
use rbee_schema::{
    ByteSize, Event, Failure, FailureCode, HiveName, MemoryEstimate, ModelKind, ModelName, ModelReference, WorkerEvent,
    WorkerName, WorkerSettings,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info, info_span, warn};

use crate::{
    contract::{LoadOptions, LoadProgress, Loaded, TemplateLimits},
    device::ComputeDevice,
    engine_thread::EngineThread,
    grammar::Grammars,
    http,
    huge_pages::HugePages,
    job::Desk,
    load, metrics, report,
    report::Identity,
    serve,
};

/// Progress is told at most this often.
const PROGRESS: Duration = Duration::from_millis(100);

/// Runs one model and answers its jobs. Started by a hive.
#[derive(Debug, Clone, Parser)]
#[command(name = "rbee-worker", version)]
pub struct Options {
    /// The hive that started it.
    #[arg(long)]
    hive: HiveName,
    /// Its name.
    #[arg(long)]
    worker: WorkerName,
    /// The model's name.
    #[arg(long)]
    model: ModelName,
    /// Which run of the worker this is.
    #[arg(long, default_value_t = 1)]
    epoch: u64,
    /// How many jobs it runs at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    slots: u32,
    /// What the model does: text or embeddings.
    #[arg(long, default_value_t)]
    kind: ModelKind,
    /// Tokens of prompt and answer together, or of one text whose vector is wanted.
    #[arg(long)]
    context: Option<u32>,
    /// How many threads compute; default: as many as may run at a time.
    #[arg(long, env = "RBEE_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// The memory that keys and values of tokens may take, such as 2GiB; default: a full context for each slot, and one more
    /// for what is remembered of jobs that are done.
    #[arg(long, env = "RBEE_CACHE_MEMORY")]
    cache_memory: Option<ByteSize>,
    /// The memory that it may take in all, such as 8GiB: a model that needs more is refused before it is loaded.
    #[arg(long, env = "RBEE_MEMORY")]
    memory: Option<ByteSize>,
    /// What it computes on: cpu, cuda:N with the number of a card, or metal. Only what the program was built for.
    #[arg(long, env = "RBEE_DEVICE", default_value = "cpu")]
    device: ComputeDevice,
    /// Whether weights and cache are in huge pages, where the kernel has some.
    #[arg(long, env = "RBEE_HUGE_PAGES", default_value = "on")]
    huge_pages: HugePages,
    /// The server to use.
    #[arg(long, env = "RBEE_NATS", default_value = "nats://127.0.0.1:4222")]
    nats: String,
    /// The first token of all subjects.
    #[arg(long, env = "RBEE_NAMESPACE", default_value = "rbee")]
    namespace: Namespace,
    /// How the connection to the server is dealt with, as NAME=VALUE with commas.
    #[arg(long, env = "RBEE_CONNECTION", default_value = "", hide_default_value = true)]
    connection: ConnectionSettings,
    /// What it waits for and bears, as NAME=VALUE with commas.
    #[arg(long, env = "RBEE_WORKER_SETTINGS", default_value = "", hide_default_value = true)]
    settings: WorkerSettings,
    /// The collector to send spans to.
    #[arg(long, env = "RBEE_OTLP", hide_env_values = true)]
    otlp: Option<String>,
    /// Where the model is: file:/path/to/model.gguf, or the path of a folder with safetensors.
    reference: ModelReference,
}

impl Options {
    /// The collector to send spans to.
    pub fn otlp(&self) -> Option<&str> {
        self.otlp.as_deref()
    }
}

/// Why a worker ended, and with which code.
#[derive(Debug)]
pub struct Ended {
    /// What it says.
    pub failure: Failure,
    /// Its exit code.
    pub code: u8,
}

impl Ended {
    fn new(code: u8, failure: Failure) -> Self {
        Self { failure, code }
    }

    fn internal(doing: &str, cause: impl std::fmt::Display) -> Self {
        Self::new(70, Failure::new(FailureCode::Internal, format!("failed to {doing}: {cause}")))
    }

    fn bus(cause: impl std::fmt::Display) -> Self {
        Self::new(69, Failure::new(FailureCode::TimedOut, cause.to_string()))
    }
}

impl From<Failure> for Ended {
    /// The model cannot be used, or it was asked for what it cannot do.
    fn from(failure: Failure) -> Self {
        let code = match failure.code {
            FailureCode::InvalidRequest | FailureCode::DeviceMissing | FailureCode::OutOfMemory => 78,
            _ => 65,
        };
        Self::new(code, failure)
    }
}

/// Runs a worker until it is told to end.
///
/// # Errors
/// When it cannot begin; the code says whether another try can help.
pub async fn run(options: Options) -> Result<(), Ended> {
    let started = Instant::now();
    options.device.check()?;
    options.huge_pages.take_effect();
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| Ended::internal("listen for signals", error))?;
    let (tell_ready, ready) = watch::channel(false);
    if let Some(listener) = http::handed_over().map_err(|error| Ended::internal("take the socket", error))? {
        http::serve(listener, ready).map_err(|error| Ended::internal("serve HTTP", error))?;
    }
    let identity = Identity {
        hive: options.hive.clone(),
        worker: options.worker.clone(),
        model: options.model.clone(),
        epoch: options.epoch,
        slots: options.slots,
    };
    let span = load_span(&identity);
    let connection = Connection {
        url: options.nats.clone(),
        name: worker_connection(&identity.hive, &identity.worker),
        namespace: options.namespace.clone(),
        settings: options.connection.clone(),
    };
    let bus = Bus::connect(&connection).instrument(span.clone()).await.map_err(Ended::bus)?;
    let outbox = Outbox::start(&bus);
    let loading = load(&options, &identity, &outbox).instrument(span.clone());
    let loaded = tokio::select! {
        loaded = loading => loaded,
        _ = terminate.recv() => return Ok(()),
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(ended) => {
            // What it has told of the load is part of why it ends.
            outbox.drained(options.settings.final_flush).await;
            return Err(ended);
        }
    };

    let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
    let context = loaded.context;
    let engine = EngineThread::start(loaded.engine, options.slots);
    let engine = engine.map_err(|error| Ended::internal("start the engine", error))?;
    let settings = options.settings.clone();
    // Before the first heartbeat, which says it too: whoever hears that may ask at once.
    tell_ready.send_replace(true);
    let reporter = report::start(&bus, identity.clone(), &settings, engine.clone(), drain.clone()).await;
    let reporter = reporter.map_err(Ended::bus)?;
    let queue = JobQueue::open(&bus, &identity.model).await.map_err(Ended::bus)?;
    let (text, kind) = (loaded.text, options.kind);
    let final_flush = settings.final_flush;
    let grammars = Arc::new(Grammars::new(Arc::clone(&text)));
    let desk = Desk {
        bus,
        outbox: outbox.clone(),
        identity,
        kind,
        text,
        grammars,
        context,
        settings,
        engine,
        reporter,
        stop: stop.clone(),
    };

    metrics::loaded(started.elapsed());
    let load_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    publish(
        &outbox,
        &desk.identity,
        WorkerEvent::Ready {
            model: desk.identity.model.clone(),
            epoch: desk.identity.epoch,
            slots: desk.identity.slots,
            context,
            load_ms,
        },
    );
    span.in_scope(|| info!(context, load_ms, "ready"));
    drop(span);

    let serving = serve::serve(desk, queue, drain.clone());
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => {}
        _ = terminate.recv() => {
            info!("terminated; running jobs go back with what they have");
            drain.cancel();
            stop.cancel();
            serving.await;
        }
    }
    outbox.drained(final_flush).await;
    Ok(())
}

/// The span of everything until this worker is ready, in the trace that its hive has handed over.
fn load_span(Identity { hive, worker, model, epoch, .. }: &Identity) -> Span {
    let trace = TraceContext::from_env().unwrap_or_else(TraceContext::random);
    let span = info_span!(parent: None, "load", %model, %worker, %hive, epoch, trace = trace.id());
    rbee_nats::trace::continue_trace(&span, &trace);
    span
}

fn publish(outbox: &Outbox, identity: &Identity, event: WorkerEvent) {
    outbox.publish(&Event::Worker(identity.hive.clone(), identity.worker.clone(), event));
}

/// Loads the model on a thread of its own and tells how far it is.
async fn load(options: &Options, identity: &Identity, outbox: &Outbox) -> Result<Loaded, Ended> {
    let (progress, mut told) = mpsc::unbounded_channel();
    let (finished, mut outcome) = oneshot::channel();
    let load = LoadOptions {
        kind: options.kind,
        context: options.context,
        slots: options.slots,
        template: TemplateLimits::from(&options.settings),
        threads: options.threads,
        cache_bytes: options.cache_memory.map(ByteSize::bytes),
        memory_bytes: options.memory.map(ByteSize::bytes),
    };
    let reference = options.reference.clone();
    let loader = std::thread::Builder::new().name("load".into()).spawn(move || {
        // Nobody listens any more when the worker was told to end meanwhile.
        let mut tell = |at: LoadProgress| {
            let _ = progress.send(at);
        };
        let _ = finished.send(load::load(&reference, &load, &mut tell));
    });
    loader.map_err(|error| Ended::internal("start a thread", error))?;
    // The first word of this process: the hive waits for it.
    publish(outbox, identity, loading(identity.epoch, LoadProgress { done_bytes: 0, total_bytes: 0, memory: None }));
    let (mut last, mut read, mut memory) = (Instant::now(), 0, None);
    loop {
        tokio::select! {
            biased;
            Some(at) = told.recv() => {
                if memory != at.memory {
                    memory = at.memory;
                    tell_memory(memory);
                    publish(outbox, identity, loading(identity.epoch, at));
                    continue;
                }
                let is_new = at.done_bytes > read && (last.elapsed() >= PROGRESS || at.done_bytes == at.total_bytes);
                if is_new {
                    publish(outbox, identity, loading(identity.epoch, at));
                    (last, read) = (Instant::now(), at.done_bytes);
                }
            }
            loaded = &mut outcome => {
                let loaded = loaded.map_err(|_| Ended::internal("load the model", "the loader panicked"))?;
                return loaded.map_err(|failure| {
                    warn!(%failure, "the model cannot be used");
                    Ended::from(failure)
                });
            }
        }
    }
}

/// The memory that the model will take, for people.
fn tell_memory(memory: Option<MemoryEstimate>) {
    let Some(memory) = memory else { return };
    let rounded = |bytes: u64| ByteSize(bytes.div_ceil(1 << 20) << 20).to_string();
    info!(
        total = rounded(memory.total_bytes),
        weights = rounded(memory.weights_bytes),
        cache = rounded(memory.cache_bytes),
        workspace = rounded(memory.workspace_bytes),
        program = rounded(memory.program_bytes),
        "the memory that the model will take at the most"
    );
}

fn loading(epoch: u64, LoadProgress { done_bytes, total_bytes, memory }: LoadProgress) -> WorkerEvent {
    let percent = (done_bytes * 100).checked_div(total_bytes).unwrap_or(0);
    WorkerEvent::Loading { epoch, percent: u8::try_from(percent).unwrap_or(100), done_bytes, total_bytes, memory }
}
