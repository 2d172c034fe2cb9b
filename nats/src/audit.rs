//! The audit trail: the event stream as a hash chain, which is sealed and verified here.
//!
//! Each seal is an event. It holds a hash over the previous seal's hash and the events since that seal. Changing, adding or
//! removing an event later breaks the chain. The chain does not protect against an attacker that can rewrite the whole
//! stream: keep the last hash elsewhere, and compare.

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

/// Head of the hash chain: the last seal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChainHead {
    /// Stream sequence of the last sealed event.
    pub sealed: u64,
    /// Hash of the last seal.
    pub hash: String,
    /// Stream sequence of the last seal itself. 0 if there is none.
    pub at: u64,
}

/// Events that the next seal will cover.
#[derive(Debug, Clone)]
pub struct PendingSeal {
    head: ChainHead,
    hash: Sha256,
    first: u64,
    last: u64,
    events: u64,
}

impl ChainHead {
    /// Starts the next seal.
    pub fn next_seal(self) -> PendingSeal {
        let hash = Sha256::new().chain_update(&self.hash);
        PendingSeal { head: self, hash, first: 0, last: 0, events: 0 }
    }
}

impl PendingSeal {
    /// Adds an event.
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

    /// Number of events.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Seal of these events.
    pub fn seal(&self) -> AuditEvent {
        AuditEvent::Sealed {
            first: self.first,
            last: self.last,
            events: self.events,
            previous: self.head.hash.clone(),
            hash: hexadecimal(&self.hash.clone().finalize()),
        }
    }
}

/// Nanoseconds since 1970. 0 for earlier times, which no server reports.
fn nanoseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Bus {
    /// Head of the hash chain: the last seal in the stream.
    ///
    /// # Errors
    /// The server does not answer.
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
            // The event is not a valid seal, so someone forged it. The chain restarts after it, and verification reports it.
            Err(_) => Ok(ChainHead { sealed: last.sequence, hash: String::new(), at: last.sequence }),
        }
    }

    /// Seals events. Returns the new head of the chain, or `None` if another process has sealed since.
    ///
    /// # Errors
    /// The server does not answer. The events may be sealed or not.
    pub async fn seal(&self, pending: &PendingSeal) -> Result<Option<ChainHead>, BusError> {
        let seal = pending.seal();
        let AuditEvent::Sealed { last, hash, .. } = &seal;
        let message = PublishMessage::build().payload(json(&seal)).expected_last_subject_sequence(pending.head.at);
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

/// Verifies an audit trail, event by event.
#[derive(Debug, Default)]
pub struct TrailVerifier {
    head: Option<ChainHead>,
    unsealed: VecDeque<EventRecord>,
    events: u64,
    seals: u64,
    breaks: Vec<String>,
}

/// Result of verifying an audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailReport {
    /// Number of events with a valid seal.
    pub events: u64,
    /// Number of valid seals.
    pub seals: u64,
    /// Number of events after the last seal.
    pub unsealed: u64,
    /// Hash of the last seal.
    pub hash: String,
    /// Breaks of the chain, in plain text.
    pub breaks: Vec<String>,
}

impl TrailVerifier {
    /// Checks the next event of the stream.
    pub fn check(&mut self, event: EventRecord, is_seal: bool) {
        if is_seal {
            match serde_json::from_slice(&event.body) {
                Ok(seal) => self.check_seal(&seal, event.sequence),
                Err(error) => self.breaks.push(format!("event {} is not a valid seal: {error}", event.sequence)),
            }
        }
        self.unsealed.push_back(event);
    }

    fn check_seal(&mut self, seal: &AuditEvent, at: u64) {
        let AuditEvent::Sealed { first, last, previous, hash, .. } = seal;
        let next = ChainHead { sealed: *last, hash: hash.clone(), at };
        let sealed: Vec<EventRecord> = {
            let count = self.unsealed.iter().take_while(|event| event.sequence <= *last).count();
            self.unsealed.drain(..count).collect()
        };
        let begins_here = self.head.is_none() && sealed.first().is_none_or(|event| event.sequence > *first);
        let head = self.head.replace(next);
        if begins_here {
            // Earlier events have expired from the stream. Verification starts here.
            return;
        }
        let head = head.unwrap_or(ChainHead { hash: previous.clone(), ..ChainHead::default() });
        if head.hash != *previous {
            self.breaks.push(format!("the seal at {at} does not follow the seal at {}: a seal is missing", head.at));
        }
        let mut found = ChainHead { hash: previous.clone(), ..head }.next_seal();
        sealed.iter().for_each(|event| found.add(event));
        if found.seal() == *seal {
            self.events += found.events;
            self.seals += 1;
        } else {
            self.breaks.push(format!(
                "events {first} to {last} do not match their seal: an event was changed, added or removed"
            ));
        }
    }

    /// Report of the verification.
    pub fn finish(self) -> TrailReport {
        let Self { head, unsealed, events, seals, breaks } = self;
        let hash = head.unwrap_or_default().hash;
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
        let (mut trail, mut unsealed, mut sequence) = (Vec::new(), ChainHead::default().next_seal(), 0);
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
                unsealed = ChainHead { sealed: last, hash, at: sequence }.next_seal();
                unsealed.add(&stored);
                trail.push((stored, true));
            }
        }
        trail
    }

    fn event_at(sequence: u64) -> EventRecord {
        event(sequence, "")
    }

    fn verify(trail: &[(EventRecord, bool)]) -> TrailReport {
        let mut verifier = TrailVerifier::default();
        trail.iter().for_each(|(event, is_seal)| verifier.check(event.clone(), *is_seal));
        verifier.finish()
    }

    #[test]
    fn an_unchanged_trail_has_no_breaks() {
        let found = verify(&trail(10));
        assert_eq!((found.seals, found.unsealed, found.breaks.len()), (3, 2, 0), "{found:?}");
        // Every seal except the last is sealed too.
        assert_eq!((found.events, found.hash.len()), (11, 64));
        assert_eq!(verify(&[]).breaks, Vec::<String>::new());
    }

    #[test]
    fn a_changed_added_or_removed_event_breaks_its_seal() {
        let whole = trail(9);
        let broken = |change: &dyn Fn(&mut Trail)| {
            let mut trail = whole.clone();
            change(&mut trail);
            verify(&trail).breaks
        };
        let body = broken(&|trail| trail[5].0.body = "another".into());
        assert!(body.len() == 1 && body[0].starts_with("events 4 to 7 do not match their seal"), "{body:?}");
        assert_eq!(broken(&|trail| trail[5].0.stored += Duration::from_nanos(1)).len(), 1);
        assert_eq!(broken(&|trail| trail[5].0.subject.push('x')).len(), 1);
        assert_eq!(broken(&|trail| drop(trail.remove(5))).len(), 1);
        assert_eq!(broken(&|trail| trail.insert(5, (event(5, "new"), false))).len(), 1);
        let seal = broken(&|trail| drop(trail.remove(7)));
        assert!(seal.iter().any(|why| why.contains("a seal is missing")), "{seal:?}");
    }

    #[test]
    fn verification_starts_after_expired_events() {
        for gone in 1..4 {
            let found = verify(&trail(9)[gone..]);
            assert_eq!((found.breaks.len(), found.seals), (0, 2), "{gone}: {found:?}");
        }
    }
}
