//! Depth: what a long queue costs. The same operations on an empty queue and on one with many thousand jobs, of several tenants.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use rbee_bench::{
    table::{Samples, Unit, print},
    usage::Usage,
};
use rbee_nats::{Bus, Submission};
use rbee_schema::{
    Chunk, JobClass, JobId, JobRequest, ModelReference, Tenant,
    api::{Cancel, CancelReply, Jobs, JobsRequest, Status},
};
use rbee_tests::{fleet::Fleet, wait::PATIENCE};
use tokio::time::Instant;

use crate::{
    job::{answered, request, submission},
    runs::{Effort, ready, spec},
};

/// Jobs of one tenant: the default limit of a queue.
const PER_TENANT: usize = 10_000;

/// Queued jobs.
const JOBS: usize = 100_000;

/// Number of publishes that wait for their acknowledgement at a time.
const IN_FLIGHT: usize = 256;

/// Runs of each operation.
const RUNS: usize = 40;

/// Model whose slots are taken and whose queue is long.
const DEEP: &str = "deep";

/// Model without jobs.
const OTHER: &str = "other";

pub(crate) async fn measure(effort: Effort) {
    let fleet = Fleet::start().await;
    // Slow batch jobs hold the slots. An interactive job pauses one of them.
    let slow = ModelReference::Mock("tokens=100000,interval=100ms".to_owned());
    fleet.serve(DEEP, spec(slow, 1, 1, 4)).await;
    fleet.serve(OTHER, spec(ModelReference::Mock(String::new()), 1, 1, 4)).await;
    ready(&fleet, DEEP, 1).await;
    ready(&fleet, OTHER, 1).await;

    let fill = request("Hi", 100_000);
    let runs = effort.runs(RUNS);
    submit(&fleet.bus, 0..8, &fill).await;
    let shallow = Operations::measure(&fleet, runs).await;
    let memory = Memory::of(&fleet);
    let jobs = effort.runs(JOBS);
    let begun = Instant::now();
    submit(&fleet.bus, 8..jobs, &fill).await;
    let rate = (jobs - 8) as f64 / begun.elapsed().as_secs_f64();
    let deep = Operations::measure(&fleet, runs).await;
    let after = Memory::of(&fleet);

    let rows: Vec<_> = shallow.rows("8 jobs").into_iter().chain(deep.rows(&format!("{jobs} jobs"))).collect();
    let rows: Vec<_> = rows.iter().map(|(name, samples)| (name.as_str(), samples.clone())).collect();
    print(&format!("Operations beside a queue of 8 and of {jobs} jobs ({rate:.0} jobs/s were queued)"), &rows);
    print(
        &format!("Memory that a queue of {jobs} jobs takes, beyond one of 8"),
        &[
            ("queen", Samples::of([after.queen - memory.queen], Unit::Bytes)),
            ("hive", Samples::of([after.hive - memory.hive], Unit::Bytes)),
            ("worker", Samples::of([after.worker - memory.worker], Unit::Bytes)),
            ("nats-server", Samples::of([after.server - memory.server], Unit::Bytes)),
        ],
    );
}

/// Queues batch jobs, the first ones of the first tenant.
async fn submit(bus: &Bus, numbers: std::ops::Range<usize>, request: &JobRequest) {
    let submitted = stream::iter(numbers).map(|number| {
        let tenant: Tenant = format!("tenant-{}", number / PER_TENANT).parse().expect("a name");
        bus.submit(Submission { tenant, class: JobClass::Batch, ..submission(DEEP, request) })
    });
    let mut stored = submitted.buffer_unordered(IN_FLIGHT);
    while let Some(stored) = stored.next().await {
        stored.expect("the job is accepted");
    }
}

/// Times of single operations.
#[derive(Default)]
struct Operations {
    submit: Vec<Duration>,
    status: Vec<Duration>,
    list: Vec<Duration>,
    cancel: Vec<Duration>,
    same_model: Vec<Duration>,
    other_model: Vec<Duration>,
}

impl Operations {
    async fn measure(fleet: &Fleet, runs: usize) -> Self {
        let mut times = Self::default();
        for _ in 0..runs {
            times.run(&fleet.bus).await;
        }
        times
    }

    async fn run(&mut self, bus: &Bus) {
        let job = JobId::generate();
        let tenant = Tenant::default();
        let mut output = bus.read_output(&tenant, &job).await.expect("the server answers");
        let queued = Submission { class: JobClass::Batch, job: job.clone(), ..submission(DEEP, &request("Hi", 1)) };
        self.submit.push(timed(bus.submit(queued)).await.0);
        self.status.push(timed(bus.request::<_, Status>("status", &())).await.0);
        self.list.push(timed(bus.request::<_, Jobs>("jobs", &JobsRequest::default())).await.0);
        let cancel = Cancel { job, tenant };
        let (asked, _) = timed(bus.request::<_, CancelReply>("cancel", &cancel)).await;
        let (ended, chunk) = timed(output.next(PATIENCE)).await;
        assert!(matches!(chunk.expect("an end").chunk, Chunk::Error { .. }), "the queued job is cancelled");
        self.cancel.push(asked + ended);
        self.same_model.push(answered(bus, DEEP, &request("Hi", 1)).await.first_token);
        self.other_model.push(answered(bus, OTHER, &request("Hi", 1)).await.first_token);
    }

    fn rows(self, depth: &str) -> Vec<(String, Samples)> {
        let row = |name: &str, times: Vec<Duration>| (format!("{name}, {depth}"), Samples::times(times));
        vec![
            row("submit a job", self.submit),
            row("rbee.api.status", self.status),
            row("rbee.api.jobs, one page", self.list),
            row("cancel a queued job, to its error chunk", self.cancel),
            row("first token of an interactive job, same model", self.same_model),
            row("first token of an interactive job, other model", self.other_model),
        ]
    }
}

async fn timed<T, E: std::fmt::Debug>(operation: impl Future<Output = Result<T, E>>) -> (Duration, T) {
    let begun = Instant::now();
    let result = operation.await.expect("the operation succeeds");
    (begun.elapsed(), result)
}

/// Resident memory of the processes in bytes.
struct Memory {
    queen: f64,
    hive: f64,
    worker: f64,
    server: f64,
}

impl Memory {
    fn of(fleet: &Fleet) -> Self {
        let resident = |pid: u32| Usage::of(pid).resident as f64;
        let workers = fleet.running().into_iter().filter(|process| process.run.is_some());
        Self {
            queen: resident(fleet.role_pid("queen")),
            hive: resident(fleet.role_pid("one")),
            worker: workers.map(|worker| resident(worker.pid)).sum(),
            server: fleet.server.pid().map_or(0.0, resident),
        }
    }
}
