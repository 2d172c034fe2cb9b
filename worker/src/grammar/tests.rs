//! Grammars of output formats, with the vocabulary of the mock engine: a token for every byte, and some words.

use std::time::{Duration, Instant};

use llguidance::api::TopLevelGrammar;
use proptest::prelude::*;
use rbee_schema::{ModelReference, OutputFormat, Sampling, Tool};
use serde_json::{Value, json};

use super::*;
use crate::{
    contract::{Constraint, LoadOptions},
    decide::{
        answer_grammar::{self, Requirements},
        markup::{AnswerMarkup, CallMarkup, HERMES, LLAMA, MISTRAL, MISTRAL_NAMED, PHI, THINK},
        output_parser::ExpectedOutput,
    },
    engine::choose::choose,
    load::load,
};

/// Grammar of an output format without reasoning and tool calls.
fn grammar(shape: &OutputFormat) -> TopLevelGrammar {
    answer_grammar::grammar(
        Requirements { format: Some(shape.clone()), ..Requirements::default() },
        &ExpectedOutput::default(),
    )
    .expect("a form")
}

fn text() -> Arc<dyn Text> {
    let options = LoadOptions { slots: 1, ..LoadOptions::default() };
    load(&ModelReference::Mock(String::new()), &options, &mut |_| {}).expect("loads").text
}

/// Tokens of a text, byte by byte, and the stop token.
fn tokens(text: &str, end: u32) -> Vec<u32> {
    text.bytes().map(u32::from).chain([end]).collect()
}

/// True if the grammar allows this answer.
fn allows(grammar: TopLevelGrammar, answer: &str) -> bool {
    let mut constraint = Grammars::new(text(), GrammarLimits::default()).constraint(grammar, &[]).expect("possible");
    tokens(answer, text().eos_tokens()[0]).into_iter().all(|token| {
        let is_allowed = constraint.allowed().expect("a next token").contains(token);
        is_allowed && constraint.accept(token).is_ok()
    })
}

/// Random answer in an output format. The simulated model prefers to end after `length` tokens.
fn answer(grammars: &Grammars, shape: &OutputFormat, seed: u64, length: u32) -> Vec<u32> {
    let text = text();
    let end = text.eos_tokens()[0];
    let mut constraint = Some(grammars.constraint(grammar(shape), &[]).expect("possible"));
    let (mut tokens, sampling) = (Vec::new(), Sampling { temperature: 1.0, seed, ..Sampling::GREEDY });
    for index in 0..400 {
        let logit = |token: u32| match token {
            token if token == end && index >= length => 20.0,
            token if index >= length && [b'"', b'}', b']'].map(u32::from).contains(&token) => 10.0,
            token => crate::draw::unit(seed, index * 1_000 + token) as f32,
        };
        let logits: Vec<f32> = (0..text.token_count()).map(logit).collect();
        let token = choose(
            &logits,
            &tokens,
            &sampling,
            constraint.as_mut().map(|constraint| constraint as &mut dyn Constraint),
            index,
        )
        .expect("a next token");
        if token.id == end {
            break;
        }
        tokens.push(token.id);
    }
    tokens
}

fn text_of(tokens: &[u32]) -> String {
    let text = text();
    String::from_utf8(tokens.iter().flat_map(|token| text.piece(*token)).copied().collect()).expect("text")
}

#[test]
fn output_format_allows_only_matching_answers() {
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
        assert!(allows(grammar(&shape), good), "{shape:?}: {good}");
        assert!(!allows(grammar(&shape), bad), "{shape:?}: {bad}");
    }
}

