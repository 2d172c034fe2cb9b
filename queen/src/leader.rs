//! Leader election among several queens: the holder of the lease leads. Only the leader plans; all queens know the fleet,
//! answer requests and serve HTTP, so that another one can take over as soon as the lease is free.
//!
//! The lease expires a few seconds after its last renewal (timer `lease`). Another queen does not wait for that if the server
//! reports the end of the leader's connection, or if the leader does not answer a queen that starts: it takes the lease over
//! with a compare-and-set on the last revision, which fails if the leader has renewed the lease after all.
//!
//! The revision with which the lease was taken is the leader's term. Commands carry the term, and a hive refuses commands of
//! an earlier term: a queen that was frozen and wakes up commands nothing.

use futures::StreamExt as _;
use rbee_nats::{Bus, BusError, Disconnected, Entry, LeaderLease, Message, Registry, retried};
use rbee_schema::{LeaderRecord, Protocol, QueenName};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::decide::timers::Timers;

const NOT_RENEWED: &str = "its lease could not be renewed in time";

/// Role of this queen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leadership {
    /// This queen leads.
    Leader {
        /// Term of this queen.
        term: u64,
        /// Leader before this queen, where it is known and another queen.
        after: Option<QueenName>,
    },
    /// Another queen leads, or none does.
    Follower {
        /// Reason why this queen leads no longer; empty if it has not led.
        why: String,
    },
}

impl Leadership {
    /// Term of this queen while it leads.
    pub(crate) fn term(&self) -> Option<u64> {
        match self {
            Self::Leader { term, .. } => Some(*term),
            Self::Follower { .. } => None,
        }
    }
}

impl Default for Leadership {
    fn default() -> Self {
        Self::Follower { why: String::new() }
    }
}

/// The lease while this queen holds it.
#[derive(Debug, Clone, Copy)]
struct HeldLease {
    term: u64,
    revision: u64,
    /// Time at which the lease expires unless it is renewed.
    expires_at: Instant,
}

/// The lease while another queen holds it.
#[derive(Debug, Clone, Copy)]
struct ForeignLease {
    revision: u64,
    /// Time at which this queen takes the lease over: soon after its holder has disconnected, else when the holder has not
    /// renewed it. The server deletes a lease that is not renewed, unless somebody wrote the key without a time to live.
    take_over_at: Instant,
}

/// A queen's campaign for the lease.
struct Campaign {
    bus: Bus,
    lease: LeaderLease,
    timers: Timers,
    record: LeaderRecord,
    leadership: watch::Sender<Leadership>,
    held: Option<HeldLease>,
    foreign: Option<ForeignLease>,
    /// Current leader, or the last one.
    last_leader: Option<QueenName>,
}

/// Takes the lease whenever it is free, and renews it, until `stop` is cancelled; then releases it.
///
/// # Errors
/// If the lease cannot be read for half a minute although the connection stands.
pub(crate) async fn campaign(
    bus: Bus,
    queen: QueenName,
    timers: Timers,
    leadership: watch::Sender<Leadership>,
    stop: CancellationToken,
) -> Result<(), BusError> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let suspect_ms = u64::try_from(timers.suspect.as_millis()).ok();
    let record = LeaderRecord { queen, version, protocol: Protocol::OURS, term: None, suspect_ms };
    // Timer: renewal of the leader lease.
    let mut renewal = interval(timers.lease_renewal);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let registry = Registry::leader(&bus);
    let mut watch = retried(&bus, || registry.watch(">")).await?;
    let mut disconnects = retried(&bus, || bus.watch_disconnects()).await?;
    let lease = LeaderLease::new(&bus, timers.lease);
    let mut campaign =
        Campaign { bus, lease, timers, record, leadership, held: None, foreign: None, last_leader: None };
    loop {
        let take_over_at = campaign.foreign.map(|foreign| foreign.take_over_at);
        let expires_at = campaign.held.map(|held| held.expires_at);
        tokio::select! {
            biased;
            () = stop.cancelled() => return campaign.resign().await,
            entry = watch.next() => campaign.handle_entry(entry?).await,
            Some(message) = disconnects.next() => campaign.handle_disconnect(&message),
            // Timer: takeover from a leader that has disconnected.
            () = sleep_until(take_over_at.unwrap_or_else(Instant::now)), if take_over_at.is_some() => {
                campaign.take_over().await;
            }
            // Timer: end of the leader lease.
            () = sleep_until(expires_at.unwrap_or_else(Instant::now)), if expires_at.is_some() => {
                campaign.stop_leading(NOT_RENEWED);
            }
            _ = renewal.tick() => campaign.renew().await,
        }
    }
}

