//! The grammar of an answer that is to have a form.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use rbee_schema::Shape;
use serde_json::{Value, json};

/// White space in JSON, at any place where it may be: as people indent it, but not so much that an answer is nothing else.
const WHITE_SPACE: &str = r"[ \t]{1,4}|\r?\n[ \t]{0,40}";

/// The grammar of a form.
pub fn grammar(shape: Shape) -> TopLevelGrammar {
    TopLevelGrammar::from_grammar(match shape {
        Shape::Json(schema) => GrammarWithLexer::from_json_schema(with_options(schema)),
        Shape::Regex(expression) => GrammarWithLexer::from_regex(&expression),
        Shape::Choice(texts) => GrammarWithLexer::from_lark(format!("start: {}", alternatives(&texts))),
        Shape::Grammar(grammar) => GrammarWithLexer::from_lark(grammar),
    })
}

/// What the schema does not say itself. `oneOf` is read as `anyOf`: whether a second one fits is known only at the end.
fn with_options(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        let options = json!({ "whitespace_pattern": WHITE_SPACE, "coerce_one_of": true });
        object.entry("x-guidance").or_insert(options);
    }
    schema
}

/// Texts as a grammar has them: it writes them as JSON does.
fn alternatives(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| Value::from(text.as_str()).to_string()).collect();
    quoted.join(" | ")
}
