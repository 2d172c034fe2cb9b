//! Chat templates: they render a chat into the text that a model continues.

mod built_in;
mod chat;
mod jinja;
mod limits;
mod render;
#[cfg(test)]
mod tests;

pub use self::limits::TemplateLimits;
pub(super) use self::{built_in::built_in_template, chat::TemplateChat, render::Template};
