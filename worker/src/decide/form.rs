//! The grammar of an answer that is to have a form.
//!
//! A form is the whole answer, but for a thought before it. A call that is demanded is a form too: the words around its
//! arguments stand as the model's family writes them, and its arguments fit their schema.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use rbee_schema::{OutputFormat, Tool};
use serde_json::{Value, json};

use super::{
    format::{Body, CallFormat, Marks},
    parts::Expected,
};

/// White space in JSON, at any place where it may be: as people indent it, but not so much that an answer is nothing else.
const WHITE_SPACE: &str = r"[ \t]{1,4}|\r?\n[ \t]{0,40}";

/// What an answer is to be.
#[derive(Debug, Clone, Default)]
pub struct Form<'a> {
    /// The form that was asked for.
    pub shape: Option<OutputFormat>,
    /// The tools that may be called.
    pub tools: Vec<&'a Tool>,
    /// Whether one of them must be.
    pub is_call: bool,
}

/// The grammar of a form; `None` where any text will do.
pub fn grammar(form: Form<'_>, expected: &Expected) -> Option<TopLevelGrammar> {
    let calls = expected.format.calls.filter(|_| !form.tools.is_empty());
    let (shape, calls) = match (form.shape, form.is_call, calls) {
        (None, false, _) => return None,
        (shape, false, calls) => (shape, calls),
        (_, true, calls) => (None, calls),
    };
    let mut grammars = vec![GrammarWithLexer::default()];
    let mut ways = Vec::new();
    if let Some(shape) = shape {
        grammars.push(named("form", of_shape(shape)));
        ways.push("@form".to_owned());
    }
    if let Some(format) = calls {
        for (index, tool) in form.tools.iter().enumerate() {
            grammars.push(named(&format!("arguments{index}"), of_arguments(tool)));
        }
        ways.push(of_calls(&format, &form.tools, expected.one_call));
    }
    let rules = match expected.format.thoughts {
        // The whole answer is one form: no other grammar around it.
        None if ways == ["@form"] => {
            return Some(TopLevelGrammar { grammars: vec![grammars.remove(1)], max_tokens: None });
        }
        None => format!("start: {}\n", ways.join(" | ")),
        Some(marks) => of_thought(marks, expected.in_thought, &ways.join(" | ")),
    };
    grammars[0] = GrammarWithLexer::from_lark(rules);
    Some(TopLevelGrammar { grammars, max_tokens: None })
}

fn named(name: &str, grammar: GrammarWithLexer) -> GrammarWithLexer {
    GrammarWithLexer { name: Some(name.to_owned()), ..grammar }
}

fn of_shape(shape: OutputFormat) -> GrammarWithLexer {
    match shape {
        OutputFormat::Json(schema) => of_schema(schema),
        OutputFormat::Regex(expression) => GrammarWithLexer::from_regex(&expression),
        OutputFormat::Choice(texts) => GrammarWithLexer::from_lark(format!("start: {}", alternatives(&texts))),
        OutputFormat::Grammar(grammar) => GrammarWithLexer::from_lark(grammar),
    }
}

/// What the schema does not say itself: `oneOf` is read as `anyOf`, as whether a second one fits is known only at the end.
fn of_schema(mut schema: Value) -> GrammarWithLexer {
    if let Some(object) = schema.as_object_mut() {
        let options = json!({ "whitespace_pattern": WHITE_SPACE, "coerce_one_of": true });
        object.entry("x-guidance").or_insert(options);
    }
    GrammarWithLexer::from_json_schema(schema)
}

/// Arguments are an object, whether their schema says so or not.
fn of_arguments(tool: &Tool) -> GrammarWithLexer {
    let mut schema = tool.function.parameters.clone().unwrap_or_default();
    schema.entry("type").or_insert_with(|| "object".into());
    of_schema(Value::Object(schema))
}

/// A thought, if the model has one, and then one of these.
fn of_thought(marks: Marks, in_thought: bool, ways: &str) -> String {
    let (open, close) = (quoted(marks.open), quoted(marks.close));
    let begin = if in_thought { "thought".to_owned() } else { format!("({open} thought)?") };
    // Lazy: it ends with the first of its marks.
    format!(
        "start: {begin} ({ways})\nthought: inner SPACE?\ninner[suffix={close}]: /(.|\\n)*/\nSPACE: /[ \\n]{{1,4}}/\n"
    )
}

/// Calls, as the family writes them.
fn of_calls(format: &CallFormat, tools: &[&Tool], one_call: bool) -> String {
    let (open, close, space) = (quoted(format.marks.open), quoted(format.marks.close), quoted(format.space));
    let call = |index: usize, tool: &Tool| {
        let name = Value::from(tool.function.name.as_str());
        match format.body {
            Body::Object { arguments } => object(&name, arguments, index),
            Body::List => object(&name, "arguments", index),
            Body::Named(mark) => format!("{} {} @arguments{index}", quoted(&tool.function.name), quoted(mark)),
        }
    };
    let bodies: Vec<String> = tools.iter().enumerate().map(|(index, tool)| call(index, tool)).collect();
    let body = format!("({})", bodies.join(" | "));
    let (one, between) = match format.body {
        Body::List => (body, r#"", ""#.to_owned()),
        Body::Object { .. } if format.is_bare => (body, quoted(&format!("{} ", format.marks.close))),
        Body::Object { .. } | Body::Named(_) => (format!("{open} {space} {body} {space} {close}"), space),
    };
    let calls = if one_call { one } else { format!("{one} ({between} {one})*") };
    match format.body {
        Body::List => format!(r#"{open} "[" {calls} "]" {close}"#),
        Body::Object { .. } | Body::Named(_) => calls,
    }
}

fn object(name: &Value, arguments: &str, index: usize) -> String {
    let begin = format!(r#"{{"name": {name}, "{arguments}": "#);
    format!(r#"{} @arguments{index} "}}""#, quoted(&begin))
}

/// Texts as a grammar has them: it writes them as JSON does.
fn alternatives(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    quoted.join(" | ")
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
