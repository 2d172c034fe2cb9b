//! Parses tool calls from the text that a model has written between its marks.

use rbee_schema::JobId;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::markup::{CallBody, CallMarkup};

/// A tool call that a model has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedCall {
    /// Name of the function.
    pub name: String,
    /// Arguments of the function: a JSON object, as the model wrote it.
    pub arguments: String,
}

/// Result of parsing a text that begins behind the opening mark of a tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallParse {
    /// The text may become calls when it continues.
    Incomplete,
    /// The text is not a call, however it continues.
    NoCall,
    /// The text begins with these calls, which take this number of bytes.
    Calls(Vec<ParsedCall>, usize),
}

/// Maximum length of a name together with the mark behind it, in bytes. The OpenAI API allows names of 64 characters.
const NAME_LIMIT: usize = 256;

/// Parses tool calls. A single object is accepted where the markup has a list, and a list where it has an object, because
/// models write both.
pub fn parse(text: &str, markup: &CallMarkup) -> CallParse {
    let start = text.len() - text.trim_start().len();
    let body = &text[start..];
    let (name, json) = match (body.chars().next(), markup.body) {
        (None, _) => return CallParse::Incomplete,
        (Some('{' | '['), _) => (None, body),
        (Some(_), CallBody::Named(mark)) => match body.split_once(mark) {
            // The same limits as while the mark is missing, so that the result does not depend on how the text is split.
            Some((name, json)) if name.len() + mark.len() <= NAME_LIMIT && !name.contains('\n') => (Some(name), json),
            None if body.len() < NAME_LIMIT && !body.contains('\n') => return CallParse::Incomplete,
            Some(_) | None => return CallParse::NoCall,
        },
        (Some(_), CallBody::Object { .. } | CallBody::List) => return CallParse::NoCall,
    };
    let end = match end_of_json(json) {
        End::Incomplete => return CallParse::Incomplete,
        End::NoJson => return CallParse::NoCall,
        End::At(end) => end,
    };
    let calls = match name {
        // An id with a mark of its own may follow the name.
        Some(name) => {
            ParsedCall::new(name.split('[').next().unwrap_or(name).trim(), &json[..end]).map(|call| vec![call])
        }
        None => calls(&json[..end]),
    };
    match calls {
        Some(calls) => CallParse::Calls(calls, text.len() - json.len() + end),
        None => CallParse::NoCall,
    }
}

/// A call as models write it.
#[derive(Deserialize)]
struct WrittenCall<'a> {
    name: String,
    #[serde(borrow, alias = "parameters")]
    arguments: Option<&'a RawValue>,
}

/// The calls in an object or in a list of objects; `None` if there is no call, or something else than calls.
fn calls(json: &str) -> Option<Vec<ParsedCall>> {
    let written: Vec<WrittenCall<'_>> = match json.starts_with('[') {
        true => serde_json::from_str(json).ok()?,
        false => vec![serde_json::from_str(json).ok()?],
    };
    let call = |written: WrittenCall<'_>| ParsedCall::new(&written.name, written.arguments.map_or("{}", RawValue::get));
    written.into_iter().map(call).collect::<Option<Vec<ParsedCall>>>().filter(|calls| !calls.is_empty())
}

impl ParsedCall {
    /// `arguments` is a JSON object, or a JSON string that contains one. Returns `None` for anything else.
    fn new(name: &str, arguments: &str) -> Option<Self> {
        let unquoted: Option<String> = serde_json::from_str(arguments).ok();
        let arguments = unquoted.as_deref().unwrap_or(arguments).trim();
        let is_object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(arguments).is_ok();
        (is_object && !name.is_empty()).then(|| Self { name: name.into(), arguments: arguments.into() })
    }
}

enum End {
    Incomplete,
    NoJson,
    At(usize),
}

/// The end of the JSON object or list with which a text begins, behind white space.
fn end_of_json(text: &str) -> End {
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for (position, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' if depth > 0 => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return End::At(position + 1),
            b'}' | b']' if depth > 1 => depth -= 1,
            _ if depth == 0 && !byte.is_ascii_whitespace() => return End::NoJson,
            _ => {}
        }
    }
    End::Incomplete
}

