//! `rbee up` of one test: everything on one machine, with a server of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

use super::{
    processes::{MARK, kill_marked, signal},
    program::{program, without_configuration},
};
use crate::{
    port::{Port, PortBlock},
    tools::nats_server,
    wait::{PATIENCE, eventually},
};

/// `rbee up` with a folder and ports of its own. All its processes end when it is dropped.
#[derive(Debug)]
pub struct Up {
    data: PathBuf,
    nats: Port,
    ports: PortBlock,
    process: Option<Child>,
    folder: TempDir,
}

impl Up {
    /// `rbee up`, not started yet, whose data folder has this name.
    ///
    /// # Panics
    /// When no folder or port is free.
    pub fn new(data: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let data = folder.path().join(data);
        Self { data, nats: Port::take(), ports: PortBlock::take(), process: None, folder }
    }

    /// The data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        let mut command = self.rbee_command(&["up", "--http", "127.0.0.1:0"]);
        command.args(["--nats-port", &self.nats.number().to_string(), "--ports", &self.ports.range(), "--data"]);
        command.arg(&self.data).env_remove("RBEE_NATS");
        command
    }

    fn rbee_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("rbee"));
        without_configuration(&mut command).args(arguments);
        command.env("RBEE_NATS_SERVER", nats_server()).env(MARK, self.mark()).stdin(Stdio::null());
        command.env("RBEE_NATS", self.url());
        command
    }

    fn mark(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Address of its server.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.nats.number())
    }

    /// Starts it and waits until it is up.
    ///
    /// # Panics
    /// When it is not in time.
    pub async fn start(&mut self) {
        let before = self.log().matches("rbee is up").count();
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log can be made");
        let shared = log.try_clone().expect("a file can be shared");
        self.process = Some(self.command().stdout(shared).stderr(log).spawn().expect("the program starts"));
        eventually("rbee is up", PATIENCE, async || {
            let ended = self.process.as_mut().is_some_and(|up| up.try_wait().is_ok_and(|status| status.is_some()));
            assert!(!ended, "rbee up has ended:\n{}", self.log());
            self.log().matches("rbee is up").count() > before
        })
        .await;
    }

    /// Process number of `rbee up`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Process number of its server, as the server wrote it.
    pub fn server_pid(&self) -> Option<u32> {
        fs::read_to_string(self.data.join("nats/nats-server.pid")).ok()?.trim().parse().ok()
    }

    /// Stops it and waits for its end.
    ///
    /// # Panics
    /// When it does not end in time, or not with exit code 0.
    pub async fn stop(&mut self) {
        let mut up = self.process.take().expect("it runs");
        signal(up.id(), "TERM");
        let mut status = None;
        eventually("rbee has stopped", PATIENCE, async || {
            status = up.try_wait().expect("the process is ours");
            status.is_some()
        })
        .await;
        assert!(status.is_some_and(|status| status.success()), "{}", self.log());
    }

    /// Runs an `rbee` command against it to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn rbee(&self, arguments: &[&str]) -> Output {
        let mut command = self.rbee_command(arguments);
        let run = tokio::task::spawn_blocking(move || command.output());
        run.await.expect("the command does not panic").expect("rbee runs")
    }

    /// Everything that it printed and logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("up.log")
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Some(up) = &mut self.process {
            let _ = up.kill();
            let _ = up.wait();
        }
        kill_marked(&self.mark());
        if std::thread::panicking() {
            eprintln!("---- up\n{}", self.log());
        }
    }
}
