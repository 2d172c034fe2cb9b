//! Chat templates: they render a chat into the text that a model continues.

mod built_in;
mod chat;
mod jinja;
mod render;
#[cfg(test)]
mod tests;

pub(super) use self::{built_in::built_in_template, chat::TemplateChat, render::Template};
