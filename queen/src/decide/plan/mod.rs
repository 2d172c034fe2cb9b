//! Planning: the workers that each model needs, compared with those that it has. Step 2 of a job's path.
//!
//! [`plan()`] is a function of the fleet and the time. It changes nothing: what it has planned so far lies in an
//! [`Overlay`](crate::decide::overlay::Overlay) on top of the fleet, so that later decisions of the same pass see it.

mod action;
mod deadline;
mod planner;
mod preempt;
mod replace;
mod retire;
mod scale;

use std::time::Instant;

use self::planner::Planner;
pub use self::{
    action::{Action, NewWorker, Plan},
    deadline::next_deadline,
};
use crate::decide::{dirty::Scope, fleet::Fleet};

/// Plans the models of `scope`.
pub fn plan(fleet: &Fleet, scope: &Scope, now: Instant) -> Plan {
    let mut planner = Planner::new(fleet, now);
    for (model, spec) in fleet.active(scope) {
        if scale::is_settled(&planner, model, spec) {
            continue;
        }
        let before = planner.action_count();
        scale::start_missing(&mut planner, model, spec);
        scale::refuse_overdue(&mut planner, model, spec);
        replace::replace_outdated(&mut planner, model, spec);
        scale::stop_idle(&mut planner, model, spec);
        retire::stop_crash_looping(&mut planner, model, spec);
        retire::stop_failed(&mut planner, model);
        if planner.action_count() > before {
            planner.mark_pending(model);
        }
    }
    retire::stop_undeclared(&mut planner, scope);
    planner.finish()
}

#[cfg(test)]
mod tests;
