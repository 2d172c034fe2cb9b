//! Turns of a worker's jobs: jobs run together, unless one must run alone.
//!
//! A job that must run alone waits until no other runs. Those that run hand themselves back to the queue at the next token,
//! and no other starts meanwhile. Several such jobs take turns in the order in which they asked.

use std::collections::{BTreeMap, VecDeque};

/// Turn of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Its content was not touched yet.
    Waiting,
    /// It runs together with others.
    Together,
    /// It runs alone.
    Alone,
}

/// Turns of all jobs of a worker, by the key of a delivery.
#[derive(Debug, Default)]
pub struct Turns {
    jobs: BTreeMap<String, Turn>,
    /// Jobs that must run alone, in the order in which they asked.
    alone: VecDeque<String>,
}

/// Consequences of a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The job that runs alone from now on.
    pub begins: Option<String>,
    /// Jobs that must make way.
    pub make_way: Vec<String>,
}

impl Turns {
    /// Takes a job whose content was not touched yet.
    pub fn claim(&mut self, key: &str) {
        self.jobs.insert(key.to_owned(), Turn::Waiting);
    }

    /// Lets a job run together with others. False if a job runs alone or waits for it: then the job belongs back into the
    /// queue, where another worker may take it.
    pub fn join(&mut self, key: &str) -> bool {
        if self.are_open() {
            self.jobs.insert(key.to_owned(), Turn::Together);
        }
        self.are_open()
    }

    /// Lets a job wait until it can run alone.
    pub fn ask_alone(&mut self, key: &str) -> Change {
        self.alone.push_back(key.to_owned());
        self.settle()
    }

    /// Ends the time in which a job must run alone.
    pub fn end_alone(&mut self, key: &str) -> Change {
        if let Some(turn @ Turn::Alone) = self.jobs.get_mut(key) {
            *turn = Turn::Together;
        }
        self.settle()
    }

    /// Removes a job that has ended or returns to the queue.
    pub fn release(&mut self, key: &str) -> Change {
        self.jobs.remove(key);
        self.alone.retain(|waiting| waiting != key);
        self.settle()
    }

    /// True if a job waits for its turn.
    pub fn waits(&self, key: &str) -> bool {
        self.jobs.get(key) == Some(&Turn::Waiting)
    }

    /// True if no job runs alone or waits for it, so that further jobs may start.
    pub fn are_open(&self) -> bool {
        self.alone.is_empty() && self.jobs.values().all(|turn| *turn != Turn::Alone)
    }

    fn settle(&mut self) -> Change {
        let Some(first) = self.alone.front() else { return Change::default() };
        let is_running = |turn: &Turn| matches!(turn, Turn::Together | Turn::Alone);
        if self.jobs.values().any(is_running) {
            let together = self.jobs.iter().filter(|(_, turn)| **turn == Turn::Together);
            return Change { begins: None, make_way: together.map(|(key, _)| key.clone()).collect() };
        }
        let begins = first.clone();
        self.alone.pop_front();
        self.jobs.insert(begins.clone(), Turn::Alone);
        Change { begins: Some(begins), make_way: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn turns(jobs: &[&str]) -> Turns {
        let mut turns = Turns::default();
        jobs.iter().for_each(|job| turns.claim(job));
        turns
    }

    fn begins(job: &str) -> Change {
        Change { begins: Some(job.to_owned()), make_way: Vec::new() }
    }

    fn make_way(jobs: &[&str]) -> Change {
        Change { begins: None, make_way: jobs.iter().map(|job| (*job).to_owned()).collect() }
    }

    #[test]
    fn job_that_must_run_alone_begins_when_the_others_have_made_way() {
        let mut turns = turns(&["a", "b", "poison", "late"]);
        assert!(turns.join("a") && turns.join("b"));
        assert_eq!(turns.ask_alone("poison"), make_way(&["a", "b"]));
        assert!(turns.waits("poison") && !turns.join("late"), "no other starts meanwhile");
        assert_eq!(turns.release("a"), make_way(&["b"]));
        assert_eq!(turns.release("b"), begins("poison"));
        assert!(!turns.waits("poison") && !turns.are_open() && !turns.join("late"));
    }

    #[test]
    fn others_may_join_when_a_job_need_not_be_alone_any_more() {
        let mut turns = turns(&["a", "b"]);
        assert_eq!(turns.ask_alone("a"), begins("a"));
        assert!(!turns.join("b"));
        assert_eq!(turns.end_alone("a"), Change::default());
        assert!(turns.join("b"));
    }

    #[test]
    fn jobs_that_must_run_alone_take_turns() {
        let mut turns = turns(&["a", "b", "c"]);
        assert_eq!(turns.ask_alone("b"), begins("b"));
        assert_eq!((turns.ask_alone("a"), turns.ask_alone("c")), (Change::default(), Change::default()));
        assert_eq!(turns.end_alone("b"), make_way(&["b"]), "the next one must be alone too");
        assert_eq!(turns.release("b"), begins("a"));
        assert_eq!(turns.release("c"), Change::default(), "it was cancelled while it waited");
        assert_eq!(turns.release("a"), Change::default());
        assert!(turns.are_open());
    }

    proptest! {
        #[test]
        fn job_that_runs_alone_has_no_company(steps in prop::collection::vec((0u8..5, "[a-d]"), 0..60)) {
            let mut turns = Turns::default();
            for (step, job) in steps {
                let is_there = turns.jobs.contains_key(&job);
                let asked = turns.alone.contains(&job);
                match step {
                    0 if !is_there => turns.claim(&job),
                    1 if turns.waits(&job) && !asked => drop(turns.join(&job)),
                    2 if turns.waits(&job) && !asked => drop(turns.ask_alone(&job)),
                    3 => drop(turns.end_alone(&job)),
                    _ => drop(turns.release(&job)),
                }
                let running = turns.jobs.values().filter(|turn| **turn != Turn::Waiting).count();
                let alone = turns.jobs.values().filter(|turn| **turn == Turn::Alone).count();
                prop_assert!(alone == 0 || running == 1, "{:?}", turns);
                prop_assert!(running > 0 || turns.alone.is_empty(), "a job waits for nobody: {:?}", turns);
            }
        }
    }
}
