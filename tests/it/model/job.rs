//! A job between workers that crash and pause: the fence of its output.

use stateright::{Checker as _, Model, Property};

/// Number of workers.
const WORKERS: usize = 2;
/// Number of tokens of the answer.
const TOKENS: u8 = 2;
/// Maximum number of deliveries of the job. Every violation of one answer needs two.
const DELIVERIES: u8 = 3;

/// A job, its output, and the workers that may run it.
struct Job {
    /// True if an append names the chunk that it follows, and is refused behind another one.
    is_fenced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Chunk {
    Token(u8),
    Done,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// True until the job is acknowledged.
    is_queued: bool,
    /// True while the next worker that asks receives the job.
    is_deliverable: bool,
    deliveries: u8,
    output: Vec<Chunk>,
    /// Attempt of each worker; `None` for an idle one. A paused worker is one that takes no step for a while.
    attempts: [Option<Attempt>; WORKERS],
}

/// A worker's view of the job that it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Attempt {
    /// Number of chunks that it has read or appended.
    seen: usize,
    /// Next token that it computes.
    next: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    /// A worker receives the job and reads its output.
    Deliver(usize),
    /// No keep-alive arrived in time, or somebody naks the job: it is delivered again, whoever runs it.
    Return,
    /// A worker appends its next chunk.
    Append(usize),
    /// A worker acknowledges the job, whose output it has seen to be complete.
    Acknowledge(usize),
    /// A worker ends without a trace.
    Crash(usize),
}

impl State {
    fn is_complete(&self) -> bool {
        self.output.last() == Some(&Chunk::Done)
    }
}

impl Model for Job {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let new = State {
            is_queued: true,
            is_deliverable: true,
            deliveries: 0,
            output: Vec::new(),
            attempts: [None; WORKERS],
        };
        vec![new]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (worker, attempt) in state.attempts.iter().enumerate() {
            match attempt {
                None if state.is_queued && state.is_deliverable => actions.push(Action::Deliver(worker)),
                None => {}
                Some(attempt) => {
                    let has_seen_the_end = state.output.get(attempt.seen.wrapping_sub(1)) == Some(&Chunk::Done);
                    let next = if has_seen_the_end { Action::Acknowledge(worker) } else { Action::Append(worker) };
                    actions.extend([next, Action::Crash(worker)]);
                }
            }
        }
        if state.is_queued && !state.is_deliverable && state.deliveries < DELIVERIES {
            actions.push(Action::Return);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Deliver(worker) => {
                let tokens = state.output.iter().filter(|chunk| matches!(chunk, Chunk::Token(_))).count();
                state.attempts[worker] =
                    Some(Attempt { seen: state.output.len(), next: u8::try_from(tokens).expect("few") });
                (state.is_deliverable, state.deliveries) = (false, state.deliveries + 1);
            }
            Action::Return => state.is_deliverable = true,
            Action::Append(worker) => {
                let attempt = state.attempts[worker]?;
                if self.is_fenced && attempt.seen != state.output.len() {
                    state.attempts[worker] = None;
                    return Some(state);
                }
                let chunk = if attempt.next < TOKENS { Chunk::Token(attempt.next) } else { Chunk::Done };
                state.output.push(chunk);
                state.attempts[worker] = Some(Attempt { seen: state.output.len(), next: attempt.next + 1 });
            }
            Action::Acknowledge(worker) => {
                state.is_queued = false;
                state.attempts[worker] = None;
            }
            Action::Crash(worker) => state.attempts[worker] = None,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("each token comes once and in order, and then one end", |_, state: &State| {
                let answer = (0..TOKENS).map(Chunk::Token).chain([Chunk::Done]);
                state.output.len() <= usize::from(TOKENS) + 1
                    && state.output.iter().copied().zip(answer).all(|(found, expected)| found == expected)
            }),
            Property::always("a job leaves the queue only with a complete answer", |_, state: &State| {
                state.is_queued || state.is_complete()
            }),
            Property::sometimes("the answer is complete after two deliveries", |_, state: &State| {
                !state.is_queued && state.deliveries >= 2
            }),
        ]
    }
}

#[test]
fn fenced_output_is_one_answer_in_every_order_of_events() {
    let checked = Job { is_fenced: true }.checker().spawn_bfs().join();
    checked.assert_properties();
    assert!(checked.unique_state_count() > 100, "{} states", checked.unique_state_count());
}

#[test]
fn without_the_fence_two_workers_answer_the_same_job() {
    let checked = Job { is_fenced: false }.checker().spawn_bfs().join();
    let path = checked.assert_any_discovery("each token comes once and in order, and then one end");
    let appends = path.into_actions().into_iter().filter(|action| matches!(action, Action::Append(_))).count();
    assert!(appends >= 2, "{appends}");
}
