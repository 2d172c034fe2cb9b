//! Claims of a worker on its jobs: heartbeats, turns and cancellations, as `worker/src/report.rs` does.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use futures::channel::oneshot;
use rbee_schema::{JobInFlight, WorkerHeartbeat};
use rbee_worker::decide::turns::{Change, Turns};

use super::{
    queue::Event,
    shared::{Identity, Shared},
};
use crate::{
    network::Arrival,
    runtime::{Mailbox, Signal},
    words::{Body, job_of},
};

/// Signals to a claimed job.
#[derive(Debug, Clone)]
pub(super) struct Signals {
    pub(super) cancelled: Signal,
    pub(super) hand_back: Signal,
}

struct Claimed {
    job: JobInFlight,
    signals: Signals,
    runs_alone: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<String, Claimed>,
    turns: Turns,
}

/// Claims of a worker; cheap to clone.
#[derive(Clone)]
pub(super) struct Reporter {
    shared: Shared,
    state: Rc<RefCell<State>>,
    /// Number of jobs that wait until the server stores their output.
    blocked: Rc<Cell<u32>>,
    /// Number of productions that run.
    producing: Rc<Cell<u32>>,
    steps: Rc<Cell<u64>>,
    serving: Mailbox<Event>,
}

/// A claim on a delivery of a job.
#[derive(Clone)]
pub(super) struct Claim {
    reporter: Reporter,
    key: String,
    pub(super) cancelled: Signal,
}

/// Counts a job as blocked or producing until it is dropped.
pub(super) struct Counted(Rc<Cell<u32>>);

