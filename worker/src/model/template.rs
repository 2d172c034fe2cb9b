//! Renders chats with the template that a model's file brings along.
//!
//! Templates are written for Jinja in Python (<https://huggingface.co/docs/transformers/chat_templating>) and come from
//! wherever the file comes from: how long one runs, how deep it recurses and how much it writes are bounded. It sees
//! `messages`, `add_generation_prompt`, `bos_token`, `eos_token`, `tools` (none where none are offered), `documents` that
//! are none, and whatever values a request brings along.

use std::io::{self, Write};

use minijinja::{Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig, value::Serde};
use minijinja_contrib::pycompat::unknown_method_callback;
use rbee_schema::{Failure, FailureCode, Message, Role};

use super::{
    dialect::{self, Refusal},
    turns::Turns,
    unsupported,
};
use crate::contract::{Chat, TemplateLimits};

const NAME: &str = "chat template";

/// A chat template that was tried out.
pub struct Template {
    environment: Environment<'static>,
    begin: String,
    end: String,
    /// Bytes that a rendering may write.
    most: usize,
    /// Whether it looks for tools in the system's message.
    has_tools_in_system: bool,
}

impl Template {
    /// A template, and the texts of the tokens with which texts begin and end.
    ///
    /// # Errors
    /// `model-unsupported` if it cannot be parsed, or uses what is not known here.
    pub fn new(source: &str, begin: &str, end: &str, limits: TemplateLimits) -> Result<Self, Failure> {
        let mut environment = Environment::new();
        environment.set_syntax(python_syntax().map_err(|error| failure(&error))?);
        environment.set_fuel(Some(limits.steps));
        environment.set_recursion_limit(limits.depth);
        environment.set_unknown_method_callback(unknown_method_callback);
        dialect::speak(&mut environment);
        environment.add_template_owned(NAME, dialect::without_marks(source)).map_err(|error| failure(&error))?;
        let has_tools_in_system = source.contains("message['tools']");
        let template =
            Self { environment, begin: begin.into(), end: end.into(), most: limits.bytes, has_tools_in_system };
        let greeting = [Message::new(Role::User, "Hi")];
        match template.render(Turns::new(&Chat::new(&greeting), &str::to_owned)?) {
            Err(failure) if failure.code != FailureCode::InvalidRequest => Err(failure),
            Ok(_) | Err(_) => Ok(template),
        }
    }

    /// The text that the model continues with its answer.
    ///
    /// # Errors
    /// - `invalid-request`: the template refuses the chat by `raise_exception`, or the chat is too much for its bounds;
    /// - `model-unsupported`: it fails in another way.
    pub fn render(&self, turns: Turns) -> Result<String, Failure> {
        let Turns { messages, tools, values } =
            if self.has_tools_in_system { turns.with_tools_in_system() } else { turns };
        let tools = Value::from(Serde(tools));
        let values = context! {
            messages => Value::from(Serde(messages)),
            add_generation_prompt => true,
            tools => tools.clone(),
            // SmolLM 3 knows two kinds of tools, and these are of that one.
            xml_tools => tools,
            documents => Value::from(()),
            bos_token => self.begin.as_str(),
            eos_token => self.end.as_str(),
            ..Value::from(Serde(values))
        };
        let mut output = Bounded { written: Vec::new(), most: self.most };
        let template = self.environment.get_template(NAME).map_err(|error| failure(&error))?;
        template.render_captured_to(values, &mut output).map_err(|error| failure(&error))?;
        String::from_utf8(output.written)
            .map_err(|_| unsupported("its chat template writes something that is not text"))
    }
}

