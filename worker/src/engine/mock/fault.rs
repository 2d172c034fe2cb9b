//! Faults that the mock engine injects on request.

use std::{hint::black_box, process, thread, time::Duration};

use rbee_schema::{Failure, FailureCode};

/// Duration of one sleep of a hang, which is repeated until the process is killed. Any long time serves.
pub(super) const FOREVER: Duration = Duration::from_secs(60 * 60);

/// Size of the blocks in which memory is allocated.
const BLOCK: usize = 64 << 20;

/// A fault, and the index of the token before which it occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Index of the token, from 0.
    pub at: u32,
    /// Kind of the fault.
    pub kind: FaultKind,
}

/// Kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The process aborts.
    Crash,
    /// The process aborts, in every attempt.
    Poison,
    /// The process exits with this code.
    Exit(i32),
    /// The engine thread panics.
    Panic,
    /// The step does not return.
    Hang,
    /// Memory is allocated until the process is killed.
    OutOfMemory,
}

/// Attempt to answer a job, as far as an engine can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AttemptKind {
    /// The sequence was admitted without tokens of its answer.
    First,
    /// The sequence was admitted with tokens of its answer.
    Resumed,
}

impl Fault {
    /// True if the fault occurs before token `index`.
    pub(super) fn occurs(&self, index: u32, attempt: AttemptKind) -> bool {
        let in_every_attempt = match self.kind {
            FaultKind::Poison => true,
            FaultKind::Crash | FaultKind::Exit(_) | FaultKind::Panic | FaultKind::Hang | FaultKind::OutOfMemory => {
                false
            }
        };
        // A job that is resumed beyond the index of its poison aborts its worker as well.
        if in_every_attempt { index >= self.at } else { index == self.at && attempt == AttemptKind::First }
    }

    /// Injects the fault. Returns only if memory reaches `oom_limit` bytes and the process is not killed.
    pub(super) fn inject(&self, oom_limit: u64) -> Failure {
        match self.kind {
            FaultKind::Crash | FaultKind::Poison => process::abort(),
            FaultKind::Exit(code) => process::exit(code),
            FaultKind::Panic => panic!("the mock engine panics, as configured by panic"),
            FaultKind::Hang => loop {
                thread::sleep(FOREVER);
            },
            FaultKind::OutOfMemory => allocate(oom_limit),
        }
    }
}

fn allocate(limit: u64) -> Failure {
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    while (blocks.len() as u64 + 1).saturating_mul(BLOCK as u64) <= limit {
        // Written, not only reserved: the kernel counts only pages that were touched.
        blocks.push(black_box(vec![1; BLOCK]));
    }
    let allocated = blocks.len() * (BLOCK >> 20);
    Failure::new(
        FailureCode::Internal,
        format!("the mock engine allocated {allocated} MiB as configured and was not killed"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_occurs_once_and_poison_in_every_attempt() {
        let crash = Fault { at: 3, kind: FaultKind::Crash };
        let poison = Fault { at: 3, kind: FaultKind::Poison };
        for (fault, index, attempt, expected) in [
            (crash, 2, AttemptKind::First, false),
            (crash, 3, AttemptKind::First, true),
            (crash, 4, AttemptKind::First, false),
            (crash, 3, AttemptKind::Resumed, false),
            (poison, 2, AttemptKind::Resumed, false),
            (poison, 3, AttemptKind::First, true),
            (poison, 3, AttemptKind::Resumed, true),
            (poison, 4, AttemptKind::Resumed, true),
        ] {
            assert_eq!(fault.occurs(index, attempt), expected, "{fault:?} at {index}, {attempt:?}");
        }
    }

    #[test]
    fn memory_is_allocated_up_to_the_limit() {
        let failure = Fault { at: 0, kind: FaultKind::OutOfMemory }.inject(200 << 20);
        assert!(failure.message.contains("192 MiB"), "{failure}");
    }
}
