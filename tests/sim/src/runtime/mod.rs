//! A deterministic runtime: tasks on one thread, virtual time, and every choice drawn from one seed.
//!
//! Tasks belong to processes. A process can be frozen (its tasks do not run until it is thawed), killed (its tasks are dropped),
//! and have a clock of its own that runs too fast. Tasks that are ready at the same time run in an order that is drawn.

mod clock;
mod mailbox;
mod process;
mod scheduler;
mod signal;

pub use self::{clock::Clock, mailbox::Mailbox, process::Process, scheduler::Runtime, signal::Signal};
