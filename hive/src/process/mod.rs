//! One worker process: started in a process group of its own, with its port's socket handed over; signalled only through
//! what the kernel guarantees to be this process; watched through the kernel to its end, also when an earlier run of the
//! hive has started it. Part of step 3 of a job's path. A hive itself is held in the same way by who keeps it running.

mod identity;
mod run;

use std::{
    ffi::OsString,
    io,
    net::TcpListener,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use command_fds::{CommandFdExt as _, FdMapping};
use rbee_schema::ByteSize;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions},
};
use tokio::io::{Interest, unix::AsyncFd};
use tracing::debug;

pub(crate) use self::{
    identity::Identity,
    run::{Run, kill_marked},
};
use crate::{notify, output};

/// The file descriptor under which a process finds its socket (the `LISTEN_FDS` protocol of systemd, sd_listen_fds(3)).
const LISTENER_FD: i32 = 3;

/// How to reach a process as long as it lives; cheap to clone.
#[derive(Debug, Clone)]
pub struct Process {
    pub(crate) identity: Identity,
    /// Names this process and no later one with the same number.
    pidfd: Arc<OwnedFd>,
}

/// How a process ended, as far as the kernel tells us: both are missing for one that was not our child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitStatus {
    /// Its exit code, where it ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it, where one did.
    pub signal: Option<i32>,
}

/// What a worker is started with.
pub(crate) struct Start<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) listener: TcpListener,
    /// Which run of the worker this is.
    pub(crate) epoch: u64,
    /// Its output goes to the end of this file: a pipe would end it when we are gone.
    pub(crate) log: &'a Path,
    /// A log that is larger is set aside first.
    pub(crate) log_size: ByteSize,
}

/// Starts a worker.
pub(crate) fn spawn(start: Start<'_>) -> io::Result<Process> {
    let output = output::begin(start.log, start.epoch, start.log_size)?;
    let mut command = Command::new(start.program);
    command
        .args(start.arguments)
        .envs(start.environment)
        .env("LISTEN_FDS", "1")
        .env_remove("LISTEN_PID")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .fd_mappings(vec![FdMapping { parent_fd: start.listener.into(), child_fd: LISTENER_FD }])
        .map_err(|error| io::Error::other(error.to_string()))?;
    Process::spawn(&mut command)
}

impl Process {
    /// Starts a child that speaks for itself, not for us, and takes hold of it.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        for variable in notify::VARIABLES {
            command.env_remove(variable);
        }
        // Rust opens every other descriptor so that it is closed here. We reap the child ourselves, through its pidfd.
        let mut child = command.spawn()?;
        // Nobody has waited for the child yet, so the number is still its own.
        Self::open(child.id()).inspect_err(|_| {
            // Without a way to watch it, it must not run.
            let _ = child.kill().and_then(|()| child.wait());
        })
    }

    /// Takes hold of the process that has this number now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::other(format!("{pid} is not the number of a process")))?;
        let pidfd = rustix::process::pidfd_open(number, PidfdFlags::empty())?;
        let identity = Identity::of(pid, &pidfd)?;
        Ok(Self { identity, pidfd: Arc::new(pidfd) })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// SIGTERM to the process.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL to the process and to what is in its process group.
    pub fn kill(&self) {
        let is_there = self.signal(Signal::KILL);
        // As long as the process was not reaped, the group of this number is its own. One that we adopted is reaped by
        // somebody else: what is left of its group then is found by its mark.
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).filter(|_| is_there)
            && let Err(error) = rustix::process::kill_process_group(group, Signal::KILL)
        {
            debug!(pid = self.pid(), %error, "nobody is left in the process group");
        }
    }

    /// Sends a signal, and says whether the process is there: it lives, or has ended and was not reaped.
    fn signal(&self, signal: Signal) -> bool {
        let sent = rustix::process::pidfd_send_signal(&*self.pidfd, signal);
        sent.inspect_err(|error| debug!(pid = self.pid(), %error, "the process is gone already")).is_ok()
    }

    /// Whether it has ended, be it reaped or not: the kernel makes its pidfd readable then.
    pub(crate) fn has_ended(&self) -> bool {
        let mut watched = [PollFd::new(&*self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Lets the kernel forget a child that has ended. From now on its number may be somebody else's.
    pub fn reap(&self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // It lives, or is not our child.
        let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
    }

    /// Whether the kernel has a notice that the process was stopped (SIGSTOP) since we asked last. Only for a child of
    /// ours: of others the kernel says nothing.
    pub(crate) fn was_stopped(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let noticed = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options);
        noticed.is_ok_and(|status| status.is_some_and(|status| status.stopped()))
    }

    /// Waits until the process has ended. The kernel wakes us; nobody looks again and again.
    ///
    /// # Errors
    /// It cannot be watched.
    pub async fn ended(&self) -> io::Result<ExitStatus> {
        #[expect(
            deprecated,
            reason = "its sound form is unsafe to call; an owned descriptor stays open while it is watched"
        )]
        let watched = AsyncFd::with_interest(self.pidfd.try_clone()?, Interest::READABLE)?;
        watched.readable().await?.retain_ready();
        // It is left to be reaped: as long as it is there, its number is nobody else's.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Not our child: whoever is its parent now takes the status.
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options).ok().flatten();
        Ok(status.map_or_else(ExitStatus::default, |status| ExitStatus {
            code: status.exit_status(),
            signal: status.terminating_signal(),
        }))
    }
}
