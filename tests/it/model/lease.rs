//! Two queens and a hive: the lease of the leader and the term of its commands.

use stateright::{Checker as _, Model, Property};

/// Number of queens.
const QUEENS: usize = 2;
/// Highest term that is explored.
const TERMS: u8 = 3;

/// Queens that campaign for the lease, and a hive that carries out commands.
struct Leadership {
    /// True if a hive refuses commands of a term earlier than one that it knows.
    is_fenced: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// Holder of the lease; `None` if it has expired or was never taken.
    holder: Option<usize>,
    /// Term of the last leadership: the revision of the lease's key.
    term: u8,
    /// Term in which each queen believes to lead. A paused queen does not notice that its lease has expired.
    believes: [Option<u8>; QUEENS],
    /// Term of the command that waits for the hive from each queen.
    sent: [Option<u8>; QUEENS],
    /// Highest term that the hive knows, from the key or from a command.
    known: u8,
    /// Terms of the commands that the hive has carried out, in order.
    executed: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Action {
    /// A queen takes the free lease by compare-and-set.
    Take(usize),
    /// The lease expires.
    Expire,
    /// A queen notices that it does not hold the lease.
    Notice(usize),
    /// A queen that believes to lead sends a command.
    Send(usize),
    /// The hive receives the command of a queen.
    Receive(usize),
    /// The hive reads the key of the lease.
    Learn,
}

impl Model for Leadership {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            holder: None,
            term: 0,
            believes: [None; QUEENS],
            sent: [None; QUEENS],
            known: 0,
            executed: Vec::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for queen in 0..QUEENS {
            if state.holder.is_none() && state.believes[queen].is_none() && state.term < TERMS {
                actions.push(Action::Take(queen));
            }
            if state.believes[queen].is_some() && state.holder != Some(queen) {
                actions.push(Action::Notice(queen));
            }
            if state.believes[queen].is_some() && state.sent[queen].is_none() && state.executed.len() < 3 {
                actions.push(Action::Send(queen));
            }
            if state.sent[queen].is_some() {
                actions.push(Action::Receive(queen));
            }
        }
        if state.holder.is_some() {
            actions.push(Action::Expire);
        }
        if state.known < state.term {
            actions.push(Action::Learn);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Take(queen) => {
                state.term += 1;
                state.holder = Some(queen);
                state.believes[queen] = Some(state.term);
            }
            Action::Expire => state.holder = None,
            Action::Notice(queen) => state.believes[queen] = None,
            Action::Send(queen) => state.sent[queen] = state.believes[queen],
            Action::Receive(queen) => {
                let term = state.sent[queen].take()?;
                if !self.is_fenced || term >= state.known {
                    state.known = state.known.max(term);
                    state.executed.push(term);
                }
            }
            Action::Learn => state.known = state.term,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no command of an earlier term follows one of a later term", |_, state: &State| {
                state.executed.is_sorted()
            }),
            Property::sometimes("two queens believe to lead", |_, state: &State| {
                state.believes.iter().all(Option::is_some)
            }),
            Property::sometimes("commands of three terms are carried out", |_, state: &State| {
                state.executed == [1, 2, 3]
            }),
        ]
    }
}

#[test]
fn hive_follows_one_leader_after_the_other_in_every_order_of_events() {
    let checked = Leadership { is_fenced: true }.checker().spawn_bfs().join();
    checked.assert_properties();
    assert!(checked.unique_state_count() > 100, "{} states", checked.unique_state_count());
}

#[test]
fn without_terms_a_paused_leader_is_obeyed_after_its_successor() {
    let checked = Leadership { is_fenced: false }.checker().spawn_bfs().join();
    checked.assert_any_discovery("no command of an earlier term follows one of a later term");
}
