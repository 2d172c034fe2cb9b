//! What chat templates use that is not in Jinja: transformers adds it, so whoever writes a template counts on it.
//!
//! Source: `_compile_jinja_template` in
//! <https://github.com/huggingface/transformers/blob/main/src/transformers/utils/chat_template_utils.py>.

use std::{
    fmt,
    io::{self, Write},
    time::SystemTime,
};

use minijinja::{Environment, Error, ErrorKind, Value, value::Kwargs};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::moment::Moment;

/// Adds the functions and filters.
pub(super) fn speak(environment: &mut Environment<'_>) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", |format: &str| Moment::at(SystemTime::now()).written(format));
    environment.add_filter("tojson", to_json);
}

/// A template without the blocks that mark what an assistant says: they are for training, and change no text.
pub(super) fn without_marks(source: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(source.len()), source);
    while let Some((before, (inside, after))) =
        rest.split_once("{%").and_then(|(before, tag)| Some((before, tag.split_once("%}")?)))
    {
        // What controls white space stays where it is.
        let word = inside.trim_matches(|character: char| character.is_whitespace() || "-+".contains(character));
        let inside = match word {
            "generation" => inside.replace(word, "if true"),
            "endgeneration" => inside.replace(word, "endif"),
            _ => inside.to_owned(),
        };
        plain.extend([before, "{%", &inside, "%}"]);
        rest = after;
    }
    plain + rest
}

/// Why a template refuses a chat, in its own words.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(Refusal(message)))
}

/// As `json.dumps` of Python writes it: unlike the filter that Jinja brings, it writes `<` and `'` as they are.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let failed = |cause: String| Error::new(ErrorKind::BadSerialization, cause);
    let mut written = Vec::new();
    let serialized = match options.get::<Option<usize>>("indent")? {
        Some(indent) => {
            let indent = vec![b' '; indent.min(MOST_INDENT)];
            value.serialize(&mut Serializer::with_formatter(&mut written, PrettyFormatter::with_indent(&indent)))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut written, Python)),
    };
    serialized.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(written).map_err(|error| failed(error.to_string()))
}

/// Spaces of an indent; templates ask for 4.
const MOST_INDENT: usize = 16;

/// With a space behind each comma and colon.
struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        writer.write_all(if is_first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        writer.write_all(if is_first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    fn render(source: &str) -> String {
        let mut environment = Environment::new();
        speak(&mut environment);
        environment.render_str(source, context! {}).unwrap_or_else(|error| panic!("{error:#}"))
    }

    #[test]
    fn json_is_written_as_in_python() {
        for (value, expected) in [
            ("{'b': [1, 2.5, none, true], 'a': {}}", r#"{"b": [1, 2.5, null, true], "a": {}}"#),
            ("\"<it's> & \\\"蜂\\\"\"", r#""<it's> & \"蜂\"""#),
            ("[]", "[]"),
        ] {
            assert_eq!(render(&format!("{{{{ {value} | tojson }}}}")), expected);
        }
        assert_eq!(render("{{ {'a': [1]} | tojson(indent=4) }}"), "{\n    \"a\": [\n        1\n    ]\n}");
        assert_eq!(render("{{ [1] | tojson(ensure_ascii=false) }}"), "[1]");
    }

    #[test]
    fn marks_of_what_an_assistant_says_change_no_text() {
        for (source, expected) in [
            ("a {%- generation -%} b {%- endgeneration %} c", "a {%- if true -%} b {%- endif %} c"),
            ("{%generation%}b{%endgeneration%}", "{%if true%}b{%endif%}"),
            (
                "{% if add_generation_prompt %}generation{% endif %}",
                "{% if add_generation_prompt %}generation{% endif %}",
            ),
            ("a {% generation", "a {% generation"),
        ] {
            assert_eq!(without_marks(source), expected);
        }
        assert_eq!(render(&without_marks("a {%- generation -%} b {%- endgeneration %} c")), "ab c");
    }

    #[test]
    fn the_date_is_that_of_today() {
        assert_eq!(render("{{ strftime_now('%Y') }}").len(), 4);
    }
}
