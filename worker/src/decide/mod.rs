//! Decisions: pure functions over values. Nothing in this folder does I/O, reads a clock or draws a random number.

pub mod answer;
pub mod answer_grammar;
pub mod answer_limit;
pub mod append;
pub mod assembler;
pub mod batch;
pub mod deadline;
pub mod dispatch;
pub mod draft;
pub mod embedding;
pub mod grammar_limits;
pub mod heard_cancels;
pub mod markup;
pub mod output_parser;
pub mod stored;
pub mod strikes;
pub mod tool_call;
pub mod turns;
