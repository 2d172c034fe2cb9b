//! The ports of a hive: a new worker gets the lowest that is free.
//!
//! The book is the hive's own view. Between hives of one machine the key-value bucket decides, between all programs the
//! operating system: a worker has a port only when its lease is claimed and its socket is bound.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use rbee_schema::{Failure, FailureCode, HiveName, WorkerName};

/// Users of the ports of a range, as this hive knows them.
#[derive(Debug, Clone)]
pub struct PortBook {
    range: RangeInclusive<u16>,
    /// Time after which a port held by another program is tried again.
    foreign_for: Duration,
    used: BTreeMap<u16, User>,
    /// Last revision of a free port's key, where it is known. A claim that names it needs one round trip.
    revisions: BTreeMap<u16, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum User {
    Ours(WorkerName),
    OtherHive(HiveName),
    Foreign(Instant),
}

impl PortBook {
    /// A book in which every port is free.
    pub fn new(range: RangeInclusive<u16>, foreign_for: Duration) -> Self {
        Self { range, foreign_for, used: BTreeMap::new(), revisions: BTreeMap::new() }
    }

    /// Takes the lowest free port for `worker`. Returns it with the last revision of its key, 0 where that is unknown.
    ///
    /// # Errors
    /// `ports-exhausted`, with the range and the numbers of ports by user.
    pub fn take(&mut self, worker: &WorkerName, now: Instant) -> Result<(u16, u64), Failure> {
        let foreign_for = self.foreign_for;
        self.used.retain(|_, user| !matches!(user, User::Foreign(since) if now >= *since + foreign_for));
        let free = self.range.clone().find(|port| !self.used.contains_key(port));
        let Some(port) = free else { return Err(self.exhausted()) };
        self.used.insert(port, User::Ours(worker.clone()));
        Ok((port, self.revisions.remove(&port).unwrap_or(0)))
    }

    /// Notes that a worker of an earlier run of the hive has this port.
    pub fn adopt(&mut self, port: u16, worker: &WorkerName) {
        self.used.insert(port, User::Ours(worker.clone()));
    }

    /// Frees the port of a worker. A port that the worker does not have stays as it is.
    pub fn give_back(&mut self, port: u16, worker: &WorkerName) {
        if self.is_of(port, worker) {
            self.used.remove(&port);
        }
    }

    /// Notes the revision of a port's key, known from the release of its lease.
    pub fn note_revision(&mut self, port: u16, revision: u64) {
        self.revisions.insert(port, revision);
    }

    /// Notes that another hive of this machine has leased the port, unless one of our workers has it. Returns true unless that
    /// was known.
    pub fn leased_by(&mut self, port: u16, hive: HiveName) -> bool {
        match self.used.get(&port) {
            Some(User::OtherHive(known)) if *known == hive => false,
            Some(User::Ours(_)) => true,
            Some(User::OtherHive(_) | User::Foreign(_)) | None => {
                self.used.insert(port, User::OtherHive(hive));
                true
            }
        }
    }

    /// Notes that the port just taken is leased by another hive.
    pub fn lost_to(&mut self, port: u16, hive: HiveName) {
        self.used.insert(port, User::OtherHive(hive));
    }

    /// Notes that another hive has released the port.
    pub fn released_by_other(&mut self, port: u16) {
        if matches!(self.used.get(&port), Some(User::OtherHive(_))) {
            self.used.remove(&port);
        }
    }

    /// Notes that the port just taken is held by a program outside of rbee.
    pub fn is_foreign(&mut self, port: u16, now: Instant) {
        self.used.insert(port, User::Foreign(now));
    }

    /// True where the port is this worker's, or is being leased for it.
    pub fn is_of(&self, port: u16, worker: &WorkerName) -> bool {
        matches!(self.used.get(&port), Some(User::Ours(user)) if user == worker)
    }

    /// Worker of this hive that has the port, or is being started on it.
    pub fn worker_of(&self, port: u16) -> Option<&WorkerName> {
        match self.used.get(&port) {
            Some(User::Ours(worker)) => Some(worker),
            Some(User::OtherHive(_) | User::Foreign(_)) | None => None,
        }
    }

    /// Number of ports that workers of this hive have.
    pub fn in_use(&self) -> u32 {
        count(self.used.values().filter(|user| matches!(user, User::Ours(_))))
    }

