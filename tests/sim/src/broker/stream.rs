//! A stream: its messages, its limits and its memory of message ids.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    time::Instant,
};

use super::{
    config::{Discard, StreamConfig},
    message::{Headers, Refusal, Stored},
    pattern::{is_wild, matches},
};

/// A stored message as it is published.
#[derive(Debug)]
pub(super) struct Publication<B> {
    pub(super) subject: Rc<str>,
    pub(super) body: Option<B>,
    pub(super) size: u64,
    pub(super) headers: Headers,
}

/// A stream with its messages.
#[derive(Debug)]
pub(super) struct Stream<B> {
    pub(super) config: StreamConfig,
    messages: BTreeMap<u64, Stored<B>>,
    subjects: BTreeMap<Rc<str>, BTreeSet<u64>>,
    last: u64,
    bytes: u64,
    ids: HashMap<Rc<str>, (u64, Instant)>,
    /// Messages with a time to live, by the time at which they expire.
    expiring: BTreeSet<(Instant, u64)>,
    /// True while the disk takes nothing more.
    pub(super) is_stuffed: bool,
}

impl<B: Clone> Stream<B> {
    pub(super) fn new(config: StreamConfig) -> Self {
        Self {
            config,
            messages: BTreeMap::new(),
            subjects: BTreeMap::new(),
            last: 0,
            bytes: 0,
            ids: HashMap::new(),
            expiring: BTreeSet::new(),
            is_stuffed: false,
        }
    }

    /// Stores a message. Returns its sequence, and true if it was stored before.
    pub(super) fn publish(&mut self, new: Publication<B>, now: Instant) -> Result<(u64, bool), Refusal> {
        self.forget_ids(now);
        let last = self.last_of(&new.subject).map_or(0, |last| last.sequence);
        if new.headers.expect.is_some_and(|expected| expected != last) {
            return Err(Refusal::Stale);
        }
        if let Some((sequence, _)) = new.headers.id.as_ref().and_then(|id| self.ids.get(id)) {
            return Ok((*sequence, true));
        }
        self.make_room(&new)?;
        self.last += 1;
        let sequence = self.last;
        let Publication { subject, body, size, headers: Headers { id, time_to_live, .. } } = new;
        if let Some(id) = &id {
            self.ids.insert(id.clone(), (sequence, now));
        }
        let expires = time_to_live.map(|time| now + time);
        self.insert(Stored { sequence, subject, body, at: now, size, expires });
        Ok((sequence, false))
    }

    fn make_room(&mut self, new: &Publication<B>) -> Result<(), Refusal> {
        if self.is_stuffed {
            return Err(Refusal::Full);
        }
        let is_bucket = self.config.markers.is_some();
        let count = self.subjects.get(&new.subject).map_or(0, BTreeSet::len) as u64;
        if self.config.per_subject.is_some_and(|most| count >= most) {
            if self.config.discard == Discard::New && !is_bucket {
                return Err(Refusal::Full);
            }
            if let Some(oldest) = self.subjects.get(&new.subject).and_then(BTreeSet::first).copied() {
                self.remove(oldest);
            }
        }
        while self.config.max_bytes.is_some_and(|most| self.bytes + new.size > most) {
            match self.messages.first_key_value().map(|(oldest, _)| *oldest) {
                Some(oldest) if self.config.discard == Discard::Old => drop(self.remove(oldest)),
                Some(_) | None => return Err(Refusal::Full),
            }
        }
        Ok(())
    }

    fn insert(&mut self, message: Stored<B>) {
        self.bytes += message.size;
        self.subjects.entry(message.subject.clone()).or_default().insert(message.sequence);
        if let Some(expires) = message.expires {
            self.expiring.insert((expires, message.sequence));
        }
        self.messages.insert(message.sequence, message);
    }

    /// Removes a message.
    pub(super) fn remove(&mut self, sequence: u64) -> Option<Stored<B>> {
        let message = self.messages.remove(&sequence)?;
        self.bytes -= message.size;
        if let Some(sequences) = self.subjects.get_mut(&message.subject) {
            sequences.remove(&sequence);
            if sequences.is_empty() {
                self.subjects.remove(&message.subject);
            }
        }
        if let Some(expires) = message.expires {
            self.expiring.remove(&(expires, sequence));
        }
        Some(message)
    }