impl Campaign {
    async fn handle_entry(&mut self, entry: Entry<LeaderRecord>) {
        match entry {
            Entry::Set { document, revision, .. } => {
                let term = document.term.unwrap_or(revision);
                if self.held.is_some_and(|held| held.term == term) {
                    return; // Written by this queen.
                }
                self.foreign = Some(self.foreign_lease(revision));
                self.last_leader = Some(document.queen.clone());
                if self.held.is_some_and(|held| held.term < term) {
                    self.stop_leading(&format!("queen {} leads", document.queen));
                }
            }
            Entry::Removed(_) => {
                self.foreign = None;
                self.take().await;
            }
            Entry::Synced if self.foreign.is_none() => self.take().await,
            Entry::Synced => self.check_leader().await,
            Entry::Unreadable { key, error, revision } => {
                warn!(key, error, "the record of the leader could not be read; the lease is taken over");
                self.stop_leading("the record of the leader was overwritten");
                self.foreign = Some(self.foreign_lease(revision));
            }
        }
    }

    /// The lease as another queen wrote it now.
    fn foreign_lease(&self, revision: u64) -> ForeignLease {
        ForeignLease { revision, take_over_at: Instant::now() + self.timers.lease + self.timers.takeover }
    }

    /// Asks once, at the start of this queen, whether the holder of the lease runs.
    async fn check_leader(&mut self) {
        match self.bus.discover_queens(self.timers.answer).await {
            Ok(queens) if self.last_leader.as_ref().is_some_and(|leader| queens.contains(leader)) => {}
            Ok(_) => self.take_over().await,
            Err(error) => warn!(%error, "the queens could not be asked which of them leads; waiting for the lease"),
        }
    }

    fn handle_disconnect(&mut self, message: &Message) {
        if let Some(Disconnected::Queen(queen)) = Disconnected::read(message)
            && self.last_leader.as_ref() == Some(&queen)
            && let Some(foreign) = &mut self.foreign
        {
            foreign.take_over_at = Instant::now() + self.timers.takeover;
        }
    }

    /// Takes the lease from a leader that seems to be gone.
    async fn take_over(&mut self) {
        let Some(foreign) = &mut self.foreign else { return };
        // Tried again later, if the holder neither renews the lease nor loses it.
        foreign.take_over_at = Instant::now() + self.timers.lease;
        let (revision, asked_at) = (foreign.revision, Instant::now());
        match self.lease.take_over(&self.first_record(), revision).await {
            Ok(Some(term)) => self.start_leading(term, asked_at),
            // The leader has renewed it, or another queen was faster: the watch reports which.
            Ok(None) => {}
            Err(error) => warn!(%error, "the leader lease could not be taken over; waiting for it to expire"),
        }
    }

    /// Record with which the lease is taken. It names no term: the revision of this write is the term.
    fn first_record(&self) -> LeaderRecord {
        LeaderRecord { term: None, ..self.record.clone() }
    }

    fn start_leading(&mut self, term: u64, asked_at: Instant) {
        self.foreign = None;
        self.held = Some(HeldLease { term, revision: term, expires_at: asked_at + self.timers.lease });
        info!(queen = %self.record.queen, term, "this queen leads");
        // A queen that could not renew its lease in time may take its own lease again.
        let after = self.last_leader.take().filter(|before| *before != self.record.queen);
        self.leadership.send_replace(Leadership::Leader { term, after });
    }

    async fn take(&mut self) {
        if self.held.is_some() {
            return;
        }
        let asked_at = Instant::now();
        match self.lease.take(&self.first_record()).await {
            Ok(Some(term)) => self.start_leading(term, asked_at),
            // Another queen was faster: the watch reports which.
            Ok(None) => {}
            Err(error) => warn!(%error, "the leader lease could not be taken; trying again"),
        }
    }

    async fn renew(&mut self) {
        let Some(held) = self.held else {
            if self.foreign.is_none() {
                self.take().await;
            }
            return;
        };
        let asked_at = Instant::now();
        let record = LeaderRecord { term: Some(held.term), ..self.record.clone() };
        // Timer: end of the leader lease, while the server is asked to renew it.
        match timeout_at(held.expires_at, self.lease.renew(&record, held.revision)).await {
            Ok(Ok(Some(revision))) => {
                self.held = Some(HeldLease { revision, expires_at: asked_at + self.timers.lease, ..held });
            }
            Ok(Ok(None)) => self.stop_leading("its lease has expired"),
            Ok(Err(error)) => warn!(%error, "the leader lease could not be renewed; trying again"),
            Err(_) => self.stop_leading(NOT_RENEWED),
        }
    }

    fn stop_leading(&mut self, why: &str) {
        if let Some(HeldLease { term, .. }) = self.held.take() {
            warn!(queen = %self.record.queen, term, why, "this queen leads no longer");
            self.leadership.send_replace(Leadership::Follower { why: why.to_owned() });
        }
    }

    async fn resign(self) -> Result<(), BusError> {
        if let Some(held) = self.held {
            self.leadership.send_replace(Leadership::Follower { why: "it stops".to_owned() });
            if let Err(error) = self.lease.resign(held.revision).await {
                warn!(%error, "the leader lease could not be released; it expires");
            }
        }
        Ok(())
    }
}
