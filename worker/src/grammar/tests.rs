//! The rules of forms, in the vocabulary of the test engine: every byte is a token of it, and some words.

use llguidance::api::TopLevelGrammar;
use proptest::prelude::*;
use rbee_schema::{ModelReference, OutputFormat, Sampling, Tool};
use serde_json::{Value, json};

use super::*;
use crate::{
    decide::{
        form::{self, Form},
        format::{AnswerFormat, CallFormat, HERMES, LLAMA, MISTRAL, MISTRAL_NAMED, PHI, THINK},
        parts::Expected,
    },
    engine::{LoadOptions, load},
    sample::choose,
};

/// The grammar of a form that nothing else is expected beside.
fn grammar(shape: &OutputFormat) -> TopLevelGrammar {
    form::grammar(Form { shape: Some(shape.clone()), ..Form::default() }, &Expected::default()).expect("a form")
}

fn text() -> Arc<dyn Text> {
    let options = LoadOptions { slots: 1, ..LoadOptions::default() };
    load(&ModelReference::Mock(String::new()), &options, &mut |_| {}).expect("loads").text
}

/// The tokens of a text, byte by byte, and the end.
fn tokens(text: &str, end: u32) -> Vec<u32> {
    text.bytes().map(u32::from).chain([end]).collect()
}

/// Whether an answer of this form may be this text.
fn fits(grammar: TopLevelGrammar, answer: &str) -> bool {
    let mut constraint = Grammars::new(text()).constraint(grammar, &[]).expect("possible");
    tokens(answer, text().ends()[0]).into_iter().all(|token| {
        let is_allowed = constraint.allowed().expect("it goes on").holds(token);
        is_allowed && constraint.accept(token).is_ok()
    })
}

/// A random answer of this form: noise that a model may have made, which wants to end after `wanted` tokens.
fn answer(grammars: &Grammars, shape: &OutputFormat, seed: u64, wanted: u32) -> Vec<u32> {
    let text = text();
    let end = text.ends()[0];
    let mut constraint = Some(grammars.constraint(grammar(shape), &[]).expect("possible"));
    let (mut tokens, sampling) = (Vec::new(), Sampling { temperature: 1.0, seed, ..Sampling::GREEDY });
    for index in 0..400 {
        let likely = |token: u32| match token {
            token if token == end && index >= wanted => 20.0,
            token if index >= wanted && [b'"', b'}', b']'].map(u32::from).contains(&token) => 10.0,
            token => crate::draw::unit(seed, index * 1_000 + token) as f32,
        };
        let logits: Vec<f32> = (0..text.size()).map(likely).collect();
        let token = choose(&logits, &tokens, &sampling, constraint.as_mut(), index).expect("it goes on");
        if token.id == end {
            break;
        }
        tokens.push(token.id);
    }
    tokens
}

fn words(tokens: &[u32]) -> String {
    let text = text();
    String::from_utf8(tokens.iter().flat_map(|token| text.piece(*token)).copied().collect()).expect("text")
}

#[test]
fn an_answer_fits_the_form_or_it_is_refused() {
    let person = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "age": { "$ref": "#/$defs/age" } },
        "required": ["name", "age"],
        "additionalProperties": false,
        "$defs": { "age": { "type": "integer", "minimum": 0 } },
    });
    let choice = ["one", "t\"w\\x41o", "蜂"].map(str::to_owned).to_vec();
    for (shape, good, bad) in [
        (OutputFormat::Json(person), r#"{"name": "Ada", "age": 36}"#, r#"{"name":"Ada","age":-1}"#),
        (OutputFormat::Json(json!({ "type": "object" })), "{\n  \"a\": [1, {}]\n}", "[1]"),
        (OutputFormat::Json(json!({ "oneOf": [{ "type": "integer" }, { "type": "string" }] })), "7", "true"),
        (OutputFormat::Json(json!(true)), "null", "nil"),
        (OutputFormat::Regex(r"[a-z]+/\d{2}".into()), "ab/42", "ab/4"),
        (OutputFormat::Choice(choice.clone()), "t\"w\\x41o", "two"),
        (OutputFormat::Choice(choice), "蜂", "蜂蜂"),
        (OutputFormat::Grammar("start: \"a\" b+\nb: \"b\" | \"c\"".into()), "abcb", "a"),
    ] {
        assert!(fits(grammar(&shape), good), "{shape:?}: {good}");
        assert!(!fits(grammar(&shape), bad), "{shape:?}: {bad}");
    }
}

