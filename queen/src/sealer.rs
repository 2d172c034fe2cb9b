//! Seals the trail of events while this queen leads: see [`rbee_nats::PendingSeal`].

use std::time::Duration;

use rbee_nats::{Bus, BusError, EventReader, Subject};
use rbee_schema::AuditEvent;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

/// Events are sealed at once when there are so many, and else some time after the first of them.
const MOST: u64 = 1024;

/// A pause before the stream is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Seals for ever; events at last `every` after the first that is not sealed, so that a seal stands for many.
pub(crate) async fn seal(bus: Bus, every: Duration) {
    loop {
        if let Err(error) = seal_until_overtaken(&bus, every).await {
            warn!(%error, "events are not sealed; trying again");
            sleep(PAUSE).await;
        }
    }
}

/// Returns when somebody else has sealed: then everything since the last seal is read again.
async fn seal_until_overtaken(bus: &Bus, every: Duration) -> Result<(), BusError> {
    let link = bus.last_seal().await?;
    let mut events = EventReader::after(bus, link.sealed).await?;
    let mut unsealed = link.begin();
    let mut due: Option<Instant> = None;
    loop {
        let is_due = tokio::select! {
            event = events.next() => {
                let Some(event) = event? else { return Ok(()) };
                unsealed.add(&event);
                // A seal alone is no reason for another one.
                if !is_seal(bus, &event.subject) {
                    due.get_or_insert_with(|| Instant::now() + every);
                }
                due.is_some() && unsealed.events() >= MOST
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => true,
        };
        if is_due {
            let Some(link) = bus.seal(&unsealed).await? else { return Ok(()) };
            (unsealed, due) = (link.begin(), None);
        }
    }
}

/// Whether an event is a seal.
pub(crate) fn is_seal(bus: &Bus, subject: &str) -> bool {
    matches!(bus.parse(subject), Some(Subject::AuditEvent(event)) if AuditEvent::NAMES.contains(&event.as_str()))
}
