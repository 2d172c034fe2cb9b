//! One run of a nats-server: its configuration, its start and its end.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tracing::warn;

use super::{
    ServerError, disk,
    holder::PortHolder,
    log::{self, ServerLog},
};

/// Interval of checking whether a server listens or has ended, which nothing reports. A server starts in about 15 ms.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Configuration of the embedded server. Its store is filled in at each start.
const CONFIGURATION: &str = include_str!("../../server/dev.conf");

/// Variable in [`CONFIGURATION`] for the folder of the server's data.
const STORE: &str = "$RBEE_NATS_STORE";

/// Everything that a start needs.
#[derive(Debug)]
pub(super) struct Launch {
    /// The nats-server program.
    pub(super) program: PathBuf,
    /// Folder of the configuration, the log and the data.
    pub(super) directory: PathBuf,
    /// Port on the loopback interface.
    pub(super) port: u16,
    /// Time limit of a start.
    pub(super) start_timeout: Duration,
    /// Time limit of a graceful stop.
    pub(super) stop_timeout: Duration,
}

/// A running nats-server.
#[derive(Debug)]
pub(super) struct ServerProcess {
    pub(super) child: Child,
    pub(super) log: ServerLog,
}

impl Launch {
    /// Starts a server and waits until it listens.
    pub(super) async fn run(&self) -> Result<ServerProcess, ServerError> {
        let Self { program, directory, port, .. } = self;
        fs::create_dir_all(directory).map_err(ServerError::system(format!("create {}", directory.display())))?;
        self.stop_leftover().await;
        if is_taken(*port).await {
            return Err(ServerError::PortTaken { port: *port, holder: PortHolder::of(*port) });
        }
        let config = self.config();
        let free = disk::free(directory).map_err(ServerError::system(format!("inspect {}", directory.display())))?;
        let store = directory.join("jetstream");
        fs::write(&config, configuration(&store, disk::used(&store), free))
            .map_err(ServerError::system(format!("write {}", config.display())))?;
        let log = directory.join("nats-server.log");
        let read = fs::metadata(&log).map_or(0, |log| log.len());
        let mut child = Command::new(program)
            .arg("--config")
            .arg(&config)
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .arg("--pid")
            .arg(directory.join("nats-server.pid"))
            .arg("--log")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in the terminal stops rbee, which stops the server last.
            .process_group(0)
            .spawn()
            .map_err(ServerError::system(format!("start {}", program.display())))?;
        wait_until_it_listens(&mut child, *port, &log, self.start_timeout).await?;
        let pid = child.id().unwrap_or_default();
        Ok(ServerProcess { child, log: ServerLog { path: log, pid, read } })
    }

    fn config(&self) -> PathBuf {
        self.directory.join("nats-server.conf")
    }

    /// Stops a server that an earlier rbee process left behind when it was killed. It still holds the data.
    async fn stop_leftover(&self) {
        let Some(pid) = self.leftover() else { return };
        warn!(pid, "an earlier nats-server still runs on this data and is stopped");
        terminate(pid);
        let deadline = Instant::now() + self.stop_timeout;
        while self.leftover().is_some() && Instant::now() < deadline {
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// Process id from the pid file, if that process is a server with this configuration.
    fn leftover(&self) -> Option<u32> {
        let pid: u32 = fs::read_to_string(self.directory.join("nats-server.pid")).ok()?.trim().parse().ok()?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours = self.config();
        let is_ours = command.split(|byte| *byte == 0).any(|argument| argument == ours.as_os_str().as_encoded_bytes());
        is_ours.then_some(pid)
    }
}

impl ServerProcess {
    /// Process id of the server.
    pub(super) fn pid(&self) -> u32 {
        self.log.pid
    }

    /// Description of the server's end, with the errors in its log.
    pub(super) fn end(&self, status: io::Result<ExitStatus>) -> String {
        let mut end = status.map_or_else(|error| error.to_string(), describe);
        let errors = self.log.errors();
        if !errors.is_empty() {
            let _ = write!(end, ": {}", errors.join("; "));
        }
        end
    }

    /// Stops the server. Kills it if it does not stop in time.
    pub(super) async fn stop(mut self, limit: Duration) {
        if let Some(pid) = self.child.id() {
            terminate(pid);
        }
        if timeout(limit, self.child.wait()).await.is_err() {
            warn!("nats-server did not stop in time and is killed");
            let _ = self.child.kill().await;
        }
    }
}

/// Configuration with this store. `used` bytes are in it, and `free` are on its disk. By default, the server would limit all
/// data to three quarters of the free space at each start, the data in the store included: it would refuse every message once
/// the store holds more than is free.
fn configuration(store: &Path, used: u64, free: u64) -> String {
    let limit = used.saturating_add(free / 4 * 3);
    CONFIGURATION.replace(STORE, &format!("{}\n  max_file_store: {limit}", quoted(&store.to_string_lossy())))
}

/// Text as a string of the server's configuration language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, code) => format!("ended with exit code {}", code.unwrap_or_default()),
    }
}

fn terminate(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// True if another program has the port. It may have bound the port without accepting connections.
async fn is_taken(port: u16) -> bool {
    let accepts = TcpStream::connect(("127.0.0.1", port)).await.is_ok();
    let bound = TcpListener::bind(("127.0.0.1", port)).await;
    accepts || bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

async fn wait_until_it_listens(
    child: &mut Child,
    port: u16,
    log: &Path,
    start_timeout: Duration,
) -> Result<(), ServerError> {
    let pid = child.id().unwrap_or_default();
    let not_started = |why: String| {
        let cause = log::cause(&fs::read_to_string(log).unwrap_or_default(), pid);
        if log::is_address_taken(&cause) {
            return ServerError::PortTaken { port, holder: PortHolder::of(port) };
        }
        ServerError::NotStarted { port, why, log: log.to_owned(), cause: cause.join("\n") }
    };
    let deadline = Instant::now() + start_timeout;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(not_started(format!("the process {}", describe(status))));
        }
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let _ = child.kill().await;
            let why = format!("nothing listens on port {port} after {start_timeout:?} (server_start of --connection)");
            return Err(not_started(why));
        }
        sleep(CHECK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Program that listens nowhere and ignores SIGTERM.
    fn stubborn() -> Child {
        let script = "trap : TERM; while true; do sleep 0.05; done";
        Command::new("sh").args(["-c", script]).kill_on_drop(true).spawn().expect("sh starts")
    }

    #[tokio::test]
    async fn a_server_that_does_not_listen_in_time_is_killed() {
        let folder = tempfile::tempdir().expect("a folder");
        // Nothing listens on port 1 of a machine that runs tests.
        let waited =
            wait_until_it_listens(&mut stubborn(), 1, &folder.path().join("log"), Duration::from_millis(1)).await;
        let error = waited.expect_err("nothing listens").to_string();
        assert!(error.contains("nothing listens on port 1 after 1ms (server_start of --connection)"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_stop_in_time_is_killed() {
        let child = stubborn();
        let pid = child.id().expect("it runs");
        let log = ServerLog { path: PathBuf::new(), pid, read: 0 };
        ServerProcess { child, log }.stop(Duration::from_millis(100)).await;
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it was killed and reaped");
    }

    #[test]
    fn a_store_path_with_spaces_and_quotes_is_quoted() {
        let written = configuration(Path::new("/my \"data\"/a\\b"), 100, 40);
        assert!(written.contains("store_dir: \"/my \\\"data\\\"/a\\\\b\"\n"), "{written}");
        assert!(written.contains("max_file_store: 130\n"), "{written}");
    }
}