#[test]
fn invalid_output_format_is_refused_with_a_reason() {
    let grammars = Grammars::new(text(), GrammarLimits::default());
    let endless = format!("{}a{}", "(".repeat(2_000), "){1000}".repeat(2_000));
    for (shape, words) in [
        (OutputFormat::Json(json!({ "type": "object", "minContains": 1 })), "minContains"),
        (OutputFormat::Json(json!({ "type": "bee" })), "bee"),
        (OutputFormat::Json(json!({ "$ref": "https://example.com/schema" })), "example.com"),
        (OutputFormat::Json(json!([])), "cannot be used"),
        (OutputFormat::Json(json!(false)), "cannot be used"),
        (OutputFormat::Json(json!({ "type": "integer", "minimum": 2, "maximum": 1 })), "cannot be used"),
        (OutputFormat::Regex("a(".into()), "cannot be used"),
        (OutputFormat::Regex(endless), "cannot be used"),
        (OutputFormat::Grammar("begin: \"a\"".into()), "start"),
        (OutputFormat::Grammar("start: nothing".into()), "nothing"),
        (OutputFormat::Grammar(String::new()), "cannot be used"),
    ] {
        let failure = grammars.constraint(grammar(&shape), &[]).map(|_| ()).expect_err("no form");
        assert_eq!(failure.code, FailureCode::InvalidRequest, "{shape:?}");
        assert!(failure.message.contains(words) && !failure.message.contains('\n'), "{shape:?}: {failure}");
    }
}

/// Output formats that are made to exhaust the compiler: its stack, its time, or its memory.
fn hostile_formats() -> Vec<(&'static str, OutputFormat)> {
    let lark = |text: String| OutputFormat::Grammar(text);
    let chain = |first: &str, prefix: &str, end: &str, count: usize| {
        let rules: Vec<String> = (0..count).map(|n| format!("{prefix}{n}: {prefix}{} {end}", n + 1)).collect();
        lark(format!("start: {first}\n{}\n{prefix}{count}: \"z\"\n", rules.join("\n")))
    };
    let nested = |open: &str, middle: &str, close: &str, depth: usize| {
        format!("{}{middle}{}", open.repeat(depth), close.repeat(depth))
    };
    let schema = OutputFormat::Json;
    let definitions: serde_json::Map<String, Value> = (0..8_000)
        .map(|n| {
            (format!("d{n}"), json!({ "properties": { "a": { "$ref": format!("#/$defs/d{}", (n + 1) % 8_000) } } }))
        })
        .collect();
    let aliases: serde_json::Map<String, Value> = (0..8_000)
        .map(|n| {
            (
                format!("d{n}"),
                if n == 7_999 { json!({ "type": "null" }) } else { json!({ "$ref": format!("#/$defs/d{}", n + 1) }) },
            )
        })
        .collect();
    let conjunction: Vec<Value> = (0..24)
        .map(|n| json!({ "anyOf": [{ "properties": { format!("a{n}"): { "const": 1 } } }, { "properties": { format!("b{n}"): { "const": 2 } } }] }))
        .collect();
    let properties: serde_json::Map<String, Value> =
        (0..8_000).map(|n| (format!("p{n}"), json!({ "type": "string", "maxLength": n }))).collect();
    vec![
        ("conditions", lark(format!("start: \"a\" %if {}\n", nested("not(", "true", ")", 20_000)))),
        ("long conditions", lark(format!("start: \"a\" %if {}\n", nested("not(", "true", ")", 190)))),
        ("groups", lark(format!("start: {}\n", nested("(", "\"a\"", ")", 20_000)))),
        ("options", lark(format!("start: {}\n", nested("[", "\"a\"", "]", 20_000)))),
        ("chain of rules", chain("r0", "r", "", 8_000)),
        ("chain of rules with text", chain("r0", "r", "\"b\"", 6_000)),
        ("chain of tokens", chain("T0", "T", "", 8_000)),
        ("chain of tokens with text", chain("T0", "T", "\"b\"", 6_000)),
        (
            "chain of negated tokens",
            lark(format!(
                "start: T0\n{}\nT6000: \"z\"\n",
                (0..6_000).map(|n| format!("T{n}: ~T{}", n + 1)).collect::<Vec<_>>().join("\n")
            )),
        ),
        ("alternatives", lark(format!("start: {}\n", vec!["\"ab\""; 20_000].join(" | ")))),
        (
            "different alternatives",
            lark(format!("start: {}\n", (0..12_000).map(|n| format!("\"x{n}\"")).collect::<Vec<_>>().join("|"))),
        ),
        ("repetitions of rules", lark(format!("start: {}\n", nested("(", "\"a\"", "){1000}", 20)))),
        ("repetitions of tokens", lark(format!("start: T\nT: {}\n", nested("(", "\"a\"", "){1000}", 20)))),
        ("ambiguous rules", lark("start: s\ns: s s | s s s | \"a\" | \"\"\n".into())),
        ("nested schema in a grammar", lark(format!("start: %json {}\n", nested("{\"items\":", "{}", "}", 5_000)))),
        ("nested grammars", lark(format!("start: {}\n", nested("%lark { start: ", "\"a\"", " }", 5_000)))),
        ("many ignored", lark(format!("start: \"a\"\n{}", "%ignore /[ab]+c?/\n".repeat(5_000)))),
        ("regex repetitions", OutputFormat::Regex(nested("(", "a", "){0,1000}", 20))),
        ("regex optional", OutputFormat::Regex(format!("{}{}", "a?".repeat(20_000), "a".repeat(20_000)))),
        ("regex groups", OutputFormat::Regex(nested("(", "a", ")", 20_000))),
        ("regex classes", OutputFormat::Regex(r"[\p{L}\p{N}--\p{Lu}]{0,500}".repeat(500))),
        ("regex alternatives", OutputFormat::Regex((0..20_000).map(|n| format!("x{n}")).collect::<Vec<_>>().join("|"))),
        ("regex states", OutputFormat::Regex("(a|b)*a(a|b){60}".into())),
        ("choices", OutputFormat::Choice((0..12_000).map(|n| format!("{n}x")).collect())),
        ("definitions", schema(json!({ "$ref": "#/$defs/d0", "$defs": definitions }))),
        ("aliases", schema(json!({ "$ref": "#/$defs/d0", "$defs": aliases }))),
        ("itself", schema(json!({ "$ref": "#" }))),
        ("conjunction", schema(json!({ "type": "object", "allOf": conjunction }))),
        ("enumeration", schema(json!({ "enum": (0..20_000).collect::<Vec<u32>>() }))),
        ("properties", schema(json!({ "type": "object", "properties": properties, "additionalProperties": false }))),
        ("long text", schema(json!({ "type": "string", "minLength": 1_000_000_000, "maxLength": 1_000_000_001 }))),
        ("long list", schema(json!({ "type": "array", "items": { "type": "integer" }, "minItems": 1_000_000_000 }))),
        ("longest list", schema(json!({ "type": "array", "items": { "type": "integer" }, "maxItems": 1_000_000_000 }))),
        ("pattern", schema(json!({ "type": "string", "pattern": nested("(", "a", "){0,1000}", 20) }))),
        ("large numbers", schema(json!({ "type": "integer", "minimum": -1e300, "maximum": 1e300, "multipleOf": 3 }))),
        ("small multiples", schema(json!({ "type": "number", "multipleOf": 1e-30 }))),
        ("multiples", schema(json!({ "type": "integer", "multipleOf": 1_000_003 }))),
        ("nested lists", schema((0..120).fold(json!({}), |inner, _| json!({ "items": inner })))),
        ("nested alternatives", schema((0..14).fold(json!({}), |inner, _| json!({ "anyOf": [inner, inner] })))),
    ]
}