/// The id of a tool call: nine letters and digits, which the templates of Mistral models demand and others allow. Every worker
/// that continues the job computes the same id.
pub fn call_id(job: &JobId, number: usize) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let digest = Sha256::digest(format!("{job}/{number}"));
    digest.iter().take(9).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::markup::{HERMES, LLAMA, MISTRAL, MISTRAL_NAMED},
        *,
    };

    fn call(name: &str, arguments: &str) -> ParsedCall {
        ParsedCall { name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn calls_are_parsed_in_the_markup_of_each_family() {
        let sun = r#"{"name": "sun", "arguments": {"city": "a}\"]"}} rest"#;
        let expected = |length| CallParse::Calls(vec![call("sun", r#"{"city": "a}\"]"}"#)], length);
        assert_eq!(parse(sun, &HERMES), expected(sun.len() - 5));
        assert_eq!(parse(&format!("\n {sun}"), &HERMES), expected(sun.len() - 3));
        assert_eq!(parse(&sun.replace("arguments", "parameters"), &LLAMA), expected(sun.len() - 4));
        let list = r#" [{"name": "a"}, {"name": "b", "arguments": "{\"x\": 1.0}"}]"#;
        let both = vec![call("a", "{}"), call("b", r#"{"x": 1.0}"#)];
        assert_eq!(parse(list, &MISTRAL), CallParse::Calls(both, list.len()));
        for named in
            [r#"sun[ARGS]{"x": 10000000000000000000000.0}"#, r#"sun[CALL_ID]abc[ARGS]{"x": 10000000000000000000000.0}"#]
        {
            let expected = vec![call("sun", r#"{"x": 10000000000000000000000.0}"#)];
            assert_eq!(
                parse(named, &MISTRAL_NAMED),
                CallParse::Calls(expected, named.len()),
                "numbers stay as written"
            );
        }
    }

    #[test]
    fn incomplete_calls_differ_from_texts_that_are_no_calls() {
        for text in ["", "\n", "{", r#"{"name": "a", "arguments": {"#, "[{}", r#"{"a": "}"#] {
            assert_eq!(parse(text, &HERMES), CallParse::Incomplete, "{text}");
        }
        for text in [
            "none",
            "{}",
            "[]",
            "[{}]",
            r#"{"name": 1}"#,
            r#"{"name": "a", "arguments": [1]}"#,
            r#"{"name": ""}"#,
            "{x}",
        ] {
            assert_eq!(parse(text, &HERMES), CallParse::NoCall, "{text}");
        }
        assert_eq!(parse("sun[AR", &MISTRAL_NAMED), CallParse::Incomplete);
        assert_eq!(parse("sun\n", &MISTRAL_NAMED), CallParse::NoCall);
        assert_eq!(parse("sun[ARGS] none", &MISTRAL_NAMED), CallParse::NoCall);
        assert_eq!(parse(&"x".repeat(NAME_LIMIT), &MISTRAL_NAMED), CallParse::NoCall);
    }

    #[test]
    fn name_has_the_same_limits_before_and_after_its_mark() {
        for name in ["sun\n", "s\nun", &"x".repeat(NAME_LIMIT - 5)] {
            let text = format!("{name}[ARGS]{{}}");
            let before = (1..text.len()).any(|end| parse(&text[..end], &MISTRAL_NAMED) == CallParse::NoCall);
            assert!(before, "{name}");
            assert_eq!(parse(&text, &MISTRAL_NAMED), CallParse::NoCall, "{name}");
        }
        let text = format!("{}[ARGS]{{}}", "x".repeat(NAME_LIMIT - 6));
        assert!((1..text.len()).all(|end| parse(&text[..end], &MISTRAL_NAMED) == CallParse::Incomplete));
        assert!(matches!(parse(&text, &MISTRAL_NAMED), CallParse::Calls(..)));
    }

    #[test]
    fn call_ids_differ_and_are_stable() {
        let (one, other) = ("a".parse().expect("an id"), "b".parse().expect("an id"));
        let ids = [call_id(&one, 0), call_id(&one, 1), call_id(&other, 0)];
        assert!(ids.iter().all(|id| id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())), "{ids:?}");
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
        assert_eq!(ids[0], "dvNpFxKoR", "stored answers contain ids: they must not change");
    }
}
