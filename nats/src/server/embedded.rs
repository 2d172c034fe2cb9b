//! The server that `rbee up` starts, kept running.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    ServerError,
    disk::{self, Change, Disk},
    log::ServerLog,
    process::{Launch, ServerProcess},
    program::find_server,
    restart::Restarts,
};
use crate::ConnectionSettings;

/// Interval of looking at the disk of the server, which reports a full disk to none of its clients. A few seconds are short
/// beside the time in which a person frees a disk, and one look is a system call.
const DISK_CHECK: Duration = Duration::from_secs(2);

/// nats-server that runs as a child process. A server that ends is started again until [`stop`](Self::stop) is called.
#[derive(Debug)]
pub struct EmbeddedServer {
    url: String,
    pid: watch::Receiver<Option<u32>>,
    stop: CancellationToken,
    keeping: JoinHandle<()>,
}

impl EmbeddedServer {
    /// Starts a server that stores its data in `directory` and listens on `port` of the loopback interface.
    ///
    /// # Errors
    /// No suitable program was found, the port is in use, or the server does not listen in time.
    pub async fn start(directory: &Path, port: u16, settings: &ConnectionSettings) -> Result<Self, ServerError> {
        let (program, _) = find_server().await?;
        let launch = Launch {
            program,
            directory: PathBuf::from(directory),
            port,
            start_timeout: settings.server_start,
            stop_timeout: settings.server_stop,
        };
        let process = launch.run().await?;
        info!(port, data = %directory.display(), "nats-server is running");
        let (pid_sender, pid) = watch::channel(Some(process.pid()));
        let stop = CancellationToken::new();
        let keeper = Keeper { launch, restarts: Restarts::default(), pid: pid_sender, stop: stop.clone() };
        let keeping = tokio::spawn(keeper.keep(process));
        Ok(Self { url: format!("nats://127.0.0.1:{port}"), pid, stop, keeping })
    }

    /// Address of the server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Process id of the server. `None` while it is being started again.
    pub fn pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    /// Stops the server. Kills it if it does not stop in time.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.keeping.await {
            error!(%error, "the task that keeps nats-server running panicked");
        }
    }
}

/// Owner of the server's process.
struct Keeper {
    launch: Launch,
    restarts: Restarts,
    pid: watch::Sender<Option<u32>>,
    stop: CancellationToken,
}

impl Keeper {
    /// Keeps a server running until it is told to stop.
    async fn keep(mut self, mut process: ServerProcess) {
        loop {
            let (pid, since) = (process.pid(), Instant::now());
            let ServerProcess { child, log } = &mut process;
            let status = tokio::select! {
                biased;
                () = self.stop.cancelled() => return process.stop(self.launch.stop_timeout).await,
                status = child.wait() => Some(status),
                () = room_again(log, &self.launch.directory) => None,
            };
            let why = match status {
                Some(status) => format!("nats-server (process {pid}) {}", process.end(status)),
                None => {
                    process.stop(self.launch.stop_timeout).await;
                    format!("the disk of nats-server (process {pid}) has room again")
                }
            };
            self.pid.send_replace(None);
            match self.start_again(why, since.elapsed()).await {
                Some(started) => process = started,
                None => return,
            }
            self.pid.send_replace(Some(process.pid()));
        }
    }

    /// Starts the server again until it runs. `None` if it is told to stop first.
    async fn start_again(&mut self, mut why: String, mut ran: Duration) -> Option<ServerProcess> {
        loop {
            let pause = self.restarts.pause(ran);
            warn!(?pause, "{why}; it is started again");
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = sleep(pause) => {}
            }
            match self.launch.run().await {
                Ok(process) => {
                    info!(pid = process.pid(), port = self.launch.port, "nats-server is running again");
                    return Some(process);
                }
                Err(error) => (why, ran) = (error.to_string(), Duration::ZERO),
            }
        }
    }
}

/// Waits until a disk that was full has room again, so that the server needs a restart.
async fn room_again(log: &mut ServerLog, folder: &Path) {
    let mut state = Disk::default();
    let mut ticks = interval(DISK_CHECK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let write_failed = log.has_failed_to_write();
        let Ok(free) = disk::free(folder) else { continue };
        match state.observe(free, write_failed) {
            None => {}
            Some(Change::BecameFull) => error!(
                data = %folder.display(), free,
                "the disk is full, and the bus stores nothing: free some space; nats-server is then started again by itself"
            ),
            Some(Change::HasRoomAgain) => return,
        }
    }
}
