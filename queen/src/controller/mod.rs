//! The task that owns the queen's view of the fleet: it receives inputs, lets [`decide`](crate::decide) plan, and carries the
//! plan out. Step 2 of a job's path.
//!
//! Nothing here asks a hive or a worker whether it is ready: registry entries, heartbeats and notices of queued jobs arrive
//! without being asked for. The only timer is the time at which the plan may change without an input: an idle worker's
//! timeout passes, a hive has sent no heartbeat for too long, or a failed start may be tried again.
//!
//! Every queen receives everything and answers requests; only the leader plans (see [`leader`](crate::leader)).

mod cancels;
mod clock;
mod commands;
mod deadline_watch;
mod deadlines;
mod leading;
mod messages;
mod planning;
mod queue_count;
mod recovery;
mod refusals;
mod registries;
mod state;
mod subscriptions;
mod tenants;
mod trace;

use std::{
    future::ready,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use rbee_nats::{
    Api, ApiRequest, Bus, BusError, BusLimits, IssuedCommand, JobFinder, Outbox, QueueCount, StoredCancel, retried,
};
use rbee_schema::{Event as BusEvent, ModelName, QueenEvent, QueenName};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::sleep_until,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{error, info, warn};

use self::{
    deadline_watch::{Looked, Watch},
    state::{Cancels, Counting, Expired, Leading, Refusals, Refused, TenantState, UsedTokens},
    subscriptions::{Messages, REGISTRIES, Registries},
    trace::Traces,
};
use crate::{
    api,
    decide::{
        fleet::{Effect, Fleet, WorkerKey},
        limits::QueenLimits,
        tenants::Tenants,
        timers::Timers,
    },
    large_bodies::LargeBodies,
    leader,
    open_answers::OpenAnswers,
    streams,
};

/// Heartbeats handled in a row before another input is handled, if there is one.
const HEARTBEATS_IN_A_ROW: u32 = 64;

/// Configuration of a queen.
#[derive(Debug, Clone)]
pub struct QueenConfig {
    /// Name of the queen.
    pub name: QueenName,
    /// Timeouts and intervals.
    pub timers: Timers,
    /// Limits.
    pub limits: QueenLimits,
    /// Limits of streams that the queen makes again.
    pub bus_limits: BusLimits,
}

/// Reason why a queen cannot run.
#[derive(Debug, thiserror::Error)]
pub enum QueenError {
    /// An operation on the bus failed.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The task that campaigns for the leader lease ended before the queen.
    #[error("failed to campaign for the lead: {0}")]
    Campaign(String),
}

/// Result of a task that the owner started.
enum Report {
    /// The queue was counted. `None` if the server did not answer.
    Counted(Option<QueueCount>),
    /// The jobs of a filter were refused.
    Refused(Refused),
    /// The queen has listened for long enough to know which jobs run.
    HeartbeatsKnown,
    /// Cancellations from before this queen led.
    StoredCancels(Vec<StoredCancel>),
    /// Cancelled jobs have left the queue: the model of each.
    Cancelled(Vec<ModelName>),
    /// Tokens of recent jobs. `None` if the server did not answer.
    Used(Option<Vec<UsedTokens>>),
    /// Jobs beyond the limits of their tenants were refused.
    ExcessRefused,
    /// The queue was looked at for deadlines that have come.
    Looked(Looked),
    /// Jobs whose deadline has come were answered.
    Expired(Expired),
    /// The server did not confirm that a command about a worker is stored.
    CommandNotStored(WorkerKey, Box<IssuedCommand>),
    Done,
}

struct Controller {
    name: QueenName,
    bus: Bus,
    outbox: Outbox,
    fleet: Fleet,
    /// Events of the fleet since the last planning pass. The leader publishes them then, other queens drop them.
    events: Vec<QueenEvent>,
    traces: Traces,
    tasks: JoinSet<Report>,
    /// Number of registries that were not read to the end yet. Nothing is planned before that.
    unread_registries: u32,
    leading: Leading,
    queue_count: Counting,
    finder: JobFinder,
    /// Answers that this queen relays by request.
    open: OpenAnswers,
    /// Places for bodies that are larger than a message.
    large: LargeBodies,
    cancels: Cancels,
    deadlines: Watch,
    refusals: Refusals,
    tenants: TenantState,
    /// Start of the time in which this queen has received every heartbeat.
    listening_since: Instant,
    /// No planning pass starts before this time.
    paused_until: Instant,
    /// Reason of a stop command from the bus.
    stop_reason: Option<String>,
}

/// Runs a queen until `stop` is cancelled or it is told to stop over the bus. Hives and workers keep running without it. After
/// `stop` it plans on while answers by request are in progress, for at most the time `shutdown`.
///
/// # Errors
/// If an operation on the bus fails for good, or the campaign for the leader lease ends.
pub async fn run(config: QueenConfig, bus: Bus, stop: CancellationToken) -> Result<(), QueenError> {
    let tenants = Tenants::new(config.timers.token_window, config.limits.refused as usize);
    let controller = Controller {
        name: config.name,
        outbox: Outbox::start(&bus),
        finder: JobFinder::start(&bus),
        deadlines: Watch::new(&bus),
        bus,
        fleet: Fleet::new(config.timers, config.limits),
        events: Vec::new(),
        traces: Traces::default(),
        tasks: JoinSet::new(),
        unread_registries: REGISTRIES,
        leading: Leading::default(),
        queue_count: Counting::default(),
        open: OpenAnswers::default(),
        large: LargeBodies::default(),
        cancels: Cancels::default(),
        refusals: Refusals::default(),
        tenants: TenantState::new(tenants),
        listening_since: Instant::now(),
        paused_until: Instant::now(),
        stop_reason: None,
    };
    controller.run(config.bus_limits, stop).await
}

impl Controller {
    async fn run(mut self, bus_limits: BusLimits, stop: CancellationToken) -> Result<(), QueenError> {
        let bus = self.bus.clone();
        let mut messages = retried(&bus, || Messages::subscribe(&bus)).await?;
        self.recover_commands().await?;
        self.read_usage();
        let mut api = Some(retried(&bus, || Api::start(&bus, &self.name, env!("CARGO_PKG_VERSION"))).await?);
        let mut registries = retried(&bus, || Registries::watch(&bus)).await?;
        let (leadership_sender, mut leadership) = watch::channel(self.leading.leadership.clone());
        let streams = streams::keep(self.bus.clone(), bus_limits, leadership.clone());
        let _streams = AbortOnDropHandle::new(tokio::spawn(streams));
        let stop_campaign = CancellationToken::new();
        let (bus, name, timers) = (self.bus.clone(), self.name.clone(), self.fleet.timers().clone());
        let campaign = leader::campaign(bus, name, timers, leadership_sender, stop_campaign.clone());
        let mut campaign = AbortOnDropHandle::new(tokio::spawn(campaign));
        let mut online = self.bus.online();
        let mut clock = self.deadlines.clock.clone();
        self.publish(QueenEvent::Started { version: env!("CARGO_PKG_VERSION").to_owned() });
        info!(queen = %self.name, "the queen listens");
        let (mut deadline, mut turn) = (None, 0_u32);
        // End of the time that answers have to end, once this queen stops.
        let mut answers_end = None;
        while self.stop_reason.is_none() {
            // Planned between two inputs, however many inputs there are.
            if self.may_plan() && Instant::now() >= self.paused_until {
                deadline = self.planning_pass(deadline);
            }
            turn = turn.wrapping_add(1);
            // Other inputs get their turn, however many heartbeats there are.
            let takes_heartbeats = !turn.is_multiple_of(HEARTBEATS_IN_A_ROW);
            let tenants_due = self.tenants_due();
            tokio::select! {
                biased;
                () = stop.cancelled(), if answers_end.is_none() => {
                    answers_end = Some(Instant::now() + self.fleet.timers().shutdown);
                    api = None;
                }
                () = self.open.all_ended(), if answers_end.is_some() => break,
                () = wait_until(answers_end), if answers_end.is_some() => break,
                // Without the campaign this queen would never lead again, and nobody would see why.
                ended = &mut campaign => return Err(QueenError::Campaign(campaign_end(ended))),
                Ok(()) = leadership.changed() => {
                    let leadership = leadership.borrow_and_update().clone();
                    self.handle_leadership(leadership);
                }
                Some(message) = messages.heartbeats.next(), if takes_heartbeats => self.handle_heartbeat(&message),
                entry = registries.hives.next() => self.handle_hive(entry?),
                entry = registries.workers.next() => self.handle_worker(entry?),
                entry = registries.models.next() => self.handle_model(entry?),
                entry = registries.files.next() => self.handle_file(entry?),
                entry = registries.tenants.next() => self.handle_tenant(entry?),
                Some(message) = messages.queued.next() => self.handle_queued(&message),
                Some(message) = messages.job_ends.next() => self.handle_job_end(&message),
                Some(message) = messages.cancels.next() => self.handle_cancel(&message),
                Some(message) = messages.dead.next() => self.handle_dead_letter(&message),
                Some(message) = messages.placed.next() => self.handle_placed(&message),
                Some(message) = messages.watch_refused_logins.next() => self.handle_refused_login(&message),
                Some(message) = messages.disconnects.next() => self.handle_disconnect(&message),
                Some(message) = messages.control.next() => self.handle_control(&message),
                Some(report) = self.tasks.join_next() => self.handle_report(report),
                // Notices that were published while the bus was away did not arrive.
                Ok(()) = online.changed() => {
                    self.restart_timeouts("the connection to the bus was lost");
                    self.read_usage();
                }
                Some(request) = next_request(&mut api) => api::answer(&self.context(), request),
                () = wait_until(Some(self.paused_until)), if self.may_plan() => {}
                () = wait_until(tenants_due) => self.handle_tenants_due(),
                () = wait_until(deadline) => self.handle_clock(deadline.take()),
                () = wait_until(self.deadlines.wake()) => self.look_at_deadlines(),
                () = clock.changed() => self.handle_clock_reading(),
                () = ready(()), if !takes_heartbeats => {}
            }
        }
        drop(api);
        self.open.end(self.fleet.timers().final_flush).await;
        self.publish(QueenEvent::Stopped {});
        stop_campaign.cancel();
        if let Err(error) = (&mut campaign).await {
            warn!(%error, "the leader lease could not be released; it expires");
        }
        self.outbox.drained(self.fleet.timers().final_flush).await;
        info!("the queen has stopped");
        Ok(())
    }

    /// True if all registries were read and something has changed since the last planning pass.
    fn may_plan(&self) -> bool {
        self.has_read_registries() && self.fleet.needs_planning()
    }

    fn has_read_registries(&self) -> bool {
        self.unread_registries == 0
    }

    fn publish(&self, event: QueenEvent) {
        self.outbox.publish(&BusEvent::Queen(self.name.clone(), event));
    }

    fn context(&self) -> api::Context<'_> {
        api::Context {
            queen: &self.name,
            fleet: &self.fleet,
            bus: &self.bus,
            outbox: &self.outbox,
            finder: &self.finder,
            open: &self.open,
            large: &self.large,
            leadership: &self.leading.leadership,
            tenants: &self.tenants.known,
        }
    }

    /// Carries out what follows from an input.
    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Publish(event) => self.events.push(event),
                Effect::CountQueue => self.count_queue(),
                Effect::DeleteRecord(worker) => self.delete_record(&worker),
            }
        }
    }

    fn handle_report(&mut self, report: Result<Report, JoinError>) {
        match report {
            Ok(Report::Counted(count)) => self.handle_queue_count(count),
            Ok(Report::Refused(refused)) => self.handle_refused(refused),
            Ok(Report::HeartbeatsKnown) => self.answer_begun(None),
            Ok(Report::StoredCancels(stored)) => self.handle_stored_cancels(stored),
            Ok(Report::Cancelled(jobs)) => self.handle_cancelled(jobs),
            Ok(Report::Looked(looked)) => self.handle_looked(looked),
            Ok(Report::Expired(expired)) => self.expired(expired),
            Ok(Report::CommandNotStored(worker, order)) => self.command_again(worker, *order),
            Ok(Report::Used(used)) => self.handle_usage(used),
            Ok(Report::ExcessRefused) => self.handle_excess_refused(),
            Ok(Report::Done) => {}
            Err(error) => error!(%error, "a task of the queen panicked"),
        }
    }
}

/// Reason why the campaign has ended. It never ends without an error unless it is told to.
fn campaign_end(ended: Result<Result<(), BusError>, JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "the campaign ended without being told to".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(panicked) => panicked.to_string(),
    }
}

/// Next request to the service, unless this queen takes no more.
async fn next_request(api: &mut Option<Api>) -> Option<ApiRequest> {
    match api {
        Some(api) => api.next().await,
        None => std::future::pending().await,
    }
}

async fn wait_until(time: Option<Instant>) {
    match time {
        // Timer: deadline of a decision, or end of the pause after a planning pass.
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// A duration in whole milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
