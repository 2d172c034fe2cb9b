//! The contract between the bus half of a worker and its inference half.
//!
//! The bus half knows no tensor, and the inference half knows no message of the bus. Both know the traits and plain types
//! of this folder: [`Engine`] makes tokens and vectors, [`Text`] turns chats into tokens and tokens into bytes, and a
//! [`Constraint`] limits which tokens may come next. Nothing here depends on an engine, a file format or a grammar;
//! [`crate::load`] is the one place that knows every engine.
//!
//! Everything here is synchronous: load a model, [`Engine::admit`] sequences, [`Engine::step`] all of them together,
//! [`Engine::release`] a finished one.
//!
//! An engine keeps nothing that another worker could not rebuild. The next token is a function of the tokens so far and of
//! the sampling parameters (see [`crate::sample`]), so a sequence that is admitted with the tokens of a lost worker
//! continues exactly as that worker would have continued it.

mod chat;
mod constraint;
mod engine;
mod load;
mod text;

pub use self::{
    chat::Chat,
    constraint::Constraint,
    engine::{Engine, EngineStats, Sequence, SequenceId},
    load::{LoadOptions, LoadProgress, Loaded, TemplateLimits},
    text::Text,
};