impl Counted {
    fn new(count: &Rc<Cell<u32>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A worker drains after its hive was silent for this long: the setting `grace`.
enum Heard {
    Hive,
    Online,
}

impl Reporter {
    /// Starts to send heartbeats.
    pub(super) fn start(shared: &Shared, serving: &Mailbox<Event>) -> Self {
        let reporter = Self {
            shared: shared.clone(),
            state: Rc::default(),
            blocked: Rc::default(),
            producing: Rc::default(),
            steps: Rc::default(),
            serving: serving.clone(),
        };
        reporter.listen();
        reporter
    }

    fn listen(&self) {
        let (connection, identity) = (&self.shared.connection, &self.shared.identity);
        let state = self.state.clone();
        connection.subscribe("cancel.>", move |arrived| {
            let Arrival::Message(message) = arrived else { return };
            let Some((tenant, job)) = job_of(&message.subject) else { return };
            let state = state.borrow();
            let claimed = state.jobs.values().filter(|claimed| claimed.job.tenant == tenant && claimed.job.job == job);
            claimed.for_each(|claimed| claimed.signals.cancelled.set());
        });
        let serving = self.serving.clone();
        connection.subscribe(format!("control.{}.{}", identity.hive, identity.worker), move |_| {
            serving.put(Event::Drain);
        });
        let heard = Mailbox::default();
        let sender = heard.clone();
        connection.subscribe(format!("beat.{}", identity.hive), move |_| sender.put(Heard::Hive));
        let sender = heard.clone();
        connection.on_change(move |_| sender.put(Heard::Online));
        let reporter = self.clone();
        self.shared.child.process().spawn(async move { reporter.run(heard).await });
    }

    async fn run(self, heard: Mailbox<Heard>) {
        let process = self.shared.child.process().clone();
        let settings = &self.shared.site.settings.worker;
        let mut beat = process.now();
        let mut hive_lost = process.now() + settings.grace;
        loop {
            let now = process.now();
            if now >= beat {
                self.send_beat();
                beat = now + settings.beat;
            }
            if now >= hive_lost && self.shared.connection.is_online() {
                if now >= hive_lost + settings.beat {
                    hive_lost = now + settings.grace;
                } else {
                    process.log(|| "drains: its hive was silent for the grace period".to_owned());
                    self.serving.put(Event::Drain);
                    hive_lost = now + settings.grace * 1000;
                }
            }
            match heard.next(&process, Some(beat.min(hive_lost))).await {
                Some(Heard::Hive | Heard::Online) => hive_lost = process.now() + settings.grace,
                None => {}
            }
        }
    }

    /// Claims a job that waits for its turn.
    pub(super) fn claim(&self, job: JobInFlight, hand_back: Signal) -> Claim {
        let claim = self.insert(job, hand_back);
        self.send_beat();
        claim
    }

    /// Claims a job that runs at once, together with others. `None` if another job runs alone or waits for it.
    pub(super) fn claim_together(&self, job: JobInFlight, hand_back: Signal) -> Option<Claim> {
        let claim = self.insert(job, hand_back);
        let may_run = self.state.borrow_mut().turns.join(&claim.key);
        if may_run {
            self.send_beat();
            return Some(claim);
        }
        self.remove(&claim.key);
        None
    }

    fn insert(&self, job: JobInFlight, hand_back: Signal) -> Claim {
        let (key, cancelled) = (job.ack.clone(), Signal::default());
        let signals = Signals { cancelled: cancelled.clone(), hand_back };
        let mut state = self.state.borrow_mut();
        state.turns.claim(&key);
        state.jobs.insert(key.clone(), Claimed { job, signals, runs_alone: None });
        Claim { reporter: self.clone(), key, cancelled }
    }

    fn remove(&self, key: &str) {
        let change = {
            let mut state = self.state.borrow_mut();
            state.jobs.remove(key);
            state.turns.release(key)
        };
        self.follow(change);
    }

    fn follow(&self, Change { begins, make_way }: Change) {
        let are_open = self.state.borrow().turns.are_open();
        self.serving.put(Event::Open(are_open));
        for key in make_way {
            if let Some(claimed) = self.state.borrow().jobs.get(&key) {
                claimed.signals.hand_back.set();
            }
        }
        if let Some(key) = begins {
            self.send_beat();
            let begun = self.state.borrow_mut().jobs.get_mut(&key).and_then(|claimed| claimed.runs_alone.take());
            if let Some(begun) = begun {
                let _ = begun.send(());
            }
        }
    }

    /// Counts a job as blocked until the result is dropped.
    pub(super) fn blocked(&self) -> Counted {
        Counted::new(&self.blocked)
    }

    /// Counts a job as computed until the result is dropped.
    pub(super) fn producing(&self) -> Counted {
        Counted::new(&self.producing)
    }

    /// True if no claim is left and no turn is taken.
    pub(super) fn is_at_rest(&self) -> bool {
        let state = self.state.borrow();
        state.jobs.is_empty() && format!("{:?}", state.turns) == format!("{:?}", Turns::default())
    }

    fn send_beat(&self) {
        let Identity { hive, worker, model, epoch, slots } = &*self.shared.identity;
        if self.producing.get() > 0 && !self.shared.child.is_hung() {
            self.steps.set(self.steps.get() + 1);
        }
        let state = self.state.borrow();
        let in_flight =
            |(key, claimed): (&String, &Claimed)| JobInFlight { waits: state.turns.waits(key), ..claimed.job.clone() };
        let beat = WorkerHeartbeat {
            model: model.clone(),
            epoch: *epoch,
            slots: *slots,
            jobs: state.jobs.iter().map(in_flight).collect(),
            tokens: 0,
            steps: self.steps.get(),
            blocked: self.blocked.get(),
            memory_bytes: 0,
            cache: None,
        };
        let body = Body::Beat((hive.clone(), worker.clone(), beat).into());
        self.shared.connection.publish(format!("beat.{hive}.{worker}"), body);
    }
}

impl Claim {
    /// Lets the job run together with others. False if another job runs alone or waits for it.
    pub(super) fn join(&self) -> bool {
        let may_run = self.reporter.state.borrow_mut().turns.join(&self.key);
        if may_run {
            self.reporter.send_beat();
        }
        may_run
    }

    /// Waits until the job runs alone.
    pub(super) async fn run_alone(&self) {
        let (sender, receiver) = oneshot::channel();
        let change = {
            let mut state = self.reporter.state.borrow_mut();
            let Some(claimed) = state.jobs.get_mut(&self.key) else { return };
            claimed.runs_alone = Some(sender);
            state.turns.ask_alone(&self.key)
        };
        self.reporter.follow(change);
        let _ = receiver.await;
    }

    /// Lets other jobs run beside this one again.
    pub(super) fn end_alone(&self) {
        let change = self.reporter.state.borrow_mut().turns.end_alone(&self.key);
        self.reporter.follow(change);
    }

    /// Releases the claim.
    pub(super) fn release(self) {
        self.reporter.remove(&self.key);
        self.reporter.send_beat();
    }
}
