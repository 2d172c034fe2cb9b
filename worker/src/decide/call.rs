//! Calls of tools, read from what a model has written between its marks.

use rbee_schema::JobId;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::format::{Body, CallFormat};

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which function.
    pub name: String,
    /// Its arguments: a JSON object, as the model wrote it.
    pub arguments: String,
}

/// What a text is that begins behind the mark of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It may become calls.
    Unfinished,
    /// It is none.
    NoCall,
    /// It begins with these, which take so many bytes.
    Calls(Vec<Call>, usize),
}

/// No name of a function is as long.
const LONGEST_NAME: usize = 256;

/// Reads calls. What a family writes as a list may be a single object, and the other way round: models do both.
pub fn read(text: &str, format: &CallFormat) -> Reading {
    let start = text.len() - text.trim_start().len();
    let body = &text[start..];
    let (name, json) = match (body.chars().next(), format.body) {
        (None, _) => return Reading::Unfinished,
        (Some('{' | '['), _) => (None, body),
        (Some(_), Body::Named(mark)) => match body.split_once(mark) {
            Some((name, json)) => (Some(name), json),
            None if body.len() < LONGEST_NAME && !body.contains('\n') => return Reading::Unfinished,
            None => return Reading::NoCall,
        },
        (Some(_), Body::Object { .. } | Body::List) => return Reading::NoCall,
    };
    let end = match end_of_json(json) {
        End::Unfinished => return Reading::Unfinished,
        End::NoJson => return Reading::NoCall,
        End::At(end) => end,
    };
    let calls = match name {
        // An id may stand behind the name, in a mark of its own.
        Some(name) => Call::new(name.split('[').next().unwrap_or(name).trim(), &json[..end]).map(|call| vec![call]),
        None => calls(&json[..end]),
    };
    match calls {
        Some(calls) => Reading::Calls(calls, text.len() - json.len() + end),
        None => Reading::NoCall,
    }
}

/// As models write a call.
#[derive(Deserialize)]
struct Written<'a> {
    name: String,
    #[serde(borrow, alias = "parameters")]
    arguments: Option<&'a RawValue>,
}

/// The calls of an object or of a list of them; `None` if there is no call in it, or something else.
fn calls(json: &str) -> Option<Vec<Call>> {
    let written: Vec<Written<'_>> = match json.starts_with('[') {
        true => serde_json::from_str(json).ok()?,
        false => vec![serde_json::from_str(json).ok()?],
    };
    let call = |written: Written<'_>| Call::new(&written.name, written.arguments.map_or("{}", RawValue::get));
    written.into_iter().map(call).collect::<Option<Vec<Call>>>().filter(|calls| !calls.is_empty())
}

impl Call {
    /// `arguments` is a JSON object, or a text that holds one.
    fn new(name: &str, arguments: &str) -> Option<Self> {
        let within: Option<String> = serde_json::from_str(arguments).ok();
        let arguments = within.as_deref().unwrap_or(arguments).trim();
        let is_object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(arguments).is_ok();
        (is_object && !name.is_empty()).then(|| Self { name: name.into(), arguments: arguments.into() })
    }
}

enum End {
    Unfinished,
    NoJson,
    At(usize),
}

/// Where the object or list ends with which a text begins, behind white space.
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
    End::Unfinished
}

/// The id of a job's call: nine letters and digits, which is what the templates of Mistral demand and others allow. The
/// same for every worker that goes on with the job.
pub fn id(job: &JobId, number: usize) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let digest = Sha256::digest(format!("{job}/{number}"));
    digest.iter().take(9).map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::format::{HERMES, LLAMA, MISTRAL, MISTRAL_NAMED},
        *,
    };

    fn call(name: &str, arguments: &str) -> Call {
        Call { name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn calls_are_read_as_each_family_writes_them() {
        let sun = r#"{"name": "sun", "arguments": {"city": "a}\"]"}} rest"#;
        let expected = |length| Reading::Calls(vec![call("sun", r#"{"city": "a}\"]"}"#)], length);
        assert_eq!(read(sun, &HERMES), expected(sun.len() - 5));
        assert_eq!(read(&format!("\n {sun}"), &HERMES), expected(sun.len() - 3));
        assert_eq!(read(&sun.replace("arguments", "parameters"), &LLAMA), expected(sun.len() - 4));
        let list = r#" [{"name": "a"}, {"name": "b", "arguments": "{\"x\": 1.0}"}]"#;
        let both = vec![call("a", "{}"), call("b", r#"{"x": 1.0}"#)];
        assert_eq!(read(list, &MISTRAL), Reading::Calls(both, list.len()));
        for named in
            [r#"sun[ARGS]{"x": 10000000000000000000000.0}"#, r#"sun[CALL_ID]abc[ARGS]{"x": 10000000000000000000000.0}"#]
        {
            let expected = vec![call("sun", r#"{"x": 10000000000000000000000.0}"#)];
            assert_eq!(read(named, &MISTRAL_NAMED), Reading::Calls(expected, named.len()), "numbers stay as written");
        }
    }

    #[test]
    fn what_is_no_call_is_told_from_what_may_become_one() {
        for text in ["", "\n", "{", r#"{"name": "a", "arguments": {"#, "[{}", r#"{"a": "}"#] {
            assert_eq!(read(text, &HERMES), Reading::Unfinished, "{text}");
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
            assert_eq!(read(text, &HERMES), Reading::NoCall, "{text}");
        }
        assert_eq!(read("sun[AR", &MISTRAL_NAMED), Reading::Unfinished);
        assert_eq!(read("sun\n", &MISTRAL_NAMED), Reading::NoCall);
        assert_eq!(read("sun[ARGS] none", &MISTRAL_NAMED), Reading::NoCall);
        assert_eq!(read(&"x".repeat(LONGEST_NAME), &MISTRAL_NAMED), Reading::NoCall);
    }

    #[test]
    fn ids_of_calls_differ_and_do_not_change() {
        let (one, other) = ("a".parse().expect("an id"), "b".parse().expect("an id"));
        let ids = [id(&one, 0), id(&one, 1), id(&other, 0)];
        assert!(ids.iter().all(|id| id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())), "{ids:?}");
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
        assert_eq!(id(&one, 0), ids[0]);
    }
}