    /// Removes every message before a sequence.
    pub(super) fn purge(&mut self, before: u64) {
        while let Some((first, _)) = self.messages.first_key_value().filter(|(first, _)| **first < before) {
            let first = *first;
            self.remove(first);
        }
    }

    /// Removes what has expired. Returns the markers that are stored in its place.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Stored<B>> {
        let mut markers = Vec::new();
        while let Some((_, sequence)) = self.expiring.first().copied().filter(|(at, _)| *at <= now) {
            let Some(gone) = self.remove(sequence) else { continue };
            if gone.body.is_some()
                && let Some(time_to_live) = self.config.markers
                && !self.subjects.contains_key(&gone.subject)
            {
                self.last += 1;
                let marker = Stored {
                    sequence: self.last,
                    body: None,
                    at: now,
                    size: 0,
                    expires: Some(now + time_to_live),
                    ..gone
                };
                self.insert(marker.clone());
                markers.push(marker);
            }
        }
        markers
    }

    /// Time at which the next message expires.
    pub(super) fn due(&self) -> Option<Instant> {
        self.expiring.first().map(|(at, _)| *at)
    }

    pub(super) fn get(&self, sequence: u64) -> Option<&Stored<B>> {
        self.messages.get(&sequence)
    }

    /// Number of messages.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Last message of a subject.
    pub(super) fn last_of(&self, subject: &str) -> Option<&Stored<B>> {
        self.subjects.get(subject).and_then(BTreeSet::last).and_then(|last| self.messages.get(last))
    }

    /// First message from `from` on that matches a filter.
    pub(super) fn first_from(&self, filter: &str, from: u64) -> Option<u64> {
        if is_wild(filter) {
            let mut messages = self.messages.range(from..);
            return messages.find(|(_, message)| matches(filter, &message.subject)).map(|(sequence, _)| *sequence);
        }
        self.subjects.get(filter)?.range(from..).next().copied()
    }

    /// Number of messages from `from` on that match a filter.
    pub(super) fn count_from(&self, filter: &str, from: u64) -> u64 {
        if is_wild(filter) {
            return self.messages.range(from..).filter(|(_, message)| matches(filter, &message.subject)).count() as u64;
        }
        self.subjects.get(filter).map_or(0, |sequences| sequences.range(from..).count()) as u64
    }

    /// Messages from `from` on that match a filter, oldest first.
    pub(super) fn read(&self, filter: &str, from: u64) -> Vec<Stored<B>> {
        if is_wild(filter) {
            let messages = self.messages.range(from..).map(|(_, message)| message);
            return messages.filter(|message| matches(filter, &message.subject)).cloned().collect();
        }
        let sequences = self.subjects.get(filter).into_iter().flat_map(|sequences| sequences.range(from..));
        sequences.filter_map(|sequence| self.messages.get(sequence)).cloned().collect()
    }

    /// Number of messages of each subject that matches a filter.
    pub(super) fn counts(&self, filter: &str) -> Vec<(Rc<str>, u64)> {
        let matching = self.subjects.iter().filter(|(subject, _)| matches(filter, subject));
        matching.map(|(subject, sequences)| (subject.clone(), sequences.len() as u64)).collect()
    }

    /// Last message of each subject that matches a filter, in the order of the stream.
    pub(super) fn last_of_each(&self, filter: &str, from: u64) -> Vec<Stored<B>> {
        let matching = self.subjects.iter().filter(|(subject, _)| matches(filter, subject));
        let mut last: Vec<u64> = matching.filter_map(|(_, all)| all.last().copied()).filter(|at| *at >= from).collect();
        last.sort_unstable();
        last.into_iter().filter_map(|sequence| self.messages.get(&sequence)).cloned().collect()
    }

    /// Forgets the ids that only the memory of the server knew: those of removed messages.
    pub(super) fn restart(&mut self) {
        let messages = &self.messages;
        self.ids.retain(|_, (sequence, _)| messages.contains_key(sequence));
    }

    fn forget_ids(&mut self, now: Instant) {
        // Timers of the server do the same in batches; the exact moment does not matter.
        let window = self.config.duplicates;
        if self.ids.len() >= 64 {
            self.ids.retain(|_, (_, at)| now < *at + window);
        } else {
            self.ids.retain(|_, (_, at)| now <= *at + window);
        }
    }
}
