//! Queens and hives that have not ended yet, and the wait for their end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rbee_nats::{Bus, Entry, EventReader, RegistryWatch};
use rbee_schema::{Event, HiveName, HiveRecord, QueenEvent, QueenName};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    Context,
    error::CliError,
    hive_command::{Goal, Progress, parse_event, print_event},
};

/// Longest wait for an event, without `--patience`. Workers take up to 30 s to finish their jobs and 10 s more to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time from the deletion of a hive's key to its event `stopped`. They arrive by different subscriptions, so that either
/// may come first; 2 s are a thousand round trips.
const LAST_EVENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Time without a connection after which the server counts as stopped. A client reconnects to a running server within a
/// second.
const SERVER_GONE: Duration = Duration::from_secs(5);

/// Queens and hives that have not ended yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ending {
    queens: BTreeSet<QueenName>,
    /// Hives and their epochs.
    pub(super) hives: BTreeMap<HiveName, u64>,
    /// Hives whose key is deleted and whose event `stopped` is missing, and since when.
    unregistered: BTreeMap<HiveName, Instant>,
}

impl Ending {
    pub(super) fn new(queens: BTreeSet<QueenName>, hives: BTreeMap<HiveName, u64>) -> Self {
        Self { queens, hives, unregistered: BTreeMap::new() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.queens.is_empty() && self.hives.is_empty()
    }

    /// Prints events until every queen and hive has ended.
    ///
    /// # Errors
    /// No event comes for `--patience`, or the server stops first.
    pub(super) async fn wait(
        &mut self,
        context: &Context,
        bus: &Bus,
        events: &mut EventReader,
        hive_keys: &mut RegistryWatch<HiveRecord>,
    ) -> Result<(), CliError> {
        let mut last_event = Instant::now();
        let patience = context.patience(PATIENCE);
        while !self.is_over() {
            let give_up = last_event + patience;
            let next_missing = self.unregistered.values().map(|since| *since + LAST_EVENT_TIMEOUT).min();
            let deadline = next_missing.unwrap_or(give_up).min(give_up);
            tokio::select! {
                record = timeout_at(deadline, events.next()) => match record {
                    Ok(record) => {
                        let Some(record) = record? else { return Err(self.no_event(patience)) };
                        if let Some(message) = parse_event(bus, &record).and_then(|event| self.handle_event(&event)) {
                            print_event(context, &record, &message);
                            last_event = Instant::now();
                        }
                    }
                    Err(_) if deadline < give_up => self.drop_unregistered(Instant::now()),
                    Err(_) => return Err(self.no_event(patience)),
                },
                entry = hive_keys.next() => if let Entry::Removed(key) = entry? {
                    let hive = self.hives.keys().find(|hive| hive.as_str() == key).cloned();
                    self.unregistered.extend(hive.map(|hive| (hive, Instant::now())));
                },
                () = server_gone(bus) => return Err(self.server_stopped()),
            }
        }
        Ok(())
    }

    /// Takes an event into account. Returns the message for the user, if the event concerns what is ending.
    fn handle_event(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Queen(queen, QueenEvent::Stopped {}) => {
                self.queens.remove(queen).then(|| format!("queen {queen} has ended"))
            }
            Event::Hive(hive, _) | Event::Worker(hive, ..) if self.hives.contains_key(hive) => {
                match Goal::HiveStopped.assess(event) {
                    Progress::Unrelated => None,
                    Progress::Step(message) => Some(message),
                    Progress::Reached(message) | Progress::Failed(message) => {
                        self.hives.remove(hive);
                        self.unregistered.remove(hive);
                        Some(message)
                    }
                }
            }
            _ => None,
        }
    }

    /// Counts hives as ended whose key was deleted and whose last event has not come in time.
    fn drop_unregistered(&mut self, now: Instant) {
        let is_late = |since: &Instant| now >= *since + LAST_EVENT_TIMEOUT;
        let late: Vec<HiveName> =
            self.unregistered.iter().filter(|(_, since)| is_late(since)).map(|(hive, _)| hive.clone()).collect();
        for hive in late {
            eprintln!("{hive} has disconnected without reporting its end");
            self.unregistered.remove(&hive);
            self.hives.remove(&hive);
        }
    }

    fn names(&self) -> String {
        let queens = self.queens.iter().map(|queen| format!("queen {queen}"));
        queens.chain(self.hives.keys().map(|hive| format!("hive {hive}"))).collect::<Vec<_>>().join(", ")
    }

    fn no_event(&self, patience: Duration) -> CliError {
        let names = self.names();
        CliError::unavailable(format!(
            "{names}: the command to stop was sent, and no event came for {patience:?} (--patience); `rbee hives` lists the \
             connected hives, `rbee events --since 5m` the recent events"
        ))
    }

    fn server_stopped(&self) -> CliError {
        let names = self.names();
        CliError::unavailable(format!("the server stopped before these reported their end: {names}"))
    }
}

/// Waits until the server is away and does not come back.
async fn server_gone(bus: &Bus) {
    let mut online = bus.online();
    loop {
        let _ = online.wait_for(|online| !online).await;
        if timeout(SERVER_GONE, online.wait_for(|online| *online)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::HiveEvent;

    use super::*;

    fn ending() -> Ending {
        let name = |text: &str| text.parse().expect("a name");
        Ending::new(BTreeSet::from(["q".parse().expect("a name")]), BTreeMap::from([(name("a"), 1), (name("b"), 2)]))
    }

    fn stopped(hive: &str) -> Event {
        Event::Hive(hive.parse().expect("a name"), HiveEvent::Stopped { killed: 0 })
    }

    #[test]
    fn everything_has_ended_when_each_queen_and_hive_has_stopped() {
        let mut ending = ending();
        assert_eq!(ending.handle_event(&stopped("other")), None);
        assert_eq!(ending.handle_event(&stopped("a")), Some("a has stopped".to_owned()));
        assert_eq!(ending.handle_event(&stopped("b")), Some("b has stopped".to_owned()));
        assert!(!ending.is_over());
        let queen = Event::Queen("q".parse().expect("a name"), QueenEvent::Stopped {});
        assert_eq!(ending.handle_event(&queen), Some("queen q has ended".to_owned()));
        assert!(ending.is_over());
        assert_eq!(ending.handle_event(&queen), None);
    }

    #[test]
    fn a_hive_without_a_last_event_counts_as_ended_after_a_while() {
        let (mut ending, now) = (ending(), Instant::now());
        ending.unregistered.insert("a".parse().expect("a name"), now);
        ending.drop_unregistered(now + LAST_EVENT_TIMEOUT / 2);
        assert_eq!(ending.names(), "queen q, hive a, hive b");
        ending.drop_unregistered(now + LAST_EVENT_TIMEOUT);
        assert_eq!(ending.names(), "queen q, hive b");
    }
}
