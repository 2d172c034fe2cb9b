//! The clock by which deadlines of jobs count, and the time limits of jobs that state none.
//!
//! The server stamps each job with the time at which it stored it. A deadline counts from there, so it must be compared with the
//! time of the server, and never with the wall clock of this machine, which may be wrong by hours. This clock asks the server
//! that leads the stream `jobs` for its time, and from then on counts with the monotonic clock of this machine, which nobody
//! sets. Half of the round trip counts as the way of the answer, so the reading is wrong by half a round trip at most. The clock
//! is read again after each reconnection, when the stream has changed or has another leader, and every few minutes, because two
//! machines do not run equally fast, and a monotonic clock stands still in a suspended machine.

use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt as _;
use rbee_schema::ClassLimits;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{Bus, BusError, topology::deadlines};

/// Interval of readings. In this time the clocks of two machines drift apart by some ten milliseconds, and ten thousand workers
/// send a few dozen requests per second.
const INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Pause after a reading that failed: the stream is missing or has no leader, which takes seconds.
const RETRY: Duration = Duration::from_secs(1);

/// Round trip above which a reading is tried again. On a network that works it takes less.
const SLOW: Duration = Duration::from_millis(20);

/// Number of tries, of which the one with the shortest round trip counts.
const TRIES: u32 = 3;

/// One reading of the clock. Later times follow from it and from the monotonic clock of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    local: Instant,
    server: SystemTime,
    /// Time limits of jobs that state no deadlines.
    pub limits: ClassLimits,
}

impl ClockReading {
    /// A reading: at `local`, the clock of the server showed `server`.
    pub fn new(local: Instant, server: SystemTime, limits: ClassLimits) -> Self {
        Self { local, server, limits }
    }

    /// Time of the server at `now`.
    pub fn server_time(&self, now: Instant) -> SystemTime {
        self.server + now.saturating_duration_since(self.local)
    }

    /// Time since the server stored something; zero if its clock was set back since then.
    pub fn age(&self, stored: SystemTime, now: Instant) -> Duration {
        self.server_time(now).duration_since(stored).unwrap_or_default()
    }

    /// The moment at which the clock of the server shows `time`; `now` if it does already.
    pub fn moment(&self, time: SystemTime, now: Instant) -> Instant {
        now + time.duration_since(self.server_time(now)).unwrap_or_default()
    }
}

/// The clock by which deadlines of jobs count. Cheap to clone; the task that reads it ends with the last clone.
#[derive(Debug, Clone)]
pub struct JobClock {
    readings: watch::Receiver<Option<ClockReading>>,
}

impl JobClock {
    /// Starts to read the clock.
    pub fn start(bus: &Bus) -> Self {
        let (sender, readings) = watch::channel(None);
        tokio::spawn(keep(bus.clone(), sender));
        Self { readings }
    }

    /// The last reading. `None` until the first one.
    pub fn latest(&self) -> Option<ClockReading> {
        *self.readings.borrow()
    }

    /// The last reading. Waits for the first one, for `limit` at most.
    pub async fn reading(&self, limit: Duration) -> Option<ClockReading> {
        if let Some(reading) = self.latest() {
            return Some(reading);
        }
        let mut readings = self.readings.clone();
        let first = timeout(limit, readings.wait_for(Option::is_some)).await;
        first.ok().and_then(|reading| reading.ok().and_then(|reading| *reading))
    }

    /// Waits until the clock was read again. Cancel-safe.
    pub async fn changed(&mut self) {
        if self.readings.changed().await.is_err() {
            // The task has ended with the process.
            std::future::pending::<()>().await;
        }
    }
}

/// Reads the clock until nobody listens any more.
async fn keep(bus: Bus, readings: watch::Sender<Option<ClockReading>>) {
    let mut advisories = bus.client().subscribe(bus.namespace().advisories_about("jobs")).await.ok();
    let mut online = bus.online();
    loop {
        online.mark_unchanged();
        let pause = match read(&bus).await {
            Ok(reading) => {
                readings.send_replace(Some(reading));
                INTERVAL
            }
            Err(error) => {
                debug!(%error, "the clock of the server could not be read");
                RETRY
            }
        };
        let changed = async {
            match &mut advisories {
                Some(advisories) => advisories.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = readings.closed() => return,
            back = online.changed() => if back.is_err() {
                warn!("the clock of the server is read no longer: the connection is closed");
                return;
            },
            _ = changed => {}
            () = sleep(pause) => {}
        }
    }
}

async fn read(bus: &Bus) -> Result<ClockReading, BusError> {
    let mut best: Option<(Duration, ClockReading)> = None;
    for _ in 0..TRIES {
        let sent = Instant::now();
        let (server, answer) = bus.stream_time("jobs").await?;
        let took = sent.elapsed();
        let config = serde_json::from_value(answer["config"].clone());
        let config = config.map_err(|error| BusError::new("read the limits of jobs", error))?;
        let reading = ClockReading::new(sent + took / 2, server, deadlines(&config));
        if best.is_none_or(|(shortest, _)| took < shortest) {
            best = Some((took, reading));
        }
        if took <= SLOW {
            break;
        }
    }
    best.map(|(_, reading)| reading).ok_or_else(|| BusError::new("read the time of the server", "it was not asked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_of_the_server_advances_with_the_monotonic_clock() {
        let (now, server) = (Instant::now(), SystemTime::UNIX_EPOCH + 1000 * SECOND);
        let clock = ClockReading::new(now, server, ClassLimits::default());
        assert_eq!(clock.server_time(now + 5 * SECOND), server + 5 * SECOND);
        assert_eq!(clock.age(server - 2 * SECOND, now + 5 * SECOND), 7 * SECOND);
        assert_eq!(clock.age(server + 9 * SECOND, now), Duration::ZERO, "the clock of the server was set back");
        assert_eq!(clock.moment(server + 9 * SECOND, now + SECOND), now + 9 * SECOND);
        assert_eq!(clock.moment(SystemTime::UNIX_EPOCH, now + SECOND), now + SECOND, "long past");
    }
}
