//! A planning pass: the plan is made, and its actions are carried out.

use std::time::{Duration, Instant};

use rbee_schema::{ModelName, QueenEvent};
use tracing::{debug, info, warn};

use super::{Controller, state::Reason};
use crate::{
    decide::{
        dirty::Scope,
        plan::{Action, Plan, next_deadline, plan},
    },
    metrics,
};

/// Duration of a planning pass that needs no pause: it delays no input noticeably.
const SHORT_PASS: Duration = Duration::from_millis(1);

/// Pause after a longer pass, as a multiple of its duration: planning takes at most a sixth of the owner task's time, and
/// inputs gather that the next pass handles together.
const PAUSE_FACTOR: u32 = 5;

/// Longest pause between two passes. A job that waits for its first worker does not notice 20 ms.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

impl Controller {
    /// Plans what has changed and carries the plan out. Returns the time at which the plan may change without an input,
    /// given the one of the passes before.
    pub(super) fn planning_pass(&mut self, deadline: Option<Instant>) -> Option<Instant> {
        let now = Instant::now();
        for event in std::mem::take(&mut self.events) {
            // Every queen sees the same; the leader publishes it.
            if self.leads() {
                self.publish_fleet_event(event);
            }
        }
        let scope = self.fleet.take_scope();
        if let Some(term) = self.leading.leadership.term() {
            self.lead(term, &scope, now);
        }
        let next = next_deadline(&self.fleet, &scope, now);
        let took = now.elapsed();
        self.paused_until = if took < SHORT_PASS { now } else { now + took + (took * PAUSE_FACTOR).min(LONGEST_PAUSE) };
        match scope {
            Scope::Everything => next,
            Scope::Models(_) => deadline.into_iter().chain(next).min(),
        }
    }

    fn lead(&mut self, term: u64, scope: &Scope, now: Instant) {
        if *scope == Scope::Everything {
            self.fleet.expire_commands(now);
            for (worker, jobs) in self.fleet.take_stranded_jobs(now) {
                self.return_to_queue(worker, jobs);
            }
            metrics::fleet(&self.fleet);
            metrics::lost_messages(self.bus.lost_messages());
        }
        let plan = plan(&self.fleet, scope, now);
        if !plan.actions.is_empty() {
            debug!(%plan, "a plan was made");
        }
        let Plan { actions, pending } = plan;
        self.fleet.planned(scope, pending);
        let is_unplaceable = |model: &ModelName| {
            let is_report =
                |action: &Action| matches!(action, Action::ReportUnplaceable { model: found, .. } if found == model);
            actions.iter().any(is_report)
        };
        self.leading.unplaceable.retain(|model, _| !scope.has(model) || is_unplaceable(model));
        for action in actions {
            self.carry_out(term, action, now);
        }
        let alerts = self.leading.alerts.update(&self.fleet, scope, &self.leading.unplaceable);
        if !alerts.is_empty() {
            metrics::alerts(&self.leading.alerts);
        }
        for (kind, event) in alerts {
            self.publish_alert(kind, event);
        }
    }

    fn carry_out(&mut self, term: u64, action: Action, now: Instant) {
        match action {
            Action::Spawn(worker) => self.spawn(term, worker, now),
            Action::Stop { worker, mode, why } => self.stop(term, (worker, mode), why, now),
            Action::Refuse { model, class, failure } => {
                warn!(%model, %failure, "the waiting jobs of a model are refused");
                metrics::refused();
                self.fleet.jobs_refused(&model);
                let namespace = self.bus.namespace();
                match class {
                    Some(class) => self.refuse(namespace.jobs_of(&model, class), Reason::Overdue(failure)),
                    None => self.refuse(namespace.jobs_of_model(&model), Reason::Unserved(failure)),
                }
            }
            Action::ReportUnplaceable { model, failure } => {
                let before = self.leading.unplaceable.insert(model.clone(), failure.clone());
                if before.as_ref() != Some(&failure) {
                    warn!(%model, %failure, "no hive can run a model that is in demand");
                    self.publish(QueenEvent::Unplaceable { model, failure });
                }
            }
        }
    }

    /// Publishes and logs an event of the fleet.
    fn publish_fleet_event(&self, event: QueenEvent) {
        match &event {
            QueenEvent::HiveSuspected { hive, why } => warn!(%hive, why, "a hive is suspect"),
            QueenEvent::HiveLost { hive, workers, .. } => {
                metrics::hive_lost();
                warn!(%hive, workers, "a hive is lost; other hives replace its workers");
            }
            QueenEvent::HiveReturned { hive, heartbeat_age_ms, .. } => {
                info!(%hive, heartbeat_age_ms, "a hive has returned");
            }
            QueenEvent::HiveRemoved { hive, workers } => {
                warn!(%hive, workers, "a lost hive was removed with its workers");
            }
            QueenEvent::Fulfilled { model, worker, took_ms, expected_ms, .. } => {
                metrics::fulfilled(Duration::from_millis(*took_ms));
                info!(%model, %worker, took_ms, expected_ms, "a new worker is ready");
            }
            other => debug!(event = other.name(), "an event is published"),
        }
        self.publish(event);
    }
}
