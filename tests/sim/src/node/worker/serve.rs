//! Serving: pulls jobs into the slots of a worker and runs them, as `worker/src/serve.rs` does.

use std::{collections::BTreeMap, time::Duration};

use rbee_worker::decide::dispatch::{Delivered, Dispatcher, Effect, Ended, Event as Happened, Rules};

use super::{
    attempt::JobRunner,
    delivery::Delivery,
    queue::{Event, JobQueue, Pull, Pulled, STANDING},
    reporter::Reporter,
    shared::Shared,
};
use crate::{
    check::WorkerEnd,
    node::child::Exit,
    runtime::{Mailbox, Signal},
};

/// Tolerance for the end of a standing pull.
const LATE: Duration = Duration::from_secs(10);

/// Time limit for the last replies of a worker that ends.
const LAST_REPLIES: Duration = Duration::from_secs(2);

struct Serving {
    shared: Shared,
    dispatcher: Dispatcher,
    queue: JobQueue,
    runner: JobRunner,
    mailbox: Mailbox<Event>,
    next: u64,
    delivered: BTreeMap<u64, Delivery>,
    running: BTreeMap<u64, Signal>,
    is_draining: bool,
}

/// Runs jobs until the worker drains and the last job has ended. Then the process exits.
pub(super) async fn serve(shared: Shared) {
    let settings = &shared.site.settings.worker;
    let rules = Rules {
        slots: shared.identity.slots,
        batch_share: settings.batch_share,
        batch_turn: settings.batch_turn,
        standing: STANDING + LATE,
        limited_fetch: rbee_nats::LIMITED_FETCH,
    };
    let mailbox = Mailbox::default();
    let process = shared.child.process().clone();
    let reporter = Reporter::start(&shared, &mailbox);
    let redelivery = shared.site.settings.redelivery;
    let queue = JobQueue::open((&shared.connection, &shared.site.judge), &shared.identity.model, redelivery, &mailbox);
    let (terminated, sender) = (shared.child.terminated().clone(), mailbox.clone());
    process.spawn(async move {
        terminated.wait().await;
        sender.put(Event::Terminate);
    });
    let serving = Serving {
        dispatcher: Dispatcher::new(rules, process.now()),
        queue,
        runner: JobRunner { shared: shared.clone(), reporter: reporter.clone() },
        mailbox,
        next: 0,
        delivered: BTreeMap::new(),
        running: BTreeMap::new(),
        is_draining: false,
        shared: shared.clone(),
    };
    let (hive, worker) = shared.child.worker().clone();
    shared.site.judge.serves(&process, (hive, worker, shared.child.epoch()));
    serving.run().await;
    if !reporter.is_at_rest() {
        shared.site.runtime.fail(|| format!("{process:?} ends with claims or turns"));
    }
    let (site, child) = (shared.site.clone(), shared.child.clone());
    shared.site.runtime.after(Duration::ZERO, move || {
        site.end_child(&child, Exit { code: Some(0), signal: None }, &WorkerEnd::Exited);
    });
}

impl Serving {
    async fn run(mut self) {
        let process = self.shared.child.process().clone();
        self.step(Happened::Tick);
        while !(self.is_draining && self.running.is_empty()) {
            let due = self.dispatcher.due(process.now());
            match self.mailbox.next(&process, due).await {
                Some(event) => self.handle(event),
                None => self.step(Happened::Tick),
            }
        }
        let limit = process.now() + LAST_REPLIES;
        while (self.queue.is_withdrawing() || self.dispatcher.is_fetching()) && process.now() < limit {
            if let Some(event) = self.mailbox.next(&process, Some(limit)).await {
                self.handle(event);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrived(arrival) => {
                for pulled in self.queue.process(arrival) {
                    self.pulled(pulled);
                }
            }
            Event::Ended(job, tokens, returned) => {
                self.running.remove(&job);
                self.step(Happened::Ended(Ended { job, tokens, returned }));
            }
            Event::Open(true) => self.step(Happened::Opened),
            Event::Open(false) => self.step(Happened::Closed),
            Event::Drain => self.drain(),
            Event::Terminate => {
                self.running.values().for_each(Signal::set);
                self.drain();
            }
        }
    }

    fn drain(&mut self) {
        if !self.is_draining {
            self.is_draining = true;
            self.shared.site.judge.serves_no_more(self.shared.child.process());
            self.step(Happened::Drain);
        }
    }

    fn pulled(&mut self, pulled: Pulled) {
        let event = match pulled {
            Pulled::Job(delivery, kind) => {
                let (flow, waiting) = (delivery.flow(), delivery.waiting);
                self.next += 1;
                self.delivered.insert(self.next, delivery);
                let delivered = Delivered { job: self.next, flow, waiting };
                if self.shared.site.settings.flaws.ignores_slots {
                    self.start(self.next);
                }
                match kind {
                    Pull::Fetch => Happened::Fetched(delivered),
                    Pull::Standing => Happened::Stood(delivered),
                    Pull::Withdrawn => Happened::Late(delivered),
                }
            }
            Pulled::Nothing(flow, Pull::Fetch) => Happened::Empty(flow),
            Pulled::Nothing(flow, Pull::Standing | Pull::Withdrawn) => Happened::Expired(flow),
            Pulled::Failed(flow, Pull::Fetch) => Happened::FetchFailed(flow),
            Pulled::Failed(flow, Pull::Standing | Pull::Withdrawn) => Happened::StandingFailed(flow),
            Pulled::Queued(flow) => Happened::Queued(flow),
            Pulled::Listed(flows) => Happened::Listed(flows),
            Pulled::Reset => Happened::Reset,
        };
        let is_listing = matches!(event, Happened::Listed(_));
        self.step(event);
        if is_listing {
            // The dispatcher tells nobody what it remembers, but it can be printed.
            self.shared.child.set_flows(format!("{:?}", self.dispatcher).matches("JobFlow {").count());
        }
    }

    fn step(&mut self, event: Happened) {
        let now = self.shared.child.process().now();
        for effect in self.dispatcher.step(event, now) {
            match effect {
                Effect::Fetch(flow) => self.queue.fetch(&flow),
                Effect::Stand(flow) => self.queue.stand(&flow, false),
                Effect::StandToPreempt(flow) => self.queue.stand(&flow, true),
                Effect::Withdraw => self.queue.withdraw(),
                Effect::List => self.queue.list(),
                Effect::Start(job) => self.start(job),
                Effect::Pause(job) => {
                    if let Some(pause) = self.running.get(&job) {
                        pause.set();
                    }
                }
                Effect::Return(job) => {
                    if let Some(delivery) = self.delivered.remove(&job) {
                        delivery.nak(Duration::ZERO);
                    }
                }
            }
        }
    }

    fn start(&mut self, job: u64) {
        let Some(delivery) = self.delivered.remove(&job) else { return };
        let pause = Signal::default();
        self.running.insert(job, pause.clone());
        let (running, slots) = (self.running.len(), self.shared.identity.slots as usize);
        let process = self.shared.child.process();
        if running > slots {
            self.shared.site.runtime.fail(|| format!("{process:?} runs {running} jobs in {slots} slots"));
        }
        process.log(|| format!("starts {} (attempt {})", delivery.job.key.1, delivery.attempt));
        let (runner, mailbox) = (self.runner.clone(), self.mailbox.clone());
        process.spawn(async move {
            let (tokens, returned) = runner.run(delivery, pause).await;
            mailbox.put(Event::Ended(job, tokens, returned));
        });
    }
}
