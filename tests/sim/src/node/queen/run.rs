//! The owner task of a queen: handles inputs, plans, and carries plans out.

use std::time::{Duration, Instant};

use rbee_queen::decide::{
    dirty::Scope,
    fleet::Fleet,
    limits::QueenLimits,
    plan::{Action, Plan, next_deadline, plan},
    timers::Timers,
};
use rbee_schema::QueenName;

use super::{
    campaign::campaign,
    state::{Cancels, Controller, Entry, Event, Reason, Refusals},
};
use crate::{
    broker::{Answer, Message, Op, Status},
    network::{Arrival, Connection},
    node::{outbox::Outbox, site::Site},
    runtime::{Mailbox, Process},
    words::{Body, flow_of, job_of},
};

/// Delay of a deadline from which on the queen itself stood still.
const STOOD_STILL: Duration = Duration::from_secs(1);

/// Entry of a registry as it arrives.
enum Raw {
    Set(String, Body),
    Removed(String),
    Synced,
}

/// A queen process.
#[derive(Debug, Clone)]
pub struct Queen {
    name: QueenName,
    process: Process,
}

impl Queen {
    /// Starts a queen.
    pub fn start(site: &Site, name: &QueenName) -> Self {
        let process = Process::begin(&site.runtime, &format!("queen/{name}"));
        let connection = site.network.connect(&process);
        let controller = Controller {
            site: site.clone(),
            name: name.clone(),
            process: process.clone(),
            outbox: Outbox::start(&connection),
            connection,
            mailbox: Mailbox::default(),
            fleet: Fleet::new(Timers::default(), QueenLimits::default()),
            unread_registries: 3,
            term: None,
            count_started: None,
            is_counting: false,
            listening_since: process.now(),
            refusals: Refusals::default(),
            cancels: Cancels::default(),
            next_worker: 0,
        };
        process.spawn(controller.run());
        Self { name: name.clone(), process }
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Name of the queen.
    pub fn name(&self) -> &QueenName {
        &self.name
    }

    /// Kills the queen (SIGKILL).
    pub fn kill(&self, site: &Site) {
        site.network.ended(&self.process);
        self.process.end();
    }
}

impl Controller {
    async fn run(mut self) {
        self.listen();
        self.recover_commands().await;
        self.watch();
        let timers = self.fleet.timers().clone();
        let campaign = campaign(self.connection.clone(), self.name.clone(), timers, self.mailbox.clone());
        self.process.spawn(campaign);
        let mut deadline = None;
        loop {
            if self.has_read_registries() {
                deadline = self.planning_pass(deadline);
            }
            match self.mailbox.next(&self.process, deadline).await {
                Some(event) => {
                    self.handle(event);
                    while let Some(event) = self.mailbox.take() {
                        self.handle(event);
                    }
                }
                None => self.clock(deadline),
            }
        }
    }

    fn listen(&self) {
        let put = |mailbox: &Mailbox<Event>, read: fn(Message<Body>) -> Option<Event>| {
            let mailbox = mailbox.clone();
            move |arrived| {
                if let Arrival::Message(message) = arrived
                    && let Some(event) = read(message)
                {
                    mailbox.put(event);
                }
            }
        };
        let (connection, mailbox) = (&self.connection, &self.mailbox);
        let read = |message: Message<Body>| match message.body {
            Some(Body::Beat(beat)) => Some(Event::Beat(beat)),
            Some(Body::HiveBeat(beat)) => Some(Event::HiveBeat(beat)),
            _ => None,
        };
        connection.subscribe("beat.>", put(mailbox, read));
        let read = |message: Message<Body>| flow_of(&message.subject).map(|(model, _)| Event::Queued(model));
        connection.subscribe("queued.>", put(mailbox, read));
        connection.subscribe("cancel.>", put(mailbox, |message| job_of(&message.subject).map(Event::Cancel)));
        let read = |message: Message<Body>| match message.body {
            Some(Body::Placed(placed)) => Some(Event::Placed(placed)),
            Some(Body::Disconnected(name)) => Some(Event::Disconnected(name)),
            _ => None,
        };
        connection.subscribe("event.placed.>", put(mailbox, read));
        connection.subscribe("sys.disconnected", put(mailbox, read));
        let sender = mailbox.clone();
        connection.on_change(move |_| sender.put(Event::Online));
    }

    fn watch(&self) {
        watch(&self.connection, &self.mailbox, "hives", |entry| {
            Some(Event::Hive(match entry {
                Raw::Set(key, Body::Hive(record)) => Entry::Set(key, record),
                Raw::Removed(key) => Entry::Removed(key),
                Raw::Synced => Entry::Synced,
                Raw::Set(..) => return None,
            }))
        });
        watch(&self.connection, &self.mailbox, "workers", |entry| {
            Some(Event::Worker(match entry {
                Raw::Set(key, Body::Worker(record)) => Entry::Set(key, record),
                Raw::Removed(key) => Entry::Removed(key),
                Raw::Synced => Entry::Synced,
                Raw::Set(..) => return None,
            }))
        });
        watch(&self.connection, &self.mailbox, "models", |entry| {
            Some(Event::Model(match entry {
                Raw::Set(key, Body::Model(spec)) => Entry::Set(key, spec),
                Raw::Removed(key) => Entry::Removed(key),
                Raw::Synced => Entry::Synced,
                Raw::Set(..) => return None,
            }))
        });
    }

