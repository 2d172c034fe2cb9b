//! A look at all events before the replay: inputs in the order of their times, recorded decisions, and what is unknown.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, SystemTime},
};

use rbee_schema::{Event, JobEvent, ModelEvent, ModelName, ModelSpec, QueenEvent, WorkerEvent};

use super::{
    Conditions, Recorded,
    compare::{Decision, RecordedDecision},
    describe,
    input::{Input, Silence},
};

/// Beginning of the reason of a placement that a person requested. It is no decision of the planner.
const REQUESTED: &str = "requested over the API";

#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) inputs: Vec<(SystemTime, Input)>,
    pub(super) recorded: VecDeque<RecordedDecision>,
    pub(super) silences: Vec<Silence>,
    /// Declarations from before the first event.
    pub(super) declared: BTreeMap<ModelName, ModelSpec>,
    /// Models that are left out, because nobody knows their declaration.
    pub(super) left_out: BTreeSet<ModelName>,
    /// True if a queen led before the first event.
    pub(super) is_led: bool,
    pub(super) unknown: BTreeSet<String>,
}

pub(super) fn prepare(events: &[Recorded], conditions: &Conditions) -> Prepared {
    let mut prepared = Prepared { is_led: is_led_before(events), ..Prepared::default() };
    prepared.find_models(events, conditions);
    let mut queued = BTreeSet::new();
    for Recorded { at, queued: queued_at, event } in events {
        if let Some(decision) = decision(event) {
            if !decision.model().is_some_and(|model| prepared.left_out.contains(model)) {
                prepared.recorded.push_back(RecordedDecision { at: *at, decision, text: describe::recorded(event) });
            }
            continue;
        }
        prepared.note_silence(*at, event, conditions);
        if let Event::Job(tenant, job, JobEvent::Started { submitted, .. } | JobEvent::Failed { submitted, .. }) = event
            && let (Some(submitted), Some(queued_at)) = (submitted, queued_at)
            && queued.insert((tenant.clone(), job.clone()))
        {
            prepared.inputs.push((*queued_at, Input::JobQueued(tenant.clone(), job.clone(), submitted.clone())));
        }
        prepared.inputs.push((*at, Input::Event(event.clone())));
    }
    prepared.inputs.sort_by_key(|(at, _)| *at);
    if !prepared.is_led
        && !events.iter().any(|recorded| matches!(recorded.event, Event::Queen(_, QueenEvent::Elected { .. })))
    {
        prepared.unknown.insert("no event says that a queen led".to_owned());
    }
    prepared
}

/// The decision of a planner that an event records.
fn decision(event: &Event) -> Option<Decision> {
    let Event::Queen(_, event) = event else { return None };
    match event {
        QueenEvent::Placed { why, .. } if why.starts_with(REQUESTED) => None,
        QueenEvent::Placed { model, hive, worker, .. } => {
            Some(Decision::Spawn { model: model.clone(), hive: hive.clone(), worker: Some(worker.clone()) })
        }
        QueenEvent::Stopping { hive, worker, .. } => {
            Some(Decision::Stop { hive: hive.clone(), worker: worker.clone() })
        }
        QueenEvent::Unplaceable { model, .. } => Some(Decision::Unplaceable { model: model.clone() }),
        _ => None,
    }
}

/// True unless the first event of a lead is its beginning.
fn is_led_before(events: &[Recorded]) -> bool {
    let first = events.iter().find_map(|recorded| match &recorded.event {
        Event::Queen(_, QueenEvent::Elected { .. }) => Some(false),
        Event::Queen(_, QueenEvent::Deposed { .. } | QueenEvent::Placed { .. } | QueenEvent::Stopping { .. }) => {
            Some(true)
        }
        _ => None,
    });
    first.unwrap_or(false)
}

impl Prepared {
    /// Finds the declarations from before the first event. The event of a change names the declaration before.
    fn find_models(&mut self, events: &[Recorded], conditions: &Conditions) {
        let mut seen = BTreeSet::new();
        for Recorded { event, .. } in events {
            match event {
                Event::Model(model, event) if seen.insert(model.clone()) => match event {
                    ModelEvent::Declared { before: Some(before), .. } => {
                        self.declared.insert(model.clone(), (**before).clone());
                    }
                    ModelEvent::Declared { before: None, .. } | ModelEvent::Refused { .. } => {}
                    ModelEvent::Withdrawn {} => self.assume(model, conditions),
                },
                other => {
                    if let Some(model) = model_of(other).filter(|model| seen.insert((*model).clone())) {
                        self.find_earlier(model, events, conditions);
                    }
                }
            }
        }
    }

    /// A model that is in use before the first event of its declaration.
    fn find_earlier(&mut self, model: &ModelName, events: &[Recorded], conditions: &Conditions) {
        let change = events.iter().find_map(|recorded| match &recorded.event {
            Event::Model(of, event) if of == model => Some(event),
            _ => None,
        });
        match change {
            Some(ModelEvent::Declared { before: Some(before), .. }) => {
                self.declared.insert(model.clone(), (**before).clone());
            }
            Some(ModelEvent::Declared { before: None, .. }) => {}
            Some(ModelEvent::Withdrawn {} | ModelEvent::Refused { .. }) | None => self.assume(model, conditions),
        }
    }

    fn assume(&mut self, model: &ModelName, conditions: &Conditions) {
        let what = match conditions.declared.get(model) {
            Some(spec) => {
                self.declared.insert(model.clone(), spec.clone());
                format!("the declaration of {model} at that time: no event tells it, and that of today is used")
            }
            None => {
                self.left_out.insert(model.clone());
                format!("the declaration of {model}: no event tells it, and decisions about the model are left out")
            }
        };
        self.unknown.insert(what);
    }

    /// The heartbeats of a hive stopped before it became suspect, and began again when it returned.
    fn note_silence(&mut self, at: SystemTime, event: &Event, conditions: &Conditions) {
        let Event::Queen(_, event) = event else { return };
        match event {
            QueenEvent::HiveSuspected { hive, why } => {
                let is_silent = why.starts_with("no heartbeat");
                let before = if is_silent { conditions.timers.suspect } else { Duration::ZERO };
                let from = at.checked_sub(before).unwrap_or(at);
                self.inputs.push((from, Input::LastHeartbeat));
                self.silences.push(Silence { hive: hive.clone(), from, until: None });
            }
            QueenEvent::HiveReturned { hive, .. } => {
                if let Some(silence) = self.silences.iter_mut().rfind(|silence| silence.hive == *hive) {
                    silence.until = Some(at);
                }
            }
            _ => {}
        }
    }
}

/// Model that an event of a worker or job is about.
fn model_of(event: &Event) -> Option<&ModelName> {
    match event {
        Event::Worker(
            _,
            _,
            WorkerEvent::Spawned { model, .. }
            | WorkerEvent::Ready { model, .. }
            | WorkerEvent::Adopted { model, .. }
            | WorkerEvent::Exited { model, .. }
            | WorkerEvent::CrashLooped { model, .. }
            | WorkerEvent::Failed { model, .. }
            | WorkerEvent::Removed { model, .. },
        ) => Some(model),
        Event::Queen(_, QueenEvent::Placed { model, .. } | QueenEvent::Fulfilled { model, .. }) => Some(model),
        Event::Job(_, _, JobEvent::Started { submitted: Some(submitted), .. }) => Some(&submitted.model),
        _ => None,
    }
}
