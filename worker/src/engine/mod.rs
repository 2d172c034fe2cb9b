//! The engines. Each implements [`crate::contract::Engine`] and has a [`crate::contract::Text`].
//!
//! To add an engine: implement both traits in a folder beside `decoder`, and choose it in [`crate::load`].

mod admission;
pub(crate) mod choose;
pub(crate) mod decoder;
pub(crate) mod encoder;
pub mod mock;
mod weights;
