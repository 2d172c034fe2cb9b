//! What the mock does wrong on request, at which token.

use std::{hint::black_box, process, thread};

use rbee_schema::{Failure, FailureCode};

use super::FOR_EVER;

/// Memory is taken in pieces of this size.
const PIECE: usize = 64 << 20;

/// A fault, and the index of the token before which it strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The index, counted from 0.
    pub at: u32,
    /// What happens.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The process aborts.
    Crash,
    /// The process aborts, and does so at every later try.
    Poison,
    /// The process exits with this code.
    Exit(i32),
    /// The step does not return.
    Hang,
    /// Memory is taken until the process is killed.
    OutOfMemory,
}

/// Whether a sequence was admitted with tokens of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    First,
    Resumed,
}

impl Fault {
    /// Whether it strikes before token `index`.
    pub(super) fn strikes(&self, index: u32, tried: Try) -> bool {
        let every_try = match self.kind {
            FaultKind::Poison => true,
            FaultKind::Crash | FaultKind::Exit(_) | FaultKind::Hang | FaultKind::OutOfMemory => false,
        };
        // A job that is resumed beyond the index of its poison is poisoned all the same.
        if every_try { index >= self.at } else { index == self.at && tried == Try::First }
    }

    /// Does it. Returns only when memory reaches `oom_limit` bytes without the process being killed.
    pub(super) fn carry_out(&self, oom_limit: u64) -> Failure {
        match self.kind {
            FaultKind::Crash | FaultKind::Poison => process::abort(),
            FaultKind::Exit(code) => process::exit(code),
            FaultKind::Hang => loop {
                thread::sleep(FOR_EVER);
            },
            FaultKind::OutOfMemory => take_memory(oom_limit),
        }
    }
}

fn take_memory(limit: u64) -> Failure {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    while (pieces.len() as u64 + 1).saturating_mul(PIECE as u64) <= limit {
        // Written, not only reserved: the kernel counts pages that were touched.
        pieces.push(black_box(vec![1; PIECE]));
    }
    let taken = pieces.len() * (PIECE >> 20);
    Failure::new(FailureCode::Internal, format!("the mock has taken {taken} MiB as it was told and was not killed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_once_and_poison_always() {
        let crash = Fault { at: 3, kind: FaultKind::Crash };
        let poison = Fault { at: 3, kind: FaultKind::Poison };
        for (fault, index, tried, expected) in [
            (crash, 2, Try::First, false),
            (crash, 3, Try::First, true),
            (crash, 4, Try::First, false),
            (crash, 3, Try::Resumed, false),
            (poison, 2, Try::Resumed, false),
            (poison, 3, Try::First, true),
            (poison, 3, Try::Resumed, true),
            (poison, 4, Try::Resumed, true),
        ] {
            assert_eq!(fault.strikes(index, tried), expected, "{fault:?} at {index}, {tried:?}");
        }
    }

    #[test]
    fn memory_is_taken_up_to_the_limit() {
        let failure = Fault { at: 0, kind: FaultKind::OutOfMemory }.carry_out(200 << 20);
        assert!(failure.message.contains("192 MiB"), "{failure}");
    }
}
