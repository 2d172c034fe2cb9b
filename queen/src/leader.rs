//! Which of several queens leads: the one who holds the lease. She alone decides; all of them know the fleet, answer, and
//! serve HTTP, so that another one goes on as soon as the lease is free.
//!
//! The revision with which the lease was taken is her term. Commands carry it, and a hive refuses a term that is over: a
//! queen who was frozen and wakes up again commands nobody.

use std::time::Duration;

use rbee_nats::{Bus, BusError, Entry, LEADER_TIME_TO_LIVE, LeaderLease, Registry};
use rbee_schema::{LeaderRecord, Protocol, QueenName};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the lease is renewed: two renewals may be lost.
const RENEW: Duration = Duration::from_millis(1500);

const NOT_RENEWED: &str = "her lease could not be renewed in time";

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// We do.
    Leads {
        /// Our term.
        term: u64,
        /// Who led before us, where that is known.
        after: Option<QueenName>,
    },
    /// Somebody else does, or nobody.
    Follows {
        /// Why we do no longer, where we did.
        why: String,
    },
}

impl Standing {
    /// Our term, where we lead.
    pub(crate) fn term(&self) -> Option<u64> {
        match self {
            Self::Leads { term, .. } => Some(*term),
            Self::Follows { .. } => None,
        }
    }
}

/// A lease that is ours.
#[derive(Debug, Clone, Copy)]
struct Held {
    term: u64,
    revision: u64,
    /// When it lapses unless it is renewed.
    until: Instant,
}

struct Candidate {
    lease: LeaderLease,
    record: LeaderRecord,
    standing: watch::Sender<Standing>,
    held: Option<Held>,
    /// Who leads, or led last.
    last: Option<QueenName>,
    /// Whether somebody else has the lease.
    is_taken: bool,
}

/// Takes the lease whenever nobody has it, and renews it, until `stop` is cancelled; then gives it up.
///
/// # Errors
/// When the connection stands and the lease cannot be read for half a minute.
pub(crate) async fn campaign(
    bus: Bus,
    queen: QueenName,
    standing: watch::Sender<Standing>,
    stop: CancellationToken,
) -> Result<(), BusError> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let record = LeaderRecord { queen, version, protocol: Protocol::OURS, term: None };
    let lease = LeaderLease::of(&bus);
    let mut candidate = Candidate { lease, record, standing, held: None, last: None, is_taken: false };
    let mut watch = Registry::leader(&bus).watch(">").await?;
    let mut renew = interval(RENEW);
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let lapses = candidate.held.map_or_else(|| Instant::now() + LEADER_TIME_TO_LIVE, |held| held.until);
        tokio::select! {
            biased;
            () = stop.cancelled() => return candidate.resign().await,
            entry = watch.next() => candidate.hear(entry?).await,
            () = sleep_until(lapses), if candidate.held.is_some() => candidate.is_deposed(NOT_RENEWED),
            _ = renew.tick() => candidate.renew().await,
        }
    }
}

impl Candidate {
    async fn hear(&mut self, entry: Entry<LeaderRecord>) {
        match entry {
            Entry::Set { document, revision, .. } => {
                let term = document.term.unwrap_or(revision);
                if self.held.is_some_and(|held| held.term == term) {
                    return; // Our own word.
                }
                self.is_taken = true;
                self.last = Some(document.queen.clone());
                if self.held.is_some_and(|held| held.term < term) {
                    self.is_deposed(&format!("{} leads", document.queen));
                }
            }
            Entry::Gone(_) => {
                self.is_taken = false;
                self.take().await;
            }
            Entry::Current if !self.is_taken => self.take().await,
            Entry::Unreadable(key, error) => warn!(key, error, "who leads cannot be read"),
            Entry::Current => {}
        }
    }

    async fn take(&mut self) {
        if self.held.is_some() {
            return;
        }
        let asked = Instant::now();
        let record = LeaderRecord { term: None, ..self.record.clone() };
        match self.lease.take(&record).await {
            Ok(Some(term)) => {
                self.held = Some(Held { term, revision: term, until: asked + LEADER_TIME_TO_LIVE });
                info!(queen = %self.record.queen, term, "this queen leads");
                self.standing.send_replace(Standing::Leads { term, after: self.last.take() });
            }
            Ok(None) => self.is_taken = true,
            Err(error) => warn!(%error, "the lead cannot be taken; trying again"),
        }
    }

    async fn renew(&mut self) {
        let Some(held) = self.held else {
            if !self.is_taken {
                self.take().await;
            }
            return;
        };
        let asked = Instant::now();
        let record = LeaderRecord { term: Some(held.term), ..self.record.clone() };
        match timeout_at(held.until, self.lease.renew(&record, held.revision)).await {
            Ok(Ok(Some(revision))) => {
                self.held = Some(Held { revision, until: asked + LEADER_TIME_TO_LIVE, ..held });
            }
            Ok(Ok(None)) => self.is_deposed("her lease has lapsed"),
            Ok(Err(error)) => warn!(%error, "the lease was not renewed; trying again"),
            Err(_) => self.is_deposed(NOT_RENEWED),
        }
    }

    fn is_deposed(&mut self, why: &str) {
        if let Some(Held { term, .. }) = self.held.take() {
            warn!(queen = %self.record.queen, term, why, "this queen leads no longer");
            self.standing.send_replace(Standing::Follows { why: why.to_owned() });
        }
    }

    async fn resign(self) -> Result<(), BusError> {
        if let Some(held) = self.held {
            self.standing.send_replace(Standing::Follows { why: "she stops".to_owned() });
            if let Err(error) = self.lease.resign(held.revision).await {
                warn!(%error, "the lead is left to lapse");
            }
        }
        Ok(())
    }
}
