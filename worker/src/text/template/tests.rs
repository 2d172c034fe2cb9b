//! Templates render as in Python, and within their limits.

use rbee_schema::{Failure, FailureCode, JobRequest, MAX_BODY_BYTES, Message, Role};
use serde_json::json;

use super::{Template, TemplateChat};
use crate::contract::{Chat, TemplateLimits};

const CHATML: &str = "{% for message in messages %}
    {{ '<|im_start|>' + message['role'] + '\\n' + message.content | trim + '<|im_end|>\\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{% endif %}";

fn message(role: Role, content: &str) -> Message {
    Message::new(role, content)
}

fn chat(messages: &[Message]) -> TemplateChat {
    TemplateChat::new(&Chat::new(messages), &str::to_owned).expect("no calls")
}

fn render(source: &str, messages: &[Message]) -> Result<String, Failure> {
    Template::new(source, "<s>", "</s>", TemplateLimits::default())?.render(chat(messages))
}

#[test]
fn template_renders_as_in_python() {
    let messages = [message(Role::System, "Be brief."), message(Role::User, " Hi ")];
    let expected = concat!(
        "    <|im_start|>system\nBe brief.<|im_end|>\n\n",
        "    <|im_start|>user\nHi<|im_end|>\n\n",
        "<|im_start|>assistant\n\n"
    );
    assert_eq!(render(CHATML, &messages).as_deref(), Ok(expected));
    let methods = "{{ bos_token }}\
        {% for m in messages if m.role.startswith('u') %}{{ m.content.strip().upper() }}{% endfor %}";
    assert_eq!(render(methods, &messages).as_deref(), Ok("<s>HI"));
}

/// The messages of [`idioms_of_known_templates_are_supported`].
fn messages() -> Vec<Message> {
    vec![
        message(Role::System, "Be brief."),
        message(Role::User, "Hi"),
        message(Role::Assistant, "<think>\nHm.\n</think>\n\nYes?"),
        message(Role::User, "Why?"),
    ]
}

#[test]
fn idioms_of_known_templates_are_supported() {
    for (source, expected) in [
        // Messages are visited from the end, and the last question is kept in a namespace.
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
        // The reasoning of earlier turns is left out.
        (
            "{%- for m in messages if m.role == 'assistant' -%}
                {%- if '</think>' in m.content -%}
                    {{- m.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') ~ '|' -}}
                    {{- m.content.split('</think>')[-1].lstrip('\\n') -}}
                {%- endif -%}
            {%- endfor -%}",
            "Hm.|Yes?",
        ),
        // Macros, a separate system message, and the neighbors in a loop.
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
        // Tools and documents are none; absent fields of a message are undefined.
        (
            "{%- if not tools is defined %}{%- set tools = none %}{%- endif -%}
            {%- if tools is not none or documents -%}tools{%- endif -%}
            {%- for m in messages -%}
                {%- if m.tool_calls is defined or m['reasoning_content'] -%}calls{%- endif -%}
            {%- endfor -%}
            {{- custom_tools | default('none') }}, {{ enable_thinking is defined and enable_thinking is false }}",
            "none, False",
        ),
        // The text of an assistant is marked for training, and the date is read where it is supported.
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
        assert_eq!(render(source, &messages()).as_deref(), Ok(expected), "{source}");
    }
}

/// A question, a tool call, and the result of the call.
fn request_with_tool_call() -> JobRequest {
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
fn tools_calls_and_results_are_rendered_as_in_transformers() {
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
        // Phi 4 mini reads the tools as a text in `message['tools']`.
        (
            "{%- for message in messages if message.role == 'system' and 'tools' in message -%}
                {{ message.role }}:{{ message['tools'] is string }}{%- endfor -%}",
            "system:True",
        ),
    ] {
        let request = request_with_tool_call();
        let chat = TemplateChat::new(&Chat::from(&request), &str::to_owned).expect("sound");
        let template = Template::new(source, "<s>", "</s>", TemplateLimits::default());
        let rendered = template.and_then(|template| template.render(chat));
        assert_eq!(rendered.as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn template_can_refuse_a_chat() {
    let source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}ok";
    let failure = render(source, &[message(Role::System, "x")]).expect_err("refused");
    assert_eq!(failure.code, FailureCode::InvalidRequest);
    assert!(failure.message.ends_with("no system messages"), "{failure}");
    assert_eq!(render(source, &[message(Role::User, "x")]).as_deref(), Ok("ok"));
}

#[test]
fn unusable_template_is_refused_when_it_is_compiled() {
    for (source, reason) in [
        ("{% for %}", "syntax error"),
        ("{{ frobnicate(messages) }}", "frobnicate is unknown"),
        ("{{ messages | frobnicate }}", "filter frobnicate is unknown"),
        ("{% include 'x' %}", "template not found"),
    ] {
        let failure = Template::new(source, "", "", TemplateLimits::default()).err().expect(source);
        assert_eq!(failure.code, FailureCode::ModelUnsupported, "{failure}");
        assert!(failure.message.contains(reason), "expected `{reason}`: {failure}");
    }
}

#[test]
fn runaway_template_is_stopped() {
    for (source, code, reason) in [
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a * b %}{% endfor %}{% endfor %}",
            FailureCode::InvalidRequest,
            "exceeds the limits",
        ),
        ("{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}", FailureCode::InvalidRequest, "exceeds the limits"),
        ("{{ 'x' * 99999999999 }}", FailureCode::ModelUnsupported, "repeated string is too large"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", FailureCode::ModelUnsupported, "recursion limit"),
    ] {
        let failure = render(source, &[message(Role::User, "x")]).expect_err(source);
        assert_eq!(failure.code, code, "{source}: {failure}");
        assert!(failure.message.contains(reason), "expected `{reason}`: {failure}");
    }
}

#[test]
fn each_limit_can_be_set() {
    let messages = vec![message(Role::User, "x"); 10];
    let render = |settings: &str, source: &str| {
        let limits = TemplateLimits::from(&settings.parse().expect("settings"));
        Template::new(source, "", "", limits).and_then(|template| template.render(chat(&messages)))
    };
    assert!(render("", CHATML).is_ok());
    for settings in ["template_steps=100", "template_size=100B"] {
        let failure = render(settings, CHATML).expect_err(settings);
        assert_eq!(failure.code, FailureCode::InvalidRequest, "{settings}: {failure}");
        assert!(failure.message.contains("exceeds the limits"), "{settings}: {failure}");
    }
    let deep = "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(10) }}";
    assert!(render("", deep).is_ok());
    let failure = render("template_depth=5", deep).expect_err("too deep");
    assert!(failure.message.contains("recursion limit"), "{failure}");
}

#[test]
fn chat_of_the_largest_size_is_rendered() {
    let messages = vec![message(Role::User, "x"); MAX_BODY_BYTES / 30];
    let rendered = render(CHATML, &messages).expect("renders");
    assert_eq!(rendered.matches("user").count(), messages.len());
}