#[test]
fn a_form_that_is_none_is_refused_with_the_reason() {
    let grammars = Grammars::new(text());
    let endless = format!("{}a{}", "(".repeat(2_000), "){1000}".repeat(2_000));
    for (shape, words) in [
        (OutputFormat::Json(json!({ "type": "object", "minContains": 1 })), "minContains"),
        (OutputFormat::Json(json!({ "type": "bee" })), "bee"),
        (OutputFormat::Json(json!({ "$ref": "https://example.com/schema" })), "example.com"),
        (OutputFormat::Json(json!([])), "not possible"),
        (OutputFormat::Json(json!(false)), "not possible"),
        (OutputFormat::Json(json!({ "type": "integer", "minimum": 2, "maximum": 1 })), "not possible"),
        (OutputFormat::Regex("a(".into()), "not possible"),
        (OutputFormat::Regex(endless), "not possible"),
        (OutputFormat::Grammar("begin: \"a\"".into()), "start"),
        (OutputFormat::Grammar("start: nothing".into()), "nothing"),
        (OutputFormat::Grammar(String::new()), "not possible"),
    ] {
        let failure = grammars.constraint(grammar(&shape), &[]).map(|_| ()).expect_err("no form");
        assert_eq!(failure.code, FailureCode::InvalidRequest, "{shape:?}");
        assert!(failure.message.contains(words) && !failure.message.contains('\n'), "{shape:?}: {failure}");
    }
}

/// A form of calls of tools, in one family.
fn of_calls(format: CallFormat, is_call: bool, expected: Expected, shape: Option<OutputFormat>) -> TopLevelGrammar {
    let tools: Vec<Tool> = serde_json::from_value(json!([
        { "type": "function", "function": { "name": "sun", "parameters": {
            "properties": { "town": { "$ref": "#/$defs/town" } }, "required": ["town"], "additionalProperties": false,
            "$defs": { "town": { "enum": ["Ulm", "Bonn"] } },
        } } },
        { "type": "function", "function": { "name": "moon" } },
    ]))
    .expect("tools");
    let expected = Expected { format: AnswerFormat { calls: Some(format), ..expected.format }, ..expected };
    form::grammar(Form { shape, tools: tools.iter().collect(), is_call }, &expected).expect("a form")
}

#[test]
fn a_call_that_is_demanded_is_written_as_its_family_does_with_arguments_that_fit() {
    let sun = r#"{"name": "sun", "arguments": {"town":"Ulm"}}"#;
    let bare = sun.replace("arguments", "parameters");
    for (format, good, bad) in [
        (HERMES, format!("<tool_call>\n{sun}\n</tool_call>"), format!("{sun}\n</tool_call>")),
        (
            HERMES,
            format!("<tool_call>\n{sun}\n</tool_call>\n<tool_call>\n{sun}\n</tool_call>"),
            sun.replace("Ulm", "Rom"),
        ),
        (HERMES, "<tool_call>\n{\"name\": \"moon\", \"arguments\": {}}\n</tool_call>".into(), "Hi".into()),
        (LLAMA, bare.clone(), sun.into()),
        (LLAMA, format!("{bare}; {bare}"), format!("{bare}{bare}")),
        (MISTRAL, format!("[TOOL_CALLS][{sun}, {sun}]"), format!("[TOOL_CALLS]{sun}")),
        (
            MISTRAL_NAMED,
            r#"[TOOL_CALLS]sun[ARGS]{"town":"Bonn"}"#.into(),
            r#"[TOOL_CALLS]sun[ARGS]{"town":"Rom"}"#.into(),
        ),
        (PHI, format!("<|tool_call|>[{sun}]<|/tool_call|>"), format!("<|tool_call|>[{sun}]")),
    ] {
        assert!(fits(of_calls(format, true, Expected::default(), None), &good), "{good}");
        assert!(!fits(of_calls(format, true, Expected::default(), None), &bad), "{bad}");
    }
    let one = Expected { one_call: true, ..Expected::default() };
    assert!(!fits(of_calls(MISTRAL, true, one, None), &format!("[TOOL_CALLS][{sun}, {sun}]")), "only one");
}

