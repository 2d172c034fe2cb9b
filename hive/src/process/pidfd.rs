//! Pidfds: descriptors that name one process, and no later one with the same number (pidfd_open(2)). `nix` has no call for
//! opening one or for sending a signal through one, so this file uses `rustix`.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

/// Handle of a process; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct PidFd(Arc<OwnedFd>);

impl PidFd {
    /// Opens the process that has this number now.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(|| io::Error::other(format!("{pid} is not the number of a process")))?;
        Ok(Self(Arc::new(pidfd_open(number, PidfdFlags::empty())?)))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process has exited and was reaped.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = rustix::process::Signal::from_named_raw(signal as i32);
        let signal = signal.ok_or_else(|| io::Error::other("a signal without a name"))?;
        Ok(pidfd_send_signal(&*self.0, signal)?)
    }

    /// True once the process has exited, reaped or not: the kernel makes its pidfd readable then.
    pub(crate) fn has_ended(&self) -> bool {
        let mut watched = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut watched, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// A descriptor of its own for the same process.
    ///
    /// # Errors
    /// When this process has too many open files.
    pub(crate) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
