//! Renders chats with the Jinja template of a model.
//!
//! Templates are written for Jinja in Python (<https://huggingface.co/docs/transformers/chat_templating>) and come with
//! the model file, which is not trusted, so instructions, recursion depth and output are limited. A template sees `messages`,
//! `add_generation_prompt`, `bos_token`, `eos_token`, `tools` (none if the request offers none), `documents` (always none), and
//! the `chat_template_kwargs` of the request.

use std::io::{self, Write};

use minijinja::{Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig, value::Serde};
use minijinja_contrib::pycompat::unknown_method_callback;
use rbee_schema::{Failure, FailureCode, Message, Role};

use super::{
    chat::TemplateChat,
    jinja::{self, ChatRefused},
};
use crate::{
    contract::{Chat, TemplateLimits},
    model_file::error::unsupported,
};

const NAME: &str = "chat template";

/// A chat template that has rendered a trial chat.
pub(in crate::text) struct Template {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    max_bytes: usize,
    /// True if the template expects the tools in the system message.
    reads_tools_from_system: bool,
}

impl Template {
    /// Compiles a template and renders a trial chat with it. `bos` and `eos` are the texts of the BOS and EOS tokens.
    ///
    /// # Errors
    /// `model-unsupported` if the template cannot be parsed, or uses a function or filter that is not supported.
    pub(in crate::text) fn new(source: &str, bos: &str, eos: &str, limits: TemplateLimits) -> Result<Self, Failure> {
        let mut environment = Environment::new();
        environment.set_syntax(python_syntax().map_err(|error| failure(&error))?);
        environment.set_fuel(Some(limits.steps));
        environment.set_recursion_limit(limits.depth);
        environment.set_unknown_method_callback(unknown_method_callback);
        jinja::add_extensions(&mut environment);
        let source = jinja::without_generation_blocks(source);
        let reads_tools_from_system = source.contains("message['tools']");
        environment.add_template_owned(NAME, source).map_err(|error| failure(&error))?;
        let (bos, eos) = (bos.to_owned(), eos.to_owned());
        let template = Self { environment, bos, eos, max_bytes: limits.bytes, reads_tools_from_system };
        let trial = [Message::new(Role::User, "Hi")];
        match template.render(TemplateChat::new(&Chat::new(&trial), &str::to_owned)?) {
            Err(failure) if failure.code != FailureCode::InvalidRequest => Err(failure),
            Ok(_) | Err(_) => Ok(template),
        }
    }

    /// Renders a chat into the text that the model continues with its answer.
    ///
    /// # Errors
    /// - `invalid-request`: the template refuses the chat by `raise_exception`, or rendering it exceeds the limits;
    /// - `model-unsupported`: the template fails in another way.
    pub(in crate::text) fn render(&self, chat: TemplateChat) -> Result<String, Failure> {
        let TemplateChat { messages, tools, values } =
            if self.reads_tools_from_system { chat.with_tools_in_system() } else { chat };
        let tools = Value::from(Serde(tools));
        let values = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => true,
            tools => tools.clone(),
            // SmolLM 3 distinguishes XML tools and Python tools. Tools of a request are of the first kind.
            xml_tools => tools,
            documents => Value::from(()),
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            ..Value::from(Serde(values))
        };
        let mut output = LimitedWriter { written: Vec::new(), max_bytes: self.max_bytes };
        let template = self.environment.get_template(NAME).map_err(|error| failure(&error))?;
        template.render_captured_to(values, &mut output).map_err(|error| failure(&error))?;
        String::from_utf8(output.written).map_err(|_| unsupported("the chat template writes bytes that are not UTF-8"))
    }
}

/// The syntax settings with which transformers renders templates.
fn python_syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn failure(error: &Error) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(ChatRefused(reason)) = current.downcast_ref() {
            let message = format!("the model's chat template refuses the chat: {reason}");
            return Failure::new(FailureCode::InvalidRequest, message);
        }
        cause = current.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel | ErrorKind::WriteFailure => Failure::new(
            FailureCode::InvalidRequest,
            "the chat exceeds the limits of rendering the model's chat template: send fewer or shorter messages",
        ),
        _ => unsupported(format!("the chat template fails: {error}")),
    }
}

/// Collects output up to a limit and fails beyond it.
struct LimitedWriter {
    written: Vec<u8>,
    max_bytes: usize,
}

impl Write for LimitedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written.len() + bytes.len() > self.max_bytes {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
