//! Decisions: pure functions over values. Nothing in this folder does I/O, reads a clock or draws a number.

pub mod answer;
pub mod batch;
pub mod call;
pub mod draft;
pub mod embedding;
pub mod form;
pub mod format;
pub mod parts;
pub mod request;
pub mod strikes;
pub mod text;
