//! Decisions: pure functions over values. Nothing in this folder does I/O, reads a clock or draws a number.

pub mod answer;
pub mod batch;
pub mod embedding;
pub mod guess;
pub mod request;
pub mod strikes;
pub mod text;
