//! Keeps a hive running on this machine as a separate process: `rbee queen --hive`.
//!
//! The hive outlives its keeper. The next keeper finds it by the file `process.json` in the hive's folder and continues to watch
//! it. Before it signals a process, the kernel confirms its identity by pidfd. [`decide`] decides about restarts.

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
    Context,
    error::CliError,
    roles::LocalHiveSetup,
    signals::{self, Signals},
};

/// Time beyond the hive's own stop timeout after which the keeper kills it. With default timers the sum is 90 s, the same as
/// `TimeoutStopSec` in the shipped systemd unit.
const GRACE: Duration = Duration::from_secs(45);

/// Keeper of the hive on this machine.
pub(crate) struct Keeper {
    hive: HiveName,
    local: LocalHive,
    /// Path of this program, resolved once. A program installed there later is used by the next start.
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Timers and limits of the hive.
    rules: Rules,
    history: History,
    running: Option<Running>,
}

/// A running hive process.
#[derive(Clone)]
struct Running {
    process: Process,
    /// Time at which the keeper started to watch it.
    since: Instant,
}

impl Keeper {
    /// Keeper of the hive that `rbee hive` would run here, configured by environment and configuration file.
    ///
    /// # Errors
    /// The options of the hive are invalid.
    pub(crate) fn new(context: &Context) -> Result<Self, CliError> {
        let LocalHiveSetup { arguments, name: hive, data, rules } = LocalHiveSetup::read(context)?;
        let program = env::current_exe();
        let program =
            program.map_err(|error| CliError::failed(format!("failed to find the path of this program: {error}")))?;
        let local = LocalHive::new(&data, &hive);
        Ok(Self { hive, local, program, arguments, rules, history: History::default(), running: None })
    }

    /// Keeps the hive running. Dropping the future leaves the hive running.
    pub(crate) async fn keep(&mut self) -> Infallible {
        self.adopt_or_start();
        loop {
            let (end, ran) = self.ended().await;
            match self.history.after(end, ran, fastrand::f64()) {
                Next::Restart(pause) => {
                    let (hive, ends) = (&self.hive, self.history.ends());
                    warn!(%hive, ?end, ?ran, ends, ?pause, "the local hive exited and will be restarted");
                    sleep(pause).await;
                    self.adopt_or_start();
                }
                Next::AdoptOther if self.adopt() => {}
                Next::AdoptOther => {
                    let log = self.local.log();
                    error!(
                        hive = %self.hive, log = %log.display(),
                        "another hive of this name is running elsewhere, so the local one is not restarted. Choose another name with \
                         RBEE_HIVE or stop the other hive, then restart the queen"
                    );
                    pending::<()>().await;
                }
                Next::StayStopped => {
                    info!(hive = %self.hive, "the local hive was told to stop and is not restarted");
                    pending::<()>().await;
                }
                Next::GiveUp => {
                    let log = self.local.log();
                    error!(
                        hive = %self.hive, log = %log.display(),
                        "the options of the local hive are invalid, so it is not restarted. Its log names them; correct them and restart the queen"
                    );
                    pending::<()>().await;
                }
            }
        }
    }

    /// Stops the hive cleanly; each further signal speeds it up. A hive that does not stop in time is killed, and its next run
    /// recovers.
    pub(crate) async fn stop(self, signals: &mut Signals) -> Result<(), CliError> {
        let Some(Running { process, .. }) = self.running else { return Ok(()) };
        let (mode, mut changes) = watch::channel(None);
        let patience = decide::stop_timeout(&self.rules.timers) + GRACE;
        let pass_on = async {
            while changes.changed().await.is_ok() {
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
                is_clean(status).then_some(()).ok_or_else(|| {
                    CliError::failed(format!(
                        "hive {} did not stop cleanly; its log {} says why",
                        self.hive,
                        log.display()
                    ))
                })
            }
            Ok(Err(error)) => Err(CliError::failed(format!("failed to watch process {}: {error}", process.pid()))),
            Err(_) => {
                process.kill();
                Err(CliError::failed(format!(
                    "hive {} (process {}) did not stop within {patience:?} and was killed. Run `rbee hive` to recover its workers; its \
                     log is {}",
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

    /// Starts to watch a hive that is already running, whoever started it. Returns false if none is running.
    fn adopt(&mut self) -> bool {
        let Some(process) = self.local.running() else { return false };
        info!(hive = %self.hive, pid = process.pid(), "watching the local hive that is already running");
        self.running = Some(Running { process, since: Instant::now() });
        true
    }

    fn start(&mut self) {
        let started = self.local.start(Command::new(&self.program).args(&self.arguments), self.rules.bounds.log_size);
        let log = self.local.log();
        match &started {
            Ok(process) => {
                info!(hive = %self.hive, pid = process.pid(), log = %log.display(), "the local hive was started");
            }
            Err(error) => {
                let program = self.program.display();
                warn!(hive = %self.hive, %program, log = %log.display(), %error, "failed to start the local hive");
            }
        }
        self.running = started.ok().map(|process| Running { process, since: Instant::now() });
    }

    /// Waits until the hive exits. Returns the cause, and the length of the run.
    async fn ended(&mut self) -> (End, Duration) {
        let Some(Running { process, since }) = self.running.clone() else { return (End::NotStarted, Duration::ZERO) };
        let status = process.ended().await.unwrap_or_else(|error| {
            warn!(hive = %self.hive, pid = process.pid(), %error, "failed to watch the local hive");
            ExitStatus::default()
        });
        process.reap();
        self.running = None;
        let end = match status {
            ExitStatus { signal: Some(signal), .. } => End::Signal(signal),
            ExitStatus { code: Some(code), .. } => End::Code(code),
            ExitStatus { .. } if self.local.stopped_cleanly() => End::StoppedCleanly,
            ExitStatus { .. } => End::Unknown,
        };
        (end, since.elapsed())
    }
}

/// True for a clean exit. A hive that is not our child has no known exit code and counts as clean.
fn is_clean(status: ExitStatus) -> bool {
    status.signal.is_none() && status.code.unwrap_or(0) == 0
}
