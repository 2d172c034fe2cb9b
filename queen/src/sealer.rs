//! Seals the audit trail of events while this queen leads: see [`rbee_nats::PendingSeal`].

use std::time::Duration;

use rbee_nats::{Bus, BusError, EventReader, Subject};
use rbee_schema::AuditEvent;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

/// Number of pending events that are sealed at once, without waiting for the delay. Bounds the events that a seal covers.
const MAX_UNSEALED: u64 = 1024;

/// Pause after an error before the stream is read again, so that servers without a leader are not flooded.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Seals events without end, each at most `delay` after it was stored, so that one seal covers many events.
pub(crate) async fn seal(bus: Bus, delay: Duration) {
    loop {
        if let Err(error) = seal_until_overtaken(&bus, delay).await {
            warn!(%error, "events could not be sealed; trying again");
            // Timer: pause before the stream is read again.
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Seals until another queen has written a seal. Then the events since that seal must be read again.
async fn seal_until_overtaken(bus: &Bus, delay: Duration) -> Result<(), BusError> {
    let head = bus.last_seal().await?;
    let mut events = EventReader::after(bus, head.sealed).await?;
    let mut pending = head.next_seal();
    let mut due: Option<Instant> = None;
    loop {
        let is_due = tokio::select! {
            event = events.next() => {
                let Some(event) = event? else { return Ok(()) };
                pending.add(&event);
                // A seal alone needs no other seal.
                if !is_seal(bus, &event.subject) {
                    due.get_or_insert_with(|| Instant::now() + delay);
                }
                due.is_some() && pending.events() >= MAX_UNSEALED
            }
            // Timer: delay of a seal, so that it covers many events.
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => true,
        };
        if is_due {
            let Some(head) = bus.seal(&pending).await? else { return Ok(()) };
            (pending, due) = (head.next_seal(), None);
        }
    }
}

/// True if an event is a seal.
fn is_seal(bus: &Bus, subject: &str) -> bool {
    matches!(bus.parse(subject), Some(Subject::AuditEvent(event)) if AuditEvent::NAMES.contains(&event.as_str()))
}