/// The settings with which transformers renders templates.
fn python_syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
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
    use rbee_schema::{JobRequest, MAX_BODY_BYTES};
    use serde_json::json;

    use super::*;

    const CHATML: &str = "{% for message in messages %}
    {{ '<|im_start|>' + message['role'] + '\\n' + message.content | trim + '<|im_end|>\\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{% endif %}";

    fn turn(role: Role, content: &str) -> Message {
        Message::new(role, content)
    }

    fn turns(messages: &[Message]) -> Turns {
        Turns::new(&Chat::new(messages), &str::to_owned).expect("no calls")
    }

    fn render(source: &str, messages: &[Message]) -> Result<String, Failure> {
        Template::new(source, "<s>", "</s>", TemplateLimits::default())?.render(turns(messages))
    }

    #[test]
    fn a_template_renders_as_in_python() {
        let chat = [turn(Role::System, "Be brief."), turn(Role::User, " Hi ")];
        let expected = concat!(
            "    <|im_start|>system\nBe brief.<|im_end|>\n\n",
            "    <|im_start|>user\nHi<|im_end|>\n\n",
            "<|im_start|>assistant\n\n"
        );
        assert_eq!(render(CHATML, &chat).as_deref(), Ok(expected));
        let methods = "{{ bos_token }}\
            {% for m in messages if m.role.startswith('u') %}{{ m.content.strip().upper() }}{% endfor %}";
        assert_eq!(render(methods, &chat).as_deref(), Ok("<s>HI"));
    }

    /// The turns of [`a_template_may_use_what_those_of_known_models_use`].
    fn chat() -> Vec<Message> {
        vec![
            turn(Role::System, "Be brief."),
            turn(Role::User, "Hi"),
            turn(Role::Assistant, "<think>\nHm.\n</think>\n\nYes?"),
            turn(Role::User, "Why?"),
        ]
    }

    #[test]
    fn a_template_may_use_what_those_of_known_models_use() {
        for (source, expected) in [
            // What is said before is looked at from the end, and the last question is remembered in a namespace.
            (
                "{%- set ns = namespace(last=messages|length - 1, open=true) -%}
                {%- for message in messages[::-1] -%}
                    {%- set index = (messages|length - 1) - loop.index0 -%}
                    {%- if ns.open and message.role == 'user' and message.content is string
                        and not (message.content.startswith('<tool_response>')) -%}
                        {%- set ns.open = false -%}{%- set ns.last = index -%}
                    {%- endif -%}
                {%- endfor -%}
                {{- ns.last }}",
                "3",
            ),
            // Thoughts of earlier turns are left out.
            (
                "{%- for m in messages if m.role == 'assistant' -%}
                    {%- if '</think>' in m.content -%}
                        {{- m.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') ~ '|' -}}
                        {{- m.content.split('</think>')[-1].lstrip('\\n') -}}
                    {%- endif -%}
                {%- endfor -%}",
                "Hm.|Yes?",
            ),
            // Macros, the system's message apart, and neighbours of a loop.
            (
                "{%- macro turn(role, text='') -%}[{{ role }}:{{ text | trim }}]{%- endmacro -%}
                {%- if messages[0]['role'] == 'system' -%}
                    {%- set system = messages[0]['content'] -%}{%- set rest = messages[1:] -%}
                {%- else -%}{%- set rest = messages -%}{%- endif -%}
                {%- for m in rest -%}
                    {%- if loop.first -%}{{ turn('user', system ~ ' ' ~ m.content) }}
                    {%- elif (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('order') }}
                    {%- else -%}{{ turn(m.role, text=m.role) }}{%- endif -%}
                    {%- if loop.last or (loop.nextitem and loop.nextitem.role != m.role) -%};{%- endif -%}
                {%- endfor -%}",
                "[user:Be brief. Hi];[assistant:assistant];[user:user];",
            ),
            // Tools and documents are none; what a message lacks is not defined.
            (
                "{%- if not tools is defined %}{%- set tools = none %}{%- endif -%}
                {%- if tools is not none or documents -%}tools{%- endif -%}
                {%- for m in messages -%}
                    {%- if m.tool_calls is defined or m['reasoning_content'] -%}calls{%- endif -%}
                {%- endfor -%}
                {{- custom_tools | default('none') }}, {{ enable_thinking is defined and enable_thinking is false }}",
                "none, False",
            ),
            // What an assistant says is marked for training, and a date is asked for where there is one.
            (
                "{%- if strftime_now is defined -%}{%- set year = strftime_now('%Y') -%}{%- endif -%}
                {%- for m in messages -%}
                    {%- if m.role == 'assistant' -%}{%- generation -%}{{ year | length }}{%- endgeneration -%}
                    {%- else -%}{%- continue -%}{%- endif -%}
                {%- endfor -%}",
                "4",
            ),
            (
                "{%- for key, value in {'a': 1}.items() -%}{{ key }}={{ value }}{%- endfor -%}
                {{- messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(',') -}}
                {{- messages[0] | tojson }}",
                r#"a=1Hi,Why?{"role": "system", "content": "Be brief."}"#,
            ),
        ] {
            assert_eq!(render(source, &chat()).as_deref(), Ok(expected), "{source}");
        }
    }

    /// A question with a tool, a call of it, and its result.
    fn about_the_sun() -> JobRequest {
        let body = json!({
            "messages": [
                { "role": "user", "content": "When does it rise?" },
                { "role": "assistant", "content": null, "tool_calls": [
                    { "id": "abc123xyz", "type": "function", "function":
                        { "name": "sun", "arguments": "{\"town\": \"Ulm\", \"at\": 1.5}" } },
                ] },
                { "role": "tool", "tool_call_id": "abc123xyz", "name": "sun", "content": "6:42" },
            ],
            "tools": [{ "type": "function", "function": {
                "name": "sun", "description": "When it rises.",
                "parameters": { "type": "object", "properties": { "town": { "type": "string" } }, "required": ["town"] },
            } }],
            "chat_template_kwargs": { "enable_thinking": false, "bos_token": "mine" },
        });
        JobRequest::from_json(body.to_string().as_bytes()).expect("valid")
    }

    #[test]
    fn a_template_sees_tools_calls_and_results_as_in_transformers() {
        for (source, expected) in [
            (
                "{%- for tool in tools -%}{{ tool | tojson }}{%- endfor -%}",
                concat!(
                    r#"{"type": "function", "function": {"name": "sun", "description": "When it rises.", "parameters": "#,
                    r#"{"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}}}"#
                ),
            ),
            (
                "{%- for m in messages if m.tool_calls -%}{%- for call in m.tool_calls -%}
                    {%- if call.function -%}{%- set call = call.function -%}{%- endif -%}
                    {{- '{\"name\": \"' ~ call.name ~ '\", \"arguments\": ' }}
                    {{- call.arguments if call.arguments is string else call.arguments | tojson }}}
                {%- endfor -%}{%- endfor -%}",
                r#"{"name": "sun", "arguments": {"town": "Ulm", "at": 1.5}}"#,
            ),
            (
                "{%- for m in messages -%}{{ m.role }}{{ m.tool_call_id | default('-') }}{{ m.name | default('-') }};
                {%- endfor -%}",
                "user--;assistant--;toolabc123xyzsun;",
            ),
            (
                "{%- for m in messages if m.tool_calls -%}{{ m.content | length }}{{ m.tool_calls[0].id }}{%- endfor -%}",
                "0abc123xyz",
            ),
            ("{{ xml_tools is none }}{{ tools is none }}", "FalseFalse"),
            ("{{ enable_thinking }}{{ bos_token }}", "False<s>"),
            // Phi 4 mini looks for them in `message['tools']`, as a text.
            (
                "{%- for message in messages if message.role == 'system' and 'tools' in message -%}
                    {{ message.role }}:{{ message['tools'] is string }}{%- endfor -%}",
                "system:True",
            ),
        ] {
            let request = about_the_sun();
            let turns = Turns::new(&Chat::from(&request), &str::to_owned).expect("sound");
            let rendered = Template::new(source, "<s>", "</s>", TemplateLimits::default())
                .and_then(|template| template.render(turns));
            assert_eq!(rendered.as_deref(), Ok(expected), "{source}");
        }
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
            let failure = Template::new(source, "", "", TemplateLimits::default()).err().expect(source);
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
            let template = Template::new(source, "", "", TemplateLimits::default());
            let rendered = template.and_then(|template| template.render(turns(&[turn(Role::User, "x")])));
            assert!(rendered.is_err(), "{source}");
        }
    }

    #[test]
    fn each_bound_can_be_set() {
        let chat = vec![turn(Role::User, "x"); 10];
        let render = |settings: &str, source: &str| {
            let limits = TemplateLimits::from(&settings.parse().expect("settings"));
            Template::new(source, "", "", limits).and_then(|template| template.render(turns(&chat)))
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
        let chat = vec![turn(Role::User, "x"); MAX_BODY_BYTES / 30];
        assert!(render(CHATML, &chat).is_ok());
    }
}
