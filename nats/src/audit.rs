//! The trail of events as a chain of hashes: who seals it, and who looks whether it is whole.
//!
//! Each seal is an event that holds the hash of the events since the last seal and of that seal's own hash. An event
//! that is changed, added or removed later breaks it. The chain does not hold against somebody who may write everything
//! anew: keep the last hash elsewhere, and compare.

use std::{
    collections::VecDeque,
    time::{SystemTime, UNIX_EPOCH},
};

use async_nats::jetstream::{message::PublishMessage, stream::LastRawMessageErrorKind};
use rbee_schema::AuditEvent;
use sha2::{Digest as _, Sha256};

use crate::{
    Bus, BusError, EventRecord, Subject,
    bus::{is_stale, json},
};

/// Where the chain has come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChainHead {
    /// The last event that is sealed.
    pub sealed: u64,
    /// The hash of the last seal.
    pub hash: String,
    /// Where that seal itself is in the stream; 0 where there is none.
    pub at: u64,
}

/// Events that are not sealed yet.
#[derive(Debug, Clone)]
pub struct PendingSeal {
    link: ChainHead,
    hash: Sha256,
    first: u64,
    last: u64,
    events: u64,
}

impl ChainHead {
    /// What comes after it.
    pub fn begin(self) -> PendingSeal {
        let hash = Sha256::new().chain_update(&self.hash);
        PendingSeal { link: self, hash, first: 0, last: 0, events: 0 }
    }
}

impl PendingSeal {
    /// One more event.
    pub fn add(&mut self, event: &EventRecord) {
        if self.events == 0 {
            self.first = event.sequence;
        }
        (self.last, self.events) = (event.sequence, self.events + 1);
        self.hash.update(event.sequence.to_be_bytes());
        self.hash.update(nanoseconds(event.stored).to_be_bytes());
        for part in [event.subject.as_bytes(), &event.body] {
            self.hash.update((part.len() as u64).to_be_bytes());
            self.hash.update(part);
        }
    }

    /// How many there are.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The seal for them.
    pub fn seal(&self) -> AuditEvent {
        AuditEvent::Sealed {
            first: self.first,
            last: self.last,
            events: self.events,
            previous: self.link.hash.clone(),
            hash: hexadecimal(&self.hash.clone().finalize()),
        }
    }
}

/// Zero before 1970; a server's clock is later.
fn nanoseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Bus {
    /// The last seal of the trail.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn last_seal(&self) -> Result<ChainHead, BusError> {
        let failed = |cause: String| BusError::new("read the last seal of the events", cause);
        let stream = self.jetstream().get_stream_no_info(self.namespace().resource("events")).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        let last = match stream.get_last_raw_message_by_subject(&self.subject(&seals())).await {
            Ok(last) => last,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(ChainHead::default()),
            Err(error) => return Err(failed(error.to_string())),
        };
        match serde_json::from_slice(&last.payload) {
            Ok(AuditEvent::Sealed { last: sealed, hash, .. }) => Ok(ChainHead { sealed, hash, at: last.sequence }),
            // Somebody has written what is no seal: the chain begins anew behind it, and whoever verifies it is told.
            Err(_) => Ok(ChainHead { sealed: last.sequence, hash: String::new(), at: last.sequence }),
        }
    }

    /// Seals events, unless somebody else has sealed since. Returns where the chain is now; `None` where somebody has.
    ///
    /// # Errors
    /// When the server does not answer: they may be sealed or not.
    pub async fn seal(&self, unsealed: &PendingSeal) -> Result<Option<ChainHead>, BusError> {
        let seal = unsealed.seal();
        let AuditEvent::Sealed { last, hash, .. } = &seal;
        let message = PublishMessage::build().payload(json(&seal)).expected_last_subject_sequence(unsealed.link.at);
        match self.store(self.subject(&seals()), message).await {
            Ok(stored) => Ok(Some(ChainHead { sealed: *last, hash: hash.clone(), at: stored.sequence })),
            Err(error) if is_stale(&error) => Ok(None),
            Err(error) => Err(BusError::new("seal events", error)),
        }
    }
}

fn seals() -> Subject {
    Subject::AuditEvent("sealed".to_owned())
}

/// Looks whether a trail is whole, event after event.
#[derive(Debug, Default)]
pub struct TrailVerifier {
    link: Option<ChainHead>,
    unsealed: VecDeque<EventRecord>,
    events: u64,
    seals: u64,
    breaks: Vec<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailReport {
    /// Events whose seal is whole.
    pub events: u64,
    /// Seals that are whole.
    pub seals: u64,
    /// Events after the last seal.
    pub unsealed: u64,
    /// The hash of the last seal.
    pub hash: String,
    /// Where the chain is broken, in words.
    pub breaks: Vec<String>,
}

impl TrailVerifier {
    /// The next event of the stream.
    pub fn look_at(&mut self, event: EventRecord, is_seal: bool) {
        if is_seal {
            match serde_json::from_slice(&event.body) {
                Ok(seal) => self.look_at_seal(&seal, event.sequence),
                Err(error) => self.breaks.push(format!("event {} is no seal: {error}", event.sequence)),
            }
        }
        self.unsealed.push_back(event);
    }

