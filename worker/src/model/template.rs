//! Renders chats with the template that a model's file brings along.
//!
//! Templates are written for Jinja in Python (<https://huggingface.co/docs/transformers/chat_templating>) and come from
//! wherever the file comes from: how long one runs, how deep it recurses and how much it writes are bounded. It sees
//! `messages`, `add_generation_prompt`, `bos_token` and `eos_token`, and may call `raise_exception`.

use std::{
    fmt,
    io::{self, Write},
};

use minijinja::{Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig};
use minijinja_contrib::pycompat::unknown_method_callback;
use rbee_schema::{Failure, FailureCode, Role, WorkerSettings};

use super::unsupported;

const NAME: &str = "chat template";

/// How much a rendering may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Instructions.
    pub steps: u64,
    /// Nested calls and loops.
    pub depth: usize,
    /// Bytes that are written.
    pub bytes: usize,
}

/// A chat template that was tried out.
pub struct Template {
    environment: Environment<'static>,
    begin: String,
    end: String,
    /// Bytes that a rendering may write.
    most: usize,
}

/// A message as templates see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

impl Bounds {
    /// What the settings of a worker say.
    pub fn of(settings: &WorkerSettings) -> Self {
        Self {
            steps: u64::from(settings.template_steps),
            depth: settings.template_depth as usize,
            bytes: usize::try_from(settings.template_size.bytes()).unwrap_or(usize::MAX),
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::of(&WorkerSettings::default())
    }
}

impl Template {
    /// A template, and the texts of the tokens with which texts begin and end.
    ///
    /// # Errors
    /// `model-unsupported` if it cannot be parsed, or uses what is not known here.
    pub fn new(source: &str, begin: &str, end: &str, bounds: Bounds) -> Result<Self, Failure> {
        let mut environment = Environment::new();
        environment.set_syntax(python_syntax().map_err(|error| failure(&error))?);
        environment.set_fuel(Some(bounds.steps));
        environment.set_recursion_limit(bounds.depth);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| failure(&error))?;
        let template = Self { environment, begin: begin.into(), end: end.into(), most: bounds.bytes };
        match template.render(&[Turn { role: Role::User, content: "Hi".into() }]) {
            Err(failure) if failure.code != FailureCode::InvalidRequest => Err(failure),
            Ok(_) | Err(_) => Ok(template),
        }
    }

    /// The text that the model continues with its answer.
    ///
    /// # Errors
    /// - `invalid-request`: the template refuses the chat by `raise_exception`, or the chat is too much for its bounds;
    /// - `model-unsupported`: it fails in another way.
    pub fn render(&self, turns: &[Turn]) -> Result<String, Failure> {
        let messages: Vec<Value> = turns.iter().map(Turn::value).collect();
        let values = context! {
            messages => messages,
            add_generation_prompt => true,
            bos_token => self.begin.as_str(),
            eos_token => self.end.as_str(),
        };
        let mut output = Bounded { written: Vec::new(), most: self.most };
        let template = self.environment.get_template(NAME).map_err(|error| failure(&error))?;
        template.render_captured_to(values, &mut output).map_err(|error| failure(&error))?;
        String::from_utf8(output.written)
            .map_err(|_| unsupported("its chat template writes something that is not text"))
    }
}

impl Turn {
    fn value(&self) -> Value {
        let role = match self.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        context! { role => role, content => self.content.as_str() }
    }
}

/// The settings with which transformers renders templates.
fn python_syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(message)))
}

fn failure(error: &Error) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(Refusal(words)) = current.downcast_ref() {
            let message = format!("the model's chat template refuses the chat: {words}");
            return Failure::new(FailureCode::InvalidRequest, message);
        }
        cause = current.source();
    }
    match error.kind() {
        ErrorKind::OutOfFuel | ErrorKind::WriteFailure => Failure::new(
            FailureCode::InvalidRequest,
            "the chat is too much for the model's chat template: send fewer or shorter messages",
        ),
        _ => unsupported(format!("its chat template fails: {error}")),
    }
}

/// Why a template refuses a chat, in its own words.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// Takes so many bytes and no more.
struct Bounded {
    written: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written.len() + bytes.len() > self.most {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rbee_schema::MAX_BODY_BYTES;

    use super::*;

    const CHATML: &str = "{% for message in messages %}
    {{ '<|im_start|>' + message['role'] + '\\n' + message.content | trim + '<|im_end|>\\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{% endif %}";

    fn turn(role: Role, content: &str) -> Turn {
        Turn { role, content: content.into() }
    }

    fn render(source: &str, turns: &[Turn]) -> Result<String, Failure> {
        Template::new(source, "<s>", "</s>", Bounds::default())?.render(turns)
    }

    #[test]
    fn a_template_renders_as_in_python() {
        let turns = [turn(Role::System, "Be brief."), turn(Role::User, " Hi ")];
        let expected = concat!(
            "    <|im_start|>system\nBe brief.<|im_end|>\n\n",
            "    <|im_start|>user\nHi<|im_end|>\n\n",
            "<|im_start|>assistant\n\n"
        );
        assert_eq!(render(CHATML, &turns).as_deref(), Ok(expected));
        let methods = "{{ bos_token }}\
            {% for m in messages if m.role.startswith('u') %}{{ m.content.strip().upper() }}{% endfor %}";
        assert_eq!(render(methods, &turns).as_deref(), Ok("<s>HI"));
    }

    #[test]
    fn a_template_may_refuse_a_chat() {
        let source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}ok";
        let failure = render(source, &[turn(Role::System, "x")]).expect_err("refused");
        assert_eq!(failure.code, FailureCode::InvalidRequest);
        assert!(failure.message.ends_with("no system messages"), "{failure}");
        assert_eq!(render(source, &[turn(Role::User, "x")]).as_deref(), Ok("ok"));
    }

    #[test]
    fn a_template_that_cannot_be_used_is_refused_at_once() {
        for source in ["{% for %}", "{{ frobnicate(messages) }}", "{{ messages | frobnicate }}", "{% include 'x' %}"] {
            let failure = Template::new(source, "", "", Bounds::default()).err().expect(source);
            assert_eq!(failure.code, FailureCode::ModelUnsupported, "{failure}");
        }
    }

    #[test]
    fn a_template_that_runs_away_is_stopped() {
        for source in [
            "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a * b %}{% endfor %}{% endfor %}",
            "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
            "{{ 'x' * 99999999999 }}",
            "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        ] {
            let template = Template::new(source, "", "", Bounds::default());
            let rendered = template.and_then(|template| template.render(&[turn(Role::User, "x")]));
            assert!(rendered.is_err(), "{source}");
        }
    }

    #[test]
    fn each_bound_can_be_set() {
        let turns = vec![turn(Role::User, "x"); 10];
        let render = |settings: &str, source: &str| {
            let bounds = Bounds::of(&settings.parse().expect("settings"));
            Template::new(source, "", "", bounds).and_then(|template| template.render(&turns))
        };
        assert!(render("", CHATML).is_ok());
        for settings in ["template_steps=100", "template_size=100B"] {
            let failure = render(settings, CHATML).expect_err(settings);
            assert_eq!(failure.code, FailureCode::InvalidRequest, "{settings}: {failure}");
        }
        let deep = "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(10) }}";
        assert!(render("", deep).is_ok() && render("template_depth=5", deep).is_err());
    }

    #[test]
    fn a_chat_of_the_largest_size_is_rendered() {
        let turns = vec![turn(Role::User, "x"); MAX_BODY_BYTES / 30];
        assert!(render(CHATML, &turns).is_ok());
    }
}
