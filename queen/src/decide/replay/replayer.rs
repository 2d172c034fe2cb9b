//! The replay itself: inputs in the order of their times, and a planning pass after each, as the controller makes them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Instant, SystemTime},
};

use rbee_schema::{Event, Failure, ModelName, QueenEvent, QueenName, WorkerName};

use super::{
    Conditions, Decided, Difference, ReplayStep, Replayed,
    compare::{Decision, LATE, RecordedDecision, take_match},
    describe,
    input::Input,
    prepare::Prepared,
    world::World,
};
use crate::decide::{
    dirty::Scope,
    plan::{Action, Plan, next_deadline, plan},
};

pub(super) struct Replayer {
    world: World,
    inputs: VecDeque<(SystemTime, Input)>,
    recorded: VecDeque<RecordedDecision>,
    lead: Lead,
    /// Time from which on decisions are compared.
    from: Option<SystemTime>,
    /// Models that were reported as unplaceable, with the failure.
    unplaceable: BTreeMap<ModelName, Failure>,
    result: Replayed,
}

/// Leadership as the events tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lead {
    Nobody,
    /// A queen that was elected before the first event.
    Unknown,
    Queen(QueenName),
}

impl Replayer {
    pub(super) fn new(prepared: Prepared, conditions: Conditions) -> Self {
        let Prepared { inputs, recorded, silences, declared, left_out, is_led, unknown } = prepared;
        let first = inputs.first().map_or(SystemTime::UNIX_EPOCH, |(at, _)| *at);
        let first = recorded.front().map_or(first, |recorded| first.min(recorded.at));
        let mut world = World::new(&conditions, first, silences, left_out);
        for (model, spec) in declared {
            world.fleet.model_declared(model, spec);
        }
        world.unknown = unknown;
        Self {
            world,
            inputs: inputs.into(),
            recorded,
            lead: if is_led { Lead::Unknown } else { Lead::Nobody },
            from: conditions.from,
            unplaceable: BTreeMap::new(),
            result: Replayed::default(),
        }
    }

    pub(super) fn run(mut self) -> Replayed {
        let mut now = self.world.clock().start;
        while let Some((at, input)) = self.inputs.pop_front() {
            let until = self.world.clock().instant(at);
            now = self.pass_deadlines(now, until);
            if self.result.difference.is_some() {
                break;
            }
            self.world.advance(until);
            self.apply(at, &input, until);
            self.check_missing(at);
            if self.result.difference.is_some() {
                break;
            }
        }
        if self.result.difference.is_none() {
            self.pass_deadlines(now, now + LATE);
            self.check_end();
        }
        self.result.unknown = std::mem::take(&mut self.world.unknown);
        self.result
    }

    /// Plans at each time at which the plan may change without an input.
    fn pass_deadlines(&mut self, mut now: Instant, until: Instant) -> Instant {
        while let Some(deadline) = next_deadline(&self.world.fleet, &Scope::Everything, now) {
            if deadline >= until || self.result.difference.is_some() {
                break;
            }
            now = deadline;
            self.world.advance(now);
            self.world.fleet.mark_everything();
            let at = self.world.clock().time(now);
            let decisions = self.pass(at, now);
            if !decisions.is_empty() {
                self.result.steps.push(ReplayStep { at, input: "time has passed".to_owned(), decisions });
            }
        }
        until
    }

    fn apply(&mut self, at: SystemTime, input: &Input, now: Instant) {
        self.follow_lead(input);
        self.world.apply(input, now);
        let decisions = self.pass(at, now);
        let described = describe::input(input);
        if let Some(input) = described.or_else(|| (!decisions.is_empty()).then(|| "an event".to_owned())) {
            self.result.steps.push(ReplayStep { at, input, decisions });
        }
    }

    fn follow_lead(&mut self, input: &Input) {
        let Input::Event(Event::Queen(queen, event)) = input else { return };
        match event {
            QueenEvent::Elected { .. } => {
                if self.lead != Lead::Nobody {
                    let what = format!("what queen {queen} had measured and tried when it took the lead");
                    self.world.unknown.insert(what);
                }
                self.lead = Lead::Queen(queen.clone());
                self.unplaceable.clear();
                self.world.fleet.forget_stops();
                self.world.fleet.mark_everything();
            }
            QueenEvent::Deposed { .. } | QueenEvent::Stopped {} => {
                let is_leader = match &self.lead {
                    Lead::Queen(leader) => leader == queen,
                    Lead::Unknown => matches!(event, QueenEvent::Deposed { .. }),
                    Lead::Nobody => false,
                };
                if is_leader {
                    self.lead = Lead::Nobody;
                }
            }
            _ => {}
        }
    }