#[test]
fn hostile_output_format_is_refused_or_compiled_in_time() {
    let limits = GrammarLimits { time: Duration::from_secs(1), ..GrammarLimits::default() };
    for (name, shape) in hostile_formats() {
        let started = Instant::now();
        match Grammars::new(text(), limits).constraint(grammar(&shape), &[]) {
            Ok(mut constraint) => drop(constraint.allowed()),
            Err(failure) => assert_eq!(failure.code, FailureCode::InvalidRequest, "{name}: {failure}"),
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{name}: {:?}", started.elapsed());
    }
}

#[test]
fn grammars_that_take_too_long_are_limited_in_number() {
    let limits = GrammarLimits { time: Duration::from_millis(10), ..GrammarLimits::default() };
    let (grammars, formats) = (Grammars::new(text(), limits), hostile_formats());
    let (_, slow) = formats.iter().find(|(name, _)| *name == "properties").expect("it is there");
    let compile = || grammars.constraint(grammar(slow), &[]).map(|_| ()).expect_err("it takes longer").code;
    assert_eq!(
        [compile(), compile(), compile()],
        [FailureCode::InvalidRequest, FailureCode::InvalidRequest, FailureCode::TimedOut,]
    );
}

/// Grammar of tool calls in the format of one model family.
fn tool_call_grammar(
    markup: CallMarkup,
    must_call: bool,
    expected: ExpectedOutput,
    format: Option<OutputFormat>,
) -> TopLevelGrammar {
    let tools: Vec<Tool> = serde_json::from_value(json!([
        { "type": "function", "function": { "name": "sun", "parameters": {
            "properties": { "town": { "$ref": "#/$defs/town" } }, "required": ["town"], "additionalProperties": false,
            "$defs": { "town": { "enum": ["Ulm", "Bonn"] } },
        } } },
        { "type": "function", "function": { "name": "moon" } },
    ]))
    .expect("tools");
    let expected = ExpectedOutput { markup: AnswerMarkup { calls: Some(markup), ..expected.markup }, ..expected };
    answer_grammar::grammar(Requirements { format, tools: tools.iter().collect(), must_call }, &expected)
        .expect("a form")
}

#[test]
fn required_tool_call_has_the_format_of_its_family() {
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
        assert!(allows(tool_call_grammar(format, true, ExpectedOutput::default(), None), &good), "{good}");
        assert!(!allows(tool_call_grammar(format, true, ExpectedOutput::default(), None), &bad), "{bad}");
    }
    let one = ExpectedOutput { one_call: true, ..ExpectedOutput::default() };
    assert!(!allows(tool_call_grammar(MISTRAL, true, one, None), &format!("[TOOL_CALLS][{sun}, {sun}]")), "only one");
}

