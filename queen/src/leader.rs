//! Which of several queens leads: the one who holds the lease. She alone decides; all of them know the fleet, answer, and
//! serve HTTP, so that another one goes on as soon as the lease is free.
//!
//! The lease lapses after some seconds (`lease` of her timers). It is not waited for where the server tells that the connection of the one who has
//! it is gone, or she does not answer when another one begins: the lease is then taken over by a compare-and-set on its
//! last revision, which fails where she has renewed it after all.
//!
//! The revision with which the lease was taken is her term. Commands carry it, and a hive refuses a term that is over: a
//! queen who was frozen and wakes up again commands nobody.

use futures::StreamExt as _;
use rbee_nats::{Bus, BusError, Disconnected, Entry, LeaderLease, Message, Registry};
use rbee_schema::{LeaderRecord, Protocol, QueenName};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::decide::timers::Timers;

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
    bus: Bus,
    lease: LeaderLease,
    timers: Timers,
    record: LeaderRecord,
    standing: watch::Sender<Standing>,
    held: Option<Held>,
    /// Who leads, or led last.
    last: Option<QueenName>,
    /// The revision of the lease where somebody else has it.
    taken: Option<u64>,
    /// When it is taken over, where she seems to be gone.
    overdue: Option<Instant>,
}

/// Takes the lease whenever nobody has it, and renews it, until `stop` is cancelled; then gives it up.
///
/// # Errors
/// When the connection stands and the lease cannot be read for half a minute.
pub(crate) async fn campaign(
    bus: Bus,
    queen: QueenName,
    timers: Timers,
    standing: watch::Sender<Standing>,
    stop: CancellationToken,
) -> Result<(), BusError> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let suspect_ms = u64::try_from(timers.suspect.as_millis()).ok();
    let record = LeaderRecord { queen, version, protocol: Protocol::OURS, term: None, suspect_ms };
    let (lease, lasts) = (LeaderLease::new(&bus, timers.lease), timers.lease);
    let mut renew = interval(timers.lease_renewal);
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (bus_of, held, last, taken, overdue) = (bus.clone(), None, None, None, None);
    let mut candidate = Candidate { bus: bus_of, lease, timers, record, standing, held, last, taken, overdue };
    let mut watch = Registry::leader(&bus).watch(">").await?;
    let mut disconnects = bus.watch_disconnects().await?;
    loop {
        let overdue = candidate.overdue.unwrap_or_else(Instant::now);
        let lapses = candidate.held.map_or_else(|| Instant::now() + lasts, |held| held.until);
        tokio::select! {
            biased;
            () = stop.cancelled() => return candidate.resign().await,
            entry = watch.next() => candidate.hear(entry?).await,
            Some(message) = disconnects.next() => candidate.hear_disconnect(&message),
            () = sleep_until(overdue), if candidate.overdue.is_some() => candidate.take_over().await,
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
                (self.taken, self.overdue) = (Some(revision), None);
                self.last = Some(document.queen.clone());
                if self.held.is_some_and(|held| held.term < term) {
                    self.is_deposed(&format!("{} leads", document.queen));
                }
            }
            Entry::Removed(_) => {
                (self.taken, self.overdue) = (None, None);
                self.take().await;
            }
            Entry::Synced if self.taken.is_none() => self.take().await,
            Entry::Synced => self.look_for_leader().await,
            Entry::Unreadable(key, error) => warn!(key, error, "who leads cannot be read"),
        }
    }

    /// Asks once, when we begin, whether the one who has the lease is there.
    async fn look_for_leader(&mut self) {
        match self.bus.discover_queens(self.timers.answer).await {
            Ok(queens) if self.last.as_ref().is_some_and(|leader| queens.contains(leader)) => {}
            Ok(_) => self.take_over().await,
            Err(error) => warn!(%error, "nobody can be asked who leads; the lease is waited for"),
        }
    }

    fn hear_disconnect(&mut self, message: &Message) {
        if let Some(Disconnected::Queen(queen)) = Disconnected::read(message)
            && self.taken.is_some()
            && self.last.as_ref() == Some(&queen)
        {
            self.overdue = Some(Instant::now() + self.timers.takeover);
        }
    }

    /// Takes the lease from a queen who seems to be gone.
    async fn take_over(&mut self) {
        self.overdue = None;
        let Some(revision) = self.taken else { return };
        let asked = Instant::now();
        match self.lease.take_over(&self.first_record(), revision).await {
            Ok(Some(term)) => self.leads(term, asked),
            // She has renewed it, or somebody else was faster: the watch tells.
            Ok(None) => {}
            Err(error) => warn!(%error, "the lead cannot be taken over; the lease is waited for"),
        }
    }

    /// What the lease is taken with: the revision of this very write is the term.
    fn first_record(&self) -> LeaderRecord {
        LeaderRecord { term: None, ..self.record.clone() }
    }

    fn leads(&mut self, term: u64, asked: Instant) {
        self.taken = None;
        self.held = Some(Held { term, revision: term, until: asked + self.timers.lease });
        info!(queen = %self.record.queen, term, "this queen leads");
        // She may take her own lease anew, where she could not renew it in time.
        let after = self.last.take().filter(|before| *before != self.record.queen);
        self.standing.send_replace(Standing::Leads { term, after });
    }

    async fn take(&mut self) {
        if self.held.is_some() {
            return;
        }
        let asked = Instant::now();
        match self.lease.take(&self.first_record()).await {
            Ok(Some(term)) => self.leads(term, asked),
            // Somebody was faster: the watch tells who.
            Ok(None) => {}
            Err(error) => warn!(%error, "the lead cannot be taken; trying again"),
        }
    }

    async fn renew(&mut self) {
        let Some(held) = self.held else {
            if self.taken.is_none() {
                self.take().await;
            }
            return;
        };
        let asked = Instant::now();
        let record = LeaderRecord { term: Some(held.term), ..self.record.clone() };
        match timeout_at(held.until, self.lease.renew(&record, held.revision)).await {
            Ok(Ok(Some(revision))) => {
                self.held = Some(Held { revision, until: asked + self.timers.lease, ..held });
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
