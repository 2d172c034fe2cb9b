//! The scheduler: ready tasks, timed events, and the end of a run.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::clock::Clock;

/// Number of tasks or events that may run without any time passing. More are a loop that waits for nothing.
const MOST_AT_ONCE: u64 = 200_000;

/// Number of steps of which a log remembers the text.
const LOGGED: usize = 400;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Number of a task, and the use of that number.
pub(super) type TaskId = (usize, u64);

enum Timed {
    Wake(Waker),
    Call(Box<dyn FnOnce()>),
}

struct Entry {
    at: Instant,
    number: u64,
    timed: Timed,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

struct TaskWaker {
    task: TaskId,
    ready: Arc<Mutex<Vec<TaskId>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(self.task);
    }
}

#[derive(Default)]
struct Slot {
    /// Number of uses of this slot.
    uses: u64,
    process: u64,
    task: Option<Task>,
    waker: Option<Waker>,
    is_queued: bool,
}

/// State of a process.
struct ProcessState {
    name: Rc<str>,
    is_frozen: bool,
    /// Tasks that became ready while the process was frozen.
    parked: Vec<TaskId>,
    clock: Clock,
}

struct Inner {
    start: Instant,
    now: Cell<Instant>,
    rng: RefCell<Rng>,
    timed: RefCell<BinaryHeap<Reverse<Entry>>>,
    number: Cell<u64>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    ready: Arc<Mutex<Vec<TaskId>>>,
    processes: RefCell<BTreeMap<u64, ProcessState>>,
    next_process: Cell<u64>,
    steps: Cell<u64>,
    failure: RefCell<Option<String>>,
    log: RefCell<Option<VecDeque<String>>>,
}

/// The runtime of one simulation; cheap to clone.
#[derive(Clone)]
pub struct Runtime(Rc<Inner>);

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("elapsed", &self.elapsed()).finish_non_exhaustive()
    }
}

impl Runtime {
    /// A runtime whose choices follow from `seed`. With `keeps_log`, the last steps are remembered as text.
    pub fn new(seed: u64, keeps_log: bool) -> Self {
        let start = Instant::now();
        Self(Rc::new(Inner {
            start,
            now: Cell::new(start),
            rng: RefCell::new(Rng::with_seed(seed)),
            timed: RefCell::default(),
            number: Cell::new(0),
            slots: RefCell::default(),
            free: RefCell::default(),
            ready: Arc::default(),
            processes: RefCell::default(),
            next_process: Cell::new(1),
            steps: Cell::new(0),
            failure: RefCell::default(),
            log: RefCell::new(keeps_log.then(VecDeque::new)),
        }))
    }

    /// True time.
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// Time since the start of the simulation.
    pub fn elapsed(&self) -> Duration {
        self.now() - self.0.start
    }

    /// Start of the simulation.
    pub fn start(&self) -> Instant {
        self.0.start
    }

    /// Number of steps so far: tasks that ran, and timed events.
    pub fn steps(&self) -> u64 {
        self.0.steps.get()
    }

