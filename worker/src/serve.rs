//! Serving: pulls jobs into the slots of a worker and runs them, as the dispatcher decides. Step 4 of a job's path.

use std::{
    collections::HashMap,
    future::pending,
    time::{Duration, Instant},
};

use rbee_nats::{
    Delivery, JobQueue, LIMITED_FETCH, Priority, Pull, Pulled, STANDING, TenantFeed, TenantNews, TenantRecords,
    server_error,
};
use rbee_schema::{JobFlow, TenantSpecs, TenantThrottle};
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinSet},
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    decide::dispatch::{Delivered, Dispatcher, Effect, Ended, Event, Rules},
    fatal::FatalError,
    http::Health,
    job::{JobRunner, Settled},
};

/// Tolerance for the end of a standing pull: the server ends it, and its message needs time to arrive.
const LATE: Duration = Duration::from_secs(10);

/// Time limit for the last replies of a worker that ends. A job that is delivered later returns after its redelivery timeout.
const LAST_REPLIES: Duration = Duration::from_secs(2);

/// Longest time for which a record throttles a tenant, whatever it says. The window of a queen is not longer.
const LONGEST_THROTTLE: Duration = Duration::from_secs(60 * 60);

/// Records of tenants: those that there were at the start, and the changes.
pub(crate) struct Tenants {
    pub(crate) feed: TenantFeed,
    pub(crate) records: TenantRecords,
}

/// Runs jobs until `drain` is cancelled and the last job has ended.
///
/// # Errors
/// The task of a job has panicked.
pub(crate) async fn serve(
    runner: JobRunner,
    queue: JobQueue,
    tenants: Tenants,
    drain: CancellationToken,
    health: watch::Sender<Health>,
) -> Result<(), FatalError> {
    let settings = &runner.shared.settings;
    let rules = Rules {
        slots: runner.shared.identity.slots,
        batch_share: settings.batch_share,
        batch_turn: settings.batch_turn,
        standing: STANDING + LATE,
        limited_fetch: LIMITED_FETCH,
    };
    let Tenants { feed, records } = tenants;
    let dispatcher = Dispatcher::new(rules, Instant::now());
    let jobs = Jobs { runner, next: 0, delivered: HashMap::new(), running: JoinSet::new(), tasks: HashMap::new() };
    let mut serving = Serving { dispatcher, queue, jobs, health, specs: TenantSpecs::default() };
    serving.tenants(TenantNews::Records(records)).await;
    serving.run(feed, drain).await
}

struct Serving {
    dispatcher: Dispatcher,
    queue: JobQueue,
    jobs: Jobs,
    health: watch::Sender<Health>,
    /// Weights and limits of tenants.
    specs: TenantSpecs,
}

/// The jobs of the slots, by the numbers that the dispatcher knows them by.
struct Jobs {
    runner: JobRunner,
    /// Number of the next delivery.
    next: u64,
    /// Deliveries that are not started.
    delivered: HashMap<u64, Delivery>,
    running: JoinSet<Settled>,
    tasks: HashMap<Id, (u64, CancellationToken)>,
}

impl Serving {
    async fn run(mut self, mut feed: TenantFeed, drain: CancellationToken) -> Result<(), FatalError> {
        self.step(Event::Tick).await;
        let mut is_draining = false;
        let mut are_open = self.jobs.runner.reporter.are_open();
        while !(is_draining && self.jobs.running.is_empty()) {
            let due = self.dispatcher.due(Instant::now());
            // In this order: a limit that was set before a job was queued applies to the job.
            tokio::select! {
                biased;
                () = drain.cancelled(), if !is_draining => {
                    is_draining = true;
                    self.step(Event::Drain).await;
                }
                // A job that must run alone leaves no room for others.
                Ok(()) = are_open.changed() => {
                    let event = if *are_open.borrow_and_update() { Event::Opened } else { Event::Closed };
                    self.step(event).await;
                }
                news = feed.next() => self.tenants(news).await,
                Some(ended) = self.jobs.running.join_next_with_id() => {
                    let event = self.jobs.ended(ended)?;
                    self.step(event).await;
                }
                received = self.queue.receive() => {
                    for pulled in self.queue.process(received).await {
                        self.pulled(pulled).await;
                    }
                }
                () = at(due) => self.step(Event::Tick).await,
            }
        }
        if timeout(LAST_REPLIES, self.last_replies()).await.is_err() {
            warn!("the server did not answer the last pulls in time");
        }
        info!("all slots are idle; the worker ends");
        Ok(())
    }

    /// Returns the jobs that were under way to this worker when it began to drain.
    async fn last_replies(&mut self) {
        while self.queue.is_withdrawing() || self.dispatcher.is_fetching() {
            let received = self.queue.receive().await;
            for pulled in self.queue.process(received).await {
                self.pulled(pulled).await;
            }
        }
    }