    fn look_at_seal(&mut self, seal: &AuditEvent, at: u64) {
        let AuditEvent::Sealed { first, last, previous, hash, .. } = seal;
        let next = ChainHead { sealed: *last, hash: hash.clone(), at };
        let sealed: Vec<EventRecord> = {
            let count = self.unsealed.iter().take_while(|event| event.sequence <= *last).count();
            self.unsealed.drain(..count).collect()
        };
        let begins_here = self.link.is_none() && sealed.first().is_none_or(|event| event.sequence > *first);
        let link = self.link.replace(next);
        if begins_here {
            // What came before is too old to be kept; from here on it is whole.
            return;
        }
        let link = link.unwrap_or(ChainHead { hash: previous.clone(), ..ChainHead::default() });
        if link.hash != *previous {
            self.breaks.push(format!("the seal at {at} does not follow on the one at {}: a seal is missing", link.at));
        }
        let mut found = ChainHead { hash: previous.clone(), ..link }.begin();
        sealed.iter().for_each(|event| found.add(event));
        if found.seal() == *seal {
            self.events += found.events;
            self.seals += 1;
        } else {
            self.breaks.push(format!(
                "events {first} to {last} are not as they were sealed: one was changed, added or removed"
            ));
        }
    }

    /// What it has come to.
    pub fn end(self) -> TrailReport {
        let Self { link, unsealed, events, seals, breaks } = self;
        let hash = link.unwrap_or_default().hash;
        TrailReport { events, seals, unsealed: unsealed.len() as u64, hash, breaks }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event(sequence: u64, body: &str) -> EventRecord {
        let stored = UNIX_EPOCH + Duration::from_secs(sequence);
        EventRecord { subject: "rbee.evt.hive.one.joined".to_owned(), body: body.to_owned().into(), sequence, stored }
    }

    type Trail = Vec<(EventRecord, bool)>;

    /// A trail of `count` events with a seal after every third, as it is stored.
    fn trail(count: u64) -> Trail {
        let (mut trail, mut unsealed, mut sequence) = (Vec::new(), ChainHead::default().begin(), 0);
        for number in 1..=count {
            sequence += 1;
            let event = event(sequence, &format!("event {number}"));
            unsealed.add(&event);
            trail.push((event, false));
            if number % 3 == 0 {
                sequence += 1;
                let seal = unsealed.seal();
                let AuditEvent::Sealed { last, hash, .. } = seal.clone();
                let stored = EventRecord { body: json(&seal), ..event_at(sequence) };
                unsealed = ChainHead { sealed: last, hash, at: sequence }.begin();
                unsealed.add(&stored);
                trail.push((stored, true));
            }
        }
        trail
    }

    fn event_at(sequence: u64) -> EventRecord {
        event(sequence, "")
    }

    fn inspect(trail: &[(EventRecord, bool)]) -> TrailReport {
        let mut inspection = TrailVerifier::default();
        trail.iter().for_each(|(event, is_seal)| inspection.look_at(event.clone(), *is_seal));
        inspection.end()
    }

    #[test]
    fn a_trail_that_nobody_touched_is_whole() {
        let found = inspect(&trail(10));
        assert_eq!((found.seals, found.unsealed, found.breaks.len()), (3, 2, 0), "{found:?}");
        // The seals but the last are sealed too.
        assert_eq!((found.events, found.hash.len()), (11, 64));
        assert_eq!(inspect(&[]).breaks, Vec::<String>::new());
    }

    #[test]
    fn an_event_that_is_changed_added_or_removed_breaks_its_seal() {
        let whole = trail(9);
        let broken = |change: &dyn Fn(&mut Trail)| {
            let mut trail = whole.clone();
            change(&mut trail);
            inspect(&trail).breaks
        };
        let body = broken(&|trail| trail[5].0.body = "another".into());
        assert!(body.len() == 1 && body[0].starts_with("events 4 to 7 are not as they were sealed"), "{body:?}");
        assert_eq!(broken(&|trail| trail[5].0.stored += Duration::from_nanos(1)).len(), 1);
        assert_eq!(broken(&|trail| trail[5].0.subject.push('x')).len(), 1);
        assert_eq!(broken(&|trail| drop(trail.remove(5))).len(), 1);
        assert_eq!(broken(&|trail| trail.insert(5, (event(5, "new"), false))).len(), 1);
        let seal = broken(&|trail| drop(trail.remove(7)));
        assert!(seal.iter().any(|why| why.contains("a seal is missing")), "{seal:?}");
    }

    #[test]
    fn a_trail_whose_beginning_is_too_old_to_be_kept_is_whole_from_there_on() {
        for gone in 1..4 {
            let found = inspect(&trail(9)[gone..]);
            assert_eq!((found.breaks.len(), found.seals), (0, 2), "{gone}: {found:?}");
        }
    }
}
