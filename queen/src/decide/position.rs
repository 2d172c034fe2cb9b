//! Expected wait of a queued job, from its place in its own flow and the depths of the flows that are served in turn with it.

use std::time::Duration;

use rbee_schema::{JobClass, JobFlow};

/// Pace at which a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// Number of jobs that the ready workers run at once.
    pub slots: u64,
    /// Mean time that recent answers took in a worker.
    pub answer_time: Option<Duration>,
}

/// Number of waiting jobs that are expected to start before a job with `ahead` jobs before it in its own flow. `flows` are the
/// numbers of waiting jobs of each flow of the model. The flows of a class take turns, and interactive jobs go before batch jobs.
pub fn jobs_before(ahead: u64, own: &JobFlow, flows: &[(JobFlow, u64)]) -> u64 {
    let others = flows.iter().filter(|(flow, _)| flow != own).map(|(flow, waiting)| match (own.class, flow.class) {
        (JobClass::Interactive, JobClass::Batch) => 0,
        (JobClass::Batch, JobClass::Interactive) => *waiting,
        (JobClass::Interactive, JobClass::Interactive) | (JobClass::Batch, JobClass::Batch) => {
            (*waiting).min(ahead + 1)
        }
    });
    ahead.saturating_add(others.sum())
}

/// Expected time until a job starts that has `before` jobs before it. `None` while no worker is ready or no answer was measured.
pub fn expected_wait(before: u64, pace: Pace) -> Option<Duration> {
    let Pace { slots, answer_time } = pace;
    let turns = before.saturating_add(1) as f64 / slots as f64;
    Duration::try_from_secs_f64(answer_time.filter(|_| slots > 0)?.as_secs_f64() * turns).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(class: JobClass, tenant: &str) -> JobFlow {
        JobFlow { class, tenant: tenant.parse().expect("a name") }
    }

    #[test]
    fn flows_of_a_class_take_turns_and_interactive_ones_go_first() {
        use JobClass::{Batch, Interactive};
        let flows =
            [(flow(Interactive, "a"), 5), (flow(Interactive, "b"), 1000), (flow(Batch, "a"), 7), (flow(Batch, "c"), 2)];
        for (ahead, class, tenant, expected) in [
            (0, Interactive, "a", 1),
            (4, Interactive, "a", 4 + 5),
            (900, Interactive, "b", 900 + 5),
            (0, Batch, "a", 1005 + 1),
            (6, Batch, "a", 6 + 1005 + 2),
            (0, Interactive, "new", 2),
        ] {
            assert_eq!(jobs_before(ahead, &flow(class, tenant), &flows), expected, "{ahead} {class} {tenant}");
        }
    }

    #[test]
    fn wait_is_known_once_answers_were_measured_and_a_worker_is_ready() {
        let answer_time = Some(Duration::from_secs(6));
        assert_eq!(expected_wait(0, Pace { slots: 3, answer_time }), Some(Duration::from_secs(2)));
        assert_eq!(expected_wait(5, Pace { slots: 3, answer_time }), Some(Duration::from_secs(12)));
        assert_eq!(expected_wait(5, Pace { slots: 0, answer_time }), None);
        assert_eq!(expected_wait(5, Pace { slots: 3, answer_time: None }), None);
        assert_eq!(expected_wait(u64::MAX, Pace { slots: 1, answer_time: Some(Duration::MAX) }), None);
    }
}
