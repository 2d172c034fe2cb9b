//! State that belongs to leading, and what starts and ends with it.

use rbee_schema::{AlertEvent, AlertKind, Event as BusEvent, QueenEvent};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::Controller;
use crate::{batches, body_sweeper, decide::timers::Timers, leader::Leadership, metrics, pruner, sealer};

impl Controller {
    /// This queen started or stopped leading.
    pub(super) fn handle_leadership(&mut self, leadership: Leadership) {
        match (&leadership, self.leading.leadership.term()) {
            (Leadership::Leader { term, after }, _) => {
                self.publish(QueenEvent::Elected { term: *term, after: after.clone() });
                if let Some(before) = after {
                    let raised = AlertEvent::Raised {
                        about: self.name.to_string(),
                        message: format!("queen {} took the lead over from queen {before}", self.name),
                        remedy: format!("check that queen {before} runs, unless it was stopped on purpose"),
                    };
                    self.publish_alert(AlertKind::LeaderChanged, raised);
                }
                self.start_leading();
                self.leading.leadership = leadership;
                self.read_cancels();
                self.throttle_tenants();
                self.watch_deadlines();
                self.count_queue();
            }
            (Leadership::Follower { why }, Some(term)) => {
                self.publish(QueenEvent::Deposed { term, why: why.clone() });
                self.leading.sealer = None;
                self.leading.pruner = None;
                self.tenants.known.stop_leading();
                self.leave_deadlines();
                self.leading.body_sweeper = None;
                self.leading.batches.clear();
                self.leading.alerts.clear();
                metrics::alerts(&self.leading.alerts);
                self.leading.leadership = leadership;
            }
            (Leadership::Follower { .. }, None) => {}
        }
        self.fleet.mark_everything();
        metrics::leads(self.leads());
    }

    fn start_leading(&mut self) {
        self.leading.unplaceable.clear();
        self.fleet.forget_stops();
        self.leading.alerts.clear();
        let sealing = sealer::seal(self.bus.clone(), self.fleet.timers().seal);
        self.leading.sealer = Some(AbortOnDropHandle::new(tokio::spawn(sealing)));
        self.leading.pruner = Some(AbortOnDropHandle::new(tokio::spawn(pruner::prune(self.bus.clone()))));
        let running = batches::run_all(self.bus.clone(), self.finder.clone(), self.fleet.limits().clone());
        let sweeping = batches::sweep(self.bus.clone(), self.fleet.timers().clone());
        self.leading.batches =
            [tokio::spawn(running), tokio::spawn(sweeping)].map(AbortOnDropHandle::new).into_iter().collect();
        let Timers { body_sweep, orphan, .. } = *self.fleet.timers();
        let sweeping = body_sweeper::sweep(self.bus.clone(), body_sweep, orphan);
        self.leading.body_sweeper = Some(AbortOnDropHandle::new(tokio::spawn(sweeping)));
    }

    pub(super) fn leads(&self) -> bool {
        self.leading.leadership.term().is_some()
    }

    pub(super) fn publish_alert(&self, kind: AlertKind, event: AlertEvent) {
        match &event {
            AlertEvent::Raised { about, message, .. } => warn!(%kind, about, message, "an alert was raised"),
            AlertEvent::Cleared { about } => info!(%kind, about, "an alert was cleared"),
        }
        self.outbox.publish(&BusEvent::Alert(kind, event));
    }
}
