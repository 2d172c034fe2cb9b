//! Notifications for the service manager (sd_notify(3)): ready, status, watchdog, stopping. Without a service manager that
//! listens, nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// Environment variables of the service manager. Workers must not get them: they would notify in the name of their hive.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// Notifies that the hive takes commands.
pub(crate) fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Sets the status line.
pub(crate) fn status(status: &str) {
    send(&[NotifyState::Status(&one_line(status))]);
}

/// Notifies that the owner's loop runs. Without two of these in a row, the service manager kills the hive.
pub(crate) fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// Notifies that the shutdown begins and takes at most this long. The service manager waits for it, whatever its unit says.
pub(crate) fn stopping(status: &str, at_most: Duration) {
    let at_most = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
    send(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(at_most), NotifyState::Status(&one_line(status))]);
}

/// Interval of [`alive`]: half of the service manager's watchdog timeout; `None` without a watchdog.
pub(crate) fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|timeout| timeout / 2).filter(|period| !period.is_zero())
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "failed to notify the service manager");
    }
}

/// Replaces line breaks: each line of a notification is a state of its own.
fn one_line(text: &str) -> String {
    text.replace(|character: char| character.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::net::UnixDatagram, process::Command};

    use super::*;

    /// Set in the child process that sends the notifications: environment variables belong to a whole process.
    const SENDER: &str = "RBEE_TEST_SENDER";

    fn send_all() {
        assert_eq!(watchdog_period(), Some(Duration::from_secs(15)));
        ready("online with 2 workers");
        alive();
        status("degraded:\nREADY=0");
        stopping("finishes 3 jobs", Duration::from_secs(47));
    }

    #[test]
    fn service_manager_receives_ready_watchdog_status_and_stopping() {
        if env::var_os(SENDER).is_some() {
            return send_all();
        }
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket can be bound");
        let sender = Command::new(env::current_exe().expect("a test knows its own program"))
            .args(["--exact", "notify::tests::service_manager_receives_ready_watchdog_status_and_stopping"])
            .env(SENDER, "1")
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "30000000")
            .env_remove("WATCHDOG_PID")
            .output()
            .expect("the program starts");
        assert!(sender.status.success(), "{}", String::from_utf8_lossy(&sender.stdout));
        // The child has exited, so all notifications are here.
        socket.set_nonblocking(true).expect("a socket has this option");
        let mut received = Vec::new();
        let mut bytes = [0; 1024];
        while let Ok(length) = socket.recv(&mut bytes) {
            received.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        let expected = [
            "READY=1\nSTATUS=online with 2 workers\n",
            "WATCHDOG=1\n",
            "STATUS=degraded: READY=0\n",
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=47000000\nSTATUS=finishes 3 jobs\n",
        ];
        assert_eq!(received, expected);
    }
}
