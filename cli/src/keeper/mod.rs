//! Keeps a hive running on this machine, as a process of its own: `rbee queen --hive`.
//!
//! The hive outlives whoever keeps it. The next keeper finds it by what the hive has written of itself and goes on with it;
//! before anything is signalled the kernel says that it is that very process. Whether a hive that has ended is started
//! again says [`decide`].

mod decide;

use std::{convert::Infallible, env, ffi::OsString, future::pending, path::PathBuf, process::Command, time::Duration};

use rbee_hive::{ExitStatus, LocalHive, Process, decide::rules::Rules};
use rbee_schema::HiveName;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{error, info, warn};

use self::decide::{End, History, Next};
use crate::{
    Setting,
    outcome::Outcome,
    signals::{self, Signals},
    verb::hive::Hive,
};

/// A hive that has had its time to end, and still has not after this, is killed. With the times that a hive has by default it is
/// then a minute and a half, as long as systemd waits by our unit.
const GRACE: Duration = Duration::from_secs(45);

/// The hive of this machine, for whoever keeps it.
pub(crate) struct Keeper {
    hive: HiveName,
    local: LocalHive,
    /// Looked up once: what is installed there later is what the next start takes.
    program: PathBuf,
    arguments: Vec<OsString>,
    /// What the hive keeps to.
    rules: Rules,
    history: History,
    running: Option<Running>,
}

/// A run of it.
#[derive(Clone)]
struct Running {
    process: Process,
    /// Since when it is watched.
    since: Instant,
}

impl Keeper {
    /// A keeper of the hive that `rbee hive` would be here, by the environment and the configuration file.
    ///
    /// # Errors
    /// The options of the hive are wrong.
    pub(crate) fn new(setting: &Setting) -> Result<Self, Outcome> {
        let mut arguments = setting.asked.again();
        arguments.push("hive".into());
        let (hive, data, rules) = Hive::told(std::iter::once("rbee".into()).chain(arguments.clone()).collect())?;
        let program = env::current_exe();
        let program = program.map_err(|error| Outcome::failed(format!("this program is not found: {error}")))?;
        let local = LocalHive::new(&data, &hive);
        Ok(Self { hive, local, program, arguments, rules, history: History::default(), running: None })
    }

    /// Keeps it running. May be dropped at any time: the hive goes on.
    pub(crate) async fn keep(&mut self) -> Infallible {
        self.adopt_or_start();
        loop {
            let (end, ran) = self.ended().await;
            match self.history.after(end, ran, draw()) {
                Next::Restart(pause) => {
                    let (hive, ends) = (&self.hive, self.history.ends());
                    warn!(%hive, ?end, ?ran, ends, ?pause, "the local hive has ended and is started again");
                    sleep(pause).await;
                    self.adopt_or_start();
                }
                Next::TakeTheOther if self.adopt() => {}
                Next::TakeTheOther => {
                    let log = self.local.log();
                    error!(
                        hive = %self.hive, log = %log.display(),
                        "another hive of this name runs elsewhere: the local one is not started again. Give it another \
                         name with RBEE_HIVE, or stop the other one, and start the queen again"
                    );
                    pending::<()>().await;
                }
                Next::Leave => {
                    info!(hive = %self.hive, "the local hive was told to end and is not started again");
                    pending::<()>().await;
                }
                Next::GiveUp => {
                    let log = self.local.log();
                    error!(
                        hive = %self.hive, log = %log.display(),
                        "the options of the local hive are wrong and it is not started again: its log says which; correct \
                         them and start the queen again"
                    );
                    pending::<()>().await;
                }
            }
        }
    }

    /// Ends it in order, each further signal faster. What it has not done in time it leaves to its next run.
    pub(crate) async fn stop(self, signals: &mut Signals) -> Result<(), Outcome> {
        let Some(Running { process, .. }) = self.running else { return Ok(()) };
        let (mode, mut told) = watch::channel(None);
        let patience = decide::patience(&self.rules.timers) + GRACE;
        let pass_on = async {
            while told.changed().await.is_ok() {
                process.terminate();
            }
            pending::<Infallible>().await
        };
        let ended = tokio::select! {
            ended = signals::stop_hive(&mode, timeout(patience, process.ended()), async || signals.next().await) => ended,
            never = pass_on => match never {},
        };
        let log = self.local.log();
        match ended {
            Ok(Ok(status)) => {
                process.reap();
                went_well(status).then_some(()).ok_or_else(|| {
                    Outcome::failed(format!("the hive {} did not end well: {} says why", self.hive, log.display()))
                })
            }
            Ok(Err(error)) => Err(Outcome::failed(format!("process {} cannot be watched: {error}", process.pid()))),
            Err(_) => {
                process.kill();
                Err(Outcome::failed(format!(
                    "the hive {} (process {}) had not ended after {patience:?} and was killed; `rbee hive` looks after \
                     workers that are left. {} says what it did",
                    self.hive,
                    process.pid(),
                    log.display()
                )))
            }
        }
    }

    fn adopt_or_start(&mut self) {
        if !self.adopt() {
            self.start();
        }
    }

    /// Goes on with the hive that runs already, whoever has started it. Whether there is one.
    fn adopt(&mut self) -> bool {
        let Some(process) = self.local.running() else { return false };
        info!(hive = %self.hive, pid = process.pid(), "the local hive runs already and is looked after");
        self.running = Some(Running { process, since: Instant::now() });
        true
    }

    fn start(&mut self) {
        let started = self.local.start(Command::new(&self.program).args(&self.arguments), self.rules.bounds.log_size);
        let log = self.local.log();
        match &started {
            Ok(process) => {
                info!(hive = %self.hive, pid = process.pid(), log = %log.display(), "the local hive is started");
            }
            Err(error) => {
                let program = self.program.display();
                warn!(hive = %self.hive, %program, log = %log.display(), %error, "the local hive cannot be started");
            }
        }
        self.running = started.ok().map(|process| Running { process, since: Instant::now() });
    }

    /// Waits for its end: how it was, and how long it ran.
    async fn ended(&mut self) -> (End, Duration) {
        let Some(Running { process, since }) = self.running.clone() else { return (End::NotStarted, Duration::ZERO) };
        let status = process.ended().await.unwrap_or_else(|error| {
            warn!(hive = %self.hive, pid = process.pid(), %error, "the local hive cannot be watched");
            ExitStatus::default()
        });
        process.reap();
        self.running = None;
        let end = match status {
            ExitStatus { signal: Some(signal), .. } => End::Signal(signal),
            ExitStatus { code: Some(code), .. } => End::Code(code),
            ExitStatus { .. } if self.local.stopped_in_order() => End::InOrder,
            ExitStatus { .. } => End::CutShort,
        };
        (end, since.elapsed())
    }
}

/// Of one that was not our child nobody tells how it ended.
fn went_well(status: ExitStatus) -> bool {
    status.signal.is_none() && status.code.unwrap_or(0) == 0
}

/// A random number between 0 and 1.
fn draw() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u64_pair().1 as u32;
    f64::from(bits) / f64::from(u32::MAX)
}