#[test]
fn answer_is_the_output_format_or_a_tool_call() {
    let shape = Some(OutputFormat::Choice(vec!["yes".into()]));
    let grammar = || tool_call_grammar(HERMES, false, ExpectedOutput::default(), shape.clone());
    assert!(allows(grammar(), "yes"));
    assert!(allows(grammar(), "<tool_call>\n{\"name\": \"moon\", \"arguments\": {}}\n</tool_call>"));
    assert!(!allows(grammar(), "no"));
}

#[test]
fn reasoning_may_precede_the_output_format() {
    let markup = AnswerMarkup { reasoning: Some(THINK), calls: None };
    let closed = ExpectedOutput { markup, ..ExpectedOutput::default() };
    let open = ExpectedOutput { in_reasoning: true, ..closed.clone() };
    let shape = || OutputFormat::Json(json!({ "type": "integer" }));
    let allows = |expected: &ExpectedOutput, answer: &str| {
        allows(
            answer_grammar::grammar(Requirements { format: Some(shape()), ..Requirements::default() }, expected)
                .expect("a form"),
            answer,
        )
    };
    assert!(allows(&closed, "7") && allows(&closed, "<think>Is it 6?\n</think>\n\n7"));
    assert!(!allows(&closed, "Is it 6? </think>7") && !allows(&closed, "<think>Is it 6? 7"));
    assert!(allows(&open, "Is it <6>?</think>7") && !allows(&open, "7"));
    assert!(!allows(&open, "Is it 6?</think>x"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_answer_has_the_output_format(seed: u64, length in 0u32..60) {
        let grammars = Grammars::new(text(), GrammarLimits::default());
        let schema = json!({ "type": "object", "properties": { "a": { "type": "array", "items": { "type": ["boolean", "string"] } } },
            "required": ["a"] });
        let json = text_of(&answer(&grammars, &OutputFormat::Json(schema), seed, length));
        let read: Value = serde_json::from_str(&json).map_err(|error| TestCaseError::fail(format!("{error}: {json}")))?;
        prop_assert!(read["a"].is_array(), "{}", json);
        let word = text_of(&answer(&grammars, &OutputFormat::Regex("[a-f]{3,9}".into()), seed, length));
        prop_assert!((3..=9).contains(&word.len()) && word.chars().all(|c| ('a'..='f').contains(&c)), "{}", word);
    }

    #[test]
    fn resumed_constraint_allows_the_same_tokens(seed: u64, cut in 0usize..40) {
        let grammars = Grammars::new(text(), GrammarLimits::default());
        let shape = OutputFormat::Json(json!({ "type": "object" }));
        let whole = answer(&grammars, &shape, seed, 20);
        let cut = cut.min(whole.len());
        let mut first = grammars.constraint(grammar(&shape), &[]).expect("possible");
        for token in &whole[..cut] {
            first.allowed().expect("a next token");
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
