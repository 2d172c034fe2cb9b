//! What the service manager is told (sd_notify(3)): that the hive is ready, how it is, that it lives, that it stops.
//! Where none listens, nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// What the service manager tells us by: workers must not speak for their hive, nor be watched in its place.
pub(crate) const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

/// The hive takes commands.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// How it is, in words.
pub(crate) fn status(status: &str) {
    tell(&[NotifyState::Status(&one_line(status))]);
}

/// Its loop turns. Without this word for two periods the service manager ends it.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// Its shutdown begins and takes at most so long: the service manager waits for that, however little its unit grants.
pub(crate) fn stopping(status: &str, at_most: Duration) {
    let at_most = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(at_most), NotifyState::Status(&one_line(status))]);
}

/// How often [`alive`] is due: twice within the time that the service manager waits, if it does.
pub(crate) fn watchdog_period() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2).filter(|period| !period.is_zero())
}

fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        warn!(%error, "the service manager cannot be told");
    }
}

/// Each line of a message is a word of its own.
fn one_line(text: &str) -> String {
    text.replace(|character: char| character.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::net::UnixDatagram, process::Command};

    use super::*;

    /// Says to this test that it is the process that speaks: variables belong to a whole process.
    const SPEAKER: &str = "RBEE_TEST_SPEAKER";

    fn speak() {
        assert_eq!(watchdog_period(), Some(Duration::from_secs(15)));
        ready("online with 2 workers");
        alive();
        status("degraded:\nREADY=0");
        stopping("finishes 3 jobs", Duration::from_secs(47));
    }

    #[test]
    fn the_service_manager_hears_ready_alive_status_and_stopping() {
        if env::var_os(SPEAKER).is_some() {
            return speak();
        }
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket can be bound");
        let speaker = Command::new(env::current_exe().expect("a test knows its own program"))
            .args(["--exact", "notify::tests::the_service_manager_hears_ready_alive_status_and_stopping"])
            .env(SPEAKER, "1")
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "30000000")
            .env_remove("WATCHDOG_PID")
            .output()
            .expect("the program starts");
        assert!(speaker.status.success(), "{}", String::from_utf8_lossy(&speaker.stdout));
        // It has ended: what it said is all there.
        socket.set_nonblocking(true).expect("a socket has this option");
        let mut heard = Vec::new();
        let mut bytes = [0; 1024];
        while let Ok(length) = socket.recv(&mut bytes) {
            heard.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        let expected = [
            "READY=1\nSTATUS=online with 2 workers\n",
            "WATCHDOG=1\n",
            "STATUS=degraded: READY=0\n",
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=47000000\nSTATUS=finishes 3 jobs\n",
        ];
        assert_eq!(heard, expected);
    }
}
