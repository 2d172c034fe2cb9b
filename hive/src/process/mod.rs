//! Processes: started in a process group of their own, signalled only through a pidfd, watched through the kernel until they
//! exit, also where an earlier run of the hive started them. Part of step 3 of a job's path. The process that keeps a hive
//! running holds the hive in the same way.
//!
//! `nix` does what it can (waits, signals by number, polls). `rustix` does what `nix` lacks: opening a pidfd and sending a
//! signal through it.

mod identity;
mod mark;
mod pidfd;
mod worker;

use std::{io, os::fd::AsFd as _, process::Command};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::Pid,
};
use tokio::io::{Interest, unix::AsyncFd};
use tracing::debug;

pub(crate) use self::{
    identity::Identity,
    mark::{RunMark, kill_marked},
    pidfd::PidFd,
    worker::{WorkerCommand, spawn},
};
use crate::notify;

/// Handle of a process. It names this process and no later one with the same number; cheap to clone.
#[derive(Debug, Clone)]
pub struct Process {
    pub(crate) identity: Identity,
    pidfd: PidFd,
}

/// Exit status of a process. Both are missing for a process that was not our child: only its parent gets the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitStatus {
    /// Exit code, where the process called exit.
    pub code: Option<i32>,
    /// Number of the signal that ended the process, where one did.
    pub signal: Option<i32>,
}

impl Process {
    /// Starts a child and opens a handle of it. The child does not get the hive's variables for the service manager.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        for variable in notify::VARIABLES {
            command.env_remove(variable);
        }
        // Rust opens every other descriptor so that it is closed here. The child is reaped through its pidfd, not by `Child`.
        let mut child = command.spawn()?;
        // The child is not reaped yet, so the number is still its own.
        Self::open(child.id()).inspect_err(|_| {
            // A process that cannot be watched must not run.
            let _ = child.kill().and_then(|()| child.wait());
        })
    }

    /// Opens the process that has this number now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let pidfd = PidFd::open(pid)?;
        let identity = Identity::of(pid, &pidfd)?;
        Ok(Self { identity, pidfd })
    }

    /// Process number.
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// Sends SIGTERM to the process.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Sends SIGKILL to the process and to its process group.
    pub fn kill(&self) {
        // While the process is not reaped, its number is that of its group. An adopted process is reaped by its parent;
        // what is left of its group then is found by its mark.
        if self.signal(Signal::SIGKILL)
            && let Ok(group) = i32::try_from(self.pid())
            && let Err(error) = killpg(Pid::from_raw(group), Signal::SIGKILL)
        {
            debug!(pid = self.pid(), %error, "nothing is left in the process group");
        }
    }

    /// Sends a signal. `true` where the process is there: it runs, or has exited and was not reaped.
    fn signal(&self, signal: Signal) -> bool {
        let sent = self.pidfd.signal(signal);
        sent.inspect_err(|error| debug!(pid = self.pid(), %error, "the process is gone already")).is_ok()
    }

    /// True once the process has exited, reaped or not.
    pub(crate) fn has_ended(&self) -> bool {
        self.pidfd.has_ended()
    }

    /// Reaps a child that has exited. From now on its number may become that of another process.
    pub fn reap(&self) {
        // An error means that the process still runs, or is not our child.
        let _ = self.wait(WaitPidFlag::WEXITED);
    }

    /// True where the process was stopped (SIGSTOP) since the last call. The kernel reports that only of our own children.
    pub(crate) fn was_stopped(&self) -> bool {
        matches!(self.wait(WaitPidFlag::WSTOPPED), Ok(WaitStatus::Stopped(..)))
    }

    /// Waits until the process has exited. The process is not reaped: until it is, its number is that of no other process.
    ///
    /// # Errors
    /// When the process cannot be watched.
    pub async fn ended(&self) -> io::Result<ExitStatus> {
        #[expect(
            deprecated,
            reason = "its sound form is unsafe to call; an owned descriptor stays open while it is watched"
        )]
        let watched = AsyncFd::with_interest(self.pidfd.try_clone()?, Interest::READABLE)?;
        watched.readable().await?.retain_ready();
        // An error means that the process is not our child: its parent gets the status.
        Ok(match self.wait(WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(WaitStatus::Exited(_, code)) => ExitStatus { code: Some(code), signal: None },
            Ok(WaitStatus::Signaled(_, signal, _)) => ExitStatus { code: None, signal: Some(signal as i32) },
            Ok(_) | Err(_) => ExitStatus::default(),
        })
    }

    fn wait(&self, events: WaitPidFlag) -> nix::Result<WaitStatus> {
        waitid(Id::PIDFd(self.pidfd.as_fd()), events | WaitPidFlag::WNOHANG)
    }
}