    /// A planning pass, as the leader makes it.
    fn pass(&mut self, at: SystemTime, now: Instant) -> Vec<Decided> {
        let is_compared = self.from.is_none_or(|from| at >= from);
        if let Some(from) = self.from {
            self.follow(at.min(from), now);
        }
        if self.lead == Lead::Nobody || !is_compared || !self.world.fleet.needs_planning() {
            return Vec::new();
        }
        let scope = self.world.fleet.take_scope();
        if scope == Scope::Everything {
            self.world.fleet.expire_commands(now);
            self.world.fleet.take_stranded_jobs(now);
        }
        let Plan { actions, pending } = plan(&self.world.fleet, &scope, now);
        self.world.fleet.planned(&scope, pending);
        let is_reported = |model: &ModelName| {
            let is_it =
                |action: &Action| matches!(action, Action::ReportUnplaceable { model: found, .. } if found == model);
            actions.iter().any(is_it)
        };
        self.unplaceable.retain(|model, _| !scope.has(model) || is_reported(model));
        let mut decisions = Vec::new();
        for action in actions {
            decisions.extend(self.carry_out(&action, at, now));
            if self.result.difference.is_some() {
                break;
            }
        }
        decisions
    }

    /// Carries an action out as it was recorded. `None` for one that says nothing new.
    fn carry_out(&mut self, action: &Action, at: SystemTime, now: Instant) -> Option<Decided> {
        match action {
            Action::Refuse { model, .. } => self.world.fleet.jobs_refused(model),
            Action::ReportUnplaceable { model, failure } => {
                let before = self.unplaceable.insert(model.clone(), failure.clone());
                if before.as_ref() == Some(failure) {
                    return None;
                }
            }
            Action::Spawn(_) | Action::Stop { .. } => {}
        }
        let text = action.to_string();
        let Some(decision) = Decision::of(action) else { return Some(Decided { text, recorded: None }) };
        let found = take_match(&mut self.recorded, &decision, at);
        self.command(found.as_ref().map_or(&decision, |found| &found.decision), now);
        let recorded = found.as_ref().map(|found| found.text.clone());
        if found.is_some_and(|found| found.decision.is_same(&decision)) {
            self.result.equal += 1;
        } else {
            self.result.difference = Some(Difference { at, decided: Some(text.clone()), recorded: recorded.clone() });
        }
        Some(Decided { text, recorded })
    }

    /// Tells the fleet what was commanded.
    fn command(&mut self, decision: &Decision, now: Instant) {
        match decision {
            Decision::Spawn { model, hive, worker } => {
                let worker = worker.clone().unwrap_or_else(|| WorkerName::from_lossy("replayed"));
                self.world.fleet.spawn_commanded((hive.clone(), worker), model.clone(), now);
            }
            Decision::Stop { hive, worker } => self.world.fleet.stop_commanded(&(hive.clone(), worker.clone()), now),
            Decision::Unplaceable { .. } => {}
        }
    }

    /// Carries out what was recorded before `until`, when the comparison begins.
    fn follow(&mut self, until: SystemTime, now: Instant) {
        while let Some(recorded) = self.recorded.pop_front_if(|recorded| recorded.at < until) {
            self.command(&recorded.decision, now);
        }
    }

    /// Finds a recorded decision that the replay has not made in time.
    fn check_missing(&mut self, at: SystemTime) {
        let is_overdue = |recorded: &RecordedDecision| recorded.at.checked_add(LATE).is_some_and(|end| end < at);
        self.report_missing(is_overdue);
    }

    fn check_end(&mut self) {
        self.report_missing(|_| true);
    }

    fn report_missing(&mut self, is_overdue: impl Fn(&RecordedDecision) -> bool) {
        if self.result.difference.is_none()
            && let Some(RecordedDecision { at, text, .. }) = self.recorded.iter().find(|recorded| is_overdue(recorded))
        {
            self.result.difference = Some(Difference { at: *at, decided: None, recorded: Some(text.clone()) });
        }
    }
}
