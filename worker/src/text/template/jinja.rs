//! Functions, filters and blocks that chat templates expect beyond Jinja, because transformers provides them.
//!
//! Source: `_compile_jinja_template` in
//! <https://github.com/huggingface/transformers/blob/main/src/transformers/utils/chat_template_utils.py>.

use std::{
    fmt,
    io::{self, Write},
};

use jiff::{
    Timestamp,
    fmt::strtime::{BrokenDownTime, Config},
    tz::TimeZone,
};
use minijinja::{Environment, Error, ErrorKind, Value, value::Kwargs};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Largest indent of `tojson` in spaces. Templates use 4.
const MAX_INDENT: usize = 16;

/// Adds the functions and filters to an environment.
pub(super) fn add_extensions(environment: &mut Environment<'_>) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", |format: &str| strftime(Timestamp::now(), format));
    environment.add_filter("tojson", to_json);
}

/// Replaces the blocks that mark the text of an assistant. They are used in training only and change no text.
pub(super) fn without_generation_blocks(source: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(source.len()), source);
    while let Some((before, (inside, after))) =
        rest.split_once("{%").and_then(|(before, tag)| Some((before, tag.split_once("%}")?)))
    {
        // The signs for white space control stay in place.
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

/// Refusal of a chat by a template, with the template's message.
#[derive(Debug)]
pub(super) struct ChatRefused(pub(super) String);

impl fmt::Display for ChatRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ChatRefused {}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(ChatRefused(message)))
}

/// Formats a time in UTC as `strftime` of Python does. Unknown directives stay as they are.
fn strftime(time: Timestamp, format: &str) -> Result<String, Error> {
    let (time, config) = (BrokenDownTime::from(&time.to_zoned(TimeZone::UTC)), Config::new().lenient(true));
    let written = time.to_string_with_config(&config, format);
    written.map_err(|cause| Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {cause}")))
}

/// Writes a value as `json.dumps` of Python does. Unlike Jinja's own filter, it writes `<` and `'` unescaped.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let failed = |cause: String| Error::new(ErrorKind::BadSerialization, cause);
    let mut written = Vec::new();
    let serialized = match options.get::<Option<usize>>("indent")? {
        Some(indent) => {
            let indent = vec![b' '; indent.min(MAX_INDENT)];
            value.serialize(&mut Serializer::with_formatter(&mut written, PrettyFormatter::with_indent(&indent)))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut written, PythonFormatter)),
    };
    serialized.map_err(|error| failed(error.to_string()))?;
    String::from_utf8(written).map_err(|error| failed(error.to_string()))
}

/// JSON with a space after each comma and colon, as Python writes it.
struct PythonFormatter;

impl Formatter for PythonFormatter {
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
        add_extensions(&mut environment);
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
    fn generation_blocks_change_no_text() {
        for (source, expected) in [
            ("a {%- generation -%} b {%- endgeneration %} c", "a {%- if true -%} b {%- endif %} c"),
            ("{%generation%}b{%endgeneration%}", "{%if true%}b{%endif%}"),
            (
                "{% if add_generation_prompt %}generation{% endif %}",
                "{% if add_generation_prompt %}generation{% endif %}",
            ),
            ("a {% generation", "a {% generation"),
        ] {
            assert_eq!(without_generation_blocks(source), expected);
        }
        assert_eq!(render(&without_generation_blocks("a {%- generation -%} b {%- endgeneration %} c")), "ab c");
    }

    #[test]
    fn time_is_formatted_as_in_python() {
        for (seconds, format, expected) in [
            (0, "%A %d %B %Y, %H:%M:%S %Z", "Thursday 01 January 1970, 00:00:00 UTC"),
            (951_782_400, "%d %b %Y", "29 Feb 2000"),
            (951_868_799, "%F %T day %j", "2000-02-29 23:59:59 day 060"),
            (4_107_542_400, "%a %-d/%-m/%y", "Mon 1/3/00"),
            (1_709_210_096, "%I:%M %p, %e%%", "12:34 PM, 29%"),
            (1_735_689_599, "%F %a %z", "2024-12-31 Tue +0000"),
            (1_735_689_600, "%F %a", "2025-01-01 Wed"),
            (0, "%E %-E % %", "%E %-E % %"),
        ] {
            let time = Timestamp::from_second(seconds).expect("in range");
            assert_eq!(strftime(time, format).expect("formats"), expected);
        }
    }

    #[test]
    fn current_date_is_todays() {
        let today = || strftime(Timestamp::now(), "%F").expect("formats");
        let (before, rendered, after) = (today(), render("{{ strftime_now('%F') }}"), today());
        assert!([before, after].contains(&rendered), "{rendered}");
    }
}
