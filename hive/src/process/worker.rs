//! Starting a worker process.

use std::{
    ffi::OsString,
    io,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use command_fds::{CommandFdExt as _, FdMapping};
use rbee_schema::ByteSize;

use super::Process;
use crate::output;

/// File descriptor under which a worker finds its socket (the `LISTEN_FDS` protocol of systemd, sd_listen_fds(3)).
const LISTENER_FD: i32 = 3;

/// The program of a worker, and what it is started with.
pub(crate) struct WorkerCommand {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Run number of the worker.
    pub(crate) epoch: u64,
    /// File to whose end the worker's output goes. A pipe would end the worker when the hive is gone.
    pub(crate) log: PathBuf,
    /// Size above which the log is rotated first.
    pub(crate) log_size: ByteSize,
}

/// Starts a worker in a process group of its own. `listener` is the bound socket of its port.
pub(crate) fn spawn(worker: WorkerCommand, listener: TcpListener) -> io::Result<Process> {
    let output = output::begin(&worker.log, worker.epoch, worker.log_size)?;
    let mut command = Command::new(worker.program);
    command
        .args(worker.arguments)
        .envs(worker.environment)
        .env("LISTEN_FDS", "1")
        .env_remove("LISTEN_PID")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .fd_mappings(vec![FdMapping { parent_fd: listener.into(), child_fd: LISTENER_FD }])
        .map_err(|error| io::Error::other(error.to_string()))?;
    Process::spawn(&mut command)
}