    /// Reads the spawns that were commanded recently, so that they are not commanded again.
    async fn recover_commands(&mut self) {
        let order = self.fleet.timers().order;
        loop {
            let (stream, filter) = ("events".into(), "event.placed.>".into());
            let read = self.connection.request(|request| Op::Read { stream, filter, from: 1, request }).await;
            let Ok(Answer::Messages(messages)) = read else { continue };
            let now = self.site.runtime.now();
            for message in messages {
                let age = now.saturating_duration_since(message.at);
                if let Some(Body::Placed(placed)) = message.body
                    && age < order
                {
                    let key = (placed.hive.clone(), placed.worker.clone());
                    let commanded = self.process.now().checked_sub(age).unwrap_or(now);
                    self.fleet.spawn_commanded(key, placed.model.clone(), commanded);
                }
            }
            return;
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.process.now();
        match event {
            Event::Beat(beat) => {
                let (hive, worker, beat) = (*beat).clone();
                self.worker_beat(&(hive, worker), beat);
            }
            Event::HiveBeat(beat) => {
                if self.fleet.hives().contains_key(&beat.0) {
                    let effects = self.fleet.hive_heartbeat(&beat.0, &beat.1, now);
                    self.apply(effects);
                }
            }
            Event::Hive(entry) => self.hive_entry(entry),
            Event::Worker(entry) => self.worker_entry(entry),
            Event::Model(entry) => self.model_entry(entry),
            Event::Queued(model) => self.job_queued(&model),
            Event::Cancel(key) => self.cancel(key),
            Event::Placed(placed) => self.placed(&placed),
            Event::Disconnected(name) => self.disconnected(&name),
            Event::Online => self.restart_timeouts(),
            Event::Counted(counted) => self.counted(counted),
            Event::Refused(refused) => self.refused(refused),
            Event::HeartbeatsKnown => self.answer_begun(None),
            Event::StoredCancels(stored) => self.carry_out_cancels(stored),
            Event::CancelsDone(models) => self.cancels_done(models),
            Event::CommandNotStored(key, command, term) => self.command_again(key, *command, term),
            Event::Leads(term) => self.leadership(term),
        }
    }

    fn leadership(&mut self, term: Option<u64>) {
        if term.is_some() {
            self.fleet.forget_stops();
        }
        self.term = term;
        if term.is_some() {
            self.read_cancels();
            self.count_queue();
        }
        self.fleet.mark_everything();
    }

    fn clock(&mut self, deadline: Option<Instant>) {
        let now = self.process.now();
        if deadline.is_some_and(|deadline| now > deadline + STOOD_STILL) {
            self.restart_timeouts();
        }
        let effects = self.fleet.advance(now);
        self.fleet.mark_everything();
        self.apply(effects);
    }

    fn restart_timeouts(&mut self) {
        let now = self.process.now();
        self.fleet.restart_timeouts(now);
        self.listening_since = now;
        self.count_queue();
    }

    fn planning_pass(&mut self, deadline: Option<Instant>) -> Option<Instant> {
        let now = self.process.now();
        let scope = self.fleet.take_scope();
        if let Some(term) = self.term {
            self.lead(term, &scope, now);
        }
        let next = next_deadline(&self.fleet, &scope, now);
        match scope {
            Scope::Everything => next,
            Scope::Models(_) => deadline.into_iter().chain(next).min(),
        }
    }

    fn lead(&mut self, term: u64, scope: &Scope, now: Instant) {
        if *scope == Scope::Everything {
            self.fleet.expire_commands(now);
            for (worker, jobs) in self.fleet.take_stranded_jobs(now) {
                self.return_to_queue(&worker, jobs);
            }
        }
        let Plan { actions, pending } = plan(&self.fleet, scope, now);
        self.fleet.planned(scope, pending);
        for action in actions {
            self.process.log(|| format!("plans: {action}"));
            match action {
                Action::Spawn(worker) => self.spawn(term, worker),
                Action::Stop { worker, mode, why } => self.stop(term, worker, mode, why),
                Action::Refuse { model, class, failure } => {
                    self.fleet.jobs_refused(&model);
                    match class {
                        Some(class) => self.refuse(format!("job.{model}.{class}.*"), Reason::Overdue(failure)),
                        None => self.refuse(format!("job.{model}.>"), Reason::Unserved(failure)),
                    }
                }
                Action::ReportUnplaceable { .. } => {}
            }
        }
    }
}

fn watch(
    connection: &Connection,
    mailbox: &Mailbox<Event>,
    bucket: &'static str,
    read: impl Fn(Raw) -> Option<Event> + 'static,
) {
    let mailbox = mailbox.clone();
    connection.watch(bucket, format!("{bucket}.>"), move |arrived| {
        let entry = match arrived {
            Arrival::Message(message) => {
                let Some(key) = message.subject.strip_prefix(bucket).and_then(|key| key.strip_prefix('.')) else {
                    return;
                };
                match message.body {
                    Some(body) => Raw::Set(key.to_owned(), body),
                    None => Raw::Removed(key.to_owned()),
                }
            }
            Arrival::Status(_, Status::Synced) => Raw::Synced,
            Arrival::Status(..) => return,
        };
        if let Some(event) = read(entry) {
            mailbox.put(event);
        }
    });
}
