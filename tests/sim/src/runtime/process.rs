//! A process: its tasks, its clock, and its life.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::{Either, select};

use super::scheduler::Runtime;

/// Handle of a process; cheap to clone. It outlives the process.
#[derive(Clone)]
pub struct Process {
    runtime: Runtime,
    number: u64,
    name: Rc<str>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.number)
    }
}

impl Process {
    /// Begins a process without tasks.
    pub fn begin(runtime: &Runtime, name: &str) -> Self {
        let (number, name) = runtime.begin_process(name);
        Self { runtime: runtime.clone(), number, name }
    }

    /// Number of the process. None is used twice.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Name of the process, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The runtime.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Starts a task of this process.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.runtime.spawn(self.number, Box::pin(task));
    }

    /// Time as the clock of this process shows it.
    pub fn now(&self) -> Instant {
        let now = self.runtime.now();
        self.runtime.clock(self.number).map_or(now, |clock| clock.read(now))
    }

    /// Completes when the clock of this process shows `until`.
    pub fn sleep_until(&self, until: Instant) -> Sleep {
        Sleep { process: self.clone(), until, wakes_at: None }
    }

    /// Completes after this duration by the clock of this process.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now() + duration)
    }

    /// The value of a future, or nothing if it takes longer than `limit`.
    pub async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        let (future, sleep) = (pin!(future), self.sleep(limit));
        match select(future, sleep).await {
            Either::Left((value, _)) => Some(value),
            Either::Right(((), _)) => None,
        }
    }

    /// Ends the process: its tasks are dropped where they stand. Returns false if it had ended before.
    pub fn end(&self) -> bool {
        self.runtime.end_process(self.number)
    }

    /// True until the process ends.
    pub fn is_alive(&self) -> bool {
        self.runtime.is_alive(self.number)
    }

    /// Stops the tasks of the process until it is thawed (SIGSTOP).
    pub fn freeze(&self) {
        self.runtime.log(|| format!("{self:?} is frozen"));
        self.runtime.freeze(self.number);
    }

    /// Lets the tasks of the process run again (SIGCONT).
    pub fn thaw(&self) {
        self.runtime.log(|| format!("{self:?} is thawed"));
        self.runtime.thaw(self.number);
    }

    /// True while the process is frozen.
    pub fn is_frozen(&self) -> bool {
        self.runtime.is_frozen(self.number)
    }

    /// Lets the clock of the process run at this rate: 1 is right.
    pub fn run_clock_at(&self, rate: f64) {
        self.runtime.set_rate(self.number, rate);
    }

    /// Notes a step in the log.
    pub fn log(&self, step: impl FnOnce() -> String) {
        self.runtime.log(|| format!("{self:?} {}", step()));
    }
}

/// Future of [`Process::sleep_until`].
#[derive(Debug)]
pub struct Sleep {
    process: Process,
    until: Instant,
    /// True time at which the task is woken.
    wakes_at: Option<Instant>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(clock) = self.process.runtime.clock(self.process.number) else { return Poll::Pending };
        let now = self.process.runtime.now();
        if clock.read(now) >= self.until {
            return Poll::Ready(());
        }
        // A clock that runs at another rate meanwhile has made the wake-up too early.
        if self.wakes_at.is_none_or(|at| at <= now) {
            let at = clock.when(self.until);
            self.wakes_at = Some(at);
            self.process.runtime.wake_at(at, context.waker().clone());
        }
        Poll::Pending
    }
}