    async fn pulled(&mut self, pulled: Pulled) {
        let event = match pulled {
            Pulled::Job(delivery, kind) => {
                self.has_queue();
                let (flow, waiting) = (delivery.flow(), delivery.waiting);
                let delivered = Delivered { job: self.jobs.add(*delivery), flow, waiting };
                match kind {
                    Pull::Fetch => Event::Fetched(delivered),
                    Pull::Standing => Event::Stood(delivered),
                    Pull::Withdrawn => Event::Late(delivered),
                }
            }
            Pulled::Nothing(flow, Pull::Fetch) => {
                self.has_queue();
                Event::Empty(flow)
            }
            Pulled::Nothing(flow, Pull::Standing | Pull::Withdrawn) => Event::Expired(flow),
            Pulled::Failed(flow, kind, error) => {
                self.failed(&flow, &error);
                match kind {
                    Pull::Fetch => Event::FetchFailed(flow),
                    Pull::Standing | Pull::Withdrawn => Event::StandingFailed(flow),
                }
            }
            Pulled::Opened => return self.has_queue(),
            Pulled::Queued(flow) => Event::Queued(flow),
            Pulled::Listed(flows) => Event::Listed(flows),
            Pulled::Reset => Event::Reset,
        };
        self.step(event).await;
    }

    /// Applies what was learned about tenants.
    async fn tenants(&mut self, news: TenantNews) {
        let event = match news {
            TenantNews::Records(TenantRecords { specs, throttles }) => {
                self.set_specs(specs).await;
                let until = |(tenant, throttle)| (tenant, throttled_until(&throttle));
                Event::Throttles(throttles.into_iter().map(until).collect())
            }
            TenantNews::Spec(tenant, spec) => {
                let mut specs = self.specs.clone();
                if !specs.set(&tenant, spec) {
                    return warn!(%tenant, "there are too many records of tenants; this one has no effect");
                }
                return self.set_specs(specs).await;
            }
            TenantNews::Throttle(tenant, Some(throttle)) => Event::Throttled(tenant, throttled_until(&throttle)),
            TenantNews::Throttle(tenant, None) => Event::Released(tenant),
        };
        self.step(event).await;
    }

    async fn set_specs(&mut self, specs: TenantSpecs) {
        if self.specs != specs {
            info!(records = specs.own().len(), "the weights and limits of tenants have changed");
            self.specs = specs.clone();
            self.queue.limit(specs.clone());
            self.step(Event::Specs(specs)).await;
        }
    }

    async fn step(&mut self, event: Event) {
        for effect in self.dispatcher.step(event, Instant::now()) {
            match effect {
                Effect::Fetch(flow) => self.queue.fetch(&flow).await,
                Effect::Stand(flow) => self.queue.stand(&flow, Priority::Free).await,
                Effect::StandToPreempt(flow) => self.queue.stand(&flow, Priority::Preempting).await,
                Effect::Withdraw => self.queue.withdraw().await,
                Effect::List => self.queue.list(),
                Effect::Start(job) => self.jobs.start(job),
                Effect::Pause(job) => self.jobs.pause(job),
                Effect::Return(job) => self.jobs.give_back(job).await,
            }
        }
    }

    /// The queue exists, or exists again.
    fn has_queue(&self) {
        if self.health.send_if_modified(|health| std::mem::replace(health, Health::Ready) != Health::Ready) {
            info!("the queue is back; the worker takes jobs again");
        }
    }

    /// A pull failed. The dispatcher repeats it after a pause. While the stream is missing, this is logged once.
    fn failed(&self, flow: &JobFlow, error: &rbee_nats::BusError) {
        if !server_error::is_missing_stream(&error.cause) {
            warn!(%flow, %error, "a pull failed; it is repeated");
        } else if self.health.send_if_modified(|health| std::mem::replace(health, Health::NoQueue) != Health::NoQueue) {
            warn!(%error, "the stream of jobs does not exist; the worker waits for it");
        }
    }
}

impl Jobs {
    fn add(&mut self, delivery: Delivery) -> u64 {
        self.next += 1;
        self.delivered.insert(self.next, delivery);
        self.next
    }

    fn start(&mut self, job: u64) {
        let Some(delivery) = self.delivered.remove(&job) else { return };
        let (runner, pause) = (self.runner.clone(), self.runner.shared.stop.child_token());
        let token = pause.clone();
        let task = self.running.spawn(async move { runner.run(delivery, token).await });
        self.tasks.insert(task.id(), (job, pause));
    }

    fn pause(&self, job: u64) {
        if let Some((_, pause)) = self.tasks.values().find(|(number, _)| *number == job) {
            info!("a batch job pauses for an interactive job");
            pause.cancel();
        }
    }

    /// Returns a job that was delivered while no slot was free.
    async fn give_back(&mut self, job: u64) {
        let Some(delivery) = self.delivered.remove(&job) else { return };
        if let Err(error) = delivery.nak().await {
            let job = &delivery.job;
            warn!(%job, %error, "failed to return a job; it is delivered again after its redelivery timeout");
        }
    }

    fn ended(&mut self, ended: Result<(Id, Settled), JoinError>) -> Result<Event, FatalError> {
        let (task, settled) = ended.map_err(|panic| FatalError::internal("run a job", panic))?;
        let job = self.tasks.remove(&task).map_or(0, |(job, _)| job);
        Ok(Event::Ended(Ended { job, tokens: settled.tokens, returned: settled.returned }))
    }
}

/// Time at which a throttled tenant may run jobs again.
fn throttled_until(throttle: &TenantThrottle) -> Instant {
    Instant::now() + Duration::from_millis(throttle.for_ms).min(LONGEST_THROTTLE)
}

/// Completes at `due`, or never.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}
