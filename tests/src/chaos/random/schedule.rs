//! The sequence of random faults.

use std::time::Duration;

/// A kind of process of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Worker,
    Hive,
    Queen,
    Server,
}

/// A fault of a random run. `pick` selects one of the processes of its kind that run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum RandomFault {
    /// SIGKILL. What a supervisor would restart is started again after `down`.
    Kill { target: Target, pick: usize, down: Duration },
    /// SIGSTOP, and SIGCONT after `frozen`.
    Freeze { target: Target, pick: usize, frozen: Duration },
    /// The connections of clients end, and new ones are refused for `cut`.
    CutClients { cut: Duration },
}

impl RandomFault {
    /// Name in the summary of a run.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill { target: Target::Worker, .. } => "worker killed",
            Self::Kill { target: Target::Hive, .. } => "hive killed",
            Self::Kill { target: Target::Queen, .. } => "queen killed",
            Self::Kill { target: Target::Server, .. } => "server killed",
            Self::Freeze { target: Target::Worker, .. } => "worker frozen",
            Self::Freeze { target: Target::Hive, .. } => "hive frozen",
            Self::Freeze { target: Target::Queen, .. } => "queen frozen",
            Self::Freeze { target: Target::Server, .. } => "server frozen",
            Self::CutClients { .. } => "clients cut off",
        }
    }
}

/// Draws faults without end.
#[derive(Debug)]
pub(super) struct Schedule {
    random: fastrand::Rng,
    pause: Duration,
}

impl Schedule {
    pub(super) fn new(seed: u64, pause: Duration) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), pause }
    }

    /// The next fault, and the pause before it.
    pub(super) fn next(&mut self) -> (Duration, RandomFault) {
        let pause = self.pause.mul_f64(0.5 + self.random.f64());
        let target = match self.random.u32(..10) {
            0..5 => Target::Worker,
            5..7 => Target::Hive,
            7..9 => Target::Queen,
            _ => Target::Server,
        };
        let pick = self.random.usize(..1 << 16);
        let fault = match self.random.u32(..10) {
            0..5 => RandomFault::Kill { target, pick, down: self.between(50, 1500) },
            5..9 if target == Target::Server => RandomFault::Freeze { target, pick, frozen: self.between(200, 4000) },
            5..9 => RandomFault::Freeze { target, pick, frozen: self.between(2000, 15_000) },
            _ => RandomFault::CutClients { cut: self.between(50, 3000) },
        };
        (pause, fault)
    }

    fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.random.u64(least..most))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn seed_determines_the_faults() {
        let draw = |seed| {
            let mut schedule = Schedule::new(seed, Duration::from_secs(1));
            (0..200).map(|_| schedule.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let names: BTreeSet<&str> = draw(7).iter().map(|(_, fault)| fault.name()).collect();
        assert_eq!(names.len(), 9, "every kind comes: {names:?}");
    }
}
