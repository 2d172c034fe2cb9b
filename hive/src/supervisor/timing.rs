//! Intervals and deadlines of the owner's loop.

use std::{
    future,
    time::{Duration, Instant},
};

use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

/// An interval that skips the ticks it missed.
pub(super) fn every(period: Duration) -> Interval {
    // Timer: heartbeats, renewals, health checks and the hive's own clock.
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits until the deadline; for ever where there is none.
pub(super) async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        // Timer: earliest deadline of a worker or of the hive.
        Some(deadline) => sleep_until(deadline.into()).await,
        None => future::pending().await,
    }
}

/// Waits for the next tick; for ever where there are none.
pub(super) async fn next_tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => future::pending().await,
    }
}
