//! Loads the model on a thread of its own and publishes the progress. Step 4 of a job's path.

use std::time::{Duration, Instant};

use rbee_nats::Outbox;
use rbee_schema::{ByteSize, Event, Failure, MemoryEstimate, WorkerEvent};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::{
    contract::{LoadProgress, Loaded},
    fatal::FatalError,
    load,
    options::Options,
    report::Identity,
};

/// Minimum time between two published reports of progress. People and hives need no more than ten in a second, and a hive
/// allows seconds without progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Publishes an event of this worker.
pub(crate) fn publish(outbox: &Outbox, identity: &Identity, event: WorkerEvent) {
    outbox.publish(&Event::Worker(identity.hive.clone(), identity.worker.clone(), event));
}

/// Loads the model and publishes the progress.
///
/// # Errors
/// If the model cannot be used.
pub(crate) async fn load_model(options: &Options, identity: &Identity, outbox: &Outbox) -> Result<Loaded, FatalError> {
    let (mut progress, mut result) = start_loader(options)?;
    let mut reports = Reports::start(identity, outbox);
    loop {
        tokio::select! {
            biased;
            Some(progress) = progress.recv() => reports.report(progress),
            loaded = &mut result => {
                let loaded = loaded.map_err(|_| FatalError::internal("load the model", "the loader thread panicked"))?;
                return loaded.map_err(|failure| {
                    warn!(%failure, "failed to load the model");
                    FatalError::from(failure)
                });
            }
        }
    }
}

type Progress = mpsc::UnboundedReceiver<LoadProgress>;
type LoadResult = oneshot::Receiver<Result<Loaded, Failure>>;

fn start_loader(options: &Options) -> Result<(Progress, LoadResult), FatalError> {
    // Unbounded, because the loader must not wait for a report: it makes about a hundred.
    let (progress, reported) = mpsc::unbounded_channel();
    let (finished, result) = oneshot::channel();
    let (load_options, reference) = (options.load_options(), options.reference.clone());
    let loader = std::thread::Builder::new().name("load".into()).spawn(move || {
        // The receivers are dropped when the worker was terminated meanwhile.
        let mut report = |at: LoadProgress| {
            let _ = progress.send(at);
        };
        let _ = finished.send(load::load(&reference, &load_options, &mut report));
    });
    loader.map_err(|error| FatalError::internal("start the loader thread", error))?;
    Ok((reported, result))
}

/// The reports of progress that this worker publishes.
struct Reports<'a> {
    identity: &'a Identity,
    outbox: &'a Outbox,
    last: Instant,
    done_bytes: u64,
    memory: Option<MemoryEstimate>,
}

impl<'a> Reports<'a> {
    /// Publishes the first report. It is the first event of this process, and the hive waits for it.
    fn start(identity: &'a Identity, outbox: &'a Outbox) -> Self {
        let reports = Self { identity, outbox, last: Instant::now(), done_bytes: 0, memory: None };
        reports.publish(LoadProgress { done_bytes: 0, total_bytes: 0, memory: None });
        reports
    }

    /// Publishes a report if it has news: the memory estimate, the end, or progress after [`REPORT_INTERVAL`].
    fn report(&mut self, progress: LoadProgress) {
        if self.memory != progress.memory {
            self.memory = progress.memory;
            log_memory(self.memory);
            return self.publish(progress);
        }
        let is_end = progress.done_bytes == progress.total_bytes;
        if progress.done_bytes > self.done_bytes && (is_end || self.last.elapsed() >= REPORT_INTERVAL) {
            self.publish(progress);
            (self.last, self.done_bytes) = (Instant::now(), progress.done_bytes);
        }
    }

    fn publish(&self, LoadProgress { done_bytes, total_bytes, memory }: LoadProgress) {
        let percent = (done_bytes * 100).checked_div(total_bytes).unwrap_or(0);
        let percent = u8::try_from(percent).unwrap_or(100);
        let event = WorkerEvent::Loading { epoch: self.identity.epoch, percent, done_bytes, total_bytes, memory };
        publish(self.outbox, self.identity, event);
    }
}

/// Logs the memory estimate of the model.
fn log_memory(memory: Option<MemoryEstimate>) {
    let Some(memory) = memory else { return };
    let rounded = |bytes: u64| ByteSize(bytes.div_ceil(1 << 20) << 20).to_string();
    info!(
        total = rounded(memory.total_bytes),
        weights = rounded(memory.weights_bytes),
        cache = rounded(memory.cache_bytes),
        workspace = rounded(memory.workspace_bytes),
        program = rounded(memory.program_bytes),
        "estimated the peak memory use of the model"
    );
}