#[test]
fn where_a_form_and_tools_are_given_the_answer_is_one_or_the_other() {
    let shape = Some(OutputFormat::Choice(vec!["yes".into()]));
    let grammar = || of_calls(HERMES, false, Expected::default(), shape.clone());
    assert!(fits(grammar(), "yes"));
    assert!(fits(grammar(), "<tool_call>\n{\"name\": \"moon\", \"arguments\": {}}\n</tool_call>"));
    assert!(!fits(grammar(), "no"));
}

#[test]
fn a_thought_may_stand_before_a_form_or_must_end_where_the_prompt_has_begun_it() {
    let format = AnswerFormat { thoughts: Some(THINK), calls: None };
    let closed = Expected { format, ..Expected::default() };
    let open = Expected { in_thought: true, ..closed.clone() };
    let shape = || OutputFormat::Json(json!({ "type": "integer" }));
    let fits = |expected: &Expected, answer: &str| {
        fits(form::grammar(Form { shape: Some(shape()), ..Form::default() }, expected).expect("a form"), answer)
    };
    assert!(fits(&closed, "7") && fits(&closed, "<think>Is it 6?\n</think>\n\n7"));
    assert!(!fits(&closed, "Is it 6? </think>7") && !fits(&closed, "<think>Is it 6? 7"));
    assert!(fits(&open, "Is it <6>?</think>7") && !fits(&open, "7"));
    assert!(!fits(&open, "Is it 6?</think>x"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_a_model_prefers_its_answer_has_the_form(seed: u64, wanted in 0u32..60) {
        let grammars = Grammars::new(text());
        let schema = json!({ "type": "object", "properties": { "a": { "type": "array", "items": { "type": ["boolean", "string"] } } },
            "required": ["a"] });
        let json = words(&answer(&grammars, &OutputFormat::Json(schema), seed, wanted));
        let read: Value = serde_json::from_str(&json).map_err(|error| TestCaseError::fail(format!("{error}: {json}")))?;
        prop_assert!(read["a"].is_array(), "{}", json);
        let word = words(&answer(&grammars, &OutputFormat::Regex("[a-f]{3,9}".into()), seed, wanted));
        prop_assert!((3..=9).contains(&word.len()) && word.chars().all(|c| ('a'..='f').contains(&c)), "{}", word);
    }

    #[test]
    fn an_answer_that_is_resumed_anywhere_goes_on_as_the_first_would_have(seed: u64, cut in 0usize..40) {
        let grammars = Grammars::new(text());
        let shape = OutputFormat::Json(json!({ "type": "object" }));
        let whole = answer(&grammars, &shape, seed, 20);
        let cut = cut.min(whole.len());
        let mut first = grammars.constraint(grammar(&shape), &[]).expect("possible");
        for token in &whole[..cut] {
            first.allowed().expect("it goes on");
            first.accept(*token).expect("one of them");
        }
        let mut second = grammars.constraint(grammar(&shape), &whole[..cut]).expect("possible");
        for token in &whole[cut..] {
            prop_assert_eq!(first.allowed(), second.allowed());
            first.accept(*token).expect("one of them");
            second.accept(*token).expect("one of them");
        }
        prop_assert_eq!(first.allowed(), second.allowed());
    }
}
