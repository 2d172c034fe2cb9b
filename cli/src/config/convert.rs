//! From a TOML value to the texts that the command line would receive, checked by the parser of the option.

use std::{borrow::Cow, error::Error as _};

use clap::{
    Arg, ArgAction, Command,
    error::{ContextKind, ContextValue},
};
use rbee_schema::SettingInfo;
use toml::{Spanned, de::DeValue};

use super::{
    keys::{is_flag, is_list, literal, pair, spelling, value_name},
    mistake::Problem,
    secret,
    settings::SettingsOption,
};
use crate::parse_error::explained;

/// Texts of a value for an option of the command line.
///
/// # Errors
/// The value has the wrong type, or the parser of the option refuses it.
pub(super) fn option_values(option: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, Problem> {
    texts(option, value).and_then(|values| checked(option, values))
}

/// Text of a value for one of the settings that an option holds.
///
/// # Errors
/// The value has the wrong type, or is not possible for the setting.
pub(super) fn setting_value(
    holder: &SettingsOption,
    setting: &SettingInfo,
    value: &DeValue<'_>,
) -> Result<String, Problem> {
    let expected = format!("{}, such as {}", setting.expected, literal(&setting.default));
    let Some(text) = scalar(value) else {
        return Err(Problem::Type { found: kind(value).to_owned(), expected });
    };
    match (holder.check_one)(setting.name, &text) {
        Ok(()) => Ok(text),
        Err(_) => Err(Problem::Value { found: format!("\"{text}\""), expected, why: None }),
    }
}

fn texts(option: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, Problem> {
    let wrong = |found: &DeValue<'_>| Problem::Type { found: kind(found).to_owned(), expected: expected(option) };
    if is_flag(option) {
        return value.as_bool().map(|value| vec![value.to_string()]).ok_or_else(|| wrong(value));
    }
    let text = |value: &DeValue<'_>| scalar(value).ok_or_else(|| wrong(value));
    let values = match (value, pair(option)) {
        (DeValue::Table(pairs), Some(_)) => {
            let text = |(name, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
                text(value.get_ref()).map(|value| format!("{}={value}", name.get_ref()))
            };
            pairs.iter().map(text).collect::<Result<Vec<_>, _>>()?
        }
        (other, Some(_)) => return Err(wrong(other)),
        (DeValue::Array(values), None) => {
            values.iter().map(|value| text(value.get_ref())).collect::<Result<Vec<_>, _>>()?
        }
        (other, None) if is_list(option) => return Err(wrong(other)),
        (other, None) => vec![text(other)?],
    };
    // An option that takes one text separates its parts with commas itself, such as the servers of `nats`.
    Ok(if is_list(option) { values } else { vec![values.join(",")] })
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok().map(|it| it.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Runs the option's own parser over the values.
fn checked(option: &Arg, values: Vec<String>) -> Result<Vec<String>, Problem> {
    if is_flag(option) {
        return Ok(values);
    }
    let mut probe = Arg::new("value").long("value").action(ArgAction::Append);
    probe = probe.value_parser(option.get_value_parser().clone());
    if let Some(delimiter) = option.get_value_delimiter() {
        probe = probe.value_delimiter(delimiter);
    }
    let arguments = values.iter().map(|value| format!("--value={value}"));
    let Err(error) = Command::new("probe").no_binary_name(true).arg(probe).try_get_matches_from(arguments) else {
        return Ok(values);
    };
    let found = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(found)) => found.clone(),
        _ => values.join(","),
    };
    let found = format!("\"{}\"", secret::redact(option, &found));
    Err(Problem::Value {
        found,
        expected: expected(option),
        why: error.source().map(|why| explained(&why.to_string())),
    })
}

fn expected(option: &Arg) -> String {
    if is_flag(option) {
        return "true or false".to_owned();
    }
    if let Some((name, value)) = pair(option) {
        return format!("a table {{ {name} = \"{value}\" }}");
    }
    let possible: Vec<String> = option.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let one = match possible.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => format!("{} as for --{}", value_name(option), spelling(option)),
    };
    if is_list(option) { format!("a list of {one}") } else { one }
}

/// Description of the type of a value.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