    /// Draws from the seed.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.0.rng.borrow_mut())
    }

    /// A duration between two.
    pub fn between(&self, least: Duration, most: Duration) -> Duration {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.draw(|rng| rng.u64(micros(least)..=micros(most).max(micros(least)))))
    }

    /// True once in so many times.
    pub fn one_in(&self, times: u32) -> bool {
        self.draw(|rng| rng.u32(0..times.max(1))) == 0
    }

    /// Calls a function at a true time.
    pub fn at(&self, at: Instant, call: impl FnOnce() + 'static) {
        self.schedule(at, Timed::Call(Box::new(call)));
    }

    /// Calls a function after a true duration.
    pub fn after(&self, pause: Duration, call: impl FnOnce() + 'static) {
        self.at(self.now() + pause, call);
    }

    pub(super) fn wake_at(&self, at: Instant, waker: Waker) {
        self.schedule(at, Timed::Wake(waker));
    }

    fn schedule(&self, at: Instant, timed: Timed) {
        let number = self.0.number.get();
        self.0.number.set(number + 1);
        self.0.timed.borrow_mut().push(Reverse(Entry { at: at.max(self.now()), number, timed }));
    }

    /// Ends the simulation: a rule was broken. The first failure counts.
    pub fn fail(&self, failure: impl FnOnce() -> String) {
        let mut failed = self.0.failure.borrow_mut();
        if failed.is_none() {
            let at = self.elapsed();
            *failed = Some(format!("at {at:.6?}: {}", failure()));
        }
    }

    /// The rule that was broken, if one was.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.borrow().clone()
    }

    /// Notes a step in the log, if there is one.
    pub fn log(&self, step: impl FnOnce() -> String) {
        if let Some(log) = &mut *self.0.log.borrow_mut() {
            if log.len() >= LOGGED {
                log.pop_front();
            }
            log.push_back(format!("{:>14.6?} {}", self.elapsed(), step()));
        }
    }

    /// The last steps.
    pub fn logged(&self) -> Vec<String> {
        self.0.log.borrow().iter().flatten().cloned().collect()
    }

    /// Runs until this time since the start, or until a rule is broken.
    pub fn run_until(&self, until: Duration) {
        let until = self.0.start + until;
        let mut at_once = 0_u64;
        loop {
            self.run_ready();
            if self.0.failure.borrow().is_some() {
                return;
            }
            let next = self.0.timed.borrow().peek().map(|Reverse(entry)| entry.at);
            let Some(at) = next.filter(|at| *at <= until) else {
                self.0.now.set(until);
                return;
            };
            at_once = if at > self.now() { 0 } else { at_once + 1 };
            if at_once > MOST_AT_ONCE {
                return self.fail(|| "events follow each other without any time passing".to_owned());
            }
            self.0.now.set(at);
            let entry = self.0.timed.borrow_mut().pop();
            self.0.steps.set(self.0.steps.get() + 1);
            match entry {
                Some(Reverse(Entry { timed: Timed::Wake(waker), .. })) => waker.wake(),
                Some(Reverse(Entry { timed: Timed::Call(call), .. })) => call(),
                None => {}
            }
        }
    }

    fn run_ready(&self) {
        let mut ran = 0_u64;
        while let Some(task) = self.next_ready() {
            self.poll(task);
            ran += 1;
            if ran > MOST_AT_ONCE {
                return self.fail(|| "tasks wake each other without any time passing".to_owned());
            }
        }
        self.0.steps.set(self.0.steps.get() + ran);
    }

    fn next_ready(&self) -> Option<TaskId> {
        let mut ready = self.0.ready.lock().unwrap_or_else(PoisonError::into_inner);
        match ready.len() {
            0 => None,
            1 => ready.pop(),
            count => {
                let at = self.draw(|rng| rng.usize(0..count));
                Some(ready.swap_remove(at))
            }
        }
    }

    fn poll(&self, (number, uses): TaskId) {
        let (mut task, waker) = {
            let mut slots = self.0.slots.borrow_mut();
            let Some(slot) = slots.get_mut(number).filter(|slot| slot.uses == uses) else { return };
            if let Some(process) = self.0.processes.borrow_mut().get_mut(&slot.process)
                && process.is_frozen
            {
                if !slot.is_queued {
                    slot.is_queued = true;
                    process.parked.push((number, uses));
                }
                return;
            }
            let (Some(task), Some(waker)) = (slot.task.take(), slot.waker.clone()) else { return };
            (task, waker)
        };
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        let mut slots = self.0.slots.borrow_mut();
        let Some(slot) = slots.get_mut(number) else { return };
        if slot.uses != uses {
            // Its process was killed meanwhile. The task is dropped without the borrow.
            drop(slots);
            return drop(task);
        }
        match polled {
            Poll::Pending => slot.task = Some(task),
            Poll::Ready(()) => {
                self.release(slot, number);
                drop(slots);
                drop(task);
            }
        }
    }

    fn release(&self, slot: &mut Slot, number: usize) {
        slot.uses += 1;
        slot.waker = None;
        self.0.free.borrow_mut().push(number);
    }

    pub(super) fn spawn(&self, process: u64, task: Task) {
        if !self.0.processes.borrow().contains_key(&process) {
            return;
        }
        let mut slots = self.0.slots.borrow_mut();
        let number = self.0.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot::default());
            slots.len() - 1
        });
        let slot = &mut slots[number];
        let id = (number, slot.uses);
        (slot.process, slot.task, slot.is_queued) = (process, Some(task), false);
        let waker = Arc::new(TaskWaker { task: id, ready: self.0.ready.clone() });
        slot.waker = Some(waker.into());
        self.0.ready.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    pub(super) fn begin_process(&self, name: &str) -> (u64, Rc<str>) {
        let number = self.0.next_process.get();
        self.0.next_process.set(number + 1);
        let name: Rc<str> = name.into();
        let state =
            ProcessState { name: name.clone(), is_frozen: false, parked: Vec::new(), clock: Clock::new(self.now()) };
        self.0.processes.borrow_mut().insert(number, state);
        (number, name)
    }

    /// Drops every task of a process. Returns false if it had ended before.
    pub(super) fn end_process(&self, process: u64) -> bool {
        let Some(ended) = self.0.processes.borrow_mut().remove(&process) else { return false };
        self.log(|| format!("{} ends", ended.name));
        let mut dropped = Vec::new();
        let mut slots = self.0.slots.borrow_mut();
        for (number, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| slot.process == process) {
            if slot.waker.is_some() {
                dropped.push(slot.task.take());
                self.release(slot, number);
            }
            slot.process = 0;
        }
        drop(slots);
        true
    }

    pub(super) fn is_alive(&self, process: u64) -> bool {
        self.0.processes.borrow().contains_key(&process)
    }

    pub(super) fn is_frozen(&self, process: u64) -> bool {
        self.0.processes.borrow().get(&process).is_some_and(|process| process.is_frozen)
    }

    pub(super) fn freeze(&self, process: u64) {
        if let Some(process) = self.0.processes.borrow_mut().get_mut(&process) {
            process.is_frozen = true;
        }
    }

    pub(super) fn thaw(&self, process: u64) {
        let parked = self.0.processes.borrow_mut().get_mut(&process).map(|process| {
            process.is_frozen = false;
            std::mem::take(&mut process.parked)
        });
        let mut slots = self.0.slots.borrow_mut();
        let mut ready = self.0.ready.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, uses) in parked.into_iter().flatten() {
            if let Some(slot) = slots.get_mut(number).filter(|slot| slot.uses == uses) {
                slot.is_queued = false;
                ready.push((number, uses));
            }
        }
    }

    pub(super) fn clock(&self, process: u64) -> Option<Clock> {
        self.0.processes.borrow().get(&process).map(|process| process.clock)
    }

    pub(super) fn set_rate(&self, process: u64, rate: f64) {
        if let Some(process) = self.0.processes.borrow_mut().get_mut(&process) {
            process.clock.run_at(rate, self.now());
        }
    }

    /// Number of tasks.
    pub fn tasks(&self) -> usize {
        self.0.slots.borrow().iter().filter(|slot| slot.waker.is_some()).count()
    }
}
