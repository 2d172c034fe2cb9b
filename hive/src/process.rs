//! One worker process: started in a process group of its own, with its port's socket handed over, and signalled only
//! through what the kernel guarantees to be this process.

use std::{
    fs::{self, File, OpenOptions},
    io,
    net::TcpListener,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::process::Child;
use tracing::debug;

/// The file descriptor under which a process finds its socket (the `LISTEN_FDS` protocol of systemd, sd_listen_fds(3)).
const LISTENER_FD: i32 = 3;

/// How to reach a process as long as it lives.
#[derive(Debug)]
pub(crate) struct Handle {
    pid: Pid,
    /// Names this process and no later one with the same number.
    pidfd: OwnedFd,
}

/// Starts a worker. Its output goes to the end of `log`: a pipe would end it when we are gone.
pub(crate) fn spawn(command: &mut Command, listener: TcpListener, log: &Path) -> io::Result<(Handle, Child)> {
    let output = open(log)?;
    command
        .env("LISTEN_FDS", "1")
        .env_remove("LISTEN_PID")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .fd_mappings(vec![FdMapping { parent_fd: listener.into(), child_fd: LISTENER_FD }])
        .map_err(|error| io::Error::other(error.to_string()))?;
    // Rust opens every other descriptor so that it is closed here.
    let child = tokio::process::Command::from(std::mem::replace(command, Command::new(""))).spawn()?;
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let pid = pid.ok_or_else(|| io::Error::other("the new process has no number"))?;
    // Nobody has waited for the child yet, so the number is still its own.
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    Ok((Handle { pid, pidfd }, child))
}

fn open(log: &Path) -> io::Result<File> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(log)
}

impl Handle {
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// SIGTERM to the process.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL to the process and to what it started.
    pub(crate) fn kill_tree(&self) {
        self.signal(Signal::KILL);
        // The group keeps its number for as long as anybody is in it.
        if let Err(error) = rustix::process::kill_process_group(self.pid, Signal::KILL) {
            debug!(pid = self.pid(), %error, "nobody is left in the process group");
        }
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = rustix::process::pidfd_send_signal(&self.pidfd, signal) {
            debug!(pid = self.pid(), %error, "the process is gone already");
        }
    }
}

/// The exit code and the signal of an ended process, of which one is there.
pub(crate) fn code_and_signal(status: ExitStatus) -> (Option<i32>, Option<i32>) {
    use std::os::unix::process::ExitStatusExt as _;
    (status.code(), status.signal())
}
