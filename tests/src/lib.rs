//! The harness of the integration tests: real servers, real processes, and conditions to wait for.
//!
//! The tests themselves are one binary, in `it/`. What is here starts what they need and takes it away again, also when
//! a test panics. A harness that cannot do what it promises panics and says what to do; nothing is skipped.

pub mod cable;
pub mod chaos;
pub mod collector;
pub mod fleet;
pub mod nats;
pub mod network;
pub mod port;
pub mod tools;
pub mod wait;