    /// Number of ports in the range.
    pub fn total(&self) -> u32 {
        u32::from(*self.range.end() - *self.range.start()) + 1
    }

    fn exhausted(&self) -> Failure {
        let others = count(self.used.values().filter(|user| matches!(user, User::OtherHive(_))));
        let foreign = count(self.used.values().filter(|user| matches!(user, User::Foreign(_))));
        Failure::new(
            FailureCode::PortsExhausted,
            format!(
                "no port is free in {}-{}: {} leased by this hive, {others} by other hives of this machine, {foreign} held by \
                 other programs; stop a worker, or give the hive more ports with --ports",
                self.range.start(),
                self.range.end(),
                self.in_use(),
            ),
        )
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOREIGN_FOR: Duration = Duration::from_secs(7);

    fn worker(name: &str) -> WorkerName {
        name.parse().expect("a name")
    }

    #[test]
    fn lowest_free_port_is_taken_first() {
        let (mut book, now) = (PortBook::new(8080..=8083, FOREIGN_FOR), Instant::now());
        for port in 8080..=8082 {
            assert_eq!(book.take(&worker("w"), now).expect("free").0, port);
        }
        book.give_back(8081, &worker("w"));
        book.note_revision(8081, 7);
        assert_eq!(book.take(&worker("next"), now).expect("free"), (8081, 7));
        assert_eq!(book.in_use(), 3);
    }

    #[test]
    fn exhaustion_names_the_range_and_the_users_of_its_ports() {
        let (mut book, now) = (PortBook::new(8080..=8082, FOREIGN_FOR), Instant::now());
        book.leased_by(8080, "other".parse().expect("a name"));
        let (port, _) = book.take(&worker("w"), now).expect("free");
        book.is_foreign(port, now);
        book.take(&worker("w"), now).expect("free");
        let failure = book.take(&worker("w"), now).expect_err("exhausted");
        assert_eq!(failure.code, FailureCode::PortsExhausted);
        assert!(
            failure.retryable && failure.message.contains("8080-8082: 1 leased by this hive, 1 by other hives"),
            "{failure}"
        );
    }

    #[test]
    fn port_belongs_to_a_worker_until_that_worker_gives_it_back() {
        let (mut book, now) = (PortBook::new(8080..=8081, FOREIGN_FOR), Instant::now());
        let (port, _) = book.take(&worker("w"), now).expect("free");
        assert!(
            book.is_of(port, &worker("w")) && !book.is_of(port, &worker("other")) && !book.is_of(8081, &worker("w"))
        );
        book.give_back(port, &worker("other"));
        assert!(book.is_of(port, &worker("w")), "the port belongs to another worker");
        book.give_back(port, &worker("w"));
        assert!(!book.is_of(port, &worker("w")));
    }

    #[test]
    fn port_held_by_another_program_is_tried_again_later() {
        let (mut book, now) = (PortBook::new(8080..=8080, FOREIGN_FOR), Instant::now());
        let (port, _) = book.take(&worker("w"), now).expect("free");
        book.is_foreign(port, now);
        // The lease that was claimed before is released; the program still holds the port.
        book.note_revision(port, 7);
        assert!(book.take(&worker("w"), now + FOREIGN_FOR - Duration::from_millis(1)).is_err());
        assert_eq!(book.take(&worker("w"), now + FOREIGN_FOR).expect("free again"), (8080, 7));
    }

    proptest! {
        #[test]
        fn no_port_is_taken_twice(steps in prop::collection::vec((0u8..4, 0u16..8), 0..64)) {
            let (mut book, now) = (PortBook::new(9000..=9007, FOREIGN_FOR), Instant::now());
            let mut ours = std::collections::BTreeSet::new();
            for (step, offset) in steps {
                let port = 9000 + offset;
                match step {
                    0 | 1 => if let Ok((port, _)) = book.take(&worker("w"), now) {
                        prop_assert!(ours.insert(port), "port {} is given twice", port);
                    },
                    2 => if ours.remove(&port) { book.give_back(port, &worker("w")) },
                    _ => drop(book.leased_by(port, "other".parse().expect("a name"))),
                }
                prop_assert_eq!(book.in_use() as usize, ours.len());
            }
        }
    }
}
