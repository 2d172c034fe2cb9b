//! The grammar of an answer with an output format or a required tool call.
//!
//! The grammar covers the whole answer, except the reasoning before it. A required tool call has a grammar too: its marks are
//! those of the model's markup, and its arguments fit the schema of the tool.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use rbee_schema::{OutputFormat, Tool};
use serde_json::{Value, json};

use super::{
    markup::{CallBody, CallMarkup, Marks},
    output_parser::ExpectedOutput,
};

/// White space between JSON tokens: as much as people use for indentation, but not so much that an answer consists of it.
const WHITE_SPACE: &str = r"[ \t]{1,4}|\r?\n[ \t]{0,40}";

/// Requirements of a request on its answer.
#[derive(Debug, Clone, Default)]
pub struct Requirements<'a> {
    /// Requested output format; `None` for any text.
    pub format: Option<OutputFormat>,
    /// Tools that may be called.
    pub tools: Vec<&'a Tool>,
    /// True if the answer must be a call of one of the tools.
    pub must_call: bool,
}

/// The grammar that holds an answer to its requirements; `None` if any text fulfills them.
pub fn grammar(requirements: Requirements<'_>, expected: &ExpectedOutput) -> Option<TopLevelGrammar> {
    let Requirements { format, tools, must_call } = requirements;
    let calls = expected.markup.calls.filter(|_| !tools.is_empty());
    let (format, calls) = match (format, must_call, calls) {
        (None, false, _) => return None,
        (format, false, calls) => (format, calls),
        (_, true, calls) => (None, calls),
    };
    let mut grammars = vec![GrammarWithLexer::default()];
    let mut alternatives = Vec::new();
    if let Some(format) = format {
        grammars.push(named("format", of_format(format)));
        alternatives.push("@format".to_owned());
    }
    if let Some(markup) = calls {
        for (index, tool) in tools.iter().enumerate() {
            grammars.push(named(&format!("arguments{index}"), of_arguments(tool)));
        }
        alternatives.push(of_calls(&markup, &tools, expected.one_call));
    }
    let rules = match expected.markup.reasoning {
        // The output format is the whole answer and needs no grammar around it.
        None if alternatives == ["@format"] => {
            return Some(TopLevelGrammar { grammars: vec![grammars.remove(1)], max_tokens: None });
        }
        None => format!("start: {}\n", alternatives.join(" | ")),
        Some(marks) => of_reasoning(marks, expected.in_reasoning, &alternatives.join(" | ")),
    };
    grammars[0] = GrammarWithLexer::from_lark(rules);
    Some(TopLevelGrammar { grammars, max_tokens: None })
}

fn named(name: &str, grammar: GrammarWithLexer) -> GrammarWithLexer {
    GrammarWithLexer { name: Some(name.to_owned()), ..grammar }
}

fn of_format(format: OutputFormat) -> GrammarWithLexer {
    match format {
        OutputFormat::Json(schema) => of_schema(schema),
        OutputFormat::Regex(expression) => GrammarWithLexer::from_regex(&expression),
        OutputFormat::Choice(texts) => GrammarWithLexer::from_lark(format!("start: {}", any_of(&texts))),
        OutputFormat::Grammar(grammar) => GrammarWithLexer::from_lark(grammar),
    }
}

/// The grammar of a JSON Schema. `oneOf` is read as `anyOf`, because only a complete document shows whether a second
/// alternative fits as well. A schema may set its own options in `x-guidance`.
fn of_schema(mut schema: Value) -> GrammarWithLexer {
    if let Some(object) = schema.as_object_mut() {
        let options = json!({ "whitespace_pattern": WHITE_SPACE, "coerce_one_of": true });
        object.entry("x-guidance").or_insert(options);
    }
    GrammarWithLexer::from_json_schema(schema)
}

/// The grammar of a tool's arguments. They are an object, even if the schema does not say so.
fn of_arguments(tool: &Tool) -> GrammarWithLexer {
    let mut schema = tool.function.parameters.clone().unwrap_or_default();
    schema.entry("type").or_insert_with(|| "object".into());
    of_schema(Value::Object(schema))
}

/// Optional reasoning, and then one of the alternatives.
fn of_reasoning(marks: Marks, in_reasoning: bool, alternatives: &str) -> String {
    let (open, close) = (quoted(marks.open), quoted(marks.close));
    let begin = if in_reasoning { "reasoning".to_owned() } else { format!("({open} reasoning)?") };
    // Lazy: the reasoning ends with the first closing mark.
    format!(
        "start: {begin} ({alternatives})\nreasoning: inner SPACE?\ninner[suffix={close}]: /(.|\\n)*/\nSPACE: /[ \\n]{{1,4}}/\n"
    )
}

/// Tool calls in the model's markup.
fn of_calls(markup: &CallMarkup, tools: &[&Tool], one_call: bool) -> String {
    let (open, close, space) = (quoted(markup.marks.open), quoted(markup.marks.close), quoted(markup.space));
    let call = |index: usize, tool: &Tool| {
        let name = Value::from(tool.function.name.as_str());
        match markup.body {
            CallBody::Object { arguments } => object(&name, arguments, index),
            CallBody::List => object(&name, "arguments", index),
            CallBody::Named(mark) => format!("{} {} @arguments{index}", quoted(&tool.function.name), quoted(mark)),
        }
    };
    let bodies: Vec<String> = tools.iter().enumerate().map(|(index, tool)| call(index, tool)).collect();
    let body = format!("({})", bodies.join(" | "));
    let (one, between) = match markup.body {
        CallBody::List => (body, r#"", ""#.to_owned()),
        CallBody::Object { .. } if markup.is_bare => (body, quoted(&format!("{} ", markup.marks.close))),
        CallBody::Object { .. } | CallBody::Named(_) => (format!("{open} {space} {body} {space} {close}"), space),
    };
    let calls = if one_call { one } else { format!("{one} ({between} {one})*") };
    match markup.body {
        CallBody::List => format!(r#"{open} "[" {calls} "]" {close}"#),
        CallBody::Object { .. } | CallBody::Named(_) => calls,
    }
}

fn object(name: &Value, arguments: &str, index: usize) -> String {
    let begin = format!(r#"{{"name": {name}, "{arguments}": "#);
    format!(r#"{} @arguments{index} "}}""#, quoted(&begin))
}

/// One of these texts.
fn any_of(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    quoted.join(" | ")
}

/// A text as a string literal of the grammar, which has the syntax of JSON strings.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
